//! Counts a drill's faults by kind: how long each took to recover from, what was lost, doubled or stuck.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Kind;

/// What came of one fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub kind: Kind,
    /// Records that the broker had acknowledged when the fault began: what was produced from here to the next fault is
    /// laid at its door.
    pub from_record: u64,
    /// Seconds from the fault's end until all records acknowledged by then were in the tables; `None`: never.
    pub recovered_seconds: Option<f64>,
    /// Records that got a second outcome while this fault lasted.
    pub doubled: u64,
}

/// Of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct KindTally {
    pub faults: usize,
    /// Null where none recovered.
    pub recover_p50_seconds: Option<f64>,
    pub recover_max_seconds: Option<f64>,
    pub lost: u64,
    pub doubled: u64,
    pub stuck: usize,
}

/// By kind's name; `lost` and `doubled_rows` are numbers of records.
pub fn by_kind(outcomes: &[Outcome], lost: &[u64], doubled_rows: &[u64]) -> BTreeMap<&'static str, KindTally> {
    let mut kinds: BTreeMap<&'static str, KindTally> = BTreeMap::new();
    let mut seconds: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for outcome in outcomes {
        let tally = kinds.entry(outcome.kind.name()).or_default();
        tally.faults += 1;
        tally.doubled += outcome.doubled;
        match outcome.recovered_seconds {
            Some(taken) => seconds.entry(outcome.kind.name()).or_default().push(taken),
            None => tally.stuck += 1,
        }
    }
    for (name, mut taken) in seconds {
        taken.sort_by(f64::total_cmp);
        if let Some(tally) = kinds.get_mut(name) {
            // The lower of the two in the middle.
            tally.recover_p50_seconds = taken.get((taken.len() - 1) / 2).copied();
            tally.recover_max_seconds = taken.last().copied();
        }
    }
    let mut blame = |record: u64, add: &dyn Fn(&mut KindTally)| {
        let before = outcomes.partition_point(|outcome| outcome.from_record <= record);
        // Before the first fault there is nothing to blame but the first.
        let outcome = outcomes.get(before.saturating_sub(1));
        if let Some(tally) = outcome.and_then(|outcome| kinds.get_mut(outcome.kind.name())) {
            add(tally);
        }
    };
    lost.iter().for_each(|record| blame(*record, &|tally| tally.lost += 1));
    doubled_rows.iter().for_each(|record| blame(*record, &|tally| tally.doubled += 1));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: Kind, from_record: u64, recovered_seconds: Option<f64>, doubled: u64) -> Outcome {
        Outcome { kind, from_record, recovered_seconds, doubled }
    }

    #[test]
    fn each_kind_gets_its_faults_its_times_and_the_records_of_its_stretch() {
        let outcomes = [
            outcome(Kind::DaemonKill, 100, Some(6.0), 0),
            outcome(Kind::Deadlock, 200, Some(1.0), 2),
            outcome(Kind::DaemonKill, 300, Some(8.0), 0),
            outcome(Kind::DaemonKill, 400, Some(7.0), 0),
            outcome(Kind::Deadlock, 500, None, 0),
        ];
        let kinds = by_kind(&outcomes, &[5, 250, 299, 399, 600], &[450]);
        let killed = KindTally {
            faults: 3,
            recover_p50_seconds: Some(7.0),
            recover_max_seconds: Some(8.0),
            lost: 2,
            doubled: 1,
            stuck: 0,
        };
        assert_eq!(kinds["daemon-kill"], killed);
        let deadlocks = KindTally {
            faults: 2,
            recover_p50_seconds: Some(1.0),
            recover_max_seconds: Some(1.0),
            lost: 3,
            doubled: 2,
            stuck: 1,
        };
        assert_eq!(kinds["deadlock"], deadlocks);
    }

    #[test]
    fn nothing_that_happened_is_an_empty_tally() {
        assert!(by_kind(&[], &[1], &[2]).is_empty());
    }
}
