//! `bief dead-letters export`: letters as JSON lines, whole: bytes that are no UTF-8 go as base64. Changes nothing.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::exit;
use super::super::printable::json_escaped;
use super::super::support::{block_on, fail, load};
use super::selection::FilterArgs;
use crate::config::Config;
use crate::ports::{DeadLetterFilter, StoredDeadLetter};

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
                errln!("{letters} dead letters are in {}", path.display());
            }
            exit::OK
        }
    }
}

async fn export(args: &Args, config: &Config, mut to: impl Write) -> Result<usize, String> {
    let filter = DeadLetterFilter { limit: args.limit.unwrap_or(i64::MAX as u64), ..args.filter.filter() };
    let (mut written, mut outcome) = (0, Ok(()));
    let mut write = |letter: &StoredDeadLetter| {
        outcome = writeln!(to, "{}", json_escaped(&line(letter).to_string()));
        written += usize::from(outcome.is_ok());
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    super::each(&config.warehouse, &filter, &mut write).await.map_err(|error| error.to_string())?;
    match outcome.and_then(|()| to.flush()) {
        Ok(()) => Ok(written),
        // The reader has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(written),
        Err(error) => Err(format!("the letters can't be written: {error}")),
    }
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
