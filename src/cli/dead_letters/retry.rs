//! `bief dead-letters retry`: letters through the present mapping again; overwrites no row unless told to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::support::{block_on, fail, load, print_json};
use super::super::{exit, printable};
use super::selection::{Selection, tell_unknown};
use crate::adapters::warehouse;
use crate::config::Config;
use crate::ports::WarehouseError;
use crate::ports::letter_changes::{RetriedLetters, RetryOptions};
use crate::topology::letters::Redrive;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief dead-letters retry 42 43
  bief dead-letters retry --topic orders --reason foreign_key
  bief dead-letters retry --reason wrong_type --dry-run     what would become of them
  bief dead-letters retry --all --overwrite                 rows that are there take the letters' values

Exit codes: 0 all ended, 1 failed midway (what was done is done), 2 configuration, 3 some letters stay,
or a number has none")]
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
        errln!("bief: {problem}");
        return exit::USAGE;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let (mut letters, mut unknown) = (RetriedLetters::default(), Vec::new());
    let outcome = block_on(retry(args, &loaded.config, &mut letters, &mut unknown));
    let summary = Summary { args, letters: &letters, unknown: &unknown, error: outcome.as_ref().err() };
    summary.tell();
    match outcome {
        Err(error) => fail(false, &error),
        Ok(()) if summary.stay() + unknown.len() > 0 => exit::FOUND,
        Ok(()) => exit::OK,
    }
}

async fn retry(args: &Args, config: &Config, sum: &mut RetriedLetters, unknown: &mut Vec<i64>) -> Result<(), String> {
    let told = |e: WarehouseError| e.to_string();
    let book = (warehouse::open_letter_book(&config.warehouse))().await.map_err(told)?;
    // Where the row that is there stays, the latest of a key must come first.
    let keys = args.which.keys(book.as_ref(), !args.overwrite).await.map_err(told)?;
    *unknown = args.which.unknown(&keys);
    let how = RetryOptions { overwrite: args.overwrite, dry_run: args.dry_run, payload: None };
    Redrive::new(config, &how, None).retry(keys, sum).await.map_err(told)
}

/// What became of all letters, in words.
struct Summary<'s> {
    args: &'s Args,
    letters: &'s RetriedLetters,
    /// Numbers of which there is no letter.
    unknown: &'s [i64],
    /// What ended it midway.
    error: Option<&'s String>,
}

impl Summary<'_> {
    /// By reason: how many, and the first of them.
    fn refused(&self) -> BTreeMap<&'static str, (usize, i64, &str)> {
        let mut reasons: BTreeMap<&str, (usize, i64, &str)> = BTreeMap::new();
        for (id, rejection) in &self.letters.refused {
            reasons.entry(rejection.reason.as_str()).or_insert((0, *id, &rejection.message)).0 += 1;
        }
        reasons
    }

    fn stay(&self) -> usize {
        let RetriedLetters { refused, without_payload, without_stream, read_again, .. } = self.letters;
        refused.len() + without_payload + without_stream + read_again
    }

    fn tell(&self) {
        let (args, letters) = (self.args, self.letters);
        if args.json {
            let reasons: BTreeMap<&str, usize> = self.refused().into_iter().map(|(r, (n, ..))| (r, n)).collect();
            let mut told = serde_json::json!({
                "dry_run": args.dry_run,
                "applied": letters.applied,
                "duplicates": letters.duplicates,
                "refused": letters.refused.len(),
                "refused_by_reason": reasons,
                "without_payload": letters.without_payload,
                "without_stream": letters.without_stream,
                "read_again": letters.read_again,
                "unanswered": letters.unanswered,
                "gone": letters.gone,
                "unknown": self.unknown,
            });
            if let Some(error) = self.error {
                told["code"] = "failed".into();
                told["message"] = error.as_str().into();
            }
            print_json(&told);
            return;
        }
        let would = if args.dry_run { "would be " } else { "" };
        tell_unknown(self.unknown);
        if self.error.is_some() && *letters == RetriedLetters::default() {
            return;
        }
        outln!("{} {would}applied, {} {would}duplicates: their letters end", letters.applied, letters.duplicates);
        if letters.duplicates > 0 && !args.overwrite {
            outln!("  duplicates changed no row: what is there was left as it is (--overwrite sets it)");
        }
        if !letters.refused.is_empty() {
            outln!("{} refused again: they stay, each with its present reason", letters.refused.len());
        }
        for (reason, (letters, id, message)) in self.refused() {
            outln!("  {letters:>6} {reason}, such as {id}: {}", printable::printable(message));
        }
        for (letters, why) in [
            (letters.without_payload, "stay: their payload was too large to be kept; read them from Kafka"),
            (letters.without_stream, "stay: no stream of the configuration reads their topic"),
            (
                letters.read_again,
                "stay: offsets were set back before them, so that their records were read again; drop them",
            ),
            (
                letters.unanswered,
                "ended in a COMMIT whose answer was lost (or another took them): they are not in the numbers above, but in the ledger",
            ),
            (letters.gone, "were taken by another retry or drop meanwhile"),
        ] {
            if letters > 0 {
                outln!("{letters} {why}");
            }
        }
    }
}
