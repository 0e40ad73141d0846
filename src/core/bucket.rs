//! Buckets of time: how long they are, and which one a moment falls into, in UTC with microseconds. Pure; every width
//! divides a day, so that buckets begin at midnight and none depends on another's place, whatever the year.

use std::fmt;
use std::str::FromStr;

use chrono::DateTime;

use super::document::Bucket;
use super::time::{DATETIME_MAX, MICROS_PER_DAY, MICROS_PER_SECOND};

/// Units of a width, largest first.
const UNITS: [(&str, i64); 4] =
    [("d", MICROS_PER_DAY), ("h", 3600 * MICROS_PER_SECOND), ("m", 60 * MICROS_PER_SECOND), ("s", MICROS_PER_SECOND)];

/// 9999-12-31 23:59:59: the end of the last bucket. Of later ends databases know nothing, and that second is a date's
/// "never" to many, so that it is in no bucket.
const LAST_END: i64 = DATETIME_MAX + 1 - MICROS_PER_SECOND;

/// How long a bucket is: whole seconds that a day holds a whole number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Width(i64);

/// Why a text is no width, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {help}")]
pub struct WidthError {
    pub what: &'static str,
    pub help: String,
}

impl Width {
    pub const HOUR: Self = Self(3600 * MICROS_PER_SECOND);
    pub const DAY: Self = Self(MICROS_PER_DAY);

    pub fn micros(self) -> i64 {
        self.0
    }

    /// Where the bucket starts that a moment falls into, both in microseconds since 1970.
    pub fn start_of(self, micros: i64) -> i64 {
        micros - micros.rem_euclid(self.0)
    }

    /// The bucket that a moment falls into; `None` in the last second of the year 9999.
    pub fn bucket_of(self, micros: i64) -> Option<Bucket> {
        if micros >= LAST_END {
            return None;
        }
        let start = self.start_of(micros);
        let end = start.saturating_add(self.0).min(LAST_END);
        Bucket::new(DateTime::from_timestamp_micros(start)?, DateTime::from_timestamp_micros(end)?)
    }

    /// Whether each bucket is a day, so that dates without a time have buckets too.
    pub fn is_whole_days(self) -> bool {
        self.0 % MICROS_PER_DAY == 0
    }
}

/// In the largest unit that needs no fraction: there is one text for each width.
impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, micros) = UNITS.into_iter().find(|(_, micros)| self.0 % micros == 0).unwrap_or(UNITS[3]);
        write!(f, "{}{unit}", self.0 / micros)
    }
}

impl FromStr for Width {
    type Err = WidthError;

    fn from_str(text: &str) -> Result<Self, WidthError> {
        let wrong = |what, help: &str| Err(WidthError { what, help: help.to_owned() });
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = (text[..digits].parse::<i64>(), text[digits..].trim_start());
        let Some((_, micros)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
            return wrong("is no width of a bucket", "write a whole number and its unit (s, m, h, d), such as \"1h\"");
        };
        let Some(width) = number.ok().and_then(|number| number.checked_mul(micros)) else {
            return wrong("is no width of a bucket", "write a whole number and its unit (s, m, h, d), such as \"1h\"");
        };
        if width == 0 || width > MICROS_PER_DAY {
            return wrong("is out of range", "write a width from \"1s\" to \"1d\"");
        }
        if MICROS_PER_DAY % width != 0 {
            let help = format!(
                "write one that a day holds a whole number of times, such as \"{}\" or \"{}\"",
                nearest_divisor(width, false),
                nearest_divisor(width, true)
            );
            return Err(WidthError {
                what: "does not divide a day, so that buckets would not begin at midnight",
                help,
            });
        }
        Ok(Self(width))
    }
}

/// The next width that divides a day, up or down; a second and a day bound the search.
fn nearest_divisor(width: i64, up: bool) -> Width {
    let step = if up { MICROS_PER_SECOND } else { -MICROS_PER_SECOND };
    let mut near = width;
    while MICROS_PER_DAY % near != 0 {
        near += step;
    }
    Width(near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::{DATETIME_MIN, datetime_text, parse_datetime};
    use proptest::prelude::*;

    fn ends(bucket: Bucket) -> [i64; 2] {
        [bucket.start(), bucket.end()].map(|moment| moment.timestamp_micros())
    }

    fn bucket(width: &str, moment: &str) -> [String; 2] {
        let width = width.parse::<Width>().unwrap();
        ends(width.bucket_of(parse_datetime(moment).unwrap()).unwrap()).map(datetime_text)
    }

    #[test]
    fn buckets_begin_at_round_times_of_the_day_in_utc() {
        assert_eq!(bucket("1h", "2013-01-01T10:15:00Z"), ["2013-01-01 10:00:00.000000", "2013-01-01 11:00:00.000000"]);
        assert_eq!(
            bucket("5m", "2013-01-01T05:15:00.000001-05:00"),
            ["2013-01-01 10:15:00.000000", "2013-01-01 10:20:00.000000"]
        );
        assert_eq!(bucket("1d", "2012-02-29T23:59:59.999999Z")[1], "2012-03-01 00:00:00.000000");
        assert_eq!(bucket("8h", "2013-01-01T08:00:00Z")[0], "2013-01-01 08:00:00.000000", "a start is in its bucket");
    }

    #[test]
    fn years_before_1970_have_buckets_like_any_other() {
        assert_eq!(
            bucket("1h", "1969-12-31T23:59:59.999999Z"),
            ["1969-12-31 23:00:00.000000", "1970-01-01 00:00:00.000000"]
        );
        assert_eq!(bucket("1d", "1000-01-01T00:00:00Z")[0], "1000-01-01 00:00:00.000000");
        assert_eq!(bucket("15m", "1583-10-15T12:34:56Z")[0], "1583-10-15 12:30:00.000000");
    }

    #[test]
    fn the_last_second_that_databases_know_is_in_no_bucket() {
        assert_eq!(bucket("1d", "9999-12-31T12:00:00Z"), ["9999-12-31 00:00:00.000000", "9999-12-31 23:59:59.000000"]);
        let never = parse_datetime("9999-12-31 23:59:59").unwrap();
        for width in ["1s", "1h", "1d"].map(|text| text.parse::<Width>().unwrap()) {
            assert!(width.bucket_of(never).is_none() && width.bucket_of(never - 1).is_some(), "{width}");
        }
    }

    #[test]
    fn each_width_has_one_text() {
        for (text, shown) in
            [("60m", "1h"), ("24h", "1d"), ("90s", "90s"), ("3600 s", "1h"), ("1d", "1d"), ("5m", "5m")]
        {
            assert_eq!(text.parse::<Width>().unwrap().to_string(), shown, "{text}");
        }
        assert!(Width::DAY.is_whole_days() && !Width::HOUR.is_whole_days());
    }

    #[test]
    fn a_width_that_is_none_is_told_with_what_to_write() {
        for (text, told) in [
            ("", "unit"),
            ("1", "unit"),
            ("hourly", "unit"),
            ("-1h", "unit"),
            ("1w", "unit"),
            ("99999999999999d", "unit"),
            ("0s", "\"1s\" to \"1d\""),
            ("2d", "\"1s\" to \"1d\""),
            ("7h", "\"6h\" or \"8h\""),
            ("7m", "\"400s\" or \"432s\""),
            ("500ms", "unit"),
        ] {
            let error = text.parse::<Width>().unwrap_err();
            assert!(error.help.contains(told), "{text}: {error}");
        }
    }

    fn width() -> impl Strategy<Value = Width> {
        let divisors: Vec<i64> = (1..=86_400).filter(|seconds| 86_400 % seconds == 0).collect();
        prop::sample::select(divisors).prop_map(|seconds| Width(seconds * MICROS_PER_SECOND))
    }

    proptest! {
        #[test]
        fn a_moment_is_in_its_bucket_and_in_no_other(width in width(), micros in DATETIME_MIN..LAST_END) {
            let [start, end] = ends(width.bucket_of(micros).unwrap());
            prop_assert!((start..end).contains(&micros));
            prop_assert_eq!(width.start_of(start), start);
            prop_assert_eq!(ends(width.bucket_of(start).unwrap()), [start, end]);
            prop_assert_eq!(ends(width.bucket_of(start - 1).unwrap())[1], start);
            if end < LAST_END {
                prop_assert_eq!(end - start, width.micros());
                prop_assert_eq!(width.start_of(end), end);
            }
        }

        #[test]
        fn every_bucket_lies_within_one_day(width in width(), micros in DATETIME_MIN..LAST_END) {
            let [start, end] = ends(width.bucket_of(micros).unwrap());
            let day = ends(Width::DAY.bucket_of(micros).unwrap());
            prop_assert!(day[0] <= start && end <= day[1]);
        }

        #[test]
        fn the_text_of_a_width_reads_back(width in width()) {
            prop_assert_eq!(width.to_string().parse::<Width>(), Ok(width));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,12}|[0-9]{1,25}[smhd]") {
            if let Err(error) = text.parse::<Width>() {
                prop_assert!(!error.help.is_empty());
            }
        }
    }
}
