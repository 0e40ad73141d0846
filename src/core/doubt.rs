//! Whether a partition's offset in the database can still mean what it meant: judged from what the database and the
//! broker say. Pure. Must never call an offset sound that the broker cannot serve: reading would jump in silence.

use std::fmt;

/// In which way an offset does not fit. The text form is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The topic's id is another one: it was deleted and made anew.
    Recreated,
    /// Retention, or a request to delete records, passed over what was not read.
    BeforeStart,
    /// The partition ends before the next offset: the topic was made anew, or the broker lost records.
    PastEnd,
    /// The broker has no such partition.
    NoPartition,
    /// The broker lost records that were read, and may have put others at their offsets.
    Truncated,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Recreated => "recreated",
            Kind::BeforeStart => "before_start",
            Kind::PastEnd => "past_end",
            Kind::NoPartition => "no_partition",
            Kind::Truncated => "truncated",
        }
    }
}

/// A partition of which nothing may be consumed until an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Doubt {
    pub partition: i32,
    pub kind: Kind,
    /// What the database goes by.
    pub expected: String,
    /// What the broker says.
    pub found: String,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Doubt { partition, kind, expected, found } = self;
        write!(f, "partition {partition} ({}): expected {expected}, found {found}", kind.as_str())
    }
}

/// Stands before the recorded id of a topic where the broker truncated the partition's log below what was read. Once the
/// log has grown again its bounds no longer tell, so that it is put down until an operator decides.
pub const TRUNCATED: &str = "truncated:";

/// A recorded id without what may stand before it, and whether that was so.
pub fn recorded_id(stored: &str) -> (&str, bool) {
    stored.strip_prefix(TRUNCATED).map_or((stored, false), |id| (id, true))
}

/// Judges one partition. Ids are empty where the broker gave none; `bounds`: the first offset that is there and the one
/// behind the last, `None` where the broker has no such partition.
pub fn judge(
    partition: i32,
    (stored_id, next_offset): (&str, i64),
    (broker_id, bounds): (&str, Option<(i64, i64)>),
) -> Option<Doubt> {
    let doubt = |kind, expected, found| Some(Doubt { partition, kind, expected, found });
    let (recorded_id, truncated) = recorded_id(stored_id);
    if !recorded_id.is_empty() && !broker_id.is_empty() && recorded_id != broker_id {
        return doubt(Kind::Recreated, format!("topic id {recorded_id}"), format!("topic id {broker_id}"));
    }
    let next = || format!("offset {next_offset} next");
    match bounds {
        None => doubt(Kind::NoPartition, next(), "no such partition".to_owned()),
        Some((_, high)) if next_offset > high => doubt(Kind::PastEnd, next(), format!("an end at {high}")),
        Some((low, high)) if truncated => doubt(
            Kind::Truncated,
            format!("{} in the log that was read", next()),
            format!("offsets {low} to {high} of a log that was truncated below it, and written anew"),
        ),
        Some((low, high)) if next_offset < low => {
            doubt(Kind::BeforeStart, next(), format!("offsets {low} to {high}: {} are gone unread", low - next_offset))
        }
        Some(_) => None,
    }
}

/// What to believe of two looks, seconds apart: the later one, but for partitions that only it missed. A broker that has
/// just started knows of no topic.
pub fn confirmed(first: &[Doubt], second: Vec<Doubt>) -> Vec<Doubt> {
    let missed = |d: &Doubt| first.iter().any(|f| f.partition == d.partition && f.kind == Kind::NoPartition);
    second.into_iter().filter(|d| d.kind != Kind::NoPartition || missed(d)).collect()
}

/// Partitions whose log was shorter than what was read in two looks, seconds apart: one may have asked a broker that did not
/// know yet that it leads no more. Once the log has grown again its bounds no longer tell, so that it must be put down.
pub fn cut_short(first: &[Doubt], second: &[Doubt]) -> Vec<i32> {
    let past_end = |d: &&Doubt| d.kind == Kind::PastEnd;
    let again = |partition: &i32| second.iter().filter(past_end).any(|d| d.partition == *partition);
    first.iter().filter(past_end).map(|d| d.partition).filter(again).collect()
}

/// Partitions named in one sentence; beyond them only their number is told.
const NAMED: usize = 3;

/// All doubts of a topic in one sentence, with what the reader can do.
pub fn describe(topic: &str, doubts: &[Doubt]) -> String {
    let mut told: Vec<String> = doubts.iter().take(NAMED).map(Doubt::to_string).collect();
    if doubts.len() > NAMED {
        told.push(format!("and {} more partitions", doubts.len() - NAMED));
    }
    format!(
        "offsets of topic {topic} are in doubt: {}; nothing is consumed until you decide: `bief offsets show`, then \
         `bief offsets reset --topic {topic} --to ...`",
        told.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(recorded: (&str, i64), broker: (&str, Option<(i64, i64)>)) -> Option<Kind> {
        judge(3, recorded, broker).map(|d| d.kind)
    }

    #[test]
    fn an_offset_within_the_log_of_the_same_topic_is_sound() {
        for (next, ids) in [(5, ("a", "a")), (9, ("", "a")), (7, ("a", "")), (5, ("", ""))] {
            assert_eq!(kind((ids.0, next), (ids.1, Some((5, 9)))), None);
        }
    }

    #[test]
    fn each_way_of_not_fitting_is_told_apart() {
        assert_eq!(kind(("a", 5), ("b", Some((5, 9)))), Some(Kind::Recreated));
        assert_eq!(kind(("a", 5), ("b", None)), Some(Kind::Recreated));
        assert_eq!(kind(("a", 4), ("a", Some((5, 9)))), Some(Kind::BeforeStart));
        assert_eq!(kind(("", 10), ("a", Some((5, 9)))), Some(Kind::PastEnd));
        assert_eq!(kind(("a", 5), ("a", None)), Some(Kind::NoPartition));
        assert_eq!(kind(("a", 5), ("", None)), Some(Kind::NoPartition));
        assert_eq!(kind(("truncated:a", 5), ("a", Some((5, 9)))), Some(Kind::Truncated));
        assert_eq!(kind(("truncated:a", 5), ("", Some((5, 9)))), Some(Kind::Truncated));
        assert_eq!(kind(("truncated:", 5), ("a", Some((0, 4)))), Some(Kind::PastEnd));
        assert_eq!(kind(("truncated:a", 5), ("b", Some((5, 9)))), Some(Kind::Recreated));
    }

    #[test]
    fn a_partition_is_missing_only_where_two_looks_missed_it() {
        let look = |found: &[(i32, Option<(i64, i64)>)]| -> Vec<Doubt> {
            found.iter().filter_map(|(p, bounds)| judge(*p, ("a", 7), ("a", *bounds))).collect()
        };
        let first = look(&[(0, None), (1, None), (2, Some((0, 9)))]);
        let second = look(&[(0, None), (1, Some((8, 9))), (2, None)]);
        let kinds: Vec<_> = confirmed(&first, second).iter().map(|d| (d.partition, d.kind)).collect();
        assert_eq!(kinds, [(0, Kind::NoPartition), (1, Kind::BeforeStart)]);
    }

    #[test]
    fn a_log_was_cut_short_where_two_looks_say_so() {
        let look = |ends: [i64; 3]| -> Vec<Doubt> {
            (0..).zip(ends).filter_map(|(p, end)| judge(p, ("a", 7), ("a", Some((0, end))))).collect()
        };
        assert_eq!(cut_short(&look([6, 6, 7]), &look([6, 7, 6])), [0]);
    }

    #[test]
    fn a_doubt_names_partition_expected_and_found() {
        let doubts: Vec<Doubt> = (0..5).filter_map(|p| judge(p, ("a", 2), ("a", Some((5, 9))))).collect();
        let text = describe("orders", &doubts);
        let wanted = "partition 0 (before_start): expected offset 2 next, found offsets 5 to 9: 3 are gone unread";
        assert!(text.contains(wanted) && text.contains("and 2 more partitions"), "{text}");
    }
}
