//! One budget of bytes for all units of a daemon: a semaphore whose permits grow while a batch is filled and give
//! their bytes back when they are dropped, wherever that is. It never makes anyone wait by itself: who wants more asks
//! [`Share::room`] first, and comes again later.
//!
//! Half of the budget is set aside in equal reserves, one for each unit, so that a unit whose batches are stuck cannot
//! starve the others; the other half is a pool for whoever needs more. A unit whose present incarnation holds nothing
//! always has room: the largest batch goes on alone, whatever its size, and nothing is ever stuck for want of memory, not
//! even where an incarnation that was left behind keeps all there is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cheap to clone; all clones are one budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    /// Bytes that each unit has for itself.
    reserve: u64,
    /// Bytes beyond the reserves, for all.
    pool: u64,
    /// Bytes taken, by unit.
    taken: Mutex<Vec<u64>>,
}

impl Budget {
    /// `limit` in bytes, for `units` units (at least one).
    pub fn new(limit: u64, units: usize) -> Self {
        let units = units.max(1);
        let reserve = limit / 2 / units as u64;
        let pool = limit - reserve * units as u64;
        Self(Arc::new(Inner { limit, reserve, pool, taken: Mutex::new(vec![0; units]) }))
    }

    /// Bytes that may be taken.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes that are taken. More than the limit where a batch grew beyond the room there was.
    pub fn used(&self) -> u64 {
        self.0.lock().iter().sum()
    }

    /// What one unit takes from; units are counted from 0, and a number beyond them is the last. It outlives the unit's
    /// restarts: what an earlier incarnation still holds counts.
    pub fn share(&self, unit: usize) -> Share {
        let last = self.0.lock().len().saturating_sub(1);
        Share { budget: Arc::clone(&self.0), unit: unit.min(last), held: Arc::default() }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        // Every change is one assignment, so that a panic elsewhere leaves the numbers whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, unit: usize, taken: &[u64]) -> u64 {
        let beyond: u64 = taken.iter().map(|bytes| bytes.saturating_sub(self.reserve)).sum();
        self.reserve.saturating_sub(taken[unit]) + self.pool.saturating_sub(beyond)
    }
}

/// One unit's part of a [`Budget`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Share {
    budget: Arc<Inner>,
    unit: usize,
    /// Bytes that the unit's present incarnation holds: what its permits were made from are clones of one share.
    held: Arc<AtomicU64>,
}

impl Share {
    /// The same part for the unit's next incarnation: what earlier ones still hold counts against the budget, but does
    /// not keep this one from going on.
    pub fn anew(&self) -> Self {
        Self { held: Arc::default(), ..self.clone() }
    }

    /// Bytes that the unit may take now; at least 1 while its present incarnation holds nothing.
    pub fn room(&self) -> u64 {
        let room = self.budget.room(self.unit, &self.budget.lock());
        if self.held.load(Ordering::SeqCst) == 0 { room.max(1) } else { room }
    }

    /// Bytes that the unit could take while the others take nothing beyond their reserves.
    pub fn most(&self) -> u64 {
        self.budget.reserve + self.budget.pool
    }

    /// A permit for nothing yet.
    pub fn permit(&self) -> Permit {
        Permit { share: self.clone(), bytes: 0 }
    }
}

/// Bytes that are taken until it is dropped.
#[derive(Debug)]
pub struct Permit {
    share: Share,
    bytes: u64,
}

impl Permit {
    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more, whether there is room or not: what is there already must be counted. Who wants to stay within the
    /// budget asks [`Share::room`] before there is more.
    pub fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.share.budget.lock()[self.share.unit] += bytes;
        self.share.held.fetch_add(bytes, Ordering::SeqCst);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.share.budget.lock();
        taken[self.share.unit] = taken[self.share.unit].saturating_sub(self.bytes);
        self.share.held.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holding(share: &Share, bytes: u64) -> Permit {
        let mut permit = share.permit();
        permit.grow(bytes);
        permit
    }

    #[test]
    fn a_permit_gives_its_bytes_back_when_it_is_dropped() {
        let budget = Budget::new(100, 1);
        let share = budget.share(0);
        let first = holding(&share, 60);
        let second = holding(&share, 30);
        assert_eq!((budget.used(), share.room()), (90, 10));
        drop(first);
        assert_eq!((budget.used(), share.room(), second.bytes()), (30, 70, 30));
        drop(second);
        assert_eq!((budget.used(), share.room()), (0, 100));
    }

    #[test]
    fn a_permit_is_given_back_by_a_thread_that_panics() {
        let budget = Budget::new(100, 1);
        let permit = holding(&budget.share(0), 60);
        let ended = std::thread::spawn(move || {
            let _held = permit;
            panic!("planted");
        });
        assert!(ended.join().is_err());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_batch_larger_than_the_budget_goes_on_alone() {
        let budget = Budget::new(10, 1);
        let share = budget.share(0);
        assert!(share.room() > 0);
        let batch = holding(&share, 1000);
        assert_eq!(share.room(), 0);
        drop(batch);
        assert_eq!(share.room(), 10);
        assert_eq!(Budget::new(0, 3).share(2).room(), 1);
    }

    #[test]
    fn a_unit_that_is_stuck_leaves_the_others_their_reserve() {
        let budget = Budget::new(100, 2);
        let (stuck, other) = (budget.share(0), budget.share(1));
        // Its own reserve of 25 and the pool of 50.
        assert_eq!(stuck.room(), 75);
        let _held = holding(&stuck, 75);
        assert_eq!(stuck.room(), 0);
        assert_eq!(other.room(), 25);
        let _also = holding(&other, 25);
        assert_eq!(other.room(), 0);
        assert_eq!(budget.used(), budget.limit());
    }

    #[test]
    fn what_an_earlier_incarnation_holds_counts() {
        let budget = Budget::new(100, 1);
        let left_behind = holding(&budget.share(0), 80);
        let next = budget.share(0);
        assert_eq!(next.room(), 20);
        drop(left_behind);
        assert_eq!(budget.share(0).room(), 100);
    }

    #[test]
    fn an_incarnation_goes_on_though_one_that_was_left_behind_holds_all_there_is() {
        let budget = Budget::new(100, 1);
        let first = budget.share(0);
        let left_behind = holding(&first, 130);
        let next = first.anew();
        assert_eq!((first.room(), next.room()), (0, 1));
        let batch = holding(&next, 40);
        assert_eq!(next.clone().room(), 0, "one batch at a time");
        assert_eq!(budget.used(), 170);
        drop(batch);
        assert_eq!(next.room(), 1);
        drop(left_behind);
        assert_eq!((next.room(), budget.used()), (100, 0));
    }

    proptest! {
        /// Units take only what there is room for, give back at random: the sum never passes the limit, what is used
        /// is what the permits hold, and a unit below its reserve always has room.
        #[test]
        fn whoever_asks_first_never_passes_the_limit(
            limit in 10_u64..10_000,
            units in 1_usize..5,
            steps in proptest::collection::vec((0_usize..5, 1_u64..5_000, any::<bool>()), 0..200),
        ) {
            let budget = Budget::new(limit, units);
            let shares: Vec<Share> = (0..units).map(|unit| budget.share(unit)).collect();
            let mut held: Vec<(usize, Permit)> = Vec::new();
            for (unit, bytes, give) in steps {
                let unit = unit % units;
                if give && !held.is_empty() {
                    held.swap_remove(bytes as usize % held.len());
                } else {
                    let room = shares[unit].room();
                    if room > 0 {
                        held.push((unit, holding(&shares[unit], bytes.min(room))));
                    }
                }
                prop_assert_eq!(budget.used(), held.iter().map(|(_, permit)| permit.bytes()).sum::<u64>());
                prop_assert!(budget.used() <= limit.max(units as u64));
                for (unit, share) in shares.iter().enumerate() {
                    let own: u64 = held.iter().filter(|(u, _)| *u == unit).map(|(_, p)| p.bytes()).sum();
                    prop_assert!(own >= limit / 2 / units as u64 || share.room() > 0);
                }
            }
            held.clear();
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
