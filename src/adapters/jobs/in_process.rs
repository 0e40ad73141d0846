//! What fits in this process: linfa, least squares by a QR decomposition in plain Rust; and bief's own way, which is what
//! the trainer does each day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ndarray::{Array1, Array2, s};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::core::comparison::{Complexity, Facts, Fitted, Framework, Outcome, Seconds};
use crate::core::forecast::linear::{self, Solver};
use crate::ports::frameworks::{FitFramework, FitJob};
use crate::runtime::child::{Memory, SAMPLED_EVERY, memory_of_process};

const LOCK_FILE: &str = include_str!("../../../Cargo.lock");
const ITS_SOURCE: &str = include_str!("../../core/forecast/linear.rs");
const GRAM_SOURCE: &str = include_str!("../../core/forecast/gram.rs");
/// Where linfa's part of that file begins, and what begins the next.
const LINFA_FUNCTION: &str = "pub fn fit_linfa";

/// Fits in this process.
pub struct InProcess(Way);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Linfa,
    Bief,
}

impl InProcess {
    /// linfa alone.
    pub fn linfa() -> Self {
        Self(Way::Linfa)
    }

    /// The Gram matrix and Cholesky, with linfa's QR where that is not accurate enough.
    pub fn bief() -> Self {
        Self(Way::Bief)
    }

    fn lines(&self) -> u32 {
        match self.0 {
            Way::Linfa => {
                let from = ITS_SOURCE.find(LINFA_FUNCTION).map_or("", |at| &ITS_SOURCE[at..]);
                lines_of_rust(from.split_inclusive("\n}\n").next().unwrap_or_default())
            }
            Way::Bief => lines_of_rust(ITS_SOURCE) + lines_of_rust(GRAM_SOURCE),
        }
    }
}

#[async_trait(?Send)]
impl FitFramework for InProcess {
    fn framework(&self) -> Framework {
        match self.0 {
            Way::Linfa => Framework::Linfa,
            Way::Bief => Framework::Bief,
        }
    }

    async fn facts(&self) -> Facts {
        let complexity = Complexity {
            lines: self.lines(),
            dependencies: closure_of("linfa-linear", LOCK_FILE),
            install_bytes: None,
            needs: "nothing: a part of bief".to_owned(),
        };
        Facts { framework: self.framework().name().to_owned(), absent: None, complexity }
    }

    fn is_parallel(&self) -> bool {
        self.0 == Way::Bief
    }

    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome {
        let (tell, told) = oneshot::channel();
        let (job, way) = (job.clone(), self.0);
        let time_limit = job.time_limit;
        let spawned = std::thread::Builder::new().name("fit".to_owned()).spawn(move || {
            let peak = Peak::watch();
            let fitted = fit(&job, way);
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

fn fit(job: &FitJob, way: Way) -> Result<Fitted, String> {
    let (began, cpu) = (Instant::now(), cpu_of_process());
    let grown = job.sample.grown(job.size);
    let (rows, width) = (grown.train_rows(), grown.names().len());
    let mut x = Array2::zeros((grown.rows(), width));
    for (at, mut row) in x.rows_mut().into_iter().enumerate() {
        row.iter_mut().enumerate().for_each(|(column, value)| *value = grown.value(at, column));
    }
    let y = Array1::from_iter((0..rows).map(|row| grown.value(row, width)));
    let load = began.elapsed();
    let began_fit = Instant::now();
    let features = x.slice(s![..rows, ..]);
    let solution = match way {
        Way::Linfa => linear::fit_linfa(features, y.view()),
        Way::Bief => linear::fit(features, y.view(), job.workers as usize),
    };
    let solution = solution.map_err(|error| error.to_string())?;
    let fit = began_fit.elapsed();
    let began_predict = Instant::now();
    let predictions = solution.predict(x.slice(s![rows.., ..]));
    let predict = began_predict.elapsed();
    let version = match way {
        Way::Linfa => ("linfa-linear".to_owned(), version_of("linfa-linear", LOCK_FILE)),
        Way::Bief => ("bief".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    };
    let solver = match solution.solver {
        Solver::Cholesky => "Gram matrix and Cholesky",
        Solver::Qr => "QR of the standardised columns",
        Solver::Linfa => "QR",
    };
    Ok(Fitted {
        versions: BTreeMap::from([version]),
        remarks: Vec::new(),
        solver: solver.to_owned(),
        workers: if way == Way::Linfa { 1 } else { job.workers },
        coefficients: solution.coefficients.to_vec(),
        intercept: solution.intercept,
        predictions: predictions.to_vec(),
        seconds: Seconds {
            start_up: 0.0,
            load: load.as_secs_f64(),
            fit: fit.as_secs_f64(),
            predict: predict.as_secs_f64(),
            wall: began.elapsed().as_secs_f64(),
        },
        cpu_seconds: cpu_of_process() - cpu,
        ..Fitted::default()
    })
}

/// Seconds of the processor that this process has taken, its threads that have ended among them.
fn cpu_of_process() -> f64 {
    let told = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        // Fields 14 and 15 of proc(5); the state is field 3.
        let mut fields = rest.split(' ').skip(11);
        let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
    };
    told().unwrap_or_default()
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
        let watching = std::thread::Builder::new().name("fit-memory".to_owned()).spawn(move || {
            let mut peak = Memory::default();
            let mut at = Duration::ZERO;
            loop {
                let now = memory_of_process(std::process::id());
                if now.bytes > peak.bytes {
                    peak = now;
                }
                if until.load(Ordering::Relaxed) {
                    return peak;
                }
                // Small matrices are done before the first sample of a child would be taken.
                at = (at * 2).clamp(Duration::from_millis(1), SAMPLED_EVERY);
                std::thread::sleep(at);
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

/// Neither blank nor comment, tests not among them.
fn lines_of_rust(text: &str) -> u32 {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().map(str::trim);
    u32::try_from(code.filter(|line| !line.is_empty() && !line.starts_with("//")).count()).unwrap_or(u32::MAX)
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
    async fn both_find_the_plane_that_the_target_lies_in() {
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
            workers: 2,
            time_limit: Duration::from_secs(60),
            memory_limit: None,
        };
        for way in [InProcess::linfa(), InProcess::bief()] {
            let Outcome::Fitted(fitted) = way.fit(&job, &CancellationToken::new()).await else { panic!("no model") };
            assert!(difference(&fitted.coefficients, &[2.0, -3.0, 0.5]) < 1e-9, "{fitted:?}");
            assert!(difference(&fitted.predictions, &expected) < 1e-9);
            assert!(fitted.peak_memory_bytes > 0 && fitted.seconds.wall > 0.0);
            let complexity = way.facts().await.complexity;
            assert!(complexity.dependencies > 5 && complexity.lines > 5, "{complexity:?}");
        }
        assert!(InProcess::linfa().lines() < 30 && InProcess::bief().lines() > 100);
    }

    #[test]
    fn the_version_is_the_locked_one() {
        assert!(version_of("linfa-linear", LOCK_FILE).starts_with("0."), "{}", version_of("linfa-linear", LOCK_FILE));
    }
}
