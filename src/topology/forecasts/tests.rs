//! Two simulated weeks: documents of a made-up domain come hour by hour, the trainer and the forecaster do what is due by a
//! clock that the test moves. No time passes but that of the work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::actors::forecaster::{Forecaster, ForecasterDesk, ForecasterSettings};
use crate::actors::trainer::{Trainer, TrainerDesk, TrainerSettings};
use crate::actors::training::{FIT, Fit, TrainingOrder, train_once};
use crate::actors::turns::Turns;
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::{Load, Secret, Tls, WarehouseConfig};
use crate::core::build::code_version;
use crate::core::document::{Bucket, Value};
use crate::core::forecast::evaluation::Table;
use crate::core::forecast::{
    Calendar, Drift, Horizon, ModelVersion, Panel, Rolling, Spec, Statistic, TrainError, Training, matrix, train,
};
use crate::messages::{AggregateFreshness, Forecasts, Freshness, TrainingWanted};
use crate::metrics::Metrics;
use crate::ports::cache::{Cache, CacheQuery, CachedAggregate, Document, Entry, Replacement};
use crate::ports::models::{ModelHead, Models};
use crate::ports::{Clock, OpenCache, OpenModels};
use crate::runtime::Exit;
use crate::runtime::testing::{Harness, LIMIT};

/// 2024-01-01, a Monday.
const START: i64 = 1_704_067_200;
const SHOPS: [&str; 3] = ["east", "north", "west"];
/// History before the daemon starts.
const BEFORE: i64 = 24 * 28;
const WEEKS: i64 = 24 * 14;

struct Hand(Mutex<DateTime<Utc>>);

impl Clock for Hand {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(START + hour * 3600, 0).unwrap()
}

fn spec() -> Spec {
    Spec {
        lags: vec![0, 1],
        seasons: vec![24],
        rolling: vec![Rolling { window: 6, of: Statistic::Mean, every: 1 }],
        others: Vec::new(),
        calendar: vec![Calendar::Hour],
        harmonics: 2,
        covariates: Vec::new(),
        horizons: vec![Horizon { buckets: 1, text: "1h".to_owned() }, Horizon { buckets: 6, text: "6h".to_owned() }],
        holdout: Duration::from_secs(7 * 86_400),
        drift: Drift { ratio: 1.5, window: Duration::from_secs(86_400) },
        ..crate::core::forecast::testing::spec()
    }
}

/// A number between -1 and 1 that looks drawn.
fn noise(seed: i64) -> f64 {
    let mut x = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) % 2_000_001) as f64 / 1e6 - 1.0
}

/// Sales with a rhythm of the day; from `change` on another rhythm, three times as high, and rougher.
fn sold(shop: usize, hour: i64, change: i64) -> f64 {
    let seed = hour * 7 + shop as i64;
    let turn = |cycle: f64| (std::f64::consts::TAU * hour as f64 / cycle).sin();
    let base = 20.0 + 5.0 * shop as f64;
    match hour < change {
        true => base + 8.0 * turn(24.0) + noise(seed),
        false => 3.0 * base + 24.0 * turn(5.0) + 12.0 * noise(seed),
    }
}

/// How cache and warehouse are opened.
struct Stores {
    open_cache: OpenCache,
    open_models: OpenModels,
    settings: WarehouseConfig,
}

fn trainer_settings(
    owner: &str,
    stores: &Stores,
    clock: &Arc<Hand>,
    (board, metrics): (&Forecasts, &Metrics),
    fit: Fit,
) -> TrainerSettings {
    let freshness = Freshness::default();
    freshness.tell("sales_hourly", AggregateFreshness { fresh_as_of: None, pending_buckets: Some(1) });
    TrainerSettings {
        spec: spec(),
        schedule: "0 3 * * *".parse().ok(),
        daemon: "bief".to_owned(),
        owner: owner.to_owned(),
        lease: Duration::from_secs(60),
        open_cache: Arc::clone(&stores.open_cache),
        open_models: Arc::clone(&stores.open_models),
        open_leases: warehouse::open_leases(&stores.settings),
        clock: clock.clone(),
        forecasts: board.clone(),
        freshness,
        metrics: metrics.forecast("sales"),
        fit,
        turns: Arc::new(Turns::with_rest(0)),
    }
}

fn forecaster_settings(
    stores: &Stores,
    clock: &Arc<Hand>,
    (board, metrics): (&Forecasts, &Metrics),
) -> ForecasterSettings {
    ForecasterSettings {
        spec: spec(),
        keep: None,
        every: Duration::from_millis(20),
        open_cache: Arc::clone(&stores.open_cache),
        open_models: Arc::clone(&stores.open_models),
        clock: clock.clone(),
        forecasts: board.clone(),
        metrics: metrics.forecast("sales"),
    }
}

struct World {
    _folder: tempfile::TempDir,
    clock: Arc<Hand>,
    stores: Stores,
    cache: Box<dyn Cache>,
    models: Box<dyn Models>,
    trainer: TrainerDesk,
    forecaster: ForecasterDesk,
    board: Forecasts,
    metrics: Metrics,
    change: i64,
}

impl World {
    async fn new(change: i64, fit: Fit) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = WarehouseConfig {
            url: Secret::new(format!("sqlite://{}/bief.db", folder.path().display())),
            tls: Tls::Disable,
            ca: None,
            migrations: None,
            load: Load::Auto,
        };
        warehouse::prepare(&settings, folder.path()).await.unwrap();
        let open_cache = open_cache(&Secret::new(format!("sqlite://{}/cache.db", folder.path().display())));
        let open_models = warehouse::open_models(&settings);
        let clock = Arc::new(Hand(Mutex::new(at(BEFORE))));
        let (board, metrics) = (Forecasts::default(), Metrics::new("1.2.3", "abc"));
        let stores = Stores { open_cache: Arc::clone(&open_cache), open_models: Arc::clone(&open_models), settings };
        let trainer = TrainerDesk::new(trainer_settings("this", &stores, &clock, (&board, &metrics), fit));
        let forecaster = ForecasterDesk::new(forecaster_settings(&stores, &clock, (&board, &metrics)));
        let (cache, models) = (open_cache().await.unwrap(), open_models().await.unwrap());
        let mut world =
            Self { _folder: folder, clock, stores, cache, models, trainer, forecaster, board, metrics, change };
        let kept = CachedAggregate { name: "sales_hourly".to_owned(), key: vec!["shop".to_owned()], keep: None };
        world.cache.prepare(&[kept]).await.unwrap();
        for hour in 0..BEFORE {
            world.bucket_came(hour, 1).await;
        }
        world
    }

    async fn bucket_came(&mut self, hour: i64, version: i64) {
        let entry = |(shop, name): (usize, &&str)| Entry {
            key: vec![("shop".to_owned(), (*name).into())],
            values: vec![("sold".to_owned(), sold(shop, hour, self.change).into())],
        };
        let replacement = Replacement {
            aggregate: "sales_hourly".to_owned(),
            bucket: Bucket::new(at(hour), at(hour + 1)).unwrap(),
            version,
            computed_at: at(hour + 1),
            offsets: Default::default(),
            entries: SHOPS.iter().enumerate().map(entry).collect(),
        };
        self.cache.replace(&replacement).await.unwrap();
    }

    /// A bucket ends and is computed; then each actor does what is due.
    async fn hour_passes(&mut self, hour: i64) {
        *self.clock.0.lock().unwrap() = at(hour + 1) + TimeDelta::seconds(10);
        self.bucket_came(hour, 1).await;
        self.trainer.step().await.unwrap();
        self.forecaster.round().await.unwrap();
        // What the forecaster told is heard at once.
        self.trainer.step().await.unwrap();
    }

    async fn versions(&self) -> Vec<ModelHead> {
        let mut heads = self.models.list("sales", None, 1000).await.unwrap();
        heads.reverse();
        heads
    }

    async fn forecasts(&mut self, horizon: &str) -> Vec<Document> {
        let query = CacheQuery { aggregate: format!("forecast.sales.{horizon}"), limit: 10_000, ..Default::default() };
        self.cache.read(&query).await.unwrap().documents
    }

    fn counted(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

fn number(document: &Document, name: &str) -> Option<f64> {
    match document.values.iter().find(|(column, _)| column == name)?.1 {
        Value::Integer(n) => Some(n as f64),
        Value::Float(n) => Some(n),
        _ => None,
    }
}

#[tokio::test]
async fn two_weeks_pass_it_trains_daily_promotes_forecasts_and_scores() {
    let mut world = World::new(i64::MAX, FIT).await;
    for hour in BEFORE..BEFORE + WEEKS {
        world.hour_passes(hour).await;
    }
    let versions = world.versions().await;
    // The first at once, then one a day.
    assert_eq!(versions.len(), 15);
    let days: Vec<i64> = versions.windows(2).map(|two| (two[1].trained_at - two[0].trained_at).num_hours()).collect();
    assert!(days[1..].iter().all(|hours| *hours == 24), "{days:?}");
    assert!(versions[0].promoted_at.is_some(), "{}", versions[0].verdict);
    assert!(versions.iter().filter(|head| head.promoted_at.is_some()).count() > 1, "a later one is no worse");
    assert_eq!(versions.iter().filter(|head| head.champion).count(), 1);
    for (horizon, ahead) in [("1h", 1), ("6h", 6)] {
        let documents = world.forecasts(horizon).await;
        // From the last hour before the start up to the last hour, each shop.
        assert!(documents.len() as i64 >= (WEEKS - 1) * 3, "{horizon}: {}", documents.len());
        assert_eq!(documents.last().unwrap().bucket.start(), at(BEFORE + WEEKS - 1 + ahead), "{horizon}");
        let (scored, open): (Vec<_>, Vec<_>) = documents.iter().partition(|d| number(d, "truth").is_some());
        assert_eq!(open.len() as i64, ahead * 3, "{horizon}: what has not come yet has no truth");
        let (mut within, mut far) = (0, 0.0);
        for document in &scored {
            let value = |name| number(document, name).unwrap();
            assert_eq!(value("error"), value("forecast") - value("truth"));
            within += usize::from((value("low")..=value("high")).contains(&value("truth")));
            far += value("error").abs();
        }
        let share = within as f64 / scored.len() as f64;
        assert!((0.7..0.9).contains(&share), "{horizon}: the interval holds {share}");
        assert!(far / (scored.len() as f64) < 1.0, "{horizon}: {}", far / scored.len() as f64);
    }
    let standing = world.board.of("sales");
    assert_eq!(standing.champion, versions.iter().find(|head| head.champion).map(|head| head.version));
    assert_eq!((standing.trouble, standing.made_from), (None, Some(at(BEFORE + WEEKS - 1))));
    assert!(standing.horizons.iter().all(|of| of.scored > 0 && !of.drifted), "{:?}", standing.horizons);
    assert_eq!(world.counted("bief_model_trainings_total{cause=\"schedule\""), 14.0);
    assert_eq!(world.counted("bief_model_trainings_total{cause=\"early\""), 0.0);
}

#[tokio::test]
async fn another_regime_is_noticed_and_makes_it_train_early() {
    let change = BEFORE + 24 * 7 + 7;
    let mut world = World::new(change, FIT).await;
    for hour in BEFORE..change {
        world.hour_passes(hour).await;
    }
    assert_eq!(world.counted("bief_model_trainings_total{cause=\"early\""), 0.0);
    let before = world.versions().await.len();
    for hour in change..BEFORE + WEEKS {
        world.hour_passes(hour).await;
    }
    let versions = world.versions().await;
    let early = versions[before..].iter().find(|head| head.trained_at.format("%H").to_string() != "03");
    let early = early.expect("one that no schedule asked for");
    assert!(early.trained_at - at(change) < TimeDelta::hours(48), "{}", early.trained_at);
    assert!(world.counted("bief_model_trainings_total{cause=\"early\"") >= 1.0);
    // It does not train hour by hour.
    assert!(versions.len() - before <= 16, "{}", versions.len() - before);
    // Once a version knows the new regime it forecasts by that.
    let champion = versions.iter().find(|head| head.champion).unwrap();
    assert!(champion.trained_at > at(change), "{champion:?}");
}

/// From the sixth day on a fit that is of no use, judged as every other.
fn useless_later(spec: &Spec, panel: &Panel, training: &Training<'_>) -> Result<ModelVersion, TrainError> {
    let mut model = train(spec, panel, training)?;
    if training.at < at(BEFORE + 24 * 6) {
        return Ok(model);
    }
    for (horizon, of) in spec.horizons.iter().zip(&mut model.horizons) {
        for fit in [&mut of.judged, &mut of.serving] {
            fit.coefficients.iter_mut().for_each(|coefficient| *coefficient = 0.0);
            fit.intercept = -1000.0;
        }
        let matrix = matrix(spec, panel, &model.keys, horizon.buckets, 0..panel.buckets()).unwrap();
        let table = Table { spec, panel, matrix: &matrix, horizon: horizon.buckets, threads: 1 };
        of.holdout = table.judge(&of.judged, of.holdout.range.from).unwrap();
    }
    Ok(model)
}

/// A fit that is off by a little: better than persistence, worse than what is there.
fn somewhat_off(spec: &Spec, panel: &Panel, training: &Training<'_>) -> Result<ModelVersion, TrainError> {
    let mut model = train(spec, panel, training)?;
    for of in &mut model.horizons {
        of.judged.intercept += 0.5;
        let matrix = matrix(spec, panel, &model.keys, of.buckets, 0..panel.buckets()).unwrap();
        let table = Table { spec, panel, matrix: &matrix, horizon: of.buckets, threads: 1 };
        of.holdout = table.judge(&of.judged, of.holdout.range.from).unwrap();
    }
    Ok(model)
}

#[tokio::test]
async fn a_bad_model_is_kept_and_never_forecasts() {
    let mut world = World::new(i64::MAX, useless_later).await;
    for hour in BEFORE..BEFORE + WEEKS {
        world.hour_passes(hour).await;
    }
    let versions = world.versions().await;
    assert_eq!(versions.len(), 15);
    let (bad, good): (Vec<_>, Vec<_>) = versions.iter().partition(|head| head.trained_at >= at(BEFORE + 24 * 6));
    assert!(bad.len() >= 8 && bad.iter().all(|head| head.promoted_at.is_none() && !head.champion), "{bad:?}");
    assert!(bad.iter().all(|head| head.verdict.contains("no better than persistence")), "{}", bad[0].verdict);
    assert!(good.iter().any(|head| head.champion));
    let documents = world.forecasts("1h").await;
    assert!(documents.iter().all(|document| number(document, "forecast").unwrap() > 0.0));
}

#[tokio::test]
async fn a_daemon_that_starts_again_and_a_second_one_write_nothing_twice() {
    let mut world = World::new(i64::MAX, FIT).await;
    for hour in BEFORE..BEFORE + 30 {
        world.hour_passes(hour).await;
    }
    let (before, made) = (world.forecasts("6h").await, world.counted("bief_forecast_made_total"));
    let told = (&Forecasts::default(), &world.metrics);
    let mut another = ForecasterDesk::new(forecaster_settings(&world.stores, &world.clock, told));
    another.round().await.unwrap();
    assert_eq!((world.forecasts("6h").await, world.counted("bief_forecast_made_total")), (before, made));
    // A bucket that is computed again, to the same, changes no forecast either.
    world.bucket_came(BEFORE + 29, 2).await;
    another.round().await.unwrap();
    assert_eq!(world.counted("bief_forecast_made_total"), made);
}

#[tokio::test]
async fn of_two_daemons_one_trains() {
    let mut world = World::new(i64::MAX, FIT).await;
    let board = Forecasts::default();
    let told = (&board, &world.metrics);
    let mut another = TrainerDesk::new(trainer_settings("that", &world.stores, &world.clock, told, FIT));
    for hour in BEFORE..BEFORE + 30 {
        world.hour_passes(hour).await;
        another.step().await.unwrap();
    }
    // The first, and the two of 3:00.
    assert_eq!(world.versions().await.len(), 3);
    let drifted = || TrainingWanted::Drifted { version: 1, horizon: "1h".to_owned(), live: 2.0, holdout: 1.0 };
    for _ in 0..3 {
        board.want_training("sales", drifted());
        another.step().await.unwrap();
        world.board.want_training("sales", drifted());
        world.trainer.step().await.unwrap();
    }
    assert_eq!(world.versions().await.len(), 4, "one for the drift that both saw, however often");
}

/// Fits at this moment, and the most that there were.
static FITS: AtomicUsize = AtomicUsize::new(0);
static MOST_FITS: AtomicUsize = AtomicUsize::new(0);

/// Waits a while for another fit beside it.
fn in_company(spec: &Spec, panel: &Panel, training: &Training<'_>) -> Result<ModelVersion, TrainError> {
    FITS.fetch_add(1, Ordering::SeqCst);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        MOST_FITS.fetch_max(FITS.load(Ordering::SeqCst), Ordering::SeqCst);
        std::thread::yield_now();
    }
    FITS.fetch_sub(1, Ordering::SeqCst);
    train(spec, panel, training)
}

#[tokio::test]
async fn a_daemons_trainers_work_one_after_another() {
    let world = World::new(i64::MAX, FIT).await;
    let turns = Arc::new(Turns::with_rest(0));
    let trainer = |name: &str| {
        let given = trainer_settings("this", &world.stores, &world.clock, (&world.board, &world.metrics), in_company);
        let spec = Spec { name: name.to_owned(), ..spec() };
        TrainerDesk::new(TrainerSettings { spec, turns: Arc::clone(&turns), ..given })
    };
    let (mut one, mut other) = (trainer("one"), trainer("other"));
    let (one, other) = tokio::join!(one.step(), other.step());
    one.and(other).unwrap();
    for name in ["one", "other"] {
        assert_eq!(world.models.list(name, None, 10).await.unwrap().len(), 1, "{name}");
    }
    assert_eq!(MOST_FITS.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn as_actors_they_train_and_forecast_and_a_drain_ends_them() {
    let world = World::new(i64::MAX, FIT).await;
    let told = (&world.board, &world.metrics);
    let (trainer, forecaster) = (
        trainer_settings("this", &world.stores, &world.clock, told, FIT),
        forecaster_settings(&world.stores, &world.clock, told),
    );
    let harness = Harness::new();
    let incarnation = harness.incarnation();
    let guard = incarnation.guard("trainer");
    incarnation.placement().start("trainer", move |_| Trainer::new(trainer, guard));
    let guard = incarnation.guard("forecaster");
    incarnation.placement().start("forecaster", move |_| Forecaster::new(forecaster, guard));
    let forecast = async {
        while world.board.of("sales").made_from.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, forecast).await.expect("it is forecast");
    assert_eq!(world.board.of("sales").champion, Some(1));
    drop(incarnation);
    harness.drain();
    let ended = harness.ended().await;
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|(_, exit)| matches!(exit, Exit::Finished)), "{ended:?}");
}

#[tokio::test]
async fn a_training_that_keeps_nothing_is_judged_beside_the_champion() {
    let mut world = World::new(i64::MAX, FIT).await;
    let (settings, spec) = (world.stores.settings.clone(), spec());
    let order = |fit| TrainingOrder {
        spec: &spec,
        at: at(BEFORE),
        threads: 1,
        fit,
        keep: false,
        daemon: "bief",
        peer: "a test",
    };
    let models = warehouse::open_models_if_there(&settings).await.unwrap().unwrap();
    let first = train_once(&order(FIT), world.cache.as_mut(), Some(&*models)).await.unwrap();
    assert!(first.verdict.promote && first.verdict.reason.ends_with("and the first"), "{}", first.verdict.reason);
    world.trainer.step().await.unwrap();
    let kept = world.versions().await;
    assert_eq!((kept.len(), kept[0].code_version.as_str()), (1, code_version().as_str()));
    let tries: [(Fit, bool, &str); 2] =
        [(FIT, true, "it is no worse than version 1"), (somewhat_off, false, "it is worse than version 1")];
    for (fit, wins, told) in tries {
        let trained = train_once(&order(fit), world.cache.as_mut(), Some(&*models)).await.unwrap();
        assert_eq!((trained.verdict.promote, trained.promoted), (wins, None));
        assert!(trained.verdict.reason.starts_with(told), "{}", trained.verdict.reason);
    }
    assert_eq!(world.versions().await, kept, "nothing was kept");
}

#[tokio::test]
async fn where_no_version_was_ever_kept_a_dry_run_finds_no_champion_and_makes_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bief.db");
    let settings = WarehouseConfig {
        url: Secret::new(format!("sqlite://{}", file.display())),
        tls: Tls::Disable,
        ca: None,
        migrations: None,
        load: Load::Auto,
    };
    assert!(warehouse::open_models_if_there(&settings).await.unwrap().is_none());
    assert!(!file.exists());
    std::fs::write(&file, "").unwrap();
    assert!(warehouse::open_models_if_there(&settings).await.unwrap().is_none());
    warehouse::prepare(&settings, folder.path()).await.unwrap();
    assert!(warehouse::open_models_if_there(&settings).await.unwrap().is_some());
}
