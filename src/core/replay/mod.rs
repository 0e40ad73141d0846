//! Cells of a CSV file to a record's JSON: which columns are numbers, by how many days times move, what a row of
//! another file adds. Reads no file and no clock, and allocates nothing for a record once its buffers have grown.

use std::collections::HashMap;

mod time;
mod timetable;
mod value;

pub use time::{TimeShift, days_around, parse_time, weeks_until};
pub use timetable::Timetable;
pub use value::{CellError, ColumnType, Inference, is_json_number, write_string, write_value};

/// What another file adds to records: for each key, the fields as they stand in the record's JSON.
#[derive(Debug, Default)]
pub struct LookupTable {
    /// Key -> `,"field":value,"field":value`.
    fragments: HashMap<Box<[u8]>, Box<[u8]>, ahash::RandomState>,
}

impl LookupTable {
    /// Adds the row of one key. `fields` are name, type and cell; an empty cell is a null.
    /// Answers with `false` when the key is there already.
    pub fn insert<'a>(
        &mut self,
        key: &[u8],
        fields: impl Iterator<Item = (&'a str, ColumnType, &'a [u8])>,
    ) -> Result<bool, CellError> {
        let mut fragment = Vec::new();
        for (name, kind, cell) in fields {
            fragment.push(b',');
            write_string(&mut fragment, name);
            fragment.push(b':');
            write_value(&mut fragment, kind, cell)?;
        }
        Ok(self.fragments.insert(key.into(), fragment.into()).is_none())
    }

    /// Appends the fields of the row with this key. A miss appends nothing: the record says nothing of these fields.
    fn write(&self, out: &mut Vec<u8>, key: &[u8]) {
        if let Some(fragment) = self.fragments.get(key) {
            out.extend_from_slice(fragment);
        }
    }

    pub fn len(&self) -> usize {
        self.fragments.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Value(ColumnType),
    /// Written by the time shift.
    Time,
}

#[derive(Debug)]
struct Field {
    /// `{"name":` or `,"name":`.
    prefix: Box<[u8]>,
    kind: FieldKind,
}

/// Turns the rows of one file into records.
#[derive(Debug)]
pub struct RecordBuilder {
    fields: Vec<Field>,
    /// Columns that make the key.
    key: Vec<usize>,
    event_time: Option<usize>,
    lookups: Vec<(usize, LookupTable)>,
    shift: TimeShift,
}

/// A row that could not be made a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    pub column: usize,
    pub error: CellError,
}

impl RecordBuilder {
    /// One field for each column of `header`, in order. `key`, `event_time` and `times` are positions in it;
    /// `lookups` come with the column whose cell is looked up. `days` moves every column of `times`.
    pub fn new(
        header: &[String],
        types: &[ColumnType],
        key: Vec<usize>,
        event_time: Option<usize>,
        times: &[usize],
        lookups: Vec<(usize, LookupTable)>,
        days: i64,
    ) -> Self {
        let fields = header
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let mut prefix = vec![if column == 0 { b'{' } else { b',' }];
                write_string(&mut prefix, name);
                prefix.push(b':');
                let is_time = event_time == Some(column) || times.contains(&column);
                let kind = if is_time { FieldKind::Time } else { FieldKind::Value(types[column]) };
                Field { prefix: prefix.into(), kind }
            })
            .collect();
        Self { fields, key, event_time, lookups, shift: TimeShift::new(days) }
    }

    /// Writes the record of one row over `key` and `payload`. Answers with the moved event time in microseconds
    /// since 1970, where there is one.
    pub fn build<'a>(
        &mut self,
        cell: impl Fn(usize) -> &'a [u8],
        key: &mut Vec<u8>,
        payload: &mut Vec<u8>,
    ) -> Result<Option<i64>, BuildError> {
        key.clear();
        payload.clear();
        let mut event = None;
        for (column, field) in self.fields.iter().enumerate() {
            payload.extend_from_slice(&field.prefix);
            let value = cell(column);
            let at = |error| BuildError { column, error };
            match field.kind {
                FieldKind::Time if value.is_empty() => payload.extend_from_slice(b"null"),
                FieldKind::Time => {
                    payload.push(b'"');
                    let micros = self.shift.write(payload, value).map_err(at)?;
                    payload.push(b'"');
                    if self.event_time == Some(column) {
                        event = Some(micros);
                    }
                }
                FieldKind::Value(kind) => write_value(payload, kind, value).map_err(at)?,
            }
        }
        for (column, table) in &self.lookups {
            table.write(payload, cell(*column));
        }
        payload.push(b'}');
        for (position, &column) in self.key.iter().enumerate() {
            if position > 0 {
                key.push(b'|');
            }
            let value = cell(column);
            match self.fields[column].kind {
                FieldKind::Time if !value.is_empty() => {
                    self.shift.write(key, value).map_err(|error| BuildError { column, error })?;
                }
                _ => key.extend_from_slice(value),
            }
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(builder: &mut RecordBuilder, cells: &[&str]) -> (String, serde_json::Value, Option<i64>) {
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        let event = builder.build(|column| cells[column].as_bytes(), &mut key, &mut payload).unwrap();
        (String::from_utf8(key).unwrap(), serde_json::from_slice(&payload).unwrap(), event)
    }

    fn header(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_record_has_a_field_for_each_column_and_null_for_an_empty_cell() {
        let types = [ColumnType::Text, ColumnType::Number, ColumnType::Text];
        let mut builder = RecordBuilder::new(&header(&["a", "n", "b\"c"]), &types, vec![0, 1], None, &[], vec![], 0);
        let (key, record, event) = json(&mut builder, &["x\n\u{1}\"\\ü", "1.50", ""]);
        assert_eq!(record, serde_json::json!({"a": "x\n\u{1}\"\\ü", "n": 1.5, "b\"c": null}));
        assert_eq!((key.as_str(), event), ("x\n\u{1}\"\\ü|1.50", None));
    }

    #[test]
    fn the_digits_of_a_number_are_kept_as_they_are() {
        let mut builder = RecordBuilder::new(&header(&["n"]), &[ColumnType::Number], vec![], None, &[], vec![], 0);
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        builder.build(|_| b"10.357019999999999000", &mut key, &mut payload).unwrap();
        assert_eq!(payload, br#"{"n":10.357019999999999000}"#);
    }

    #[test]
    fn a_lookup_adds_its_fields_and_a_miss_leaves_them_out() {
        let mut table = LookupTable::default();
        let row: [(&str, ColumnType, &[u8]); 2] =
            [("name", ColumnType::Text, b"Alpha"), ("height", ColumnType::Number, b"")];
        assert!(table.insert(b"A", row.into_iter()).unwrap());
        let types = [ColumnType::Text];
        let mut builder = RecordBuilder::new(&header(&["code"]), &types, vec![], None, &[], vec![(0, table)], 0);
        assert_eq!(json(&mut builder, &["A"]).1, serde_json::json!({"code": "A", "name": "Alpha", "height": null}));
        assert_eq!(json(&mut builder, &["B"]).1, serde_json::json!({"code": "B"}));
        assert_eq!(json(&mut builder, &[""]).1, serde_json::json!({"code": null}));
    }

    #[test]
    fn a_second_row_for_a_lookup_key_is_told() {
        let mut table = LookupTable::default();
        assert!(table.insert(b"A", std::iter::empty()).unwrap());
        assert!(!table.insert(b"A", std::iter::empty()).unwrap());
    }

    #[test]
    fn times_move_by_whole_weeks_in_fields_and_key_alike() {
        let types = [ColumnType::Text, ColumnType::Text];
        let mut builder = RecordBuilder::new(&header(&["due", "left"]), &types, vec![0], Some(0), &[1], vec![], 14);
        let (key, record, event) = json(&mut builder, &["2013-02-25T23:59:00Z", ""]);
        assert_eq!(record, serde_json::json!({"due": "2013-03-11T23:59:00Z", "left": null}));
        assert_eq!(key, "2013-03-11T23:59:00Z");
        assert_eq!(event, Some(parse_time(b"2013-03-11T23:59:00Z").unwrap()));
    }
}
