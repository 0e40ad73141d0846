//! A demo that goes on after its history.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::bief;
use crate::running::Running;

/// A demo that goes on.
pub struct Demo {
    running: Running,
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Demo {
    /// Starts one in a folder of its own, with programs to be found in `path` alone; waits for its address.
    pub fn start(path: &std::path::Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(["demo", "--http", "127.0.0.1:0", "--folder"]).arg(folder.path().join("demo")).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("PATH", path);
        let running = Running::start(&mut command);
        let line = running.wait_for("http://");
        let address = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { running, address, _folder: folder }
    }

    pub fn wait_for(&self, wanted: &str) -> String {
        self.running.wait_for(wanted)
    }

    /// Waits for its end by itself; exit code and what it said on stdout.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let (child, mut said) = (&mut self.running.child, String::new());
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code(), said)
    }

    /// Interrupts it, and answers with its exit code.
    pub fn interrupt(mut self) -> Option<i32> {
        let child = &mut self.running.child;
        rustix::process::kill_process(Pid::from_child(child), Signal::INT).unwrap();
        child.wait().unwrap().code()
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
    assert_eq!(series_that_are_not_told(&demo), EVENTFUL);
    assert_eq!(demo.interrupt(), Some(0));
}

/// Of what dashboards and rules ask for, what a daemon tells only once it has happened: an actor came up again, and there is
/// a model, which these few records are not enough for; what tells of models is looked at by the browser's tests of them.
const EVENTFUL: [&str; 5] = [
    "bief_actor_restarts_total",
    "bief_forecast_drifted",
    "bief_forecast_holdout_mae",
    "bief_forecast_live_mae",
    "bief_forecast_window_scored",
];

/// Families of bief's own that Grafana's dashboards or Prometheus's rules name and this daemon does not tell.
fn series_that_are_not_told(demo: &Demo) -> Vec<String> {
    let told = ureq::get(&format!("{}/metrics", demo.address)).call().unwrap().body_mut().read_to_string().unwrap();
    let told: BTreeSet<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let name = regex::Regex::new(r"\bbief_[a-z_]+[a-z]").unwrap();
    let mut asked = BTreeSet::new();
    for folder in ["grafana/dashboards", "grafana/prometheus"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let text = std::fs::read_to_string(file).unwrap();
            asked.extend(name.find_iter(&text).map(|found| found.as_str().to_owned()));
        }
    }
    assert!(asked.len() > 30, "{asked:?}");
    let parts = ["_bucket", "_sum", "_count"];
    asked.retain(|name| {
        let family = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        !told.contains(name.as_str()) && !told.contains(family)
    });
    asked.into_iter().collect()
}

#[test]
fn where_no_browser_can_be_opened_the_demo_says_so_and_an_early_interrupt_drains_it() {
    let nothing = tempfile::tempdir().unwrap();
    let demo = Demo::start(nothing.path(), &["--rows", "100", "--open"]);
    let told = demo.wait_for("no browser could be opened");
    assert!(told.contains(&format!("open {}/", demo.address)), "{told}");
    assert_eq!(demo.interrupt(), Some(0));
}
