//! Cells of a CSV file to a record's JSON: which columns are numbers, by how many weeks times move, what a row of
//! another file adds. Reads no file and no clock, and allocates nothing for a record once its buffers have grown.

use std::collections::HashMap;

use chrono::{DateTime, Days, NaiveDate, SecondsFormat, Utc};

const MICROS_PER_WEEK: i64 = 7 * 24 * 3600 * 1_000_000;

/// Whether these bytes are one number token of JSON: no leading zeros, no `+`, no bare point.
pub fn is_json_number(cell: &[u8]) -> bool {
    fn digits(cell: &[u8], from: usize) -> usize {
        cell[from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
    }
    let mut at = usize::from(cell.first() == Some(&b'-'));
    let whole = digits(cell, at);
    if whole == 0 || (whole > 1 && cell[at] == b'0') {
        return false;
    }
    at += whole;
    if cell.get(at) == Some(&b'.') {
        let fraction = digits(cell, at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(cell.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(cell.get(at), Some(b'+' | b'-')));
        let exponent = digits(cell, at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == cell.len()
}

/// What a column's values become in JSON. An empty cell is `null` in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Number,
    Text,
}

/// Decides the types of a file's columns from all its cells: a column is a number when every cell that is not
/// empty is one.
#[derive(Debug)]
pub struct Inference(Vec<ColumnType>);

impl Inference {
    pub fn new(columns: usize) -> Self {
        Self(vec![ColumnType::Number; columns])
    }

    pub fn observe(&mut self, column: usize, cell: &[u8]) {
        if self.0[column] == ColumnType::Number && !cell.is_empty() && !is_json_number(cell) {
            self.0[column] = ColumnType::Text;
        }
    }

    pub fn types(self) -> Vec<ColumnType> {
        self.0
    }
}

/// Writes a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// A cell that does not fit its column, in words for the reader of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    #[error("the bytes are not UTF-8; save the file as UTF-8")]
    NotUtf8,
    #[error("{0:?} is no RFC 3339 time; write it as 2013-01-31T17:05:00Z")]
    NotATime(String),
    #[error("{0:?} is no number, but the column held only numbers a moment ago: the file changed while it was read")]
    NotANumber(String),
    #[error("{0:?} moved by {1} weeks leaves the years 0 to 9999")]
    OutOfCalendar(String, i64),
}

fn shortened(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// Writes one value: `null` for an empty cell.
pub fn write_value(out: &mut Vec<u8>, kind: ColumnType, cell: &[u8]) -> Result<(), CellError> {
    match kind {
        _ if cell.is_empty() => out.extend_from_slice(b"null"),
        ColumnType::Number if is_json_number(cell) => out.extend_from_slice(cell),
        ColumnType::Number => return Err(CellError::NotANumber(shortened(cell))),
        ColumnType::Text => write_string(out, std::str::from_utf8(cell).map_err(|_| CellError::NotUtf8)?),
    }
    Ok(())
}

/// Microseconds since 1970 of an RFC 3339 time.
pub fn parse_time(cell: &[u8]) -> Result<i64, CellError> {
    Ok(parse(cell)?.timestamp_micros())
}

fn parse(cell: &[u8]) -> Result<DateTime<Utc>, CellError> {
    std::str::from_utf8(cell)
        .ok()
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .map(|time| time.to_utc())
        .ok_or_else(|| CellError::NotATime(shortened(cell)))
}

/// How many whole weeks bring `last` as near to `now` as can be without passing it; negative where `last` is ahead.
pub fn weeks_until(last_micros: i64, now: DateTime<Utc>) -> i64 {
    (now.timestamp_micros() - last_micros).div_euclid(MICROS_PER_WEEK)
}

/// Moves times by a constant number of whole weeks, so that weekdays and hours of the day stay what they were.
/// Remembers the last date: neighbouring records mostly share it.
#[derive(Debug)]
pub struct TimeShift {
    weeks: i64,
    from: [u8; 10],
    to: [u8; 10],
    days_since_1970: i64,
}

impl TimeShift {
    pub fn new(weeks: i64) -> Self {
        Self { weeks, from: [0; 10], to: [0; 10], days_since_1970: 0 }
    }

    /// Appends the moved time, RFC 3339 with `Z`, and answers with its microseconds since 1970.
    pub fn write(&mut self, out: &mut Vec<u8>, cell: &[u8]) -> Result<i64, CellError> {
        if let Some(seconds) = whole_seconds_utc(cell) {
            let date: [u8; 10] = cell[..10].try_into().map_err(|_| CellError::NotATime(shortened(cell)))?;
            if date != self.from {
                self.remember(date, cell)?;
            }
            out.extend_from_slice(&self.to);
            out.extend_from_slice(&cell[10..]);
            return Ok((self.days_since_1970 * 86_400 + seconds) * 1_000_000);
        }
        let moved = self.moved(parse(cell)?, cell)?;
        let text = moved.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        out.extend_from_slice(text.as_bytes());
        Ok(moved.timestamp_micros())
    }

    fn remember(&mut self, date: [u8; 10], cell: &[u8]) -> Result<(), CellError> {
        let midnight = parse(cell)?.date_naive();
        let moved = self.moved(midnight.and_time(chrono::NaiveTime::MIN).and_utc(), cell)?.date_naive();
        let text = moved.to_string();
        self.to = text.as_bytes().try_into().map_err(|_| self.out_of_calendar(cell))?;
        self.days_since_1970 = (moved - NaiveDate::default()).num_days();
        self.from = date;
        Ok(())
    }

    fn moved(&self, time: DateTime<Utc>, cell: &[u8]) -> Result<DateTime<Utc>, CellError> {
        let days = Days::new(self.weeks.unsigned_abs().saturating_mul(7));
        let moved = if self.weeks < 0 { time.checked_sub_days(days) } else { time.checked_add_days(days) };
        moved
            .filter(|time| (0..=9999).contains(&chrono::Datelike::year(&time.date_naive())))
            .ok_or_else(|| self.out_of_calendar(cell))
    }

    fn out_of_calendar(&self, cell: &[u8]) -> CellError {
        CellError::OutOfCalendar(shortened(cell), self.weeks)
    }
}

/// The second of the day, for `YYYY-MM-DDThh:mm:ssZ` and nothing else; the date is the caller's to check.
fn whole_seconds_utc(cell: &[u8]) -> Option<i64> {
    let two = |at: usize, limit: i64| {
        let (tens, ones) = (cell[at].wrapping_sub(b'0'), cell[at + 1].wrapping_sub(b'0'));
        let value = i64::from(tens) * 10 + i64::from(ones);
        (tens < 10 && ones < 10 && value < limit).then_some(value)
    };
    let shape = cell.len() == 20 && cell[10] == b'T' && cell[13] == b':' && cell[16] == b':' && cell[19] == b'Z';
    if !shape {
        return None;
    }
    Some(two(11, 24)? * 3600 + two(14, 60)? * 60 + two(17, 60)?)
}

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
    /// `lookups` come with the column whose cell is looked up. `weeks` moves every column of `times`.
    pub fn new(
        header: &[String],
        types: &[ColumnType],
        key: Vec<usize>,
        event_time: Option<usize>,
        times: &[usize],
        lookups: Vec<(usize, LookupTable)>,
        weeks: i64,
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
        Self { fields, key, event_time, lookups, shift: TimeShift::new(weeks) }
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

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn json(builder: &mut RecordBuilder, cells: &[&str]) -> (String, serde_json::Value, Option<i64>) {
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        let event = builder.build(|column| cells[column].as_bytes(), &mut key, &mut payload).unwrap();
        (String::from_utf8(key).unwrap(), serde_json::from_slice(&payload).unwrap(), event)
    }

    fn header(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_number_token_is_what_json_takes_for_one() {
        for good in ["0", "-0", "7", "-12", "10.5", "0.25", "1e5", "1E+10", "-2.5e-3", "1048.36058"] {
            assert!(is_json_number(good.as_bytes()), "{good}");
            assert!(serde_json::from_str::<serde_json::Number>(good).is_ok(), "{good}");
        }
        for bad in
            ["", "-", "+1", "01", "-01", "00", "1.", ".5", "1e", "1e+", "9E", "0x1", "1 ", " 1", "1,5", "NaN", "--1"]
        {
            assert!(!is_json_number(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_column_is_a_number_only_if_every_cell_is_one_or_empty() {
        let mut inference = Inference::new(3);
        for row in [["1", "9E", ""], ["", "5", ""], ["2.5", "6", ""]] {
            for (column, cell) in row.iter().enumerate() {
                inference.observe(column, cell.as_bytes());
            }
        }
        assert_eq!(inference.types(), [ColumnType::Number, ColumnType::Text, ColumnType::Number]);
    }

    #[test]
    fn one_leading_zero_makes_the_column_text() {
        let mut inference = Inference::new(1);
        inference.observe(0, b"10001");
        inference.observe(0, b"00501");
        assert_eq!(inference.types(), [ColumnType::Text]);
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
        let mut builder = RecordBuilder::new(&header(&["due", "left"]), &types, vec![0], Some(0), &[1], vec![], 2);
        let (key, record, event) = json(&mut builder, &["2013-02-25T23:59:00Z", ""]);
        assert_eq!(record, serde_json::json!({"due": "2013-03-11T23:59:00Z", "left": null}));
        assert_eq!(key, "2013-03-11T23:59:00Z");
        assert_eq!(event, Some(at("2013-03-11T23:59:00Z").timestamp_micros()));
    }

    #[test]
    fn any_offset_and_fraction_becomes_utc_with_z() {
        for (weeks, given, wanted) in [
            (0, "2013-01-01T05:15:00-05:00", "2013-01-01T10:15:00Z"),
            (1, "2013-01-01T00:30:00.250+01:00", "2013-01-07T23:30:00.250Z"),
            (-1, "2013-01-01T00:30:00.000001Z", "2012-12-25T00:30:00.000001Z"),
            (52, "2012-02-29T12:00:00Z", "2013-02-27T12:00:00Z"),
        ] {
            let mut out = Vec::new();
            let micros = TimeShift::new(weeks).write(&mut out, given.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
            assert_eq!(micros, at(wanted).timestamp_micros());
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let mut shift = TimeShift::new(1);
        for bad in [
            "2013-02-30T00:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T10:60:00Z",
            "2013-01-01",
            "x",
            "20130101T101500Z0000",
        ] {
            assert!(matches!(shift.write(&mut Vec::new(), bad.as_bytes()), Err(CellError::NotATime(_))), "{bad}");
        }
        let far = TimeShift::new(i64::MAX).write(&mut Vec::new(), b"2013-01-01T10:00:00Z");
        assert!(matches!(far, Err(CellError::OutOfCalendar(..))));
    }

    #[test]
    fn the_shift_ends_at_or_before_now_and_less_than_a_week_before() {
        let last = at("2014-01-01T04:59:00Z");
        for now in ["2026-11-24T11:00:00Z", "2014-01-01T04:59:00Z", "2014-01-08T04:58:59Z", "2013-06-01T00:00:00Z"] {
            let weeks = weeks_until(last.timestamp_micros(), at(now));
            let moved = last + chrono::Duration::weeks(weeks);
            assert!(moved <= at(now) && at(now) - moved < chrono::Duration::weeks(1), "{now}: {weeks} weeks, {moved}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_read_back_as_it_was(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_token_is_a_number_exactly_when_json_says_so(text in "-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
            // arbitrary exponents overflow a float, so ask for the raw token
            let json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            proptest::prop_assert_eq!(is_json_number(text.as_bytes()), json);
        }

        #[test]
        fn the_quick_way_and_the_calendar_agree(seconds in -61_000_000_000i64..200_000_000_000, weeks in -500i64..500) {
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            let moved = time + chrono::Duration::weeks(weeks);
            let mut out = Vec::new();
            let micros = TimeShift::new(weeks).write(&mut out, text.as_bytes()).unwrap();
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), moved.to_rfc3339_opts(SecondsFormat::Secs, true));
            proptest::prop_assert_eq!(micros, moved.timestamp_micros());
        }
    }
}
