//! Whether forecasts are as good as the holdout promised. If not, waiting for the next training by schedule helps nobody.

use super::spec::Drift;

/// Errors below which a mean says nothing: a day of hours.
pub const LEAST_ERRORS: usize = 24;

/// Live errors beside the holdout's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftState {
    /// How many forecasts were scored within the window.
    pub scored: usize,
    /// Their mean absolute error, in the target's unit.
    pub live: f64,
    /// That of the holdout.
    pub holdout: f64,
    /// Live by holdout.
    pub ratio: f64,
    /// Whether to train early.
    pub drifted: bool,
}

/// Judges the absolute errors of forecasts, of one horizon, whose truth arrived within the window. Fewer than
/// [`LEAST_ERRORS`] are no drift.
pub fn drift(limits: &Drift, absolute_errors: &[f64], holdout: f64) -> DriftState {
    let scored = absolute_errors.len();
    let live = if scored == 0 { 0.0 } else { absolute_errors.iter().sum::<f64>() / scored as f64 };
    let ratio = match (live, holdout) {
        (live, _) if live == 0.0 => 0.0,
        (live, holdout) => live / holdout,
    };
    DriftState { scored, live, holdout, ratio, drifted: scored >= LEAST_ERRORS && ratio > limits.ratio }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Drift = Drift { ratio: 1.5, window: Duration::from_secs(3600) };

    #[test]
    fn errors_above_the_ratio_are_drift_once_they_are_enough() {
        let errors = vec![16.0; LEAST_ERRORS];
        let state = drift(&LIMITS, &errors, 10.0);
        assert_eq!((state.live, state.ratio, state.drifted), (16.0, 1.6, true));
        assert!(!drift(&LIMITS, &errors[1..], 10.0).drifted, "too few");
        assert!(!drift(&LIMITS, &vec![15.0; 100], 10.0).drifted, "not above");
    }

    #[test]
    fn no_error_at_all_and_a_holdout_without_one_are_told_apart() {
        assert!(!drift(&LIMITS, &[], 0.0).drifted);
        assert!(!drift(&LIMITS, &vec![0.0; 100], 0.0).drifted);
        let state = drift(&LIMITS, &vec![1.0; 100], 0.0);
        assert!(state.drifted && state.ratio.is_infinite());
    }
}
