//! One training: for each horizon a fit to what is known before the holdout, judged by the holdout, and a fit to all, which
//! forecasts.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::evaluation::Table;
use super::features::matrix;
use super::linear::FitError;
use super::model::{HorizonModel, ModelVersion, Range};
use super::series::Panel;
use super::size::TooLarge;
use super::spec::Spec;
use super::split::{Split, known, stretch};

/// What a training is told beside the history.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    pub version: u64,
    /// Now.
    pub at: DateTime<Utc>,
    /// Of bief, with its revision.
    pub code_version: &'a str,
    /// Threads that sum the Gram matrix; 1 beside a stream.
    pub threads: usize,
}

/// Why there is no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    #[error("`{aggregate}` has no document with a number as `{target}`")]
    NoTruth { aggregate: String, target: String },
    #[error("at {horizon} ahead, {what}: {source}")]
    Fit { horizon: String, what: &'static str, source: FitError },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("at {horizon} ahead there is no row in the holdout, which begins at {from}")]
    NoHoldout { horizon: String, from: DateTime<Utc> },
}

/// Trains all horizons by the panel, whose buckets are all known.
///
/// # Errors
/// Too short a history, or none, or more of it than there may be memory for.
pub fn train(spec: &Spec, panel: &Panel, training: &Training<'_>) -> Result<ModelVersion, TrainError> {
    let no_truth = || TrainError::NoTruth { aggregate: spec.aggregate.clone(), target: spec.target.clone() };
    let Split { from, end } = Split::of(spec, panel).ok_or_else(no_truth)?;
    let stretch = stretch(spec);
    let keys = panel.labels();
    let (mut horizons, mut hash) = (Vec::with_capacity(spec.horizons.len()), Sha256::new());
    for horizon in &spec.horizons {
        let failed = |what| {
            let horizon = horizon.text.clone();
            move |source| TrainError::Fit { horizon, what, source }
        };
        let matrix = matrix(spec, panel, &keys, horizon.buckets, 0..panel.buckets())?;
        let table = Table { spec, panel, matrix: &matrix, horizon: horizon.buckets, threads: training.threads };
        let judged =
            table.fit(known(spec, horizon.buckets, from), stretch).map_err(failed("the history before the holdout"))?;
        let no_holdout = || TrainError::NoHoldout { horizon: horizon.text.clone(), from };
        let holdout = table.judge(&judged, from).ok_or_else(no_holdout)?;
        let serving = table.fit(end, stretch).map_err(failed("the whole history"))?;
        hash.update(horizon.text.as_bytes());
        hash.update(matrix.hash().as_bytes());
        horizons.push(HorizonModel {
            horizon: horizon.text.clone(),
            buckets: horizon.buckets,
            features: matrix.names,
            serving,
            judged,
            holdout,
        });
    }
    Ok(ModelVersion {
        of: spec.of(),
        forecast: spec.name.clone(),
        version: training.version,
        trained_at: training.at,
        code_version: training.code_version.to_owned(),
        input_hash: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        data: Range { from: panel.start(), to: end },
        keys,
        horizons,
    })
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
