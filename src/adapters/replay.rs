//! CSV files to records: reads each file once to learn its types and its last event time, then again to send.
//! Must never send a record of a file that has not been read to its end before: a mistake anywhere in a file is told
//! while the topic is still untouched.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::config;
use crate::core::replay::{CellError, RecordBuilder, weeks_until};

mod csv_file;

use csv_file::{CsvFile, read_lookup, survey};

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
    /// By how many weeks times were moved.
    pub weeks: i64,
}

/// Reads the files of `replays` and sends their records, until all are delivered or `cancel` is set. Blocks.
///
/// Relative paths start at `base`. The files of one topic go one after another in the order given; between topics
/// the record with the earlier event time goes first, and those without event times before all others.
/// `progress` is called some ten times a second.
pub fn replay(
    replays: &[config::Replay],
    base: &Path,
    options: &Options,
    sink: &mut dyn RecordSink,
    progress: &mut dyn FnMut(&Progress),
    cancel: &AtomicBool,
) -> Result<Summary, ReplayError> {
    check(replays, options)?;
    let mut plan = Plan::read(replays, base, options)?;
    for feed in &mut plan.feeds {
        feed.number = sink.open(&feed.topic, feed.partitions)?;
    }
    let mut run = Run { sink, progress, cancel, state: Progress::default(), told: Instant::now(), feeds: Vec::new() };
    run.state.total = plan.total;
    run.feeds = plan.feeds.iter().map(|feed| feed.number).collect();
    let cancelled = !run.send_all(&mut plan.feeds, options.pace)?;
    let undelivered = run.settle()?;
    let topics = plan.feeds.iter().map(|feed| (feed.topic.clone(), sink.delivered(feed.number).arrived)).collect();
    Ok(Summary { topics, undelivered, cancelled, weeks: plan.weeks })
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
        _ => Ok(()),
    }
}

/// All that is known before the first record is sent.
struct Plan {
    feeds: Vec<Feed>,
    total: u64,
    weeks: i64,
}

impl Plan {
    fn read(replays: &[config::Replay], base: &Path, options: &Options) -> Result<Self, ReplayError> {
        let surveys = replays.iter().map(|replay| survey(base, replay)).collect::<Result<Vec<_>, ReplayError>>()?;
        let weeks = match options.shift {
            Shift::None => 0,
            Shift::WeeksToNow { now } => {
                surveys.iter().filter_map(|survey| survey.last_event).max().map_or(0, |last| weeks_until(last, now))
            }
        };
        let mut feeds: Vec<Feed> = Vec::new();
        let mut total = 0;
        for (replay, survey) in replays.iter().zip(surveys) {
            let rows = options.rows.map_or(survey.rows, |rows| rows.min(survey.rows));
            total += rows;
            let mut lookups = Vec::new();
            for lookup in &replay.lookups {
                let column = survey.column(&lookup.field)?;
                lookups.push((column, read_lookup(base, lookup, &survey)?));
            }
            let builder = RecordBuilder::new(
                &survey.header,
                &survey.types,
                survey.columns(&replay.key)?,
                survey.event_time,
                &survey.columns(&replay.times)?,
                lookups,
                weeks,
            );
            let has_key = !replay.key.is_empty();
            let source = Source { path: survey.path, header: survey.header, builder, rows, has_key };
            match feeds.iter_mut().find(|feed| feed.topic == replay.topic) {
                Some(feed) => feed.sources.push_back(source),
                None => feeds.push(Feed::new(replay, source)),
            }
        }
        Ok(Self { feeds, total, weeks })
    }
}

/// One file, ready to be read record by record.
struct Source {
    path: std::path::PathBuf,
    header: Vec<String>,
    builder: RecordBuilder,
    rows: u64,
    has_key: bool,
}

/// The records of one topic, one ahead.
struct Feed {
    topic: String,
    partitions: i32,
    /// What the sink calls the topic.
    number: usize,
    sources: VecDeque<Source>,
    file: Option<CsvFile>,
    key: Vec<u8>,
    payload: Vec<u8>,
    has_key: bool,
    event: Option<i64>,
}

impl Feed {
    fn new(replay: &config::Replay, source: Source) -> Self {
        Self {
            topic: replay.topic.clone(),
            partitions: replay.partitions,
            number: 0,
            sources: VecDeque::from([source]),
            file: None,
            key: Vec::new(),
            payload: Vec::new(),
            has_key: false,
            event: None,
        }
    }

    /// Makes the next record; `false` when there is none.
    fn advance(&mut self) -> Result<bool, ReplayError> {
        while let Some(source) = self.sources.front_mut() {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(CsvFile::open(&source.path)?),
            };
            if source.rows > 0 && file.next()? {
                source.rows -= 1;
                self.has_key = source.has_key;
                let row = file.row();
                self.event = source
                    .builder
                    .build(|column| &row[column], &mut self.key, &mut self.payload)
                    .map_err(|wrong| file.cell_error(&source.header[wrong.column], wrong.error))?;
                return Ok(true);
            }
            self.file = None;
            self.sources.pop_front();
        }
        Ok(false)
    }
}

/// How often the caller hears of progress.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// The longest wait without a look at `cancel`.
const NAP: Duration = Duration::from_millis(20);
/// After a cancel, how long what was already handed over may take to arrive before it is given up.
const LAST_CALL: Duration = Duration::from_secs(5);
/// Records between two looks at what came back and at the clock.
const RECORDS_PER_SERVE: u64 = 256;

struct Run<'a> {
    sink: &'a mut dyn RecordSink,
    progress: &'a mut dyn FnMut(&Progress),
    cancel: &'a AtomicBool,
    state: Progress,
    told: Instant,
    feeds: Vec<usize>,
}

impl Run<'_> {
    /// Sends every record; `false` when cancelled.
    fn send_all(&mut self, feeds: &mut [Feed], pace: Pace) -> Result<bool, ReplayError> {
        let mut live = Vec::new();
        for (index, feed) in feeds.iter_mut().enumerate() {
            if feed.advance()? {
                live.push(index);
            }
        }
        let started = Instant::now();
        let mut first_event = None;
        while let Some(&index) = live.iter().min_by_key(|&&index| feeds[index].event) {
            let feed = &mut feeds[index];
            let due = match pace {
                Pace::Unlimited => None,
                Pace::Rate(rate) => Some(self.state.sent as f64 / rate),
                Pace::Speed(speed) => feed.event.map(|event| {
                    let passed = event - *first_event.get_or_insert(event);
                    passed.max(0) as f64 / 1e6 / speed
                }),
            };
            if let Some(due) = due.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                while let Some(left) = due.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
                    if !self.pause(left.min(NAP))? {
                        return Ok(false);
                    }
                }
            }
            let key = feed.has_key.then_some(feed.key.as_slice());
            while !self.sink.send(feed.number, key, &feed.payload)? {
                if !self.pause(NAP)? {
                    return Ok(false);
                }
            }
            self.state.sent += 1;
            if self.state.sent.is_multiple_of(RECORDS_PER_SERVE) && !self.pause(Duration::ZERO)? {
                return Ok(false);
            }
            if !feed.advance()? {
                live.retain(|&other| other != index);
            }
        }
        Ok(!self.cancel.load(Ordering::Relaxed))
    }

    /// Waits until all is delivered. Answers with the records given up, after a cancel.
    fn settle(&mut self) -> Result<u64, ReplayError> {
        let mut last_call: Option<Instant> = None;
        while self.sink.pending() > 0 {
            if self.cancel.load(Ordering::Relaxed) {
                let since = *last_call.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_CALL {
                    self.sink.give_up();
                    break;
                }
            }
            self.pause(NAP)?;
        }
        // The reports of what was just delivered may still wait to be taken in.
        self.sink.serve(Duration::ZERO).or_else(|error| if last_call.is_some() { Ok(()) } else { Err(error) })?;
        self.tell();
        Ok(self.state.sent - self.state.delivered.min(self.state.sent))
    }

    /// Serves the sink for so long, tells progress when it is time; `false` when cancelled.
    fn pause(&mut self, wait: Duration) -> Result<bool, ReplayError> {
        self.sink.serve(wait)?;
        if self.told.elapsed() >= TOLD_EVERY {
            self.tell();
        }
        Ok(!self.cancel.load(Ordering::Relaxed))
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        self.state.delivered = self.feeds.iter().map(|&number| self.sink.delivered(number).arrived).sum();
        self.state.trouble = self.sink.trouble();
        (self.progress)(&self.state);
    }
}

#[cfg(test)]
mod tests;
