//! `cargo xtask screenshots`: the page of a real demo, each tab in dark and light, into `docs/images/`. The demo runs as a
//! user runs it; some records are sent beside it, so that something comes in and some of it is set aside.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::browser::{Driver, Page};
use crate::shell;

#[derive(Args)]
pub struct Arguments {
    /// A binary to run instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// Where the pictures go.
    #[arg(long, value_name = "FOLDER", default_value = "docs/images")]
    to: PathBuf,
}

/// How long the demo may take until all of it is computed.
const LIMIT: Duration = Duration::from_secs(600);
const WIDTH: u32 = 1280;
/// Of a picture; what is below is more of the same.
const MOST_HEIGHT: f64 = 1400.0;
/// Records a second that come in while pictures are taken.
const RATE: &str = "40";

/// A tab's picture: its name, the view, and what must be there first.
const VIEWS: [(&str, &str, &str); 4] = [
    (
        "live",
        "#live",
        "document.querySelector('.panel-line canvas') && document.querySelectorAll('#records details').length > 9",
    ),
    (
        "explore",
        "#explore?aggregate=departures_hourly&values=flights,mean_dep_delay&by=origin&range=7d",
        "document.querySelectorAll('.explore-chart canvas').length === 2",
    ),
    ("pipeline", "#pipeline", "document.querySelectorAll('.ledger tbody tr').length > 3"),
    ("letters", "#letters", "document.querySelector('#letter mark')"),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let driver = Driver::start().map_err(|why| anyhow!("no pictures can be taken: {why}"))?;
    let taken = take(arguments, &driver);
    driver.end();
    taken
}

fn take(arguments: &Arguments, driver: &Driver) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let bief = match &arguments.bief {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => {
            let built = shell::cargo().args(["build", "--release", "--bin", "bief"]).current_dir(workspace).status();
            ensure!(built.context("cannot run cargo")?.success(), "bief does not build");
            shell::target_folder()?.join("release/bief")
        }
    };
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&bief, workspace, folder.path())?;
    demo.wait_computed()?;
    let spoilt = demo.spoil(&bief, workspace, folder.path())?;
    eprintln!("{spoilt} records that can't be written were sent");
    let _flow = demo.flow(&bief, workspace, folder.path())?;
    let to = workspace.join(&arguments.to);
    std::fs::create_dir_all(&to)?;
    let page = driver.page();
    for scheme in ["light", "dark"] {
        page.prefer(scheme);
        for (name, hash, there) in VIEWS {
            page.size(WIDTH, 900);
            page.open("about:blank");
            page.open(&format!("http://{}/{hash}", demo.http));
            page.wait(&format!("{name} there"), there);
            shoot(&page, &to.join(format!("page-{name}-{scheme}.png")))?;
        }
    }
    page.prefer("dark");
    page.size(390, 844);
    page.open("about:blank");
    page.open(&format!("http://{}/#live", demo.http));
    page.wait("live there", VIEWS[0].2);
    shoot(&page, &to.join("page-phone-dark.png"))
}

/// The whole page, down to where it is more of the same.
fn shoot(page: &Page, path: &Path) -> Result<()> {
    // What has just come in is lit up for a moment.
    std::thread::sleep(Duration::from_secs(3));
    let size = page.js("return [innerWidth, document.documentElement.scrollHeight]");
    let (width, height) = (size[0].as_f64().unwrap_or(f64::from(WIDTH)), size[1].as_f64().unwrap_or(MOST_HEIGHT));
    let clip = json!({ "x": 0, "y": 0, "width": width, "height": height.min(MOST_HEIGHT), "scale": 1 });
    let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
    let picture = page.devtools("Page.captureScreenshot", parameters);
    let bytes = unpacked(picture["data"].as_str().context("no picture")?).context("the picture is no base64")?;
    std::fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} ({} KiB)", path.display(), bytes.len() / 1024);
    Ok(())
}

/// Bytes of a text in base64.
fn unpacked(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// `bief demo`; ended with the value.
struct Demo {
    _child: Ended,
    http: String,
    kafka: String,
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    fn start(bief: &Path, workspace: &Path, folder: &Path) -> Result<Self> {
        let child = Command::new(bief)
            .args(["demo", "--http", "127.0.0.1:0", "--folder"])
            .arg(folder.join("demo"))
            .current_dir(workspace)
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
        Ok(Self { _child: child, http, kafka })
    }

    fn status(&self) -> Option<Value> {
        let answer = crate::bench::get(&self.http, "/status").ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn wait_computed(&self) -> Result<()> {
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
    fn spoil(&self, bief: &Path, workspace: &Path, folder: &Path) -> Result<usize> {
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
            let file = folder.join(format!("spoilt-{at}.csv"));
            std::fs::write(&file, text)?;
            let mut replay = self.replay(bief, workspace, folder)?;
            replay.arg(&file).args(["--to", "flights"]);
            shell::run(&mut replay)?;
        }
        Ok(sent)
    }

    /// Records of the shipped weather, once more, slowly; until the value is dropped.
    fn flow(&self, bief: &Path, workspace: &Path, folder: &Path) -> Result<Ended> {
        let mut replay = self.replay(bief, workspace, folder)?;
        replay.args(["--topic", "flights", "--rate", RATE]);
        Ok(Ended(replay.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// `bief replay` to the demo's own broker.
    fn replay(&self, bief: &Path, workspace: &Path, folder: &Path) -> Result<Command> {
        let shipped = std::fs::read_to_string(workspace.join("actors.toml"))?;
        let mut config: toml::Table = shipped.parse()?;
        let kafka = config.get_mut("kafka").and_then(toml::Value::as_table_mut).context("no [kafka]")?;
        kafka.insert("brokers".to_owned(), self.kafka.clone().into());
        // Paths are from where the file is.
        for name in ["data", "migrations", "aggregates"] {
            let link = folder.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(workspace.join(name), link)?;
            }
        }
        let path = folder.join("actors.toml");
        std::fs::write(&path, config.to_string())?;
        let mut command = Command::new(bief);
        command.arg("replay").arg("-c").arg(path);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::unpacked;

    #[test]
    fn base64_is_unpacked_whatever_its_length() {
        assert_eq!(unpacked("YmllZg==").as_deref(), Some(&b"bief"[..]));
        assert_eq!(unpacked("YmllZiE=").as_deref(), Some(&b"bief!"[..]));
        assert_eq!(unpacked("AP8B").as_deref(), Some(&[0, 255, 1][..]));
        assert_eq!(unpacked("?"), None);
    }
}
