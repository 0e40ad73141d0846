//! A program that runs beside the daemon, within limits of time and memory, and of which nothing stays: when it ends, is
//! cancelled, or the daemon dies, even by SIGKILL, every descendant is killed, those too that forked twice and called
//! setsid. Must never trust what the program prints, and hands it no variable of the environment that is not named.
//!
//! Between the daemon and the program stands the [`guardian`], this same binary under a hidden command: it is the
//! subreaper of all that the program starts, measures it, and kills it when its standard input, a pipe that only the
//! daemon holds, is closed. Where the guardian itself is killed the kernel kills the program, and the daemon those of its
//! descendants that are left, which it knows by a variable that they inherited: one that has cleared its environment stays.
//! Where guardian and daemon are both killed, nobody is left who could: the program dies, what it had started may stay.
//!
//! Memory is the sum over all processes of the proportional set size (`Pss` in `/proc/PID/smaps_rollup`), or of the
//! resident one where that cannot be read. It is looked at every [`SAMPLED_EVERY`], at first oftener: the resident sizes
//! each time, the proportional ones seldom, and what the resident ones have grown by since is added (`child/meter.rs`). So
//! a peak between two looks is not seen, and pages that came since the last exact reading and are shared count more than
//! once until the next. No tree is killed for its memory but by an exact reading. Each process is held below the same limit
//! by RLIMIT_DATA, so that one that asks for too much at once is refused it at once.

pub mod guardian;
mod meter;
mod tree;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use tree::Memory;

/// How often the memory of the tree is looked at: often enough for what allocates gigabytes.
const SAMPLED_EVERY: Duration = Duration::from_millis(100);
/// A longer line is no message.
const LONGEST_LINE: usize = 64 << 10;
/// What is kept of the standard error.
const STDERR_KEPT: usize = 16 << 10;
/// Lines that wait for whoever reads them; then the program waits.
const LINES_WAITING: usize = 256;
/// How long the guardian may take to end what it guards before it is killed itself.
const END_LIMIT: Duration = Duration::from_secs(15);
/// The variable by which descendants are known that have no guardian any more, unless they cleared their environment.
const MARK: &str = "BIEF_CHILD";

/// What is run, and within what.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// All of it; nothing else of the daemon's own.
    pub environment: Vec<(OsString, OsString)>,
    pub folder: PathBuf,
    pub limits: Limits,
    /// This binary; `/proc/self/exe` unless told otherwise, which stays true when the file is replaced.
    pub guardian: PathBuf,
}

/// What a child may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub time: Duration,
    /// Bytes of the whole process tree.
    pub memory: Option<u64>,
    /// Added to the daemon's niceness.
    pub nice: u8,
}

/// The path of the running binary that outlives its file.
pub fn own_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// A line of the standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Text(String),
    /// Too long, or not UTF-8: its first bytes, for people.
    Broken {
        why: &'static str,
        begins: String,
    },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code; 127 where it could not be started.
    Exit(i32),
    /// By a signal that was not ours: someone's, or the kernel's for want of memory.
    Signal(i32),
    TimeLimit,
    MemoryLimit,
    Cancelled,
    /// The guardian was killed, and then all that it guarded.
    Lost,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    pub ended: Ended,
    pub limits: Limits,
    /// From before its start to its end.
    pub wall: Duration,
    /// Of all processes that were waited for.
    pub cpu: Duration,
    /// The highest of the whole tree that was found.
    pub peak_memory: Memory,
    /// Processes that still ran when the program itself had ended, by name; they were killed.
    pub left_behind: Vec<String>,
    /// Processes that could not be killed.
    pub unkilled: Vec<String>,
    /// The end of what it said on its standard error.
    pub stderr: String,
}

impl Report {
    /// It ended by itself with 0.
    pub fn is_well(&self) -> bool {
        self.ended == Ended::Exit(0)
    }

    /// In one line, for people.
    pub fn describe(&self) -> String {
        let mut text = match self.ended {
            Ended::Exit(code) => format!("ended with exit code {code}"),
            Ended::Signal(9) => "was killed (SIGKILL) by someone else, or by the kernel for want of memory".to_owned(),
            Ended::Signal(signal) => format!("was ended by signal {signal}"),
            Ended::TimeLimit => {
                format!("had not ended after {} s, its limit, and was killed", self.limits.time.as_secs_f64())
            }
            Ended::MemoryLimit => {
                let limit = self.limits.memory.unwrap_or_default();
                format!("took more than its {} MiB of memory and was killed", limit >> 20)
            }
            Ended::Cancelled => "was cancelled and killed".to_owned(),
            Ended::Lost => "lost its guardian, which someone killed, and was killed".to_owned(),
        };
        text += &format!(" after {:.1} s", self.wall.as_secs_f64());
        if !self.left_behind.is_empty() {
            text += &format!("; it left processes behind, which were killed: {}", self.left_behind.join(", "));
        }
        if !self.unkilled.is_empty() {
            text += &format!("; these could not be killed: {}", self.unkilled.join(", "));
        }
        text
    }
}

/// Runs it to its end. Each line of its standard output goes to `line`. Where the future is dropped the program is killed
/// all the same.
///
/// # Errors
/// The guardian could not be started.
pub async fn run(spec: &ChildSpec, cancel: &CancellationToken, mut line: impl FnMut(Line)) -> io::Result<Report> {
    let began = Instant::now();
    let mut started = Started::start(spec)?;
    let mut verdict = None;
    let time_limit = tokio::time::sleep(spec.limits.time);
    tokio::pin!(time_limit);
    loop {
        tokio::select! {
            // The limit first: of a program that never stops talking there is always a next line.
            biased;
            () = cancel.cancelled() => {
                verdict = Some(Ended::Cancelled);
                break;
            }
            () = &mut time_limit => {
                verdict = Some(Ended::TimeLimit);
                break;
            }
            next = started.lines.recv() => match next {
                Some(next) => line(next),
                None => break,
            },
        }
    }
    // Its output may be closed while it still runs.
    if verdict.is_none() {
        tokio::select! {
            biased;
            end = &mut started.end => return Ok(report(spec, began, end.ok(), None)),
            () = cancel.cancelled() => verdict = Some(Ended::Cancelled),
            () = &mut time_limit => verdict = Some(Ended::TimeLimit),
        }
    }
    drop(started.hold.take());
    let end = match tokio::time::timeout(END_LIMIT, &mut started.end).await {
        Ok(end) => end.ok(),
        Err(_) => {
            started.kill_guardian();
            tokio::time::timeout(END_LIMIT, &mut started.end).await.ok().and_then(Result::ok)
        }
    };
    Ok(report(spec, began, end, verdict))
}

fn report(spec: &ChildSpec, began: Instant, end: Option<End>, verdict: Option<Ended>) -> Report {
    let End { account, swept, unkilled, stderr } = end.unwrap_or_default();
    let lost = account.is_none();
    let account = account.unwrap_or_default();
    let by_itself = match (account.over_memory, account.signal, account.code) {
        (true, ..) => Ended::MemoryLimit,
        (_, Some(signal), _) => Ended::Signal(signal),
        (_, _, Some(code)) => Ended::Exit(code),
        _ if lost => Ended::Lost,
        _ => Ended::Cancelled,
    };
    Report {
        ended: verdict.unwrap_or(by_itself),
        limits: spec.limits,
        wall: began.elapsed(),
        cpu: Duration::from_secs_f64(account.cpu_seconds),
        peak_memory: account.peak_memory,
        left_behind: account.left_behind.into_iter().chain(swept).collect(),
        unkilled: account.unkilled.into_iter().chain(unkilled).collect(),
        stderr,
    }
}

/// What is known when the guardian has ended.
#[derive(Default)]
struct End {
    /// `None` where the guardian did not live to write it.
    account: Option<guardian::Account>,
    /// What the guardian had left, by name; killed.
    swept: Vec<String>,
    unkilled: Vec<String>,
    stderr: String,
}

/// A guardian that runs. When `hold` is dropped, with this or before, it kills what it guards.
struct Started {
    lines: mpsc::Receiver<Line>,
    end: oneshot::Receiver<End>,
    hold: Option<std::process::ChildStdin>,
    pid: u32,
}

impl Started {
    fn start(spec: &ChildSpec) -> io::Result<Self> {
        let mark = Uuid::new_v4().to_string();
        let folder = tempfile::Builder::new().prefix("bief-child-").tempdir()?;
        let account = folder.path().join("account.json");
        let mut command = Command::new(&spec.guardian);
        command.arg("child-exec").arg("--account").arg(&account);
        if let Some(memory) = spec.limits.memory {
            command.arg("--memory").arg(memory.to_string());
        }
        command.arg("--nice").arg(spec.limits.nice.to_string()).arg("--").arg(&spec.program).args(&spec.arguments);
        command.env_clear().envs(spec.environment.iter().cloned()).env(MARK, &mark).current_dir(&spec.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guardian = command.spawn()?;
        let pid = guardian.id();
        let (hold, stdout, stderr) = (guardian.stdin.take(), guardian.stdout.take(), guardian.stderr.take());
        let (to_lines, lines) = mpsc::channel(LINES_WAITING);
        let (to_end, end) = oneshot::channel();
        if let Some(stdout) = stdout {
            std::thread::Builder::new().name("child-stdout".to_owned()).spawn(move || pass_lines(stdout, &to_lines))?;
        }
        let (to_tail, tail) = std::sync::mpsc::sync_channel(1);
        if let Some(stderr) = stderr {
            let read = move || drop(to_tail.send(tail_of(stderr)));
            std::thread::Builder::new().name("child-stderr".to_owned()).spawn(read)?;
        }
        std::thread::Builder::new().name("child-end".to_owned()).spawn(move || {
            // Its status tells nothing that the account does not.
            let _ = guardian.wait();
            let (swept, unkilled) = tree::sweep(&format!("{MARK}={mark}"));
            let account = std::fs::read(&account).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            // Closed by now: nobody is left who holds it, unless it could not be killed.
            let stderr = tail.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
            drop(folder);
            let _ = to_end.send(End { account, swept, unkilled, stderr });
        })?;
        Ok(Self { lines, end, hold, pid })
    }

    fn kill_guardian(&mut self) {
        // Nobody has collected it yet, since `end` has not come: the number is its own still.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Lines of at most [`LONGEST_LINE`] bytes, until the end or until nobody reads them.
fn pass_lines(output: impl Read, to: &mpsc::Sender<Line>) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let limit = LONGEST_LINE as u64 + 1;
        if !output.by_ref().take(limit).read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            return;
        }
        let whole = bytes.last() == Some(&b'\n');
        let begins = || String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).trim_end().to_owned();
        let line = if !whole && bytes.len() > LONGEST_LINE {
            let line = Line::Broken { why: "is longer than 64 KiB", begins: begins() };
            if !skip_line(&mut output) {
                return;
            }
            line
        } else {
            match std::str::from_utf8(&bytes) {
                Ok(text) => Line::Text(text.trim_end_matches(['\n', '\r']).to_owned()),
                Err(_) => Line::Broken { why: "is not UTF-8", begins: begins() },
            }
        };
        if to.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Reads to behind the next end of line, keeping nothing.
fn skip_line(output: &mut impl BufRead) -> bool {
    loop {
        let Ok(buffer) = output.fill_buf() else { return false };
        if buffer.is_empty() {
            return true;
        }
        match memchr::memchr(b'\n', buffer) {
            Some(at) => {
                output.consume(at + 1);
                return true;
            }
            None => {
                let all = buffer.len();
                output.consume(all);
            }
        }
    }
}

fn tail_of(mut output: impl Read) -> String {
    let mut kept = VecDeque::with_capacity(STDERR_KEPT);
    let mut buffer = [0; 8192];
    while let Ok(read) = output.read(&mut buffer)
        && read > 0
    {
        kept.extend(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_KEPT));
    }
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Line> {
        let (to, mut from) = mpsc::channel(100);
        pass_lines(bytes, &to);
        std::iter::from_fn(|| from.try_recv().ok()).collect()
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_is_told_as_broken_and_the_next_is_read() {
        let mut bytes = vec![b'x'; LONGEST_LINE + 100];
        bytes.extend(b"\nfine\r\n\xff\xfe\nlast without an end");
        let read = lines(&bytes);
        assert!(matches!(&read[0], Line::Broken { why: "is longer than 64 KiB", begins } if begins.len() == 80));
        assert_eq!(read[1], Line::Text("fine".to_owned()));
        assert!(matches!(&read[2], Line::Broken { why: "is not UTF-8", .. }));
        assert_eq!(read[3..], [Line::Text("last without an end".to_owned())]);
    }

    #[test]
    fn a_line_of_the_longest_length_is_whole() {
        let mut bytes = vec![b'x'; LONGEST_LINE];
        bytes.extend(b"\nnext\n");
        let read = lines(&bytes);
        assert_eq!(read, [Line::Text("x".repeat(LONGEST_LINE)), Line::Text("next".to_owned())]);
    }

    #[test]
    fn of_the_standard_error_the_end_is_kept() {
        let mut bytes = vec![b'a'; 3 * STDERR_KEPT];
        bytes.extend(b"the cause");
        let tail = tail_of(&bytes[..]);
        assert_eq!(tail.len(), STDERR_KEPT);
        assert!(tail.ends_with("athe cause"));
    }
}
