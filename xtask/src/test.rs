//! `cargo xtask test`: all tests, with the servers they need. Whatever ends it, no server outlives it.

use std::io::BufReader;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::drill;
use crate::interrupt;
use crate::servers::guard::signal_group;
use crate::servers::{Durability, Kind, Servers};
use crate::shell;

/// What is always asked of cargo. The failpoints are compiled in for tests alone.
const CARGO: [&str; 4] = ["test", "--workspace", "--features", "bief/failpoints"];

/// Programs without which some tests pass without asking anything, and what these are about.
const PROGRAMS: [(&str, &str); 4] = [
    ("tmux", "`bief top` in a terminal"),
    ("node", "the page's scripts"),
    ("promtool", "the alerting rules"),
    ("python3", "jobs of `bief compare` that misbehave"),
];

/// The first Node with the timers that the page's scripts are tested by, as `src/http/script_tests.rs` has it.
const OLDEST_NODE: (u32, u32) = (20, 11);

/// How long tests may take to end after a signal before they are killed.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Why the Node that is installed does not do.
fn node_hindrance() -> Option<String> {
    let told = shell::output(Command::new("node").arg("--version")).unwrap_or_default();
    let mut numbers = told.trim().trim_start_matches('v').split('.').map_while(|number| number.parse().ok());
    let version = numbers.next().zip(numbers.next());
    let (major, minor) = OLDEST_NODE;
    match version {
        Some(version) if version >= OLDEST_NODE => None,
        Some(_) => Some(format!("it is {} and not {major}.{minor} or newer", told.trim())),
        None => Some("its version cannot be told".to_owned()),
    }
}

/// Runs the tests; `arguments` go to `cargo test`. Returns cargo's exit code.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let start = Instant::now();
    let interrupted = interrupt::watch()?;
    let given = |kind: &Kind| std::env::var(kind.variable()).ok().filter(|address| !address.is_empty());
    let none_given = Kind::ALL.iter().all(|kind| given(kind).is_none());

    let cache = Cache::open()?;
    let (mut missing, mut without) = (Vec::new(), String::new());
    for kind in Kind::ALL {
        match (given(&kind), kind.hindrance()) {
            // It may hold a password.
            (Some(_), _) => eprintln!("{kind:?}: the one that {} names", kind.variable()),
            (None, None) => {
                eprintln!("{kind:?}: a fresh one, by the cache in {}", cache.root().display());
                missing.push(kind);
            }
            (None, Some(why)) => {
                eprintln!("{kind:?}: LEFT OUT, with the tests that need it: {why}");
                without += &format!("; without {kind:?}: {why}");
            }
        }
    }
    if let Some(why) = browser_hindrance() {
        eprintln!("Browser: LEFT OUT, with the tests of the page in one: {why}");
        without += &format!("; without a browser: {why}");
    }
    let promtool = cache.root().join("promtool");
    let fetched = promtool.join("promtool").exists();
    for (program, tests) in PROGRAMS {
        let why = match program {
            "promtool" if fetched => None,
            "node" if shell::is_installed(program) => node_hindrance(),
            _ => (!shell::is_installed(program)).then(|| "it is not installed".to_owned()),
        };
        if let Some(why) = why {
            eprintln!("{program}: LEFT OUT, with what is tested by it, {tests}: {why}");
            without += &format!("; without {program} ({why}): {tests} untested");
        }
    }
    eprintln!("Frameworks of `bief compare`: LEFT OUT, since they are a matter of cargo xtask test --ml");
    let servers = Servers::start(&cache, &missing, Durability::Lean, &interrupted)?;
    let mut cargo = shell::cargo();
    cargo.args(CARGO).args(arguments);
    if fetched {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([promtool]);
        cargo.env("PATH", std::env::join_paths(folders).context("PATH has a folder with a colon")?);
    }
    let mut with = Vec::new();
    for running in servers.running() {
        eprintln!("started {}", running.version);
        cargo.envs(running.variables.iter().map(|(name, value)| (name, value)));
        with.push(running.version.clone());
    }
    with.extend(Kind::ALL.iter().filter(|kind| given(kind).is_some()).map(|kind| format!("{kind:?} of your own")));
    eprintln!("running cargo {} {}", CARGO.join(" "), arguments.join(" "));

    let child = servers.guard().start_group("tests", &cargo, Stdio::piped())?;
    let (status, tally) = wait(child, &interrupted)?;
    let whole = status.success() && arguments.iter().all(|a| a == "--locked");
    let drilled = match none_given {
        true if whole => {
            eprintln!("a short drill, every kind of fault");
            Some(short_drill(&servers, &interrupted)?)
        }
        _ => None,
    };
    let drill = match &drilled {
        Some(Ok(())) => "; a drill of every kind of fault".to_owned(),
        Some(Err(why)) => format!("; the DRILL FAILED: {why}"),
        None if whole => "; NO DRILL, since it would kill the servers that BIEF_TEST_… names".to_owned(),
        None => String::new(),
    };
    let passed = status.success() && drilled.is_none_or(|outcome| outcome.is_ok());
    if !passed && !interrupted.load(Ordering::Relaxed) {
        // Their logs go with them, and the room that they took. Tests that kill and starve servers leave errors there too.
        match servers.guard().complaints() {
            Ok(lines) => lines.iter().for_each(|line| eprintln!("in the log of {line}")),
            Err(error) => eprintln!("the servers' logs cannot be read: {error:#}"),
        }
        let mut room = Command::new("df");
        if let Err(error) = room.arg("-h").arg(servers.guard().folder()).status() {
            eprintln!("df, which tells the disk's room, cannot be run: {error}");
        }
    }
    let folder = servers.guard().folder().to_path_buf();
    drop(servers);
    let ended = if folder.exists() { "some servers DID NOT END" } else { "all servers ended" };
    eprintln!(
        "{}: {tally} in {:.0} s, with {}{without}{drill}; {ended}",
        if passed { "passed" } else { "FAILED" },
        start.elapsed().as_secs_f64(),
        with.join(", "),
    );
    Ok(exit_code(status, passed, interrupted.load(Ordering::Relaxed)))
}

/// What the page can't be tested for. As `tests/browser/driver.rs` looks for both.
fn browser_hindrance() -> Option<String> {
    let there = |variable: &str, names: &[&str]| {
        std::env::var_os(variable).is_some_and(|value| !value.is_empty())
            || names.iter().any(|name| shell::is_installed(name))
    };
    if !there("BIEF_TEST_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]) {
        return Some("no chromium (Debian: apt-get install chromium)".to_owned());
    }
    let driver = there("BIEF_TEST_CHROMEDRIVER", &["chromedriver"]);
    (!driver).then(|| "no chromedriver (Debian: apt-get install chromium-driver)".to_owned())
}

/// On the servers that the tests are done with, since it kills them; only those of ours.
fn short_drill(servers: &Servers, interrupted: &AtomicBool) -> Result<Result<(), String>> {
    let options = [format!("--faults={}", drill::SHORT), "--json".to_owned()];
    let held = drill::hold(&drill::built_by_tests()?, servers, Kind::Mysql, &options, interrupted)?;
    Ok(drill::judge(&held))
}

/// Shows what the tests print and counts them until cargo ends or a signal ends it.
fn wait(mut child: Child, interrupted: &AtomicBool) -> Result<(ExitStatus, Tally)> {
    let output = child.stdout.take().context("cargo has no output")?;
    let counting = std::thread::spawn(move || {
        let mut tally = Tally::default();
        shell::pass_on(BufReader::new(output), |line| tally.add(line));
        tally
    });
    let mut told: Option<Instant> = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        match told {
            None if interrupted.load(Ordering::Relaxed) => {
                eprintln!("interrupted: ending the tests and the servers (once more: at once)");
                signal_group("TERM", child.id());
                told = Some(Instant::now());
            }
            Some(at) if at.elapsed() > END_LIMIT => signal_group("KILL", child.id()),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if told.is_some() {
        // Whatever of cargo's children still holds its output.
        signal_group("KILL", child.id());
    }
    let tally = counting.join().unwrap_or_default();
    Ok((status, tally))
}

/// How many tests came out how, by the lines in which each test program sums up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// `test result: ok. 5 passed; 0 failed; 1 ignored; ...`
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tests passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

fn exit_code(status: ExitStatus, passed: bool, interrupted: bool) -> ExitCode {
    if interrupted {
        return ExitCode::from(interrupt::EXIT_CODE);
    }
    if status.success() && !passed {
        return ExitCode::FAILURE;
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_drill_is_an_interruption_and_a_failed_one_a_failure() {
        let well = ExitStatus::default();
        assert_eq!(exit_code(well, false, true), ExitCode::from(130));
        assert_eq!(exit_code(well, false, false), ExitCode::FAILURE);
        assert_eq!(exit_code(well, true, false), ExitCode::SUCCESS);
    }

    #[test]
    fn the_lines_in_which_test_programs_sum_up_are_added() {
        let mut tally = Tally::default();
        for line in [
            "running 7 tests",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.52s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.0s",
            "test passed ... ok",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 7, failed: 1, ignored: 1 });
    }
}
