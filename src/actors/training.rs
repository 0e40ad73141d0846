//! One training of a forecast, by a daemon or a command: the history is read page by page, the fit and its contest run on a
//! thread apart, the version is kept whatever they come to, and promoted only by the contest's verdict.

use chrono::{DateTime, Utc};

use super::history;
use crate::core::forecast::{ModelVersion, Panel, Spec, TrainError, Training, Verdict, contest, train};
use crate::ports::models::{ModelChange, Models, Promoted};
use crate::ports::{Cache, CacheError, WarehouseError};

/// Of bief.
pub const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");

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
    /// Whether the fit runs at the lowest priority.
    pub yielding: bool,
    pub fit: Fit,
    /// For the audit.
    pub daemon: &'o str,
    pub peer: &'o str,
}

/// What a training came to.
#[derive(Debug, Clone)]
pub struct TrainedVersion {
    /// With the number that it is kept under.
    pub model: ModelVersion,
    pub verdict: Verdict,
    pub promoted: Option<Promoted>,
    /// Documents that were left out.
    pub ignored: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The history does not suffice.
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error("the thread that fits ended before it answered")]
    Thread,
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
}

/// The start of the bucket that a moment falls into: all that starts before has ended.
pub fn first_open(spec: &Spec, now: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(spec.width.start_of(now.timestamp_micros())).unwrap_or(now)
}

/// Trains by all documents of buckets that have ended.
///
/// # Errors
/// Nothing was kept.
pub async fn train_once(
    order: &TrainingOrder<'_>,
    cache: &mut dyn Cache,
    models: &dyn Models,
) -> Result<TrainedVersion, TrainingError> {
    let TrainingOrder { spec, at, threads, yielding, fit, daemon, peer } = *order;
    let champion = match models.champion(&spec.name).await? {
        None => None,
        Some(head) => match models.get(&spec.name, head.version).await {
            Ok(stored) => stored.map(|stored| stored.model),
            Err(WarehouseError::Fatal { what }) => {
                tracing::warn!(forecast = spec.name, cause = what, "the champion takes no part in the contest");
                None
            }
            Err(error) => return Err(error.into()),
        },
    };
    let panel = history::read(cache, spec, (None, Some(first_open(spec, at))), None).await?;
    let ignored = panel.ignored();
    let owned = spec.clone();
    // A pool's thread, not the actor's: what the actor renews meanwhile must go on.
    let fitted = tokio::task::spawn_blocking(move || {
        if yielding {
            yield_to_others();
        }
        let training = Training { version: 0, at, code_version: CODE_VERSION, threads };
        let model = fit(&owned, &panel, &training)?;
        let verdict = contest(&owned, &panel, champion.as_ref(), &model);
        Ok::<_, TrainError>((model, verdict))
    });
    let (model, verdict) = fitted.await.map_err(|_| TrainingError::Thread)??;
    let version = models.put(&model, &verdict.reason).await?;
    let model = ModelVersion { version, ..model };
    let promoted = if verdict.promote {
        let change =
            ModelChange { at, daemon: daemon.to_owned(), peer: peer.to_owned(), reason: verdict.reason.clone() };
        models.promote(&spec.name, version, &change).await?
    } else {
        None
    };
    Ok(TrainedVersion { model, verdict, promoted, ignored })
}

/// The thread gets what nobody else wants of the processors. Its runtime's other work of this kind is opening connections,
/// which can wait.
fn yield_to_others() {
    const LAST: i32 = 19;
    // On Linux it is the thread's alone; elsewhere it would be the process's.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, LAST)
    {
        tracing::debug!(%error, "the training runs at the daemon's own priority");
    }
}

/// What fits unless a test plants another.
pub const FIT: Fit = train;
