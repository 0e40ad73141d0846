//! `bief verify`: the ledger of each partition, proved by the database and the broker together. Changes nothing.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::exit;
use super::printable::printable;
use super::support::{broker_of, fail, load, print_json};
use crate::adapters::warehouse;
use crate::config::Config;
use crate::core::ledger::{self, Finding, Note, PartitionFacts, Recorded};
use crate::core::outcome::Counts;
use crate::ports::{Broker, Ledger, Loss, PartitionOffset};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief verify                       every stream of actors.toml
  bief verify -c prod.toml --json   for a script; exit code 3 when something is off

Exit codes: 0 clean, 1 database or broker can't be asked, 2 configuration, 3 something is off")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Only this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let broker = match broker_of(&loaded.config) {
        Ok(broker) => broker,
        Err(error) => return fail(args.json, &error),
    };
    let outcome = super::support::block_on(prove(&loaded.config, &broker, args.stream.as_deref()));
    match outcome {
        Ok(proof) => {
            if args.json {
                print_json(&proof);
            } else {
                out!("{}", proof.text(std::io::stdout().is_terminal()));
            }
            if proof.is_clean() { exit::OK } else { exit::FOUND }
        }
        Err(error) => fail(args.json, &error),
    }
}

/// The verdict over all streams.
#[derive(Debug, Serialize)]
pub struct Proof {
    /// `clean`, or how many findings there are.
    pub verify: String,
    pub streams: Vec<StreamProof>,
}

#[derive(Debug, Serialize)]
pub struct StreamProof {
    pub stream: String,
    pub topic: String,
    pub partitions: Vec<PartitionProof>,
}

#[derive(Debug, Serialize)]
pub struct PartitionProof {
    pub partition: i32,
    #[serde(flatten)]
    pub recorded: Option<PartitionOffset>,
    pub low: Option<i64>,
    pub high: Option<i64>,
    pub findings: Vec<Finding>,
    pub notes: Vec<Note>,
}

impl Proof {
    pub fn is_clean(&self) -> bool {
        self.verify == "clean"
    }

    fn has_accepted_losses(&self) -> bool {
        let mut notes = self.streams.iter().flat_map(|s| &s.partitions).flat_map(|p| &p.notes);
        notes.any(|n| n.kind == "loss_accepted")
    }

    /// Counters over all streams.
    pub fn totals(&self) -> Counts {
        let recorded = self.streams.iter().flat_map(|s| &s.partitions).filter_map(|p| p.recorded.as_ref());
        recorded.fold(Counts::default(), |sum, r| sum.plus(r.counts.into()))
    }

    /// For people: a line a partition, findings below.
    pub fn text(&self, colour: bool) -> String {
        let (bad, good, plain) = if colour { ("\x1b[31m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
        let mut out = String::new();
        for stream in &self.streams {
            out += &format!("stream {} (topic {})\n", printable(&stream.stream), printable(&stream.topic));
            out += "  partition     advanced      applied   duplicates  dead letters         gaps\n";
            for p in &stream.partitions {
                let Some(r) = &p.recorded else {
                    out += &format!("  {:>9}  not read yet\n", p.partition);
                    continue;
                };
                out += &format!(
                    "  {:>9} {:>12} {:>12} {:>12} {:>13} {:>12}\n",
                    p.partition,
                    r.next_offset - r.start_offset,
                    r.counts.applied,
                    r.counts.duplicates,
                    r.counts.dead_letters,
                    r.counts.gaps
                );
            }
            for p in &stream.partitions {
                for f in &p.findings {
                    out += &format!(
                        "  {bad}partition {}: {} (off by {}): {}{plain}\n",
                        p.partition,
                        f.kind,
                        f.off_by,
                        printable(&f.message)
                    );
                }
                for n in &p.notes {
                    out += &format!("  partition {}: note: {}\n", p.partition, printable(&n.message));
                }
            }
        }
        let Counts { applied, duplicates, dead_letters, gaps } = self.totals();
        out += &format!("all: {applied} applied, {duplicates} duplicates, {dead_letters} dead letters, {gaps} gaps\n");
        out += &match self.is_clean() {
            true if self.has_accepted_losses() => format!(
                "{good}clean{plain}, but for the losses that were accepted: every other offset has exactly one \
                 outcome, every other gap was read again and is empty\n"
            ),
            true => format!(
                "{good}clean{plain}: every offset has exactly one outcome, every gap was read again and is empty\n"
            ),
            false => format!("{bad}{}{plain}\n", self.verify),
        };
        out
    }
}

/// Asks database and broker and judges what they say. The database is read as of one moment and the broker asked after it,
/// so that a stream may move meanwhile.
pub async fn prove(config: &Config, broker: &Arc<dyn Broker>, only: Option<&str>) -> Result<Proof, String> {
    let told = |e: crate::ports::WarehouseError| e.to_string();
    let bookkeeping = (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(told)?;
    let mut streams = Vec::new();
    for stream in config.streams.iter().filter(|s| only.is_none_or(|name| s.name == name)) {
        let topic = &stream.topic;
        let Ledger { offsets: recorded, gaps: mut recorded_gaps, dead_letters, dropped, losses } =
            bookkeeping.ledger(topic).await.map_err(told)?;
        let (asked, name) = (Arc::clone(broker), topic.clone());
        let told_by_broker = blocking(move || {
            let partitions = asked.partitions(&name)?;
            let id = if partitions.is_empty() { String::new() } else { asked.topic_id(&name)? };
            Ok((id, partitions))
        });
        let (topic_id, at_broker) = told_by_broker.await?;
        let mut all: Vec<i32> = at_broker.iter().copied().chain(recorded.iter().map(|r| r.partition)).collect();
        all.sort_unstable();
        all.dedup();
        all.extend(losses.iter().map(|l| l.partition));
        all.sort_unstable();
        all.dedup();
        let mut partitions = Vec::with_capacity(all.len());
        for partition in all {
            let known = recorded.iter().find(|r| r.partition == partition);
            let gaps = recorded_gaps.remove(&partition).unwrap_or_default();
            let there = at_broker.contains(&partition);
            let accepted: Vec<_> = losses
                .iter()
                .filter(|l| l.partition == partition && !l.of_former_log)
                .filter_map(|l| Some(l.first_offset..l.first_offset + l.offsets?))
                .collect();
            // What was given up is not read again: it may well be there.
            let again: Vec<_> = gaps.iter().filter(|g| !accepted.contains(g)).cloned().collect();
            let (asked, name) = (Arc::clone(broker), topic.clone());
            let (bounds, found_in_gaps) = blocking(move || {
                if !there {
                    return Ok((None, Vec::new()));
                }
                let bounds = asked.bounds(&name, partition)?;
                let readable: Vec<_> =
                    again.into_iter().filter(|g| g.end > bounds.low).map(|g| g.start.max(bounds.low)..g.end).collect();
                Ok((Some((bounds.low, bounds.high)), asked.records_within(&name, partition, &readable)?))
            })
            .await?;
            let facts = PartitionFacts {
                partition,
                recorded: known.map(|r| Recorded {
                    topic_id: r.topic_id.clone(),
                    start_offset: r.start_offset,
                    next_offset: r.next_offset,
                    counts: r.counts.into(),
                    gaps,
                    dead_letters: dead_letters.get(&partition).copied().unwrap_or(0),
                    dropped: dropped.get(&partition).copied().unwrap_or(0),
                }),
                bounds,
                topic_id: topic_id.clone(),
                found_in_gaps,
                accepted,
            };
            let (findings, mut notes) = ledger::judge(&facts);
            notes.extend(losses.iter().filter(|l| l.partition == partition && l.of_former_log).map(former_loss));
            partitions.push(PartitionProof {
                partition,
                recorded: known.cloned(),
                low: bounds.map(|b| b.0),
                high: bounds.map(|b| b.1),
                findings,
                notes,
            });
        }
        streams.push(StreamProof { stream: stream.name.clone(), topic: topic.clone(), partitions });
    }
    if let (true, Some(name)) = (streams.is_empty(), only) {
        return Err(format!("there is no stream `{name}` in the configuration"));
    }
    let findings: usize = streams.iter().flat_map(|s| &s.partitions).map(|p| p.findings.len()).sum();
    let verify = match findings {
        0 => "clean".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    Ok(Proof { verify, streams })
}

/// A log that was given up, or what was given up within it.
fn former_loss(loss: &Loss) -> Note {
    let (at, first) = (loss.accepted_at.format("%Y-%m-%d %H:%M:%S"), loss.first_offset);
    let message = match loss.offsets {
        Some(offsets) => {
            format!("{offsets} offsets from {first} on, in a log that was put away, were accepted as lost at {at}")
        }
        None => format!(
            "a log before this one was given up at {at}, read up to offset {first}: how much of it was unread, nobody \
             can tell"
        ),
    };
    Note { partition: loss.partition, kind: "loss_accepted", offsets: loss.offsets.unwrap_or(0), message }
}

async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, crate::ports::SourceError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
