//! One training of a forecast, by a daemon or a command: the history is read page by page, the fit and its contest run on a
//! thread apart, the version is kept whatever they come to, and promoted only by the contest's verdict.

use std::time::Instant;

use chrono::{DateTime, Utc};

use super::history::{self, HistoryError};
use crate::core::build::code_version;
use crate::core::forecast::{ModelVersion, Panel, Spec, TrainError, Training, Verdict, contest, train};
use crate::ports::models::{ModelChange, Models, Promoted};
use crate::ports::{Cache, CacheError, WarehouseError};

/// How a panel becomes a version; [`train`] but in tests.
pub type Fit = fn(&Spec, &Panel, &Training<'_>) -> Result<ModelVersion, TrainError>;

/// Who trains, and how.
#[derive(Debug, Clone, Copy)]
pub struct TrainingOrder<'o> {
    pub spec: &'o Spec,
    /// Now.
    pub at: DateTime<Utc>,
    /// Threads of the fit; 1 beside a stream.
    pub threads: usize,
    pub fit: Fit,
    /// Whether the version is kept, and promoted where its contest says so. Otherwise versions are only read.
    pub keep: bool,
    /// For the audit.
    pub daemon: &'o str,
    pub peer: &'o str,
}

/// What a training came to.
#[derive(Debug, Clone)]
pub struct TrainedVersion {
    /// With the number that it is kept under; 0 where it is not kept.
    pub model: ModelVersion,
    pub verdict: Verdict,
    pub promoted: Option<Promoted>,
    /// Documents that were left out.
    pub ignored: u64,
    pub read_seconds: f64,
    /// The contest included.
    pub fit_seconds: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The history does not suffice, or is too much.
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error("the thread that fits ended before it answered")]
    Thread,
}

impl From<HistoryError> for TrainingError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Cache(error) => Self::Cache(error),
            HistoryError::TooLarge(error) => Self::Train(error.into()),
        }
    }
}

impl TrainingError {
    /// Whether the same training may go better soon.
    pub fn passes(&self) -> bool {
        match self {
            Self::Cache(error) => matches!(error, CacheError::Transient { .. }),
            Self::Warehouse(error) => !matches!(error, WarehouseError::Fatal { .. }),
            Self::Train(_) | Self::Thread => false,
        }
    }

    /// Whether it is the history that does not suffice, or not yet.
    pub fn is_too_short(&self) -> bool {
        matches!(self, Self::Train(error) if !matches!(error, TrainError::TooLarge(_)))
    }
}

/// Trains by all documents of buckets that have ended. Without a place for versions there is no champion, and nothing is
/// kept.
///
/// # Errors
/// Nothing was kept.
pub async fn train_once(
    order: &TrainingOrder<'_>,
    cache: &mut dyn Cache,
    models: Option<&dyn Models>,
) -> Result<TrainedVersion, TrainingError> {
    let TrainingOrder { spec, at, threads, fit, keep, daemon, peer } = *order;
    let champion = match models {
        Some(models) => champion(spec, models).await?,
        None => None,
    };
    let began = Instant::now();
    let panel = history::read_until(cache, spec, at).await?;
    let ignored = panel.ignored();
    let (read_seconds, began) = (began.elapsed().as_secs_f64(), Instant::now());
    let owned = spec.clone();
    // A pool's thread, not the actor's: what the actor renews meanwhile must go on.
    let fitted = tokio::task::spawn_blocking(move || {
        let training = Training { version: 0, at, code_version: &code_version(), threads };
        let model = fit(&owned, &panel, &training)?;
        let verdict = contest(&owned, &panel, champion.as_ref(), &model);
        Ok::<_, TrainError>((model, verdict))
    });
    let (model, verdict) = fitted.await.map_err(|_| TrainingError::Thread)??;
    let fit_seconds = began.elapsed().as_secs_f64();
    let mut trained = TrainedVersion { model, verdict, promoted: None, ignored, read_seconds, fit_seconds };
    let Some(models) = models.filter(|_| keep) else { return Ok(trained) };
    trained.model.version = models.put(&trained.model, &trained.verdict.reason).await?;
    if trained.verdict.promote {
        let (daemon, peer) = (daemon.to_owned(), peer.to_owned());
        let change = ModelChange { at, daemon, peer, reason: trained.verdict.reason.clone() };
        trained.promoted = models.promote(&spec.name, trained.model.version, &change).await?;
    }
    Ok(trained)
}

async fn champion(spec: &Spec, models: &dyn Models) -> Result<Option<ModelVersion>, WarehouseError> {
    let Some(head) = models.champion(&spec.name).await? else { return Ok(None) };
    match models.get(&spec.name, head.version).await {
        Ok(stored) => Ok(stored.map(|stored| stored.model)),
        Err(WarehouseError::Fatal { what }) => {
            tracing::warn!(forecast = spec.name, cause = what, "the champion takes no part in the contest");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What fits unless a test plants another.
pub const FIT: Fit = train;
