//! Programs that run beside the daemon: one that hangs, is killed, takes too much, prints garbage, or leaves processes
//! behind ends in a clear report, and nothing of it stays, whatever becomes of the daemon or of the guardian between.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bief::runtime::child::{ChildSpec, Ended, Limits, Line, Report, run};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(30);

/// What a program that does not end by itself is given: a starved machine may need seconds to start its shell.
const SHORT: Duration = Duration::from_secs(5);

/// Names the folder to the process that stands for a daemon.
const STAND_IN: &str = "BIEF_TEST_STAND_IN";

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn spec(&self, script: &str) -> ChildSpec {
        spec(self.0.path(), script)
    }

    /// Numbers that the script has written into `pids`, once there are as many.
    fn pids(&self, count: usize) -> Vec<u32> {
        pids(self.0.path(), count)
    }
}

fn spec(folder: &Path, script: &str) -> ChildSpec {
    ChildSpec {
        program: "/bin/sh".into(),
        arguments: ["-c", script].map(OsString::from).to_vec(),
        environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        folder: folder.to_owned(),
        limits: Limits { time: LIMIT, memory: None, nice: 0 },
        guardian: PathBuf::from(env!("CARGO_BIN_EXE_bief")),
    }
}

fn pids(folder: &Path, count: usize) -> Vec<u32> {
    let mut found = Vec::new();
    until("its processes have told their numbers", || {
        let text = fs::read_to_string(folder.join("pids")).unwrap_or_default();
        found = text.lines().filter_map(|line| line.parse().ok()).collect();
        found.len() == count
    });
    found
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn none_alive(pids: &[u32]) {
    let alive: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(alive.is_empty(), "still alive: {alive:?}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn run_to_end(spec: &ChildSpec) -> (Report, Vec<Line>) {
    let mut lines = Vec::new();
    let report = block_on(run(spec, &CancellationToken::new(), |line| lines.push(line))).unwrap();
    (report, lines)
}

/// Two that leave: one into the background, one by a second fork and a session of its own.
const LEAVERS: &str = "
    sleep 1000 & echo $! >> pids
    (setsid sh -c 'echo $$ >> pids; exec sleep 1000' &)
    while [ \"$(wc -l < pids)\" -lt 2 ]; do sleep 0.01; done
";

#[test]
fn a_program_that_ends_by_itself_is_told_with_its_lines_and_what_it_took() {
    let ground = Ground::new();
    let (report, lines) = run_to_end(
        &ground.spec("echo one; echo two; echo why >&2; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 3"),
    );
    assert_eq!(report.ended, Ended::Exit(3), "{report:?}");
    assert_eq!(lines, ["one", "two"].map(|line| Line::Text(line.to_owned())));
    assert_eq!(report.stderr, "why\n");
    assert!(report.cpu > Duration::ZERO && report.cpu < report.wall * 2, "{report:?}");
    assert!(report.left_behind.is_empty() && report.unkilled.is_empty());
    assert!(report.describe().starts_with("ended with exit code 3 after "), "{}", report.describe());
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let ground = Ground::new();
    let (report, _) = run_to_end(&ChildSpec { program: "/nowhere/python".into(), ..ground.spec("") });
    assert_eq!(report.ended, Ended::Exit(127));
    assert!(report.stderr.contains("/nowhere/python cannot be run: No such file"), "{}", report.stderr);
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let ground = Ground::new();
    let mut spec = ground.spec(&format!("{LEAVERS} echo ready; exec sleep 1000"));
    spec.limits.time = SHORT;
    let (report, lines) = run_to_end(&spec);
    assert_eq!((report.ended.clone(), lines.len()), (Ended::TimeLimit, 1));
    assert!(
        report.describe().starts_with("had not ended after 5 s, its limit, and was killed"),
        "{}",
        report.describe()
    );
    none_alive(&ground.pids(2));
}

/// What this process has in memory.
fn resident() -> u64 {
    let told = fs::read_to_string("/proc/self/statm").unwrap();
    told.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

#[test]
fn a_program_that_floods_its_output_meets_its_limit_and_costs_no_memory() {
    for slowly in [false, true] {
        let ground = Ground::new();
        let mut spec = ground.spec("exec yes 'far more than anyone reads'");
        spec.limits.time = SHORT;
        let (began, before, mut most, mut lines) = (Instant::now(), resident(), 0, 0u64);
        let report = block_on(run(&spec, &CancellationToken::new(), |line| {
            assert_eq!(line, Line::Text("far more than anyone reads".to_owned()));
            if lines.is_multiple_of(1000) {
                most = most.max(resident());
            }
            lines += 1;
            // Who takes its time holds the program up.
            if slowly {
                std::thread::sleep(Duration::from_millis(1));
            }
        }));
        let report = report.unwrap();
        assert_eq!((&report.ended, report.stderr.as_str()), (&Ended::TimeLimit, ""), "{report:?}");
        assert!(
            report.describe().starts_with("had not ended after 5 s, its limit, and was killed after "),
            "{report:?}"
        );
        assert!(began.elapsed() < LIMIT && lines > 100, "{lines} lines in {:?}", began.elapsed());
        // Other tests of this process run meanwhile.
        assert!(most.saturating_sub(before) < 64 << 20, "{lines} lines: {before} bytes became {most}");
    }
}

#[test]
fn a_program_that_floods_its_standard_error_is_told_by_the_end_of_it() {
    let ground = Ground::new();
    let mut spec = ground.spec("exec yes 'why' >&2");
    spec.limits.time = SHORT;
    let before = resident();
    let (report, _) = run_to_end(&spec);
    assert_eq!((report.ended.clone(), report.stderr.len()), (Ended::TimeLimit, 16 << 10));
    assert!(resident().saturating_sub(before) < 64 << 20);
}

#[test]
fn a_program_that_closes_its_output_and_hangs_is_killed_too() {
    let ground = Ground::new();
    let mut spec = ground.spec("exec >&- 2>&-; sleep 1000");
    spec.limits.time = SHORT;
    assert_eq!(run_to_end(&spec).0.ended, Ended::TimeLimit);
}

#[test]
fn a_program_that_is_killed_is_told_and_its_children_die() {
    let ground = Ground::new();
    let (report, _) = run_to_end(&ground.spec(&format!("{LEAVERS} kill -KILL $$")));
    assert_eq!(report.ended, Ended::Signal(9));
    assert_eq!(report.left_behind.len(), 2, "{report:?}");
    none_alive(&ground.pids(2));
}

#[test]
fn a_process_that_asks_for_more_than_the_limit_is_refused_it() {
    let ground = Ground::new();
    // Without an end of line, tail keeps all it reads.
    let mut spec = ground.spec("head -c 1000000000 /dev/zero | tail > /dev/null");
    spec.limits.memory = Some(64 << 20);
    let (report, _) = run_to_end(&spec);
    assert!(!report.is_well(), "{report:?}");
    assert!(report.peak_memory.bytes < 80 << 20, "{report:?}");
}

#[test]
fn processes_that_take_more_than_the_limit_together_are_killed() {
    let ground = Ground::new();
    let one = "(head -c 40000000 /dev/zero; sleep 1000) | tail > /dev/null &";
    let mut spec = ground.spec(&format!("echo $$ > pids; {one} {one} {one} wait"));
    spec.limits.memory = Some(100 << 20);
    let (report, _) = run_to_end(&spec);
    assert_eq!(report.ended, Ended::MemoryLimit, "{report:?}");
    assert!(report.describe().starts_with("took more than its 100 MiB of memory and was killed"));
    assert!(report.peak_memory.bytes > 100 << 20, "{report:?}");
    none_alive(&ground.pids(1));
}

#[test]
fn garbage_is_told_as_garbage() {
    let ground = Ground::new();
    let (report, lines) =
        run_to_end(&ground.spec("head -c 200000 /dev/zero | tr '\\0' 'x'; printf '\\n\\377\\376\\nfine\\n'"));
    assert!(report.is_well());
    assert!(matches!(lines[..], [Line::Broken { .. }, Line::Broken { .. }, Line::Text(_)]), "{lines:?}");
}

#[test]
fn what_a_program_leaves_behind_is_killed_and_named() {
    let ground = Ground::new();
    let (report, _) = run_to_end(&ground.spec(&format!("{LEAVERS} exit 0")));
    assert_eq!(report.ended, Ended::Exit(0));
    assert_eq!(report.left_behind.len(), 2, "{report:?}");
    assert!(report.left_behind.iter().all(|name| name.starts_with("sleep (")), "{report:?}");
    assert!(report.describe().contains("left processes behind, which were killed: sleep ("));
    none_alive(&ground.pids(2));
}

#[test]
fn processes_that_fork_without_end_are_all_killed() {
    let ground = Ground::new();
    let script =
        "spread() { while :; do (setsid sh -c 'echo $$ >> pids; sleep 0.3' &); sleep 0.01; done; }; spread & exit 0";
    let (report, _) = run_to_end(&ground.spec(script));
    assert!(report.is_well() && report.unkilled.is_empty(), "{report:?}");
    let size = fs::metadata(ground.0.path().join("pids")).map_or(0, |file| file.len());
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(fs::metadata(ground.0.path().join("pids")).map_or(0, |file| file.len()), size, "they go on");
}

#[test]
fn at_a_cancel_nothing_stays() {
    let ground = Ground::new();
    let spec = ground.spec(&format!("{LEAVERS} echo ready; exec sleep 1000"));
    let cancel = CancellationToken::new();
    let told = cancel.clone();
    let report = block_on(run(&spec, &cancel, |_| told.cancel())).unwrap();
    assert_eq!(report.ended, Ended::Cancelled);
    none_alive(&ground.pids(2));
}

#[test]
fn where_nobody_waits_any_more_nothing_stays() {
    let ground = Ground::new();
    let spec = ground.spec(&format!("{LEAVERS} echo ready; exec sleep 1000"));
    block_on(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let (cancel, running) = (CancellationToken::new(), spec.clone());
        let work = run(&running, &cancel, |_| _ = tell.take().map(|tell| tell.send(())));
        tokio::select! { _ = work => panic!("it ended"), _ = told => {} }
    });
    let pids = ground.pids(2);
    until("they are gone", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_killed_guardian_leaves_nothing() {
    let ground = Ground::new();
    let (report, _) = run_to_end(&ground.spec(&format!("{LEAVERS} echo $$ >> pids; kill -KILL $PPID; sleep 1000")));
    assert_eq!(report.ended, Ended::Lost, "{report:?}");
    none_alive(&ground.pids(3));
}

#[test]
fn a_program_gets_no_variable_that_is_not_named() {
    let ground = Ground::new();
    let mut spec = ground.spec("env");
    spec.environment.push(("GIVEN".into(), "yes".into()));
    let (_, lines) = run_to_end(&spec);
    let names = lines.iter().map(|line| match line {
        Line::Text(text) => text.split('=').next().unwrap_or_default(),
        Line::Broken { .. } => "broken",
    });
    // The shell has some of its own.
    let mut names: Vec<_> = names.filter(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(name)).collect();
    names.sort_unstable();
    assert_eq!(names, ["BIEF_CHILD", "GIVEN", "PATH"]);
}

#[test]
fn a_daemon_that_is_killed_leaves_nothing() {
    let ground = Ground::new();
    let mut stand_in = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_process_that_stands_for_a_daemon"])
        .env(STAND_IN, ground.0.path())
        .spawn()
        .unwrap();
    // Its child too, and the guardian.
    let pids = ground.pids(4);
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    stand_in.kill().unwrap();
    stand_in.wait().unwrap();
    until("they are gone", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
#[ignore = "run by the test above, as a process of its own"]
fn the_process_that_stands_for_a_daemon() {
    let Some(folder) = std::env::var_os(STAND_IN) else { return };
    let script = format!("{LEAVERS} echo $$ >> pids; echo $PPID >> pids; exec sleep 1000");
    run_to_end(&spec(Path::new(&folder), &script));
}
