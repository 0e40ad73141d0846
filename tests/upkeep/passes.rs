//! The daemon's pass: who makes it, when, and what becomes of it where the one that makes it is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bief::actors::reconciler::{ReconcilerSettings, keep_time};
use bief::adapters::cache::open_cache;
use bief::adapters::warehouse;
use bief::config;
use bief::messages::Replacements;
use bief::metrics::Metrics;
use bief::ports::{Clock, OpenCache};
use bief::topology::refresh_plans;
use chrono::{DateTime, Utc};

use super::{Shop, block_on, json};

/// Long enough for a step of the pass on a busy machine, short enough to wait for its end.
const LEASE: Duration = Duration::from_secs(6);

/// Goes as the machine's does, but it is a moment before half past three.
struct Shifted(chrono::Duration);

impl Clock for Shifted {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.0
    }
}

fn a_moment_before_it_is_due() -> Arc<dyn Clock> {
    let due = "2031-05-07T03:30:00Z".parse::<DateTime<Utc>>().unwrap();
    Arc::new(Shifted(due - Utc::now() - chrono::Duration::milliseconds(300)))
}

fn settings(shop: &Shop, owner: &str, clock: &Arc<dyn Clock>, metrics: &Metrics) -> ReconcilerSettings {
    let loaded = config::load(&shop.config(), &|_| None).unwrap_or_else(|_| panic!("the configuration is right"));
    let config = loaded.config;
    ReconcilerSettings {
        schedule: "30 3 * * *".parse().unwrap(),
        share: 1.0,
        plans: refresh_plans(&config, owner).unwrap().into_iter().map(|(plan, _)| plan).collect(),
        owner: owner.to_owned(),
        lease: LEASE,
        open_source: warehouse::open_aggregates(&config.warehouse),
        open_cache: open_cache(&config.cache.as_ref().unwrap().url),
        open_leases: warehouse::open_leases(&config.warehouse),
        clock: Arc::clone(clock),
        replacements: Replacements::default(),
        metrics: metrics.reconcile(&["by_shop", "in_all"]),
        seed: || 7,
    }
}

/// Counts how often it is opened; the first so many times it hangs instead.
fn counted(open: OpenCache, hangs: usize) -> (OpenCache, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    let counting: OpenCache = Arc::new(move || match counter.fetch_add(1, Ordering::SeqCst) < hangs {
        true => Box::pin(std::future::pending()),
        false => open(),
    });
    (counting, opened)
}

fn series(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

const DIFFERENCES: &str = "bief_reconcile_differences_total{aggregate=\"by_shop\"}";
const SUCCESS: &str = "bief_reconcile_last_success_timestamp_seconds";

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !met() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn of_two_reconcilers_one_works_and_the_other_takes_over(shop: &Shop) {
    shop.sell(0..5);
    json(&shop.run(&["rebuild", "by_shop", "--json"]), 0);
    shop.edit("by_shop|2024-03-01T00:00:00Z|A", "sales", 99);
    let clock = a_moment_before_it_is_due();
    let [one, other, third] = [(), (), ()].map(|()| Metrics::new("1", "test"));
    let before = clock.now().timestamp() as f64;
    block_on(async {
        let mut first = settings(shop, "first", &clock, &one);
        // It has the lease, and gets no further.
        let (hangs, at_work) = counted(first.open_cache, usize::MAX);
        first.open_cache = hangs;
        let mut killed = Box::pin(keep_time(&first));
        tokio::select! {
            () = &mut killed => panic!("it ended"),
            () = until("the first is at it", || at_work.load(Ordering::SeqCst) == 1) => {}
        }
        // To each it is due a moment after it has begun.
        let mut second = settings(shop, "second", &a_moment_before_it_is_due(), &other);
        let (open, opened) = counted(second.open_cache, 0);
        second.open_cache = open;
        let mut takes_over = Box::pin(keep_time(&second));
        // While the first lives and renews its lease, the second is not let at it.
        tokio::select! {
            () = &mut killed => panic!("it ended"),
            () = &mut takes_over => panic!("it ended"),
            () = tokio::time::sleep(LEASE * 3 / 2) => {}
        }
        assert_eq!(opened.load(Ordering::SeqCst), 0, "two were at it at once");
        drop(killed);
        tokio::select! {
            () = &mut takes_over => panic!("it ended"),
            () = until("the second took over", || series(&other, SUCCESS) > 0.0) => {}
        }
        // A third learns that it was seen to.
        let mut third = settings(shop, "third", &a_moment_before_it_is_due(), &third);
        let (open, of_third) = counted(third.open_cache, 0);
        third.open_cache = open;
        tokio::select! {
            () = keep_time(&third) => panic!("it ended"),
            () = &mut takes_over => panic!("it ended"),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        assert_eq!((opened.load(Ordering::SeqCst), of_third.load(Ordering::SeqCst)), (1, 0), "it was done twice");
    });
    assert_eq!((series(&one, DIFFERENCES), series(&other, DIFFERENCES)), (0.0, 1.0));
    assert!(series(&other, SUCCESS) >= before && series(&one, SUCCESS) == 0.0);
    json(&shop.run(&["reconcile", "--all", "--json"]), 0);
}

pub fn a_pass_that_fails_is_tried_again_and_one_that_was_missed_is_not_made_up_for(shop: &Shop) {
    shop.sell(0..2);
    json(&shop.run(&["rebuild", "by_shop", "--json"]), 0);
    shop.remove("by_shop|2024-03-01T01:00:00Z|B");
    let clock = a_moment_before_it_is_due();
    let metrics = Metrics::new("1", "test");
    block_on(async {
        let mut tried = settings(shop, "tried", &clock, &metrics);
        let open = Arc::clone(&tried.open_cache);
        let failures = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&failures);
        tried.open_cache = Arc::new(move || match counter.fetch_add(1, Ordering::SeqCst) {
            0 => Box::pin(async { Err(bief::ports::CacheError::Transient { what: "away".to_owned() }) }),
            _ => open(),
        });
        tokio::select! {
            () = keep_time(&tried) => panic!("it ended"),
            () = until("it was tried again", || series(&metrics, SUCCESS) > 0.0) => {}
        }
        assert_eq!(series(&metrics, DIFFERENCES), 1.0);
        // A minute late: the next is due tomorrow.
        let late: Arc<dyn Clock> =
            Arc::new(Shifted("2031-05-08T03:31:00Z".parse::<DateTime<Utc>>().unwrap() - Utc::now()));
        let mut missed = settings(shop, "missed", &late, &metrics);
        let (open, opened) = counted(missed.open_cache, 0);
        missed.open_cache = open;
        tokio::select! {
            () = keep_time(&missed) => panic!("it ended"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        assert_eq!(opened.load(Ordering::SeqCst), 0);
    });
}
