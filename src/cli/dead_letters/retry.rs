//! `bief dead-letters retry`: letters through the present decoder and writer, portion by portion, each in one
//! transaction. May run beside the daemon and beside another retry; overwrites no row unless told to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;

use super::super::support::{block_on, fail, load, print_json};
use super::super::{exit, printable};
use super::selection::{Portion, Selection, portions};
use crate::actors::decoder::decode_batch;
use crate::actors::writer::{Committer, Retried, RetryRequest};
use crate::adapters::warehouse;
use crate::config::{Config, Stream};
use crate::core::commit_plan::Known;
use crate::core::decode::FieldOrder;
use crate::core::mapping::Plan;
use crate::core::marks::Marking;
use crate::core::reset::topic_of;
use crate::core::target::OnConflict;
use crate::ports::{LetterWarehouse, WarehouseError};
use crate::runtime::Backoff;
use crate::topology;

/// How often a portion is tried that a deadlock, a lock or the network spoilt.
const TRIES: u32 = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief dead-letters retry 42 43
  bief dead-letters retry --topic orders --reason foreign_key
  bief dead-letters retry --reason wrong_type --dry-run     what would become of them
  bief dead-letters retry --all --overwrite                 rows that are there take the letters' values

Exit codes: 0 all ended, 1 failed midway (what was done is done), 2 configuration, 3 some letters stay")]
pub(super) struct Args {
    #[command(flatten)]
    which: Selection,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Where the mapping says on_conflict = "update", set rows that are there; they may be newer than the letter
    #[arg(long)]
    overwrite: bool,
    /// Roll each transaction back, and tell what would have been
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    if let Err(problem) = args.which.check() {
        eprintln!("bief: {problem}");
        return exit::USAGE;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let mut sum = Summary { dry_run: args.dry_run, overwrite: args.overwrite, ..Summary::default() };
    let outcome = block_on(retry(args, &loaded.config, &mut sum));
    sum.tell(args.json);
    match outcome {
        Err(error) => fail(false, &error),
        Ok(()) if sum.stay() > 0 => exit::FOUND,
        Ok(()) => exit::OK,
    }
}

async fn retry(args: &Args, config: &Config, sum: &mut Summary) -> Result<(), String> {
    let told = |e: WarehouseError| e.to_string();
    let book = (warehouse::open_letter_book(&config.warehouse))().await.map_err(told)?;
    let mut keys = args.which.keys(book.as_ref()).await.map_err(told)?;
    if keys.iter().any(|key| topic_of(&key.topic).1) {
        let bookkeeping = (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(told)?;
        let ledgers = bookkeeping.offsets(None).await.map_err(told)?;
        let counted: BTreeSet<(&str, i32)> = ledgers.iter().map(|l| (l.topic.as_str(), l.partition)).collect();
        let before = keys.len();
        // No ledger counts the others: their records were read again, and decided anew.
        keys.retain(|key| !topic_of(&key.topic).1 || counted.contains(&(key.topic.as_str(), key.partition)));
        sum.read_again = before - keys.len();
    }
    if !args.overwrite {
        // Where the row that is there stays, the latest of a key must come first.
        keys.reverse();
    }
    for (topic, portions) in portions(&keys) {
        match config.streams.iter().find(|s| s.topic == topic_of(topic).0) {
            Some(stream) => retry_stream(args, config, stream, (topic, &portions), sum).await?,
            None => sum.without_stream += portions.iter().map(|p| p.ids.len()).sum::<usize>(),
        }
    }
    Ok(())
}

async fn retry_stream(
    args: &Args,
    config: &Config,
    stream: &Stream,
    (topic, portions): (&str, &[Portion]),
    sum: &mut Summary,
) -> Result<(), String> {
    let mut plan = topology::read_plan(config, stream).await.map_err(|e| e.to_string())?;
    if !args.overwrite {
        plan.targets.iter_mut().for_each(|target| target.on_conflict = OnConflict::Ignore);
    }
    let markings = topology::markings(config, &plan).map_err(|e| e.to_string())?;
    let plan = Arc::new(plan);
    let mut warehouse = (warehouse::open_letter_warehouse(&config.warehouse))().await.map_err(|e| e.to_string())?;
    for portion in portions {
        let (retried, unanswered) =
            persist(args, (&plan, &markings), topic, portion, warehouse.as_mut()).await.map_err(|e| e.to_string())?;
        sum.add(&retried, unanswered);
    }
    Ok(())
}

/// One portion, until it is in or the trouble lasts. Answers also whether a COMMIT of it went unanswered: then letters
/// that are gone most likely ended with it.
async fn persist(
    args: &Args,
    (plan, markings): (&Arc<Plan>, &Arc<[Marking]>),
    topic: &str,
    portion: &Portion,
    warehouse: &mut dyn LetterWarehouse,
) -> Result<(Retried, bool), WarehouseError> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), None);
    let (mut tries, mut unanswered) = (0, false);
    loop {
        tries += 1;
        // Remembers nothing: another writer is at work beside it.
        let known = Arc::new(Mutex::new(Known::new(plan.targets.len())));
        let mut committer = Committer::new(Arc::clone(plan), known, 1).with_markings(Arc::clone(markings));
        let mut order = FieldOrder::default();
        let mut commit_sent = false;
        let request = RetryRequest {
            topic,
            ids: &portion.ids,
            partitions: &portion.partitions,
            latest_first: !args.overwrite,
            rehearse: args.dry_run,
            commit_sent: &mut commit_sent,
            decode: &mut |records| decode_batch(plan, &mut order, records),
        };
        match committer.retry(warehouse, request, Utc::now()).await {
            Err(WarehouseError::Transient { what }) if tries < TRIES => {
                unanswered |= commit_sent;
                tracing::warn!(cause = what, "letters are tried again");
                warehouse.abandon();
                tokio::time::sleep(backoff.next_delay()).await;
            }
            outcome => return outcome.map(|retried| (retried, unanswered)),
        }
    }
}

/// What became of all letters.
#[derive(Debug, Default)]
struct Summary {
    dry_run: bool,
    overwrite: bool,
    applied: i64,
    duplicates: i64,
    refused: BTreeMap<&'static str, Vec<(i64, String)>>,
    without_payload: usize,
    without_stream: usize,
    /// Of former logs, and counted by no ledger.
    read_again: usize,
    /// After a COMMIT that was not answered.
    unanswered: usize,
    gone: usize,
}

impl Summary {
    fn add(&mut self, retried: &Retried, unanswered: bool) {
        let total = retried.total();
        self.applied += total.applied;
        self.duplicates += total.duplicates;
        for (id, rejection) in &retried.refused {
            self.refused.entry(rejection.reason.as_str()).or_default().push((*id, rejection.message.clone()));
        }
        self.without_payload += retried.without_payload.len();
        *(if unanswered { &mut self.unanswered } else { &mut self.gone }) += retried.gone;
    }

    fn refused(&self) -> usize {
        self.refused.values().map(Vec::len).sum()
    }

    fn stay(&self) -> usize {
        self.refused() + self.without_payload + self.without_stream + self.read_again
    }

    fn tell(&self, json: bool) {
        if json {
            let reasons: BTreeMap<&str, usize> = self.refused.iter().map(|(r, l)| (*r, l.len())).collect();
            print_json(&serde_json::json!({
                "dry_run": self.dry_run,
                "applied": self.applied,
                "duplicates": self.duplicates,
                "refused": self.refused(),
                "refused_by_reason": reasons,
                "without_payload": self.without_payload,
                "without_stream": self.without_stream,
                "read_again": self.read_again,
                "unanswered": self.unanswered,
                "gone": self.gone,
            }));
            return;
        }
        let would = if self.dry_run { "would be " } else { "" };
        println!("{} {would}applied, {} {would}duplicates: their letters end", self.applied, self.duplicates);
        if self.duplicates > 0 && !self.overwrite {
            println!("  duplicates changed no row: what is there was left as it is (--overwrite sets it)");
        }
        if self.refused() > 0 {
            println!("{} refused again: they stay, each with its present reason", self.refused());
        }
        for (reason, letters) in &self.refused {
            let (id, message) = letters.first().map_or((0, ""), |(id, message)| (*id, message.as_str()));
            println!("  {:>6} {reason}, such as {id}: {}", letters.len(), printable::printable(message));
        }
        for (letters, why) in [
            (self.without_payload, "stay: their payload was too large to be kept; read them from Kafka"),
            (self.without_stream, "stay: no stream of the configuration reads their topic"),
            (
                self.read_again,
                "stay: offsets were set back before them, so that their records were read again; drop them",
            ),
            (
                self.unanswered,
                "ended in a COMMIT whose answer was lost (or another took them): they are not in the numbers above, but in the ledger",
            ),
            (self.gone, "were taken by another retry or drop meanwhile"),
        ] {
            if letters > 0 {
                println!("{letters} {why}");
            }
        }
    }
}
