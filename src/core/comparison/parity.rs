//! Whether two frameworks came to the same model: least squares has one answer, so what differs is rounding, or a mistake.

use serde::{Deserialize, Serialize};

use super::{Fitted, Outcome, Run};

/// How far coefficients and predictions may differ, as [`Parity`] measures it.
pub const TOLERANCE: f64 = 1e-8;

/// One run beside the reference's of the same size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    pub framework: String,
    pub reference: String,
    pub size: u32,
    pub workers: u32,
    /// The largest relative difference of a coefficient, the intercept among them.
    pub coefficients: f64,
    /// The largest difference of a held-out prediction, by the root mean square of the reference's.
    pub predictions: f64,
    pub agrees: bool,
}

/// The largest of `|a - b| / max(|a|, |b|)`; the largest number there is where there are not as many, or one is no number.
pub fn difference(a: &[f64], b: &[f64]) -> f64 {
    largest(a, b, |a, b| a.abs().max(b.abs()))
}

/// The same by the root mean square of what is expected. A prediction is a sum whose terms cancel where it comes close to
/// zero: its rounding is theirs, and by itself it would say nothing of the model.
pub fn difference_by_scale(expected: &[f64], found: &[f64]) -> f64 {
    let scale = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len().max(1) as f64).sqrt();
    if scale.is_finite() { largest(expected, found, |_, _| scale) } else { f64::MAX }
}

fn largest(a: &[f64], b: &[f64], scale: impl Fn(f64, f64) -> f64) -> f64 {
    if a.len() != b.len() {
        return f64::MAX;
    }
    let each = a.iter().zip(b).map(|(a, b)| match (a - b).abs() / scale(*a, *b) {
        relative if relative.is_finite() => relative,
        _ if a == b => 0.0,
        _ => f64::MAX,
    });
    each.fold(0.0, f64::max)
}

/// Every run that came to a model beside the first of the reference's with the same size; the reference's own others too.
pub fn parity(runs: &[Run], reference: &str) -> Vec<Parity> {
    let fitted = |run: &Run| match &run.outcome {
        Outcome::Fitted(fitted) => Some(fitted.clone()),
        _ => None,
    };
    let of_reference = |size| {
        let found = runs.iter().position(|run| run.framework == reference && run.size == size && fitted(run).is_some());
        found.and_then(|at| Some((at, fitted(&runs[at])?)))
    };
    let beside = runs.iter().enumerate().filter_map(|(at, run)| {
        let (of, expected) = of_reference(run.size)?;
        let found = fitted(run).filter(|_| at != of)?;
        let coefficients = difference(&all(&expected), &all(&found));
        let predictions = difference_by_scale(&expected.predictions, &found.predictions);
        Some(Parity {
            framework: run.framework.clone(),
            reference: reference.to_owned(),
            size: run.size,
            workers: run.workers,
            coefficients,
            predictions,
            agrees: coefficients <= TOLERANCE && predictions <= TOLERANCE,
        })
    });
    beside.collect()
}

fn all(fitted: &Fitted) -> Vec<f64> {
    fitted.coefficients.iter().copied().chain([fitted.intercept]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_to_the_larger_of_the_two() {
        assert_eq!(difference(&[1.0, -200.0], &[1.0, -100.0]), 0.5);
        assert_eq!(difference(&[0.0], &[0.0]), 0.0);
        assert_eq!(difference(&[0.0], &[1e-300]), 1.0);
    }

    #[test]
    fn a_prediction_close_to_zero_is_measured_by_the_others() {
        let expected = [3.0, -4.0, 1e-12, 5.0, 5.0, 5.0];
        let mut found = expected;
        found[2] = 2e-12;
        assert!(difference_by_scale(&expected, &found) < 1e-12);
        found[2] = 0.1;
        assert_eq!(difference_by_scale(&expected, &found), (0.1 - 1e-12) / (100.0_f64 / 6.0).sqrt());
        assert_eq!(difference_by_scale(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert_eq!(difference_by_scale(&[0.0], &[1.0]), f64::MAX);
        assert_eq!(difference_by_scale(&[1.0], &[f64::NAN]), f64::MAX);
        assert_eq!(difference_by_scale(&[f64::INFINITY, 1.0], &[f64::INFINITY, 2.0]), f64::MAX);
        assert_eq!(difference_by_scale(&[1.0, 2.0], &[1.0]), f64::MAX);
    }

    #[test]
    fn what_is_missing_or_no_number_never_agrees() {
        assert_eq!(difference(&[1.0], &[]), f64::MAX);
        assert_eq!(difference(&[f64::NAN], &[1.0]), f64::MAX);
        assert_eq!(difference(&[f64::NAN], &[f64::NAN]), f64::MAX);
    }
}
