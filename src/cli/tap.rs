//! `bief tap`: records of a running daemon as they pass a stage. Asks and prints; conditions are asked by the daemon.
//! What a record holds never reaches the terminal as it is.

mod shown;

use std::io::{BufRead, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::shown::{Counts, Line, Sample, Summary};
use super::exit;
use super::http_client::{AskError, Daemon, TOKEN_NEEDED};
use super::printable::{json_escaped, printable};
use crate::core::field_path::FieldPath;
use crate::core::filter::Filter;
use crate::messages::tap::{Sample as Sampled, Stage};

const EXAMPLES: &str = "\
Examples:
  bief tap rows
  bief tap raw --where 'record.amount > 100' --limit 5
  bief tap rows --fields city,rows.orders.id --json
  bief tap dead-letters --count-by reason --for 60

A condition is CEL. It asks of stage, stream, topic, partition, offset, timestamp, key, size, payload,
record (the payload where it is JSON), rows (by table), reason, field, message, committed_at and
latency_ms. In --fields and --count-by a bare name is a field of the record.

Up to 1,000 records a second are looked at, evenly spread; the stream never waits for it.

Exit codes: 0 ended by --limit, --for or the reader, 1 the condition took too long, 2 wrong arguments,
address or token, 5 no answer, or the daemon ended it";

/// A daemon that tells nothing for so long is gone; it tells where it stands once a second.
const SILENCE: Duration = Duration::from_secs(15);

/// Bytes; a sample is bounded by its daemon to far less.
const LONGEST_LINE: u64 = 4 << 20;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum At {
    /// Records as they were polled
    Raw,
    /// Committed records, with the rows that they became
    Rows,
    /// Records that were set aside, with the reason
    DeadLetters,
}

impl At {
    fn stage(self) -> Stage {
        match self {
            At::Raw => Stage::Raw,
            At::Rows => Stage::Rows,
            At::DeadLetters => Stage::DeadLetters,
        }
    }
}

/// Show a running daemon's records as they pass
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where to look
    stage: At,

    #[command(flatten)]
    daemon: Daemon,

    /// Only records for which this condition holds
    #[arg(long = "where", value_name = "CEL")]
    condition: Option<String>,

    /// Only these fields
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    fields: Vec<String>,

    /// Count records by a field's value, instead of showing them
    #[arg(long, value_name = "NAME", conflicts_with = "fields")]
    count_by: Option<String>,

    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// End after so many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,

    /// Print the daemon's own lines: one JSON object each
    #[arg(long)]
    json: bool,
}

#[cfg(test)]
impl Args {
    pub(super) fn of(daemon: Daemon, stage: Stage, limit: u64, json: bool) -> Self {
        let stage = match stage {
            Stage::Raw => At::Raw,
            Stage::Rows => At::Rows,
            Stage::DeadLetters => At::DeadLetters,
        };
        let (condition, fields, count_by) = (None, Vec::new(), None);
        Self { stage, daemon, condition, fields, count_by, limit: Some(limit), seconds: Some(30), json }
    }

    pub(super) fn with_condition(self, condition: &str) -> Self {
        Self { condition: Some(condition.to_owned()), ..self }
    }

    pub(super) fn with_count_by(self, field: &str) -> Self {
        Self { count_by: Some(field.to_owned()), ..self }
    }

    pub(super) fn with_fields(self, fields: &[&str]) -> Self {
        Self { fields: fields.iter().map(|field| (*field).to_owned()).collect(), ..self }
    }
}

/// What the daemon refuses with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
}

/// Prints to `out`, which is a terminal or not, until the end that was asked for; what went wrong to stderr.
pub fn run(args: &Args, is_terminal: bool, out: &mut dyn Write) -> u8 {
    if let Err(wrong) = args.judge() {
        errln!("bief: {}", printable(&wrong));
        return exit::USAGE;
    }
    let limit = args.limit.map(|limit| limit.to_string());
    let fields = args.fields.join(",");
    let mut query = vec![("stage", args.stage.stage().as_str())];
    query.extend(args.condition.as_deref().map(|condition| ("where", condition)));
    query.extend((!fields.is_empty()).then_some(("fields", fields.as_str())));
    query.extend(args.count_by.as_deref().map(|field| ("count_by", field)));
    query.extend(limit.as_deref().map(|limit| ("limit", limit)));
    let mut lines = match args.daemon.lines("/api/v1/tap", &query, SILENCE) {
        Ok(lines) => lines,
        Err(error) => {
            errln!("bief: {}", printable(&error.to_string()));
            return if matches!(error, AskError::Usage(_)) { exit::USAGE } else { exit::NOT_READY };
        }
    };
    match lines.status {
        200 => {}
        401 => {
            errln!("{TOKEN_NEEDED}");
            return exit::USAGE;
        }
        status => {
            let mut told = String::new();
            // A refusal is one short line; what is cut off is not missed.
            let _ = (&mut lines.reader).take(4096).read_to_string(&mut told);
            let detail = serde_json::from_str::<Problem>(&told).unwrap_or_default().detail;
            errln!("bief: the daemon refuses: HTTP {status}. {}", printable(&detail));
            return if status == 400 { exit::USAGE } else { exit::NOT_READY };
        }
    }
    let mut shown = Shown { args, out, is_terminal, drawn: 0, counts: None, summary: Summary::default() };
    let end = shown.follow(&mut lines.reader);
    if end.is_told() && !args.json {
        shown.told_at_the_end();
    }
    match end {
        End::AsAsked | End::ReaderHasGone => exit::OK,
        End::Refused(cause) => {
            errln!("bief: {}", printable(&cause));
            exit::FAILED
        }
        End::DaemonEnded(cause) => {
            errln!("bief: the daemon ended it: {}", printable(&cause));
            exit::NOT_READY
        }
        End::NotWritten(error) => {
            errln!("bief: what was seen could not be written: {error}");
            exit::FAILED
        }
    }
}

impl Args {
    /// What is wrong with what was asked for; the daemon says less of it.
    fn judge(&self) -> Result<(), String> {
        if let Some(condition) = &self.condition {
            Filter::new(condition, &Sampled::NAMES).map_err(|wrong| format!("--where: {wrong}"))?;
        }
        for field in &self.fields {
            FieldPath::new(field, &Sampled::NAMES).map_err(|wrong| format!("--fields: {wrong}"))?;
        }
        if let Some(field) = &self.count_by {
            FieldPath::new(field, &Sampled::NAMES).map_err(|wrong| format!("--count-by: {wrong}"))?;
        }
        Ok(())
    }
}

/// Why it ended.
enum End {
    AsAsked,
    ReaderHasGone,
    Refused(String),
    DaemonEnded(String),
    NotWritten(std::io::Error),
}

impl End {
    fn is_told(&self) -> bool {
        matches!(self, End::AsAsked | End::Refused(_) | End::DaemonEnded(_))
    }
}

/// What is on the terminal.
struct Shown<'a> {
    args: &'a Args,
    out: &'a mut dyn Write,
    is_terminal: bool,
    /// Lines of the table that the next one replaces.
    drawn: usize,
    counts: Option<Counts>,
    summary: Summary,
}

impl Shown<'_> {
    fn follow(&mut self, reader: &mut dyn BufRead) -> End {
        let began = Instant::now();
        let mut text = String::new();
        loop {
            text.clear();
            match (&mut *reader).take(LONGEST_LINE).read_line(&mut text) {
                Ok(0) if self.args.limit.is_some_and(|limit| self.summary.matched >= limit) => return End::AsAsked,
                Ok(0) => return End::DaemonEnded("the connection was closed".to_owned()),
                Ok(_) => {}
                Err(error) => return End::DaemonEnded(error.to_string()),
            }
            let line = match serde_json::from_str::<Line>(&text) {
                Ok(line) => line,
                Err(_) => return End::DaemonEnded("a line is not what a daemon of this version tells".to_owned()),
            };
            let written = match &line {
                Line::Error { message } => return End::Refused(message.clone()),
                _ if self.args.json => write!(self.out, "{}", json_escaped(&text)),
                Line::Sample(sample) => self.show(sample),
                Line::Counts(counts) => self.redraw(counts),
                Line::Summary(_) | Line::Other => Ok(()),
            };
            match written.and_then(|()| self.out.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return End::ReaderHasGone,
                Err(error) => return End::NotWritten(error),
            }
            match line {
                Line::Summary(summary) => self.summary = summary,
                Line::Counts(counts) => self.counts = Some(counts),
                _ => {}
            }
            if self.args.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds) {
                return End::AsAsked;
            }
        }
    }

    fn show(&mut self, sample: &Sample) -> std::io::Result<()> {
        self.out.write_all(sample.text(&self.args.fields).as_bytes())
    }

    /// In place on a terminal; elsewhere only the last one is written.
    fn redraw(&mut self, counts: &Counts) -> std::io::Result<()> {
        if !self.is_terminal {
            return Ok(());
        }
        let table = counts.text();
        if self.drawn > 0 {
            write!(self.out, "\u{1b}[{}A\u{1b}[J", self.drawn)?;
        }
        self.drawn = table.lines().count();
        self.out.write_all(table.as_bytes())
    }

    fn told_at_the_end(&mut self) {
        if self.drawn == 0
            && let Some(counts) = &self.counts
        {
            // What can't be written any more was said before.
            let _ = self.out.write_all(counts.text().as_bytes()).and_then(|()| self.out.flush());
        }
        err!("{}", self.summary.text());
    }
}
