//! Reads each `[[stream]]` with its tables and columns, and checks them beside each other.

use std::collections::HashMap;

use crate::core::memory::LARGEST_RECORD;
use crate::core::target::OnConflict;

use super::database_url::Backend;
use super::reader::{Fault, Reader, Section, Span, Text};
use super::schema::{STREAM, TABLE};
use super::source::quoted;
use super::{Location, Start, Stream, TableMapping, columns, names, units};

/// Writers of one stream; more gained nothing and each holds a connection.
const MOST_LANES: u32 = 64;
/// Beyond these many lanes by default, a small machine's cores are better left to the database.
const MOST_DEFAULT_LANES: usize = 4;
const LEAST_BYTES: u64 = 1 << 10;

/// What the values of the other sections mean for a stream.
pub(super) struct Surroundings<'a> {
    pub backend: Option<Backend>,
    pub memory: u64,
    pub locate: &'a dyn Fn(&Span) -> Location,
}

pub(super) struct ReadStream {
    pub stream: Stream,
    pub topic: Option<Text>,
    pub name: Span,
    dead_letter_topic: Span,
    tables: Vec<ReadTable>,
}

struct ReadTable {
    name: Option<Text>,
    on_conflict: OnConflict,
    conflict: Span,
}

impl ReadStream {
    /// The tables that the stream feeds: each name as it is written, and its mapping.
    pub fn tables(&self) -> impl Iterator<Item = (&Text, &TableMapping)> {
        let read = self.tables.iter().zip(&self.stream.tables);
        read.filter_map(|(table, mapping)| Some((table.name.as_ref()?, mapping)))
    }
}

pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>, around: &Surroundings<'_>) -> Vec<ReadStream> {
    let streams = r.each(root, &STREAM, |r, s| read_stream(r, &s, around));
    if streams.is_empty() && root.value(STREAM.name()).is_none_or(|v| v.get_ref().is_array()) {
        r.missing_section(
            root,
            &STREAM,
            "add [[stream]] with its `topic` and, below it, [[stream.table]] for each table that it feeds",
        );
    }
    check_names(r, &streams, around);
    check_dead_letter_topics(r, &streams);
    check_tables(r, &streams, around);
    streams
}

fn read_stream(r: &mut Reader<'_>, s: &Section<'_>, around: &Surroundings<'_>) -> ReadStream {
    let topic =
        r.required(s, "topic").filter(|text| names::topic(&text.value).map_err(|f| r.refuse("topic", text, f)).is_ok());
    let topic_name = topic.as_ref().map_or(String::new(), |t| t.value.clone());
    let default_name = topic.as_ref().map_or(String::new(), |t| t.raw.clone());
    let name =
        r.parsed(s, "name", (topic_name.clone(), &default_name), |text| names::stream(text).map(|()| text.to_owned()));
    if let (Some(topic), None) = (&topic, s.value("name"))
        && let Err(fault) = names::stream(&name)
    {
        r.refuse("topic", topic, fault);
    }
    let start = r.choice(s, "start", &[("earliest", Start::Earliest), ("latest", Start::Latest)], Start::Earliest);
    let lanes = r.integer(s, "lanes", 1..=MOST_LANES, default_lanes(around.backend));
    if lanes > 1 && around.backend == Some(Backend::Sqlite) {
        r.error(
            &s.place("lanes"),
            format!("`lanes` = {lanes}, but SQLite lets one writer in at a time"),
            "write `lanes = 1` or remove it",
        );
    }
    let max_batch_records = r.integer(s, "max_batch_records", 1..=100_000, 10_000);
    let max_batch_bytes = bytes(r, s, "max_batch_bytes", 8 << 20);
    let max_record_bytes = bytes(r, s, "max_record_bytes", 4 << 20);
    if max_record_bytes > max_batch_bytes {
        let key = if s.value("max_record_bytes").is_some() { "max_record_bytes" } else { "max_batch_bytes" };
        let (record, batch) = (units::size_text(max_record_bytes), units::size_text(max_batch_bytes));
        r.error(
            &s.place(key),
            format!(
                "a record of `max_record_bytes` ({record}) would not fit into a batch of `max_batch_bytes` ({batch})"
            ),
            "raise `max_batch_bytes` or lower `max_record_bytes`",
        );
    }
    let largest = around.memory / LARGEST_RECORD;
    if max_record_bytes > largest {
        let (record, part) = (units::size_text(max_record_bytes), units::size_text(largest));
        r.error(
            &s.place("max_record_bytes"),
            format!(
                "`max_record_bytes` ({record}) is more than an eighth of `memory` in [daemon] ({part}): a record's text \
                 is in memory several times while it is written"
            ),
            "lower it, or raise `memory`; a larger record is set aside with its size and hash",
        );
    }
    if max_batch_bytes > around.memory / 2 {
        let half = units::size_text(around.memory / 2);
        r.error(
            &s.place("max_batch_bytes"),
            format!("`max_batch_bytes` is more than half of `memory` in [daemon] ({half}), so no batch could fill while one is written"),
            "lower it, or raise `memory`",
        );
    }
    let dead_letter_topic = r
        .text(s, "dead_letter_topic")
        .filter(|text| names::topic(&text.value).map_err(|f| r.refuse("dead_letter_topic", text, f)).is_ok())
        .map(|text| text.value);
    let max_dead_letter_share = r.share(s, "max_dead_letter_share", 0.05);
    if s.value(TABLE.name()).is_none() {
        r.missing_section(
            s,
            &TABLE,
            "add [[stream.table]] below it, with `name` and `columns`, for each table that its records go into",
        );
    }
    let (tables, mappings) = r.each(s, &TABLE, |r, s| read_table(r, &s, around)).into_iter().unzip();
    let stream = Stream {
        name,
        topic: topic_name,
        start,
        lanes: usize::try_from(lanes).unwrap_or(1),
        max_batch_records: usize::try_from(max_batch_records).unwrap_or(usize::MAX),
        max_batch_bytes: usize::try_from(max_batch_bytes).unwrap_or(usize::MAX),
        max_record_bytes: usize::try_from(max_record_bytes).unwrap_or(usize::MAX),
        dead_letter_topic,
        max_dead_letter_share,
        tables: mappings,
    };
    ReadStream { stream, topic, name: s.place("name"), dead_letter_topic: s.place("dead_letter_topic"), tables }
}

fn default_lanes(backend: Option<Backend>) -> u32 {
    if backend != Some(Backend::MySql) {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores.min(MOST_DEFAULT_LANES)).unwrap_or(1)
}

fn bytes(r: &mut Reader<'_>, s: &Section<'_>, key: &'static str, default: u64) -> u64 {
    r.parsed(s, key, (default, &units::size_text(default)), |text| {
        let bytes = units::size(text)?;
        if !(LEAST_BYTES..=1 << 30).contains(&bytes) {
            return Err(Fault::new("is out of range", "write a size from \"1KiB\" to \"1GiB\""));
        }
        Ok(bytes)
    })
}

fn read_table(r: &mut Reader<'_>, s: &Section<'_>, around: &Surroundings<'_>) -> (ReadTable, TableMapping) {
    let name =
        r.required(s, "name").filter(|text| names::table(&text.value).map_err(|f| r.refuse("name", text, f)).is_ok());
    let options = [("ignore", OnConflict::Ignore), ("update", OnConflict::Update)];
    let on_conflict = r.choice(s, "on_conflict", &options, OnConflict::Ignore);
    let optional = r.boolean(s, "optional", false);
    let columns = columns::read(r, s, around.locate);
    let mapping = TableMapping {
        table: name.as_ref().map_or(String::new(), |n| n.value.clone()),
        on_conflict,
        optional,
        columns,
        location: (around.locate)(&s.place("name")),
    };
    (ReadTable { name, on_conflict, conflict: s.place("on_conflict") }, mapping)
}

/// No two streams of one topic or one name.
fn check_names(r: &mut Reader<'_>, streams: &[ReadStream], around: &Surroundings<'_>) {
    let mut topics: HashMap<&str, usize> = HashMap::new();
    let mut stream_names: HashMap<&str, usize> = HashMap::new();
    for read in streams {
        let Some(topic) = &read.topic else { continue };
        let line = (around.locate)(&topic.span).line;
        if let Some(first) = topics.get(topic.value.as_str()) {
            r.error(
                &topic.span,
                format!("the topic {} has a stream already, on line {first}", quoted(&topic.raw)),
                "move the tables of this [[stream]] to that one: one record can feed several tables",
            );
            continue;
        }
        topics.insert(&topic.value, line);
        let name_line = (around.locate)(&read.name).line;
        if let Some(first) = stream_names.insert(&read.stream.name, name_line) {
            r.error(
                &read.name,
                format!("another stream has this name, on line {first}"),
                "write another `name`: it tells the streams apart in metrics and in the names of their consumer groups",
            );
        }
    }
}

/// No dead letter comes back to the stream that it is of, also not by way of another stream's.
fn check_dead_letter_topics(r: &mut Reader<'_>, streams: &[ReadStream]) {
    let to = |read: &ReadStream| Some((read.topic.as_ref()?.value.clone(), read.stream.dead_letter_topic.clone()?));
    let to: HashMap<String, String> = streams.iter().filter_map(to).collect();
    for read in streams {
        let Some(topic) = &read.topic else { continue };
        let way = std::iter::successors(to.get(&topic.value), |at| to.get(*at)).take(streams.len());
        let Some(steps) = way.map(String::as_str).position(|at| at == topic.value) else { continue };
        let whose = if steps == 0 {
            "the topic of the stream itself"
        } else {
            "read by a stream whose dead letters come back to this one"
        };
        r.error(
            &read.dead_letter_topic,
            format!("`dead_letter_topic` is {whose}: its dead letters would be read again for ever"),
            "name another topic",
        );
    }
}

/// A table is treated in one way within a stream; between streams, updates have no order.
fn check_tables(r: &mut Reader<'_>, streams: &[ReadStream], around: &Surroundings<'_>) {
    let mut updated: HashMap<String, (usize, usize)> = HashMap::new();
    for (index, read) in streams.iter().enumerate() {
        let mut fed: HashMap<String, (OnConflict, usize)> = HashMap::new();
        for table in &read.tables {
            let Some(name) = &table.name else { continue };
            let key = name.value.to_ascii_lowercase();
            let line = (around.locate)(&name.span).line;
            let (first, first_line) = *fed.entry(key.clone()).or_insert((table.on_conflict, line));
            if first != table.on_conflict {
                r.error(
                    &table.conflict,
                    format!(
                        "the table {} has another `on_conflict` on line {first_line} of the same stream",
                        quoted(&name.raw)
                    ),
                    "write the same `on_conflict` in both",
                );
            }
            if table.on_conflict != OnConflict::Update {
                continue;
            }
            match updated.get(&key) {
                Some((other, other_line)) if *other != index => r.warning(
                    &table.conflict,
                    format!("the table {} is updated from another stream too, on line {other_line}", quoted(&name.raw)),
                    "make sure that the two never meet in one row: order holds within a partition only, so the last one wins",
                ),
                Some(_) => {}
                None => {
                    updated.insert(key, (index, line));
                }
            }
        }
    }
}
