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
    #[allow(clippy::cast_precision_loss)]
    let live = if scored == 0 { 0.0 } else { absolute_errors.iter().sum::<f64>() / scored as f64 };
    let ratio = match (live, holdout) {
        (live, _) if live == 0.0 => 0.0,
        (live, holdout) => live / holdout,
    };
    DriftState { scored, live, holdout, ratio, drifted: scored >= LEAST_ERRORS && ratio > limits.ratio }
}
