//! Rows as the text that LOAD DATA reads: tab between fields, newline after a row, `\N` for null, backslash before
//! tab, newline and backslash. Allocates nothing for a row. Bytes go as hexadecimal digits, since the statement
//! declares the text as utf8mb4 and the server refuses what is not.

use std::io::Write;

use crate::core::cell::Cell;
use crate::core::schema::ColumnKind;
use crate::core::target::Rows;
use crate::core::time::{MICROS_PER_DAY, civil_from_days};

/// How the values of one column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// Hexadecimal digits, turned back by UNHEX in the statement.
    Hex,
    /// A time with so many digits of a second: what the column does not keep is cut here, since MySQL rounds it
    /// and MariaDB cuts it.
    Fraction(u8),
}

/// The forms of the rows' columns.
pub fn forms(rows: &Rows<'_>) -> Vec<Form> {
    rows.columns
        .iter()
        .map(|&c| match rows.target.table.columns[rows.target.columns[c]].kind {
            ColumnKind::Binary { .. } => Form::Hex,
            ColumnKind::DateTime { fraction, .. } | ColumnKind::Time { fraction } => Form::Fraction(fraction.min(6)),
            _ => Form::Plain,
        })
        .collect()
}

/// Appends all rows.
pub fn encode(rows: &Rows<'_>, forms: &[Form], out: &mut Vec<u8>) {
    for row in rows.iter() {
        push_row(out, row, forms, rows.arena);
    }
}

/// Appends the rows at these positions, each with its position in front.
pub fn encode_numbered(rows: &Rows<'_>, forms: &[Form], positions: &[usize], out: &mut Vec<u8>) {
    for &position in positions {
        push_int(out, position);
        out.push(b'\t');
        push_row(out, rows.row(position), forms, rows.arena);
    }
}

/// A value as text for a message, at most so many characters.
pub(super) fn shown(cell: Cell, arena: &[u8]) -> String {
    const MAX: usize = 60;
    if cell.is_absent() {
        return "null".into();
    }
    let mut out = Vec::new();
    push_cell(&mut out, cell, Form::Plain, arena);
    let text = String::from_utf8_lossy(&out);
    match text.char_indices().nth(MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.into_owned(),
    }
}

fn push_row(out: &mut Vec<u8>, row: &[Cell], forms: &[Form], arena: &[u8]) {
    for (cell, form) in row.iter().zip(forms) {
        push_cell(out, *cell, *form, arena);
        out.push(b'\t');
    }
    out.pop();
    out.push(b'\n');
}

fn push_cell(out: &mut Vec<u8>, cell: Cell, form: Form, arena: &[u8]) {
    match cell {
        Cell::Missing | Cell::Null => out.extend_from_slice(b"\\N"),
        Cell::Int(value) => push_int(out, value),
        Cell::UInt(value) => push_int(out, value),
        Cell::Float(value) => push_float(out, value),
        Cell::Decimal(span) => out.extend_from_slice(span.of(arena)),
        Cell::Text(span) | Cell::Bytes(span) if form == Form::Hex => push_hex(out, span.of(arena)),
        Cell::Text(span) | Cell::Bytes(span) => push_text(out, span.of(arena)),
        Cell::DateTime(micros) => push_datetime(out, micros, digits_of(form)),
        Cell::Date(days) => push_date(out, days),
        Cell::Time(micros) => push_time(out, micros, digits_of(form)),
    }
}

fn digits_of(form: Form) -> u8 {
    match form {
        Form::Fraction(digits) => digits,
        Form::Plain | Form::Hex => 6,
    }
}

fn push_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest text that reads back as the same number, with an exponent where it would be long.
fn push_float(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    // Writing to a Vec cannot fail.
    let _ = if value == 0.0 || (1e-5..1e16).contains(&magnitude) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

fn push_text(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = memchr::memchr3(b'\t', b'\n', b'\\', text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(match text[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn push_two(out: &mut Vec<u8>, value: u32) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

fn push_date(out: &mut Vec<u8>, days: i32) {
    let (year, month, day) = civil_from_days(days);
    if (0..10_000).contains(&year) {
        push_two(out, year as u32 / 100);
        push_two(out, year as u32 % 100);
    } else {
        push_int(out, year);
    }
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

fn push_clock(out: &mut Vec<u8>, micros_of_day: u64, hours: u64, digits: u8) {
    let seconds = micros_of_day / 1_000_000 % 3600;
    if hours > 99 {
        push_int(out, hours);
    } else {
        push_two(out, hours as u32);
    }
    out.push(b':');
    push_two(out, (seconds / 60) as u32);
    out.push(b':');
    push_two(out, (seconds % 60) as u32);
    if digits > 0 {
        out.push(b'.');
        let mut fraction = (micros_of_day % 1_000_000) as u32;
        let mut unit = 100_000;
        for _ in 0..digits {
            out.push(b'0' + (fraction / unit) as u8);
            fraction %= unit;
            unit = (unit / 10).max(1);
        }
    }
}

fn push_datetime(out: &mut Vec<u8>, micros: i64, digits: u8) {
    push_date(out, micros.div_euclid(MICROS_PER_DAY) as i32);
    out.push(b' ');
    let rest = micros.rem_euclid(MICROS_PER_DAY) as u64;
    push_clock(out, rest, rest / 3_600_000_000, digits);
}

fn push_time(out: &mut Vec<u8>, micros: i64, digits: u8) {
    if micros < 0 {
        out.push(b'-');
    }
    let size = micros.unsigned_abs();
    push_clock(out, size, size / 3_600_000_000, digits);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::cell::Span;

    fn text_of(cell: Cell, form: Form, arena: &[u8]) -> String {
        let mut out = Vec::new();
        push_cell(&mut out, cell, form, arena);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_separates_fields_and_rows_is_escaped_in_text() {
        let arena = b"a\tb\nc\\N";
        assert_eq!(text_of(Cell::Text(Span::new(0, arena.len())), Form::Plain, arena), "a\\tb\\nc\\\\N");
        assert_eq!(text_of(Cell::Null, Form::Plain, b""), "\\N");
        assert_eq!(text_of(Cell::Text(Span::new(0, 0)), Form::Plain, b""), "");
        assert_eq!(text_of(Cell::Bytes(Span::new(0, 3)), Form::Hex, &[0, 0x9f, 0xff]), "009FFF");
    }

    #[test]
    fn times_are_cut_to_the_digits_that_the_column_keeps() {
        let micros = 1_357_034_705_123_456;
        assert_eq!(text_of(Cell::DateTime(micros), Form::Fraction(6), b""), "2013-01-01 10:05:05.123456");
        assert_eq!(text_of(Cell::DateTime(micros), Form::Fraction(3), b""), "2013-01-01 10:05:05.123");
        assert_eq!(text_of(Cell::DateTime(micros), Form::Fraction(0), b""), "2013-01-01 10:05:05");
        assert_eq!(text_of(Cell::DateTime(-1), Form::Fraction(6), b""), "1969-12-31 23:59:59.999999");
        assert_eq!(text_of(Cell::Date(-719_162), Form::Plain, b""), "0001-01-01");
        assert_eq!(text_of(Cell::Time(-(838 * 3600 + 59 * 60 + 59) * 1_000_000), Form::Fraction(0), b""), "-838:59:59");
        assert_eq!(text_of(Cell::Time(61_500_000), Form::Fraction(1), b""), "00:01:01.5");
    }

    #[test]
    fn numbers_are_written_as_the_server_reads_them() {
        assert_eq!(text_of(Cell::UInt(u64::MAX), Form::Plain, b""), "18446744073709551615");
        assert_eq!(text_of(Cell::Int(i64::MIN), Form::Plain, b""), "-9223372036854775808");
        assert_eq!(text_of(Cell::Float(0.1), Form::Plain, b""), "0.1");
        assert_eq!(text_of(Cell::Float(1e300), Form::Plain, b""), "1e300");
        assert_eq!(text_of(Cell::Float(-1.5e-8), Form::Plain, b""), "-1.5e-8");
    }

    proptest! {
        #[test]
        fn a_day_is_the_same_as_by_the_calendar_library(days in -719_162i32..2_932_896) {
            use chrono::Datelike;
            let date = chrono::NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
            prop_assert_eq!(civil_from_days(days), (date.year(), date.month(), date.day()));
        }

        #[test]
        fn a_float_reads_back_as_itself(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(text_of(Cell::Float(value), Form::Plain, b"").parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn escaped_text_has_no_bare_separator_and_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            push_text(&mut out, &bytes);
            let mut back = Vec::new();
            let mut rest = out.iter();
            while let Some(&byte) = rest.next() {
                prop_assert!(byte != b'\t' && byte != b'\n');
                back.push(match byte {
                    b'\\' => match rest.next() {
                        Some(b't') => b'\t',
                        Some(b'n') => b'\n',
                        Some(&b) => b,
                        None => 0,
                    },
                    _ => byte,
                });
            }
            prop_assert_eq!(back, bytes);
        }
    }
}
