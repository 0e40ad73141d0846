//! CSV files to records: reads each file once to learn its types and its last event time, then again to send.
//! Must never send a record of a file that has not been read to its end before: a mistake anywhere in a file is told
//! while the topic is still untouched.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config;
use crate::core::replay::CellError;
use crate::ports::Clock;

mod csv_file;
mod plan;
mod run;

use plan::Plan;
use run::Run;

/// What stopped a replay, in words for the one who started it.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: std::io::Error },
    #[error("{file}, line {line}: {what}")]
    Row { file: String, line: u64, what: String },
    #[error("{file}, line {line}, column {column:?}: {error}")]
    Cell { file: String, line: u64, column: String, error: CellError },
    #[error("{file}: {what}")]
    File { file: String, what: String },
    #[error("{0}")]
    Options(String),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What the receiving side said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Records of one topic that the receiving side has answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    pub arrived: u64,
    pub failed: u64,
}

/// Where a replay's records go.
pub trait RecordSink {
    /// Makes sure that the topic is there, with so many partitions where it has to be created. Answers with the number that `send` and
    /// `delivered` know it by.
    fn open(&mut self, topic: &str, partitions: i32) -> Result<usize, SinkError>;

    /// Takes a record over; `false` when there is no room: nothing was taken, `serve` makes room.
    fn send(&mut self, topic: usize, key: Option<&[u8]>, payload: &[u8]) -> Result<bool, SinkError>;

    /// Takes in what came back, waiting at most so long. The first record that could not be delivered is an error.
    fn serve(&mut self, wait: Duration) -> Result<(), SinkError>;

    /// Records taken over and not yet answered for.
    fn pending(&self) -> usize;

    /// Drops what is pending.
    fn give_up(&mut self);

    fn delivered(&self, topic: usize) -> Delivered;

    /// What keeps deliveries from moving, while it does.
    fn trouble(&self) -> Option<String>;
}

/// By how much the time columns of a replay move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shift {
    #[default]
    None,
    /// By one number of whole weeks for all files of the replay, such that the latest event time of them all falls
    /// at or before `now`, less than a week before.
    WeeksToNow { now: DateTime<Utc> },
    /// By one number of days for all files, such that `now` falls near the end of the topic that ends first:
    /// [`days_around`](crate::core::replay::days_around).
    AroundNow { now: DateTime<Utc> },
}

/// How fast records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Pace {
    #[default]
    Unlimited,
    /// Records a second, over all topics.
    Rate(f64),
    /// This many times as fast as the event times pass.
    Speed(f64),
    /// The history at once, the last stretch before the present this many times as fast as the event times pass, and
    /// from there on each record at its event time: [`Timetable`](crate::core::replay::Timetable).
    UpToNow(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Only so many records of each file, from its first.
    pub rows: Option<u64>,
    pub pace: Pace,
    pub shift: Shift,
}

/// How far a replay is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    pub total: u64,
    /// Handed to the client.
    pub sent: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// How many records were history, once all of them are sent; at a pace up to now, else never.
    pub history: Option<u64>,
    /// Whether the last record was sent at its event time: the replay has come up to now.
    pub is_live: bool,
    /// Why nothing moves, where the client says so.
    pub trouble: Option<String>,
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records delivered, by topic.
    pub topics: BTreeMap<String, u64>,
    /// Records handed to the client of which nobody knows whether they arrived; only after a cancel.
    pub undelivered: u64,
    pub cancelled: bool,
    /// By how many days times were moved.
    pub days: i64,
}

/// Reads the files of `replays` and sends their records, until all are delivered or `cancel` is set. Blocks.
///
/// Relative paths start at `base`. The files of one topic go one after another in the order given; between topics
/// the record with the earlier event time goes first, and those without event times before all others.
/// `progress` is called some ten times a second. `clock` is asked at a pace up to now alone.
pub fn replay(
    replays: &[config::Replay],
    base: &Path,
    options: &Options,
    sink: &mut dyn RecordSink,
    progress: &mut dyn FnMut(&Progress),
    cancel: &AtomicBool,
    clock: &dyn Clock,
) -> Result<Summary, ReplayError> {
    check(replays, options)?;
    let mut plan = Plan::read(replays, base, options)?;
    for feed in &mut plan.feeds {
        feed.number = sink.open(&feed.topic, feed.partitions)?;
    }
    let mut run = Run::new(sink, progress, cancel, clock, &plan);
    let cancelled = !run.send_all(&mut plan.feeds, options.pace)?;
    let undelivered = run.settle()?;
    let topics = plan.feeds.iter().map(|feed| (feed.topic.clone(), sink.delivered(feed.number).arrived)).collect();
    Ok(Summary { topics, undelivered, cancelled, days: plan.days })
}

fn check(replays: &[config::Replay], options: &Options) -> Result<(), ReplayError> {
    let wrong = |what: &str| Err(ReplayError::Options(what.to_string()));
    match options.pace {
        Pace::Rate(rate) if !(rate.is_finite() && rate > 0.0) => wrong("the rate must be above 0 records a second"),
        Pace::Speed(speed) if !(speed.is_finite() && speed > 0.0) => {
            wrong("the speed must be above 0; 1 replays as fast as it happened")
        }
        Pace::Speed(_) => match replays.iter().find(|replay| replay.event_time.is_none()) {
            Some(replay) => Err(ReplayError::File {
                file: replay.file.display().to_string(),
                what: "a replay at a speed needs the file's time column: set event_time, or give a rate".to_string(),
            }),
            None => Ok(()),
        },
        Pace::UpToNow(speed) if !(speed.is_finite() && speed >= 1.0) => {
            wrong("the pace must be at least 1, which is as fast as it happened")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
