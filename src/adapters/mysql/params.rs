//! Rows as bound parameters of a multi-row INSERT, cut into statements that the server takes: at most 65,535
//! placeholders and no more bytes than half of `max_allowed_packet`. A value is never part of a statement's text.

use std::ops::Range;

use mysql_async::Value;

use super::tsv::Form;
use crate::adapters::parts::of_few_lengths;
use crate::core::cell::Cell;
use crate::core::target::Rows;
use crate::core::time::{MICROS_PER_DAY, civil_from_days};

/// The protocol counts placeholders in 16 bits.
const MAX_PLACEHOLDERS: usize = 65_535;
/// More rows in a statement gain nothing and make its text long to parse.
const MAX_ROWS: usize = 500;

/// One cell as a bound value.
pub(super) fn value(cell: Cell, form: Form, arena: &[u8]) -> Value {
    match cell {
        Cell::Missing | Cell::Null => Value::NULL,
        Cell::Int(value) => Value::Int(value),
        Cell::UInt(value) => Value::UInt(value),
        Cell::Float(value) => Value::Double(value),
        Cell::Decimal(span) | Cell::Text(span) | Cell::Bytes(span) => Value::Bytes(span.of(arena).to_vec()),
        Cell::DateTime(micros) => datetime(micros, form),
        Cell::Date(days) => {
            let (year, month, day) = date(days);
            Value::Date(year, month, day, 0, 0, 0, 0)
        }
        Cell::Time(micros) => {
            let size = cut(micros.unsigned_abs(), form);
            let (seconds, fraction) = (size / 1_000_000, (size % 1_000_000) as u32);
            let (minutes, hours) = (seconds / 60, seconds / 3600);
            Value::Time(
                micros < 0,
                (hours / 24) as u32,
                (hours % 24) as u8,
                (minutes % 60) as u8,
                (seconds % 60) as u8,
                fraction,
            )
        }
    }
}

/// Microseconds since 1970 as a bound DATETIME(6).
pub(super) fn datetime_micros(micros: i64) -> Value {
    datetime(micros, Form::Fraction(6))
}

fn datetime(micros: i64, form: Form) -> Value {
    let (year, month, day) = date(micros.div_euclid(MICROS_PER_DAY) as i32);
    let rest = cut(micros.rem_euclid(MICROS_PER_DAY) as u64, form);
    let seconds = rest / 1_000_000;
    Value::Date(
        year,
        month,
        day,
        (seconds / 3600) as u8,
        (seconds / 60 % 60) as u8,
        (seconds % 60) as u8,
        (rest % 1_000_000) as u32,
    )
}

fn date(days: i32) -> (u16, u8, u8) {
    let (year, month, day) = civil_from_days(days);
    // Beyond the column's range the server refuses it; 10000 is out of every range.
    (u16::try_from(year).unwrap_or(10_000), month as u8, day as u8)
}

fn cut(micros: u64, form: Form) -> u64 {
    let digits = match form {
        Form::Fraction(digits) => u32::from(digits.min(6)),
        Form::Plain | Form::Hex => 6,
    };
    let unit = 10_u64.pow(6 - digits);
    micros / unit * unit
}

/// Bytes that a row takes in a statement, at most.
pub(super) fn row_size(row: &[Cell]) -> usize {
    row.iter()
        .map(|cell| match cell {
            Cell::Decimal(span) | Cell::Text(span) | Cell::Bytes(span) => span.len as usize + 12,
            _ => 16,
        })
        .sum()
}

/// Which of `positions` from `start` on go into one statement, `extra` placeholders a row beside the cells: at least one,
/// and of few lengths, since each is a statement of its own that the connection and the server keep, with all its
/// placeholders.
pub(super) fn chunk(
    rows: &Rows<'_>,
    positions: &[usize],
    start: usize,
    extra: usize,
    max_packet: usize,
) -> Range<usize> {
    let most = (MAX_PLACEHOLDERS / (rows.columns.len() + extra)).clamp(1, MAX_ROWS);
    let mut bytes = 0;
    let mut end = start;
    while end < positions.len() && end - start < most {
        bytes += row_size(rows.row(positions[end]));
        if end > start && bytes > max_packet / 2 {
            break;
        }
        end += 1;
    }
    start..start + of_few_lengths(end - start)
}

/// `(?,?),(?,?)`: `rows` groups of `width` placeholders.
pub(super) fn placeholders(rows: usize, width: usize) -> String {
    let mut text = String::with_capacity(rows * (width * 2 + 2));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..width {
            text.push_str(if column == 0 { "?" } else { ",?" });
        }
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::cell::Span;
    use crate::core::schema::{Column, ColumnKind, Table};
    use crate::core::target::{OnConflict, Target};

    #[test]
    fn times_are_bound_in_parts_and_cut_to_the_columns_digits() {
        let micros = 1_357_034_705_123_456;
        assert_eq!(value(Cell::DateTime(micros), Form::Fraction(6), b""), Value::Date(2013, 1, 1, 10, 5, 5, 123_456));
        assert_eq!(value(Cell::DateTime(micros), Form::Fraction(0), b""), Value::Date(2013, 1, 1, 10, 5, 5, 0));
        assert_eq!(value(Cell::DateTime(-1), Form::Fraction(3), b""), Value::Date(1969, 12, 31, 23, 59, 59, 999_000));
        assert_eq!(value(Cell::Date(0), Form::Plain, b""), Value::Date(1970, 1, 1, 0, 0, 0, 0));
        assert_eq!(value(Cell::Time(-90_000_500_000), Form::Fraction(6), b""), Value::Time(true, 1, 1, 0, 0, 500_000));
        assert_eq!(value(Cell::Text(Span::new(1, 2)), Form::Plain, b"abc"), Value::Bytes(b"bc".to_vec()));
    }

    #[test]
    fn a_statement_holds_no_more_than_the_server_takes() {
        let column = |name: &str| Column {
            name: name.into(),
            kind: ColumnKind::Other,
            nullable: true,
            has_default: false,
            generated: false,
            declared: String::new(),
        };
        let table = Table {
            name: "t".into(),
            columns: (0..200).map(|i| column(&format!("c{i}"))).collect(),
            primary_key: vec![0],
            foreign_keys: vec![],
        };
        let columns: Vec<usize> = (0..200).collect();
        let target = Target {
            table: Arc::new(table),
            columns: columns.clone(),
            key: vec![0],
            on_conflict: OnConflict::Ignore,
            dimension: false,
        };
        let cells = vec![Cell::Int(1); 200 * 1000];
        let rows = Rows { target: &target, columns: &columns, cells: &cells, arena: b"" };
        let all: Vec<usize> = (0..1000).collect();
        assert_eq!(chunk(&rows, &all, 0, 0, 1 << 30), 0..256, "of 327 whose placeholders are few enough");
        assert_eq!(chunk(&rows, &all, 990, 0, 1 << 30), 990..998);
        assert_eq!(chunk(&rows, &all, 0, 0, 10_000), 0..1, "2 rows of 3,200 bytes are above half of the packet");
        assert_eq!(chunk(&rows, &all, 7, 0, 16), 7..8, "one row at least");
    }

    #[test]
    fn placeholders_are_grouped_by_row() {
        assert_eq!(placeholders(2, 3), "(?,?,?),(?,?,?)");
    }
}
