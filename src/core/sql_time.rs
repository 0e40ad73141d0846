//! Times as SQL text that every database reads and that sorts: `2013-01-31 05:15:00.000000`, UTC. Pure, and
//! quick: it runs for each time of each row.

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Appends `YYYY-MM-DD HH:MM:SS.ffffff`. `micros` since 1970 UTC; years outside 0 to 9999 are the caller's to refuse.
pub fn push_datetime(out: &mut String, micros: i64) {
    push_date(out, micros.div_euclid(DAY) as i32);
    out.push(' ');
    push_clock(out, micros.rem_euclid(DAY) as u64);
}

/// Appends `YYYY-MM-DD`. `days` since 1970.
pub fn push_date(out: &mut String, days: i32) {
    let (year, month, day) = civil_from_days(i64::from(days));
    push_digits::<4>(out, year.unsigned_abs());
    out.push('-');
    push_digits::<2>(out, month);
    out.push('-');
    push_digits::<2>(out, day);
}

/// Appends `[-]HH:MM:SS.ffffff`; hours may exceed 99. `micros` is a signed duration.
pub fn push_time(out: &mut String, micros: i64) {
    if micros < 0 {
        out.push('-');
    }
    push_clock(out, micros.unsigned_abs());
}

/// The text of [`push_datetime`].
pub fn datetime(micros: i64) -> String {
    let mut text = String::with_capacity(26);
    push_datetime(&mut text, micros);
    text
}

fn push_clock(out: &mut String, micros: u64) {
    let seconds = micros / 1_000_000;
    if seconds >= 360_000 {
        push_digits::<3>(out, seconds / 3600);
    } else {
        push_digits::<2>(out, seconds / 3600);
    }
    out.push(':');
    push_digits::<2>(out, seconds / 60 % 60);
    out.push(':');
    push_digits::<2>(out, seconds % 60);
    out.push('.');
    push_digits::<6>(out, micros % 1_000_000);
}

fn push_digits<const N: usize>(out: &mut String, mut value: u64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend(digits.map(char::from));
}

/// Year, month and day of the proleptic Gregorian calendar: Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_a_sign_and_may_exceed_a_day() {
        let text = |micros| {
            let mut out = String::new();
            push_time(&mut out, micros);
            out
        };
        assert_eq!(text(0), "00:00:00.000000");
        assert_eq!(text(-1_500_000), "-00:00:01.500000");
        assert_eq!(text(838 * 3_600_000_000 + 59 * 60_000_000 + 59_000_000), "838:59:59.000000");
    }

    proptest! {
        #[test]
        fn times_read_as_chrono_writes_them(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let expected = DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            prop_assert_eq!(datetime(micros), expected);
        }

        #[test]
        fn text_sorts_as_time_does(a in 0i64..4_000_000_000_000_000, b in 0i64..4_000_000_000_000_000) {
            prop_assert_eq!(a.cmp(&b), datetime(a).cmp(&datetime(b)));
        }
    }
}
