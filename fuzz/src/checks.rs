//! What must hold for any bytes: called by the fuzz targets, and by plain tests over the corpus. Each check panics
//! where something does not hold. It needs `core`, `config` and `tsv` beside it, wherever it is compiled.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::core::cell::{Cell, Span};
use super::core::decode::{Envelope, FieldOrder, RecordDecoder, TableRows};
use super::core::filter::Filter;
use super::core::mapping::{EpochUnit, Mapping, Plan, Source};
use super::core::outcome::Rejection;
use super::core::schema::{Charset, Column, ColumnKind, Table};
use super::core::target::{OnConflict, Rows, Target};
use super::{config as configuration, tsv};

/// A configuration file: read, or told what is wrong with it, each finding at a place that the file has.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // No file of the machine that runs this is to be read; and a secret in plain sight would prove nothing.
    if text.contains("file:") || text.contains("s3cr3t") {
        return;
    }
    let env = |name: &str| name.len().is_multiple_of(2).then(|| "s3cr3t-\u{e9}\n".to_owned());
    let outcome = configuration::parse(text, "actors.toml", Path::new("/nonexistent"), &env);
    let lines = text.split('\n').count();
    let report = configuration::report("actors.toml", &outcome);
    for finding in &report.diagnostics {
        assert!(finding.line >= 1 && finding.line <= lines.max(1), "{finding:?} of {lines} lines");
        assert!(finding.column >= 1 && !finding.message.is_empty() && !finding.help.is_empty(), "{finding:?}");
        let shown = finding.to_string();
        assert!(!shown.contains("s3cr3t"), "a secret is shown: {shown}");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "a control character is shown: {shown:?}");
    }
    match outcome {
        Ok(loaded) => assert!(!configuration::print(&loaded).contains("s3cr3t"), "a secret is printed"),
        Err(findings) => assert!(!findings.is_empty(), "refused without a reason"),
    }
}

/// A condition from anybody on the first line, and a record on the rest: answered, or refused with a reason. What takes
/// for ever is found by the fuzzer's own limits of time and memory.
pub fn condition(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (condition, record) = text.split_once('\n').unwrap_or((&text, ""));
    match Filter::new(condition, &["record"]) {
        Ok(filter) => {
            let record = serde_json::from_str(record).unwrap_or_default();
            let document = serde_json::Map::from_iter([("record".to_owned(), record)]);
            if let Err(cause) = filter.matches(&document) {
                assert!(!cause.is_empty() && cause.len() < 2_000, "{cause}");
            }
        }
        Err(wrong) => assert!(!wrong.is_empty(), "refused without a reason"),
    }
}

/// Records, one a line, a key before 0x1f where there is one; an empty line has no payload.
///
/// A record makes its rows or none; it makes the same beside any others; and LOAD DATA reads back what it made.
pub fn decoder(bytes: &[u8]) {
    let plan = plan();
    let records: Vec<Line<'_>> = bytes
        .split(|b| *b == b'\n')
        .map(|line| match line.iter().position(|b| *b == 0x1f) {
            Some(at) => (Some(&line[..at]), Some(&line[at + 1..])),
            None => (None, Some(line).filter(|l| !l.is_empty())),
        })
        .collect();
    let mut order = FieldOrder::default();
    let together = decode(plan, &mut order, bytes, &records);
    assert!(order.take_unknown().count() <= 257, "names of unknown fields take memory without end");
    let (mut singly, mut rejected) = (vec![Vec::new(); plan.targets.len()], Vec::new());
    for (at, record) in records.iter().enumerate() {
        let alone = decode(plan, &mut FieldOrder::default(), bytes, &[*record]);
        for (rows, more) in singly.iter_mut().zip(alone.shown(plan)) {
            rows.extend(more);
        }
        rejected.extend(alone.rejected.into_iter().map(|(_, why)| (at as u32, why)));
    }
    // `@timestamp` and `@offset` tell the place in the batch; both are left out of what is compared.
    assert_eq!(together.shown(plan), singly, "rows depend on the records beside them");
    assert_eq!(together.rejected, rejected, "refusals depend on the records beside them");
    for (index, target) in plan.targets.iter().enumerate() {
        let made = &together.tables[index];
        assert_eq!(made.cells.len(), made.records.len() * target.columns.len());
        assert!(made.records.is_sorted());
        assert!(made.records.iter().all(|r| together.rejected.iter().all(|(other, _)| other != r)));
        if target.table.name == "things" {
            assert_eq!(made.records.len() + together.rejected.len(), records.len(), "an outcome for each record");
        }
        let cells = made.cells.iter().map(|c| if *c == Cell::Missing { Cell::Null } else { *c }).collect::<Vec<_>>();
        reads_back(target, &cells, &together.arena);
    }
}

/// Rows of values made from the bytes: LOAD DATA reads back what was written. Answers how many rows.
pub fn load_text(bytes: &[u8]) -> usize {
    let target = &plan().targets[plan().targets.iter().position(|t| t.table.name == "things").unwrap_or(0)];
    let mut cursor = Cursor(bytes);
    let (mut arena, mut cells) = (Vec::new(), Vec::new());
    while !cursor.0.is_empty() {
        for &column in &target.columns {
            cells.push(cell_for(&target.table.columns[column].kind, &mut cursor, &mut arena));
        }
    }
    reads_back(target, &cells, &arena);
    cells.len() / target.columns.len()
}

/// Encodes the rows, reads the text as LOAD DATA does, and compares each value.
fn reads_back(target: &Target, cells: &[Cell], arena: &[u8]) {
    let columns: Vec<usize> = (0..target.columns.len()).collect();
    let rows = Rows { target, columns: &columns, cells, arena };
    let forms = tsv::forms(&rows);
    let mut text = Vec::new();
    tsv::encode(&rows, &forms, &mut text);
    let read = load_data(&text);
    assert_eq!(read.len(), rows.len(), "as many rows");
    for (row, fields) in rows.iter().zip(&read) {
        assert_eq!(fields.len(), row.len(), "as many fields");
        for ((cell, field), &column) in row.iter().zip(fields).zip(&target.columns) {
            let kind = &target.table.columns[column].kind;
            assert_eq!(field.is_none(), cell.is_absent(), "{cell:?} in {kind:?}");
            if let Some(field) = field {
                assert!(means(cell, kind, field, arena), "{cell:?} in {kind:?} reads {:?}", field.escape_ascii());
            }
        }
    }
    let positions: Vec<usize> = (0..rows.len()).rev().collect();
    let mut numbered = Vec::new();
    tsv::encode_numbered(&rows, &forms, &positions, &mut numbered);
    for (position, fields) in positions.iter().zip(load_data(&numbered)) {
        assert_eq!(fields[0].as_deref(), Some(position.to_string().as_bytes()));
        assert_eq!(fields[1..], read[*position][..]);
    }
}

/// What `LOAD DATA … FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'` makes of a text, by the
/// manual: `None` is NULL (<https://dev.mysql.com/doc/refman/8.4/en/load-data.html>, "Field and Line Handling").
pub fn load_data(text: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let (mut rows, mut fields, mut field) = (Vec::new(), Vec::new(), Vec::new());
    let mut null = false;
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\t' | b'\n' => {
                let ended = std::mem::take(&mut field);
                fields.push((!std::mem::take(&mut null) || ended != b"N").then_some(ended));
                if byte == b'\n' {
                    rows.push(std::mem::take(&mut fields));
                }
            }
            b'\\' => match bytes.next() {
                Some(b'0') => field.push(0),
                Some(b'b') => field.push(8),
                Some(b'n') => field.push(b'\n'),
                Some(b'r') => field.push(b'\r'),
                Some(b't') => field.push(b'\t'),
                Some(b'Z') => field.push(26),
                Some(b'N') => {
                    null = field.is_empty();
                    field.push(b'N');
                }
                Some(&other) => field.push(other),
                None => field.push(b'\\'),
            },
            _ => field.push(byte),
        }
    }
    assert!(fields.is_empty() && field.is_empty(), "the last row has no end");
    rows
}

/// Whether the field has the cell's value, read by other code than wrote it.
fn means(cell: &Cell, kind: &ColumnKind, field: &[u8], arena: &[u8]) -> bool {
    if let (Cell::Text(span) | Cell::Bytes(span), ColumnKind::Binary { .. }) = (cell, kind) {
        return field.chunks(2).map(unhex).collect::<Option<Vec<u8>>>().as_deref() == Some(span.of(arena));
    }
    if let Cell::Text(span) | Cell::Bytes(span) | Cell::Decimal(span) = cell {
        return field == span.of(arena);
    }
    let Ok(text) = std::str::from_utf8(field) else { return false };
    // Digits of a second that the column does not keep are cut towards the past's seconds, never rounded.
    let cut = |micros: i64| match kind {
        ColumnKind::DateTime { fraction, .. } | ColumnKind::Time { fraction } => {
            let unit = 10_i64.pow(6 - u32::from((*fraction).min(6)));
            micros - micros.rem_euclid(unit)
        }
        _ => micros,
    };
    match cell {
        Cell::Int(value) => text.parse() == Ok(*value),
        Cell::UInt(value) => text.parse() == Ok(*value),
        Cell::Float(value) => text.parse::<f64>().is_ok_and(|v| v.to_bits() == value.to_bits()),
        Cell::DateTime(micros) => chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
            .is_ok_and(|t| t.and_utc().timestamp_micros() == cut(*micros)),
        Cell::Date(days) => chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .is_ok_and(|d| d.signed_duration_since(chrono::NaiveDate::default()).num_days() == i64::from(*days)),
        Cell::Time(micros) => duration(text).is_some_and(|t| t == micros.signum() * cut(micros.abs())),
        _ => false,
    }
}

fn unhex(pair: &[u8]) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let [high, low] = pair else { return None };
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// `-838:59:59.5` in microseconds.
fn duration(text: &str) -> Option<i64> {
    let (sign, size) = text.strip_prefix('-').map_or((1, text), |size| (-1, size));
    let (clock, fraction) = size.split_once('.').unwrap_or((size, "0"));
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let micros = format!("{fraction:0<6}").parse::<i64>().ok()?;
    Some(sign * (((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros))
}

/// Takes values from the fuzzer's bytes; zeros where there are no more.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, count: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }
}

/// A value that the decoder could have made for such a column.
fn cell_for(kind: &ColumnKind, cursor: &mut Cursor<'_>, arena: &mut Vec<u8>) -> Cell {
    let shape = cursor.byte();
    if shape.is_multiple_of(8) {
        return Cell::Null;
    }
    let mut keep = |bytes: &[u8]| {
        let span = Span::new(arena.len(), bytes.len());
        arena.extend_from_slice(bytes);
        span
    };
    match kind {
        ColumnKind::Integer { min: 0, .. } => Cell::UInt(cursor.number()),
        ColumnKind::Integer { .. } => Cell::Int(cursor.number() as i64),
        ColumnKind::Float { .. } => {
            let value = f64::from_bits(cursor.number());
            Cell::Float(if value.is_finite() { value } else { 0.0 })
        }
        ColumnKind::Decimal { .. } => Cell::Decimal(keep(format!("{}", cursor.number() as i32).as_bytes())),
        ColumnKind::Binary { .. } => Cell::Bytes(keep(cursor.take(usize::from(shape / 8)))),
        // From year 1 to year 9999; a duration up to 838:59:59.
        ColumnKind::DateTime { .. } => {
            Cell::DateTime((cursor.number() % 315_537_897_600_000_000) as i64 - 62_135_596_800_000_000)
        }
        ColumnKind::Date => Cell::Date((cursor.number() % 3_652_059) as i32 - 719_162),
        ColumnKind::Time { .. } => Cell::Time((cursor.number() % 6_040_798_000_000) as i64 - 3_020_399_000_000),
        _ => Cell::Text(keep(cursor.take(usize::from(shape / 8)))),
    }
}

/// Key and payload of a record.
type Line<'b> = (Option<&'b [u8]>, Option<&'b [u8]>);

struct Decoded {
    tables: Vec<TableRows>,
    arena: Vec<u8>,
    rejected: Vec<(u32, Rejection)>,
}

impl Decoded {
    /// By target: rows with their values in place of spans.
    fn shown(&self, plan: &Plan) -> Vec<Vec<Vec<String>>> {
        let show = |(target, rows): (&Target, &TableRows)| {
            let placed: Vec<bool> =
                target.columns.iter().map(|&c| target.table.columns[c].name.starts_with("at_")).collect();
            rows.cells
                .chunks_exact(target.columns.len())
                .map(|row| row.iter().zip(&placed).map(|(c, placed)| self.show(c, *placed)).collect())
                .collect()
        };
        plan.targets.iter().zip(&self.tables).map(show).collect()
    }

    fn show(&self, cell: &Cell, placed: bool) -> String {
        match cell {
            _ if placed => String::new(),
            Cell::Text(span) | Cell::Decimal(span) => {
                let text = std::str::from_utf8(span.of(&self.arena));
                text.unwrap_or_else(|e| panic!("{cell:?} is not UTF-8: {e}")).to_owned()
            }
            Cell::Bytes(span) => span.of(&self.arena).escape_ascii().to_string(),
            Cell::Float(value) => format!("{:x}", value.to_bits()),
            other => format!("{other:?}"),
        }
    }
}

fn decode(plan: &Plan, order: &mut FieldOrder, bytes: &[u8], records: &[Line<'_>]) -> Decoded {
    let mut tables = vec![TableRows::default(); plan.targets.len()];
    let mut rejected = Vec::new();
    let mut decoder = RecordDecoder::new(plan, order, bytes);
    for (index, (key, payload)) in (0..).zip(records) {
        let envelope = Envelope {
            index,
            partition: 0,
            offset: i64::from(index),
            timestamp: 1_000_000_000_000,
            key: *key,
            payload: *payload,
            oversize: None,
        };
        if let Err(rejection) = decoder.decode(&envelope, &mut tables) {
            rejected.push((index, rejection));
        }
    }
    let mut arena = bytes.to_vec();
    arena.extend_from_slice(&decoder.into_extra());
    Decoded { tables, arena, rejected }
}

/// One table with a column of each kind, and one that only some records have a row for.
fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = |max_chars, max_bytes, charset| ColumnKind::Text { max_chars, max_bytes, charset, padded: false };
        let integer = |min, max| ColumnKind::Integer { min, max };
        let kinds = [
            ("id", integer(i64::MIN.into(), i64::MAX.into())),
            ("tiny", integer(-128, 127)),
            ("huge", integer(0, u64::MAX.into())),
            ("single", ColumnKind::Float { single: true }),
            ("double", ColumnKind::Float { single: false }),
            ("amount", ColumnKind::Decimal { precision: 10, scale: 3, unsigned: false }),
            ("name", text(Some(5), None, Charset::Utf8mb4)),
            ("old", text(Some(40), None, Charset::Utf8mb3)),
            ("latin", text(None, Some(20), Charset::Latin1)),
            ("plain", text(None, Some(200), Charset::Ascii)),
            ("raw", ColumnKind::Binary { max_bytes: Some(8), padded: false }),
            ("moment", ColumnKind::DateTime { fraction: 3, timestamp: false }),
            ("stamp", ColumnKind::DateTime { fraction: 0, timestamp: true }),
            ("day", ColumnKind::Date),
            ("clock", ColumnKind::Time { fraction: 1 }),
            ("json", ColumnKind::Json),
            ("choice", ColumnKind::Enum { values: vec!["a".into(), "b\t".into()] }),
            ("since", ColumnKind::DateTime { fraction: 6, timestamp: false }),
            ("received", ColumnKind::DateTime { fraction: 6, timestamp: false }),
            ("at_offset", integer(0, i64::MAX.into())),
            ("label", text(Some(8), None, Charset::Utf8mb4)),
        ];
        let column = |name: &str, kind: &ColumnKind| Column {
            name: name.into(),
            kind: kind.clone(),
            nullable: name != "id",
            has_default: false,
            generated: false,
            declared: name.into(),
        };
        let table = |name: &str, columns| {
            Arc::new(Table { name: name.into(), columns, primary_key: vec![0], foreign_keys: Vec::new() })
        };
        let source = |name: &str| match name {
            "received" => Source::Timestamp,
            "at_offset" => Source::Offset,
            "label" => Source::Key,
            "since" => Source::Epoch { field: "since".into(), unit: EpochUnit::Millis },
            field => Source::Field(field.into()),
        };
        let mapping = |table: &str, optional, columns: Vec<(String, Source)>| Mapping {
            table: table.into(),
            on_conflict: OnConflict::Update,
            optional,
            columns,
        };
        let tables = [
            table("things", kinds.iter().map(|(name, kind)| column(name, kind)).collect()),
            table("owners", vec![column("code", &kinds[6].1), column("name", &kinds[9].1)]),
        ];
        let mappings = [
            mapping("things", false, kinds.iter().map(|(name, _)| ((*name).to_owned(), source(name))).collect()),
            mapping("owners", true, vec![("code".into(), source("owner")), ("name".into(), source("owner_name"))]),
        ];
        Plan::new("things", &mappings, &tables).unwrap_or_else(|misfits| panic!("the plan is sound: {misfits:?}"))
    })
}
