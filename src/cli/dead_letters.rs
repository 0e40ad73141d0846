//! `bief dead-letters`: the records that were set aside, and why; listed, sent through again, dropped, exported.
//! Payloads come from anyone, so that nothing of them reaches a terminal unescaped.

mod discard;
mod export;
mod retry;
mod selection;

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};

use self::selection::FilterArgs;
use super::support::{block_on, fail, load, log_command, print_json};
use super::{exit, printable};
use crate::adapters::warehouse;
use crate::config::WarehouseConfig;
use crate::core::decode::shortened;
use crate::ports::{DeadLetterFilter, LetterHead, StoredDeadLetter, WarehouseError};
use crate::topology::letters::first_portion;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief dead-letters list --reason wrong_type
  bief dead-letters list --topic orders --since 2026-01-31T00:00:00Z --json
  bief dead-letters show 42
  bief dead-letters retry --reason foreign_key
  bief dead-letters drop 42 --yes
  bief dead-letters export --topic orders --to letters.jsonl")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A line for each
    List(ListArgs),
    /// One, with its key, payload and the whole reason
    Show(ShowArgs),
    /// Send them through the present mapping again; what is refused again stays
    Retry(retry::Args),
    /// Throw them away for good; the ledger goes on counting them
    Drop(discard::Args),
    /// Write them as JSON lines
    Export(export::Args),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  bief dead-letters list --reason wrong_type --limit 20")]
struct ListArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only with a number above this one: the next page
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  bief dead-letters show 42")]
struct ShowArgs {
    /// Its number, as `list` has it
    id: i64,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    match &args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Retry(args) => retry::run(args),
        Command::Drop(args) => discard::run(args),
        Command::Export(args) => export::run(args),
    }
}

fn list(args: &ListArgs) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let filter = DeadLetterFilter { after_id: args.after, limit: args.limit, ..args.filter.filter() };
    let warehouse = &loaded.config.warehouse;
    let outcome = block_on(async {
        if args.json {
            let mut print = |letter: &StoredDeadLetter| {
                print_json(&as_json(letter));
                ControlFlow::Continue(())
            };
            return each(warehouse, &filter, &mut print).await;
        }
        let letters = (warehouse::open_letter_reader(warehouse))().await?.heads(&filter).await?;
        out!("{}", table(&letters));
        if letters.len() as u64 == args.limit {
            let last = letters.last().map_or(0, |l| l.id);
            errln!("more may follow: --after {last}");
        }
        Ok(())
    });
    match outcome {
        Err(error) => fail(args.json, &error.to_string()),
        Ok(()) => exit::OK,
    }
}

/// Whole letters one after the other, ascending by number, until `visit` has enough. Never more of them are in memory than
/// a retry takes at once.
async fn each(
    warehouse: &WarehouseConfig,
    filter: &DeadLetterFilter,
    visit: &mut dyn FnMut(&StoredDeadLetter) -> ControlFlow<()>,
) -> Result<(), WarehouseError> {
    let book = (warehouse::open_letter_book(warehouse))().await?;
    let bookkeeping = (warehouse::open_bookkeeping(warehouse))().await?;
    let keys = book.letter_keys(filter).await?;
    let mut left = keys.as_slice();
    while let Some((ids, rest)) = first_portion(left) {
        let portion = DeadLetterFilter { limit: ids.len() as u64, ids, ..DeadLetterFilter::default() };
        for letter in bookkeeping.dead_letters(&portion).await? {
            if visit(&letter).is_break() {
                return Ok(());
            }
        }
        left = rest;
    }
    Ok(())
}

/// Aligned columns; the reason's own words last, shortened.
fn table(letters: &[LetterHead]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut out = format!("{:>8}  {:<27}  {:<17}  {:<20}  record\n", "id", "stored", "reason", "field");
    for l in letters {
        out += &format!(
            "{:>8}  {:<27}  {:<17}  {:<20}  {}[{}]@{}: {}\n",
            l.id,
            l.stored_at.format("%Y-%m-%dT%H:%M:%S%.6fZ"),
            l.rejection.reason,
            printable::printable(l.rejection.field.as_deref().unwrap_or("-")),
            printable::printable(&l.topic),
            l.partition,
            l.offset,
            printable::printable(&shortened(&l.rejection.message)),
        );
    }
    out
}

fn show(args: &ShowArgs) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let outcome = block_on(async {
        let bookkeeping = (warehouse::open_bookkeeping(&loaded.config.warehouse))().await?;
        bookkeeping.dead_letter(args.id).await
    });
    match outcome {
        Err(error) => fail(args.json, &error.to_string()),
        Ok(None) => {
            fail(args.json, &format!("there is no dead letter {}; `bief dead-letters list` has the numbers", args.id))
        }
        Ok(Some(letter)) if args.json => {
            print_json(&as_json(&letter));
            exit::OK
        }
        Ok(Some(l)) => {
            let letter = &l.letter;
            let bytes = |b: &Option<Vec<u8>>| {
                b.as_ref().map_or("-".to_owned(), |b| printable::printable(&String::from_utf8_lossy(b)).into_owned())
            };
            outln!("dead letter {}", l.id);
            outln!("  record   {}[{}]@{}", printable::printable(&letter.topic), letter.partition, letter.offset);
            outln!("  stored   {}", l.stored_at.to_rfc3339());
            outln!("  reason   {}", letter.rejection.reason);
            outln!("  field    {}", printable::printable(letter.rejection.field.as_deref().unwrap_or("-")));
            outln!("  message  {}", printable::printable(&letter.rejection.message));
            outln!("  key      {}", bytes(&letter.key));
            outln!("  payload  {}", bytes(&letter.payload));
            exit::OK
        }
    }
}

fn as_json(stored: &StoredDeadLetter) -> Value {
    let letter = &stored.letter;
    let text = |b: &Option<Vec<u8>>| b.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
    json!({
        "id": stored.id,
        "topic": &*letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.time().map(|t| t.to_rfc3339()),
        "reason": letter.rejection.reason.as_str(),
        "field": letter.rejection.field,
        "message": letter.rejection.message,
        "key": text(&letter.key),
        "payload": text(&letter.payload),
        "stored_at": stored.stored_at.to_rfc3339(),
    })
}
