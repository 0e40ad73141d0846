//! What setting an offset does: to the offset, and to the ledger, which must close afterwards as before. Pure.
//! Must never pass over an offset without counting it as a gap that says so.

use super::doubt::{self, Kind};
use super::outcome::Counts;

/// Where the operator wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The first offset that the broker still has.
    Earliest,
    /// Behind the last that can be read.
    Latest,
    Offset(i64),
    /// The nearest offset that is there, for partitions in doubt; the others stay.
    AcceptLoss,
}

/// Where a partition stands, in the database and at the broker.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    pub partition: i32,
    pub next_offset: i64,
    pub topic_id: &'a str,
    /// At the broker; empty where it gives none.
    pub broker_id: &'a str,
    pub bounds: Option<(i64, i64)>,
}

/// What becomes of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Offsets are passed over: a gap, counted, and told as an accepted loss for ever.
    Skip,
    /// Offsets are read again; their gaps and dead letters are put away, to be decided anew.
    Rewind,
    /// The log is another one: the old ledger is put away as a whole, a new one begins where the new log does.
    Anew,
    /// The broker has no such partition: the old ledger is put away.
    Forget,
}

/// One partition's change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    pub partition: i32,
    pub change: Change,
    pub from: i64,
    pub to: i64,
    /// The first offset that the ledger counts from now on, where the log is another one; what lies between it and
    /// `to` is a gap, counted, and told as an accepted loss for ever. Else `to`.
    pub begins_at: i64,
    /// Offsets passed over of the log that was read; `None` where nobody can tell.
    pub lost: Option<i64>,
    /// The topic's id from now on.
    pub topic_id: String,
}

/// The change for one partition, `None` where there is nothing to do; an error says what to write instead.
pub fn plan(at: Standing<'_>, target: Target) -> Result<Option<Step>, String> {
    let Standing { partition, next_offset: from, topic_id, broker_id, bounds } = at;
    let doubt = doubt::judge(partition, (topic_id, from), (broker_id, bounds)).map(|d| d.kind);
    let step = |change, to: i64, lost| {
        let id = if broker_id.is_empty() { doubt::recorded_id(topic_id).0 } else { broker_id };
        let begins_at = bounds.filter(|_| change == Change::Anew).map_or(to, |(low, _)| low);
        Ok(Some(Step { partition, change, from, to, begins_at, lost, topic_id: id.to_owned() }))
    };
    let Some((low, high)) = bounds else {
        return match target {
            Target::AcceptLoss => step(Change::Forget, from, None),
            _ => Err(format!("partition {partition} is not there at the broker; only --to accept-loss goes on")),
        };
    };
    let to = match (target, doubt) {
        (Target::AcceptLoss, None) => return Ok(None),
        (Target::AcceptLoss, Some(Kind::PastEnd)) | (Target::Latest, _) => high,
        (Target::AcceptLoss, Some(Kind::Truncated)) => from.clamp(low, high),
        (Target::AcceptLoss, Some(_)) | (Target::Earliest, _) => low,
        (Target::Offset(to), _) if to < low || to > high => {
            return Err(format!("partition {partition} has offsets {low} to {high}, so that {to} can't be next"));
        }
        (Target::Offset(to), _) => to,
    };
    match doubt {
        Some(Kind::Recreated | Kind::PastEnd | Kind::Truncated) => step(Change::Anew, to, None),
        _ if to > from => step(Change::Skip, to, Some(to - from)),
        _ if to < from => step(Change::Rewind, to, Some(0)),
        _ => Ok(None),
    }
}

/// The topic that a name in the bookkeeping speaks of, and whether it is a former log of it, which a reset put away
/// under the topic's name and an epoch (`orders@7`; no topic of Kafka has an `@`).
pub fn topic_of(stored: &str) -> (&str, bool) {
    match stored.rsplit_once('@') {
        Some((topic, epoch)) if !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()) => (topic, true),
        _ => (stored, false),
    }
}

/// The start offset with which the ledger closes after a rewind to `to`: `counts` are what is left when the outcomes
/// that are put away are taken from the counters. Offsets that are read again count once for each reading.
pub fn start_after_rewind(to: i64, counts: Counts) -> i64 {
    to - counts.total()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(next_offset: i64, broker_id: &str, bounds: Option<(i64, i64)>) -> Standing<'_> {
        Standing { partition: 0, next_offset, topic_id: "a", broker_id, bounds }
    }

    fn of(standing: Standing<'_>, target: Target) -> Option<(Change, i64, Option<i64>)> {
        plan(standing, target).unwrap().map(|s| (s.change, s.to, s.lost))
    }

    #[test]
    fn a_loss_is_accepted_at_the_nearest_offset_that_is_there() {
        let accepted = |standing| of(standing, Target::AcceptLoss);
        assert_eq!(accepted(at(4, "a", Some((10, 20)))), Some((Change::Skip, 10, Some(6))));
        assert_eq!(accepted(at(30, "a", Some((10, 20)))), Some((Change::Anew, 20, None)));
        assert_eq!(accepted(at(15, "b", Some((3, 20)))), Some((Change::Anew, 3, None)));
        assert_eq!(accepted(at(15, "a", None)), Some((Change::Forget, 15, None)));
        let truncated = |next, id| Standing { topic_id: "truncated:a", ..at(next, id, Some((10, 20))) };
        assert_eq!(accepted(truncated(15, "a")), Some((Change::Anew, 15, None)));
        assert_eq!(accepted(truncated(30, "a")), Some((Change::Anew, 20, None)));
        for id in ["a", ""] {
            assert_eq!(plan(truncated(15, id), Target::Earliest).unwrap().unwrap().topic_id, "a");
        }
        assert_eq!(accepted(at(15, "a", Some((10, 20)))), None);
    }

    #[test]
    fn a_former_log_is_told_from_a_topic() {
        assert_eq!(topic_of("orders@12"), ("orders", true));
        assert_eq!([topic_of("orders"), topic_of("orders.12")], [("orders", false), ("orders.12", false)]);
    }

    #[test]
    fn an_offset_is_set_where_it_is_there() {
        let log = Some((10, 20));
        assert_eq!(of(at(15, "a", log), Target::Latest), Some((Change::Skip, 20, Some(5))));
        assert_eq!(of(at(15, "a", log), Target::Earliest), Some((Change::Rewind, 10, Some(0))));
        assert_eq!(of(at(15, "a", log), Target::Offset(15)), None);
        assert_eq!(of(at(15, "b", log), Target::Offset(15)), Some((Change::Anew, 15, None)));
        for to in [9, 21] {
            let refused = plan(at(15, "a", log), Target::Offset(to)).unwrap_err();
            assert!(refused.contains("10 to 20"), "{refused}");
        }
        assert!(plan(at(15, "a", None), Target::Latest).unwrap_err().contains("accept-loss"));
    }

    #[test]
    fn an_id_that_was_not_known_is_taken_along() {
        let standing = Standing { topic_id: "", ..at(4, "b", Some((10, 20))) };
        assert_eq!(plan(standing, Target::Earliest).unwrap().unwrap().topic_id, "b");
        assert_eq!(plan(at(4, "", Some((10, 20))), Target::Earliest).unwrap().unwrap().topic_id, "a");
    }

    proptest! {
        #[test]
        fn whatever_is_passed_over_is_counted(
            next in 0i64..50, low in 0i64..50, length in 0i64..50, id in "[ab]?", offset in 0i64..100,
        ) {
            let high = low + length;
            let standing = at(next, &id, Some((low, high)));
            for target in [Target::Earliest, Target::Latest, Target::AcceptLoss, Target::Offset(offset)] {
                let Ok(step) = plan(standing, target) else {
                    prop_assert!(matches!(target, Target::Offset(_)) && !(low..=high).contains(&offset));
                    continue;
                };
                let Some(step) = step else {
                    prop_assert!(id != "b" && (low..=high).contains(&next));
                    continue;
                };
                prop_assert!((low..=high).contains(&step.to));
                match step.change {
                    Change::Skip => prop_assert_eq!(step.lost, Some(step.to - next)),
                    Change::Rewind => prop_assert!(step.to < next),
                    // Each offset of the log that is there is either counted as a gap or still to be read.
                    Change::Anew => {
                        prop_assert_eq!(step.begins_at, low);
                        prop_assert!(id == "b" || next > high);
                    }
                    Change::Forget => prop_assert!(false, "the partition is there"),
                }
            }
        }
    }
}
