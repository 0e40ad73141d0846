//! Times of a replay: RFC 3339 in, RFC 3339 with `Z` out, moved by whole days, which are whole weeks where they can be.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, SecondsFormat, Utc};

use super::value::{CellError, shortened};

const MICROS_PER_DAY: i64 = 24 * 3600 * 1_000_000;
const DAYS_PER_WEEK: i64 = 7;
const MICROS_PER_WEEK: i64 = DAYS_PER_WEEK * MICROS_PER_DAY;
/// What lies ahead of the present, at least, where records around it are wanted.
const LEAST_AHEAD: i64 = MICROS_PER_DAY;
/// Times that span less can't have a week's play around the present and still a history.
const LEAST_SPAN_AROUND: i64 = 2 * MICROS_PER_WEEK;

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

/// How many days bring the present near to the end of times from `first` to `last`: whole weeks, such that `last` is a
/// day ahead of `now` or up to a week more. Where all lies within two weeks, whole days, such that `last` is within the
/// day before `now`: ahead of it there might be all of them.
pub fn days_around(first: i64, last: i64, now: DateTime<Utc>) -> i64 {
    let now = now.timestamp_micros();
    if last.saturating_sub(first) < LEAST_SPAN_AROUND {
        return (now - last).div_euclid(MICROS_PER_DAY);
    }
    -(last - now - LEAST_AHEAD).div_euclid(MICROS_PER_WEEK) * DAYS_PER_WEEK
}

/// Moves times by a constant number of whole days; with whole weeks weekdays stay what they were too.
/// Remembers the last date: neighbouring records mostly share it.
#[derive(Debug)]
pub struct TimeShift {
    days: i64,
    from: [u8; 10],
    to: [u8; 10],
    days_since_1970: i64,
}

impl TimeShift {
    pub fn new(days: i64) -> Self {
        Self { days, from: [0; 10], to: [0; 10], days_since_1970: 0 }
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
        let moved = self.moved(midnight.and_time(NaiveTime::MIN).and_utc(), cell)?.date_naive();
        let text = moved.to_string();
        self.to = text.as_bytes().try_into().map_err(|_| self.out_of_calendar(cell))?;
        self.days_since_1970 = (moved - NaiveDate::default()).num_days();
        self.from = date;
        Ok(())
    }

    fn moved(&self, time: DateTime<Utc>, cell: &[u8]) -> Result<DateTime<Utc>, CellError> {
        let days = Days::new(self.days.unsigned_abs());
        let moved = if self.days < 0 { time.checked_sub_days(days) } else { time.checked_add_days(days) };
        moved.filter(|time| (0..=9999).contains(&time.year())).ok_or_else(|| self.out_of_calendar(cell))
    }

    fn out_of_calendar(&self, cell: &[u8]) -> CellError {
        CellError::OutOfCalendar(shortened(cell), self.days)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
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
            let micros = TimeShift::new(weeks * 7).write(&mut out, given.as_bytes()).unwrap();
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

    #[test]
    fn the_present_falls_near_the_end_by_whole_weeks_or_days() {
        let last = at("2014-01-01T04:59:00Z");
        let year = last - chrono::Duration::days(365);
        for now in ["2026-11-24T11:00:00Z", "2014-01-01T04:59:00Z", "2014-01-07T04:58:59Z", "2013-06-01T00:00:00Z"] {
            let days = days_around(year.timestamp_micros(), last.timestamp_micros(), at(now));
            let ahead = last + chrono::Duration::days(days) - at(now);
            assert_eq!(days % 7, 0, "{now}");
            assert!(ahead >= chrono::Duration::days(1) && ahead < chrono::Duration::days(8), "{now}: {ahead}");
            let short = last - chrono::Duration::days(3);
            let days = days_around(short.timestamp_micros(), last.timestamp_micros(), at(now));
            let behind = at(now) - last - chrono::Duration::days(days);
            assert!(behind >= chrono::Duration::zero() && behind < chrono::Duration::days(1), "{now}: {behind}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_quick_way_and_the_calendar_agree(seconds in -61_000_000_000i64..200_000_000_000, weeks in -500i64..500) {
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            let moved = time + chrono::Duration::weeks(weeks);
            let mut out = Vec::new();
            let micros = TimeShift::new(weeks * 7).write(&mut out, text.as_bytes()).unwrap();
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), moved.to_rfc3339_opts(SecondsFormat::Secs, true));
            proptest::prop_assert_eq!(micros, moved.timestamp_micros());
        }
    }
}
