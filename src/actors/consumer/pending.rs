//! Claims that are under way. A claim that was asked for may be done in the database at any time until it is answered,
//! whatever the group has said since: a partition must never be given back before, or the claim that lands late raises
//! the epoch above that of the one who holds it next.

use std::collections::BTreeMap;

use super::feed::Claimed;

/// Partitions that are being taken over.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<i32, Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// Claims that were not answered yet.
    claims: usize,
    /// The group has not taken it back since.
    wanted: bool,
    /// The answer with the highest epoch, which is the one that counts: answers may come in another order than the
    /// database saw the claims.
    best: Option<Claimed>,
}

impl Pending {
    /// The group gave these partitions, and a claim of them is on its way.
    pub(super) fn asked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            let asked = self.0.entry(*partition).or_default();
            asked.claims += 1;
            asked.wanted = true;
        }
    }

    /// The group takes the partition back; what was asked for goes on.
    pub(super) fn revoked(&mut self, partition: i32) {
        if let Some(asked) = self.0.get_mut(&partition) {
            asked.wanted = false;
        }
    }

    /// A claim was answered. Hands it back once it is the last of its partition, if that is still wanted.
    pub(super) fn answered(&mut self, claimed: Claimed) -> Option<Claimed> {
        let partition = claimed.offset.partition;
        let asked = self.0.get_mut(&partition)?;
        asked.claims = asked.claims.saturating_sub(1);
        if asked.best.as_ref().is_none_or(|best| best.offset.epoch < claimed.offset.epoch) {
            asked.best = Some(claimed);
        }
        if asked.claims > 0 {
            return None;
        }
        let asked = self.0.remove(&partition)?;
        asked.best.filter(|_| asked.wanted)
    }

    pub(super) fn contains(&self, partition: i32) -> bool {
        self.0.contains_key(&partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// None will be answered any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ports::testing::partition_offset;

    pub(in super::super) fn claimed(partition: i32, epoch: i64, next_offset: i64) -> Claimed {
        Claimed { offset: partition_offset(partition, epoch, next_offset), high: next_offset }
    }

    fn epoch(answer: Option<Claimed>) -> Option<i64> {
        answer.map(|claimed| claimed.offset.epoch)
    }

    #[test]
    fn of_two_claims_of_a_partition_the_higher_epoch_counts_whichever_is_answered_first() {
        for (first, second) in [(5, 7), (7, 5)] {
            let mut pending = Pending::default();
            pending.asked(&[0]);
            pending.revoked(0);
            pending.asked(&[0]);
            assert_eq!(epoch(pending.answered(claimed(0, first, first * 10))), None, "one is still under way");
            let last = pending.answered(claimed(0, second, second * 10)).unwrap();
            assert_eq!((last.offset.epoch, last.offset.next_offset), (7, 70));
            assert!(pending.is_empty());
        }
    }

    #[test]
    fn what_was_revoked_meanwhile_or_never_asked_for_is_not_taken() {
        let mut pending = Pending::default();
        pending.asked(&[0, 1]);
        pending.revoked(1);
        assert!(pending.contains(1), "its claim may land yet");
        assert_eq!(epoch(pending.answered(claimed(1, 3, 0))), None);
        assert_eq!(epoch(pending.answered(claimed(2, 3, 0))), None);
        assert_eq!(epoch(pending.answered(claimed(0, 4, 0))), Some(4));
        assert!(pending.is_empty());
    }
}
