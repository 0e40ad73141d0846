//! A version of a forecast's model: all that is kept of a training, and how it forecasts. It names its features, and where
//! they, or the share of its intervals, are no longer those of the configuration it is refused, never read as if they were.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::baselines::Baseline;
use super::features::{feature_names, row};
use super::interval::Bands;
use super::linear::Solver;
use super::scores::Score;
use super::series::Panel;
use super::spec::{Horizon, Spec};
use crate::core::document::Fields;

/// One training of one forecast. Its JSON is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// `Spec::name`.
    pub forecast: String,
    /// From 1, ascending for each forecast.
    pub version: u64,
    pub trained_at: DateTime<Utc>,
    /// Of bief, with its revision.
    pub code_version: String,
    /// SHA-256 of all that the fits saw, in hexadecimal.
    pub input_hash: String,
    /// The history that it is of.
    pub data: Range,
    /// What it forecasts: the aggregate's name and width, and the value; none of it is in the features' names.
    pub of: String,
    /// Labels of the keys that it knows, in the order of its one-hot columns.
    pub keys: Vec<String>,
    pub horizons: Vec<HorizonModel>,
}

/// A stretch of time, its end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// The model of one horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HorizonModel {
    /// As in the configuration, such as `24h`.
    pub horizon: String,
    pub buckets: usize,
    /// Names of the features, in the order of the coefficients.
    pub features: Vec<String>,
    /// Fitted to all of the history; what forecasts.
    pub serving: Fit,
    /// Fitted to what is known when the first bucket of the holdout is forecast; what is judged.
    pub judged: Fit,
    pub holdout: Evaluation,
}

/// A fit, and what it was fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    pub intercept: f64,
    /// One for each feature, in the target's unit for each of the feature's.
    pub coefficients: Vec<f64>,
    /// What stands for a missing feature: its mean over the rows of the fit.
    pub fills: Vec<f64>,
    pub rows: usize,
    /// Buckets that are forecast by its rows.
    pub range: Range,
    pub solver: Solver,
    /// Features that are constant or a combination of others; their coefficients are 0.
    pub aliased: Vec<String>,
    pub bands: Bands,
    /// The rolling origin that the bands' errors are of; each fold was forecast by a fit to what was known before
    /// it.
    pub folds: Vec<Fold>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    pub range: Range,
    pub score: Score,
}

/// Forecasts of a stretch that the fit did not see, beside the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub range: Range,
    /// Over all rows.
    pub score: Score,
    pub beside: Vec<Beside>,
    /// Share of the truth within the interval; none where there is no interval.
    pub coverage: Option<f64>,
    /// Mean width of the interval, in the target's unit.
    pub width: Option<f64>,
}

/// A baseline and the model over the rows for which both have a forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    pub baseline: Baseline,
    pub score: Score,
    pub model: Score,
}

/// A forecast of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub key: Fields,
    /// Where the bucket starts that is forecast.
    pub at: DateTime<Utc>,
    /// In the target's unit.
    pub forecast: f64,
    /// The ends of its interval, in the same unit; none where the version's errors were too few to tell.
    pub interval: Option<(f64, f64)>,
}

/// Why a version can't forecast what the configuration asks for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("version {version} is of the forecast `{of}`, not of `{asked}`")]
    Other { version: u64, of: String, asked: String },
    #[error("version {version} forecasts {of}, and the configuration asks for {asked}: train a new one")]
    Target { version: u64, of: String, asked: String },
    #[error("version {version} has no horizon {horizon}: train a new one")]
    NoHorizon { version: u64, horizon: String },
    #[error("the features of version {version} are not those of the configuration ({difference}): train a new one")]
    Features { version: u64, difference: String },
    #[error("the intervals of version {version} are for {share} of the truth, not for {asked}: train a new one")]
    Interval { version: u64, share: f64, asked: f64 },
    #[error(
        "version {version} has {coefficients} coefficients and {fills} means for {features} features: it was changed"
    )]
    Broken { version: u64, features: usize, coefficients: usize, fills: usize },
}

impl ModelVersion {
    /// Whether it is of this specification, whole and with the very features and share of its intervals.
    ///
    /// # Errors
    /// What is different.
    pub fn check(&self, spec: &Spec) -> Result<(), Refused> {
        spec.horizons.iter().try_for_each(|horizon| self.horizon(spec, horizon).map(|_| ()))
    }

    /// The model of a horizon.
    ///
    /// # Errors
    /// It has none, or its features or its intervals are others.
    pub fn horizon(&self, spec: &Spec, horizon: &Horizon) -> Result<&HorizonModel, Refused> {
        let version = self.version;
        if self.forecast != spec.name {
            return Err(Refused::Other { version, of: self.forecast.clone(), asked: spec.name.clone() });
        }
        if self.of != spec.of() {
            return Err(Refused::Target { version, of: self.of.clone(), asked: spec.of() });
        }
        let find = |model: &&HorizonModel| model.buckets == horizon.buckets && model.horizon == horizon.text;
        let Some(model) = self.horizons.iter().find(find) else {
            return Err(Refused::NoHorizon { version, horizon: horizon.text.clone() });
        };
        let wanted = feature_names(spec, &self.keys);
        if wanted != model.features {
            return Err(Refused::Features { version, difference: difference(&model.features, &wanted) });
        }
        for fit in [&model.serving, &model.judged] {
            let (features, coefficients, fills) = (wanted.len(), fit.coefficients.len(), fit.fills.len());
            if coefficients != features || fills != features {
                return Err(Refused::Broken { version, features, coefficients, fills });
            }
            let (share, asked) = (fit.bands.share, spec.interval);
            if share.total_cmp(&asked).is_ne() {
                return Err(Refused::Interval { version, share, asked });
            }
        }
        Ok(model)
    }
}

/// What the one list has and the other lacks, or that only their order differs.
fn difference(model: &[String], configured: &[String]) -> String {
    let lacks = |of: &[String], other: &[String]| {
        of.iter().filter(|name| !other.contains(name)).map(|name| format!("`{name}`")).collect::<Vec<_>>()
    };
    let (gone, new) = (lacks(model, configured), lacks(configured, model));
    match (gone.is_empty(), new.is_empty()) {
        (true, true) => "they are in another order".to_owned(),
        (false, true) => format!("it also has {}", gone.join(", ")),
        (true, false) => format!("it lacks {}", new.join(", ")),
        (false, false) => format!("it has {}, and lacks {}", gone.join(", "), new.join(", ")),
    }
}

impl Fit {
    /// The forecast for a row of features, of which missing ones are filled.
    pub fn forecast(&self, features: &[f64]) -> f64 {
        let terms = features.iter().zip(&self.fills).zip(&self.coefficients);
        terms.fold(self.intercept, |sum, ((value, fill), coefficient)| {
            sum + coefficient * if value.is_nan() { *fill } else { *value }
        })
    }
}

/// Forecasts of all keys of the panel, made when the bucket that starts at `last_known` has ended and nothing is known of
/// later ones. A panel of `Spec::history` buckets up to that one is enough; build it with `until` that bucket, as its
/// documents may be missing.
///
/// # Errors
/// The version is not one of this specification.
pub fn predict(
    model: &ModelVersion,
    spec: &Spec,
    panel: &Panel,
    horizon: &Horizon,
    last_known: DateTime<Utc>,
) -> Result<Vec<Prediction>, Refused> {
    let of = model.horizon(spec, horizon)?;
    let Some(t) = panel.index(last_known) else { return Ok(Vec::new()) };
    let mut features = vec![f64::NAN; of.features.len()];
    let predictions = panel.series().iter().enumerate().map(|(key, series)| {
        row(spec, panel, &model.keys, of.buckets, (key, t), &mut features);
        let forecast = of.serving.forecast(&features);
        let interval = of.serving.bands.around(forecast);
        Prediction { key: series.key.clone(), at: panel.at(t + of.buckets), forecast, interval }
    });
    Ok(predictions.collect())
}
