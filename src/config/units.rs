//! Sizes and durations as people write them: `256MiB`, `10s`.

use std::time::Duration;

use super::reader::Fault;

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Splits `256MiB` into a whole number and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// Bytes of a text such as `256MiB`.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    let wrong = |help: String| Fault::new("is not a size", help);
    let Some((number, unit)) = split(text.trim()) else {
        return Err(wrong("write a whole number and its unit (B, KiB, MiB, GiB), such as \"256MiB\"".into()));
    };
    if let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) {
        return number.checked_mul(*factor).ok_or_else(|| wrong("write a size below 16777216 GiB".into()));
    }
    let meant = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return Err(wrong("write one of the units B, KiB, MiB, GiB, such as \"256MiB\"".into())),
    };
    Err(wrong(format!("write \"{number}{meant}\": sizes count in powers of 1024")))
}

/// A text such as `10s`, `500ms`, `5m`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    let wrong = |help: String| Fault::new("is not a duration", help);
    let Some((number, unit)) = split(text.trim()) else {
        return Err(wrong("write a whole number and its unit (ms, s, m, h, d), such as \"10s\"".into()));
    };
    if let Some((_, factor)) = TIMES.iter().find(|(name, _)| *name == unit) {
        let millis = number.checked_mul(*factor).ok_or_else(|| wrong("write a shorter time".into()))?;
        return Ok(Duration::from_millis(millis));
    }
    let meant = match unit.to_ascii_lowercase().as_str() {
        "msec" | "millis" | "milliseconds" => "ms",
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        _ => return Err(wrong("write one of the units ms, s, m, h, d, such as \"10s\"".into())),
    };
    Err(wrong(format!("write \"{number}{meant}\"")))
}

/// The shortest exact text of a size.
pub fn size_text(bytes: u64) -> String {
    let (unit, factor) =
        SIZES.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// The shortest exact text of a duration of whole milliseconds.
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = TIMES
        .iter()
        .rev()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_and_written_exactly() {
        for (text, bytes) in [("0B", 0), ("1KiB", 1024), ("256MiB", 256 << 20), ("3GiB", 3 << 30), ("1500B", 1500)] {
            assert_eq!(size(text).unwrap(), bytes);
            assert_eq!(size_text(bytes), text);
        }
        for (text, millis) in [("0ms", 0), ("500ms", 500), ("10s", 10_000), ("90s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis));
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        assert_eq!(size("8 MiB").unwrap(), 8 << 20);
    }

    #[test]
    fn a_near_miss_is_answered_with_what_was_meant() {
        assert!(size("256MB").unwrap_err().help.contains("\"256MiB\""));
        assert!(size("64").is_err());
        assert!(size("99999999999GiB").is_err());
        assert!(size("1.5GiB").is_err());
        assert!(duration("10 seconds").unwrap_err().help.contains("\"10s\""));
        assert!(duration("ten").is_err());
        assert!(duration("99999999999999999d").is_err());
    }
}
