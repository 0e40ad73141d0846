//! Trains one forecast's model at the times of its schedule, and before where live errors show that it drifted. Of many
//! daemons one does it, by a lease; every version is kept, and promoted only by its contest. Apart from every stream, and
//! must never delay one: its threads have the lowest priority, and a daemon's trainers work one after another, with a rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::due::LONGEST_SLEEP;
use super::lease::{Held, while_held};
use super::training::{Fit, TrainedVersion, TrainingError, TrainingOrder, train_once};
use super::turns::Turns;
use crate::core::forecast::Spec;
use crate::core::schedule::Schedule;
use crate::messages::{Forecasts, Freshness, TrainingWanted};
use crate::metrics::ForecastMetrics;
use crate::ports::{Clock, Lease, OpenCache, OpenLeases, OpenModels, WarehouseError};
use crate::runtime::{Backoff, ExitGuard, Lone, Work};

/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// While there is no version at all: how often it is tried whether the history suffices.
const FIRST_EVERY: TimeDelta = TimeDelta::minutes(1);
/// Buckets that may wait to be computed then: those that are being filled. A history that is only half there makes no
/// model that would be worth anything until the schedule's time.
const FIRST_PENDING: u64 = 5;
/// A champion that can't forecast is trained anew no more often.
const REFUSED_EVERY: TimeDelta = TimeDelta::minutes(10);
/// Of early trainings for drift the next waits until so many buckets have passed: one that came to nothing would come to
/// nothing again.
const BUCKETS_BETWEEN: i32 = 24;

/// What a trainer is made of.
pub struct TrainerSettings {
    pub spec: Spec,
    /// Never by itself where it is off; early trainings stay.
    pub schedule: Option<Schedule>,
    /// `daemon.name`, for the audit.
    pub daemon: String,
    /// Tells this daemon from others.
    pub owner: String,
    /// How long the lease lasts without being renewed.
    pub lease: Duration,
    pub open_cache: OpenCache,
    pub open_models: OpenModels,
    pub open_leases: OpenLeases,
    pub clock: Arc<dyn Clock>,
    pub forecasts: Forecasts,
    /// Of the aggregates.
    pub freshness: Freshness,
    pub metrics: ForecastMetrics,
    pub fit: Fit,
    /// Of all trainers of the daemon.
    pub turns: Arc<Turns>,
}

pub type Trainer = Lone<TrainerDesk>;

impl Trainer {
    pub fn new(settings: TrainerSettings, guard: ExitGuard) -> Self {
        Self::of(TrainerDesk::new(settings), guard)
    }
}

#[async_trait(?Send)]
impl Work for TrainerDesk {
    async fn work(&mut self) {
        self.keep_time().await;
    }

    async fn give_back(&mut self) {
        let _ = self.give_lease_back().await;
    }
}

/// What begins a training.
#[derive(Debug, Clone)]
enum Cause {
    Due(DateTime<Utc>),
    Early(TrainingWanted),
    First,
}

impl Cause {
    /// As label of a metric.
    fn label(&self) -> &'static str {
        match self {
            Self::Due(_) => "schedule",
            Self::Early(_) => "early",
            Self::First => "first",
        }
    }
}

/// What became of it.
enum Turn {
    Done,
    /// It failed, and would again by the same documents.
    Failed,
    /// Another daemon is at it, and may be for so long without a word.
    Another(Duration),
}

/// What the actor does, a step at a time: a test calls the steps by a clock of its own.
pub struct TrainerDesk {
    settings: TrainerSettings,
    lease: String,
    /// The next time of the schedule that nobody is known to have trained for.
    due: Option<DateTime<Utc>>,
    /// When it is tried again whether there is a first version; none once there is one.
    first: Option<DateTime<Utc>>,
}

impl TrainerDesk {
    pub fn new(settings: TrainerSettings) -> Self {
        let now = settings.clock.now();
        let due = settings.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
        let first = settings.schedule.is_some().then_some(now);
        Self { lease: format!("train-{}", settings.spec.name), settings, due, first }
    }

    /// For as long as the daemon lives.
    async fn keep_time(&mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
        loop {
            let wait = match self.step().await {
                Ok(wait) => {
                    backoff.reset();
                    wait
                }
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::warn!(
                        forecast = self.settings.spec.name,
                        cause = %error,
                        wait_seconds = wait.as_secs_f64(),
                        "the forecast's model was not trained; it is tried again"
                    );
                    tokio::time::sleep(wait).await;
                    continue;
                }
            };
            let wanted = self.settings.forecasts.training_wanted(&self.settings.spec.name);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = wanted => {}
            }
        }
    }

    /// Does what is due, and answers how long nothing is.
    ///
    /// # Errors
    /// Those that pass; what was due still is.
    pub async fn step(&mut self) -> Result<Duration, TrainingError> {
        // Before any lease: while this one waits another daemon may train.
        let turns = Arc::clone(&self.settings.turns);
        let _turn = turns.take().await;
        let now = self.settings.clock.now();
        if let Some(due) = self.due
            && due <= now
        {
            match self.turn(&Cause::Due(due)).await? {
                Turn::Done | Turn::Failed => {
                    let next = |schedule: &Schedule| schedule.next_after(due.max(self.settings.clock.now()));
                    self.due = self.settings.schedule.as_ref().and_then(next);
                    self.first = None;
                }
                // It may end sooner than its lease.
                Turn::Another(left) => return Ok(left.clamp(RETRY_FIRST, self.settings.lease / 3)),
            }
        }
        if let Some(wanted) = self.settings.forecasts.take_wanted(&self.settings.spec.name)
            && let Err(error) = self.early(&wanted, now).await
        {
            self.settings.forecasts.want_training(&self.settings.spec.name, wanted);
            return Err(error);
        }
        if self.first.is_some_and(|at| at <= now) {
            self.first = match self.newest().await? {
                Some(_) => None,
                // What is too much will not become less: the schedule's time will do.
                None if self.is_computed() && matches!(self.turn(&Cause::First).await?, Turn::Failed) => None,
                None => Some(now + FIRST_EVERY),
            };
        }
        let now = self.settings.clock.now();
        let next = [self.due, self.first].into_iter().flatten().min();
        let left = next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LONGEST_SLEEP);
        Ok(left.clamp(Duration::from_millis(1), LONGEST_SLEEP))
    }

    /// Whether all documents are there that the rows come to, but for a few.
    fn is_computed(&self) -> bool {
        let pending = |name: &&str| self.settings.freshness.of(name).pending_buckets;
        self.settings.spec.aggregates().iter().all(|name| pending(name).is_some_and(|n| n <= FIRST_PENDING))
    }

    /// When the newest version was trained.
    async fn newest(&self) -> Result<Option<DateTime<Utc>>, WarehouseError> {
        let models = (self.settings.open_models)().await?;
        Ok(models.list(&self.settings.spec.name, None, 1).await?.pop().map(|head| head.trained_at))
    }

    /// Trains early, unless that was done a short while ago; where another daemon is at it, that one's version serves all.
    async fn early(&self, wanted: &TrainingWanted, now: DateTime<Utc>) -> Result<(), TrainingError> {
        let settings = &self.settings;
        let rest = match wanted {
            TrainingWanted::Drifted { .. } => TimeDelta::seconds(settings.spec.seconds()) * BUCKETS_BETWEEN,
            TrainingWanted::Refused { .. } => REFUSED_EVERY,
        };
        let leases = (settings.open_leases)().await?;
        // What this lease was last done for outlives the daemon, and all daemons see it.
        let early = format!("early-{}", settings.spec.name);
        let Lease::Ours { done_for } = leases.take(&early, &settings.owner, settings.lease).await? else {
            return Ok(());
        };
        if done_for.is_some_and(|last| last + rest > now) {
            tracing::debug!(forecast = settings.spec.name, %wanted, "it was trained early a short while ago");
            return Ok(leases.give_back(&early, &settings.owner).await?);
        }
        match self.turn(&Cause::Early(wanted.clone())).await {
            Ok(Turn::Done | Turn::Failed) => leases.done(&early, &settings.owner, now).await.map(drop)?,
            Ok(Turn::Another(_)) => leases.give_back(&early, &settings.owner).await?,
            Err(error) => {
                let _ = leases.give_back(&early, &settings.owner).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn turn(&self, cause: &Cause) -> Result<Turn, TrainingError> {
        let settings = &self.settings;
        let leases = (settings.open_leases)().await?;
        let done_for = match leases.take(&self.lease, &settings.owner, settings.lease).await? {
            Lease::Of { left, .. } => return Ok(Turn::Another(left)),
            Lease::Ours { done_for } => done_for,
        };
        if let Cause::Due(due) = cause
            && done_for >= Some(*due)
        {
            leases.give_back(&self.lease, &settings.owner).await?;
            return Ok(Turn::Done);
        }
        if let Cause::Early(wanted) = cause {
            tracing::warn!(forecast = settings.spec.name, why = %wanted, "the forecast's model is trained early");
        }
        let held = Held { name: &self.lease, owner: &settings.owner, lasts: settings.lease };
        let trained = while_held(&*leases, held, self.train(cause)).await;
        let trained = trained.map_err(|what| WarehouseError::Transient { what })?;
        let mut turn = Turn::Done;
        if let Err(error) = trained {
            // A history that has just begun is no failure.
            let begun = matches!(cause, Cause::First) && error.is_too_short();
            settings.metrics.training_failures.inc_by(u64::from(!begun && !error.passes()));
            if error.passes() {
                // Another may have more luck.
                let _ = leases.give_back(&self.lease, &settings.owner).await;
                return Err(error);
            }
            match cause {
                Cause::First if begun => {
                    tracing::debug!(forecast = settings.spec.name, cause = %error, "no model can be trained yet")
                }
                _ => {
                    tracing::error!(forecast = settings.spec.name, cause = %error, "the forecast's model was not trained");
                    turn = Turn::Failed;
                }
            }
        }
        match cause {
            // Where another has taken it over meanwhile, that one puts it down.
            Cause::Due(due) => leases.done(&self.lease, &settings.owner, *due).await.map(drop)?,
            Cause::Early(_) | Cause::First => leases.give_back(&self.lease, &settings.owner).await?,
        }
        Ok(turn)
    }

    async fn train(&self, cause: &Cause) -> Result<(), TrainingError> {
        let settings = &self.settings;
        let began = Instant::now();
        let mut cache = (settings.open_cache)().await?;
        let models = (settings.open_models)().await?;
        let order = TrainingOrder {
            spec: &settings.spec,
            at: settings.clock.now(),
            threads: 1,
            fit: settings.fit,
            keep: true,
            daemon: &settings.daemon,
            peer: "trainer",
        };
        let trained = train_once(&order, cache.as_mut(), Some(&*models)).await?;
        settings.metrics.trained(cause.label(), order.at, began.elapsed().as_secs_f64());
        let TrainedVersion { model, verdict, promoted, read_seconds, fit_seconds, .. } = &trained;
        settings.turns.worked(Duration::from_secs_f64(read_seconds + fit_seconds));
        if promoted.is_some() {
            settings.metrics.promotions.inc();
        }
        tracing::info!(
            forecast = settings.spec.name,
            version = model.version,
            cause = cause.label(),
            promoted = promoted.is_some(),
            verdict = verdict.reason,
            seconds = began.elapsed().as_secs_f64(),
            "a version of the forecast's model was trained"
        );
        Ok(())
    }

    async fn give_lease_back(&self) -> Result<(), WarehouseError> {
        (self.settings.open_leases)().await?.give_back(&self.lease, &self.settings.owner).await
    }
}
