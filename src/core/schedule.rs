//! When something that is done now and then is done next: a cron pattern, in UTC. Pure; whoever waits asks a clock.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Five fields (minute, hour, day of the month, month, day of the week), or six with the second in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    cron: Cron,
    text: String,
}

/// Why a text is no schedule, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {help}")]
pub struct ScheduleError {
    pub what: String,
    pub help: &'static str,
}

const HELP: &str =
    "write minute, hour, day of the month, month and day of the week, such as \"30 3 * * *\" for 3:30 UTC";

impl Schedule {
    /// The first moment behind `moment` that fits; `None` where no year has one any more.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_next_occurrence(&moment, false).ok()
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text.trim()).map_err(|error| ScheduleError {
            what: format!("is no schedule ({})", error.to_string().trim_end_matches('.')),
            help: HELP,
        })?;
        let schedule = Self { cron, text: text.trim().to_owned() };
        // 30 February: from a leap year's first day all days that there are come within four years.
        match schedule.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError { what: "names a day that no year has".to_owned(), help: HELP }),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let after = after.parse::<DateTime<Utc>>().unwrap();
        schedule.parse::<Schedule>().unwrap().next_after(after).unwrap().to_rfc3339()
    }

    #[test]
    fn the_next_moment_is_behind_the_one_that_was() {
        assert_eq!(next("30 3 * * *", "2024-02-28T03:29:59.5Z"), "2024-02-28T03:30:00+00:00");
        assert_eq!(next("30 3 * * *", "2024-02-28T03:30:00Z"), "2024-02-29T03:30:00+00:00");
        assert_eq!(next("0 4 * * MON", "2024-02-28T00:00:00Z"), "2024-03-04T04:00:00+00:00");
        assert_eq!(next("*/2 * * * * *", "2024-02-28T00:00:00.001Z"), "2024-02-28T00:00:02+00:00");
        assert_eq!(next(" @daily ", "2024-02-28T12:00:00Z"), "2024-02-29T00:00:00+00:00");
    }

    #[test]
    fn what_is_no_schedule_is_told_with_what_to_write() {
        for text in ["", "3:30", "30 3 * *", "60 3 * * *", "0 0 30 2 *", "0 0 0 * * * 2030", "30 3 * * daily"] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains("30 3 * * *"), "{text:?}: {error}");
        }
    }
}
