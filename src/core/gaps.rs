//! Gaps of a partition as text: `3-7,9,12-13`, both ends inclusive, ascending. The form is stored, so it is
//! stable. Pure; must never join or reorder what it was given.

use std::fmt::Write as _;
use std::ops::Range;

/// A text that is no list of gaps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is no range of offsets: expected `first-last` or one offset, ascending")]
pub struct InvalidRanges {
    /// The part between two commas that could not be read.
    pub part: String,
}

/// The ranges as text. Empty ranges yield nothing. Offsets are not negative.
pub fn format_ranges(ranges: &[Range<i64>]) -> String {
    let mut text = String::new();
    for range in ranges.iter().filter(|r| r.start < r.end) {
        if !text.is_empty() {
            text.push(',');
        }
        let last = range.end - 1;
        // Writing to a String cannot fail.
        let _ = if last == range.start { write!(text, "{last}") } else { write!(text, "{}-{last}", range.start) };
    }
    text
}

/// Reads what [`format_ranges`] wrote. Ranges must ascend and not overlap.
pub fn parse_ranges(text: &str) -> Result<Vec<Range<i64>>, InvalidRanges> {
    let mut ranges: Vec<Range<i64>> = Vec::new();
    if text.is_empty() {
        return Ok(ranges);
    }
    for part in text.split(',') {
        let range = parse_range(part).filter(|r| ranges.last().is_none_or(|before| before.end <= r.start));
        ranges.push(range.ok_or_else(|| InvalidRanges { part: part.to_owned() })?);
    }
    Ok(ranges)
}

/// What lies below `at`, and what lies from it on; a range that reaches over it is cut.
pub fn split_ranges(ranges: &[Range<i64>], at: i64) -> (Vec<Range<i64>>, Vec<Range<i64>>) {
    let below = ranges.iter().map(|r| r.start..r.end.min(at)).filter(|r| r.start < r.end).collect();
    let from = ranges.iter().map(|r| r.start.max(at)..r.end).filter(|r| r.start < r.end).collect();
    (below, from)
}

fn parse_range(part: &str) -> Option<Range<i64>> {
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (parse_offset(first)?, parse_offset(last)?),
        None => (parse_offset(part)?, parse_offset(part)?),
    };
    let end = last.checked_add(1)?;
    (first <= last).then_some(first..end)
}

fn parse_offset(digits: &str) -> Option<i64> {
    // `parse` takes a sign as well.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_read_as_people_write_them() {
        assert_eq!(format_ranges(&[3..8, 9..10, 12..14]), "3-7,9,12-13");
        assert_eq!(format_ranges(&[]), "");
        assert_eq!(format_ranges(&[5..5, 7..8]), "7");
        assert_eq!(parse_ranges("").unwrap(), []);
    }

    #[test]
    fn ranges_are_split_at_an_offset() {
        assert_eq!(split_ranges(&[3..8, 9..10], 5), (vec![3..5], vec![5..8, 9..10]));
        assert_eq!(split_ranges(&[3..8], 8), (vec![3..8], vec![]));
        assert_eq!(split_ranges(&[3..8], 3), (vec![], vec![3..8]));
    }

    #[test]
    fn what_is_no_list_of_gaps_is_named() {
        for text in ["x", "1,,2", "-4", "7-3", "1-", "3-4,4", "9,2", "+1", "9223372036854775807", "1-2-3", " 1"] {
            let error = parse_ranges(text).unwrap_err();
            assert!(text.contains(&error.part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_formatted_reads_back_the_same(steps in prop::collection::vec((0i64..1000, 1i64..1000), 0..50)) {
            let mut at = 0;
            let mut ranges = Vec::new();
            for (skip, len) in steps {
                ranges.push(at + skip..at + skip + len);
                at += skip + len;
            }
            prop_assert_eq!(parse_ranges(&format_ranges(&ranges)).unwrap(), ranges);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9,\\-x ]{0,40}") {
            if let Ok(ranges) = parse_ranges(&text) {
                prop_assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start));
            }
        }
    }
}
