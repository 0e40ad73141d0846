//! bief as a process: `replay` to fill the topic, `run` to be measured; seen from outside only.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Setup;
use super::config::TOPIC;
use crate::interrupt;
use crate::servers::kafka;
use crate::shell;

/// A drain is documented to end within 10 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// `bief run`, which ends when the benchmark does.
pub struct Daemon {
    child: Child,
    pub started: Instant,
    /// The most memory that it was ever seen to have resident, in bytes.
    pub peak_rss: u64,
}

impl Daemon {
    pub fn start(setup: &Setup, config: &Path) -> Result<Self> {
        let mut command = Command::new(&setup.bief);
        command.args(["run", "-c"]).arg(config);
        let started = Instant::now();
        let child = setup.servers.guard().start("bief", &command)?;
        Ok(Self { child, started, peak_rss: 0 })
    }

    /// Looks at it: an error when it ended or when the user wants to end; notes its memory.
    pub fn look(&mut self, setup: &Setup) -> Result<()> {
        interrupt::check(&setup.interrupted)?;
        if let Some(status) = self.child.try_wait()? {
            bail!("bief run ended ({status}):\n{}", log(setup, "bief"));
        }
        self.peak_rss = self.peak_rss.max(peak_rss(self.child.id()));
        Ok(())
    }

    /// Ends it as the kernel does when memory is short.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Processor time that it has used so far, seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    /// Asks it to drain and waits for its end.
    pub fn stop(mut self, setup: &Setup) -> Result<()> {
        shell::run(Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "sh", &self.child.id().to_string()]))?;
        let start = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("bief run ended with {status} when asked to drain:\n{}", log(setup, "bief")),
                None if start.elapsed() > DRAIN_LIMIT => bail!("bief run does not end after SIGTERM"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&mut self, setup: &Setup, http: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            self.look(setup)?;
            if get(http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(60) {
                let answer = get(http, "/readyz?verbose").unwrap_or_else(|error| error.to_string());
                bail!("bief run is not ready after 60 s: {answer}\n{}", log(setup, "bief"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The most memory that a process had resident, in bytes: the kernel's own high-water mark, so that nothing between two
/// looks is missed. 0 where it is gone.
pub fn peak_rss(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor time that a process has used so far, seconds. 0 where it is gone.
pub fn cpu_seconds(process: u32) -> f64 {
    cpu_seconds_of(&format!("/proc/{process}/stat"))
}

/// The same by the file in which the kernel tells it.
pub fn cpu_seconds_of(stat: &str) -> f64 {
    // After the name in parentheses: the state is field 3, user and system time 14 and 15, in hundredths.
    let stat = fs::read_to_string(stat).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The process of a server that the benchmark started.
pub fn server_process(setup: &Setup, name: &str) -> Option<u32> {
    let path = setup.servers.guard().folder().join(format!("{name}.pid"));
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

pub fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// An address for the daemon's page that nobody has at the moment.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn log(setup: &Setup, name: &str) -> String {
    let path = setup.servers.guard().folder().join(format!("{name}.log"));
    shell::tail(&fs::read_to_string(path).unwrap_or_default(), 30)
}

/// `bief replay` of the configuration's data into the topic.
pub struct Replay(Child);

impl Replay {
    pub fn start(setup: &Setup, config: &Path, rows: Option<u64>, rate: Option<u64>) -> Result<Self> {
        let mut command = Command::new(&setup.bief);
        command.args(["replay", "-c"]).arg(config).arg("--no-shift");
        for (option, value) in [("--rows", rows), ("--rate", rate)] {
            if let Some(value) = value {
                command.arg(option).arg(value.to_string());
            }
        }
        Ok(Self(setup.servers.guard().start("replay", &command)?))
    }

    /// Whether all is sent; an error when it failed.
    pub fn is_done(&mut self, setup: &Setup) -> Result<bool> {
        interrupt::check(&setup.interrupted)?;
        match self.0.try_wait()? {
            Some(status) if status.success() => Ok(true),
            Some(status) => bail!("bief replay ended with {status}:\n{}", log(setup, "replay")),
            None => Ok(false),
        }
    }

    pub fn wait(mut self, setup: &Setup) -> Result<()> {
        while !self.is_done(setup)? {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// How many records the topic holds, as the broker says it (the replay writes without transactions, and nothing is
/// ever removed).
pub fn records_in_topic(setup: &Setup) -> Result<u64> {
    let mut tool = kafka::tool(&setup.kafka_jars, "org.apache.kafka.tools.GetOffsetShell");
    let text = shell::output(tool.args(["--bootstrap-server", setup.kafka()?, "--topic", TOPIC]))?;
    // TOPIC:PARTITION:END
    let ends: Option<Vec<u64>> = text.lines().map(|line| line.rsplit(':').next()?.trim().parse().ok()).collect();
    let ends = ends.with_context(|| format!("cannot understand the topic's end offsets: {text}"))?;
    Ok(ends.iter().sum())
}

/// Makes the topic, stamping each record with the moment at which the broker appends it.
pub fn create_stamped_topic(setup: &Setup, partitions: i64) -> Result<()> {
    create_topic(setup, TOPIC, partitions, &["--config", "message.timestamp.type=LogAppendTime"])
}

pub fn create_topic(setup: &Setup, topic: &str, partitions: i64, options: &[&str]) -> Result<()> {
    let mut tool = kafka::tool(&setup.kafka_jars, "org.apache.kafka.tools.TopicCommand");
    tool.args(["--bootstrap-server", setup.kafka()?, "--create", "--topic", topic]);
    shell::run(tool.args(["--partitions", &partitions.to_string()]).args(options))
}
