//! The proof that nothing was lost or counted twice: what the database says of a partition beside what the
//! broker says. Counters prove offsets, not rows; what can't be proved is said, never assumed.

use std::ops::Range;

use super::doubt;
use super::outcome::Counts;

/// What is known of one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFacts {
    pub partition: i32,
    /// `None` where the database does not know the partition.
    pub recorded: Option<Recorded>,
    /// First offset at the broker, and the one behind the last that can be read; `None` where the broker
    /// has no such partition.
    pub bounds: Option<(i64, i64)>,
    /// The topic's id at the broker; empty where it gives none.
    pub topic_id: String,
    /// Offsets within recorded gaps that yielded a record when they were read again.
    pub found_in_gaps: Vec<i64>,
    /// Gaps that an operator accepted as a loss, also among the recorded ones.
    pub accepted: Vec<Range<i64>>,
}

/// What the bookkeeping holds of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub topic_id: String,
    pub start_offset: i64,
    pub next_offset: i64,
    pub counts: Counts,
    pub gaps: Vec<Range<i64>>,
    /// Rows in `bief_dead_letter`.
    pub dead_letters: i64,
    /// Rows in `bief_dropped_letter`: letters that an operator threw away.
    pub dropped: i64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub partition: i32,
    /// Stable: `unaccounted`, `lost`, `gaps`, `dead_letters`, `in_doubt`, `recreated`.
    pub kind: &'static str,
    /// How many offsets or rows it is off by.
    pub off_by: i64,
    pub message: String,
}

/// What is no fault, but should be known.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    pub partition: i32,
    /// Stable: `behind`, `unread`, `unprovable`, `loss_accepted`.
    pub kind: &'static str,
    pub offsets: i64,
    pub message: String,
}

/// Judges one partition.
pub fn judge(facts: &PartitionFacts) -> (Vec<Finding>, Vec<Note>) {
    let (mut findings, mut notes) = (Vec::new(), Vec::new());
    let partition = facts.partition;
    let mut found = |kind, off_by: i64, message: String| {
        if off_by != 0 {
            findings.push(Finding { partition, kind, off_by, message });
        }
    };
    let mut note = |kind, offsets: i64, message: String| {
        if offsets != 0 {
            notes.push(Note { partition, kind, offsets, message });
        }
    };
    let Some(recorded) = &facts.recorded else {
        if let Some((low, high)) = facts.bounds {
            note("unread", high - low, format!("{} offsets at the broker, none read yet", high - low));
        }
        return (findings, notes);
    };
    let advanced = recorded.next_offset - recorded.start_offset;
    let unaccounted = advanced - recorded.counts.total();
    found(
        "unaccounted",
        unaccounted,
        format!(
            "{advanced} offsets advanced, {} accounted for: {unaccounted} without an outcome",
            recorded.counts.total()
        ),
    );
    let in_gaps: i64 = recorded.gaps.iter().map(|g| g.end - g.start).sum();
    found(
        "gaps",
        recorded.counts.gaps - in_gaps,
        format!("{} offsets counted as gaps, {in_gaps} recorded as such", recorded.counts.gaps),
    );
    found(
        "dead_letters",
        recorded.counts.dead_letters - recorded.dead_letters - recorded.dropped,
        format!(
            "{} dead letters counted, {} stored, {} dropped",
            recorded.counts.dead_letters, recorded.dead_letters, recorded.dropped
        ),
    );
    for gap in &facts.accepted {
        let offsets = gap.end - gap.start;
        let last = gap.end - 1;
        note("loss_accepted", offsets, format!("{offsets} offsets, {} to {last}, were accepted as lost", gap.start));
    }
    let lost = facts.found_in_gaps.len() as i64;
    if let Some(first) = facts.found_in_gaps.first() {
        found(
            "lost",
            lost,
            format!("{lost} records were skipped as if they were not there, the first at offset {first}"),
        );
    }
    let Some((low, high)) = facts.bounds else {
        found("in_doubt", advanced.max(1), "the broker does not have this partition any more".to_owned());
        return (findings, notes);
    };
    let (recorded_id, truncated) = doubt::recorded_id(&recorded.topic_id);
    if !recorded_id.is_empty() && !facts.topic_id.is_empty() && recorded_id != facts.topic_id {
        found(
            "recreated",
            advanced.max(1),
            format!("the topic was made anew: its id is {}, the offsets are those of {}", facts.topic_id, recorded_id),
        );
    }
    let next = recorded.next_offset;
    if truncated {
        found(
            "truncated",
            advanced.max(1),
            format!(
                "the broker truncated the log below offset {next}, which is next: what was read before may be gone"
            ),
        );
    }
    found("in_doubt", (next - high).max(0), format!("offset {next} is next, but the partition ends at {high}"));
    found(
        "in_doubt",
        (low - next).max(0),
        format!("offset {next} is next, but the broker has {low} and later only: {} are lost", low - next),
    );
    note("behind", (high - next).max(0), format!("{} offsets are still to be read", high - next));
    let unprovable = recorded.gaps.iter().filter(|g| !facts.accepted.contains(g));
    let unprovable: i64 = unprovable.map(|g| (g.end.min(low) - g.start).max(0)).sum();
    note("unprovable", unprovable, format!("{unprovable} gap offsets can't be read again: retention took them"));
    (findings, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> PartitionFacts {
        PartitionFacts {
            partition: 0,
            recorded: Some(Recorded {
                topic_id: "a".to_owned(),
                start_offset: 10,
                next_offset: 20,
                counts: Counts { applied: 6, duplicates: 1, dead_letters: 1, gaps: 2 },
                gaps: vec![12..13, 19..20],
                dead_letters: 1,
                dropped: 0,
            }),
            bounds: Some((0, 20)),
            topic_id: "a".to_owned(),
            found_in_gaps: Vec::new(),
            accepted: Vec::new(),
        }
    }

    fn kinds(facts: &PartitionFacts) -> Vec<(&'static str, i64)> {
        judge(facts).0.into_iter().map(|f| (f.kind, f.off_by)).collect()
    }

    fn changed(change: impl FnOnce(&mut Recorded)) -> PartitionFacts {
        let mut facts = clean();
        change(facts.recorded.as_mut().unwrap());
        facts
    }

    #[test]
    fn a_whole_ledger_is_clean() {
        assert_eq!(judge(&clean()), (vec![], vec![]));
    }

    #[test]
    fn an_offset_without_an_outcome_is_found_either_way() {
        assert_eq!(kinds(&changed(|r| r.counts.applied -= 2)), [("unaccounted", 2)]);
        assert_eq!(kinds(&changed(|r| r.counts.applied += 1)), [("unaccounted", -1)]);
    }

    #[test]
    fn a_record_in_a_gap_is_a_loss() {
        assert_eq!(kinds(&PartitionFacts { found_in_gaps: vec![12], ..clean() }), [("lost", 1)]);
    }

    #[test]
    fn a_dead_letter_that_was_deleted_by_hand_is_found() {
        assert_eq!(kinds(&changed(|r| r.dead_letters = 0)), [("dead_letters", 1)]);
    }

    #[test]
    fn a_dead_letter_that_was_dropped_by_command_is_no_finding() {
        assert_eq!(kinds(&changed(|r| (r.dead_letters, r.dropped) = (0, 1))), []);
        assert_eq!(kinds(&changed(|r| r.dropped = 1)), [("dead_letters", -1)]);
    }

    #[test]
    fn a_gap_that_is_counted_but_not_recorded_is_found() {
        assert_eq!(kinds(&changed(|r| r.gaps = vec![12..13])), [("gaps", 1)]);
    }

    #[test]
    fn offsets_that_the_broker_does_not_have_are_in_doubt() {
        assert_eq!(kinds(&PartitionFacts { bounds: Some((0, 15)), ..clean() }), [("in_doubt", 5)]);
        assert_eq!(kinds(&PartitionFacts { bounds: Some((25, 30)), ..clean() }), [("in_doubt", 5)]);
        assert_eq!(kinds(&PartitionFacts { bounds: None, ..clean() }), [("in_doubt", 10)]);
    }

    #[test]
    fn a_topic_that_was_made_anew_is_found() {
        assert_eq!(kinds(&PartitionFacts { topic_id: "b".to_owned(), ..clean() }), [("recreated", 10)]);
        assert_eq!(kinds(&PartitionFacts { topic_id: String::new(), ..clean() }), []);
        let mut truncated = clean();
        truncated.recorded.as_mut().unwrap().topic_id = "truncated:a".to_owned();
        assert_eq!(kinds(&truncated), [("truncated", 10)]);
    }

    #[test]
    fn being_behind_is_no_fault() {
        let (findings, notes) = judge(&PartitionFacts { bounds: Some((0, 25)), ..clean() });
        assert!(findings.is_empty());
        assert_eq!(notes.iter().map(|n| (n.kind, n.offsets)).collect::<Vec<_>>(), [("behind", 5)]);
    }

    #[test]
    fn a_loss_that_was_accepted_is_told_for_ever_and_is_no_finding() {
        let facts = PartitionFacts { accepted: vec![12..13], bounds: Some((15, 20)), ..clean() };
        let (findings, notes) = judge(&facts);
        assert!(findings.is_empty());
        assert_eq!(notes.iter().map(|n| (n.kind, n.offsets)).collect::<Vec<_>>(), [("loss_accepted", 1)]);
    }

    #[test]
    fn gaps_that_retention_took_are_said_to_be_unprovable() {
        let (findings, notes) = judge(&PartitionFacts { bounds: Some((15, 20)), ..clean() });
        assert!(findings.is_empty());
        assert_eq!(notes.iter().map(|n| (n.kind, n.offsets)).collect::<Vec<_>>(), [("unprovable", 1)]);
    }
}
