//! `bief offsets`: where each partition stands in the database and at the broker, what is in doubt, and the operator's
//! word on where to go on. Must never set an offset while a daemon consumes, nor without having shown what it does.

use std::io::{BufRead, IsTerminal, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use serde::Serialize;

use super::exit;
use super::printable::printable;
use super::support::{block_on, broker_of, fail, load, print_json};
use super::table::{Align, Table, grouped};
use crate::adapters::warehouse;
use crate::config::{Config, Stream};
use crate::core::doubt::Doubt;
use crate::core::reset::{self, Change, Standing, Step, Target};
use crate::ports::{Bookkeeping, Broker, PartitionOffset, SourceError, TopicStanding, WarehouseError};
use crate::topology::group_of;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief offsets show
  bief offsets reset --topic orders --to accept-loss
  bief offsets reset --topic orders --partition 3 --to 4711 --yes")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A line for each partition: database, broker, lag, doubts
    Show(ShowArgs),
    /// Go on elsewhere; shows what that does and asks first
    Reset(ResetArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  bief offsets show --topic orders --json

Exit codes: 0 nothing in doubt, 1 database or broker can't be asked, 2 configuration, 3 something is in doubt")]
struct ShowArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief offsets reset --topic orders --to accept-loss        what is in doubt goes on where it can
  bief offsets reset --topic orders --to earliest           everything that is there is read again
  bief offsets reset --topic orders --partition 3 --to 4711

What is passed over is counted as a gap and told by `bief verify` as an accepted loss for ever. What is read again
becomes duplicates and updates. Refused while a daemon takes part in the stream's consumer group.

Exit codes: 0 done or nothing to do, 1 failed or refused, 2 command line or configuration")]
struct ResetArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Topic of a stream
    #[arg(long)]
    topic: String,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// earliest, latest, an offset, or accept-loss: what is in doubt goes on at the nearest offset that is there
    #[arg(long, value_name = "TARGET", value_parser = target)]
    to: Target,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn target(text: &str) -> Result<Target, String> {
    match text {
        "earliest" => Ok(Target::Earliest),
        "latest" => Ok(Target::Latest),
        "accept-loss" => Ok(Target::AcceptLoss),
        digits => match digits.parse() {
            Ok(offset) if offset >= 0 => Ok(Target::Offset(offset)),
            _ => Err("write earliest, latest, accept-loss or an offset".to_owned()),
        },
    }
}

pub fn run(args: &Args) -> u8 {
    match &args.command {
        Command::Show(args) => show(args),
        Command::Reset(args) => reset(args),
    }
}

/// One stream's offsets, as `show` tells them.
#[derive(Debug, Serialize)]
struct StreamOffsets {
    stream: String,
    topic: String,
    /// At the broker; empty where it gives none.
    topic_id: String,
    partitions: Vec<PartitionOffsets>,
}

#[derive(Debug, Serialize)]
struct PartitionOffsets {
    partition: i32,
    /// In the database; none where the partition was not read yet.
    next_offset: Option<i64>,
    epoch: Option<i64>,
    low: Option<i64>,
    high: Option<i64>,
    lag: Option<i64>,
    in_doubt: Option<Doubt>,
}

fn show(args: &ShowArgs) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let outcome =
        broker_of(&loaded.config).and_then(|broker| block_on(ask(&loaded.config, &broker, args.topic.as_deref())));
    match outcome {
        Err(error) => fail(args.json, &error),
        Ok(streams) => {
            if args.json {
                print_json(&serde_json::json!({ "streams": streams }));
            } else {
                out!("{}", text(&streams));
            }
            let doubtful = streams.iter().flat_map(|s| &s.partitions).any(|p| p.in_doubt.is_some());
            if doubtful { exit::FOUND } else { exit::OK }
        }
    }
}

async fn ask(config: &Config, broker: &Arc<dyn Broker>, topic: Option<&str>) -> Result<Vec<StreamOffsets>, String> {
    let bookkeeping = open(config).await?;
    let mut streams = Vec::new();
    for stream in config.streams.iter().filter(|s| topic.is_none_or(|t| s.topic == t)) {
        let (recorded, standing) = stand(&*bookkeeping, broker, &stream.topic).await?;
        let doubts = standing.doubts(&recorded);
        let mut all: Vec<i32> =
            standing.partitions.keys().copied().chain(recorded.iter().map(|r| r.partition)).collect();
        all.sort_unstable();
        all.dedup();
        let partitions = all.into_iter().map(|partition| {
            let row = recorded.iter().find(|r| r.partition == partition);
            let bounds = standing.partitions.get(&partition);
            let in_doubt = doubts.iter().find(|d| d.partition == partition).cloned();
            PartitionOffsets {
                partition,
                next_offset: row.map(|r| r.next_offset),
                epoch: row.map(|r| r.epoch),
                low: bounds.map(|b| b.low),
                high: bounds.map(|b| b.high),
                lag: row.zip(bounds).filter(|_| in_doubt.is_none()).map(|(r, b)| (b.high - r.next_offset).max(0)),
                in_doubt,
            }
        });
        streams.push(StreamOffsets {
            stream: stream.name.clone(),
            topic: stream.topic.clone(),
            topic_id: standing.topic_id.clone(),
            partitions: partitions.collect(),
        });
    }
    match (streams.is_empty(), topic) {
        (true, Some(topic)) => Err(no_stream(topic)),
        _ => Ok(streams),
    }
}

fn text(streams: &[StreamOffsets]) -> String {
    let mut out = String::new();
    for stream in streams {
        out += &format!("stream {} (topic {})\n", printable(&stream.stream), printable(&stream.topic));
        let mut table = Table::new(&[
            ("PARTITION", Align::Right),
            ("NEXT", Align::Right),
            ("LOW", Align::Right),
            ("HIGH", Align::Right),
            ("LAG", Align::Right),
            ("STATE", Align::Left),
        ]);
        let number = |n: Option<i64>| n.map_or("-".to_owned(), grouped);
        for p in &stream.partitions {
            let state = match (&p.in_doubt, p.next_offset) {
                (Some(doubt), _) => {
                    format!("IN DOUBT, {}: expected {}, found {}", doubt.kind.as_str(), doubt.expected, doubt.found)
                }
                (None, None) => "not read yet".to_owned(),
                (None, Some(_)) => "ok".to_owned(),
            };
            let cells = [p.next_offset, p.low, p.high, p.lag].map(number);
            table.row([p.partition.to_string()].into_iter().chain(cells).chain([state]));
        }
        out += &table.render();
    }
    if streams.iter().flat_map(|s| &s.partitions).any(|p| p.in_doubt.is_some()) {
        out += "nothing of a stream in doubt is consumed; `bief offsets reset --help` tells how to go on\n";
    }
    out
}

fn reset(args: &ResetArgs) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let config = &loaded.config;
    let asks = !args.yes;
    if asks && !std::io::stdin().is_terminal() {
        errln!("bief: there is no terminal to ask at; --yes goes on without asking");
        return exit::USAGE;
    }
    let Some(stream) = config.streams.iter().find(|s| s.topic == args.topic) else {
        errln!("bief: {}", printable(&no_stream(&args.topic)));
        return exit::USAGE;
    };
    let broker = match broker_of(config) {
        Ok(broker) => broker,
        Err(error) => return fail(args.json, &error),
    };
    let outcome = block_on(async {
        refuse_while_consumed(config, stream, &broker).await?;
        let bookkeeping = open(config).await?;
        let steps = plan(&*bookkeeping, &broker, args).await?;
        steps.iter().for_each(|(step, _)| errln!("{}", describe(step)));
        if steps.is_empty() {
            errln!("nothing to do: no partition is to go on elsewhere");
        } else if asks && !confirmed() {
            return Err("nothing was changed".to_owned());
        } else {
            // A daemon may have come while the question stood.
            refuse_while_consumed(config, stream, &broker).await?;
            bookkeeping.reset(&args.topic, &steps, Utc::now()).await.map_err(|e| match e {
                WarehouseError::Fenced { .. } => {
                    format!("{e}; nothing was changed, since a daemon has moved it meanwhile: stop it and try again")
                }
                other => other.to_string(),
            })?;
        }
        Ok(steps)
    });
    match outcome {
        Err(error) => fail(args.json, &error),
        Ok(steps) => {
            if args.json {
                let steps: Vec<&Step> = steps.iter().map(|(step, _)| step).collect();
                print_json(&serde_json::json!({ "topic": args.topic, "steps": steps }));
            } else if !steps.is_empty() {
                outln!("done; a daemon that waits goes on within half a minute");
            }
            exit::OK
        }
    }
}

/// A member of the group may hold the partition, or take it at any moment; one in doubt has left the group.
async fn refuse_while_consumed(config: &Config, stream: &Stream, broker: &Arc<dyn Broker>) -> Result<(), String> {
    let (asked, group) = (Arc::clone(broker), group_of(config, stream));
    let name = group.clone();
    let members = blocking(move || asked.group_members(&name)).await?;
    match members.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "refused: {} in consumer group {group} may hold the partition; stop the daemon (one that was killed leaves \
             the group after its session timeout, 6 s unless set), then try again",
            members.join(", ")
        )),
    }
}

/// The steps with the epochs that they were planned from.
async fn plan(
    bookkeeping: &dyn Bookkeeping,
    broker: &Arc<dyn Broker>,
    args: &ResetArgs,
) -> Result<Vec<(Step, i64)>, String> {
    let (recorded, standing) = stand(bookkeeping, broker, &args.topic).await?;
    let chosen: Vec<_> = recorded.iter().filter(|r| args.partition.is_none_or(|p| r.partition == p)).collect();
    if chosen.is_empty() {
        return Err("the database does not know the partition yet: a daemon begins at the stream's `start`".to_owned());
    }
    if let (Target::Offset(_), true) = (args.to, chosen.len() > 1) {
        return Err("an offset is one partition's: name it with --partition".to_owned());
    }
    let mut steps = Vec::new();
    for r in chosen {
        let at = Standing {
            partition: r.partition,
            next_offset: r.next_offset,
            topic_id: &r.topic_id,
            broker_id: &standing.topic_id,
            bounds: standing.partitions.get(&r.partition).map(|b| (b.low, b.high)),
        };
        steps.extend(reset::plan(at, args.to)?.map(|step| (step, r.epoch)));
    }
    Ok(steps)
}

/// What a step does, before it is done.
fn describe(step: &Step) -> String {
    let Step { partition, from, to, .. } = step;
    match (step.change, step.lost) {
        (Change::Skip, lost) => format!(
            "partition {partition}: goes on at {to} instead of {from}; {} offsets are lost to the tables, counted as a \
             gap and told as an accepted loss for ever",
            grouped(lost.unwrap_or(0))
        ),
        (Change::Rewind, _) => format!(
            "partition {partition}: goes back from {from} to {to}; {} offsets are read again, as duplicates and updates",
            grouped(from - to)
        ),
        (Change::Anew, _) => {
            let passed = match to - step.begins_at {
                0 => String::new(),
                passed => format!(
                    "; {} offsets of it, from {} on, are lost to the tables, counted as a gap and told as an accepted \
                     loss for ever",
                    grouped(passed),
                    step.begins_at
                ),
            };
            format!(
                "partition {partition}: begins anew at {to}, in the log that is there now{passed}; the ledger of the \
                 former one, read up to {from}, is put away; how much of that was unread, nobody can tell"
            )
        }
        (Change::Forget, _) => {
            format!("partition {partition}: is not there any more; its ledger, read up to {from}, is put away")
        }
    }
}

fn confirmed() -> bool {
    err!("go on? [y/N] ");
    // The answer counts, not whether the question was seen.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "yes" | "Y")
}

fn no_stream(topic: &str) -> String {
    format!("no stream of the configuration has topic `{topic}`")
}

async fn open(config: &Config) -> Result<Box<dyn Bookkeeping>, String> {
    (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(|e| e.to_string())
}

/// The database first: what it has when it is asked, the broker has too.
async fn stand(
    bookkeeping: &dyn Bookkeeping,
    broker: &Arc<dyn Broker>,
    topic: &str,
) -> Result<(Vec<PartitionOffset>, TopicStanding), String> {
    let recorded = bookkeeping.offsets(Some(topic)).await.map_err(|e| e.to_string())?;
    let (asked, name) = (Arc::clone(broker), topic.to_owned());
    Ok((recorded, blocking(move || asked.standing(&name)).await?))
}

async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_or_an_offset() {
        assert_eq!(target("accept-loss"), Ok(Target::AcceptLoss));
        assert_eq!(target("4711"), Ok(Target::Offset(4711)));
        for wrong in ["-1", "first", "", "99999999999999999999"] {
            assert!(target(wrong).unwrap_err().contains("accept-loss"), "{wrong}");
        }
    }

    #[test]
    fn what_is_passed_over_of_another_log_is_told_before_it_is_done() {
        let step = |begins_at| Step {
            partition: 1,
            change: Change::Anew,
            from: 70,
            to: 1_000,
            begins_at,
            lost: None,
            topic_id: "b".to_owned(),
        };
        let told = describe(&step(0));
        assert!(told.contains("1,000 offsets of it, from 0 on, are lost to the tables"), "{told}");
        assert!(!describe(&step(1_000)).contains("lost to the tables"));
    }

    #[test]
    fn a_doubt_is_told_in_the_partitions_line() {
        let doubt = crate::core::doubt::judge(1, ("a", 4), ("a", Some((10, 20))));
        let of = |partition, next_offset: Option<i64>, in_doubt| PartitionOffsets {
            partition,
            next_offset,
            epoch: next_offset.map(|_| 1),
            low: Some(10),
            high: Some(1234),
            lag: None,
            in_doubt,
        };
        let partitions = vec![of(0, Some(1000), None), of(1, Some(4), doubt), of(2, None, None)];
        let streams = [StreamOffsets { stream: "o".into(), topic: "orders".into(), topic_id: "a".into(), partitions }];
        let lines = "\
stream o (topic orders)
PARTITION   NEXT  LOW   HIGH  LAG  STATE
        0  1,000   10  1,234    -  ok
        1      4   10  1,234    -  IN DOUBT, before_start: expected offset 4 next, found offsets 10 to 20: 6 are gone unread
        2      -   10  1,234    -  not read yet
nothing of a stream in doubt is consumed; `bief offsets reset --help` tells how to go on
";
        assert_eq!(text(&streams), lines);
    }
}
