//! Ordinary least squares with an intercept: by the Gram matrix and Cholesky where that is accurate, else by linfa's QR of
//! the matrix itself. `linfa` alone is the reference that others are compared with.

use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::gram::{Gram, gram};

/// Below this share of its variance that other columns leave unexplained, a column is a combination of those before it, as
/// far as doubles tell: its coefficient is 0. (R's `lm` leaves such a column out at 1e-7 of its norm, 1e-14 of its variance,
/// by QR; the Gram matrix knows variances to about 1e-13.)
const ALIASED: f64 = 1e-11;
/// The normal equations lose twice the digits of the matrix: up to this condition of the correlations the coefficients are
/// right to about 1e-9, whereof a double's 2e-16 times the condition is told by theory.
const WELL_CONDITIONED: f64 = 1e6;

/// Which way a fit went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    Cholesky,
    /// linfa's, of the standardised columns.
    Qr,
    /// linfa's, of the matrix as it is.
    Linfa,
}

/// `y ≈ intercept + x · coefficients`.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    pub intercept: f64,
    /// One for each column, in the target's unit for each of the feature's.
    pub coefficients: Array1<f64>,
    pub solver: Solver,
    /// Columns that are constant or a combination of those before them; their coefficients are 0.
    pub aliased: Vec<usize>,
}

/// Why there is no fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    #[error("{rows} rows are too few for {features} features: at least {needed} are needed")]
    TooFew { rows: usize, features: usize, needed: usize },
    #[error("a feature or the truth is no finite number")]
    NotFinite,
    #[error("the least squares could not be solved: {0}")]
    Unsolved(String),
}

impl Solution {
    /// A forecast for each row of the features (rows × p, none missing).
    pub fn predict(&self, x: ArrayView2<'_, f64>) -> Array1<f64> {
        x.dot(&self.coefficients) + self.intercept
    }
}

/// Fits features (rows × p, none missing) to the truth (rows), by so many threads.
///
/// # Errors
/// Too few rows, values that are not finite, or a QR that fails.
pub fn fit(x: ArrayView2<'_, f64>, y: ArrayView1<'_, f64>, threads: usize) -> Result<Solution, FitError> {
    check_size(x)?;
    let gram = gram(x, y, threads);
    // A value that is not finite makes a sum that is not.
    if !gram.sums.iter().all(|sum| sum.is_finite()) {
        return Err(FitError::NotFinite);
    }
    let scales = scales(&gram);
    let factor = factor(&gram, &scales);
    let p = x.ncols();
    let kept: Vec<usize> = (0..p).filter(|column| !factor.aliased.contains(column)).collect();
    let (scaled, solver) = if kept.is_empty() || factor.condition() <= WELL_CONDITIONED {
        (factor.solve(&gram, &scales), Solver::Cholesky)
    } else {
        (qr(x, y, &gram, &scales, &kept)?, Solver::Qr)
    };
    let mut coefficients = Array1::zeros(p);
    for (column, value) in kept.iter().zip(&scaled) {
        coefficients[*column] = value / scales[*column];
    }
    let mean = gram.means.slice(ndarray::s![..p]).dot(&coefficients);
    Ok(Solution { intercept: gram.means[p] - mean, coefficients, solver, aliased: factor.aliased })
}

/// The same by linfa alone: a QR decomposition of the matrix with a column of ones.
///
/// # Errors
/// As [`fit`]; also where a column is constant or a combination of others.
pub fn fit_linfa(x: ArrayView2<'_, f64>, y: ArrayView1<'_, f64>) -> Result<Solution, FitError> {
    check_size(x)?;
    if !x.iter().chain(y.iter()).all(|value| value.is_finite()) {
        return Err(FitError::NotFinite);
    }
    let fitted = LinearRegression::new().fit(&DatasetBase::new(x, y));
    let fitted = fitted.map_err(|error| FitError::Unsolved(error.to_string()))?;
    let solution = Solution {
        intercept: fitted.intercept(),
        coefficients: fitted.params().clone(),
        solver: Solver::Linfa,
        aliased: Vec::new(),
    };
    if solution.intercept.is_finite() && solution.coefficients.iter().all(|value| value.is_finite()) {
        Ok(solution)
    } else {
        Err(FitError::Unsolved("a column is constant or a combination of others".to_owned()))
    }
}

fn check_size(x: ArrayView2<'_, f64>) -> Result<(), FitError> {
    let (rows, features) = x.dim();
    at_least(rows, features, features + 1)
}

/// Whether there are as many rows as `needed`.
pub(super) fn at_least(rows: usize, features: usize, needed: usize) -> Result<(), FitError> {
    if rows >= needed { Ok(()) } else { Err(FitError::TooFew { rows, features, needed }) }
}

/// The root of each column's sum of squares; 0 where the column is constant but for rounding.
fn scales(gram: &Gram) -> Array1<f64> {
    let n = gram.rows as f64;
    let of = |j: usize| {
        let rounding = n * (1e-12 * gram.means[j]).powi(2);
        let sum = gram.sums[[j, j]];
        if sum > rounding { sum.sqrt() } else { 0.0 }
    };
    (0..gram.means.len()).map(of).collect()
}

/// Cholesky's factor of the correlations of the columns that are kept.
struct Factor {
    /// Lower triangle, kept × kept.
    lower: Array2<f64>,
    correlations: Array2<f64>,
    kept: Vec<usize>,
    aliased: Vec<usize>,
}

/// Row by row; a column whose pivot vanishes is left out as if it had not been there.
fn factor(gram: &Gram, scales: &Array1<f64>) -> Factor {
    let p = gram.means.len() - 1;
    let correlation = |i: usize, j: usize| gram.sums[[i, j]] / (scales[i] * scales[j]);
    let (mut kept, mut aliased): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut lower = Array2::<f64>::zeros((p, p));
    for column in 0..p {
        let at = kept.len();
        if scales[column] == 0.0 {
            aliased.push(column);
            continue;
        }
        for (j, other) in kept.iter().enumerate() {
            let known: f64 = (0..j).map(|k| lower[[at, k]] * lower[[j, k]]).sum();
            lower[[at, j]] = (correlation(column, *other) - known) / lower[[j, j]];
        }
        let pivot = 1.0 - (0..at).map(|k| lower[[at, k]].powi(2)).sum::<f64>();
        if pivot > ALIASED {
            lower[[at, at]] = pivot.sqrt();
            kept.push(column);
        } else {
            (0..at).for_each(|k| lower[[at, k]] = 0.0);
            aliased.push(column);
        }
    }
    let size = kept.len();
    let lower = lower.slice(ndarray::s![..size, ..size]).to_owned();
    let correlations = Array2::from_shape_fn((size, size), |(i, j)| correlation(kept[i], kept[j]));
    Factor { lower, correlations, kept, aliased }
}

impl Factor {
    /// The condition of the correlations in the 1-norm, by their inverse.
    fn condition(&self) -> f64 {
        let size = self.kept.len();
        let norm = |column: ArrayView1<'_, f64>| column.iter().map(|value| value.abs()).sum::<f64>();
        let of = self.correlations.axis_iter(Axis(1)).map(norm).fold(0.0, f64::max);
        let inverse = (0..size).map(|j| {
            let mut unit = Array1::zeros(size);
            unit[j] = 1.0;
            norm(self.substitute(unit).view())
        });
        of * inverse.fold(0.0, f64::max)
    }

    /// Coefficients of the scaled columns that are kept.
    fn solve(&self, gram: &Gram, scales: &Array1<f64>) -> Array1<f64> {
        let truth = gram.means.len() - 1;
        self.substitute(self.kept.iter().map(|column| gram.sums[[*column, truth]] / scales[*column]).collect())
    }

    /// Solves `L Lᵀ b = right`.
    fn substitute(&self, mut right: Array1<f64>) -> Array1<f64> {
        let (lower, size) = (&self.lower, self.kept.len());
        for i in 0..size {
            let known: f64 = (0..i).map(|k| lower[[i, k]] * right[k]).sum();
            right[i] = (right[i] - known) / lower[[i, i]];
        }
        for i in (0..size).rev() {
            let known: f64 = (i + 1..size).map(|k| lower[[k, i]] * right[k]).sum();
            right[i] = (right[i] - known) / lower[[i, i]];
        }
        right
    }
}

/// Coefficients of the standardised columns that are kept, by linfa's QR.
fn qr(
    x: ArrayView2<'_, f64>,
    y: ArrayView1<'_, f64>,
    gram: &Gram,
    scales: &Array1<f64>,
    kept: &[usize],
) -> Result<Array1<f64>, FitError> {
    let truth = gram.means.len() - 1;
    let scaled = Array2::from_shape_fn((x.nrows(), kept.len()), |(row, j)| {
        (x[[row, kept[j]]] - gram.means[kept[j]]) / scales[kept[j]]
    });
    let centred = y.mapv(|value| value - gram.means[truth]);
    let model = LinearRegression::new().with_intercept(false).fit(&DatasetBase::new(scaled, centred));
    let solution = model.map_err(|error| FitError::Unsolved(error.to_string()))?.params().clone();
    if solution.iter().all(|value| value.is_finite()) {
        Ok(solution)
    } else {
        Err(FitError::Unsolved("a column is a combination of others".to_owned()))
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
