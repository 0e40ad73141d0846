//! One record's bytes to typed rows, each value checked against its real column, so that the database has
//! nothing left to change or cut. Never guesses: a value that does not fit becomes a [`Rejection`] that
//! names field, value and column.
//!
//! Nothing is allocated for a row: fields are found in the order in which the record before had them, text
//! without escapes stays where it was polled, and only what JSON wrote with a backslash is copied. A parent's row that
//! records repeat is decoded once.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::cell::{Cell, Span};
use super::mapping::{Plan, PlannedColumn, PlannedMapping, PlannedSource};
use super::outcome::{LOST_KEY, Reason, Rejection};
use super::repeats::Repeats;
use super::value::{self, Fit};

/// Rows for one target, in the order of their records.
#[derive(Debug, Clone, Default)]
pub struct TableRows {
    /// Row-major, as many cells a row as the target has columns.
    pub cells: Vec<Cell>,
    /// The record that each row came from: its position in the batch.
    pub records: Vec<u32>,
}

impl TableRows {
    /// With room for so many rows of so many columns.
    pub fn with_room(rows: usize, columns: usize) -> Self {
        Self { cells: Vec::with_capacity(rows * columns), records: Vec::with_capacity(rows) }
    }
}

/// What is known of a record beside its payload.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Position in the batch.
    pub index: u32,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; negative where the broker gives none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// Of a record above the limit, whose payload was not kept.
    pub oversize: Option<Oversize>,
}

/// What is known of a record whose payload was not kept, since key and payload together have too many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversize {
    /// Of the key.
    pub key_bytes: u64,
    /// Of the payload.
    pub bytes: u64,
    /// Of the payload.
    pub sha256: [u8; 32],
}

impl Oversize {
    /// `None` where key and payload have at most so many bytes.
    pub fn of(key: Option<&[u8]>, payload: Option<&[u8]>, most: usize) -> Option<Self> {
        let (key, payload) = (key.unwrap_or_default(), payload.unwrap_or_default());
        (key.len() + payload.len() > most).then(|| Self {
            key_bytes: key.len() as u64,
            bytes: payload.len() as u64,
            sha256: Sha256::digest(payload).into(),
        })
    }
}

/// Decodes records of one stream, one after the other. Keeps what makes the next one quick.
pub struct RecordDecoder<'p> {
    plan: &'p Plan,
    order: &'p mut FieldOrder,
    /// Text that had to be unescaped; its spans start behind the batch's own bytes.
    extra: Vec<u8>,
    /// Where `extra` will begin in the arena.
    base: usize,
    /// The batch's bytes: spans of unescaped text point into them.
    arena: &'p [u8],
    /// The present record's raw values, by field; kept for its room.
    values: Vec<Option<&'p str>>,
    /// For each mapping, rows that later records are likely to repeat.
    repeats: Vec<Repeats<'p>>,
}

/// Field names in the order of the records before, and how often each unknown one was seen.
#[derive(Debug, Default)]
pub struct FieldOrder {
    expected: Vec<Expected>,
    unknown: HashMap<Box<str>, u64, ahash::RandomState>,
}

#[derive(Debug)]
struct Expected {
    name: Box<str>,
    /// `None` where no mapping reads it.
    slot: Option<usize>,
    /// How often it was met without a slot; not yet among the unknown ones.
    met: u64,
}

/// Unknown names kept apart; a record with ever new names must not take memory for ever.
const UNKNOWN_KEPT: usize = 256;
/// Bytes of a field's name that may be expected of the next record; a longer one is looked up each time.
const NAME_EXPECTED: usize = 256;
/// Fields that a record may lack one after the other and still be read in the order of those before.
const LACKING: usize = 4;

impl FieldOrder {
    /// Fields that no mapping reads, with the number of records that had them since the last call.
    pub fn take_unknown(&mut self) -> impl Iterator<Item = (Box<str>, u64)> {
        for Expected { name, met, .. } in self.expected.iter_mut().filter(|expected| expected.met > 0) {
            count_unknown(&mut self.unknown, name, std::mem::take(met));
        }
        self.unknown.drain()
    }

    /// The slot of the field that comes next: where the records before had it, else by its name.
    fn slot_of(&mut self, name: &str, cursor: &mut usize, plan: &Plan) -> Option<usize> {
        let ahead = self.expected[*cursor..].iter().take(LACKING + 1).position(|expected| *expected.name == *name);
        let at = *cursor + ahead.unwrap_or(0);
        if ahead.is_none() {
            let slot = plan.slots.get(name).copied();
            if at >= UNKNOWN_KEPT || name.len() > NAME_EXPECTED {
                if slot.is_none() {
                    count_unknown(&mut self.unknown, name, 1);
                }
                return slot;
            }
            self.expect(at, Expected { name: name.into(), slot, met: 0 });
        }
        *cursor = at + 1;
        let expected = &mut self.expected[at];
        expected.met += u64::from(expected.slot.is_none());
        expected.slot
    }

    fn expect(&mut self, at: usize, field: Expected) {
        match self.expected.get_mut(at) {
            Some(place) => {
                let before = std::mem::replace(place, field);
                if before.met > 0 {
                    count_unknown(&mut self.unknown, &before.name, before.met);
                }
            }
            None => self.expected.push(field),
        }
    }
}

fn count_unknown(unknown: &mut HashMap<Box<str>, u64, ahash::RandomState>, name: &str, records: u64) {
    if let Some(count) = unknown.get_mut(name) {
        *count += records;
    } else {
        let kept = if unknown.len() < UNKNOWN_KEPT { shortened(name) } else { "…".to_owned() };
        *unknown.entry(kept.into()).or_default() += records;
    }
}

impl<'p> RecordDecoder<'p> {
    /// `arena` are the batch's bytes: keys and payloads handed to [`RecordDecoder::decode`] must lie within them.
    pub fn new(plan: &'p Plan, order: &'p mut FieldOrder, arena: &'p [u8]) -> Self {
        let of = |mapping: &PlannedMapping| {
            let target = &plan.targets[mapping.target];
            Repeats::of(mapping, target.columns.len(), target.dimension)
        };
        let repeats = plan.mappings.iter().map(of).collect();
        Self { plan, order, extra: Vec::new(), base: arena.len(), arena, values: Vec::new(), repeats }
    }

    /// Appends the record's rows to `tables` (one entry a target), or nothing at all and the reason why not.
    pub fn decode(&mut self, record: &Envelope<'p>, tables: &mut [TableRows]) -> Result<(), Rejection> {
        if let Some(Oversize { key_bytes, bytes, sha256 }) = record.oversize {
            let hash: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            let size = match key_bytes {
                0 => format!("the payload has {bytes} bytes,"),
                _ => format!("the key has {key_bytes} bytes and the payload {bytes}, together"),
            };
            return Err(Rejection {
                reason: Reason::RecordTooLarge,
                // Told apart, since a letter whose key is lost cannot be made whole by a new payload.
                field: (key_bytes > 0 && record.key.is_none()).then(|| LOST_KEY.to_owned()),
                message: format!("{size} more than max_record_bytes allows; the payload's sha256 is {hash}"),
            });
        }
        let Some(payload) = record.payload else {
            return Err(Rejection {
                reason: Reason::Tombstone,
                field: None,
                message: "the record has no payload; the stream does not say what that means".to_owned(),
            });
        };
        let mut values = std::mem::take(&mut self.values);
        let outcome = self.fields_of(payload, &mut values).and_then(|()| {
            (0..self.plan.mappings.len()).try_for_each(|mapping| self.row(mapping, record, &values, tables))
        });
        self.values = values;
        if outcome.is_err() {
            // Rows of this record that went into earlier tables go with it.
            for (target, rows) in tables.iter_mut().enumerate() {
                let width = self.plan.targets[target].columns.len();
                while rows.records.last() == Some(&record.index) {
                    rows.records.pop();
                    rows.cells.truncate(rows.cells.len() - width);
                }
            }
        }
        outcome
    }

    /// What must be appended to the batch's bytes so that all spans hold.
    pub fn into_extra(self) -> Vec<u8> {
        self.extra
    }

    fn fields_of(&mut self, payload: &'p [u8], values: &mut Vec<Option<&'p str>>) -> Result<(), Rejection> {
        let text = std::str::from_utf8(payload).map_err(|e| Rejection {
            reason: Reason::InvalidUtf8,
            field: None,
            message: format!("byte {} of the payload is not UTF-8", e.valid_up_to()),
        })?;
        values.clear();
        values.resize(self.plan.fields.len(), None);
        let mut json = serde_json::Deserializer::from_str(text);
        let visitor = Fields { plan: self.plan, order: self.order, values };
        match json.deserialize_any(visitor).and_then(|()| json.end()) {
            Ok(()) => Ok(()),
            Err(e) => {
                let scalar = e.is_data() && serde_json::from_str::<&RawValue>(text).is_ok();
                let (reason, message) = if scalar {
                    (Reason::NotAnObject, format!("the payload is JSON but no object: {}", shortened(text)))
                } else {
                    (Reason::InvalidJson, format!("the payload is not JSON: {e}"))
                };
                Err(Rejection { reason, field: None, message })
            }
        }
    }

    fn row(
        &mut self,
        mapping: usize,
        record: &Envelope<'p>,
        values: &[Option<&'p str>],
        tables: &mut [TableRows],
    ) -> Result<(), Rejection> {
        let plan = self.plan;
        let number = mapping;
        let mapping = &plan.mappings[mapping];
        let width = plan.targets[mapping.target].columns.len();
        let rows = &mut tables[mapping.target];
        let place = self.repeats[number].place(values);
        if let Some(row) = place.and_then(|place| self.repeats[number].find(place, values)) {
            rows.cells.extend_from_slice(row);
            rows.records.push(record.index);
            return Ok(());
        }
        let start = rows.cells.len();
        rows.cells.resize(start + width, Cell::Missing);
        for column in &mapping.columns {
            match self.cell(column, record, values) {
                Ok(cell) if cell.is_absent() && column.key => {
                    rows.cells.truncate(start);
                    if mapping.optional {
                        return Ok(());
                    }
                    return Err(absent(plan, column, cell));
                }
                Ok(cell) => {
                    let required = !column.nullable && (cell == Cell::Null || !column.has_default);
                    if cell.is_absent() && required {
                        rows.cells.truncate(start);
                        return Err(absent(plan, column, cell));
                    }
                    rows.cells[start + column.at] = cell;
                }
                Err(rejection) => {
                    rows.cells.truncate(start);
                    return Err(rejection);
                }
            }
        }
        rows.records.push(record.index);
        if let Some(place) = place {
            self.repeats[number].keep(place, values, &rows.cells[start..]);
        }
        Ok(())
    }

    fn cell(
        &mut self,
        column: &PlannedColumn,
        record: &Envelope<'p>,
        values: &[Option<&'p str>],
    ) -> Result<Cell, Rejection> {
        let fit = match column.source {
            PlannedSource::Field(slot) => {
                let Some(raw) = values[slot] else { return Ok(Cell::Missing) };
                value::fit_json(raw, &column.kind)
            }
            PlannedSource::Epoch(slot, unit) => {
                let Some(raw) = values[slot] else { return Ok(Cell::Missing) };
                value::fit_epoch(raw, unit, &column.kind)
            }
            PlannedSource::Timestamp if record.timestamp < 0 => return Ok(Cell::Null),
            PlannedSource::Timestamp => match record.timestamp.checked_mul(1000) {
                Some(micros) => value::fit_micros(micros, &column.kind),
                None => Err((Reason::OutOfRange, "the record's timestamp is beyond any calendar".to_owned())),
            },
            PlannedSource::Partition => value::fit_integer(record.partition as i128, &column.kind),
            PlannedSource::Offset => value::fit_integer(record.offset as i128, &column.kind),
            PlannedSource::Topic => {
                let topic = plan_topic(self.plan);
                let fit = value::fit_text(topic, &column.kind);
                return self.owned(fit.map(|()| topic), column);
            }
            PlannedSource::Key => match record.key.map(std::str::from_utf8) {
                None => return Ok(Cell::Null),
                Some(Ok(key)) => value::fit_text(key, &column.kind).map(|()| Fit::Text(key)),
                Some(Err(_)) => Err((Reason::InvalidUtf8, "the record's key is not UTF-8".to_owned())),
            },
        };
        match fit {
            Ok(Fit::Cell(cell)) => Ok(cell),
            Ok(Fit::Text(text)) => Ok(Cell::Text(self.span_of(text))),
            Ok(Fit::Bytes(text)) => Ok(Cell::Bytes(self.span_of(text))),
            Ok(Fit::Decimal(text)) => Ok(Cell::Decimal(self.span_of(text))),
            Ok(Fit::Unescaped(text)) => Ok(Cell::Text(self.keep(text.as_bytes()))),
            Ok(Fit::UnescapedBytes(text)) => Ok(Cell::Bytes(self.keep(text.as_bytes()))),
            Err((reason, problem)) => Err(self.reject(column, reason, &problem, values)),
        }
    }

    fn owned(&mut self, fit: Result<&str, (Reason, String)>, column: &PlannedColumn) -> Result<Cell, Rejection> {
        match fit {
            Ok(text) => Ok(Cell::Text(self.keep(text.as_bytes()))),
            Err((reason, problem)) => Err(self.reject(column, reason, &problem, &[])),
        }
    }

    fn reject(&self, column: &PlannedColumn, reason: Reason, problem: &str, values: &[Option<&str>]) -> Rejection {
        let (field, shown) = match column.source {
            PlannedSource::Field(slot) | PlannedSource::Epoch(slot, _) => (
                self.plan.fields[slot].as_str(),
                values.get(slot).copied().flatten().map(shortened).unwrap_or_default(),
            ),
            _ => (source_name(column.source), String::new()),
        };
        let separator = if shown.is_empty() { "" } else { ": " };
        Rejection {
            reason,
            field: Some(field.to_owned()),
            message: format!("{shown}{separator}{problem} ({})", column.described),
        }
    }

    /// Where this text lies in the batch's bytes; copied where it does not (it then came from elsewhere).
    fn span_of(&mut self, text: &str) -> Span {
        let start = (text.as_ptr() as usize).wrapping_sub(self.arena.as_ptr() as usize);
        if start <= self.arena.len() && self.arena.len() - start >= text.len() {
            Span::new(start, text.len())
        } else {
            self.keep(text.as_bytes())
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.base + self.extra.len();
        self.extra.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }
}

fn plan_topic(plan: &Plan) -> &str {
    &plan.topic
}

fn source_name(source: PlannedSource) -> &'static str {
    match source {
        PlannedSource::Timestamp => "@timestamp",
        PlannedSource::Key => "@key",
        PlannedSource::Topic => "@topic",
        PlannedSource::Partition => "@partition",
        PlannedSource::Offset => "@offset",
        PlannedSource::Field(_) | PlannedSource::Epoch(..) => "",
    }
}

fn absent(plan: &Plan, column: &PlannedColumn, cell: Cell) -> Rejection {
    let field = match column.source {
        PlannedSource::Field(slot) | PlannedSource::Epoch(slot, _) => plan.fields[slot].as_str(),
        other => source_name(other),
    };
    let (reason, problem) = match cell {
        Cell::Null => (Reason::NullNotAllowed, "is null"),
        _ => (Reason::MissingField, "is missing"),
    };
    Rejection {
        reason,
        field: Some(field.to_owned()),
        message: format!("field `{field}` {problem} and the column must have a value ({})", column.described),
    }
}

/// At most 80 characters of a value, for a message.
pub fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Collects the raw values of the fields that the plan reads; the last of a repeated field counts.
struct Fields<'a, 'de> {
    plan: &'a Plan,
    order: &'a mut FieldOrder,
    values: &'a mut Vec<Option<&'de str>>,
}

impl<'de> Visitor<'de> for Fields<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut cursor = 0;
        while let Some(slot) =
            map.next_key_seed(FieldName { plan: self.plan, order: self.order, cursor: &mut cursor })?
        {
            let value: &'de RawValue = map.next_value()?;
            if let Some(slot) = slot {
                self.values[slot] = Some(value.get());
            }
        }
        Ok(())
    }
}

/// Finds a field's slot.
struct FieldName<'a> {
    plan: &'a Plan,
    order: &'a mut FieldOrder,
    cursor: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.order.slot_of(name, self.cursor, self.plan))
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
