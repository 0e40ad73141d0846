//! The daemons of a drill: `bief run` as children, each with a log of its own. Whatever ends the drill in order ends
//! them too.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::staging::Ground;
use crate::cli::http_client;

/// The counter that tells that the budget of memory was used up.
const MEMORY_WAITED: &str = "bief_memory_waited_seconds_total";
const METRICS_LIMIT: Duration = Duration::from_secs(2);
/// Lines of a log that are shown.
const LAST_WORDS: usize = 8;

pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
    pub name: String,
}

impl Daemon {
    pub fn signal(&self, signal: &str) -> Result<(), String> {
        let script = r#"kill -s "$1" "$2""#;
        let sent = Command::new("sh").args(["-c", script, "sh", signal, &self.child.id().to_string()]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("SIG{signal} could not be sent to {}", self.name)),
        }
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Seconds in which it has not polled since its memory was used up; `None` where it does not answer.
    fn memory_waited(&self) -> Option<f64> {
        let log = self.log();
        let said = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let address = said.filter_map(|line| Some(line.get("http")?.as_str()?.to_owned())).next()?;
        let daemon = http_client::Daemon { url: Some(format!("http://{address}")), config: None };
        let answer = daemon.get("/metrics", METRICS_LIMIT).ok()?;
        let counts = answer.body.lines().filter(|line| line.starts_with(MEMORY_WAITED));
        Some(counts.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum())
    }

    fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that is gone needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All daemons that run, the oldest first.
pub(super) struct Fleet<'a> {
    ground: &'a Ground,
    pub daemons: Vec<Daemon>,
    /// Told to drain; not yet gone.
    leaving: Vec<Daemon>,
    started: usize,
    /// Ends that no fault asked for.
    pub unexpected_ends: Vec<String>,
}

impl<'a> Fleet<'a> {
    pub fn new(ground: &'a Ground) -> Self {
        Self { ground, daemons: Vec::new(), leaving: Vec::new(), started: 0, unexpected_ends: Vec::new() }
    }

    /// Starts one more; `failpoints` as in FAILPOINTS.
    pub fn start(&mut self, failpoints: Option<&str>) -> Result<(), String> {
        self.started += 1;
        let name = format!("daemon-{}", self.started);
        let log = self.ground.folder().join(format!("{name}.log"));
        let output = File::create(&log).map_err(|error| format!("{} cannot be written: {error}", log.display()))?;
        let program = std::env::current_exe().map_err(|error| format!("this program's file is not known: {error}"))?;
        let mut command = Command::new(program);
        command.args(["run", "-c"]).arg(&self.ground.config);
        command.env_remove("FAILPOINTS").env_remove("RUST_LOG").env_remove("BIEF_LOG");
        command.envs(self.ground.environment.iter().map(|(name, value)| (name, value)));
        if let Some(failpoints) = failpoints {
            command.env("FAILPOINTS", failpoints);
        }
        // In the drill's own process group, so that whoever ends that group ends the daemons too.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        self.daemons.push(Daemon { child, log, name });
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) -> String {
        let daemon = self.daemons.remove(at);
        daemon.name.clone()
    }

    /// SIGTERM; the end is noticed by [`Fleet::look`].
    pub fn dismiss(&mut self, at: usize) -> Result<String, String> {
        let daemon = self.daemons.remove(at);
        daemon.signal("TERM")?;
        let name = daemon.name.clone();
        self.leaving.push(daemon);
        Ok(name)
    }

    /// Notices those that ended, and notes the ones that nobody asked to.
    pub fn look(&mut self) {
        let unexpected = &mut self.unexpected_ends;
        self.daemons.retain_mut(|daemon| match daemon.ended() {
            None => true,
            Some(how) => {
                unexpected.push(format!("{} ended by itself ({how})\n{}", daemon.name, last_lines(&daemon.log())));
                false
            }
        });
        self.leaving.retain_mut(|daemon| match daemon.ended() {
            None => true,
            // 75: the drain was cut by its deadline, as a fault may well do.
            Some(how) if ["exit status: 0", "exit status: 75"].contains(&how.as_str()) => false,
            Some(how) => {
                unexpected.push(format!("{} was asked to drain and ended with {how}", daemon.name));
                false
            }
        });
    }

    /// Waits until all that were told to leave are gone; those that are not by then are killed and noted.
    pub fn wait_left(&mut self, limit: Duration) {
        let began = Instant::now();
        while !self.leaving.is_empty() && began.elapsed() < limit {
            self.look();
            std::thread::sleep(Duration::from_millis(20));
        }
        for daemon in self.leaving.drain(..) {
            self.unexpected_ends.push(format!("{} did not end within {} s of SIGTERM", daemon.name, limit.as_secs()));
        }
    }

    /// Seconds in which the daemons that run have waited for memory, as they count it.
    pub fn memory_waited(&self) -> f64 {
        self.daemons.iter().filter_map(Daemon::memory_waited).sum()
    }

    /// How often the logs of the daemons that run have these words.
    pub fn mentions(&self, words: &str) -> usize {
        self.daemons.iter().map(|daemon| daemon.log().matches(words).count()).sum()
    }

    /// What each daemon last warned of.
    pub fn last_words(&self) -> String {
        let told = self.daemons.iter().map(|daemon| format!("{}:\n{}", daemon.name, last_lines(&daemon.log())));
        told.collect()
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("\"INFO\"")).collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].iter().map(|line| format!("  {}\n", line.trim())).collect()
}
