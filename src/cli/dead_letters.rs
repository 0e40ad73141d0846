//! `bief dead-letters`: the records that were set aside, and why; listed, sent through again, dropped, exported.
//! Payloads come from anyone, so that nothing of them reaches a terminal unescaped.

mod discard;
mod export;
mod retry;
mod selection;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::selection::FilterArgs;
use super::support::{block_on, fail, load, print_json};
use super::{exit, printable};
use crate::adapters::warehouse;
use crate::core::decode::shortened;
use crate::ports::{DeadLetterFilter, StoredDeadLetter};

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

pub fn run(args: &Args) -> u8 {
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
    let outcome = block_on(async {
        let bookkeeping = (warehouse::open_bookkeeping(&loaded.config.warehouse))().await?;
        bookkeeping.dead_letters(&filter).await
    });
    match outcome {
        Err(error) => fail(args.json, &error.to_string()),
        Ok(letters) if args.json => {
            letters.iter().for_each(|l| print_json(&as_json(l)));
            exit::OK
        }
        Ok(letters) => {
            print!("{}", table(&letters));
            if letters.len() as u64 == args.limit {
                let last = letters.last().map_or(0, |l| l.id);
                eprintln!("more may follow: --after {last}");
            }
            exit::OK
        }
    }
}

/// Aligned columns; the reason's own words last, shortened.
fn table(letters: &[StoredDeadLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut out = format!("{:>8}  {:<27}  {:<17}  {:<20}  record\n", "id", "stored", "reason", "field");
    for l in letters {
        let letter = &l.letter;
        out += &format!(
            "{:>8}  {:<27}  {:<17}  {:<20}  {}[{}]@{}: {}\n",
            l.id,
            l.stored_at.format("%Y-%m-%dT%H:%M:%S%.6fZ"),
            letter.rejection.reason,
            printable::printable(letter.rejection.field.as_deref().unwrap_or("-")),
            printable::printable(&letter.topic),
            letter.partition,
            letter.offset,
            printable::printable(&shortened(&letter.rejection.message)),
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
            println!("dead letter {}", l.id);
            println!("  record   {}[{}]@{}", printable::printable(&letter.topic), letter.partition, letter.offset);
            println!("  stored   {}", l.stored_at.to_rfc3339());
            println!("  reason   {}", letter.rejection.reason);
            println!("  field    {}", printable::printable(letter.rejection.field.as_deref().unwrap_or("-")));
            println!("  message  {}", printable::printable(&letter.rejection.message));
            println!("  key      {}", bytes(&letter.key));
            println!("  payload  {}", bytes(&letter.payload));
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
