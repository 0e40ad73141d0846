//! `bief dead-letters export`: letters as JSON lines, whole: bytes that are no UTF-8 go as base64. Changes nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::exit;
use super::super::printable::json_escaped;
use super::super::support::{block_on, fail, load};
use super::selection::{FilterArgs, Selection};
use crate::adapters::warehouse;
use crate::config::Config;
use crate::ports::{DeadLetterFilter, StoredDeadLetter};
use crate::topology::letters::portions;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief dead-letters export --topic orders > letters.jsonl
  bief dead-letters export --reason invalid_utf8 --to letters.jsonl

A line holds what `list --json` holds, but `key` and `payload` are exact: what is no UTF-8 is in `key_base64` and
`payload_base64` instead.")]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// A new file to write to, instead of stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// At most so many, the oldest
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(super) fn run(args: &Args) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let to: Box<dyn Write> = match &args.to {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => match File::create_new(path) {
            Ok(file) => Box::new(file),
            Err(error) => return fail(false, &format!("{} can't be written anew: {error}", path.display())),
        },
    };
    match block_on(export(args, &loaded.config, BufWriter::new(to))) {
        Err(error) => fail(false, &error),
        Ok(letters) => {
            if let Some(path) = &args.to {
                eprintln!("{letters} dead letters are in {}", path.display());
            }
            exit::OK
        }
    }
}

async fn export(args: &Args, config: &Config, mut to: impl Write) -> Result<usize, String> {
    let told = |e: crate::ports::WarehouseError| e.to_string();
    let book = (warehouse::open_letter_book(&config.warehouse))().await.map_err(told)?;
    let bookkeeping = (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(told)?;
    let which = Selection { filter: args.filter.clone(), limit: args.limit, ..Selection::default() };
    let keys = which.keys(book.as_ref()).await.map_err(told)?;
    let mut written = 0;
    for (_, portions) in portions(&keys) {
        for portion in portions {
            let filter =
                DeadLetterFilter { limit: portion.ids.len() as u64, ids: portion.ids, ..DeadLetterFilter::default() };
            for letter in bookkeeping.dead_letters(&filter).await.map_err(told)? {
                writeln!(to, "{}", json_escaped(&line(&letter).to_string()))
                    .map_err(|e| format!("the letters can't be written: {e}"))?;
                written += 1;
            }
        }
    }
    to.flush().map_err(|e| format!("the letters can't be written: {e}"))?;
    Ok(written)
}

fn line(stored: &StoredDeadLetter) -> Value {
    let mut line = super::as_json(stored);
    for (name, bytes) in [("key", &stored.letter.key), ("payload", &stored.letter.payload)] {
        if let Some(bytes) = bytes
            && std::str::from_utf8(bytes).is_err()
            && let Some(object) = line.as_object_mut()
        {
            object.remove(name);
            object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into());
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::core::outcome::{Reason, Rejection};
    use crate::messages::DeadLetter;

    #[test]
    fn bytes_that_are_no_text_are_base64_and_text_is_text() {
        let stored = StoredDeadLetter {
            id: 7,
            letter: DeadLetter {
                topic: "orders".into(),
                partition: 0,
                offset: 3,
                timestamp: -1,
                key: Some(b"a\x1b[2J".to_vec()),
                payload: Some(vec![0xff, 0]),
                rejection: Rejection { reason: Reason::InvalidUtf8, field: None, message: "no text".to_owned() },
            },
            stored_at: DateTime::UNIX_EPOCH,
        };
        let line = line(&stored);
        assert_eq!((&line["key"], &line["payload_base64"]), (&"a\u{1b}[2J".into(), &"/wA=".into()));
        assert!(line["timestamp"].is_null(), "the broker gave none: {line}");
        assert!(line.get("payload").is_none() && !line.to_string().contains('\u{1b}'), "{line}");
    }
}
