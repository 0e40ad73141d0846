//! Typed values as people and programs outside the database read them: JSON, with moments as RFC 3339 in UTC.

use serde_json::Value;

use super::cell::Cell;
use super::time;

/// A cell as a JSON value. A decimal is a text, since a number of JSON would be bent; what is missing is null.
pub fn json(cell: &Cell, arena: &[u8]) -> Value {
    match cell {
        Cell::Missing | Cell::Null => Value::Null,
        Cell::Int(value) => (*value).into(),
        Cell::UInt(value) => (*value).into(),
        Cell::Float(value) => (*value).into(),
        Cell::Decimal(span) | Cell::Text(span) | Cell::Bytes(span) => {
            String::from_utf8_lossy(span.of(arena)).into_owned().into()
        }
        Cell::DateTime(micros) => moment(*micros).into(),
        Cell::Date(days) => time::text(|out| time::write_date(out, *days)).into(),
        Cell::Time(micros) => without_empty_fraction(time::text(|out| time::write_time(out, *micros))).into(),
    }
}

/// Microseconds since 1970 as RFC 3339: `2013-01-01T10:15:00Z`, with a fraction where there is one.
pub fn moment(micros: i64) -> String {
    let mut text = without_empty_fraction(of_any_year(micros));
    text.push('Z');
    text
}

/// Milliseconds since 1970 as RFC 3339 with three digits of a second's fraction, always: text that sorts as time does.
pub fn moment_of_millis(millis: i64) -> String {
    let mut text = of_any_year(millis.saturating_mul(1000));
    text.truncate(text.len() - 3);
    text.push('Z');
    text
}

/// A record's time may lie in any year; outside of 0000 to 9999 it has a sign and six digits, as in ECMAScript.
fn of_any_year(micros: i64) -> String {
    let text = time::datetime_text(micros).replacen(' ', "T", 1);
    let (year, _, _) = time::civil_from_days(micros.div_euclid(time::MICROS_PER_DAY) as i32);
    match year {
        0..=9999 => text,
        _ => format!("{year:+07}{}", &text[4..]),
    }
}

/// `10:15:00.250000` as `10:15:00.25`, `10:15:00.000000` as `10:15:00`.
fn without_empty_fraction(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cell::Span;

    #[test]
    fn each_kind_of_cell_has_its_json() {
        let arena = "12.50né\u{ff}".as_bytes();
        let day = time::days_from_civil(2013, 1, 31);
        let at = i64::from(day) * time::MICROS_PER_DAY + 36_900 * time::MICROS_PER_SECOND;
        for (cell, expected) in [
            (Cell::Null, "null"),
            (Cell::Int(-7), "-7"),
            (Cell::UInt(u64::MAX), "18446744073709551615"),
            (Cell::Float(1.5), "1.5"),
            (Cell::Decimal(Span::new(0, 5)), r#""12.50""#),
            (Cell::Text(Span::new(5, 3)), r#""né""#),
            (Cell::DateTime(at), r#""2013-01-31T10:15:00Z""#),
            (Cell::DateTime(at + 250_000), r#""2013-01-31T10:15:00.25Z""#),
            (Cell::Date(day), r#""2013-01-31""#),
            (Cell::Time(-1_500_000), r#""-00:00:01.5""#),
            (Cell::Time(0), r#""00:00:00""#),
        ] {
            assert_eq!(json(&cell, arena).to_string(), expected);
        }
    }

    #[test]
    fn milliseconds_sort_as_text() {
        let texts = [1_356_998_400_000, 1_356_998_400_050, 1_356_998_400_250, 1_356_998_401_000].map(moment_of_millis);
        assert!(texts.is_sorted());
        assert_eq!(texts[1], "2013-01-01T00:00:00.050Z");
    }

    #[test]
    fn a_moment_beyond_four_digits_is_not_taken_for_one_of_our_time() {
        let millis = 317_266_934_400_000;
        assert_eq!(moment_of_millis(millis), "+012023-10-16T00:00:00.000Z");
        assert_eq!(moment(-62_198_755_200_000_000), "-000001-01-01T00:00:00Z");
        assert!(moment_of_millis(i64::MAX).starts_with("+294247-01-10T"));
    }

    #[test]
    fn a_moment_reads_back() {
        for micros in [0, 1, 1_357_035_300_000_000, 999_999] {
            assert_eq!(time::parse_datetime(&moment(micros)), Some(micros), "{}", moment(micros));
        }
    }
}
