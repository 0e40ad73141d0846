//! Values at, below and beyond what each kind of column holds.

use proptest::prelude::*;

use super::*;
use crate::core::testing::{bigint, varchar};
use Reason::*;

type Answer = Result<&'static str, Reason>;

/// The value as text, or why it does not fit.
fn fit(raw: &str, kind: &ColumnKind) -> Result<String, Reason> {
    fit_json(raw, kind).map(shown).map_err(|(reason, _)| reason)
}

fn shown(fit: Fit<'_>) -> String {
    match fit {
        Fit::Cell(Cell::Null) => "null".to_owned(),
        Fit::Cell(Cell::Int(v)) => v.to_string(),
        Fit::Cell(Cell::UInt(v)) => format!("u{v}"),
        Fit::Cell(Cell::Float(v)) => format!("{v:?}"),
        Fit::Cell(Cell::DateTime(v) | Cell::Time(v)) => v.to_string(),
        Fit::Cell(Cell::Date(v)) => v.to_string(),
        Fit::Cell(other) => panic!("{other:?}"),
        Fit::Text(t) => format!("text {t}"),
        Fit::Bytes(t) => format!("bytes {t}"),
        Fit::Decimal(t) => format!("decimal {t}"),
        Fit::Unescaped(t) => format!("unescaped {t}"),
        Fit::UnescapedBytes(t) => format!("unescaped bytes {t}"),
    }
}

fn check(kind: &ColumnKind, cases: &[(&str, Answer)]) {
    for (raw, expected) in cases {
        assert_eq!(fit(raw, kind), expected.map(str::to_owned), "{raw} in {kind:?}");
    }
    assert_eq!(fit("null", kind), Ok("null".to_owned()), "null in {kind:?}");
}

#[test]
fn integers_fit_within_their_bounds_and_may_be_written_with_a_point() {
    let tiny = ColumnKind::Integer { min: -128, max: 127 };
    check(
        &tiny,
        &[
            ("127", Ok("127")),
            ("128", Err(OutOfRange)),
            ("-128", Ok("-128")),
            ("-129", Err(OutOfRange)),
            ("-0", Ok("0")),
            ("1.0", Ok("1")),
            ("1.2e1", Ok("12")),
            ("1200e-2", Ok("12")),
            ("-1E+2", Ok("-100")),
            ("0.0", Ok("0")),
            ("0e99999999999999999999", Ok("0")),
            ("1.5", Err(WrongType)),
            ("1e-1", Err(WrongType)),
            ("1e3", Err(OutOfRange)),
            ("1e400", Err(OutOfRange)),
            ("1e99999999999999999999", Err(OutOfRange)),
            ("true", Ok("1")),
            ("false", Ok("0")),
            ("\"5\"", Err(WrongType)),
            ("{}", Err(WrongType)),
            ("[1]", Err(WrongType)),
        ],
    );
    check(
        &ColumnKind::Integer { min: 0, max: u64::MAX as i128 },
        &[
            ("18446744073709551615", Ok("u18446744073709551615")),
            ("18446744073709551616", Err(OutOfRange)),
            ("9223372036854775808", Ok("u9223372036854775808")),
            ("9223372036854775807", Ok("9223372036854775807")),
            ("-1", Err(OutOfRange)),
            ("340282366920938463463374607431768211456", Err(OutOfRange)),
        ],
    );
    check(&bigint(), &[("9223372036854775808", Err(OutOfRange)), ("-9223372036854775809", Err(OutOfRange))]);
}

#[test]
fn a_fraction_too_fine_for_floating_point_is_still_a_fraction() {
    let fractions =
        ["0.99999999999999999", "9007199254740991.4", "1.00000000000000000001", "1e-400", "1e-99999999999999999999"];
    check(&bigint(), &fractions.map(|raw| (raw, Err(WrongType))));
    check(&bigint(), &[("9007199254740993.0", Ok("9007199254740993")), ("1e18", Ok("1000000000000000000"))]);
}

#[test]
fn floats_must_be_finite_in_their_width() {
    let cases: [(&str, Answer); 6] = [
        ("0.1", Ok("0.1")),
        ("-1e2", Ok("-100.0")),
        ("1e400", Err(OutOfRange)),
        ("true", Err(WrongType)),
        ("\"1\"", Err(WrongType)),
        ("[]", Err(WrongType)),
    ];
    check(&ColumnKind::Float { single: false }, &cases);
    check(&ColumnKind::Float { single: true }, &cases);
    check(&ColumnKind::Float { single: false }, &[("1.7976931348623157e308", Ok("1.7976931348623157e308"))]);
    check(&ColumnKind::Float { single: false }, &[("3.5e38", Ok("3.5e38"))]);
    check(&ColumnKind::Float { single: true }, &[("3.5e38", Err(OutOfRange)), ("-3.4e38", Ok("-3.4e38"))]);
}

#[test]
fn decimals_are_never_rounded() {
    check(
        &ColumnKind::Decimal { precision: 5, scale: 2, unsigned: false },
        &[
            ("999.99", Ok("decimal 999.99")),
            ("-999.99", Ok("decimal -999.99")),
            ("1000", Err(OutOfRange)),
            ("0.001", Err(OutOfRange)),
            ("1.100", Ok("decimal 1.100")),
            ("1e2", Err(WrongType)),
            ("\"12.5\"", Ok("decimal 12.5")),
            ("\"0012.5\"", Ok("decimal 0012.5")),
            ("\"\"", Err(WrongType)),
            ("\"-\"", Err(WrongType)),
            ("\"1.\"", Err(WrongType)),
            ("\".5\"", Err(WrongType)),
            ("\"+1\"", Err(WrongType)),
            ("\" 1\"", Err(WrongType)),
            ("\"1.2.3\"", Err(WrongType)),
            ("\"\\u0031\"", Err(WrongType)),
            ("true", Err(WrongType)),
            ("{}", Err(WrongType)),
        ],
    );
    let unsigned = ColumnKind::Decimal { precision: 5, scale: 2, unsigned: true };
    check(&unsigned, &[("-0.01", Err(OutOfRange)), ("-0.00", Ok("decimal -0.00")), ("0.01", Ok("decimal 0.01"))]);
    let fraction = ColumnKind::Decimal { precision: 2, scale: 2, unsigned: false };
    check(&fraction, &[("0.99", Ok("decimal 0.99")), ("1.0", Err(OutOfRange))]);
}

#[test]
fn texts_are_counted_in_characters_or_bytes_of_their_character_set() {
    let text = |max_chars, max_bytes, charset| ColumnKind::Text { max_chars, max_bytes, charset, padded: false };
    check(
        &varchar(3),
        &[
            ("\"äöü\"", Ok("text äöü")),
            ("\"abcd\"", Err(TooLong)),
            ("\"\"", Ok("text ")),
            ("1.0", Ok("text 1.0")),
            ("1000", Err(TooLong)),
            ("true", Err(WrongType)),
            ("{}", Err(WrongType)),
            ("[]", Err(WrongType)),
            (r#""\u0061\n\"""#, Ok("unescaped a\n\"")),
            (r#""\u0061bcd""#, Err(TooLong)),
            (r#""\ud834\udd1e""#, Ok("unescaped 𝄞")),
            (r#""\ud834""#, Err(InvalidUtf8)),
        ],
    );
    check(&text(None, Some(4), Charset::Utf8mb4), &[("\"äö\"", Ok("text äö")), ("\"äöx\"", Err(TooLong))]);
    check(&text(None, Some(3), Charset::Latin1), &[("\"äöü\"", Ok("text äöü")), ("\"äöüx\"", Err(TooLong))]);
    check(&text(Some(9), None, Charset::Latin1), &[("\"ÿ\"", Ok("text ÿ")), ("\"€\"", Err(NotEncodable))]);
    check(&text(Some(9), None, Charset::Utf8mb3), &[("\"€\"", Ok("text €")), ("\"𝄞\"", Err(NotEncodable))]);
    let padded = ColumnKind::Text { max_chars: Some(3), max_bytes: None, charset: Charset::Utf8mb4, padded: true };
    check(&padded, &[("\"ab\"", Ok("text ab")), ("\"a \"", Err(NotEncodable)), ("\" a\"", Ok("text  a"))]);
    check(&varchar(3), &[("\"a \"", Ok("text a "))]);
    check(&text(Some(9), None, Charset::Ascii), &[("\"~\"", Ok("text ~")), ("\"é\"", Err(NotEncodable))]);
}

#[test]
fn bytes_enums_and_json() {
    check(
        &ColumnKind::Binary { max_bytes: Some(3), padded: false },
        &[
            ("\"abc\"", Ok("bytes abc")),
            ("\"äö\"", Err(TooLong)),
            (r#""\u0000b""#, Ok("unescaped bytes \0b")),
            ("1", Err(WrongType)),
        ],
    );
    check(&ColumnKind::Binary { max_bytes: None, padded: false }, &[("\"abcd\"", Ok("bytes abcd"))]);
    let padded = ColumnKind::Binary { max_bytes: Some(3), padded: true };
    check(&padded, &[("\"abc\"", Ok("bytes abc")), ("\"ab\"", Err(OutOfRange)), ("\"abcd\"", Err(TooLong))]);
    check(
        &ColumnKind::Enum { values: vec!["open".into(), "shut".into()] },
        &[
            ("\"open\"", Ok("text open")),
            (r#""\u006fpen""#, Ok("unescaped open")),
            ("\"Open\"", Err(OutOfRange)),
            ("\"\"", Err(OutOfRange)),
            ("1", Err(WrongType)),
            ("true", Err(WrongType)),
        ],
    );
    let same = ["{\"a\":[1,null]}", "[]", "\"a\\n\"", "1.50", "true"];
    for raw in same {
        assert_eq!(fit_json(raw, &ColumnKind::Json), Ok(Fit::Text(raw)));
    }
    let kept = [
        "18446744073709551615",
        "-9223372036854775808",
        "0.30000000000000004",
        "0.10000000000000001",
        "123456789.12345679",
        "1e2",
        "-0.0",
        "0e99999999999999999999",
        "1.7976931348623157e308",
        "5e-324",
        r#"{"a":"12345678901234567890123\\","b":[1.25,{"c\"":2e-7}]}"#,
    ];
    for raw in kept {
        assert_eq!(fit_json(raw, &ColumnKind::Json), Ok(Fit::Text(raw)));
    }
    check(
        &ColumnKind::Json,
        &[
            ("18446744073709551616", Err(OutOfRange)),
            ("-9223372036854775809", Err(OutOfRange)),
            ("123456789012345678901", Err(OutOfRange)),
            ("0.12345678901234567890", Err(OutOfRange)),
            ("1e400", Err(OutOfRange)),
            ("1e-400", Err(OutOfRange)),
            ("1e99999999999999999999", Err(OutOfRange)),
            (r#"{"n":[1,12345678901234567890123]}"#, Err(OutOfRange)),
        ],
    );
    check(&ColumnKind::Other, &[("1", Err(WrongType)), ("\"a\"", Err(WrongType)), ("true", Err(WrongType))]);
}

#[test]
fn moments_fit_the_columns_range_and_lose_what_it_does_not_keep() {
    check(
        &ColumnKind::DateTime { fraction: 6, timestamp: false },
        &[
            ("\"1970-01-01T00:00:00.000001Z\"", Ok("1")),
            ("\"1000-01-01T00:00:00Z\"", Ok("-30610224000000000")),
            ("\"0999-12-31T23:59:59Z\"", Err(OutOfRange)),
            ("\"9999-12-31T23:59:59.999999Z\"", Ok("253402300799999999")),
            ("\"9999-12-31T23:59:59-01:00\"", Err(OutOfRange)),
            ("\"2013-02-29T00:00:00Z\"", Err(InvalidTime)),
            ("\"2013-01-01\"", Err(InvalidTime)),
            (r#""1970-01-01\u002000:00:01""#, Ok("1000000")),
            ("1357034400", Err(WrongType)),
            ("true", Err(WrongType)),
        ],
    );
    check(
        &ColumnKind::DateTime { fraction: 0, timestamp: true },
        &[
            ("\"1970-01-01T00:00:01.9Z\"", Ok("1000000")),
            ("\"1970-01-01T00:00:00.9Z\"", Err(OutOfRange)),
            ("\"2038-01-19T03:14:07Z\"", Ok("2147483647000000")),
            ("\"2038-01-19T03:14:08Z\"", Err(OutOfRange)),
        ],
    );
    check(&ColumnKind::DateTime { fraction: 3, timestamp: false }, &[("\"1969-12-31T23:59:59.9999Z\"", Ok("-1000"))]);
    check(
        &ColumnKind::Date,
        &[
            ("\"1970-01-02\"", Ok("1")),
            ("\"1000-01-01\"", Ok("-354285")),
            ("\"0999-12-31\"", Err(InvalidTime)),
            ("\"2013-13-01\"", Err(InvalidTime)),
            ("\"1970-01-02T00:00:00Z\"", Err(InvalidTime)),
            ("1", Err(WrongType)),
        ],
    );
    check(
        &ColumnKind::Time { fraction: 0 },
        &[
            ("\"838:59:59\"", Ok("3020399000000")),
            ("\"838:59:59.1\"", Err(InvalidTime)),
            ("\"-00:00:01\"", Ok("-1000000")),
            ("\"00:00:01.9\"", Ok("1000000")),
            ("\"-00:00:01.9\"", Ok("-1000000")),
            ("\"x\"", Err(InvalidTime)),
            ("1", Err(WrongType)),
        ],
    );
}

#[test]
fn numbers_count_time_in_their_unit() {
    let kind = ColumnKind::DateTime { fraction: 6, timestamp: false };
    let fit = |raw, unit, kind: &ColumnKind| fit_epoch(raw, unit, kind).map(shown).map_err(|(reason, _)| reason);
    assert_eq!(fit("1", EpochUnit::Seconds, &kind), Ok("1000000".into()));
    assert_eq!(fit("-1", EpochUnit::Millis, &kind), Ok("-1000".into()));
    assert_eq!(fit("1", EpochUnit::Micros, &kind), Ok("1".into()));
    assert_eq!(fit("1357034400.25", EpochUnit::Seconds, &kind), Ok("1357034400250000".into()));
    assert_eq!(fit("1.5e3", EpochUnit::Millis, &kind), Ok("1500000".into()));
    assert_eq!(fit("null", EpochUnit::Millis, &kind), Ok("null".into()));
    for wrong in ["\"1\"", "true", "{}", "[1]"] {
        assert_eq!(fit(wrong, EpochUnit::Seconds, &kind), Err(WrongType), "{wrong}");
    }
    for beyond in ["9223372036854775807", "9223372036854775808", "1e300", "-1e300", "300000000000", "-40000000000"] {
        assert_eq!(fit(beyond, EpochUnit::Seconds, &kind), Err(OutOfRange), "{beyond}");
    }
    assert_eq!(fit("-1", EpochUnit::Seconds, &ColumnKind::Date), Ok("-1".into()));
    assert_eq!(fit("300000000000", EpochUnit::Seconds, &ColumnKind::Date), Err(OutOfRange));
    assert_eq!(fit("1", EpochUnit::Seconds, &bigint()), Err(WrongType));
}

#[test]
fn what_is_known_of_a_record_is_checked_too() {
    assert_eq!(fit_integer(5, &varchar(1)).unwrap_err().0, WrongType);
    assert_eq!(fit_integer(128, &ColumnKind::Integer { min: 0, max: 127 }).unwrap_err().0, OutOfRange);
    assert_eq!(fit_text("a", &bigint()).unwrap_err().0, WrongType);
    assert_eq!(fit_micros(0, &bigint()).unwrap_err().0, WrongType);
}

proptest! {
    #[test]
    fn an_integer_fits_exactly_within_its_bounds(value: i64, a: i64, b: i64) {
        let kind = ColumnKind::Integer { min: a.min(b) as i128, max: a.max(b) as i128 };
        let expected = if (a.min(b)..=a.max(b)).contains(&value) { Ok(value.to_string()) } else { Err(OutOfRange) };
        prop_assert_eq!(fit(&value.to_string(), &kind), expected.clone());
        prop_assert_eq!(fit(&format!("{value}.00"), &kind), expected.clone());
        prop_assert_eq!(fit(&format!("{value}00e-2"), &kind), expected);
    }

    #[test]
    fn any_text_comes_through_its_escapes(text in "\\PC{0,12}|[\\x00-\\x7f]{0,12}") {
        let raw = serde_json::to_string(&text).unwrap();
        let found = match fit_json(&raw, &varchar(12)) {
            Ok(Fit::Text(found)) => found.to_owned(),
            Ok(Fit::Unescaped(found)) => found,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(found, text.clone());
        prop_assert_eq!(fit(&raw, &varchar(text.chars().count() as u64)).is_ok(), true);
        if !text.is_empty() {
            prop_assert_eq!(fit(&raw, &varchar(text.chars().count() as u64 - 1)), Err(TooLong));
        }
    }

    #[test]
    fn a_decimal_fits_by_its_digits(whole in 0u64..100_000, fraction in "[0-9]{0,4}", negative: bool) {
        let text = format!("{}{whole}{}{fraction}", if negative { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
        let kind = ColumnKind::Decimal { precision: 6, scale: 2, unsigned: false };
        let fits = whole < 10_000 && fraction.trim_end_matches('0').len() <= 2;
        let expected = if fits { Ok(format!("decimal {text}")) } else { Err(OutOfRange) };
        prop_assert_eq!(fit(&text, &kind), expected);
    }
}
