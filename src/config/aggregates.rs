//! Reads each `[[aggregate]]`, and checks it beside the tables that the streams feed.

use std::collections::HashMap;
use std::time::Duration;

use super::reader::{Fault, Reader, Section, Span, Text};
use super::schema::AGGREGATE;
use super::source::quoted;
use super::streams::ReadStream;
use super::unknown::nearest;
use super::{Aggregate, AggregatePlaces, Location, Width, daemon, names, units};

/// For a file with aggregates and nowhere to keep them.
pub(super) const HOW_TO_CACHE: &str = "add [cache] with `url = \"mongodb://user:${PASSWORD}@host/database\"` or \
    `url = \"sqlite://var/cache.db\"`: the documents of the aggregates are kept there";

const DEFAULT_EVERY: Duration = Duration::from_secs(5);
/// More often, looking would cost more than it finds.
const LEAST_EVERY: Duration = Duration::from_millis(100);
const A_DAY: Duration = Duration::from_secs(86_400);
/// A hundred years.
const MOST_KEPT: Duration = Duration::from_secs(36_500 * 86_400);

struct ReadAggregate {
    name: Option<Text>,
    table: Option<Text>,
    time: Option<Text>,
}

pub(super) fn read(
    r: &mut Reader<'_>,
    root: &Section<'_>,
    streams: &[ReadStream],
    locate: &dyn Fn(&Span) -> Location,
) -> Vec<Aggregate> {
    let (read, aggregates): (Vec<_>, Vec<_>) =
        r.each(root, &AGGREGATE, |r, s| read_aggregate(r, &s, locate)).into_iter().unzip();
    check_names(r, &read, locate);
    for aggregate in &read {
        check_table(r, aggregate, streams, locate);
    }
    aggregates
}

fn read_aggregate(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    locate: &dyn Fn(&Span) -> Location,
) -> (ReadAggregate, Aggregate) {
    let name = named(r, s, "name", name_of_an_aggregate);
    let table = named(r, s, "table", names::table);
    let time = named(r, s, "time", names::identifier);
    let bucket = r.required(s, "bucket").and_then(|text| match text.value.parse::<Width>() {
        Ok(width) => Some(width),
        Err(error) => {
            r.refuse("bucket", &text, Fault::new(error.what, error.help));
            None
        }
    });
    let query = r.required(s, "query").map(|text| r.path(&text, "query", false, true));
    let key = read_key(r, s);
    let every = r.parsed(s, "every", (DEFAULT_EVERY, "5s"), |text| daemon::between(text, LEAST_EVERY, A_DAY));
    let keep = r.text(s, "keep").and_then(|text| match kept(&text.value, bucket) {
        Ok(keep) => Some(keep),
        Err(fault) => {
            r.refuse("keep", &text, fault);
            None
        }
    });
    let place = |key: &str| locate(&s.place(key));
    let value = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone()).unwrap_or_default();
    let aggregate = Aggregate {
        name: value(&name),
        table: value(&table),
        time: value(&time),
        bucket: bucket.unwrap_or(Width::DAY),
        query: query.unwrap_or_default(),
        key,
        every,
        keep,
        places: AggregatePlaces {
            name: place("name"),
            table: place("table"),
            time: place("time"),
            query: place("query"),
            key: place("key"),
        },
    };
    (ReadAggregate { name, table, time }, aggregate)
}

pub(super) fn named(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    key: &'static str,
    check: impl Fn(&str) -> Result<(), Fault>,
) -> Option<Text> {
    r.required(s, key).filter(|text| check(&text.value).map_err(|fault| r.refuse(key, text, fault)).is_ok())
}

/// A label that is nobody else's in the cache, where documents are kept under it.
fn name_of_an_aggregate(name: &str) -> Result<(), Fault> {
    names::label(name)?;
    let lower = name.to_ascii_lowercase();
    for (prefix, owner) in [("bief_", "bief's own collections"), ("system.", "MongoDB's own collections")] {
        if lower.starts_with(prefix) {
            let what = format!("is reserved: `{prefix}` starts the names of {owner}");
            return Err(Fault::new(what, "give it another name"));
        }
    }
    Ok(())
}

/// Columns of the query's answer, each once.
fn read_key(r: &mut Reader<'_>, s: &Section<'_>) -> Vec<String> {
    let Some(texts) = r.texts(s, "key") else {
        if s.value("key").is_none() {
            r.default("key", "[]");
        }
        return Vec::new();
    };
    let mut key: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        if let Err(fault) = names::identifier(&text.value) {
            r.refuse("key", &text, fault);
        } else if key.iter().any(|known| known.eq_ignore_ascii_case(&text.value)) {
            r.error(&text.span, format!("`key` names {} twice", quoted(&text.raw)), "remove one of the two");
        }
        key.push(text.value);
    }
    key
}

fn kept(text: &str, bucket: Option<Width>) -> Result<Duration, Fault> {
    let keep = units::duration(text)?;
    let bucket = bucket.map_or(Duration::ZERO, |width| Duration::from_micros(width.micros().unsigned_abs()));
    if keep < bucket {
        return Err(Fault::new(
            "is shorter than a bucket",
            "write a longer time, or remove it to keep documents for ever",
        ));
    }
    if keep.is_zero() || keep > MOST_KEPT {
        return Err(Fault::new(
            "is out of range",
            "write a time up to \"36500d\", or remove it to keep documents for ever",
        ));
    }
    Ok(keep)
}

/// No two of one name: it is part of the documents' ids and of the API's paths.
fn check_names(r: &mut Reader<'_>, read: &[ReadAggregate], locate: &dyn Fn(&Span) -> Location) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for name in read.iter().filter_map(|aggregate| aggregate.name.as_ref()) {
        let line = locate(&name.span).line;
        match lines.get(name.value.as_str()) {
            Some(first) => r.error(
                &name.span,
                format!("the aggregate {} is there already, on line {first}", quoted(&name.raw)),
                "give one of the two another name",
            ),
            None => _ = lines.insert(&name.value, line),
        }
    }
}

/// Its table is one that a stream feeds, and its time is among the columns that it feeds.
fn check_table(
    r: &mut Reader<'_>,
    aggregate: &ReadAggregate,
    streams: &[ReadStream],
    locate: &dyn Fn(&Span) -> Location,
) {
    let Some(table) = &aggregate.table else { return };
    let tables: Vec<_> = streams.iter().flat_map(ReadStream::tables).collect();
    if tables.is_empty() {
        // That there is no stream, or none with a table, has been told.
        return;
    }
    let fed: Vec<_> = tables.iter().filter(|(name, _)| name.value.eq_ignore_ascii_case(&table.value)).collect();
    if fed.is_empty() {
        let near = nearest(&table.value, tables.iter().map(|(name, _)| name.value.as_str()));
        // By its text in the file, since a name from the environment is not shown.
        let help = match tables.iter().find(|(name, _)| near == Some(name.value.as_str())) {
            Some((near, _)) => format!("did you mean {}?", quoted(&near.raw)),
            None => "name the table of a [[stream.table]]: rows that nobody writes make no bucket dirty".to_owned(),
        };
        r.error(&table.span, format!("no stream feeds the table {}", quoted(&table.raw)), help);
        return;
    }
    let Some(time) = &aggregate.time else { return };
    let columns = || fed.iter().flat_map(|(_, mapping)| &mapping.columns).map(|column| column.column.as_str());
    // What was wrong with the columns themselves has been told.
    if columns().next().is_none() || columns().any(|column| column.eq_ignore_ascii_case(&time.value)) {
        return;
    }
    let help = match nearest(&time.value, columns()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!(
            "name a time of the table's primary key: the [[stream.table]] on line {} must map it",
            fed.first().map_or(0, |(name, _)| locate(&name.span).line)
        ),
    };
    r.error(
        &time.span,
        format!("no stream feeds a column {} of the table {}", quoted(&time.raw), quoted(&table.raw)),
        help,
    );
}
