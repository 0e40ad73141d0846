//! `bief replay`: CSV files to Kafka with shifted times and a progress bar; what NiFi does, for those who have none.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};

use super::exit;
use super::support::{bootstrap, fail, interrupted, load, log_command, print_json};
use crate::adapters::kafka::producer::ReplayProducer;
use crate::adapters::replay::{self, Options, Pace, Progress, Shift};
use crate::config::Replay;
use crate::ports::SystemClock;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief replay                                      every [[replay]] of actors.toml
  bief replay --topic orders --rate 500            one topic, 500 records a second
  bief replay orders.csv.gz --to orders --no-shift a file of your own, times as they are
  bief replay --speed 60                           a minute of event time each second

Exit codes: 0 all delivered, 1 failed or stopped, 2 configuration")]
pub struct Args {
    /// CSV files, plain or .gz, in place of those of the configuration
    #[arg(value_name = "FILE", requires = "to")]
    files: Vec<PathBuf>,
    /// Topic of the files
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Only the [[replay]]s of this topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "to")]
    topic: Option<String>,
    /// Columns that make the key, for files
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', requires = "to")]
    key: Vec<String>,
    /// The time column of files; it is shifted too
    #[arg(long, value_name = "COLUMN", requires = "to")]
    event_time: Option<String>,
    /// Partitions of the files' topic where it has to be created
    #[arg(long, default_value_t = 4, requires = "to")]
    partitions: i32,
    /// Records a second, over all topics
    #[arg(long, value_name = "N", conflicts_with = "speed")]
    rate: Option<f64>,
    /// Times as fast as it happened
    #[arg(long, value_name = "X")]
    speed: Option<f64>,
    /// Only the first N records of each file
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Leave times as they are, instead of moving them by whole weeks up to the present
    #[arg(long)]
    no_shift: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let outcome = bootstrap(&loaded.config).and_then(|bootstrap| {
        let replays = replays(args, &loaded.config.replays)?;
        let options = Options {
            rows: args.rows,
            pace: match (args.rate, args.speed) {
                (Some(rate), _) => Pace::Rate(rate),
                (None, Some(speed)) => Pace::Speed(speed),
                (None, None) => Pace::Unlimited,
            },
            shift: if args.no_shift { Shift::None } else { Shift::WeeksToNow { now: Utc::now() } },
        };
        let bar = bar();
        let mut progress = |p: &Progress| {
            bar.set_length(p.total);
            bar.set_position(p.delivered);
            if let Some(trouble) = &p.trouble {
                bar.set_message(super::printable::printable(trouble).into_owned());
            }
        };
        let sent = send(&replays, &loaded.config.kafka, bootstrap, &options, &mut progress, &*interrupted()?);
        bar.finish_and_clear();
        sent
    });
    match outcome {
        Err(error) => fail(args.json, &error),
        Ok(sent) => {
            let whole = !sent.cancelled && sent.undelivered == 0;
            if args.json {
                print_json(&serde_json::json!({
                    "records": sent.topics, "undelivered": sent.undelivered, "weeks": sent.days / 7, "seconds": sent.seconds,
                }));
            } else {
                for (topic, records) in &sent.topics {
                    outln!("{topic}: {records} records delivered, times moved by {} weeks", sent.days / 7);
                }
                if !whole {
                    outln!("stopped early; {} records may or may not have arrived", sent.undelivered);
                }
            }
            if whole { exit::OK } else { exit::FAILED }
        }
    }
}

fn replays(args: &Args, configured: &[Replay]) -> Result<Vec<Replay>, String> {
    if let Some(topic) = &args.to {
        if args.files.is_empty() {
            return Err("--to needs the files to send".to_owned());
        }
        let times = args.event_time.iter().cloned().collect::<Vec<_>>();
        let of_file = |file: &PathBuf| Replay {
            topic: topic.clone(),
            file: file.clone(),
            key: args.key.clone(),
            event_time: args.event_time.clone(),
            times: times.clone(),
            partitions: args.partitions,
            lookups: Vec::new(),
        };
        return Ok(args.files.iter().map(of_file).collect());
    }
    let chosen: Vec<Replay> =
        configured.iter().filter(|r| args.topic.as_ref().is_none_or(|t| r.topic == *t)).cloned().collect();
    match (&args.topic, chosen.is_empty()) {
        (_, false) => Ok(chosen),
        (Some(topic), true) => Err(format!("the configuration has no [[replay]] of topic `{topic}`")),
        (None, true) => Err("the configuration has no [[replay]]; name files and --to TOPIC".to_owned()),
    }
}

/// What a replay came to.
#[derive(Debug)]
pub struct Sent {
    pub topics: BTreeMap<String, u64>,
    pub undelivered: u64,
    pub cancelled: bool,
    pub days: i64,
    pub seconds: f64,
}

/// Sends on the calling thread until all is delivered or `cancel` is set.
pub fn send(
    replays: &[Replay],
    kafka: &crate::config::Kafka,
    bootstrap: &str,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
    cancel: &AtomicBool,
) -> Result<Sent, String> {
    let began = Instant::now();
    let mut producer = ReplayProducer::new(kafka, bootstrap).map_err(|e| e.to_string())?;
    // Paths of the configuration start at its folder already.
    let summary = replay::replay(replays, Path::new(""), options, &mut producer, progress, cancel, &SystemClock)
        .map_err(|e| e.to_string())?;
    Ok(Sent {
        topics: summary.topics,
        undelivered: summary.undelivered,
        cancelled: summary.cancelled,
        days: summary.days,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// A bar on a terminal, nothing elsewhere.
pub fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} left {msg}");
    let bar = ProgressBar::new(0);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
