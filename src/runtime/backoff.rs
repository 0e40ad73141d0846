//! How long to wait before a unit is built again, and how often that may happen. Never sleeps itself.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// When a unit that failed is built again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Ceiling of the first wait; it doubles with each failure in a row.
    pub initial: Duration,
    /// Ceiling of every wait.
    pub max: Duration,
    /// A unit that ran for so long without a failure starts again at `initial`.
    pub healthy_after: Duration,
    /// Restarts within `window`; one more and the unit is failed for good. A start that was refused for a
    /// passing reason, and an actor that ended for one, cost nothing of it.
    pub budget: u32,
    pub window: Duration,
    /// How long the actors of a failed incarnation may take to end after they were told to. Then their
    /// arbiters are stopped, and what still runs is left behind: the next incarnation starts beside it, so
    /// whatever it writes must be fenced.
    pub abandon_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
            // Waits add up to about a minute on the way to it: a cause that passes had its time.
            budget: 10,
            window: Duration::from_secs(600),
            // A commit that is under way may take as long as the database's lock wait.
            abandon_after: Duration::from_secs(30),
        }
    }
}

/// Exponential backoff with full jitter: each wait is drawn evenly from zero to a ceiling that doubles, so
/// that units felled by one cause don't come back in step
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    attempt: u32,
    random: SplitMix64,
}

impl Backoff {
    /// `seed`: the same seed draws the same waits; `None` draws others each time.
    pub fn new(initial: Duration, max: Duration, seed: Option<u64>) -> Self {
        let seed = seed.or_else(seed_of_thread).unwrap_or_else(|| RandomState::new().hash_one(0u8));
        Self { initial, max, attempt: 0, random: SplitMix64(seed) }
    }

    /// The wait before the next attempt. Counts the attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product is even over 0..nanos.
        Duration::from_nanos(((u128::from(self.random.next()) * u128::from(nanos)) >> 64) as u64)
    }

    /// Attempts since the last reset.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Begins again at `initial`.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// What the next wait is below.
    fn ceiling(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        self.initial.saturating_mul(doubled).min(self.max)
    }
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// For simulations: from now on each [`Backoff`] of this thread that is given no seed gets one that follows from this
/// one, so that the same run draws the same waits.
pub fn seed_backoffs(seed: u64) {
    SEED.set(Some(seed));
}

fn seed_of_thread() -> Option<u64> {
    let mut random = SplitMix64(SEED.get()?);
    SEED.set(Some(random.next()));
    Some(random.next())
}

/// Restarts within a sliding window.
#[derive(Debug)]
pub(super) struct Budget {
    allowed: u32,
    window: Duration,
    spent: VecDeque<Instant>,
}

impl Budget {
    pub(super) fn new(policy: &RestartPolicy) -> Self {
        Self { allowed: policy.budget, window: policy.window, spent: VecDeque::new() }
    }

    /// Takes one restart; false when there is none left.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        while self.spent.front().is_some_and(|first| now.duration_since(*first) >= self.window) {
            self.spent.pop_front();
        }
        if self.spent.len() >= self.allowed as usize {
            return false;
        }
        self.spent.push_back(now);
        true
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): jitter needs evenness, not secrecy.
#[derive(Debug)]
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_wait_is_below_its_doubling_ceiling_and_the_maximum(
            initial_ms in 0u64..100_000, max_ms in 0u64..1_000_000, seed: u64, attempts in 1usize..80,
        ) {
            let (initial, max) = (Duration::from_millis(initial_ms), Duration::from_millis(max_ms));
            let mut backoff = Backoff::new(initial, max, Some(seed));
            for n in 0..attempts {
                let delay = backoff.next_delay();
                let ceiling = if n < 32 { initial.saturating_mul(1 << n).min(max) } else { max };
                prop_assert!(delay <= ceiling, "attempt {n}: {delay:?} above {ceiling:?}");
                prop_assert_eq!(backoff.attempt() as usize, n + 1);
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= initial.min(max));
        }

        #[test]
        fn the_same_seed_draws_the_same_waits(seed: u64) {
            let draw = || {
                let mut b = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), Some(seed));
                (0..20).map(|_| b.next_delay()).collect::<Vec<_>>()
            };
            prop_assert_eq!(draw(), draw());
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range_up_to_the_ceiling() {
        let mut backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(8), Some(1));
        let delays: Vec<f64> = (0..2000).map(|_| backoff.next_delay().as_secs_f64()).collect();
        for eighth in 0..8u32 {
            let within = delays.iter().filter(|d| (f64::from(eighth)..f64::from(eighth + 1)).contains(*d)).count();
            assert!((150..350).contains(&within), "{within} of 2000 waits between {eighth} s and {} s", eighth + 1);
        }
    }

    #[test]
    fn units_without_a_seed_draw_different_waits() {
        let draw = || Backoff::new(Duration::from_secs(1 << 20), Duration::from_secs(1 << 20), None).next_delay();
        assert_ne!(draw(), draw());
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_counts_against_the_budget_only_within_the_window() {
        let policy = RestartPolicy { budget: 2, window: Duration::from_secs(60), ..RestartPolicy::default() };
        let mut budget = Budget::new(&policy);
        assert!(budget.spend(Instant::now()));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(budget.spend(Instant::now()));
        assert!(!budget.spend(Instant::now()), "a third within the window");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(budget.spend(Instant::now()), "the first is out of the window");
        assert!(!budget.spend(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_none_allows_no_restart() {
        let policy = RestartPolicy { budget: 0, ..RestartPolicy::default() };
        assert!(!Budget::new(&policy).spend(Instant::now()));
    }
}
