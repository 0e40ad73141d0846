//! The aggregator against a model of the warehouse and of the cache, into which a writer commits between any two calls, and
//! in which any call can fail. Once all is quiet, the documents are what the rows say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::actors::refresh::Refreshable;
use crate::core::bucket_query::BucketQuery;
use crate::core::marks::BucketSource;
use crate::metrics::Metrics;
use crate::ports::cache::{
    BucketState, CacheCounts, CacheQuery, CachedAggregate, Document, Entry, Page, Replaced, Replacement,
};
use crate::ports::marks::{AggregateQuery, BucketVersions, Computed, Examined};
use crate::ports::{CacheError, SystemClock, WarehouseError};

/// What happens at a call, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Nothing,
    /// A writer adds to a bucket and marks it, in one transaction.
    Write(i64),
    /// The call fails before it does anything.
    FailBefore,
    /// It does all, and its answer is lost.
    FailAfter,
}

/// The warehouse and the cache, and what will happen at the next calls.
#[derive(Default)]
struct World {
    /// By bucket: what an aggregate computes.
    rows: BTreeMap<i64, i64>,
    /// By bucket: dirty and clean version.
    marks: BTreeMap<i64, (i64, i64)>,
    /// By aggregate and bucket: version and value.
    cached: BTreeMap<(String, i64), (i64, i64)>,
    /// Buckets whose rows no query takes.
    broken: BTreeSet<i64>,
    events: Vec<Event>,
    calls: usize,
}

type Shared = Rc<RefCell<World>>;

fn hour(bucket: i64) -> Bucket {
    let at = |hour: i64| DateTime::from_timestamp(hour * 3600, 0).unwrap();
    Bucket::new(at(bucket), at(bucket + 1)).unwrap()
}

fn index(bucket: &Bucket) -> i64 {
    bucket.start().timestamp() / 3600
}

impl World {
    fn write(&mut self, bucket: i64) {
        *self.rows.entry(bucket).or_default() += 1;
        self.marks.entry(bucket).or_default().0 += 1;
    }

    fn next_event(&mut self) -> Event {
        self.calls += 1;
        self.events.pop().unwrap_or(Event::Nothing)
    }

    fn dirty(&self) -> Vec<i64> {
        self.marks.iter().filter(|(_, (dirty, clean))| dirty > clean).map(|(bucket, _)| *bucket).collect()
    }

    /// What a call comes to, and what happens beside it.
    fn call<T, E>(&mut self, failed: impl Fn() -> E, does: impl FnOnce(&mut World) -> T) -> Result<T, E> {
        match self.next_event() {
            Event::FailBefore => return Err(failed()),
            Event::FailAfter => {
                does(self);
                return Err(failed());
            }
            Event::Write(bucket) => self.write(bucket),
            Event::Nothing => {}
        }
        Ok(does(self))
    }

    fn warehouse<T>(&mut self, does: impl FnOnce(&mut World) -> T) -> Result<T, WarehouseError> {
        self.call(|| WarehouseError::Transient { what: "away".to_owned() }, does)
    }

    fn cache<T>(&mut self, does: impl FnOnce(&mut World) -> T) -> Result<T, CacheError> {
        self.call(|| CacheError::Transient { what: "away".to_owned() }, does)
    }
}

struct Warehouse(Shared);

#[async_trait(?Send)]
impl AggregateSource for Warehouse {
    async fn backlog(&mut self, _: &BucketSource) -> Result<Backlog, WarehouseError> {
        self.0.borrow_mut().warehouse(|world| {
            let buckets = world.dirty().len() as u64;
            Backlog { buckets, oldest: (buckets > 0).then_some(Duration::from_secs(7)) }
        })
    }

    async fn claim(
        &mut self,
        _: &BucketSource,
        _: &str,
        _: Duration,
        limit: usize,
    ) -> Result<Vec<Bucket>, WarehouseError> {
        self.0.borrow_mut().warehouse(|world| world.dirty().into_iter().take(limit).map(hour).collect())
    }

    async fn versions(&mut self, _: &BucketSource, buckets: &[Bucket]) -> Result<Vec<BucketVersions>, WarehouseError> {
        self.0.borrow_mut().warehouse(|world| {
            let of = |bucket: &Bucket| vec![(0, world.marks.get(&index(bucket)).map_or(0, |(dirty, _)| *dirty))];
            buckets.iter().map(|bucket| BucketVersions { lanes: of(bucket), read_at: 0 }).collect()
        })
    }

    async fn compute(&mut self, _: &AggregateQuery, buckets: &[Bucket]) -> Result<Computed, WarehouseError> {
        if buckets.iter().any(|bucket| self.0.borrow().broken.contains(&index(bucket))) {
            self.0.borrow_mut().calls += 1;
            return Err(WarehouseError::Fatal { what: "BIGINT value is out of range".to_owned() });
        }
        self.0.borrow_mut().warehouse(|world| {
            let value = |bucket: &Bucket| world.rows.get(&index(bucket)).copied().unwrap_or_default();
            let entry =
                |bucket: &Bucket| Entry { key: Vec::new(), values: vec![("n".to_owned(), value(bucket).into())] };
            Computed {
                offsets: Default::default(),
                buckets: buckets.iter().map(|bucket| vec![entry(bucket)]).collect(),
            }
        })
    }

    async fn clean(
        &mut self,
        _: &BucketSource,
        _: &str,
        computed: &[(Bucket, BucketVersions)],
    ) -> Result<(), WarehouseError> {
        self.0.borrow_mut().warehouse(|world| {
            for (bucket, versions) in computed {
                let marks = world.marks.entry(index(bucket)).or_default();
                marks.1 = marks.1.max(versions.total());
            }
        })
    }

    async fn release(&mut self, _: &BucketSource, _: &str, _: &[Bucket]) -> Result<(), WarehouseError> {
        self.0.borrow_mut().warehouse(|_| ())
    }

    async fn mark(&mut self, _: &BucketSource, buckets: &[Bucket]) -> Result<(), WarehouseError> {
        self.0.borrow_mut().warehouse(|world| {
            buckets.iter().for_each(|bucket| world.marks.entry(index(bucket)).or_default().0 += 1);
        })
    }

    async fn next_bucket(
        &mut self,
        _: &BucketSource,
        from: Option<DateTime<Utc>>,
    ) -> Result<Option<Bucket>, WarehouseError> {
        self.0.borrow_mut().warehouse(|world| {
            let from = from.map_or(i64::MIN, |from| from.timestamp() / 3600);
            world.rows.range(from..).next().map(|(bucket, _)| hour(*bucket))
        })
    }

    async fn pending(&mut self, _: &BucketSource, _: &[Bucket]) -> Result<Vec<bool>, WarehouseError> {
        unreachable!("an aggregator does not ask")
    }

    async fn last_bucket(&mut self, _: &BucketSource) -> Result<Option<Bucket>, WarehouseError> {
        unreachable!("an aggregator does not ask")
    }

    async fn examine(&mut self, _: &AggregateQuery) -> Result<Examined, WarehouseError> {
        unreachable!("an aggregator does not ask")
    }
}

struct Documents(Shared);

#[async_trait(?Send)]
impl Cache for Documents {
    async fn prepare(&mut self, _: &[CachedAggregate]) -> Result<(), CacheError> {
        self.0.borrow_mut().cache(|_| ())
    }

    /// Cut off between any two buckets.
    async fn replace_all(&mut self, replacements: &[Replacement]) -> Result<Replaced, CacheError> {
        let mut replaced = Replaced::default();
        for replacement in replacements {
            replaced += self.0.borrow_mut().cache(|world| {
                let crate::core::document::Value::Integer(value) = replacement.entries[0].values[0].1 else {
                    unreachable!()
                };
                let name = (replacement.aggregate.clone(), index(&replacement.bucket));
                let stored = world.cached.entry(name).or_insert((-1, 0));
                let newer = replacement.version > stored.0;
                if newer {
                    *stored = (replacement.version, value);
                }
                Replaced { written: newer.into(), unchanged: (!newer).into(), ..Replaced::default() }
            })?;
        }
        Ok(replaced)
    }

    async fn newest(&mut self, aggregate: &str) -> Result<Option<BucketState>, CacheError> {
        self.0.borrow_mut().cache(|world| {
            let of = |((name, bucket), (version, _)): (&(String, i64), &(i64, i64))| {
                let state =
                    BucketState { bucket: hour(*bucket), version: *version, entries: 1, computed_at: Utc::now() };
                (name == aggregate).then_some(state)
            };
            world.cached.iter().rev().find_map(of)
        })
    }

    async fn read(&mut self, _: &CacheQuery) -> Result<Page, CacheError> {
        unreachable!("an aggregator does not read")
    }

    async fn bucket(&mut self, _: &str, _: DateTime<Utc>) -> Result<Vec<Document>, CacheError> {
        unreachable!("an aggregator does not read")
    }

    async fn buckets(
        &mut self,
        _: &str,
        _: Option<DateTime<Utc>>,
        _: Option<DateTime<Utc>>,
        _: usize,
    ) -> Result<Vec<BucketState>, CacheError> {
        unreachable!("an aggregator does not read")
    }

    async fn count(&mut self, _: &str) -> Result<CacheCounts, CacheError> {
        unreachable!("an aggregator does not count")
    }

    async fn drop_aggregate(&mut self, _: &str) -> Result<(), CacheError> {
        unreachable!("an aggregator drops nothing")
    }

    async fn purge(&mut self, _: &[CachedAggregate], _: DateTime<Utc>) -> Result<u64, CacheError> {
        unreachable!("an aggregator does not purge")
    }

    async fn ping(&mut self) -> Result<(), CacheError> {
        unreachable!("an aggregator does not ping")
    }
}

const NAMES: [&str; 2] = ["sums", "means"];

fn desk(world: &Shared, at_once: usize, keep: Option<Duration>) -> Desk {
    let source = BucketSource { table: "sale".to_owned(), time: "at".to_owned(), width: "1h".parse().unwrap() };
    let query = BucketQuery::parse("SELECT 1 FROM sale WHERE at >= :bucket_start AND at < :bucket_end").unwrap();
    let aggregates = NAMES.map(|name| Refreshable {
        query: AggregateQuery {
            name: name.to_owned(),
            source: source.clone(),
            query: query.clone(),
            key: Vec::new(),
            topics: Vec::new(),
        },
        cached: CachedAggregate { name: name.to_owned(), key: Vec::new(), keep },
    });
    let metrics = Metrics::new("0", "0");
    let plan = RefreshPlan {
        source,
        aggregates: aggregates.to_vec(),
        owner: "me".to_owned(),
        lease: Duration::from_secs(30),
        at_once,
    };
    let mut desk = Desk::new(AggregatorSettings {
        plan,
        every: Duration::from_secs(5),
        open_source: Arc::new(|| unreachable!("handed in")),
        open_cache: Arc::new(|| unreachable!("handed in")),
        clock: Arc::new(SystemClock),
        freshness: Freshness::default(),
        replacements: Replacements::default(),
        metrics: metrics.source("sale.at/1h"),
        of_aggregates: NAMES.map(|name| metrics.aggregate(name)).to_vec(),
    });
    hand_in(&mut desk, world);
    desk
}

fn hand_in(desk: &mut Desk, world: &Shared) {
    desk.source.get_or_insert_with(|| Box::new(Warehouse(Rc::clone(world))));
    desk.cache.get_or_insert_with(|| Box::new(Documents(Rc::clone(world))));
}

/// Rounds until nothing happens any more and nothing is dirty.
async fn until_quiet(desk: &mut Desk, world: &Shared) {
    for _ in 0..200 {
        hand_in(desk, world);
        if let Err(error) = desk.round().await {
            desk.tell(&error);
        }
        let world = world.borrow();
        if world.events.is_empty() && world.dirty().is_empty() && desk.prepared {
            return;
        }
    }
    panic!("{:?} are dirty after 200 rounds", world.borrow().dirty());
}

fn assert_equal(world: &World) {
    for name in NAMES {
        let cached: BTreeMap<i64, i64> =
            world.cached.iter().filter(|((of, _), _)| of == name).map(|((_, b), (_, value))| (*b, *value)).collect();
        assert_eq!(cached, world.rows, "{name}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Nothing),
        4 => (0_i64..6).prop_map(Event::Write),
        1 => Just(Event::FailBefore),
        1 => Just(Event::FailAfter),
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_and_whatever_fails_meanwhile_the_documents_become_what_the_rows_say(
        events in prop::collection::vec(event(), 0..120),
        at_once in 1_usize..5,
        begins_with in prop::collection::vec(0_i64..6, 0..8),
    ) {
        let world: Shared = Rc::default();
        begins_with.iter().for_each(|bucket| world.borrow_mut().write(*bucket));
        world.borrow_mut().events = events;
        let mut desk = desk(&world, at_once, None);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(until_quiet(&mut desk, &world));
        assert_equal(&world.borrow());
    }
}

#[tokio::test]
async fn an_aggregate_that_the_cache_holds_nothing_of_is_computed_whole() {
    let world: Shared = Rc::default();
    (0..5).for_each(|bucket| world.borrow_mut().write(bucket));
    until_quiet(&mut desk(&world, 2, None), &world).await;
    // As if the second were new in the configuration, and all marks were clean.
    world.borrow_mut().cached.retain(|(name, _), _| name == NAMES[0]);
    until_quiet(&mut desk(&world, 2, None), &world).await;
    assert_equal(&world.borrow());
    let calls = world.borrow().calls;
    desk(&world, 2, None).round().await.unwrap();
    assert!(world.borrow().calls - calls < 10, "what is there is not marked again");
}

#[tokio::test]
async fn a_cache_that_is_emptied_while_all_is_quiet_is_filled_again() {
    let world: Shared = Rc::default();
    (0..5).for_each(|bucket| world.borrow_mut().write(bucket));
    let mut desk = desk(&world, 2, None);
    until_quiet(&mut desk, &world).await;
    for emptied in [&NAMES[..], &NAMES[1..]] {
        world.borrow_mut().cached.retain(|(name, _), _| !emptied.contains(&name.as_str()));
        let round = desk.round().await.unwrap();
        assert!(round.refreshed > 0 && round.more, "{emptied:?}");
        until_quiet(&mut desk, &world).await;
        assert_equal(&world.borrow());
    }
}

#[tokio::test]
async fn a_cache_that_is_away_is_told_though_nothing_is_dirty() {
    let world: Shared = Rc::default();
    let mut desk = desk(&world, 2, None);
    until_quiet(&mut desk, &world).await;
    world.borrow_mut().events = vec![Event::FailBefore];
    let error = desk.round().await.unwrap_err();
    assert_eq!(error.to_string(), "the cache: away");
    desk.tell(&error);
    hand_in(&mut desk, &world);
    assert_eq!(desk.round().await.unwrap().refreshed, 0);
}

#[tokio::test]
async fn what_is_past_its_keep_is_set_clean_and_not_computed() {
    let world: Shared = Rc::default();
    let now = Utc::now().timestamp() / 3600;
    [0, now].iter().for_each(|bucket| world.borrow_mut().write(*bucket));
    until_quiet(&mut desk(&world, 4, Some(Duration::from_secs(86_400))), &world).await;
    assert_eq!(world.borrow().cached.keys().map(|(_, bucket)| *bucket).collect::<Vec<_>>(), [now, now]);
    // Purged, and the connection was lost: what would not be kept is not marked again.
    world.borrow_mut().cached.clear();
    let marks = world.borrow().marks[&0];
    until_quiet(&mut desk(&world, 4, Some(Duration::from_secs(86_400))), &world).await;
    assert_eq!(world.borrow().marks[&0], marks);
    assert_eq!(world.borrow().cached.len(), 2);
}

#[tokio::test]
async fn freshness_follows_the_oldest_mark_and_a_trouble_is_told_until_it_is_over() {
    let world: Shared = Rc::default();
    (0..3).for_each(|bucket| world.borrow_mut().write(bucket));
    let mut desk = desk(&world, 2, None);
    desk.round().await.unwrap();
    let behind = desk.settings.freshness.of("sums");
    assert_eq!(behind.pending_buckets, Some(1));
    let age = Utc::now() - behind.fresh_as_of.unwrap();
    assert!((7..9).contains(&age.num_seconds()), "{age}");
    world.borrow_mut().events = vec![Event::FailBefore];
    let error = desk.round().await.unwrap_err();
    desk.tell(&error);
    assert_eq!(desk.settings.freshness.trouble("aggregator-sale.at/1h").unwrap().cause, "the cache: away");
    assert_eq!(desk.settings.metrics.failures.get(), 1);
    hand_in(&mut desk, &world);
    desk.round().await.unwrap();
    assert_eq!(desk.settings.freshness.of("means").pending_buckets, Some(0));
}

#[tokio::test]
async fn a_bucket_that_fails_by_itself_holds_up_no_other() {
    let world: Shared = Rc::default();
    (0..12).for_each(|bucket| world.borrow_mut().write(bucket));
    world.borrow_mut().broken = [2, 3].into();
    let (mut desk, mut troubled) = (desk(&world, 6, None), false);
    for failed in [2, 0] {
        let round = desk.round().await.unwrap();
        assert_eq!(round.failed, failed);
        desk.tell_failing(&round, &mut troubled);
    }
    assert_eq!(world.borrow().dirty(), [2, 3]);
    let trouble = desk.settings.freshness.trouble("aggregator-sale.at/1h").unwrap().cause;
    let told = "the bucket of 1970-01-01T02:00:00Z: the warehouse: BIGINT value is out of range";
    assert!(trouble.starts_with(told), "{trouble}");
    assert_eq!(desk.settings.metrics.failures.get(), 2);

    // They are tried again in their time, and go through once the rows are mended.
    world.borrow_mut().broken.clear();
    desk.failing.values_mut().for_each(|(again, _)| *again = Instant::now());
    let round = desk.round().await.unwrap();
    desk.tell_failing(&round, &mut troubled);
    assert!(!troubled && desk.settings.freshness.trouble("aggregator-sale.at/1h").is_none());
    assert_equal(&world.borrow());
}

#[tokio::test]
async fn where_all_fail_not_each_is_tried() {
    let world: Shared = Rc::default();
    (0..100).for_each(|bucket| world.borrow_mut().write(bucket));
    world.borrow_mut().broken = (0..100).collect();
    let mut desk = desk(&world, 64, None);
    let error = desk.round().await.unwrap_err();
    assert!(matches!(error, RefreshError::Bucket { .. }), "{error}");
    assert!(world.borrow().calls < 1_000 && world.borrow().cached.is_empty());
    assert_eq!(desk.failing.len(), TRIED - 1);
}
