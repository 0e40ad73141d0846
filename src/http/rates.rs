//! Records a second by stream, over the last seconds. Counters that restart with the process are enough: a rate
//! looks at differences only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Long enough that a large batch does not look like a burst, short enough to feel live.
const WINDOW: Duration = Duration::from_secs(5);

/// The last samples of each stream's count.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<VecDeque<Sample>>);

#[derive(Debug)]
struct Sample {
    at: Instant,
    records: BTreeMap<String, u64>,
}

impl Rates {
    /// Takes the streams' counts at `at`; samples older than the window are forgotten.
    pub(super) fn sample(&self, at: Instant, records: BTreeMap<String, u64>) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Sample { at, records });
        while samples.len() > 2 && samples.get(1).is_some_and(|second| at - second.at >= WINDOW) {
            samples.pop_front();
        }
    }

    /// Records a second; 0 until there are two samples.
    pub(super) fn per_second(&self, stream: &str) -> f64 {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else { return 0.0 };
        let seconds = (last.at - first.at).as_secs_f64();
        let count = |sample: &Sample| sample.records.get(stream).copied().unwrap_or(0);
        if seconds > 0.0 { count(last).saturating_sub(count(first)) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(n: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("orders".to_owned(), n)])
    }

    #[test]
    fn a_rate_is_the_difference_over_the_window() {
        let rates = Rates::default();
        let start = Instant::now();
        assert_eq!(rates.per_second("orders"), 0.0);
        for second in 0..20u64 {
            let n = if second < 10 { second * 1000 } else { 9000 };
            rates.sample(start + Duration::from_secs(second), counts(n));
            if second == 9 {
                assert_eq!(rates.per_second("orders"), 1000.0);
            }
        }
        assert_eq!(rates.per_second("orders"), 0.0, "what is older than the window is forgotten");
        assert_eq!(rates.per_second("unknown"), 0.0);
        assert!(rates.0.lock().unwrap().len() <= 7);
    }
}
