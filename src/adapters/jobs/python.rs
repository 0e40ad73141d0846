//! A framework that is a Python job: the contract of `ml/README.md` from this side. Whatever the job prints or writes is
//! looked at before it is believed.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::environment::{Environments, Interpreter, environment_of_job};
use super::matrix_file::{TARGET, columns_of};
use super::{CONTRACT, JobFiles};
use crate::core::comparison::{Facts, Fitted, Framework, Outcome, Seconds};
use crate::ports::frameworks::{FitFramework, FitJob};
use crate::runtime::child::{self, ChildSpec, Ended, Limits, Line, Report};

/// A larger result is none.
const LARGEST_RESULT: u64 = 256 << 20;
/// Lines of garbage that a report has, and characters of each.
const GARBAGE_KEPT: usize = 8;
const GARBAGE_LENGTH: usize = 200;
/// Exit codes of the contract.
const USAGE: i32 = 2;
const ABSENT: i32 = 3;
const MEMORY: i32 = 4;

/// Where and how jobs run.
#[derive(Debug, Clone)]
pub struct JobSettings {
    pub environments: Environments,
    /// A running Spark; one in the job's own process where none is named.
    pub spark_master: Option<String>,
    /// A running Dask scheduler; a cluster of the job's own where none is named.
    pub dask_scheduler: Option<String>,
    /// For what a job writes; a folder of its own in it, removed at its end.
    pub folder: PathBuf,
    /// Added to the niceness.
    pub nice: u8,
    /// See [`ChildSpec::guardian`].
    pub guardian: PathBuf,
}

pub struct PythonJob {
    pub files: &'static JobFiles,
    pub settings: JobSettings,
}

/// A line of progress.
#[derive(Deserialize)]
struct Told {
    phase: String,
    #[serde(rename = "seconds")]
    _seconds: f64,
}

/// What a job writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobResult {
    versions: BTreeMap<String, String>,
    settings: BTreeMap<String, serde_json::Value>,
    solver: String,
    workers: u32,
    coefficients: Vec<f64>,
    intercept: f64,
    predictions: Vec<f64>,
    seconds: BTreeMap<String, f64>,
}

#[async_trait(?Send)]
impl FitFramework for PythonJob {
    fn framework(&self) -> Framework {
        self.files.framework
    }

    async fn facts(&self) -> Facts {
        let found = self.settings.environments.find(self.files);
        let install_bytes = found.as_ref().ok().and_then(|interpreter| interpreter.install_bytes);
        Facts {
            framework: self.files.framework.name().to_owned(),
            absent: found.err(),
            complexity: self.files.complexity(install_bytes),
        }
    }

    fn is_parallel(&self) -> bool {
        true
    }

    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome {
        let interpreter = match self.settings.environments.find(self.files) {
            Ok(interpreter) => interpreter,
            Err(why) => return Outcome::Absent { why },
        };
        match self.run(job, &interpreter, cancel).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed { why: format!("could not be run: {error}"), stderr: String::new() },
        }
    }
}

impl PythonJob {
    async fn run(
        &self,
        job: &FitJob,
        interpreter: &Interpreter,
        cancel: &CancellationToken,
    ) -> std::io::Result<Outcome> {
        fs::create_dir_all(&self.settings.folder)?;
        let folder = tempfile::Builder::new().prefix("job-").tempdir_in(&self.settings.folder)?;
        let spec = self.lay_out(job, interpreter, &std::path::absolute(folder.path())?)?;
        let began = Instant::now();
        let (mut ready, mut garbage) = (None, Garbage::default());
        let report = child::run(&spec, cancel, |line| match &line {
            Line::Text(text) => match serde_json::from_str::<Told>(text) {
                Ok(told) if told.phase == "start" => ready = ready.or(Some(began.elapsed())),
                Ok(_) => {}
                Err(_) => garbage.add(text),
            },
            Line::Broken { begins, .. } => garbage.add(begins),
        })
        .await?;
        Ok(judge(job, &report, (ready, &garbage), &folder.path().join("result.json")))
    }

    /// The job's files in its folder, and how it is called.
    fn lay_out(&self, job: &FitJob, interpreter: &Interpreter, folder: &Path) -> std::io::Result<ChildSpec> {
        let script = folder.join(self.files.script);
        fs::write(folder.join(CONTRACT.0), CONTRACT.1)?;
        fs::write(&script, self.files.text)?;
        let grown = job.sample.grown(job.size);
        let told = serde_json::json!({
            "features": columns_of(&grown),
            "target": TARGET,
            "train_rows": grown.train_rows(),
            "workers": job.workers,
            "memory": job.memory_limit,
            "folder": folder,
            "result": folder.join("result.json"),
            "spark_master": self.settings.spark_master,
            "dask_scheduler": self.settings.dask_scheduler,
        });
        let settings = folder.join("settings.json");
        fs::write(&settings, serde_json::to_vec_pretty(&told)?)?;
        let mut environment = environment_of_job();
        // Dask's workers are processes: one thread each.
        let threads = if self.files.framework == Framework::DaskMl { 1 } else { job.workers };
        for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            environment.push((name.into(), threads.to_string().into()));
        }
        environment.push(("TMPDIR".into(), folder.into()));
        environment.push(("PYTHONNOUSERSITE".into(), "1".into()));
        Ok(ChildSpec {
            program: interpreter.python.clone(),
            arguments: vec![script.into(), std::path::absolute(&job.file)?.into(), settings.into()],
            environment,
            folder: folder.to_owned(),
            limits: Limits { time: job.time_limit, memory: job.memory_limit, nice: self.settings.nice },
            guardian: self.settings.guardian.clone(),
        })
    }
}

/// Lines of a job's output that were no message. Some virtual machines tell there why they end.
#[derive(Default)]
struct Garbage {
    lines: u32,
    /// The beginnings of the last ones.
    last: VecDeque<String>,
}

impl Garbage {
    fn add(&mut self, line: &str) {
        self.lines = self.lines.saturating_add(1);
        if self.last.len() == GARBAGE_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(GARBAGE_LENGTH).collect());
    }
}

/// What a job's end comes to.
fn judge(job: &FitJob, report: &Report, (ready, garbage): (Option<Duration>, &Garbage), result: &Path) -> Outcome {
    let failed = |what: &str| {
        let mut why = format!("{what}: it {}", report.describe());
        let mut stderr = report.stderr.clone();
        if garbage.lines > 0 {
            why += &format!("; {} lines of its output were no message", garbage.lines);
            stderr += "\nof its output, what was no message:\n";
            garbage.last.iter().for_each(|line| stderr += &format!("{line}\n"));
        }
        Outcome::Failed { why, stderr }
    };
    match report.ended {
        Ended::Exit(0) => {}
        Ended::Exit(ABSENT) => {
            let why = report.stderr.trim();
            return Outcome::Absent { why: format!("{why}; run bief compare --setup, or mend `python`") };
        }
        Ended::Exit(MEMORY) => return failed("ran out of memory"),
        Ended::Exit(USAGE) => return failed("refused its arguments"),
        _ => return failed("failed"),
    }
    let read = match read_result(result, job) {
        Ok(read) => read,
        Err(why) => return failed(&why),
    };
    let seconds = |name: &str| read.seconds.get(name).copied().unwrap_or_default();
    let remarks = (!report.left_behind.is_empty() || !report.unkilled.is_empty()).then(|| report.describe());
    Outcome::Fitted(Box::new(Fitted {
        seconds: Seconds {
            start_up: ready.map_or_else(|| seconds("start"), |ready| ready.as_secs_f64()),
            load: seconds("load"),
            fit: seconds("fit"),
            predict: seconds("predict"),
            wall: report.wall.as_secs_f64(),
        },
        versions: read.versions,
        settings: read.settings,
        solver: read.solver,
        workers: read.workers,
        coefficients: read.coefficients,
        intercept: read.intercept,
        predictions: read.predictions,
        cpu_seconds: report.cpu.as_secs_f64(),
        peak_memory_bytes: report.peak_memory.bytes,
        memory_is_resident: report.peak_memory.resident,
        garbage_lines: garbage.lines,
        remarks: remarks.into_iter().collect(),
    }))
}

fn read_result(path: &Path, job: &FitJob) -> Result<JobResult, String> {
    let size = fs::metadata(path).map_err(|_| "wrote no result".to_owned())?.len();
    if size > LARGEST_RESULT {
        return Err(format!("wrote a result of {} MiB", size >> 20));
    }
    let bytes = fs::read(path).map_err(|error| format!("wrote a result that cannot be read ({error})"))?;
    let read: JobResult =
        serde_json::from_slice(&bytes).map_err(|error| format!("wrote a result that is none ({error})"))?;
    let expected = (job.sample.width(), job.sample.holdout_rows());
    let found = (read.coefficients.len(), read.predictions.len());
    if found != expected {
        return Err(format!(
            "wrote {} coefficients and {} predictions, where {} and {} are wanted",
            found.0, found.1, expected.0, expected.1
        ));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::comparison::Sample;
    use crate::runtime::child::Memory;

    fn job() -> FitJob {
        FitJob {
            sample: Arc::new(Sample::generated(10, 2, 1)),
            size: 1,
            file: PathBuf::new(),
            workers: 1,
            time_limit: Duration::from_secs(1),
            memory_limit: None,
        }
    }

    fn report(ended: Ended) -> Report {
        Report {
            ended,
            limits: Limits { time: Duration::from_secs(1), memory: None, nice: 0 },
            wall: Duration::from_secs(1),
            cpu: Duration::ZERO,
            peak_memory: Memory::default(),
            left_behind: Vec::new(),
            unkilled: Vec::new(),
            stderr: "the cause".to_owned(),
        }
    }

    fn failure(result: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        if !result.is_empty() {
            fs::write(&path, result).unwrap();
        }
        let garbage = Garbage { lines: 2, last: ["a", "b"].map(str::to_owned).into() };
        match judge(&job(), &report(Ended::Exit(0)), (None, &garbage), &path) {
            Outcome::Failed { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_result_that_is_none_is_a_failure_though_the_job_says_that_all_is_well() {
        assert!(failure("").starts_with("wrote no result: it ended with exit code 0"), "{}", failure(""));
        assert!(failure("").ends_with("2 lines of its output were no message"));
        assert!(failure("{").starts_with("wrote a result that is none"));
        let short = r#"{"versions":{},"settings":{},"solver":"","workers":1,"coefficients":[1.0],"intercept":0,"predictions":[],
            "seconds":{}}"#;
        assert!(failure(short).starts_with("wrote 1 coefficients and 0 predictions, where 2 and 1 are wanted"));
        let no_number = short.replace("[1.0]", "[1.0,null]");
        assert!(failure(&no_number).starts_with("wrote a result that is none"));
    }

    #[test]
    fn an_exit_code_has_its_meaning() {
        let of = |code| judge(&job(), &report(Ended::Exit(code)), (None, &Garbage::default()), Path::new("/nowhere"));
        assert!(matches!(of(3), Outcome::Absent { why } if why.starts_with("the cause; run bief compare --setup")));
        assert!(matches!(of(4), Outcome::Failed { why, .. } if why.starts_with("ran out of memory")));
        assert!(matches!(of(1), Outcome::Failed { stderr, .. } if stderr == "the cause"));
    }
}
