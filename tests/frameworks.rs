//! The frameworks for real: all fit the same matrix and agree; on clusters of two workers; and whatever becomes of a fit in
//! their midst, nothing of them stays. Needs an environment that `bief compare --setup` made, named by BIEF_TEST_ML
//! (`cargo xtask test --ml` makes it); without one these tests are left out, and said to be.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
const MATRIX: &str = "20000x40";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each takes the whole machine.
    arguments.test_threads = Some(1);
    let tests: [(&str, fn()); 7] = [
        ("all_frameworks_fit_the_same_matrix_and_agree", all_agree),
        ("a_dask_cluster_of_two_workers_fits_the_same", dask_cluster),
        ("a_spark_master_with_two_workers_fits_the_same", spark_master),
        ("fits_that_take_too_long_are_killed_and_told", too_long),
        ("fits_that_take_too_much_memory_are_told", too_much_memory),
        ("a_fit_whose_processes_are_killed_is_told", killed_in_its_midst),
        ("a_killed_or_interrupted_bief_leaves_no_process", killed_bief),
    ];
    let there = environment().is_some();
    let trials = tests.map(|(name, test)| Trial::test(name, move || caught(test)).with_ignored_flag(!there));
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    if !there && !arguments.list {
        println!(
            "left out: {} tests of the frameworks: BIEF_TEST_ML names no environment (cargo xtask test --ml)\n",
            tests.len()
        );
    }
    conclusion.exit_code()
}

/// A test's panic as its failure.
fn caught(test: fn()) -> Result<(), Failed> {
    std::panic::catch_unwind(test).map_err(|panic| {
        let told = panic.downcast_ref::<String>().cloned();
        Failed::from(told.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}

fn environment() -> Option<PathBuf> {
    std::env::var_os("BIEF_TEST_ML").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn compare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(["compare", "--json", "--generated", MATRIX, "-c", "/nonexistent.toml", "--environment"]);
        command.arg(environment().unwrap()).arg("--folder").arg(self.0.path()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// To its end; nothing may be left then.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let Output { status, stdout, stderr } = self.compare(arguments).output().unwrap();
        self.nothing_stays();
        let said = String::from_utf8_lossy(&stderr);
        let result = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        (status.code(), result)
    }

    /// Processes that work in the folder.
    fn processes(&self) -> Vec<String> {
        let within = |entry: &fs::DirEntry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| Path::new(&cwd).starts_with(self.0.path()))
        };
        let found = fs::read_dir("/proc").unwrap().flatten().filter(within);
        let named = found.map(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{} {}", entry.file_name().to_string_lossy(), name.trim())
        });
        named.collect()
    }

    fn nothing_stays(&self) {
        let began = Instant::now();
        while !self.processes().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "still there: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn runs(result: &Value) -> &[Value] {
    result["runs"].as_array().unwrap()
}

fn all_agree() {
    let ground = Ground::new();
    let (code, result) = ground.run(&["--sizes", "1,3", "--workers", "1,2"]);
    // linfa has one worker, the others one and two.
    assert_eq!(runs(&result).len(), 2 * (1 + 4 * 2), "{result:#}");
    assert!(runs(&result).iter().all(|run| run["outcome"] == "fitted"), "{result:#}");
    let parity = result["parity"].as_array().unwrap();
    assert_eq!(parity.len(), 16);
    for pair in parity {
        assert!(
            pair["coefficients"].as_f64().unwrap() <= 1e-8 && pair["predictions"].as_f64().unwrap() <= 1e-8,
            "{pair}"
        );
    }
    for run in runs(&result) {
        assert!(
            run["peak_memory_bytes"].as_u64().unwrap() > 1 << 20 && run["remarks"] == Value::Array(vec![]),
            "{run:#}"
        );
        // No framework has more than it was allowed.
        let [asked, had] = ["workers", "workers_had"].map(|name| run[name].as_u64().unwrap());
        assert!((1..=asked).contains(&had), "{run:#}");
        if !["linfa", "bief"].contains(&run["framework"].as_str().unwrap()) {
            assert!(run["cpu_seconds"].as_f64().unwrap() > 0.5, "{run:#}");
        }
    }
    assert_eq!(code, Some(0));
}

/// Ends what it holds.
struct Running(Vec<Child>);

impl Running {
    fn start(&mut self, command: &mut Command) -> &mut Child {
        self.0.push(command.stdin(Stdio::null()).spawn().unwrap());
        self.0.last_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            // SIGTERM lets a Dask nanny end its worker.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
        }
        for child in &mut self.0 {
            let began = Instant::now();
            while child.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a program has said this on its standard error.
fn said(child: &mut Child, words: &str, times: usize) {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut found) = (String::new(), 0);
    while found < times {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended without saying {words:?}");
        found += usize::from(line.contains(words));
    }
    // Read on, so that it never waits for a reader.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
}

fn fits_on_a_cluster(arguments: &[&str]) {
    let ground = Ground::new();
    let (code, result) = ground.run(arguments);
    assert_eq!((code, runs(&result).len()), (Some(0), 2), "{result:#}");
    assert_eq!(runs(&result)[1]["workers_had"], 2, "{result:#}");
    assert_eq!(result["parity"][0]["agrees"], true, "{result:#}");
}

fn dask_cluster() {
    let dask = environment().unwrap().join("dask-ml/bin/dask");
    let address = format!("tcp://127.0.0.1:{}", free_port());
    let mut running = Running(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let mut scheduler = Command::new(&dask);
    scheduler
        .args(["scheduler", "--no-dashboard", "--host", &address])
        .current_dir(folder.path())
        .stderr(Stdio::piped());
    said(running.start(&mut scheduler), "Scheduler at", 1);
    for _ in 0..2 {
        let mut worker = Command::new(&dask);
        worker.args(["worker", &address, "--nthreads", "1", "--no-dashboard", "--local-directory"]).arg(folder.path());
        worker.current_dir(folder.path()).stderr(Stdio::null());
        running.start(&mut worker);
    }
    fits_on_a_cluster(&["--frameworks", "linfa,dask-ml", "--workers", "2", "--dask-scheduler", &address]);
}

fn spark_master() {
    let spark = environment().unwrap().join("spark-mllib/lib");
    let spark = fs::read_dir(spark).unwrap().flatten().find(|e| e.file_name().to_string_lossy().starts_with("python"));
    let spark = spark.unwrap().path().join("site-packages/pyspark");
    let (port, folder) = (free_port().to_string(), tempfile::tempdir().unwrap());
    let class = |class: &str| {
        let mut command = Command::new(spark.join("bin/spark-class"));
        command.arg(format!("org.apache.spark.deploy.{class}"));
        command.env("SPARK_HOME", &spark).env("SPARK_LOCAL_IP", "127.0.0.1").current_dir(folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let url = format!("spark://127.0.0.1:{port}");
    let mut running = Running(Vec::new());
    let mut master = class("master.Master");
    master.args(["--host", "127.0.0.1", "--port", &port, "--webui-port", "0"]);
    said(running.start(&mut master), "I have been elected leader", 1);
    for _ in 0..2 {
        let mut worker = class("worker.Worker");
        worker.args([&url, "--host", "127.0.0.1", "--cores", "1", "--memory", "2g", "--webui-port", "0", "--work-dir"]);
        worker.arg(folder.path().join("work"));
        said(running.start(&mut worker), "Successfully registered with master", 1);
    }
    // The driver's address; it reaches the job, as every variable of Spark does.
    let ground = Ground::new();
    let arguments = ["--frameworks", "linfa,spark-mllib", "--workers", "2", "--spark-master", &url];
    let output = ground.compare(&arguments).env("SPARK_LOCAL_IP", "127.0.0.1").output().unwrap();
    ground.nothing_stays();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{result:#}");
    let (had, agrees) = (&runs(&result)[1]["workers_had"], &result["parity"][0]["agrees"]);
    assert_eq!((had, agrees), (&2.into(), &true.into()), "{result:#}");
}

fn too_long() {
    let ground = Ground::new();
    let (code, result) = ground.run(&["--frameworks", "linfa,dask-ml,spark-mllib", "--time-limit", "3"]);
    assert_eq!((code, &runs(&result)[0]["outcome"]), (Some(3), &"fitted".into()), "{result:#}");
    for run in &runs(&result)[1..] {
        assert!(run["why"].as_str().unwrap().contains("had not ended after 3 s, its limit, and was killed"), "{run:#}");
    }
}

fn too_much_memory() {
    let ground = Ground::new();
    let (code, result) =
        ground.run(&["--frameworks", "linfa,dask-ml,spark-mllib", "--memory", "300", "--workers", "2"]);
    assert_eq!(code, Some(3), "{result:#}");
    for run in &runs(&result)[1..] {
        let why = run["why"].as_str().unwrap();
        // Which of the two comes first is a race: Spark finds its heap too small, or the tree is found too large.
        let killed = why.contains("took more than its 300 MiB of memory and was killed");
        assert!(killed || why.starts_with("ran out of memory"), "{run:#}");
    }
}

/// Waits until a process of this name works in the folder.
fn process_named(ground: &Ground, name: &str) -> String {
    let began = Instant::now();
    loop {
        if let Some(found) = ground.processes().iter().find(|process| process.ends_with(name)) {
            return found.split(' ').next().unwrap().to_owned();
        }
        assert!(began.elapsed() < LIMIT, "no {name} among {:?}", ground.processes());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn killed_in_its_midst() {
    let ground = Ground::new();
    let mut bief = ground.compare(&["--frameworks", "linfa,spark-mllib"]).stdout(Stdio::piped()).spawn().unwrap();
    // Spark's launcher is one too, for a moment.
    process_named(&ground, "java");
    std::thread::sleep(Duration::from_secs(3));
    let java = process_named(&ground, "java");
    assert!(Command::new("kill").args(["-KILL", &java]).status().unwrap().success());
    let mut result = String::new();
    std::io::Read::read_to_string(&mut bief.stdout.take().unwrap(), &mut result).unwrap();
    assert_eq!(bief.wait().unwrap().code(), Some(3));
    ground.nothing_stays();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(runs(&result)[0]["outcome"], "fitted");
    assert!(runs(&result)[1]["why"].as_str().unwrap().starts_with("failed: it ended with exit code 1"), "{result:#}");
}

fn killed_bief() {
    for (signal, code) in [("-KILL", None), ("-INT", Some(130)), ("-TERM", Some(130))] {
        for (framework, process) in [("spark-mllib", "java"), ("dask-ml", "python")] {
            let ground = Ground::new();
            let mut bief = ground.compare(&["--frameworks", framework, "--workers", "2"]).spawn().unwrap();
            process_named(&ground, process);
            std::thread::sleep(Duration::from_millis(1500));
            assert!(!ground.processes().is_empty());
            assert!(Command::new("kill").args([signal, &bief.id().to_string()]).status().unwrap().success());
            assert_eq!(bief.wait().unwrap().code(), code, "{framework} {signal}");
            ground.nothing_stays();
        }
    }
}
