//! How a framework's time grows with the rows: the slope of a straight line through the logarithms of both. 1 is as the
//! rows do; well below, what is paid once for each fit, whatever its size, is what counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Outcome, Run};

/// Of one framework with one number of workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    pub framework: String,
    pub workers: u32,
    /// Sizes that it is drawn from.
    pub sizes: Vec<u32>,
    pub fit_exponent: f64,
    /// From start to end, start-up and loading among it.
    pub wall_exponent: f64,
}

/// The slope by least squares of ln(seconds) over ln(rows); `None` with fewer than two sizes.
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let points: Vec<(f64, f64)> =
        points.iter().filter(|(rows, seconds)| *rows > 0.0 && *seconds > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (points.len() > 1 && variance > 0.0).then(|| covariance / variance)
}

/// Size, rows, seconds of the fit and of the whole.
type Point = (u32, f64, f64, f64);

/// Of all frameworks and numbers of workers that fitted more than one size.
pub fn scaling(runs: &[Run]) -> Vec<Scaling> {
    let mut found: BTreeMap<(&str, u32), Vec<Point>> = BTreeMap::new();
    for run in runs {
        if let Outcome::Fitted(fitted) = &run.outcome {
            let point = (run.size, run.rows as f64, fitted.seconds.fit, fitted.seconds.wall);
            found.entry((&run.framework, run.workers)).or_default().push(point);
        }
    }
    let each = found.into_iter().filter_map(|((framework, workers), points)| {
        let of = |seconds: fn(&Point) -> f64| {
            exponent(&points.iter().map(|point| (point.1, seconds(point))).collect::<Vec<_>>())
        };
        Some(Scaling {
            framework: framework.to_owned(),
            workers,
            sizes: points.iter().map(|point| point.0).collect(),
            fit_exponent: of(|point| point.2)?,
            wall_exponent: of(|point| point.3)?,
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_the_slope_of_the_logarithms() {
        let squares: Vec<(f64, f64)> = [1.0, 10.0, 100.0].map(|n| (n, 3.0 * n * n)).to_vec();
        assert!((exponent(&squares).unwrap() - 2.0).abs() < 1e-12);
        let constant: Vec<(f64, f64)> = [1.0, 10.0].map(|n| (n, 5.0)).to_vec();
        assert!(exponent(&constant).unwrap().abs() < 1e-12);
    }

    #[test]
    fn one_size_has_no_exponent() {
        assert_eq!(exponent(&[(10.0, 1.0)]), None);
        assert_eq!(exponent(&[(10.0, 1.0), (10.0, 2.0)]), None);
        assert_eq!(exponent(&[(10.0, 1.0), (20.0, 0.0)]), None);
    }
}
