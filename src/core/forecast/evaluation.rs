//! Fits over time: all that was fitted was known when what judges the fit was forecast.

use std::ops::Range as Rows;

use chrono::{DateTime, Duration, Utc};

use super::baselines::{Baseline, forecasts};
use super::interval::{Bands, errors_needed};
use super::linear::{FitError, Solution, at_least, fit};
use super::matrix::{Matrix, filled, means};
use super::model::{Beside, Evaluation, Fit, Fold, Range};
use super::scores::{Score, score};
use super::series::Panel;
use super::spec::Spec;
use super::split::known;

/// Folds of the rolling origin, of one length.
const FOLDS: i32 = 6;
/// Rows for each feature, so that a fit to one row more than it has features, exact and worthless, is none.
const ROWS_OF_A_FEATURE: usize = 2;

/// What an evaluation is over.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub spec: &'a Spec,
    pub panel: &'a Panel,
    /// All rows of the horizon.
    pub matrix: &'a Matrix,
    /// In buckets.
    pub horizon: usize,
    pub threads: usize,
}

impl Table<'_> {
    /// Fits the rows of buckets before `end`, and measures its interval by a rolling origin over the last `stretch` of them:
    /// each of [`FOLDS`] folds is forecast by a fit to all that was known before it. Where the history is too short for that,
    /// by the fit's own errors, which are too small; where those are too few too, there is no interval.
    ///
    /// # Errors
    /// Too few rows, or a fit that fails.
    pub fn fit(&self, end: DateTime<Utc>, stretch: Duration) -> Result<Fit, FitError> {
        let matrix = self.matrix;
        let rows = matrix.before(end);
        let (solution, fills) = self.solve(0..rows)?;
        let mut fit = Fit {
            intercept: solution.intercept,
            coefficients: solution.coefficients.to_vec(),
            fills,
            rows,
            range: self.range(0..rows),
            solver: solution.solver,
            aliased: solution.aliased.iter().map(|column| matrix.names[*column].clone()).collect(),
            bands: Bands::of(&[], self.spec.interval),
            folds: Vec::new(),
        };
        let mut pairs = Vec::new();
        for fold in 0..FOLDS {
            let start = end - stretch * (FOLDS - fold) / FOLDS;
            let part = matrix.before(start)..matrix.before(end - stretch * (FOLDS - fold - 1) / FOLDS);
            if let Some((scored, errors)) = self.fold(self.known(start), part) {
                fit.folds.push(scored);
                pairs.extend(errors);
            }
        }
        if pairs.len() < errors_needed(self.spec.interval) {
            pairs = self.pairs(&fit, 0..rows);
        }
        fit.bands = Bands::of(&pairs, self.spec.interval);
        Ok(fit)
    }

    /// How many rows, from the first, a fit may see that is judged by the forecasts of buckets from `start` on.
    fn known(&self, start: DateTime<Utc>) -> usize {
        self.matrix.before(known(self.spec, self.horizon, start))
    }

    /// A fold, forecast by a fit to the first `training` rows; `None` where either is too short.
    fn fold(&self, training: usize, rows: Rows<usize>) -> Option<(Fold, Vec<(f64, f64)>)> {
        let (solution, fills) = self.solve(0..training).ok()?;
        let x = self.matrix.x.slice(ndarray::s![rows.clone(), ..]);
        let forecasts = solution.predict(filled(x, &fills).view());
        let truth = self.matrix.y.slice(ndarray::s![rows.clone()]);
        let score = score(truth.iter().copied().zip(forecasts.iter().copied()), self.scale(training))?;
        let pairs = forecasts.iter().zip(truth).map(|(forecast, truth)| (*forecast, truth - forecast)).collect();
        Some((Fold { range: self.range(rows), score }, pairs))
    }

    /// Missing features take their means over these rows.
    fn solve(&self, rows: Rows<usize>) -> Result<(Solution, Vec<f64>), FitError> {
        let x = self.matrix.x.slice(ndarray::s![rows.clone(), ..]);
        let features = x.ncols();
        at_least(rows.len(), features, ROWS_OF_A_FEATURE * features)?;
        let fills = means(x);
        let y = self.matrix.y.slice(ndarray::s![rows]);
        Ok((fit(filled(x, &fills).view(), y, self.threads)?, fills))
    }

    /// Forecasts of rows, each with its error.
    fn pairs(&self, fit: &Fit, rows: Rows<usize>) -> Vec<(f64, f64)> {
        let of = |row: usize| {
            let features = self.matrix.x.row(row);
            let forecast = features.as_slice().map_or(f64::NAN, |features| fit.forecast(features));
            (forecast, self.matrix.y[row] - forecast)
        };
        rows.map(of).collect()
    }

    /// The buckets of rows.
    fn range(&self, rows: Rows<usize>) -> Range {
        let first = self.matrix.at.get(rows.start).copied().unwrap_or_default();
        let last = rows.end.checked_sub(1).and_then(|last| self.matrix.at.get(last)).copied().unwrap_or(first);
        Range { from: first, to: last + Duration::seconds(self.spec.seconds()) }
    }

    /// The MAE of persistence over the first rows: what MASE is relative to.
    fn scale(&self, training: usize) -> Option<f64> {
        let naive = forecasts(Baseline::Persistence, self.spec, self.panel, (self.matrix, training), self.horizon);
        let known = self.matrix.y.iter().copied().zip(naive).take(training).filter(|(_, naive)| !naive.is_nan());
        score(known, None).map(|score| score.mae)
    }

    /// Judges a fit by the rows of buckets from `from`. `None` where there are none.
    pub fn judge(&self, fit: &Fit, from: DateTime<Utc>) -> Option<Evaluation> {
        let matrix = self.matrix;
        let rows = matrix.before(from)..matrix.rows();
        let training = self.known(from);
        let scale = self.scale(training);
        let forecast: Vec<f64> = self.pairs(fit, rows.clone()).into_iter().map(|(forecast, _)| forecast).collect();
        let truth = || rows.clone().map(|row| matrix.y[row]);
        let all = score(truth().zip(forecast.iter().copied()), scale)?;
        let beside = Baseline::ALL.iter().filter_map(|baseline| {
            let naive = forecasts(*baseline, self.spec, self.panel, (matrix, training), self.horizon);
            let naive = &naive[rows.clone()];
            let among = |of: &[f64]| -> Option<Score> {
                let both = truth().zip(of.iter().copied()).zip(naive).filter(|(_, naive)| !naive.is_nan());
                score(both.map(|(pair, _)| pair), scale)
            };
            Some(Beside { baseline: *baseline, score: among(naive)?, model: among(&forecast)? })
        });
        let beside = beside.collect();
        let (coverage, width) = held(&fit.bands, truth().zip(forecast.iter().copied())).unzip();
        Some(Evaluation { range: self.range(rows), score: all, beside, coverage, width })
    }
}

/// The share of truths within the intervals of their forecasts, and how wide these are on average; `None` where there is none.
fn held(bands: &Bands, pairs: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    let (mut within, mut width, mut n) = (0.0, 0.0, 0.0);
    for (truth, forecast) in pairs {
        let (low, high) = bands.around(forecast)?;
        within += f64::from(u8::from(low <= truth && truth <= high));
        width += high - low;
        n += 1.0;
    }
    Some((within / n, width / n))
}
