//! Jobs as child processes. Those in Rust are held, measured and ended as every other. Python jobs that misbehave, by plain
//! Python without any framework: each ends in a clear report, nothing of it stays, and the next fit of the same process goes
//! well; left out where there is no python3.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bief::adapters::jobs::{Environments, JobFiles, JobSettings, OwnJob, PythonJob, write_matrix};
use bief::core::comparison::{Fitted, Framework, Outcome, Sample, difference};
use bief::ports::frameworks::{FitFramework, FitJob};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const WELL: &str = "
import contract, subprocess
def job(matrix, settings, phase):
    for name in ('start', 'load', 'fit', 'predict'):
        with phase(name):
            pass
    p, n = len(settings['features']), 20
    EXTRA
    return {'versions': {'plain': '1'}, 'settings': {}, 'solver': 'none', 'workers': settings['workers'],
            'coefficients': [1.0] * p, 'intercept': 2.0, 'predictions': [3.0] * n}
contract.main(job)
";

struct Ground {
    folder: TempDir,
    sample: Arc<Sample>,
}

impl Ground {
    /// `None` where there is no Python.
    fn new() -> Option<Self> {
        if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
            println!("left out: there is no python3");
            return None;
        }
        Some(Self::of(Sample::generated(100, 3, 20)))
    }

    fn of(sample: Sample) -> Self {
        let ground = Self { folder: tempfile::tempdir().unwrap(), sample: Arc::new(sample) };
        write_matrix(&ground.sample.grown(1), &ground.matrix()).unwrap();
        ground
    }

    fn matrix(&self) -> PathBuf {
        self.folder.path().join("matrix.parquet")
    }

    /// Fits by a job in whose midst is this; afterwards by one without it, and looks whether anything stayed.
    fn fit(&self, extra: &str, limits: (Duration, Option<u64>)) -> Outcome {
        let outcome = self.fit_once(extra, limits, &CancellationToken::new());
        let next = self.fit_once("", (Duration::from_secs(30), None), &CancellationToken::new());
        assert!(matches!(&next, Outcome::Fitted(fitted) if fitted.coefficients.len() == 3), "{next:?}");
        self.nothing_stays();
        outcome
    }

    fn fit_once(&self, extra: &str, limits: (Duration, Option<u64>), cancel: &CancellationToken) -> Outcome {
        let text: &'static str = Box::leak(WELL.replace("EXTRA", extra).into_boxed_str());
        let files = Box::leak(Box::new(JobFiles {
            framework: Framework::ScikitLearn,
            script: "job_plain.py",
            text,
            requirements: "",
            needs: "",
        }));
        self.fit_by(&PythonJob { files, settings: self.settings() }, limits, cancel)
    }

    fn settings(&self) -> JobSettings {
        JobSettings {
            environments: Environments { folder: PathBuf::new(), python: Some("python3".into()) },
            spark_master: None,
            dask_scheduler: None,
            folder: self.folder.path().join("work"),
            nice: 0,
            guardian: env!("CARGO_BIN_EXE_bief").into(),
        }
    }

    fn fit_by(
        &self,
        framework: &dyn FitFramework,
        (time, memory): (Duration, Option<u64>),
        cancel: &CancellationToken,
    ) -> Outcome {
        let job = FitJob {
            sample: Arc::clone(&self.sample),
            size: 1,
            file: self.matrix(),
            workers: 2,
            time_limit: time,
            memory_limit: memory,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(framework.fit(&job, cancel))
    }

    /// By linfa or bief's own way.
    fn fit_by_own(&self, framework: Framework, limits: (Duration, Option<u64>)) -> Outcome {
        let outcome = self.fit_by(&OwnJob { framework, settings: self.settings() }, limits, &CancellationToken::new());
        self.nothing_stays();
        outcome
    }

    /// No process works in the jobs' folder, and no file is left in it.
    fn nothing_stays(&self) {
        let work = self.folder.path().join("work").canonicalize().unwrap();
        let within = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| Path::new(&cwd).starts_with(&work))
        };
        let left: Vec<_> = fs::read_dir("/proc").unwrap().flatten().filter(within).map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "still alive: {left:?}");
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    }
}

const LONG: (Duration, Option<u64>) = (Duration::from_secs(30), None);

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_that_keeps_the_contract_is_measured() {
    let Some(ground) = Ground::new() else { return };
    let Outcome::Fitted(fitted) = ground.fit("", LONG) else { panic!("no model") };
    assert_eq!((fitted.workers_had, fitted.intercept, fitted.predictions.len()), (2, 2.0, 20));
    assert!(fitted.seconds.start_up > 0.0 && fitted.seconds.start_up < fitted.seconds.wall, "{fitted:?}");
    assert!(fitted.garbage_lines == 0 && fitted.remarks.is_empty(), "{fitted:?}");
}

#[test]
fn a_job_that_hangs_is_killed_and_told() {
    let Some(ground) = Ground::new() else { return };
    let told = why(ground.fit("import time; time.sleep(1000)", (Duration::from_secs(1), None)));
    assert!(told.starts_with("failed: it had not ended after 1 s, its limit, and was killed"), "{told}");
}

#[test]
fn a_job_that_is_killed_is_told() {
    let Some(ground) = Ground::new() else { return };
    let told = why(ground.fit("import os; os.kill(os.getpid(), 9)", LONG));
    assert!(told.starts_with("failed: it was killed (SIGKILL) by someone else, or by the kernel"), "{told}");
}

#[test]
fn a_job_that_runs_out_of_memory_is_told_by_its_exit_code() {
    let Some(ground) = Ground::new() else { return };
    let told = why(ground.fit("x = bytearray(2_000_000_000)", (Duration::from_secs(30), Some(256 << 20))));
    assert!(told.starts_with("ran out of memory: it ended with exit code 4"), "{told}");
}

#[test]
fn a_jvm_that_lacks_memory_is_told_as_such() {
    let Some(ground) = Ground::new() else { return };
    for error in [
        "An error occurred while calling o94.fit: java.lang.OutOfMemoryError: Java heap space",
        "System memory 157286400 must be at least 471859200. Please increase heap size using the --driver-memory option",
    ] {
        let told = why(ground.fit(&format!("raise Exception({error:?})"), LONG));
        assert!(told.starts_with("ran out of memory: it ended with exit code 1"), "{told}");
    }
    let told = why(ground.fit("raise Exception('no memory of the OutOfRange kind')", LONG));
    assert!(told.starts_with("failed: it ended with exit code 1"), "{told}");
}

#[test]
fn a_job_whose_children_take_too_much_together_is_killed() {
    let Some(ground) = Ground::new() else { return };
    let eats = "import sys, time; x = b'x' * 60_000_000; time.sleep(1000)";
    let extra = format!(
        "import sys\n    all = [subprocess.Popen([sys.executable, '-c', {eats:?}]) for _ in range(4)]; all[0].wait()"
    );
    let told = why(ground.fit(&extra, (Duration::from_secs(30), Some(150 << 20))));
    assert!(told.starts_with("failed: it took more than its 150 MiB of memory and was killed"), "{told}");
}

#[test]
fn a_job_that_prints_garbage_is_believed_by_its_result_alone_and_the_garbage_is_counted() {
    let Some(ground) = Ground::new() else { return };
    let garbage = "import os; os.write(1, b'\\xff\\xfe\\n' + b'x' * 100_000 + b'\\nnonsense\\n{\"phase\": 1}\\n')";
    let Outcome::Fitted(fitted) = ground.fit(garbage, LONG) else { panic!("no model") };
    assert_eq!(fitted.garbage_lines, 4);
}

#[test]
fn a_job_that_prints_without_end_is_killed_at_its_limit_and_told() {
    let Some(ground) = Ground::new() else { return };
    let floods = "import os\n    while True: os.write(1, b'y\\n' * 32768)";
    // On a busy machine Python alone may take a second until it prints anything.
    let Outcome::Failed { why, stderr } = ground.fit(floods, (Duration::from_secs(6), None)) else {
        panic!("no failure")
    };
    assert!(why.starts_with("failed: it had not ended after 6 s, its limit, and was killed"), "{why}");
    assert!(why.ends_with(" lines of its output were no message"), "{why}");
    // The last ones alone are kept.
    assert!(stderr.ends_with("no message:\ny\ny\ny\ny\ny\ny\ny\ny\n") && stderr.len() < 20_000, "{stderr}");
}

#[test]
fn a_job_whose_result_is_garbage_has_failed() {
    let Some(ground) = Ground::new() else { return };
    let told = why(ground.fit("n = 7", LONG));
    assert!(told.starts_with("wrote 3 coefficients and 7 predictions, where 3 and 20 are wanted"), "{told}");
    let told = why(ground.fit("open(settings['result'], 'w').write('{'); import os; os._exit(0)", LONG));
    assert!(told.starts_with("wrote a result that is none"), "{told}");
    let told = why(ground.fit("p = 0; raise ValueError('the matrix is not to its taste')", LONG));
    assert!(told.starts_with("failed: it ended with exit code 1"), "{told}");
}

#[test]
fn a_job_whose_children_stay_has_them_killed_and_named() {
    let Some(ground) = Ground::new() else { return };
    let extra = "[subprocess.Popen(['setsid', 'sleep', '1000'], start_new_session=True) for _ in range(2)]";
    let Outcome::Fitted(fitted) = ground.fit(extra, LONG) else { panic!("no model") };
    assert_eq!(fitted.remarks.len(), 1);
    assert!(fitted.remarks[0].contains("it left processes behind, which were killed: sleep ("), "{fitted:?}");
}

#[test]
fn a_framework_that_is_absent_is_told_with_how_to_get_it() {
    let Some(ground) = Ground::new() else { return };
    let Outcome::Absent { why } = ground.fit("import a_framework_that_is_absent", LONG) else { panic!("it is there") };
    assert!(
        why.contains("No module named 'a_framework_that_is_absent'") && why.contains("bief compare --setup"),
        "{why}"
    );
}

fn fitted(outcome: Outcome) -> Fitted {
    match outcome {
        Outcome::Fitted(fitted) => *fitted,
        other => panic!("{other:?}"),
    }
}

const OWN: [Framework; 2] = [Framework::Linfa, Framework::Bief];

#[test]
fn what_is_part_of_the_binary_fits_in_a_process_of_its_own_and_is_measured_there() {
    let ground = Ground::of(Sample::generated(50_000, 20, 100));
    let [linfa, bief] = OWN.map(|framework| fitted(ground.fit_by_own(framework, LONG)));
    assert!(difference(&bief.coefficients, &linfa.coefficients) < 1e-9);
    assert!(difference(&bief.predictions, &linfa.predictions) < 1e-9);
    assert_eq!((linfa.workers_had, bief.workers_had), (1, 2));
    for fitted in [linfa, bief] {
        let seconds = &fitted.seconds;
        let phases = seconds.load + seconds.fit + seconds.predict;
        assert!(seconds.start_up > 0.0 && seconds.fit > 0.0 && seconds.start_up + phases < seconds.wall, "{seconds:?}");
        // Of the process alone: the matrix is 8 MB, this test another.
        assert!(fitted.cpu_seconds > 0.0 && fitted.cpu_seconds < 2.0 * seconds.wall + 0.1, "{fitted:?}");
        assert!((1 << 20..512 << 20).contains(&fitted.peak_memory_bytes), "{}", fitted.peak_memory_bytes);
        assert!(fitted.garbage_lines == 0 && fitted.remarks.is_empty());
    }
}

#[test]
fn what_is_part_of_the_binary_is_held_within_its_time_and_its_memory() {
    let ground = Ground::of(Sample::generated(300_000, 20, 100));
    for framework in OWN {
        let told = why(ground.fit_by_own(framework, (Duration::from_millis(20), None)));
        assert!(told.starts_with("failed: it had not ended after 0.02 s, its limit, and was killed"), "{told}");
        // The matrix is 46 MiB.
        let told = why(ground.fit_by_own(framework, (LONG.0, Some(40 << 20))));
        assert!(told.starts_with("ran out of memory: it "), "{told}");
    }
}
