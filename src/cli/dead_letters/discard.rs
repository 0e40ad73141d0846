//! `bief dead-letters drop`: letters thrown away for good. Their counts stay in the ledger and `bief_dropped_letter`
//! keeps which they were, so that `verify` still proves every offset. Asks first, or wants to be told `--yes`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use super::super::support::{block_on, fail, load, print_json};
use super::super::{exit, printable};
use super::selection::{Selection, tell_unknown};
use crate::adapters::warehouse;
use crate::ports::{LetterKey, WarehouseError};
use crate::topology::letters::discard;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief dead-letters drop 42 --yes
  bief dead-letters drop --topic orders --reason tombstone    asks before it drops
  bief dead-letters drop --until 2026-01-01T00:00:00Z --yes

Exit codes: 0 dropped, 1 failed or not confirmed, 2 command line or configuration, 3 a number has no letter")]
pub(super) struct Args {
    #[command(flatten)]
    which: Selection,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    if let Err(problem) = args.which.check() {
        errln!("bief: {problem}");
        return exit::USAGE;
    }
    if !args.yes && !std::io::stdin().is_terminal() {
        errln!("bief: dropped letters can't be brought back, and nobody is here to be asked: add --yes");
        return exit::USAGE;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let outcome = block_on(async {
        let told = |e: WarehouseError| e.to_string();
        let book = (warehouse::open_letter_book(&loaded.config.warehouse))().await.map_err(told)?;
        let keys = args.which.keys(book.as_ref(), false).await.map_err(told)?;
        if !keys.is_empty() && !args.yes && !confirmed(&keys) {
            return Err("nothing was dropped".to_owned());
        }
        let (mut dropped, unknown) = (0, args.which.unknown(&keys));
        let outcome = discard(&loaded.config, &keys, None, &mut dropped).await;
        outcome.map_err(|error| {
            format!(
                "{dropped} letters were dropped, then: {error}; if a COMMIT was not answered, some more may be gone: the \
                 same command drops what is left"
            )
        })?;
        Ok((dropped, unknown))
    });
    match outcome {
        Err(error) => fail(args.json, &error),
        Ok((dropped, unknown)) => {
            if args.json {
                print_json(&serde_json::json!({ "dropped": dropped, "unknown": unknown }));
            } else {
                tell_unknown(&unknown);
                outln!("{dropped} dropped; `bief verify` goes on counting them");
            }
            if unknown.is_empty() { exit::OK } else { exit::FOUND }
        }
    }
}

fn confirmed(keys: &[LetterKey]) -> bool {
    let topics: std::collections::BTreeSet<&str> = keys.iter().map(|k| k.topic.as_str()).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    err!("drop {} dead letters of {} for good? [yes/no] ", keys.len(), printable::printable(&topics.join(", ")));
    let mut answer = String::new();
    let heard = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    heard.is_ok() && matches!(answer.trim(), "y" | "yes")
}
