//! The contract of `ml/README.md` from the side of who starts a job: what the job is told, what it tells on its way, and
//! what its end comes to; the same for a Python job and for one in Rust. Whatever a job prints or writes is looked at
//! before it is believed.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::environment::{Environments, environment_of_job};
use super::matrix_file::{TARGET, columns_of};
use crate::core::comparison::{Fitted, Outcome, Seconds};
use crate::ports::frameworks::FitJob;
use crate::runtime::child::{self, ChildSpec, Ended, Limits, Line, Report};

/// A larger result is none.
const LARGEST_RESULT: u64 = 256 << 20;
/// Lines of garbage that a report has, and characters of each.
const GARBAGE_KEPT: usize = 8;
const GARBAGE_LENGTH: usize = 200;
/// Exit codes of the contract.
pub(super) const DONE: u8 = 0;
pub(super) const FAILED: u8 = 1;
pub(super) const USAGE: u8 = 2;
pub(super) const ABSENT: u8 = 3;
pub(super) const MEMORY: u8 = 4;
/// How a program ends that is refused memory, and its words then: one in Rust, by SIGABRT; a JVM that ran or could not
/// start; and Spark, where its heap is smaller than it needs.
const REFUSED_MEMORY: [(Ended, &str); 5] = [
    (Ended::Signal(6), "memory allocation of "),
    (Ended::Exit(1), "java.lang.OutOfMemoryError"),
    (Ended::Exit(1), "insufficient memory for the Java Runtime Environment"),
    (Ended::Exit(1), "failed; error='Not enough space' (errno=12)"),
    (Ended::Exit(1), "Please increase heap size using the --driver-memory option"),
];

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

/// How one job is called: the matrix's path and that of the settings follow its arguments.
pub(super) struct Call {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Beside the variables that every job is given.
    pub environment: Vec<(OsString, OsString)>,
}

/// A line of progress.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    pub phase: String,
    pub seconds: f64,
}

/// What a job is told, as far as every job wants it.
#[derive(Serialize, Deserialize)]
pub(super) struct Task {
    pub features: Vec<String>,
    pub target: String,
    pub train_rows: usize,
    pub workers: u32,
    pub result: PathBuf,
}

/// What a job writes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobResult {
    pub versions: BTreeMap<String, String>,
    pub settings: BTreeMap<String, serde_json::Value>,
    pub solver: String,
    pub workers: u32,
    pub coefficients: Vec<f64>,
    pub intercept: f64,
    pub predictions: Vec<f64>,
    pub seconds: BTreeMap<String, f64>,
}

/// Runs a job to its end in a folder of its own, where `lay_out` puts what it needs.
pub(super) async fn run(
    job: &FitJob,
    settings: &JobSettings,
    cancel: &CancellationToken,
    lay_out: impl FnOnce(&Path) -> io::Result<Call>,
) -> Outcome {
    match try_run(job, settings, cancel, lay_out).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed { why: format!("could not be run: {error}"), stderr: String::new() },
    }
}

async fn try_run(
    job: &FitJob,
    settings: &JobSettings,
    cancel: &CancellationToken,
    lay_out: impl FnOnce(&Path) -> io::Result<Call>,
) -> io::Result<Outcome> {
    fs::create_dir_all(&settings.folder)?;
    let folder = tempfile::Builder::new().prefix("job-").tempdir_in(&settings.folder)?;
    let own = std::path::absolute(folder.path())?;
    let spec = spec(job, settings, lay_out(&own)?, &own)?;
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
    Ok(judge(job, &report, (ready, &garbage), &own.join("result.json")))
}

/// Its settings in its folder, and how it is run.
fn spec(job: &FitJob, settings: &JobSettings, call: Call, folder: &Path) -> io::Result<ChildSpec> {
    let grown = job.sample.grown(job.size);
    let mut told = serde_json::to_value(Task {
        features: columns_of(&grown),
        target: TARGET.to_owned(),
        train_rows: grown.train_rows(),
        workers: job.workers,
        result: folder.join("result.json"),
    })?;
    told["memory"] = job.memory_limit.into();
    told["folder"] = serde_json::to_value(folder)?;
    told["spark_master"] = settings.spark_master.clone().into();
    told["dask_scheduler"] = settings.dask_scheduler.clone().into();
    let path = folder.join("settings.json");
    fs::write(&path, serde_json::to_vec_pretty(&told)?)?;
    let mut arguments = call.arguments;
    arguments.extend([std::path::absolute(&job.file)?.into(), path.into()]);
    let mut environment = environment_of_job();
    environment.extend(call.environment);
    environment.push(("TMPDIR".into(), folder.into()));
    Ok(ChildSpec {
        program: call.program,
        arguments,
        environment,
        folder: folder.to_owned(),
        limits: Limits { time: job.time_limit, memory: job.memory_limit, nice: settings.nice },
        guardian: settings.guardian.clone(),
    })
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
    let refused_memory =
        REFUSED_MEMORY.iter().any(|(end, words)| report.ended == *end && report.stderr.contains(words));
    let code = match report.ended {
        _ if refused_memory => Some(MEMORY),
        Ended::Exit(code) => u8::try_from(code).ok(),
        _ => None,
    };
    match code {
        Some(DONE) => {}
        Some(ABSENT) => {
            let why = report.stderr.trim();
            return Outcome::Absent { why: format!("{why}; run bief compare --setup, or mend `python`") };
        }
        Some(MEMORY) => return failed("ran out of memory"),
        Some(USAGE) => return failed("refused its arguments"),
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
        workers_had: read.workers,
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
        let judged = |report: &Report| judge(&job(), report, (None, &Garbage::default()), Path::new("/nowhere"));
        let of = |code| judged(&report(Ended::Exit(code)));
        assert!(matches!(of(3), Outcome::Absent { why } if why.starts_with("the cause; run bief compare --setup")));
        assert!(matches!(of(4), Outcome::Failed { why, .. } if why.starts_with("ran out of memory")));
        assert!(matches!(of(1), Outcome::Failed { stderr, .. } if stderr == "the cause"));
        let mut aborted = report(Ended::Signal(6));
        assert!(matches!(judged(&aborted), Outcome::Failed { why, .. } if why.starts_with("failed: it was ended by")));
        aborted.stderr = "memory allocation of 8000 bytes failed\n".to_owned();
        assert!(matches!(judged(&aborted), Outcome::Failed { why, .. } if why.starts_with("ran out of memory")));
        // Whether Python heard of it or found its JVM gone.
        for words in [
            "py4j.protocol.Py4JJavaError: o94.fit: java.lang.OutOfMemoryError: Java heap space",
            "Exception in thread \"main\" java.lang.OutOfMemoryError\n[JAVA_GATEWAY_EXITED] Java gateway process exited",
            "# There is insufficient memory for the Java Runtime Environment to continue.",
            "OpenJDK 64-Bit Server VM warning: INFO: os::commit_memory(0x00007fb184220000, 65536, 0) failed; \
             error='Not enough space' (errno=12)",
            "System memory 157286400 must be at least 471859200. Please increase heap size using the --driver-memory option",
        ] {
            let mut java = report(Ended::Exit(1));
            java.stderr = words.to_owned();
            assert!(matches!(judged(&java), Outcome::Failed { why, .. } if why.starts_with("ran out of memory")));
        }
    }
}
