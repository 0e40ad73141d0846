//! `bief demo` as a user runs it, over a copy of the shipped configuration: for pictures of its page, and to measure how
//! soon it shows something.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// How long the demo may take until all of it is computed.
const LIMIT: Duration = Duration::from_secs(600);
/// Records a second that come in beside it.
const RATE: &str = "40";

/// Ended with the value.
pub struct Demo {
    _child: Ended,
    bief: PathBuf,
    folder: PathBuf,
    pub http: String,
    kafka: String,
}

/// A process that is killed with the value.
pub struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    /// With a folder of its own, in which the newest comparison is the documentation's.
    pub fn start(bief: &Path, workspace: &Path, folder: &Path) -> Result<Self> {
        // Paths are from where the file is.
        for name in ["data", "migrations", "aggregates", "ml"] {
            let link = folder.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(workspace.join(name), link)?;
            }
        }
        std::fs::copy(workspace.join("actors.toml"), folder.join("actors.toml"))?;
        let compared = folder.join("var/compare");
        std::fs::create_dir_all(&compared)?;
        std::fs::copy(workspace.join("docs/comparison.json"), compared.join("newest.json"))?;
        let child = Command::new(bief)
            .args(["demo", "--http", "127.0.0.1:0"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Ended(child.with_context(|| format!("cannot run {}", bief.display()))?);
        let mut lines = BufReader::new(child.0.stderr.take().context("no output")?).lines().map_while(Result::ok);
        let told = lines.find_map(|line| {
            let (http, rest) = line.strip_prefix("bief demo: http://")?.split_once(' ')?;
            let kafka = rest.split_once("Kafka at ")?.1.split(',').next()?;
            Some((http.to_owned(), kafka.to_owned()))
        });
        std::thread::spawn(move || lines.for_each(drop));
        let (http, kafka) = told.context("the demo did not tell its addresses")?;
        Ok(Self { _child: child, bief: bief.to_owned(), folder: folder.to_owned(), http, kafka })
    }

    pub fn status(&self) -> Option<Value> {
        let answer = crate::bench::get(&self.http, "/status").ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    pub fn wait_computed(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let status = self.status().unwrap_or_default();
            let aggregates = status["aggregates"].as_array().cloned().unwrap_or_default();
            let waiting: i64 = aggregates.iter().filter_map(|a| a["pending_buckets"].as_i64()).sum();
            let totals = &status["totals"];
            let is_read = totals["lag"] == 0 && totals["applied"].as_i64() > Some(300_000);
            if is_read && waiting == 0 && aggregates.iter().all(|a| a["fresh_as_of"].is_string()) {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                bail!("the demo has not computed all in {} s: {waiting} buckets wait", LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Records of some kinds that become dead letters; how many.
    pub fn spoil(&self) -> Result<usize> {
        let faults = ["flight,many", "dep_delay,soon", "air_time,99999999999", "origin,Newark"];
        let mut sent = 0;
        for (at, fault) in faults.into_iter().enumerate() {
            let (column, value) = fault.split_once(',').unwrap_or_default();
            let count = [7, 19, 4, 11][at];
            let mut text = String::from("scheduled_departure,carrier,flight,origin,dest,dep_delay,air_time,distance\n");
            for number in 0..count {
                let of = |name: &str, good: String| if name == column { value.to_owned() } else { good };
                writeln!(
                    text,
                    "2013-11-25T1{}:30:00Z,UA,{},{},IAH,{},{},1400",
                    number % 8,
                    of("flight", (100 + number).to_string()),
                    of("origin", "EWR".to_owned()),
                    of("dep_delay", "4".to_owned()),
                    of("air_time", "190".to_owned()),
                )?;
                sent += 1;
            }
            let file = self.folder.join(format!("spoilt-{at}.csv"));
            std::fs::write(&file, text)?;
            let mut replay = self.command("replay")?;
            replay.arg(&file).args(["--to", "flights"]);
            shell::run(&mut replay)?;
        }
        Ok(sent)
    }

    /// The shipped flights, once more, slowly; until the value is dropped.
    pub fn flow(&self) -> Result<Ended> {
        let mut replay = self.command("replay")?;
        replay.args(["--topic", "flights", "--rate", RATE]);
        Ok(Ended(replay.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// A model for each forecast, from what is cached; until it has forecast.
    pub fn train(&self) -> Result<()> {
        shell::run(&mut self.command("train")?)?;
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let answer = crate::bench::get(&self.http, "/api/v1/forecasts")?;
            let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").context("no answer")?.1)?;
            if told["forecasts"].as_array().is_some_and(|all| all.iter().all(|one| one["made_from"].is_string())) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        bail!("nothing was forecast in {} s", LIMIT.as_secs())
    }

    /// A command over what the demo has: its broker, its warehouse, its cache.
    fn command(&self, name: &str) -> Result<Command> {
        let mut config: toml::Table = std::fs::read_to_string(self.folder.join("actors.toml"))?.parse()?;
        let url = |file: &str| format!("sqlite://{}", self.folder.join("var/demo").join(file).display());
        for (section, key, value) in [
            ("kafka", "brokers", self.kafka.clone()),
            ("warehouse", "url", url("bief.db")),
            ("cache", "url", url("cache.db")),
        ] {
            let section = config.get_mut(section).and_then(toml::Value::as_table_mut);
            section.context("a section is missing")?.insert(key.to_owned(), value.into());
        }
        let path = self.folder.join("beside.toml");
        std::fs::write(&path, config.to_string())?;
        let mut command = Command::new(&self.bief);
        command.arg(name).arg("-c").arg(path).current_dir(&self.folder);
        Ok(command)
    }
}
