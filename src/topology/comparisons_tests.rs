//! Comparer and frameworks' actors together, with frameworks that do as they are told.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Secret;
use crate::core::comparison::{Complexity, Facts, Fitted, Machine, Outcome};
use crate::core::forecast::testing::{field, hour, shop, spec};
use crate::core::forecast::{Training, train};
use crate::ports::cache::{CachedAggregate, Entry, Replacement};
use crate::ports::frameworks::FitJob;
use crate::runtime::testing::Harness;
use crate::runtime::{Exit, Placement};

/// What a framework does when it is asked to fit.
#[derive(Clone, Copy)]
enum Does {
    Fits(f64),
    Fails,
    Panics,
    /// Until it is cancelled.
    Hangs,
    IsAbsent,
}

struct Told(Framework, Does);

#[async_trait(?Send)]
impl FitFramework for Told {
    fn framework(&self) -> Framework {
        self.0
    }

    async fn facts(&self) -> Facts {
        let absent = matches!(self.1, Does::IsAbsent).then(|| "buy it".to_owned());
        Facts { framework: self.0.name().to_owned(), absent, complexity: Complexity::default() }
    }

    fn is_parallel(&self) -> bool {
        self.0 != Framework::Linfa
    }

    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome {
        let failed = |why: &str| Outcome::Failed { why: why.to_owned(), stderr: String::new() };
        match self.1 {
            Does::Fits(intercept) => Outcome::Fitted(Box::new(Fitted {
                intercept,
                coefficients: vec![1.0; job.sample.width()],
                ..Fitted::default()
            })),
            Does::Fails => failed("it was not in the mood"),
            Does::Panics => panic!("planted"),
            Does::Hangs => {
                cancel.cancelled().await;
                failed("was cancelled")
            }
            Does::IsAbsent => unreachable!("nobody asks what is not there"),
        }
    }
}

struct InMemory(Arc<Mutex<Option<Comparison>>>);

#[async_trait(?Send)]
impl ComparisonGround for InMemory {
    async fn sample(&self) -> Result<Sample, String> {
        Ok(Sample::generated(100, 2, 20))
    }

    async fn lay_out(&mut self, _: &Arc<Sample>, size: u32) -> Result<PathBuf, String> {
        Ok(PathBuf::from(format!("matrix-{size}")))
    }

    async fn keep(&self, comparison: &Comparison) -> Result<(), String> {
        *self.0.lock().unwrap() = Some(comparison.clone());
        Ok(())
    }
}

type Answer = oneshot::Receiver<Result<Comparison, String>>;

fn begin(harness: &Harness, frameworks: &[(Framework, Does)]) -> (Answer, Arc<Mutex<Option<Comparison>>>) {
    begin_with(harness, frameworks, (&[1, 10], &[1, 2]))
}

fn begin_with(
    harness: &Harness,
    frameworks: &[(Framework, Does)],
    (sizes, workers): (&[u32], &[u32]),
) -> (Answer, Arc<Mutex<Option<Comparison>>>) {
    let (tell, told) = oneshot::channel();
    let kept: Arc<Mutex<Option<Comparison>>> = Arc::default();
    let ground = Arc::clone(&kept);
    let opened = frameworks.iter().map(|(framework, does)| {
        let (framework, does) = (*framework, *does);
        let open: OpenFramework = Arc::new(move || Box::new(Told(framework, does)));
        (framework.name(), open)
    });
    start_actors(&harness.incarnation(), opened, |contenders| ComparerSettings {
        contenders,
        extent: Extent {
            sizes: sizes.to_vec(),
            workers: workers.to_vec(),
            time_limit: Duration::from_secs(1),
            memory_limit: None,
            machine: Machine { processor: String::new(), cores: 1, memory_bytes: 0 },
            version: "1.2.3".to_owned(),
            revision: "abc".to_owned(),
        },
        occasion: Occasion::Once(Arc::new(Mutex::new(Some(tell)))),
        open_ground: Arc::new(move || Ok(Box::new(InMemory(Arc::clone(&ground))))),
        clock: Arc::new(SystemClock),
        on_progress: Arc::new(|_| ()),
    });
    (told, kept)
}

#[actix::test]
async fn each_framework_has_its_turn_whatever_the_others_do_and_all_is_kept() {
    let harness = Harness::placed(Placement::Threads);
    let (told, kept) = begin(
        &harness,
        &[
            (Framework::Linfa, Does::Fits(5.0)),
            (Framework::ScikitLearn, Does::Fails),
            (Framework::DaskMl, Does::IsAbsent),
            (Framework::SparkMllib, Does::Fits(5.1)),
        ],
    );
    let comparison = told.await.unwrap().unwrap();
    let ran: Vec<_> = comparison.runs.iter().map(|run| (run.framework.as_str(), run.size, run.workers)).collect();
    let of_size = |size| {
        [("linfa", 1), ("scikit-learn", 1), ("scikit-learn", 2), ("dask-ml", 1), ("dask-ml", 2), ("spark-mllib", 1)]
            .into_iter()
            .chain([("spark-mllib", 2)])
            .map(move |(name, workers)| (name, size, workers))
    };
    assert_eq!(ran, of_size(1).chain(of_size(10)).collect::<Vec<_>>());
    assert_eq!(comparison.runs[0].rows * 10, comparison.runs[7].rows);
    assert!(matches!(&comparison.runs[1].outcome, Outcome::Failed { why, .. } if why == "it was not in the mood"));
    assert!(matches!(&comparison.runs[3].outcome, Outcome::Absent { why } if why == "buy it"));
    // Spark's other intercept is found, for each size and number of workers.
    assert_eq!(comparison.parity.iter().map(|parity| parity.agrees).collect::<Vec<_>>(), [false; 4]);
    assert!(!comparison.is_well());
    assert_eq!(kept.lock().unwrap().as_ref().map(|kept| kept.runs.len()), Some(14));
    assert!(harness.ended().await.iter().all(|(_, exit)| *exit == Exit::Finished));
}

async fn until_it_fits(harness: &Harness) {
    let fits = || {
        let unit = harness.unit();
        unit.actors.iter().any(|actor| actor.note.as_deref() == Some("fits 1 times the matrix"))
    };
    while !fits() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix::test]
async fn a_fit_under_way_is_cancelled_when_the_daemon_drains() {
    let harness = Harness::placed(Placement::Threads);
    let (told, kept) = begin(&harness, &[(Framework::SparkMllib, Does::Hangs)]);
    until_it_fits(&harness).await;
    harness.drain();
    assert!(harness.ended().await.iter().all(|(_, exit)| *exit == Exit::Finished));
    assert!(!matches!(told.await, Ok(Ok(_))) && kept.lock().unwrap().is_none());
}

#[actix::test]
async fn a_comparison_whose_last_fit_was_cancelled_is_no_result() {
    // Who is told first of the drain, the comparer or the fit that it waits for, differs; so a fit says that it was broken off.
    for _ in 0..20 {
        let harness = Harness::placed(Placement::Threads);
        let (told, kept) = begin_with(&harness, &[(Framework::SparkMllib, Does::Hangs)], (&[1], &[1]));
        until_it_fits(&harness).await;
        harness.drain();
        harness.ended().await;
        assert!(!matches!(told.await, Ok(Ok(_))) && kept.lock().unwrap().is_none());
    }
}

#[actix::test]
async fn a_framework_that_panics_takes_the_unit_down_and_not_the_process() {
    let mut harness = Harness::placed(Placement::Threads);
    let (told, _) = begin(&harness, &[(Framework::Linfa, Does::Fits(1.0)), (Framework::DaskMl, Does::Panics)]);
    assert!(matches!(harness.exit("dask-ml").await, Exit::Panicked { .. }));
    assert_eq!(told.await.unwrap().unwrap_err(), "a framework's actor is gone");
    harness.cancel();
    harness.ended().await;
}

#[tokio::test]
async fn a_comparison_fits_and_predicts_the_rows_that_a_training_does() {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new(format!("sqlite://{}/cache.db", folder.path().display()));
    let mut cache = (open_cache(&url))().await.unwrap();
    let kept = |name: &str| CachedAggregate { name: name.to_owned(), key: vec!["shop".to_owned()], keep: None };
    cache.prepare(&[kept("sales_hourly")]).await.unwrap();
    // The last hour has not ended.
    let hours = 40 * 24;
    for number in 0..=hours {
        let noise = ((number * 7919) % 1009) as f64 / 1009.0;
        let replacement = Replacement {
            aggregate: "sales_hourly".to_owned(),
            bucket: hour(number),
            version: 1,
            computed_at: hour(number).end(),
            offsets: Default::default(),
            entries: vec![Entry { key: shop("a"), values: field("sold", (number % 24) as f64 + noise) }],
        };
        cache.replace(&replacement).await.unwrap();
    }
    let now = hour(hours).start() + chrono::Duration::minutes(20);
    let panel = history::read_until(cache.as_mut(), &spec(), now).await.unwrap();
    let training = Training { version: 1, at: now, code_version: "1.2.3", threads: 1 };
    let model = train(&spec(), &panel, &training).unwrap();
    for (at, of) in model.horizons.iter().enumerate() {
        let spec = Spec { horizons: vec![spec().horizons[at].clone()], ..spec() };
        let sample = sample_at(now, &spec, cache.as_mut()).await.unwrap();
        assert_eq!(
            (sample.train_rows, sample.holdout_rows()),
            (of.judged.rows, of.holdout.score.rows),
            "{}",
            of.horizon
        );
        let (fitted, held_out) = (of.judged.range.to, of.holdout.range.from);
        assert_eq!((held_out - fitted).num_hours(), of.buckets as i64 - 1);
        // What is predicted begins where the holdout does, and ends with the last hour that has ended.
        let last = panel.series()[0].target.last().unwrap();
        let first = panel.series()[0].target[panel.index(held_out).unwrap()];
        assert_eq!((sample.y[sample.train_rows], sample.y.last().unwrap()), (first, last));
    }
}
