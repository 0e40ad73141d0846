//! What a listener gets of one record: its bytes, the rows it became and why it was set aside, side by side, each cut
//! to a bounded length. Copied from a batch, never a part of it: a listener must not keep a batch's memory.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Stage, Tap};
use crate::core::cell::Cell;
use crate::core::mapping::Plan;
use crate::core::outcome::Rejection;
use crate::core::schema::Table;
use crate::core::shown;
use crate::messages::{RecordBatch, RowBatch};

/// Bytes of a payload that a sample keeps.
pub const PAYLOAD_SHOWN: usize = 16 << 10;
/// Bytes of a key, and of a text in a row.
const TEXT_SHOWN: usize = 1 << 10;

/// One record at one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub stage: Stage,
    pub stream: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970 as the broker tells it; -1 where it gives none.
    pub timestamp: i64,
    pub key: Option<String>,
    /// `None` for a tombstone and for a record above the stream's limit. Bytes that are no UTF-8 are replaced.
    pub payload: Option<String>,
    /// All bytes of the payload, kept or not.
    pub payload_bytes: u64,
    /// What it became, or what was refused by the database.
    pub rows: Vec<SampledRow>,
    /// Why it was set aside.
    pub rejection: Option<Rejection>,
    /// Milliseconds since 1970; `None` before it is committed.
    pub committed_at: Option<i64>,
}

/// One row that a record became.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledRow {
    pub table: Arc<Table>,
    /// Position in the table's columns, and the value; what the record says nothing of is left out.
    pub columns: Vec<(usize, Value)>,
}

/// The tap of one stream's pipeline. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamTap {
    tap: Tap,
    stream: Arc<str>,
    plan: Arc<Plan>,
}

impl StreamTap {
    pub fn new(tap: Tap, stream: &str, plan: Arc<Plan>) -> Self {
        Self { tap, stream: stream.into(), plan }
    }

    /// A batch was polled and is about to be decoded.
    pub fn polled(&self, batch: &RecordBatch) {
        if self.tap.listened().has(Stage::Raw) {
            self.tap.offer(Stage::Raw, batch.records.len(), |index| Some(self.record(Stage::Raw, batch, index)));
        }
    }

    /// A batch was committed as far as its partitions are among `offsets`. `set_aside`, ascending: positions of the
    /// records that became dead letters, and why. `now`: milliseconds since 1970.
    pub fn committed(&self, batch: &RowBatch, offsets: &[(i32, i64)], set_aside: &[(u32, Rejection)], now: i64) {
        let listened = self.tap.listened();
        if listened.is_empty() {
            return;
        }
        if listened.has(Stage::Rows) {
            self.tap.offer(Stage::Rows, batch.source.records.len(), |index| {
                let record = &batch.source.records[index];
                let is_in = offsets.iter().any(|(partition, _)| *partition == record.partition);
                let is_letter = set_aside.binary_search_by_key(&(index as u32), |(at, _)| *at).is_ok();
                (is_in && !is_letter).then(|| Sample {
                    rows: self.rows(batch, index),
                    committed_at: Some(now),
                    ..self.record(Stage::Rows, &batch.source, index)
                })
            });
        }
        if listened.has(Stage::DeadLetters) {
            self.tap.offer(Stage::DeadLetters, set_aside.len(), |nth| {
                let (index, rejection) = &set_aside[nth];
                Some(Sample {
                    rows: self.rows(batch, *index as usize),
                    rejection: Some(rejection.clone()),
                    committed_at: Some(now),
                    ..self.record(Stage::DeadLetters, &batch.source, *index as usize)
                })
            });
        }
    }

    fn record(&self, stage: Stage, batch: &RecordBatch, index: usize) -> Sample {
        let record = &batch.records[index];
        let payload = record.payload.map(|span| span.of(&batch.bytes));
        Sample {
            stage,
            stream: Arc::clone(&self.stream),
            topic: Arc::clone(&self.plan.topic),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|span| text(span.of(&batch.bytes), TEXT_SHOWN)),
            payload: payload.map(|bytes| text(bytes, PAYLOAD_SHOWN)),
            payload_bytes: payload.map_or(record.oversize.map_or(0, |o| o.bytes), |bytes| bytes.len() as u64),
            rows: Vec::new(),
            rejection: None,
            committed_at: None,
        }
    }

    fn rows(&self, batch: &RowBatch, index: usize) -> Vec<SampledRow> {
        let arena = &batch.source.bytes;
        let mut sampled = Vec::new();
        for (target, rows) in self.plan.targets.iter().zip(&batch.tables) {
            let width = target.columns.len();
            // Rows stand in the order of their records.
            let first = rows.records.partition_point(|record| (*record as usize) < index);
            let of_record = rows.records[first..].iter().take_while(|record| **record as usize == index);
            for row in first..first + of_record.count() {
                let cells = target.columns.iter().zip(&rows.cells[row * width..(row + 1) * width]);
                let columns = cells
                    .filter(|(_, cell)| **cell != Cell::Missing)
                    .map(|(column, cell)| (*column, shortened(shown::json(cell, arena))))
                    .collect();
                sampled.push(SampledRow { table: Arc::clone(&target.table), columns });
            }
        }
        sampled
    }
}

impl Sample {
    /// The names of a document's members.
    pub const NAMES: [&str; 16] = [
        "stage",
        "stream",
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "size",
        "payload",
        "record",
        "rows",
        "reason",
        "field",
        "message",
        "committed_at",
        "latency_ms",
    ];

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        /// A value and its place, and a text's own allocation.
        const CELL: usize = 64;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let cell = |(_, value): &(usize, Value)| CELL + value.as_str().map_or(0, str::len);
        let rows: usize = self.rows.iter().flat_map(|row| row.columns.iter().map(cell)).sum();
        let rejection = self.rejection.as_ref().map_or(0, |r| r.message.len() + text(&r.field));
        size_of::<Self>() + text(&self.key) + text(&self.payload) + rows + rejection
    }

    /// As a JSON object, which filters are asked of and fields are taken from: `record` is the payload where it is
    /// JSON, `rows` the rows by table, `reason`, `field` and `message` say why it was set aside, `latency_ms` is the time
    /// from the broker to the commit.
    pub fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        let mut say = |name: &str, value: Value| document.insert(name.to_owned(), value);
        say("stage", self.stage.as_str().into());
        say("stream", Value::from(&*self.stream));
        say("topic", Value::from(&*self.topic));
        say("partition", self.partition.into());
        say("offset", self.offset.into());
        say("timestamp", if self.timestamp < 0 { Value::Null } else { shown::moment_of_millis(self.timestamp).into() });
        say("key", self.key.clone().into());
        say("size", self.payload_bytes.into());
        say("payload", self.payload.clone().into());
        let record = self.payload.as_deref().and_then(|payload| serde_json::from_str(payload).ok());
        say("record", record.unwrap_or(Value::Null));
        let mut tables: Map<String, Value> = Map::new();
        for row in &self.rows {
            let columns = row.columns.iter().map(|(at, value)| (row.table.columns[*at].name.clone(), value.clone()));
            let of_table = tables.entry(row.table.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(rows) = of_table {
                rows.push(Value::Object(columns.collect()));
            }
        }
        say("rows", Value::Object(tables));
        let rejection = self.rejection.as_ref();
        say("reason", rejection.map(|r| r.reason.as_str()).into());
        say("field", rejection.and_then(|r| r.field.as_deref()).into());
        say("message", rejection.map(|r| r.message.as_str()).into());
        say("committed_at", self.committed_at.map(shown::moment_of_millis).into());
        let latency = self.committed_at.filter(|_| self.timestamp >= 0).map(|at| at - self.timestamp);
        say("latency_ms", latency.into());
        document
    }
}

/// At most so many bytes as text.
fn text(bytes: &[u8], most: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned()
}

fn shortened(value: Value) -> Value {
    match value {
        Value::String(long) if long.len() > TEXT_SHOWN => Value::String(text(long.as_bytes(), TEXT_SHOWN) + "…"),
        other => other,
    }
}
