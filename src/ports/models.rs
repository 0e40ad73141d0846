//! The port of the versions of forecasts' models. Every version is kept; one of a forecast's versions, its champion,
//! forecasts: the one that was promoted last. A promotion, and its taking back, has its line in the audit within the same
//! transaction.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;

use super::WarehouseError;
use crate::core::forecast::model::Range;
use crate::core::forecast::{HorizonScores, ModelVersion};

/// A version without its coefficients, as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelHead {
    pub forecast: String,
    pub version: u64,
    pub trained_at: DateTime<Utc>,
    /// Whether it forecasts.
    pub champion: bool,
    /// None where it never was, or where that was taken back.
    pub promoted_at: Option<DateTime<Utc>>,
    /// What its contest came to, in a sentence.
    pub verdict: String,
    /// Of bief, with its revision.
    pub code_version: String,
    /// SHA-256 of all that the fits saw.
    pub input_hash: String,
    /// The history that it is of.
    pub data: Range,
    pub horizons: Vec<HorizonScores>,
}

/// A whole version.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredModel {
    pub head: ModelHead,
    pub model: ModelVersion,
}

/// Who changes the champion, for the audit.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelChange {
    pub at: DateTime<Utc>,
    /// `daemon.name`.
    pub daemon: String,
    /// The actor, or the command and who runs it.
    pub peer: String,
    /// Why.
    pub reason: String,
}

/// The champion changed, or is what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Promoted {
    pub version: u64,
    /// The champion before; none where it is the first.
    pub before: Option<u64>,
}

/// A connection to where versions are kept.
#[async_trait(?Send)]
pub trait Models {
    /// Keeps a version under the next free number, which it answers and which takes the place of the version's own.
    async fn put(&self, model: &ModelVersion, verdict: &str) -> Result<u64, WarehouseError>;

    /// Versions of a forecast, newest first, at most `limit`; only those below `below` where it is given.
    async fn list(&self, forecast: &str, below: Option<u64>, limit: u64) -> Result<Vec<ModelHead>, WarehouseError>;

    /// None where there is no such version. Fatal where what is stored is no version that this bief can read.
    async fn get(&self, forecast: &str, version: u64) -> Result<Option<StoredModel>, WarehouseError>;

    /// None where no version was ever promoted.
    async fn champion(&self, forecast: &str) -> Result<Option<ModelHead>, WarehouseError>;

    /// Makes a version the champion; none where there is no such version.
    async fn promote(
        &self,
        forecast: &str,
        version: u64,
        change: &ModelChange,
    ) -> Result<Option<Promoted>, WarehouseError>;

    /// Takes the last promotion back: the champion is the one that was promoted before it. None, and nothing changes,
    /// where there is none.
    async fn rollback(&self, forecast: &str, change: &ModelChange) -> Result<Option<Promoted>, WarehouseError>;
}

/// How an actor or a command opens it, on its own thread.
pub type OpenModels = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn Models>, WarehouseError>> + Send + Sync>;
