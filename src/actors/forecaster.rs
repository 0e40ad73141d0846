//! Forecasts by the champion's version as the newest known bucket advances, keeps the forecasts as documents in the cache,
//! puts the truth beside them when it arrives, and judges the live error. Reads the cache and the versions, never rows.
//! Apart from every stream; any number of daemons may do it at once: what is there already is not written again.

mod scoring;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::history::{self, HistoryError, first_open};
use crate::core::document::{Bucket, Fields, Value, value_of};
use crate::core::forecast::{Horizon, ModelVersion, Prediction, Spec, predict};
use crate::messages::{ForecastStanding, Forecasts, LiveError, TrainingWanted};
use crate::metrics::ForecastMetrics;
use crate::ports::cache::{BucketState, CachedAggregate, Entry, Offsets, Replacement};
use crate::ports::models::Models;
use crate::ports::{Cache, CacheError, Clock, OpenCache, OpenModels, WarehouseError};
use crate::runtime::{Backoff, ExitGuard, Lone, Work};

/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Buckets that are forecast from after a time in which nobody did: two weeks of hours. Older ones have passed.
const MOST_MISSED: i32 = 336;
/// Buckets that one question for the newest one answers.
const STATES: usize = 500;

/// What a forecaster is made of.
pub struct ForecasterSettings {
    pub spec: Spec,
    /// As long as the documents that are forecast are kept.
    pub keep: Option<Duration>,
    /// How often it is looked whether a bucket came or changed.
    pub every: Duration,
    pub open_cache: OpenCache,
    pub open_models: OpenModels,
    pub clock: Arc<dyn Clock>,
    pub forecasts: Forecasts,
    pub metrics: ForecastMetrics,
}

pub type Forecaster = Lone<ForecasterDesk>;

impl Forecaster {
    pub fn new(settings: ForecasterSettings, guard: ExitGuard) -> Self {
        Self::of(ForecasterDesk::new(settings), guard)
    }
}

#[async_trait(?Send)]
impl Work for ForecasterDesk {
    async fn work(&mut self) {
        self.keep_forecasting().await;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

/// What a round was made of; where the next finds the same there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    known: DateTime<Utc>,
    /// Versions of that bucket, of each aggregate that the forecast looks at.
    versions: Vec<Option<i64>>,
    champion: u64,
}

/// What the actor does, a round at a time: a test calls the rounds by a clock of its own.
pub struct ForecasterDesk {
    settings: ForecasterSettings,
    cache: Option<Box<dyn Cache>>,
    models: Option<Box<dyn Models>>,
    prepared: bool,
    champion: Option<ModelVersion>,
    seen: Option<Seen>,
    standing: ForecastStanding,
}

impl ForecasterDesk {
    pub fn new(settings: ForecasterSettings) -> Self {
        Self {
            settings,
            cache: None,
            models: None,
            prepared: false,
            champion: None,
            seen: None,
            standing: ForecastStanding::default(),
        }
    }

    /// For as long as the daemon lives.
    async fn keep_forecasting(&mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
        loop {
            let wait = match self.round().await {
                Ok(()) => {
                    backoff.reset();
                    self.settings.every
                }
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::warn!(
                        forecast = self.settings.spec.name,
                        cause = %error,
                        wait_seconds = wait.as_secs_f64(),
                        "nothing is forecast; it is tried again"
                    );
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Forecasts, scores and judges, where anything came or changed since the last round.
    ///
    /// # Errors
    /// Cache or warehouse do not answer; the next round opens them anew.
    pub async fn round(&mut self) -> Result<(), ForecastError> {
        let done = self.try_round().await;
        if let Err(error) = &done {
            (self.cache, self.models, self.prepared, self.seen) = (None, None, false, None);
            self.settings.metrics.failures.inc();
            self.standing.trouble = Some(error.to_string());
        }
        let Self { settings, standing, .. } = self;
        settings.metrics.champion(standing.champion);
        settings.forecasts.tell(&settings.spec.name, standing.clone());
        done
    }

    async fn try_round(&mut self) -> Result<(), ForecastError> {
        if !self.find_champion().await? {
            return Ok(());
        }
        let Self { settings, cache, prepared, champion: Some(champion), seen, standing, .. } = self else {
            return Ok(());
        };
        let spec = &settings.spec;
        let cache = match cache {
            Some(cache) => cache,
            None => cache.insert((settings.open_cache)().await?),
        };
        let kept = cached(spec, settings.keep);
        if !*prepared {
            cache.prepare(&kept).await?;
            *prepared = true;
        }
        let now = settings.clock.now();
        let Some(newest) = newest_ended(cache.as_mut(), spec, now).await? else {
            standing.trouble = Some(format!("{} has no document of a bucket that has ended", spec.aggregate));
            return Ok(());
        };
        let known = newest.bucket.start();
        let versions = versions(cache.as_mut(), spec, newest.bucket).await?;
        let now_seen = Seen { known, versions, champion: champion.version };
        standing.trouble = None;
        if seen.as_ref() == Some(&now_seen) {
            return Ok(());
        }
        let made = forecast(settings, cache.as_mut(), champion, known).await?;
        settings.metrics.made.inc_by(made);
        settings.metrics.made_from(known);
        standing.made_from = Some(known);
        let since = seen.as_ref().map_or(known, |seen| seen.known);
        let scored = scoring::score(spec, cache.as_mut(), champion, (since, known), now).await?;
        settings.metrics.scored.inc_by(scored.changed);
        standing.horizons = scored.live;
        standing.horizons.iter().for_each(|of| settings.metrics.live(of));
        if let Some(of) = standing.horizons.iter().find(|of| of.drifted) {
            settings.forecasts.want_training(&spec.name, drifted(champion.version, of));
        }
        if settings.keep.is_some() {
            cache.purge(&kept, now).await?;
        }
        *seen = Some(now_seen);
        Ok(())
    }

    /// Whether there is a version that may forecast.
    async fn find_champion(&mut self) -> Result<bool, ForecastError> {
        let Self { settings, models, champion, standing, .. } = self;
        let spec = &settings.spec;
        let models = match models {
            Some(models) => models,
            None => models.insert((settings.open_models)().await?),
        };
        let Some(head) = models.champion(&spec.name).await? else {
            // That there is none yet is no trouble.
            (*champion, standing.champion, standing.trouble) = (None, None, None);
            return Ok(false);
        };
        standing.champion = Some(head.version);
        if champion.as_ref().is_some_and(|known| known.version == head.version) {
            return Ok(true);
        }
        let stored = match models.get(&spec.name, head.version).await {
            Ok(stored) => stored.map(|stored| stored.model).ok_or_else(|| "it is gone".to_owned()),
            Err(WarehouseError::Fatal { what }) => Err(what),
            Err(error) => return Err(error.into()),
        };
        let checked = stored.and_then(|model| model.check(spec).map(|()| model).map_err(|refused| refused.to_string()));
        match checked {
            Ok(model) => {
                tracing::info!(forecast = spec.name, version = model.version, "forecasts are made by this version");
                *champion = Some(model);
                Ok(true)
            }
            Err(reason) => {
                if standing.trouble.as_ref() != Some(&reason) {
                    tracing::error!(
                        forecast = spec.name,
                        version = head.version,
                        cause = reason,
                        "nothing is forecast"
                    );
                }
                *champion = None;
                settings.metrics.failures.inc();
                standing.trouble = Some(reason.clone());
                let wanted = TrainingWanted::Refused { version: head.version, reason };
                settings.forecasts.want_training(&spec.name, wanted);
                Ok(false)
            }
        }
    }
}

fn drifted(version: u64, of: &LiveError) -> TrainingWanted {
    let (horizon, live) = (of.horizon.clone(), of.mae.unwrap_or_default());
    TrainingWanted::Drifted { version, horizon, live, holdout: of.holdout_mae }
}

/// The aggregates that forecasts are kept as, one for each horizon.
fn cached(spec: &Spec, keep: Option<Duration>) -> Vec<CachedAggregate> {
    let of = |horizon| CachedAggregate { name: spec.cached_as(horizon), key: spec.key.clone(), keep };
    spec.horizons.iter().map(of).collect()
}

/// The last bucket that has ended by the clock; documents may be dated later.
async fn newest_ended(
    cache: &mut dyn Cache,
    spec: &Spec,
    now: DateTime<Utc>,
) -> Result<Option<BucketState>, CacheError> {
    let open = first_open(spec, now);
    let newest = cache.newest(&spec.aggregate).await?;
    if newest.as_ref().is_none_or(|state| state.bucket.start() < open) {
        return Ok(newest);
    }
    // Few lie in the future, if any: the last one before is looked for back from now.
    let mut back = TimeDelta::seconds(spec.seconds()) * i32::try_from(STATES).unwrap_or(1);
    for _ in 0..8 {
        let mut from = open - back;
        let mut last = None;
        loop {
            let states = cache.buckets(&spec.aggregate, Some(from), Some(open), STATES).await?;
            let full = states.len() == STATES;
            last = states.into_iter().next_back().or(last);
            match &last {
                Some(state) if full => from = state.bucket.end(),
                _ => break,
            }
        }
        if last.is_some() {
            return Ok(last);
        }
        back = back * 4;
    }
    Ok(None)
}

async fn versions(cache: &mut dyn Cache, spec: &Spec, of: Bucket) -> Result<Vec<Option<i64>>, CacheError> {
    let mut versions = Vec::new();
    for aggregate in spec.aggregates() {
        let states = cache.buckets(aggregate, Some(of.start()), Some(of.end()), 1).await?;
        versions.push(states.first().map(|state| state.version));
    }
    Ok(versions)
}

/// Forecasts from each bucket behind those that were forecast from, up to the known one. Answers how many were stored.
async fn forecast(
    settings: &ForecasterSettings,
    cache: &mut dyn Cache,
    model: &ModelVersion,
    known: DateTime<Utc>,
) -> Result<u64, ForecastError> {
    let (spec, now) = (&settings.spec, settings.clock.now());
    let width = TimeDelta::seconds(spec.seconds());
    let buckets = |count: usize| width * i32::try_from(count).unwrap_or(i32::MAX);
    // What the version was fitted to is no forecast.
    let mut first = (model.data.to - width).max(known - width * MOST_MISSED);
    for horizon in &spec.horizons {
        if let Some(state) = cache.newest(&spec.cached_as(horizon)).await? {
            first = first.max(state.bucket.start() - buckets(horizon.buckets) + width);
        }
    }
    let first = first.min(known);
    let from = first - buckets(spec.history());
    let panel = history::read(cache, spec, (Some(from), Some(known + width)), Some(known)).await?;
    let mut made = 0;
    let mut at = first;
    while at <= known {
        for horizon in &spec.horizons {
            let predictions = match predict(model, spec, &panel, horizon, at) {
                Ok(predictions) => predictions,
                Err(refused) => {
                    tracing::error!(forecast = spec.name, cause = %refused, "nothing is forecast");
                    continue;
                }
            };
            made += store(spec, cache, (model.version, horizon), &predictions, now).await?;
        }
        at += width;
    }
    Ok(made)
}

/// The forecasts of one bucket, unless they are there already.
async fn store(
    spec: &Spec,
    cache: &mut dyn Cache,
    (version, horizon): (u64, &Horizon),
    predictions: &[Prediction],
    now: DateTime<Utc>,
) -> Result<u64, CacheError> {
    let finite = |p: &&Prediction| p.forecast.is_finite();
    let entries: Vec<Entry> = predictions
        .iter()
        .filter(finite)
        .map(|p| Entry { key: p.key.clone(), values: values(p, version, now) })
        .collect();
    let Some(at) = predictions.first().map(|p| p.at).filter(|_| !entries.is_empty()) else { return Ok(0) };
    let Some(bucket) = Bucket::new(at, at + TimeDelta::seconds(spec.seconds())) else { return Ok(0) };
    let aggregate = spec.cached_as(horizon);
    let there = cache.bucket(&aggregate, at).await?;
    let same = |entry: &Entry| {
        there.iter().any(|d| {
            d.key == entry.key
                && ["forecast", "model_version"]
                    .iter()
                    .all(|name| value_of(&d.values, name) == value_of(&entry.values, name))
        })
    };
    if there.len() == entries.len() && entries.iter().all(same) {
        return Ok(0);
    }
    let before = there.iter().map(|document| document.version).max();
    let replacement = Replacement {
        aggregate,
        bucket,
        version: next_version(before, now),
        computed_at: now,
        offsets: Offsets::new(),
        entries,
    };
    Ok(cache.replace(&replacement).await?.written)
}

fn values(prediction: &Prediction, version: u64, now: DateTime<Utc>) -> Fields {
    let named = |name: &str, value: Value| (name.to_owned(), value);
    let ends = prediction.interval.filter(|(low, high)| low.is_finite() && high.is_finite()).unzip();
    let end = |end: Option<f64>| end.map_or(Value::Null, Value::from);
    vec![
        named("forecast", prediction.forecast.into()),
        named("low", end(ends.0)),
        named("high", end(ends.1)),
        named("model_version", Value::Integer(i64::try_from(version).unwrap_or(i64::MAX))),
        named("made_at", Value::Text(now.to_rfc3339_opts(SecondsFormat::Millis, true))),
    ]
}

/// Milliseconds, so that of two daemons' the later one stays; above what is there.
fn next_version(before: Option<i64>, now: DateTime<Utc>) -> i64 {
    let now = now.timestamp_millis().max(0);
    before.map_or(now, |before| now.max(before.saturating_add(1)))
}
