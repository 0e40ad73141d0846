//! Puts the truth beside the forecasts, and says how far off they are by now. Truth that changes later is put right while
//! its bucket lies within the drift's window.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::next_version;
use crate::core::document::{Fields, Value, value_of};
use crate::core::forecast::series::label;
use crate::core::forecast::{DriftState, Horizon, ModelVersion, Spec, drift};
use crate::messages::LiveError;
use crate::ports::cache::{Cache, CacheError, CacheQuery, Document, Entry, Offsets, Replacement};

/// Documents of a page.
const PAGE: usize = 2_000;

pub(super) struct Scored {
    /// Forecasts that got a truth, or another one.
    pub changed: u64,
    /// Of the champion, in the order of the horizons.
    pub live: Vec<LiveError>,
}

/// The truth by bucket and label of the key.
type Truth = HashMap<(DateTime<Utc>, String), f64>;

/// Scores what is forecast of the drift's window and of what became known since the last time. `known`: where the last
/// known bucket starts, the one of the last time before it.
pub(super) async fn score(
    spec: &Spec,
    cache: &mut dyn Cache,
    champion: &ModelVersion,
    (since, known): (DateTime<Utc>, DateTime<Utc>),
    now: DateTime<Utc>,
) -> Result<Scored, CacheError> {
    let width = TimeDelta::seconds(spec.seconds());
    let window = TimeDelta::from_std(spec.drift.window).unwrap_or(TimeDelta::days(3));
    let (in_window, to) = (known + width - window, known + width);
    let from = in_window.min(since);
    let truth = truth(spec, cache, (from, to)).await?;
    let mut scored = Scored { changed: 0, live: Vec::with_capacity(spec.horizons.len()) };
    for horizon in &spec.horizons {
        let documents = read(cache, &spec.cached_as(horizon), (from, to)).await?;
        let mut errors = Vec::new();
        for of_bucket in documents.chunk_by(|a, b| a.bucket == b.bucket) {
            let (entries, changed) = beside_truth(&truth, of_bucket);
            if changed > 0 {
                cache.replace(&replacement(spec, horizon, of_bucket, entries.clone(), now)).await?;
                scored.changed += changed;
            }
            if of_bucket[0].bucket.start() >= in_window {
                let of_champion = |entry: &&Entry| model_version(&entry.values) == Some(champion.version);
                errors.extend(entries.iter().filter(of_champion).filter_map(|entry| number(&entry.values, "error")));
            }
        }
        errors.iter_mut().for_each(|error: &mut f64| *error = error.abs());
        if let Ok(model) = champion.horizon(spec, horizon) {
            let state = drift(&spec.drift, &errors, model.holdout.score.mae);
            scored.live.push(told(horizon, &state));
        }
    }
    Ok(scored)
}

fn told(horizon: &Horizon, state: &DriftState) -> LiveError {
    let DriftState { scored, live, holdout, ratio, drifted } = *state;
    let some = |value: f64| (scored > 0 && value.is_finite()).then_some(value);
    LiveError {
        horizon: horizon.text.clone(),
        scored,
        mae: some(live),
        holdout_mae: holdout,
        ratio: some(ratio),
        drifted,
    }
}

/// A bucket's entries with the truth that is known; how many of them are not as they were.
fn beside_truth(truth: &Truth, documents: &[Document]) -> (Vec<Entry>, u64) {
    let mut changed = 0;
    let entries = documents.iter().map(|document| {
        let known = truth.get(&(document.bucket.start(), label(&document.key))).copied();
        let mut values: Fields = document.values.clone();
        // A truth that is gone leaves what was put down: its bucket may be past its keep.
        if let (Some(known), Some(forecast)) = (known, number(&values, "forecast"))
            && number(&values, "truth") != Some(known)
        {
            values.retain(|(name, _)| name != "truth" && name != "error");
            values.push(("truth".to_owned(), known.into()));
            values.push(("error".to_owned(), (forecast - known).into()));
            changed += 1;
        }
        Entry { key: document.key.clone(), values }
    });
    (entries.collect(), changed)
}

fn replacement(
    spec: &Spec,
    horizon: &Horizon,
    documents: &[Document],
    entries: Vec<Entry>,
    now: DateTime<Utc>,
) -> Replacement {
    Replacement {
        aggregate: spec.cached_as(horizon),
        bucket: documents[0].bucket,
        version: next_version(documents.iter().map(|document| document.version).max(), now),
        computed_at: now,
        offsets: Offsets::new(),
        entries,
    }
}

async fn truth(spec: &Spec, cache: &mut dyn Cache, range: (DateTime<Utc>, DateTime<Utc>)) -> Result<Truth, CacheError> {
    let documents = read(cache, &spec.aggregate, range).await?;
    let known = documents.into_iter().filter_map(|document| {
        let value = number(&document.values, &spec.target).filter(|value| value.is_finite())?;
        let column = |name: &String| document.key.iter().find(|(column, _)| column == name).cloned();
        let key: Option<Fields> = spec.key.iter().map(column).collect();
        Some(((document.bucket.start(), label(&key?)), value))
    });
    Ok(known.collect())
}

/// All documents of buckets that start at or after the first moment and before the second.
async fn read(
    cache: &mut dyn Cache,
    aggregate: &str,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<Document>, CacheError> {
    let aggregate = aggregate.to_owned();
    let query = CacheQuery { aggregate, from: Some(from), to: Some(to), limit: PAGE, ..CacheQuery::default() };
    cache.read_all(query).await
}

fn number(values: &Fields, name: &str) -> Option<f64> {
    match value_of(values, name)? {
        Value::Integer(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        Value::Null | Value::Text(_) => None,
    }
}

fn model_version(values: &Fields) -> Option<u64> {
    match value_of(values, "model_version")? {
        Value::Integer(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}
