//! The demo and the commands on a machine that has nothing but this binary.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;

fn bief(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("FAILPOINTS").env_remove("RUST_LOG");
    command.output().unwrap()
}

fn demo(folder: &std::path::Path, rows: &str) -> Value {
    let folder = folder.join("demo");
    let output = bief(&[
        "demo",
        "--until-caught-up",
        "--json",
        "--rows",
        rows,
        "--http",
        "127.0.0.1:0",
        "--folder",
        folder.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn the_demo_writes_every_record_once_and_works_twice_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut summary = demo(folder.path(), "3000");
        assert!(summary["seconds"].take().as_f64() > Some(0.0));
        let wanted = serde_json::json!({
            "records": { "flights": 3000, "weather": 3000 },
            "rows": { "aircraft": 1434, "airport": 92, "carrier": 15, "flight": 3000, "weather": 3000 },
            "dead_letters": 0,
            "duplicates": 0,
            "gaps": 0,
            "seconds": null,
            "verify": "clean",
        });
        assert_eq!(summary, wanted);
    }
}

#[test]
fn the_demo_replays_the_whole_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let summary = demo(folder.path(), "1000000");
    assert_eq!(summary["records"], serde_json::json!({ "flights": 336_776, "weather": 26_115 }));
    assert_eq!((&summary["dead_letters"], &summary["gaps"]), (&0.into(), &0.into()));
    assert_eq!(summary["verify"], "clean");
    let wanted = serde_json::json!({
        "aircraft": 4043, "airport": 107, "carrier": 16, "flight": 336_776, "weather": 26_115,
    });
    assert_eq!(summary["rows"], wanted);
}

/// A demo that goes on, and what it says on stderr.
struct Demo {
    child: Child,
    said: Receiver<String>,
    address: String,
    _folder: tempfile::TempDir,
}

impl Demo {
    /// Starts one in a folder of its own, with programs to be found in `path` alone; waits for its address.
    fn start(path: &std::path::Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(["demo", "--http", "127.0.0.1:0", "--folder"]).arg(folder.path().join("demo")).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("FAILPOINTS").env_remove("RUST_LOG");
        let mut child = command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut demo = Self { child, said, address: String::new(), _folder: folder };
        let line = demo.wait_for("http://");
        demo.address = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        demo
    }

    /// Waits until it says so, and answers with the line.
    fn wait_for(&self, wanted: &str) -> String {
        let (limit, mut heard) = (Instant::now() + Duration::from_secs(60), Vec::new());
        while let Ok(line) = self.said.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            if line.contains(wanted) {
                return line;
            }
            heard.push(line);
        }
        panic!("{wanted:?} was not said, but {heard:?}")
    }

    /// Interrupts it, and answers with its exit code.
    fn interrupt(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn after_its_history_the_demo_goes_on_with_records_of_the_last_days_and_opens_its_page() {
    let programs = tempfile::tempdir().unwrap();
    let opened = programs.path().join("opened");
    let browser = programs.path().join("xdg-open");
    std::fs::write(
        &browser,
        format!("#!/bin/sh\necho \"$1\" > '{0}.new' && /bin/mv '{0}.new' '{0}'\n", opened.display()),
    )
    .unwrap();
    std::fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let demo = Demo::start(programs.path(), &["--rows", "3000", "--open"]);
    demo.wait_for("records keep coming");
    let limit = Instant::now() + Duration::from_secs(20);
    while !opened.exists() {
        assert!(Instant::now() < limit, "no browser was started");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(std::fs::read_to_string(&opened).unwrap().trim(), format!("{}/", demo.address));

    // Committed records as they come, after all that was sent at once.
    let tap = bief(&["tap", "rows", "--url", &demo.address, "--json", "--limit", "5", "--for", "60"]);
    assert!(tap.status.success(), "{}", String::from_utf8_lossy(&tap.stderr));
    let lines = String::from_utf8(tap.stdout).unwrap();
    let samples: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events = samples.iter().filter(|line| line["type"] == "sample").map(|sample| {
        let payload: Value = serde_json::from_str(sample["payload"].as_str().unwrap()).unwrap();
        let time = payload.get("scheduled_departure").unwrap_or(&payload["observed_at"]).as_str().unwrap().to_owned();
        DateTime::parse_from_rfc3339(&time).unwrap().to_utc()
    });
    let events: Vec<_> = events.collect();
    let now = Utc::now();
    assert_eq!(events.len(), 5, "{lines}");
    assert!(events.iter().all(|at| *at <= now && now - *at < chrono::Duration::hours(40)), "{events:?} at {now}");
    assert_eq!(demo.interrupt(), Some(0));
}

#[test]
fn where_no_browser_can_be_opened_the_demo_says_so_and_an_early_interrupt_drains_it() {
    let nothing = tempfile::tempdir().unwrap();
    let demo = Demo::start(nothing.path(), &["--rows", "100", "--open"]);
    let told = demo.wait_for("no browser could be opened");
    assert!(told.contains(&format!("open {}/", demo.address)), "{told}");
    assert_eq!(demo.interrupt(), Some(0));
}

#[test]
fn every_command_has_examples_in_its_help() {
    let top = String::from_utf8(bief(&["--help"]).stdout).unwrap();
    for command in [
        "demo",
        "run",
        "check",
        "test",
        "replay",
        "verify",
        "status",
        "top",
        "tap",
        "healthcheck",
        "dead-letters",
        "completions",
        "man",
    ] {
        assert!(top.contains(command), "{command} is not in --help");
        let help = String::from_utf8(bief(&[command, "--help"]).stdout).unwrap();
        assert!(help.contains("Example") && help.contains(&format!("bief {command}")), "{command}: {help}");
    }
}

#[test]
fn the_shipped_configuration_passes_its_check() {
    let output = bief(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_real_broker_is_asked_for_where_the_configuration_has_none() {
    let output = bief(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("brokers = \"host:9092\""), "{said}");
}
