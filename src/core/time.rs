//! Dates and times as text, in and out: UTC, microseconds, the proleptic Gregorian calendar.
//! The conversion between days and dates is Howard Hinnant's `days_from_civil` and its inverse
//! (<https://howardhinnant.github.io/date_algorithms.html>).

pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// First and last moment that a DATETIME column holds, in microseconds since 1970.
pub const DATETIME_MIN: i64 = days_from_civil(1000, 1, 1) as i64 * MICROS_PER_DAY;
pub const DATETIME_MAX: i64 = (days_from_civil(9999, 12, 31) as i64 + 1) * MICROS_PER_DAY - 1;
/// First and last moment that a TIMESTAMP column holds: 1970-01-01 00:00:01 to 2038-01-19 03:14:07.
pub const TIMESTAMP_MIN: i64 = MICROS_PER_SECOND;
pub const TIMESTAMP_MAX: i64 = 2_147_483_647 * MICROS_PER_SECOND;
/// Largest magnitude of a TIME column: 838:59:59.
pub const TIME_MAX: i64 = (838 * 3600 + 59 * 60 + 59) * MICROS_PER_SECOND;

/// Days since 1970-01-01 of a date that must be valid.
pub const fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let shifted = (month as i32 + 9) % 12;
    let doy = (153 * shifted + 2) / 5 + day as i32 - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The date of a day counted from 1970-01-01: year, month, day.
pub const fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u32;
    (yoe + era * 400 + (month <= 2) as i32, month, day)
}

/// `YYYY-MM-DD` as days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i32> {
    match parse_date_prefix(text.as_bytes())? {
        (days, []) => Some(days),
        _ => None,
    }
}

/// RFC 3339, or the same with a space for the `T` and without an offset (then UTC), as microseconds since 1970.
/// Digits beyond the sixth of a second's fraction are cut.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let (days, rest) = parse_date_prefix(text.as_bytes())?;
    let (b'T' | b't' | b' ', rest) = rest.split_first().map(|(c, r)| (*c, r))? else { return None };
    let (micros, rest) = parse_clock(rest)?;
    if micros >= MICROS_PER_DAY {
        return None;
    }
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let magnitude = (hours * 3600 + minutes * 60) * MICROS_PER_SECOND;
            if *sign == b'-' { -magnitude } else { magnitude }
        }
        _ => return None,
    };
    Some(days as i64 * MICROS_PER_DAY + micros - offset)
}

/// `[-]HH:MM:SS[.ffffff]` as microseconds; hours up to 838.
pub fn parse_time(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (micros, rest) = match digits {
        [h, rest @ ..] if rest.get(2) == Some(&b':') => {
            let (micros, rest) = parse_clock(rest)?;
            (digit(*h)? * 100 * 3600 * MICROS_PER_SECOND + micros, rest)
        }
        _ => parse_clock(digits)?,
    };
    (rest.is_empty() && micros <= TIME_MAX).then_some(if negative { -micros } else { micros })
}

fn parse_date_prefix(text: &[u8]) -> Option<(i32, &[u8])> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return None };
    let year = (two(*y1, *y2)? * 100 + two(*y3, *y4)?) as i32;
    let (month, day) = (two(*m1, *m2)? as u32, two(*d1, *d2)? as u32);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (day >= 1 && day <= last).then(|| (days_from_civil(year, month, day), rest))
}

/// `HH:MM:SS[.f…]`: microseconds and what follows. Hours are not bounded here.
fn parse_clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return None };
    let (hours, minutes, seconds) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let whole = (hours * 3600 + minutes * 60 + seconds) * MICROS_PER_SECOND;
    let Some((b'.', fraction)) = rest.split_first().map(|(c, r)| (*c, r)) else { return Some((whole, rest)) };
    let digits = fraction.iter().take_while(|c| c.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let mut micros = 0;
    for c in fraction[..digits].iter().chain(std::iter::repeat(&b'0')).take(6) {
        micros = micros * 10 + digit(*c)?;
    }
    Some((whole + micros, &fraction[digits..]))
}

fn digit(c: u8) -> Option<i64> {
    c.is_ascii_digit().then(|| (c - b'0') as i64)
}

fn two(a: u8, b: u8) -> Option<i64> {
    Some(digit(a)? * 10 + digit(b)?)
}

/// Appends `YYYY-MM-DD`.
pub fn write_date(out: &mut Vec<u8>, days: i32) {
    let (year, month, day) = civil_from_days(days);
    push_digits(out, u64::from(year.unsigned_abs()), 4);
    out.push(b'-');
    push_digits(out, month as u64, 2);
    out.push(b'-');
    push_digits(out, day as u64, 2);
}

/// Appends `YYYY-MM-DD HH:MM:SS.ffffff`.
pub fn write_datetime(out: &mut Vec<u8>, micros: i64) {
    write_date(out, micros.div_euclid(MICROS_PER_DAY) as i32);
    out.push(b' ');
    write_clock(out, micros.rem_euclid(MICROS_PER_DAY) as u64);
}

/// Milliseconds since 1970 that a DATETIME of MySQL holds: the years 1000 to 9999.
pub const DATETIME_MILLIS: std::ops::RangeInclusive<i64> = DATETIME_MIN / 1000..=DATETIME_MAX / 1000;

/// `YYYY-MM-DD HH:MM:SS.ffffff`: text that every database reads and that sorts as time does.
pub fn datetime_text(micros: i64) -> String {
    text(|out| write_datetime(out, micros))
}

/// What one of the writers here writes, all of it ASCII.
pub fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(26);
    write(&mut out);
    out.into_iter().map(char::from).collect()
}

/// Appends `[-]HH:MM:SS.ffffff`; hours may exceed 99.
pub fn write_time(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    write_clock(out, micros.unsigned_abs());
}

fn write_clock(out: &mut Vec<u8>, micros: u64) {
    let seconds = micros / 1_000_000;
    let hours = seconds / 3600;
    push_digits(out, hours, if hours > 99 { 3 } else { 2 });
    out.push(b':');
    push_digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_digits(out, seconds % 60, 2);
    out.push(b'.');
    push_digits(out, micros % 1_000_000, 6);
}

fn push_digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for slot in out[start..].iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDate, NaiveDateTime};
    use proptest::prelude::*;

    fn shown(micros: i64) -> String {
        datetime_text(micros)
    }

    #[test]
    fn durations_have_a_sign_and_may_exceed_a_day() {
        let text = |micros| text(|out| write_time(out, micros));
        assert_eq!(text(0), "00:00:00.000000");
        assert_eq!(text(-1_500_000), "-00:00:01.500000");
        assert_eq!(text(838 * 3_600_000_000 + 59 * 60_000_000 + 59_000_000), "838:59:59.000000");
    }

    #[test]
    fn offsets_are_turned_into_utc() {
        for text in
            ["2013-01-01T10:15:00Z", "2013-01-01 10:15:00", "2013-01-01T05:15:00-05:00", "2013-01-01t10:15:00.000z"]
        {
            assert_eq!(shown(parse_datetime(text).unwrap()), "2013-01-01 10:15:00.000000", "{text}");
        }
    }

    #[test]
    fn a_fraction_beyond_microseconds_is_cut() {
        assert_eq!(shown(parse_datetime("2013-01-01T00:00:00.1234569Z").unwrap()), "2013-01-01 00:00:00.123456");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2013",
            "2013-02-29T00:00:00Z",
            "2013-13-01T00:00:00Z",
            "2013-01-32T00:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T00:60:00Z",
            "2013-01-01T00:00:60Z",
            "2013-01-01T00:00:00.Z",
            "2013-01-01T00:00:00+2400",
            "2013-01-01T00:00:00Zx",
            "0000-00-00 00:00:00",
            "2013-01-01",
            "1357034400",
            "2013-01-01T00:00Z",
        ] {
            assert_eq!(parse_datetime(text), None, "{text:?}");
        }
    }

    #[test]
    fn times_reach_838_hours() {
        assert_eq!(parse_time("838:59:59"), Some(TIME_MAX));
        assert_eq!(parse_time("-00:00:01.5"), Some(-1_500_000));
        assert_eq!(parse_time("839:00:00"), None);
        assert_eq!(parse_time("1:00:00"), None);
    }

    proptest! {
        #[test]
        fn dates_agree_with_chrono(days in -300_000i32..2_900_000) {
            let date = NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
            let (y, m, d) = civil_from_days(days);
            prop_assert_eq!(NaiveDate::from_ymd_opt(y, m, d), Some(date));
            prop_assert_eq!(days_from_civil(y, m, d), days);
        }

        #[test]
        fn what_is_written_reads_back(micros in DATETIME_MIN..=DATETIME_MAX) {
            let text = shown(micros);
            prop_assert_eq!(parse_datetime(&text), Some(micros));
            let theirs = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
            prop_assert_eq!(theirs.and_utc().timestamp_micros(), micros);
        }

        #[test]
        fn times_read_as_chrono_writes_them(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(datetime_text(micros), time.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
        }

        #[test]
        fn text_sorts_as_time_does(a in 0i64..4_000_000_000_000_000, b in 0i64..4_000_000_000_000_000) {
            prop_assert_eq!(a.cmp(&b), datetime_text(a).cmp(&datetime_text(b)));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}") {
            let _ = (parse_datetime(&text), parse_date(&text), parse_time(&text));
        }
    }
}
