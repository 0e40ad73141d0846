//! `bief rebuild`: one aggregate's documents computed anew from nothing, with a progress bar. What a kill left undone the next
//! run does.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};

use super::printable::printable;
use super::support::{fail, load, log_command, owner, print_json};
use super::table::grouped;
use super::{aggregate_names, exit};
use crate::topology::rebuild::{Progress, RebuildError, Rebuilt, rebuild};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief rebuild orders_hourly             after its query was changed
  bief rebuild orders_hourly             once more after a kill: goes on where that was
  bief rebuild orders_hourly --restart   from the beginning all the same

Readers find no documents of buckets that are not done yet. A daemon may run beside it; where the
query was changed, start it anew before, or it goes on with the query that it has read.

Exit codes: 0 done, 1 broken off, 2 configuration, or no such aggregate")]
pub struct Args {
    /// The aggregate
    #[arg(value_name = "NAME")]
    name: String,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Begin anew, even where a rebuild was broken off
    #[arg(long)]
    restart: bool,
    /// No progress bar and no word but errors
    #[arg(short, long)]
    quiet: bool,
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
    if let Err(code) = aggregate_names::known(&loaded.config, std::slice::from_ref(&args.name), args.json) {
        return code;
    }
    let began = Instant::now();
    let mut shown = Shown { quiet: args.quiet, bar: bar(args.quiet), range: None, waits: false };
    let mut told = |progress: &Progress<'_>| shown.tell(progress);
    let owner = owner();
    let asked = rebuild(&loaded.config, (&args.name, &owner), args.restart, &mut told);
    let outcome = super::support::block_on(asked);
    shown.bar.finish_and_clear();
    match outcome {
        Ok(rebuilt) => {
            let seconds = began.elapsed().as_secs_f64();
            if args.json {
                print_json(&Summary { rebuilt: &rebuilt, seconds });
            } else if !args.quiet {
                outln!("{}", text(&rebuilt, seconds));
            }
            exit::OK
        }
        Err(error @ RebuildError::Refused(_)) => {
            fail(args.json, &error.to_string());
            exit::USAGE
        }
        Err(error) => fail(args.json, &error.to_string()),
    }
}

#[derive(serde::Serialize)]
struct Summary<'s> {
    #[serde(flatten)]
    rebuilt: &'s Rebuilt,
    seconds: f64,
}

fn text(rebuilt: &Rebuilt, seconds: f64) -> String {
    let Rebuilt { aggregate, buckets, documents, started_at, went_on } = rebuilt;
    let count = |n: u64| grouped(i64::try_from(n).unwrap_or(i64::MAX));
    let (buckets, documents) = (count(*buckets), count(*documents));
    match went_on {
        false => format!("{aggregate}: {buckets} buckets, {documents} documents, computed in {seconds:.1} s"),
        true => format!(
            "{aggregate}: {buckets} buckets since {}, {documents} documents of them computed in these {seconds:.1} s",
            moment(*started_at)
        ),
    }
}

fn moment(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A bar on a terminal, nothing elsewhere.
fn bar(quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent} % {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// What is on stderr.
struct Shown {
    quiet: bool,
    bar: ProgressBar,
    /// Of the buckets that this run does.
    range: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// That it waits is said once.
    waits: bool,
}

impl Shown {
    fn tell(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Waits { owner, left } if !self.waits => {
                self.waits = true;
                self.say(&format!(
                    "{} rebuilds it, or was killed at it: waiting; a lease that is not renewed ends within {} s",
                    printable(owner),
                    left.as_secs() + 1
                ));
            }
            Progress::Waits { .. } => {}
            Progress::GoesOn(earlier) => self.say(&match earlier.done_until {
                Some(until) => format!(
                    "a rebuild that began at {} was broken off after {} buckets: going on from {}",
                    moment(earlier.started_at),
                    earlier.buckets,
                    moment(until)
                ),
                None => {
                    format!("a rebuild that began at {} was broken off at once: beginning", moment(earlier.started_at))
                }
            }),
            Progress::Range { first, last } => {
                self.range = Some((*first, *last));
                self.bar.set_length((*last - *first).num_seconds().max(1).unsigned_abs());
            }
            Progress::Done { until, buckets } => {
                let first = self.range.map_or(*until, |(first, _)| first);
                self.bar.set_position((*until - first).num_seconds().max(0).unsigned_abs());
                self.bar.set_message(format!("{buckets} buckets, up to {}", moment(*until)));
            }
        }
    }

    fn say(&self, words: &str) {
        if !self.quiet {
            self.bar.suspend(|| errln!("bief: {words}"));
        }
    }
}
