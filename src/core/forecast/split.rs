//! How a history is split by time, and which rows a fit may see that is judged by a later stretch. Whoever fits and judges
//! asks here, so that all of them fit and judge the same rows.
//!
//! A row stands at the bucket that it forecasts, so that its truth is of that bucket. The forecast of bucket `b` is made
//! `horizon` buckets before, and knows the truth of buckets up to then: of the `horizon - 1` buckets between, no truth may be
//! in the fit that makes it, though those buckets lie before the stretch that it is judged by.

use std::ops::Range;

use chrono::{DateTime, Duration, Utc};

use super::matrix::Matrix;
use super::series::Panel;
use super::spec::Spec;

/// The history's end, and where its holdout begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The forecasts of buckets from this one on judge a fit; what was known before the first of them is fitted.
    pub from: DateTime<Utc>,
    /// Behind the last bucket with a truth.
    pub end: DateTime<Utc>,
}

impl Split {
    /// `None` where no truth is known.
    pub fn of(spec: &Spec, panel: &Panel) -> Option<Self> {
        let last = panel.series().iter().filter_map(|s| s.target.iter().rposition(|value| !value.is_nan())).max()?;
        let end = panel.at(last + 1);
        Some(Self { from: before(end, stretch(spec)), end })
    }

    /// Rows that are fitted, and rows that judge the fit. Those between are neither.
    pub fn rows(&self, spec: &Spec, matrix: &Matrix, horizon: usize) -> (Range<usize>, Range<usize>) {
        (0..matrix.before(known(spec, horizon, self.from)), matrix.before(self.from)..matrix.rows())
    }
}

/// `Spec::holdout`.
pub fn stretch(spec: &Spec) -> Duration {
    Duration::from_std(spec.holdout).unwrap_or(Duration::MAX)
}

/// How long before a bucket ends the last one that is known when it is forecast.
pub fn embargo(spec: &Spec, horizon: usize) -> Duration {
    let buckets = i64::try_from(horizon.saturating_sub(1)).unwrap_or(i64::MAX);
    Duration::try_seconds(spec.seconds().saturating_mul(buckets)).unwrap_or(Duration::MAX)
}

/// Up to where truth is known when the bucket is forecast that starts then: what a fit may see that is judged from there on.
pub fn known(spec: &Spec, horizon: usize, start: DateTime<Utc>) -> DateTime<Utc> {
    before(start, embargo(spec, horizon))
}

fn before(moment: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    moment.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::forecast::features::matrix;
    use crate::core::forecast::testing::{hour, panel, spec};

    #[test]
    fn no_truth_is_fitted_that_the_first_forecast_of_the_holdout_could_not_know() {
        let spec = spec();
        // The last two hours have no truth yet.
        let panel = panel(&spec, &["a"], 500, |_, at| if at < 498 { 1.0 } else { f64::NAN });
        let split = Split::of(&spec, &panel).unwrap();
        assert_eq!((split.from, split.end), (hour(258).start(), hour(498).start()));
        for (horizon, last) in [(1, 257), (24, 234)] {
            let matrix = matrix(&spec, &panel, &panel.labels(), horizon, 0..500).unwrap();
            let (fitted, held_out) = split.rows(&spec, &matrix, horizon);
            // Hour 258 is forecast when hour 258 - horizon has ended.
            assert_eq!(matrix.at[fitted.end - 1], hour(last).start(), "{horizon}");
            assert_eq!((matrix.at[held_out.start], held_out.end), (split.from, matrix.rows()));
        }
    }

    #[test]
    fn a_history_shorter_than_the_holdout_has_nothing_before_it() {
        let spec = Spec { holdout: std::time::Duration::MAX, ..spec() };
        let panel = panel(&spec, &["a"], 50, |_, _| 1.0);
        let split = Split::of(&spec, &panel).unwrap();
        let matrix = matrix(&spec, &panel, &panel.labels(), 24, 0..50).unwrap();
        assert_eq!(split.rows(&spec, &matrix, 24), (0..0, 0..matrix.rows()));
    }
}
