//! Stand-ins for what the HTTP side asks, with a little of everything, and what a configuration would say of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::LocalBoxFuture;

use super::Sources;
use crate::config::{Aggregate, AggregatePlaces, Forecast, Location, Panel, PanelKind};
use crate::core::document::{Bucket, document_id};
use crate::core::forecast::baselines::Baseline;
use crate::core::forecast::model::{Beside, Range};
use crate::core::forecast::{HorizonScores, ModelVersion, Score, Spec};
use crate::core::outcome::{Reason, Rejection};
use crate::messages::{DeadLetter, ForecastStanding, LiveError};
use crate::ports::cache::{
    BucketState, Cache, CacheCounts, CacheError, CacheQuery, CachedAggregate, Cursor, Document, Page, Replaced,
    Replacement,
};
use crate::ports::letter_changes::{DroppedLetters, LetterChanges, LetterRequest, RetriedLetters, RetryOptions};
use crate::ports::{
    AuditEntry, DeadLetterFilter, LetterGroup, LetterHead, LetterReader, ModelChange, ModelHead, Models, NewestRows,
    Promoted, RowReader, StoredDeadLetter, StoredModel, WarehouseError,
};

/// Buckets of an hour with two documents each.
pub(crate) const HOURS: i64 = 10;
/// Letters with the ids from 1 on; every third is of the wrong type.
pub(crate) const LETTERS: i64 = 250;

/// What the stand-ins share with a test.
#[derive(Default)]
pub(crate) struct World {
    /// Cache and warehouse answer nothing but that they are away.
    pub away: AtomicBool,
    /// How often the newest rows were asked for.
    pub rows_asked: AtomicUsize,
    /// The same of the groups of dead letters.
    pub groups_asked: AtomicUsize,
    pub retried: Mutex<Vec<(LetterRequest, RetryOptions)>>,
    pub dropped: Mutex<Vec<LetterRequest>>,
}

impl World {
    fn cache(&self) -> Result<(), CacheError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(CacheError::Transient { what: "the cache is away".to_owned() }),
            false => Ok(()),
        }
    }

    fn warehouse(&self) -> Result<(), WarehouseError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(WarehouseError::Transient { what: "the warehouse is away".to_owned() }),
            false => Ok(()),
        }
    }
}

pub(crate) fn sources(world: &Arc<World>) -> Sources {
    Sources {
        cache: Some(opens(world, |world| Box::new(world) as Box<dyn Cache>)),
        letters: opens(world, |world| Box::new(world) as Box<dyn LetterReader>),
        rows: opens(world, |world| Box::new(world) as Box<dyn RowReader>),
        changes: opens(world, |world| Box::new(world) as Box<dyn LetterChanges>),
        models: opens(world, |world| Box::new(world) as Box<dyn Models>),
    }
}

/// A way to open a stand-in.
type Opens<S, E> = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<S, E>> + Send + Sync>;

fn opens<S: 'static, E: 'static>(world: &Arc<World>, make: fn(Stand) -> S) -> Opens<S, E> {
    let world = Arc::clone(world);
    Arc::new(move || {
        let stand = Stand(Arc::clone(&world));
        Box::pin(async move { Ok(make(stand)) })
    })
}

struct Stand(Arc<World>);

pub(crate) fn aggregates() -> Vec<Aggregate> {
    vec![Aggregate {
        name: "sums".to_owned(),
        table: "sale".to_owned(),
        time: "sold_at".to_owned(),
        bucket: "1h".parse().unwrap(),
        query: PathBuf::from("sums.sql"),
        key: vec!["shop".to_owned(), "aisle".to_owned()],
        every: Duration::from_secs(5),
        keep: None,
        places: AggregatePlaces::default(),
    }]
}

pub(crate) fn forecasts() -> Vec<Forecast> {
    let spec = Spec {
        name: "sales".to_owned(),
        aggregate: "sums".to_owned(),
        target: "orders".to_owned(),
        key: vec!["shop".to_owned(), "aisle".to_owned()],
        ..crate::core::forecast::testing::spec()
    };
    vec![Forecast { spec, train_at: "0 3 * * *".parse().ok(), place: Location::default(), columns: Vec::new() }]
}

pub(crate) fn standing() -> ForecastStanding {
    let live = LiveError {
        horizon: "1h".to_owned(),
        scored: 144,
        mae: Some(0.9),
        holdout_mae: 0.8,
        ratio: Some(1.125),
        drifted: false,
    };
    ForecastStanding { champion: Some(3), made_from: Some(moment(9)), trouble: None, horizons: vec![live] }
}

fn model(version: u64) -> ModelHead {
    let range = Range { from: moment(0), to: moment(9) };
    let score = Score { rows: 20, mae: 0.8, rmse: 1.1, r2: Some(0.7), mase: None };
    let scores = HorizonScores {
        horizon: "1h".to_owned(),
        features: 4,
        holdout: range,
        score,
        beside: vec![Beside { baseline: Baseline::Persistence, score, model: score }],
        coverage: Some(0.8),
        width: Some(2.5),
    };
    ModelHead {
        forecast: "sales".to_owned(),
        version,
        trained_at: moment(9),
        champion: version == 3,
        promoted_at: (version == 3).then(|| moment(9)),
        verdict: "it is better than persistence, and the first".to_owned(),
        code_version: "1.2.3".to_owned(),
        input_hash: "ab".repeat(32),
        data: range,
        horizons: vec![scores],
    }
}

#[async_trait(?Send)]
impl Models for Stand {
    async fn put(&self, _: &ModelVersion, _: &str) -> Result<u64, WarehouseError> {
        unreachable!("the HTTP side trains nothing")
    }

    async fn list(&self, _: &str, below: Option<u64>, limit: u64) -> Result<Vec<ModelHead>, WarehouseError> {
        self.0.warehouse()?;
        Ok((1..below.unwrap_or(6)).rev().map(model).take(limit as usize).collect())
    }

    async fn get(&self, _: &str, _: u64) -> Result<Option<StoredModel>, WarehouseError> {
        unreachable!("the HTTP side shows no coefficients")
    }

    async fn champion(&self, _: &str) -> Result<Option<ModelHead>, WarehouseError> {
        self.0.warehouse()?;
        Ok(Some(model(3)))
    }

    async fn promote(&self, _: &str, _: u64, _: &ModelChange) -> Result<Option<Promoted>, WarehouseError> {
        unreachable!("the HTTP side promotes nothing")
    }

    async fn rollback(&self, _: &str, _: &ModelChange) -> Result<Option<Promoted>, WarehouseError> {
        unreachable!("the HTTP side promotes nothing")
    }
}

pub(crate) fn panels() -> Vec<Panel> {
    vec![Panel {
        title: "Orders".to_owned(),
        kind: PanelKind::Line,
        aggregate: "sums".to_owned(),
        values: vec!["orders".to_owned()],
        by: Some("shop".to_owned()),
        range: Duration::from_secs(7 * 86_400),
        unit: None,
    }]
}

pub(crate) fn moment(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::hours(hour)
}

pub(crate) fn bucket(hour: i64) -> Bucket {
    Bucket::new(moment(hour), moment(hour + 1)).unwrap()
}

fn documents() -> Vec<Document> {
    let document = |hour: i64, shop: &str| Document {
        aggregate: "sums".to_owned(),
        key: vec![("shop".to_owned(), shop.into()), ("aisle".to_owned(), 3.into())],
        bucket: bucket(hour),
        values: vec![("orders".to_owned(), hour.into()), ("mean".to_owned(), 0.5.into())],
        version: 7,
        computed_at: moment(hour + 1),
        offsets: [("orders".to_owned(), [(0, 12)].into())].into(),
    };
    let forecast = |hour: i64| Document {
        aggregate: "forecast.sales.1h".to_owned(),
        values: vec![
            ("forecast".to_owned(), 2.5.into()),
            ("low".to_owned(), 1.0.into()),
            ("high".to_owned(), 4.0.into()),
            ("model_version".to_owned(), 3.into()),
            ("made_at".to_owned(), "2026-01-01T00:00:01.000Z".into()),
        ],
        ..document(hour, "north")
    };
    let sums = (0..HOURS).flat_map(|hour| [document(hour, "north"), document(hour, "south")]);
    sums.chain((0..HOURS).map(forecast)).collect()
}

fn state(hour: i64) -> BucketState {
    BucketState { bucket: bucket(hour), version: 7, entries: 2, computed_at: moment(hour + 1) }
}

#[async_trait(?Send)]
impl Cache for Stand {
    async fn prepare(&mut self, _: &[CachedAggregate]) -> Result<(), CacheError> {
        unreachable!("the HTTP side writes nothing")
    }

    async fn replace_all(&mut self, _: &[Replacement]) -> Result<Replaced, CacheError> {
        unreachable!("the HTTP side writes nothing")
    }

    async fn read(&mut self, query: &CacheQuery) -> Result<Page, CacheError> {
        self.0.cache()?;
        let id = |d: &Document| document_id(&d.aggregate, d.bucket, &d.key);
        let wanted = |d: &Document| {
            d.aggregate == query.aggregate
                && query.key.iter().all(|part| d.key.contains(part))
                && query.from.is_none_or(|from| d.bucket.start() >= from)
                && query.to.is_none_or(|to| d.bucket.start() < to)
                && query.after.as_ref().is_none_or(|after| id(d).as_str() > after.id())
        };
        let mut found: Vec<Document> = documents().into_iter().filter(wanted).collect();
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|last| Cursor::behind(&id(last)));
        Ok(Page { documents: found, next })
    }

    async fn bucket(&mut self, _: &str, _: DateTime<Utc>) -> Result<Vec<Document>, CacheError> {
        unreachable!("nobody asks for a whole bucket")
    }

    async fn buckets(
        &mut self,
        _: &str,
        _: Option<DateTime<Utc>>,
        _: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<BucketState>, CacheError> {
        self.0.cache()?;
        Ok((0..HOURS).map(state).take(limit).collect())
    }

    async fn newest(&mut self, _: &str) -> Result<Option<BucketState>, CacheError> {
        self.0.cache()?;
        Ok(Some(state(HOURS - 1)))
    }

    async fn count(&mut self, _: &str) -> Result<CacheCounts, CacheError> {
        self.0.cache()?;
        Ok(CacheCounts { buckets: HOURS as u64, documents: 2 * HOURS as u64 })
    }

    async fn drop_aggregate(&mut self, _: &str) -> Result<(), CacheError> {
        unreachable!("the HTTP side writes nothing")
    }

    async fn purge(&mut self, _: &[CachedAggregate], _: DateTime<Utc>) -> Result<u64, CacheError> {
        unreachable!("the HTTP side writes nothing")
    }

    async fn ping(&mut self) -> Result<(), CacheError> {
        self.0.cache()
    }
}

fn rejection(id: i64) -> Rejection {
    let reason = if id % 3 == 0 { Reason::WrongType } else { Reason::ForeignKey };
    Rejection { reason, field: Some("amount".to_owned()), message: "\"<b>\" is no number".to_owned() }
}

fn head(id: i64) -> LetterHead {
    LetterHead {
        id,
        topic: "orders.v1".to_owned(),
        partition: 3,
        offset: 1000 + id,
        timestamp: Some(moment(0)),
        rejection: rejection(id),
        stored_at: moment(1),
        bytes: 20,
    }
}

#[async_trait(?Send)]
impl LetterReader for Stand {
    async fn heads(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterHead>, WarehouseError> {
        self.0.warehouse()?;
        assert!(filter.newest_first);
        let wanted = |head: &LetterHead| {
            filter.before_id.is_none_or(|before| head.id < before)
                && filter.reason.as_ref().is_none_or(|reason| head.rejection.reason.as_str() == reason)
                && filter.topic.as_ref().is_none_or(|topic| head.topic == *topic)
        };
        Ok((1..=LETTERS).rev().map(head).filter(wanted).take(filter.limit as usize).collect())
    }

    async fn groups(&self, _: &DeadLetterFilter) -> Result<Vec<LetterGroup>, WarehouseError> {
        self.0.warehouse()?;
        self.0.groups_asked.fetch_add(1, Ordering::Relaxed);
        Ok(vec![LetterGroup {
            topic: "orders.v1".to_owned(),
            reason: Reason::ForeignKey,
            letters: 167,
            first_stored_at: moment(1),
            last_stored_at: moment(2),
            newest: LETTERS,
        }])
    }

    async fn letter(&self, id: i64) -> Result<Option<StoredDeadLetter>, WarehouseError> {
        self.0.warehouse()?;
        let letter = DeadLetter {
            topic: "orders.v1".into(),
            partition: 3,
            offset: 1000 + id,
            timestamp: -1,
            key: Some(b"k\xff".to_vec()),
            payload: Some(b"{\"amount\": \"<b>\"}".to_vec()),
            rejection: rejection(id),
        };
        Ok((1..=LETTERS).contains(&id).then(|| StoredDeadLetter { id, letter, stored_at: moment(1) }))
    }

    async fn audit_entries(&self, before: Option<i64>, limit: u64) -> Result<Vec<AuditEntry>, WarehouseError> {
        self.0.warehouse()?;
        let entry = |id| AuditEntry {
            id,
            at: moment(3),
            daemon: "shops".to_owned(),
            peer: "127.0.0.1".to_owned(),
            action: "drop".to_owned(),
            letters: vec![id],
            request: serde_json::json!({ "ids": [id] }),
            payload: None,
            outcome: serde_json::json!({ "dropped": 1 }),
        };
        Ok((1..before.unwrap_or(4)).rev().map(entry).take(limit as usize).collect())
    }
}

#[async_trait(?Send)]
impl RowReader for Stand {
    async fn newest(&mut self, table: &str, limit: usize) -> Result<Option<NewestRows>, WarehouseError> {
        self.0.warehouse()?;
        self.0.rows_asked.fetch_add(1, Ordering::Relaxed);
        Ok(Some(NewestRows {
            table: table.to_owned(),
            key: vec!["number".to_owned()],
            columns: vec!["number".to_owned(), "note".to_owned()],
            rows: (0..limit as i64).rev().map(|number| vec![number.into(), "<b>".into()]).collect(),
        }))
    }
}

#[async_trait(?Send)]
impl LetterChanges for Stand {
    async fn retry(&mut self, which: &LetterRequest, how: &RetryOptions) -> Result<RetriedLetters, WarehouseError> {
        self.0.warehouse()?;
        self.0.retried.lock().unwrap().push((which.clone(), how.clone()));
        Ok(RetriedLetters { applied: 2, refused: vec![(42, rejection(42))], next: Some(41), ..Default::default() })
    }

    async fn drop_letters(&mut self, which: &LetterRequest) -> Result<DroppedLetters, WarehouseError> {
        self.0.warehouse()?;
        self.0.dropped.lock().unwrap().push(which.clone());
        Ok(DroppedLetters { dropped: which.filter.ids.len(), next: None })
    }
}
