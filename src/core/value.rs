//! One JSON value against one column: the typed value, or why it does not fit.

use super::cell::Cell;
use super::decode::shortened;
use super::mapping::EpochUnit;
use super::outcome::Reason;
use super::schema::{Charset, ColumnKind};
use super::time;

/// A value that fits. The texts are as they stand in the record, or had to be unescaped.
#[derive(Debug, PartialEq)]
pub enum Fit<'a> {
    Cell(Cell),
    Text(&'a str),
    Bytes(&'a str),
    Decimal(&'a str),
    Unescaped(String),
    UnescapedBytes(String),
}

type Misfit = (Reason, String);

/// A JSON value as it stands in the record (`raw` is one valid JSON value without space around it).
pub fn fit_json<'a>(raw: &'a str, kind: &ColumnKind) -> Result<Fit<'a>, Misfit> {
    let first = raw.as_bytes().first().copied().unwrap_or(b'n');
    if let ColumnKind::Json = kind {
        return match first {
            b'n' => Ok(Fit::Cell(Cell::Null)),
            _ => match numbers_of(raw).find(|number| !is_kept_by_json(number)) {
                Some(number) => {
                    let number = shortened(number);
                    Err((
                        Reason::OutOfRange,
                        format!("a JSON column would not keep all digits of {number}; send it as a text"),
                    ))
                }
                None => Ok(Fit::Text(raw)),
            },
        };
    }
    match first {
        b'n' => Ok(Fit::Cell(Cell::Null)),
        b'"' => fit_string(raw, kind),
        b'{' | b'[' => {
            let what = if first == b'{' { "an object" } else { "an array" };
            Err((Reason::WrongType, format!("{what} does not fit {}", expected(kind))))
        }
        b't' | b'f' => match kind {
            ColumnKind::Integer { .. } => fit_integer((first == b't') as i128, kind),
            _ => Err((Reason::WrongType, format!("a boolean does not fit {}", expected(kind)))),
        },
        _ => fit_number(raw, kind),
    }
}

/// The numbers in one valid JSON value, as they are written.
fn numbers_of(raw: &str) -> impl Iterator<Item = &str> {
    let bytes = raw.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    at += 1;
                    while bytes.get(at).is_some_and(|&b| b != b'"') {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                    at += 1;
                }
                b'-' | b'0'..=b'9' => {
                    let rest = &bytes[at..];
                    let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
                    let end = at + rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
                    return raw.get(std::mem::replace(&mut at, end)..end);
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// Whether MySQL keeps the number: it has 64-bit integers, signed or not, and double precision for the rest. Others keep more,
/// but a record must fare alike everywhere.
fn is_kept_by_json(number: &str) -> bool {
    /// All decimals of so many digits are told apart by a double.
    const SAFE_DIGITS: usize = 15;
    /// With so many, every double can be told from every other.
    const MOST_DIGITS: usize = 17;
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    let Some(written) = Digits::of(number) else { return false };
    let value: f64 = number.parse().unwrap_or(f64::INFINITY);
    let normal = value.is_normal() || written.digits.is_empty();
    // Its shortest form, or as many digits as it was given with: two programs print one double differently.
    let digits = written.digits.len().clamp(1, MOST_DIGITS) - 1;
    let forms = || [format!("{value:e}"), format!("{value:.digits$e}")];
    let kept = || forms().iter().any(|form| Digits::of(form).is_some_and(|kept| kept == written));
    value.is_finite() && (normal && written.digits.len() <= SAFE_DIGITS || kept())
}

/// A number's digits without zeros at either end, and the power of ten of the last one.
#[derive(Debug, PartialEq)]
struct Digits {
    digits: String,
    exponent: i64,
}

impl Digits {
    /// `None` where the exponent is no number that could matter.
    fn of(number: &str) -> Option<Self> {
        let number = number.strip_prefix('-').unwrap_or(number);
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_end_matches('0');
        let zeros = (all.len() - digits.len()) as i64;
        let digits = digits.trim_start_matches('0').to_owned();
        let exponent = match digits.is_empty() {
            true => 0,
            false => exponent.parse::<i32>().ok()? as i64 + zeros - fraction.len() as i64,
        };
        Some(Self { digits, exponent })
    }
}

fn expected(kind: &ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Integer { .. } => "an integer column",
        ColumnKind::Float { .. } => "a floating-point column",
        ColumnKind::Decimal { .. } => "a decimal column",
        ColumnKind::Text { .. } => "a text column",
        ColumnKind::Binary { .. } => "a binary column",
        ColumnKind::DateTime { .. } => "a date and time column",
        ColumnKind::Date => "a date column",
        ColumnKind::Time { .. } => "a time column",
        ColumnKind::Json => "a JSON column",
        ColumnKind::Enum { .. } => "an enum column",
        ColumnKind::Other => "this column",
    }
}

fn fit_number<'a>(raw: &'a str, kind: &ColumnKind) -> Result<Fit<'a>, Misfit> {
    match kind {
        ColumnKind::Integer { .. } => {
            let value = match raw.parse::<i64>() {
                Ok(v) => v as i128,
                Err(_) => whole_number(raw)?,
            };
            fit_integer(value, kind)
        }
        ColumnKind::Float { single } => {
            let value: f64 = raw.parse().map_err(|_| (Reason::WrongType, "not a number".to_owned()))?;
            let fits = value.is_finite() && (!single || (value as f32).is_finite());
            if fits {
                // The two zeros are one number, and one key.
                Ok(Fit::Cell(Cell::Float(value + 0.0)))
            } else {
                Err((Reason::OutOfRange, "beyond the largest floating-point number of the column".to_owned()))
            }
        }
        ColumnKind::Decimal { precision, scale, unsigned } => fit_decimal(raw, *precision, *scale, *unsigned),
        ColumnKind::Text { .. } => fit_text(raw, kind).map(|()| Fit::Text(raw)),
        ColumnKind::DateTime { .. } | ColumnKind::Date => Err((
            Reason::WrongType,
            "a number is no date; map it with { field = \"…\", epoch = \"s\", \"ms\" or \"us\" }".to_owned(),
        )),
        _ => Err((Reason::WrongType, format!("a number does not fit {}", expected(kind)))),
    }
}

/// A number that is whole though it is written with a point or an exponent, or is larger than 64 bits. Read digit by
/// digit: a floating-point number on the way would lose small fractions without a word.
fn whole_number(raw: &str) -> Result<i128, Misfit> {
    /// As many as an `i128` surely holds, more than any integer column.
    const MOST_DIGITS: i64 = 38;
    let (negative, unsigned) = raw.strip_prefix('-').map_or((false, raw), |rest| (true, rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|c| c.is_ascii_digit()) {
        return Err((Reason::WrongType, "not a number".to_owned()));
    }
    let digits = all.trim_end_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // An exponent that is no i64 is far beyond either end.
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let zeros = exponent
        .parse::<i64>()
        .unwrap_or(beyond)
        .saturating_sub(fraction.len() as i64)
        .saturating_add((all.len() - digits.len()) as i64);
    let digits = digits.trim_start_matches('0');
    if zeros < 0 {
        return Err((Reason::WrongType, "a fraction does not fit an integer column".to_owned()));
    }
    if zeros.saturating_add(digits.len() as i64) > MOST_DIGITS {
        return Err((Reason::OutOfRange, "more digits than an integer column holds".to_owned()));
    }
    let value: i128 = digits.parse().map_err(|_| (Reason::WrongType, "not a number".to_owned()))?;
    let value = value * 10_i128.pow(zeros as u32);
    Ok(if negative { -value } else { value })
}

/// An integer that bief itself knows, or that was read from a record.
pub fn fit_integer(value: i128, kind: &ColumnKind) -> Result<Fit<'static>, Misfit> {
    let ColumnKind::Integer { min, max } = kind else {
        return Err((Reason::WrongType, format!("an integer does not fit {}", expected(kind))));
    };
    if value < *min || value > *max {
        return Err((Reason::OutOfRange, format!("the column holds {min} to {max}")));
    }
    match i64::try_from(value) {
        Ok(v) => Ok(Fit::Cell(Cell::Int(v))),
        Err(_) => u64::try_from(value)
            .map(|v| Fit::Cell(Cell::UInt(v)))
            .map_err(|_| (Reason::OutOfRange, format!("the column holds {min} to {max}"))),
    }
}

fn fit_decimal(text: &str, precision: u32, scale: u32, unsigned: bool) -> Result<Fit<'_>, Misfit> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.') {
        return Err((
            Reason::WrongType,
            "not a decimal number: write digits with a point, without an exponent".to_owned(),
        ));
    }
    if negative && unsigned && digits.bytes().any(|c| c != b'0' && c != b'.') {
        return Err((Reason::OutOfRange, "the column holds no negative number".to_owned()));
    }
    let whole_digits = whole.trim_start_matches('0').len() as u32;
    let fraction_digits = fraction.trim_end_matches('0').len() as u32;
    if whole_digits > precision - scale.min(precision) {
        return Err((
            Reason::OutOfRange,
            format!("more than {} digits before the point", precision - scale.min(precision)),
        ));
    }
    if fraction_digits > scale {
        return Err((
            Reason::OutOfRange,
            format!("more than {scale} digits behind the point; the database would round"),
        ));
    }
    Ok(Fit::Decimal(text))
}

fn fit_string<'a>(raw: &'a str, kind: &ColumnKind) -> Result<Fit<'a>, Misfit> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return fit_plain_string(inner, kind);
    }
    let text: String = serde_json::from_str(raw)
        .map_err(|_| (Reason::InvalidUtf8, "an escape of the text is half of a surrogate pair".to_owned()))?;
    match fit_plain_string(&text, kind)? {
        Fit::Cell(cell) => Ok(Fit::Cell(cell)),
        Fit::Bytes(_) => Ok(Fit::UnescapedBytes(text)),
        // A decimal with an escape in it would need a copy that is not worth a variant.
        Fit::Decimal(_) => Err((Reason::WrongType, "not a decimal number".to_owned())),
        _ => Ok(Fit::Unescaped(text)),
    }
}

fn fit_plain_string<'a>(text: &'a str, kind: &ColumnKind) -> Result<Fit<'a>, Misfit> {
    match kind {
        ColumnKind::Text { .. } => fit_text(text, kind).map(|()| Fit::Text(text)),
        ColumnKind::Enum { values } => {
            if values.iter().any(|v| v == text) {
                Ok(Fit::Text(text))
            } else {
                Err((Reason::OutOfRange, format!("the column holds {}", values.join(", "))))
            }
        }
        ColumnKind::Binary { max_bytes, padded } => match max_bytes {
            Some(max) if text.len() as u64 > *max => {
                Err((Reason::TooLong, format!("{} bytes, the column holds {max}", text.len())))
            }
            Some(max) if *padded && (text.len() as u64) < *max => {
                let bytes = text.len();
                Err((Reason::OutOfRange, format!("{bytes} bytes, which a BINARY({max}) would fill up with zeros")))
            }
            _ => Ok(Fit::Bytes(text)),
        },
        ColumnKind::DateTime { .. } => {
            let micros = time::parse_datetime(text).ok_or_else(|| {
                (Reason::InvalidTime, "not a time: write RFC 3339, as in 2013-01-31T23:59:59Z".to_owned())
            })?;
            fit_micros(micros, kind)
        }
        ColumnKind::Date => time::parse_date(text)
            .filter(|days| *days as i64 * time::MICROS_PER_DAY >= time::DATETIME_MIN)
            .map(|days| Fit::Cell(Cell::Date(days)))
            .ok_or_else(|| (Reason::InvalidTime, "not a date: write 2013-01-31".to_owned())),
        ColumnKind::Time { fraction } => time::parse_time(text)
            .map(|micros| Fit::Cell(Cell::Time(cut_time(micros, *fraction))))
            .ok_or_else(|| (Reason::InvalidTime, "not a time: write 23:59:59".to_owned())),
        ColumnKind::Decimal { precision, scale, unsigned } => fit_decimal(text, *precision, *scale, *unsigned),
        _ => Err((Reason::WrongType, format!("a text does not fit {}", expected(kind)))),
    }
}

/// Whether a text column holds this text as it is.
pub fn fit_text(text: &str, kind: &ColumnKind) -> Result<(), Misfit> {
    let ColumnKind::Text { max_chars, max_bytes, charset, padded } = kind else {
        return Err((Reason::WrongType, format!("a text does not fit {}", expected(kind))));
    };
    let encodable = match charset {
        Charset::Utf8mb4 => true,
        _ if text.is_ascii() => true,
        Charset::Utf8mb3 => text.chars().all(|c| (c as u32) < 0x1_0000),
        // MySQL's latin1 is windows-1252; what differs from ISO 8859-1 is refused rather than guessed.
        Charset::Latin1 => text.chars().all(|c| (c as u32) < 0x80 || (0xA0..0x100).contains(&(c as u32))),
        Charset::Ascii => false,
    };
    if !encodable {
        return Err((Reason::NotEncodable, "the column's character set lacks a character of the text".to_owned()));
    }
    if *padded && text.ends_with(' ') {
        return Err((Reason::NotEncodable, "a CHAR column loses spaces at the end of a text".to_owned()));
    }
    if let Some(max) = max_chars {
        // The count is only needed where the bytes could be too many.
        if text.len() as u64 > *max {
            let chars = text.chars().count() as u64;
            if chars > *max {
                return Err((Reason::TooLong, format!("{chars} characters, the column holds {max}")));
            }
        }
    }
    // As many bytes as the column's character set takes for it.
    let bytes = || match charset {
        Charset::Latin1 | Charset::Ascii => text.chars().count() as u64,
        Charset::Utf8mb4 | Charset::Utf8mb3 => text.len() as u64,
    };
    match max_bytes {
        Some(max) if text.len() as u64 > *max && bytes() > *max => {
            Err((Reason::TooLong, format!("{} bytes, the column holds {max}", bytes())))
        }
        _ => Ok(()),
    }
}

/// A moment in microseconds since 1970 against a date or time column.
pub fn fit_micros(micros: i64, kind: &ColumnKind) -> Result<Fit<'static>, Misfit> {
    match kind {
        ColumnKind::DateTime { fraction, timestamp } => {
            let (min, max) = if *timestamp {
                (time::TIMESTAMP_MIN, time::TIMESTAMP_MAX)
            } else {
                (time::DATETIME_MIN, time::DATETIME_MAX)
            };
            if (min..=max).contains(&micros) {
                Ok(Fit::Cell(Cell::DateTime(cut_fraction(micros, *fraction))))
            } else {
                Err((Reason::OutOfRange, "before or after what the column's type holds".to_owned()))
            }
        }
        ColumnKind::Date if (time::DATETIME_MIN..=time::DATETIME_MAX).contains(&micros) => {
            Ok(Fit::Cell(Cell::Date(micros.div_euclid(time::MICROS_PER_DAY) as i32)))
        }
        ColumnKind::Date => Err((Reason::OutOfRange, "before or after what the column's type holds".to_owned())),
        _ => Err((Reason::WrongType, format!("a time does not fit {}", expected(kind)))),
    }
}

/// A number that counts time since 1970.
pub fn fit_epoch(raw: &str, unit: EpochUnit, kind: &ColumnKind) -> Result<Fit<'static>, Misfit> {
    if raw == "null" {
        return Ok(Fit::Cell(Cell::Null));
    }
    let beyond = || (Reason::OutOfRange, "before or after what the column's type holds".to_owned());
    let micros = match raw.parse::<i64>() {
        Ok(count) => count.checked_mul(unit.micros()).ok_or_else(beyond)?,
        Err(_) => {
            let count: f64 =
                raw.parse().map_err(|_| (Reason::WrongType, "not a number that counts time since 1970".to_owned()))?;
            let micros = (count * unit.micros() as f64).round();
            if micros.abs() >= 9.0e18 {
                return Err(beyond());
            }
            micros as i64
        }
    };
    fit_micros(micros, kind)
}

/// Cuts digits of a second that the column does not keep, as the record's order of moments wants it: downwards.
fn cut_fraction(micros: i64, digits: u8) -> i64 {
    let unit = fraction_unit(digits);
    micros.div_euclid(unit) * unit
}

/// Cuts digits of a span of time, whichever sign it has.
fn cut_time(micros: i64, digits: u8) -> i64 {
    let unit = fraction_unit(digits);
    micros / unit * unit
}

fn fraction_unit(digits: u8) -> i64 {
    10_i64.pow(6 - digits.min(6) as u32)
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
