//! What will be sent, known whole before the first record is: the files surveyed, the lookups in memory, the shift.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::csv_file::{CsvFile, Survey, read_lookup, survey};
use super::{Options, ReplayError, Shift};
use crate::config;
use crate::core::replay::{RecordBuilder, days_around, weeks_until};

/// All that is known before the first record is sent.
pub(super) struct Plan {
    pub feeds: Vec<Feed>,
    pub total: u64,
    /// By how many days times move.
    pub days: i64,
}

impl Plan {
    pub fn read(replays: &[config::Replay], base: &Path, options: &Options) -> Result<Self, ReplayError> {
        let surveyed = replays.iter().map(|replay| survey(base, replay, options.rows));
        let surveys = surveyed.collect::<Result<Vec<_>, ReplayError>>()?;
        let days = match options.shift {
            Shift::None => 0,
            Shift::WeeksToNow { now } => {
                surveys.iter().filter_map(|survey| survey.last_event).max().map_or(0, |last| weeks_until(last, now) * 7)
            }
            Shift::AroundNow { now } => {
                span(replays, &surveys).map_or(0, |(first, last)| days_around(first, last, now))
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
                days,
            );
            let has_key = !replay.key.is_empty();
            let source = Source { path: survey.path, header: survey.header, builder, rows, has_key };
            match feeds.iter_mut().find(|feed| feed.topic == replay.topic) {
                Some(feed) => feed.sources.push_back(source),
                None => feeds.push(Feed::new(replay, source)),
            }
        }
        Ok(Self { feeds, total, days })
    }
}

/// From the earliest event time of all to the last one of the topic that ends first: from there on a topic is silent.
fn span(replays: &[config::Replay], surveys: &[Survey]) -> Option<(i64, i64)> {
    let mut topics: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (replay, survey) in replays.iter().zip(surveys) {
        if let Some((first, last)) = survey.sent_events {
            let topic = topics.entry(&replay.topic).or_insert((first, last));
            *topic = (topic.0.min(first), topic.1.max(last));
        }
    }
    Some((topics.values().map(|t| t.0).min()?, topics.values().map(|t| t.1).min()?))
}

/// One file, ready to be read record by record.
struct Source {
    path: PathBuf,
    header: Vec<String>,
    builder: RecordBuilder,
    rows: u64,
    has_key: bool,
}

/// The records of one topic, one ahead.
pub(super) struct Feed {
    pub topic: String,
    pub partitions: i32,
    /// What the sink calls the topic.
    pub number: usize,
    sources: VecDeque<Source>,
    file: Option<CsvFile>,
    key: Vec<u8>,
    has_key: bool,
    pub payload: Vec<u8>,
    /// In microseconds since 1970, moved.
    pub event: Option<i64>,
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

    pub fn key(&self) -> Option<&[u8]> {
        self.has_key.then_some(self.key.as_slice())
    }

    /// Makes the next record; `false` when there is none.
    pub fn advance(&mut self) -> Result<bool, ReplayError> {
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
