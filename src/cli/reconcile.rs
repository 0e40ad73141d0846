//! `bief reconcile`: cached documents beside what the rows come to now; what differs is told and mended.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use uuid::Uuid;

use super::printable::printable;
use super::support::{fail, load, log_command, owner, print_json};
use super::table::grouped;
use super::{aggregate_names, exit};
use crate::actors::reconciler::pass::{Became, Finding, Pass, Tally, reconcile};
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::Config;
use crate::core::differences::{Difference, Kind};
use crate::core::document::{Fields, Value};
use crate::ports::SystemClock;
use crate::topology::refresh_plans;

/// Differences that are shown of an aggregate unless told otherwise.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief reconcile                         a sample of every aggregate
  bief reconcile --all orders_hourly     every bucket of one
  bief reconcile --all --dry-run --json  what differs, for a script; nothing is mended

A daemon may run beside it: what it has in hand at the moment is not told as wrong.

Exit codes: 0 nothing differed, 1 failed, 2 configuration, or no such aggregate, 3 something differed,
mended or not")]
pub struct Args {
    /// Aggregates; all where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Every bucket instead of a sample
    #[arg(long, conflicts_with_all = ["sample", "seed"])]
    all: bool,
    /// How many of the buckets, 0 to 1 [default: that of the configuration]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    sample: Option<f64>,
    /// Draws the same sample again
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Mend nothing
    #[arg(long)]
    dry_run: bool,
    /// Differences that are shown of an aggregate; all are counted
    #[arg(long, value_name = "N", default_value_t = SHOWN)]
    limit: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    number.ok_or_else(|| "write a number above 0 and up to 1, such as 0.1 for one bucket in ten".to_owned())
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(code) = aggregate_names::known(&loaded.config, &args.names, args.json) {
        return code;
    }
    match super::support::block_on(compare(args, &loaded.config)) {
        Ok(report) => {
            if args.json {
                print_json(&report);
            } else {
                out!("{}", report.text());
            }
            if report.differing == 0 { exit::OK } else { exit::FOUND }
        }
        Err(error) => fail(args.json, &error),
    }
}

/// What was compared and what came of it.
#[derive(Debug, Serialize)]
struct Report {
    /// `clean`, or how many documents differ or did.
    reconcile: String,
    sample: f64,
    seed: u64,
    dry_run: bool,
    differing: u64,
    mended: u64,
    remaining: u64,
    aggregates: Vec<AggregateReport>,
}

#[derive(Debug, Serialize)]
struct AggregateReport {
    aggregate: String,
    #[serde(flatten)]
    tally: Tally,
    /// The first ones.
    differences: Vec<serde_json::Value>,
    /// The same for people.
    #[serde(skip)]
    lines: Vec<String>,
}

async fn compare(args: &Args, config: &Config) -> Result<Report, String> {
    let Some(settings) = &config.cache else { return Err("the configuration has no [cache]".to_owned()) };
    let mut source = (warehouse::open_aggregates(&config.warehouse))().await.map_err(|e| e.to_string())?;
    let mut cache = (open_cache(&settings.url))().await.map_err(|e| e.to_string())?;
    let share = if args.all { 1.0 } else { args.sample.unwrap_or(settings.reconcile_sample) };
    let seed = args.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 11);
    let (mut shown, mut tallies) = (BTreeMap::<String, (Vec<_>, Vec<_>)>::new(), BTreeMap::new());
    for (plan, _) in refresh_plans(config, &owner())? {
        let named = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
        let of_plan = plan.aggregates.iter().enumerate();
        let chosen: Vec<usize> = of_plan.filter(|(_, a)| named(&a.query.name)).map(|(at, _)| at).collect();
        if chosen.is_empty() {
            continue;
        }
        let pass = Pass {
            plan: &plan,
            chosen: &chosen,
            share,
            seed,
            mend: !args.dry_run,
            clock: &SystemClock,
            replaced: &|_, _| (),
        };
        let mut told = |finding: &Finding<'_>| {
            let (objects, lines) = shown.entry(finding.aggregate.to_owned()).or_default();
            if objects.len() < args.limit {
                objects.push(serde_json::to_value(finding).unwrap_or_default());
                lines.push(line(finding));
            }
        };
        let counted = reconcile(&pass, source.as_mut(), cache.as_mut(), &mut told).await;
        let counted = counted.map_err(|e| e.to_string())?;
        tallies.extend(chosen.iter().map(|at| plan.aggregates[*at].query.name.clone()).zip(counted));
    }
    let mut all = Tally::default();
    tallies.values().for_each(|tally| all.plus(tally));
    // In the order of the file.
    let aggregates = config.aggregates.iter().filter_map(|aggregate| {
        let tally = tallies.remove(&aggregate.name)?;
        let (differences, lines) = shown.remove(&aggregate.name).unwrap_or_default();
        Some(AggregateReport { aggregate: aggregate.name.clone(), tally, differences, lines })
    });
    Ok(Report {
        aggregates: aggregates.collect(),
        reconcile: match all.differing {
            0 => "clean".to_owned(),
            1 => "1 document differed".to_owned(),
            n => format!("{n} documents differed"),
        },
        sample: share,
        seed,
        dry_run: args.dry_run,
        differing: all.differing,
        mended: all.mended,
        remaining: all.remaining,
    })
}

fn line(finding: &Finding<'_>) -> String {
    let Difference { key, kind } = finding.difference;
    let of = key.as_ref().map_or_else(|| "(the bucket)".to_owned(), named);
    let what = match kind {
        Kind::Missing => "missing from the cache".to_owned(),
        Kind::Surplus if key.is_none() => "a bucket that the table does not have: of another width".to_owned(),
        Kind::Surplus => "computed from no row".to_owned(),
        Kind::Differs { fields } => {
            let told = fields.iter().map(|f| {
                format!("{}: cached {}, computed {}", f.field, value(f.cached.as_ref()), value(f.computed.as_ref()))
            });
            told.collect::<Vec<_>>().join("; ")
        }
    };
    let became = match finding.became {
        Became::Mended => "",
        Became::Remains => " (still so)",
        Became::Left => "",
    };
    let bucket = finding.bucket_start.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    printable(&format!("{bucket} {of}  {what}{became}")).into_owned()
}

fn named(key: &Fields) -> String {
    if key.is_empty() {
        return "(no key)".to_owned();
    }
    let parts = key.iter().map(|(name, of)| format!("{name}={}", value(Some(of))));
    parts.collect::<Vec<_>>().join(" ")
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Integer(n)) => n.to_string(),
        Some(Value::Float(n)) => format!("{n:?}"),
        Some(Value::Text(text)) => text.clone(),
    }
}

impl Report {
    /// For people: a line an aggregate, its differences below.
    fn text(&self) -> String {
        let count = |n: u64| grouped(i64::try_from(n).unwrap_or(i64::MAX));
        let mut out = String::new();
        for AggregateReport { aggregate, tally, lines, .. } in &self.aggregates {
            let Tally { buckets, documents, differing, remaining, pending, unsettled, .. } = *tally;
            out += &format!(
                "{aggregate}: {} buckets with {} documents compared, {} differed\n",
                count(buckets),
                count(documents),
                count(differing)
            );
            lines.iter().for_each(|line| out += &format!("  {line}\n"));
            if differing > lines.len() as u64 {
                out += &format!("  and {} more\n", count(differing - lines.len() as u64));
            }
            if pending > 0 && self.dry_run {
                out += &format!("  {} buckets wait to be computed and were not compared\n", count(pending));
            } else if pending > 0 {
                out += &format!("  {} buckets waited to be computed, and were\n", count(pending));
            }
            if unsettled > 0 {
                out += &format!("  {} buckets kept changing and were not compared\n", count(unsettled));
            }
            if remaining > 0 && !self.dry_run {
                out += &format!(
                    "  {} are as they were, since something of a higher version or of another width is in the way: \
                     run `bief rebuild {aggregate}`\n",
                    count(remaining)
                );
            }
        }
        out += &match (self.differing, self.dry_run) {
            (0, _) => "clean: what was compared is what the rows come to\n".to_owned(),
            (_, true) => format!("{}; nothing was mended\n", self.reconcile),
            (_, false) => format!("{}, {} mended\n", self.reconcile, self.mended),
        };
        if self.sample < 1.0 {
            out += &format!(
                "a sample of {} was drawn with --seed {}; --all compares every bucket\n",
                self.sample, self.seed
            );
        }
        out
    }
}
