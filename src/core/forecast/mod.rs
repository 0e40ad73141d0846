//! Forecasts of an aggregate: regular series out of documents, features that know nothing of the future, a linear fit,
//! and figures that say whether it beats the naive ones. Pure: no I/O, no clock, no randomness. docs/forecasts.md has the
//! formulas and what each of them is for.
//!
//! The parts, in the order in which they are used: [`spec`] what is forecast and from what · [`series`] the grid of
//! buckets · [`features`] and [`matrix`] the table that is fitted · [`size`] whether it fits into memory · [`linear`] the
//! fit, on [`gram`] · [`baselines`] what it has to beat · [`scores`] by which measure · [`interval`] how far off it may be ·
//! [`split`], [`evaluation`] and [`train`] all of that over time · [`model`] what is kept · [`contest`] which version
//! forecasts · [`drift`] when that is no longer true.

pub mod baselines;
pub mod contest;
pub mod drift;
pub mod evaluation;
pub mod features;
pub mod gram;
pub mod interval;
pub mod linear;
pub mod matrix;
pub mod model;
pub mod scores;
pub mod series;
pub mod size;
pub mod spec;
pub mod split;
pub mod summary;
#[cfg(test)]
pub(crate) mod testing;
pub mod train;

pub use contest::{Verdict, contest};
pub use drift::{DriftState, drift};
pub use features::{feature_names, matrix};
pub use matrix::Matrix;
pub use model::{HorizonModel, ModelVersion, Prediction, Refused, predict};
pub use scores::Score;
pub use series::{Panel, PanelBuilder};
pub use size::TooLarge;
pub use spec::{Calendar, Covariate, Drift, Horizon, Rolling, Spec, Statistic};
pub use split::Split;
pub use summary::HorizonScores;
pub use train::{TrainError, Training, train};
