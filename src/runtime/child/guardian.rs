//! The process between the daemon and a child: `bief child-exec`. It becomes the subreaper of all that the child starts,
//! so that whoever loses its parent, by two forks and a setsid too, becomes its own child; it measures them, and kills
//! them all when the child has ended, when they take too much memory, at SIGTERM, or when its standard input is closed,
//! which the daemon's end does, whatever ended it. The child itself dies with the guardian (PR_SET_PDEATHSIG).
//! Must never outlive what it guards, nor end before it.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{self, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::SAMPLED_EVERY;
use super::meter::Meter;
use super::tree::{self, Memory, Process};

/// How long what the child started may take to end by itself once the child has: a virtual machine or a pool of workers
/// that notices its parent's end.
const LINGER: Duration = Duration::from_secs(2);
/// When the memory is first looked at; then after twice as long, up to [`SAMPLED_EVERY`], so that a program that ends soon
/// has been looked at too.
const FIRST_SAMPLE: Duration = Duration::from_millis(1);
/// How often it is looked whether all have ended.
const LOOKED_EVERY: Duration = Duration::from_millis(10);
/// What shells answer where a program cannot be run.
const NOT_STARTED: u8 = 127;

/// What the guardian writes when all have ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Account {
    /// How the child ended; neither where it was killed from here.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub over_memory: bool,
    pub cpu_seconds: f64,
    pub peak_memory: Memory,
    pub left_behind: Vec<String>,
    pub unkilled: Vec<String>,
}

/// As `bief child-exec` is called.
#[derive(Debug)]
pub struct Guarded {
    /// Where the account goes.
    pub account: PathBuf,
    /// Bytes of the whole tree, and of each process's data.
    pub memory: Option<u64>,
    pub nice: u8,
    /// Program and arguments.
    pub command: Vec<OsString>,
}

/// The guardian's life. Answers its exit code.
pub fn guard(guarded: &Guarded) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let account = match runtime.and_then(|runtime| runtime.block_on(watch(guarded))) {
        Ok(account) => account,
        Err(error) => {
            errln!("bief: a child cannot be guarded: {error}");
            return NOT_STARTED;
        }
    };
    match write(&guarded.account, &account) {
        Ok(()) => 0,
        Err(error) => {
            errln!("bief: {} cannot be written: {error}", guarded.account.display());
            1
        }
    }
}

async fn watch(guarded: &Guarded) -> io::Result<Account> {
    // A Ctrl-C in the daemon's terminal is the daemon's to handle. Refused to a leader, which is as well.
    let _ = process::setsid();
    let own = process::getpid();
    process::set_child_subreaper(Some(own))?;
    let mut children = signal(SignalKind::child())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut released = when_released()?;
    // In this thread, which lives as long as the guardian: at its end the kernel kills the child.
    let child = enter_later(guarded, own.as_raw_pid()).spawn()?;
    let child = i32::try_from(child.id()).map_err(io::Error::other)?;
    let mut account = Account::default();
    let mut meter = Meter::new(guarded.memory);
    let mut wait = FIRST_SAMPLE;
    let sample = tokio::time::sleep(wait);
    tokio::pin!(sample);
    loop {
        if let Some(status) = collect(child) {
            account.code = status.exit_status();
            account.signal = status.terminating_signal();
            break;
        }
        tokio::select! {
            _ = children.recv() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = &mut released => break,
            () = &mut sample => {
                if meter.is_over(&tree::descendants(own.as_raw_pid())) {
                    account.over_memory = true;
                    break;
                }
                wait = (2 * wait).min(SAMPLED_EVERY);
                sample.as_mut().reset(tokio::time::Instant::now() + wait);
            }
        }
    }
    account.peak_memory = meter.peak();
    let find = || tree::descendants(own.as_raw_pid());
    if account.code.is_some() || account.signal.is_some() {
        let began = Instant::now();
        while began.elapsed() < LINGER && find().iter().any(|process| !process.zombie) {
            tokio::select! {
                () = tokio::time::sleep(LOOKED_EVERY) => { let _ = collect(child); }
                _ = &mut released => break,
            }
        }
        account.left_behind = names(&find());
    }
    let unkilled = tree::kill_all(find, || _ = collect(child));
    account.unkilled = names(&unkilled);
    // A process is gone when all its threads are; only then is its time known.
    let began = Instant::now();
    while account.unkilled.is_empty() && began.elapsed() < LINGER && some_left() {
        std::thread::sleep(LOOKED_EVERY);
    }
    account.cpu_seconds = tree::cpu_of_collected();
    Ok(account)
}

fn names(of: &[Process]) -> Vec<String> {
    of.iter().filter(|process| !process.zombie).map(Process::describe).collect()
}

/// Collects those that have ended; whether there are others.
fn some_left() -> bool {
    loop {
        match process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Ends when the standard input does.
fn when_released() -> io::Result<oneshot::Receiver<()>> {
    let (held, released) = oneshot::channel::<()>();
    std::thread::Builder::new().name("hold".to_owned()).spawn(move || {
        let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
        drop(held);
    })?;
    Ok(released)
}

/// Waits for all that have ended; answers how the child did where it is among them.
fn collect(child: i32) -> Option<WaitStatus> {
    let mut of_child = None;
    while let Ok(Some((pid, status))) = process::wait(WaitOptions::NOHANG) {
        if pid.as_raw_pid() == child {
            of_child = Some(status);
        }
    }
    of_child
}

/// This binary once more, which becomes the child by [`enter`].
fn enter_later(guarded: &Guarded, own: i32) -> Command {
    let mut command = Command::new(super::own_binary());
    command.arg("child-exec").arg("--enter").arg(own.to_string()).arg("--nice").arg(guarded.nice.to_string());
    if let Some(memory) = guarded.memory {
        command.arg("--memory").arg(memory.to_string());
    }
    command.arg("--").args(&guarded.command).stdin(Stdio::null());
    command
}

/// Becomes the child: a session of its own, its limits, the guardian's end as its own. Returns only where it cannot.
pub fn enter(guardian: i32, memory: Option<u64>, nice: u8, command: &[OsString]) -> u8 {
    let Some((program, arguments)) = command.split_first() else {
        errln!("bief: no command");
        return NOT_STARTED;
    };
    if let Err(error) = confine(guardian, memory, nice) {
        errln!("bief: limits cannot be set: {error}");
        return NOT_STARTED;
    }
    let error = Command::new(program).args(arguments).exec();
    errln!("bief: {} cannot be run: {error}", Path::new(program).display());
    NOT_STARTED
}

fn confine(guardian: i32, memory: Option<u64>, nice: u8) -> io::Result<()> {
    process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if process::getppid().map(|parent| parent.as_raw_pid()) != Some(guardian) {
        return Err(io::Error::other("the guardian is gone"));
    }
    process::setsid()?;
    process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if let Some(bytes) = memory {
        process::setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
    }
    if nice > 0 {
        process::nice(i32::from(nice))?;
    }
    // The kernel, short of memory, takes this before the daemon. Not everywhere can it be told.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    Ok(())
}

/// Whole or not at all.
fn write(path: &Path, account: &Account) -> io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec(account)?)?;
    std::fs::rename(partial, path)
}
