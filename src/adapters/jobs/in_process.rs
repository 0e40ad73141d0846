//! linfa, in this process: least squares by a QR decomposition, in plain Rust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use linfa::Dataset;
use linfa::traits::{Fit, Predict};
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, s};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::core::comparison::{Complexity, Facts, Fitted, Framework, Outcome, Seconds};
use crate::ports::frameworks::{FitFramework, FitJob};
use crate::runtime::child::{Memory, SAMPLED_EVERY, memory_of_process};

/// The whole of what uses linfa: what [`Complexity::lines`] counts.
const ITS_LINES: u32 = 6;
const LOCK_FILE: &str = include_str!("../../../Cargo.lock");

pub struct Linfa;

#[async_trait(?Send)]
impl FitFramework for Linfa {
    fn framework(&self) -> Framework {
        Framework::Linfa
    }

    async fn facts(&self) -> Facts {
        let complexity = Complexity {
            lines: ITS_LINES,
            dependencies: closure_of("linfa-linear", LOCK_FILE),
            install_bytes: None,
            needs: "nothing: a part of bief".to_owned(),
        };
        Facts { framework: Framework::Linfa.name().to_owned(), absent: None, complexity }
    }

    fn is_parallel(&self) -> bool {
        false
    }

    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome {
        let (tell, told) = oneshot::channel();
        let job = job.clone();
        let time_limit = job.time_limit;
        let spawned = std::thread::Builder::new().name("linfa".to_owned()).spawn(move || {
            let peak = Peak::watch();
            let fitted = fit(&job);
            let _ = tell.send(fitted.map(|fitted| {
                let Memory { bytes, resident } = peak.stop();
                Fitted { peak_memory_bytes: bytes, memory_is_resident: resident, ..fitted }
            }));
        });
        let failed = |why: String| Outcome::Failed { why, stderr: String::new() };
        if let Err(error) = spawned {
            return failed(format!("has no thread: {error}"));
        }
        tokio::select! {
            fitted = told => match fitted {
                Ok(Ok(fitted)) => Outcome::Fitted(Box::new(fitted)),
                Ok(Err(error)) => failed(error),
                Err(_) => failed("panicked".to_owned()),
            },
            // The thread ends by itself; nobody can end it.
            () = cancel.cancelled() => failed("was cancelled".to_owned()),
            () = tokio::time::sleep(time_limit) => {
                failed(format!("had not ended after {} s, its limit; its thread runs on", time_limit.as_secs_f64()))
            }
        }
    }
}

fn fit(job: &FitJob) -> Result<Fitted, String> {
    let (began, cpu) = (Instant::now(), cpu_of_thread());
    let grown = job.sample.grown(job.size);
    let (rows, width) = (grown.train_rows(), grown.names().len());
    let x = Array2::from_shape_fn((grown.rows(), width), |(row, column)| grown.value(row, column));
    let y = Array1::from_shape_fn(grown.rows(), |row| grown.value(row, width));
    let held_out = x.slice(s![rows.., ..]).to_owned();
    let (x, y) = (x.slice_move(s![..rows, ..]), y.slice_move(s![..rows]));
    let load = began.elapsed();
    let began_fit = Instant::now();
    let model = LinearRegression::new().fit(&Dataset::new(x, y)).map_err(|error| error.to_string())?;
    let fit = began_fit.elapsed();
    let began_predict = Instant::now();
    let predictions = model.predict(&held_out);
    let predict = began_predict.elapsed();
    Ok(Fitted {
        versions: BTreeMap::from([("linfa-linear".to_owned(), version_of("linfa-linear", LOCK_FILE))]),
        workers: 1,
        coefficients: model.params().to_vec(),
        intercept: model.intercept(),
        predictions: predictions.to_vec(),
        seconds: Seconds {
            start_up: 0.0,
            load: load.as_secs_f64(),
            fit: fit.as_secs_f64(),
            predict: predict.as_secs_f64(),
            wall: began.elapsed().as_secs_f64(),
        },
        cpu_seconds: cpu_of_thread() - cpu,
        ..Fitted::default()
    })
}

/// Seconds of the processor that this thread has taken.
fn cpu_of_thread() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.map_or(0.0, |nanos| Duration::from_nanos(nanos).as_secs_f64())
}

/// The most that this process takes while it is watched, sampled as a child's is.
struct Peak {
    done: Arc<AtomicBool>,
    watching: Option<std::thread::JoinHandle<Memory>>,
}

impl Peak {
    fn watch() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&done);
        let watching = std::thread::Builder::new().name("linfa-memory".to_owned()).spawn(move || {
            let mut peak = Memory::default();
            loop {
                let now = memory_of_process(std::process::id());
                if now.bytes > peak.bytes {
                    peak = now;
                }
                if until.load(Ordering::Relaxed) {
                    return peak;
                }
                std::thread::sleep(SAMPLED_EVERY);
            }
        });
        Self { done, watching: watching.ok() }
    }

    fn stop(mut self) -> Memory {
        self.done.store(true, Ordering::Relaxed);
        self.watching.take().and_then(|watching| watching.join().ok()).unwrap_or_default()
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// Crates that this one brings, itself among them.
fn closure_of(name: &str, lock_file: &str) -> u32 {
    let Ok(lock) = lock_file.parse::<toml::Table>() else { return 0 };
    let packages = lock.get("package").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let dependencies = |of: &str| -> Vec<String> {
        let of = packages.iter().filter(|package| package.get("name").and_then(toml::Value::as_str) == Some(of));
        let all = of.filter_map(|package| package.get("dependencies")?.as_array()).flatten();
        // "name" or, where there are several of it, "name version".
        all.filter_map(|name| Some(name.as_str()?.split(' ').next()?.to_owned())).collect()
    };
    let (mut found, mut waiting) = (std::collections::BTreeSet::new(), vec![name.to_owned()]);
    while let Some(next) = waiting.pop() {
        if found.insert(next.clone()) {
            waiting.extend(dependencies(&next));
        }
    }
    u32::try_from(found.len()).unwrap_or(u32::MAX)
}

fn version_of(name: &str, lock_file: &str) -> String {
    let lines: Vec<_> = lock_file.lines().collect();
    let pair = lines.windows(2).find(|pair| pair[0] == format!("name = \"{name}\""));
    let version = pair.and_then(|pair| pair[1].strip_prefix("version = \"")?.strip_suffix('"'));
    version.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::comparison::{Sample, difference};

    #[tokio::test]
    async fn linfa_finds_the_plane_that_the_target_lies_in() {
        let mut sample = Sample::generated(500, 3, 100);
        for row in 0..500 {
            let x = &sample.x[row * 3..row * 3 + 3];
            sample.y[row] = 2.0 * x[0] - 3.0 * x[1] + 0.5 * x[2] + 7.0;
        }
        let expected = sample.y[400..].to_vec();
        let job = FitJob {
            sample: Arc::new(sample),
            size: 1,
            file: Default::default(),
            workers: 1,
            time_limit: Duration::from_secs(60),
            memory_limit: None,
        };
        let Outcome::Fitted(fitted) = Linfa.fit(&job, &CancellationToken::new()).await else { panic!("no model") };
        assert!(difference(&fitted.coefficients, &[2.0, -3.0, 0.5]) < 1e-9, "{fitted:?}");
        assert!(difference(&fitted.predictions, &expected) < 1e-9);
        assert!(fitted.peak_memory_bytes > 0 && fitted.seconds.wall > 0.0);
        let facts = Linfa.facts().await;
        assert!(facts.complexity.dependencies > 5, "{facts:?}");
    }

    #[test]
    fn the_version_is_the_locked_one() {
        assert!(version_of("linfa-linear", LOCK_FILE).starts_with("0."), "{}", version_of("linfa-linear", LOCK_FILE));
    }
}
