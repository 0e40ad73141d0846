//! Seeded simulation of a batch's whole way in paused time: the real supervisor, feed, decoder and writer of several
//! daemons, over a model of the database and of the broker, under faults. A failure names its seed:
//! `BIEF_SEED=n cargo test --test simulation` plays it again, with `BIEF_TRACE=1` it tells what happened;
//! `BIEF_SEEDS=1000` plays so many.

mod broker;
mod daemon;
mod database;
mod play;
mod records;
mod verdict;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bief::metrics::Metrics;
use bief::runtime::{RestartPolicy, panics, seed_backoffs};

use crate::play::{Played, Stage, churn, play};
use crate::world::Bug;

/// Seeds of a plain test run.
const SEEDS: u64 = 200;

fn run(seed: u64, bug: Bug, stage: &Stage) -> Played {
    seed_backoffs(seed);
    in_paused_time(play(seed, bug, stage))
}

fn in_paused_time<T>(run: impl Future<Output = T>) -> T {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(run)
}

fn stage() -> Stage {
    Stage { plan: Arc::new(records::plan()), metrics: Metrics::new("0", "0") }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// Plays seeds on all cores; a seed's outcome does not depend on the others. Ends early where `go_on` says no.
fn play_seeds(seeds: std::ops::Range<u64>, bug: Bug, go_on: impl Fn(u64, Played) -> bool + Sync) {
    // A panic within a simulated actor goes to its guard's report, not to the test's output.
    panics::install();
    let next = AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let stage = stage();
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || !go_on(seed, run(seed, bug, &stage)) {
                        next.store(seeds.end, Ordering::SeqCst);
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn whatever_happens_each_record_has_one_outcome_rows_are_right_and_the_stream_catches_up() {
    let seeds = match number("BIEF_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BIEF_SEEDS").unwrap_or(SEEDS),
    };
    let many = seeds.end - seeds.start >= SEEDS;
    let broken: Mutex<Vec<String>> = Mutex::default();
    let all: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    play_seeds(seeds, Bug::None, |seed, played| {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        played.seen.into_iter().for_each(|(what, times)| *all.entry(what).or_default() += times);
        if played.broken.is_empty() {
            return true;
        }
        broken.lock().unwrap_or_else(PoisonError::into_inner).push(format!(
            "seed {seed}: {}\nplay it again with BIEF_SEED={seed} BIEF_TRACE=1 cargo test --test simulation whatever",
            played.broken.join("\n  ")
        ));
        false
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{all:?}");
    let rare: Vec<_> = FAULTS.iter().filter(|fault| all.get(**fault).is_none_or(|n| *n < 3)).collect();
    assert!(!many || rare.is_empty(), "too tame: hardly any {rare:?} in {all:?}");
}

/// What a run of many seeds must have met.
const FAULTS: [&str; 18] = [
    "outage",
    "connection cut",
    "deadlock",
    "read-only",
    "panic",
    "lock wait",
    "commit lost before it was done",
    "commit done and its answer lost",
    "commit done late and its answer lost",
    "connection noticed late as lost",
    "fenced",
    "source failed",
    "kill",
    "drain",
    "freeze",
    "rebalance",
    "compaction",
    "retention",
];

/// Which of the first 200 seeds finds a planted bug, and what it says.
fn found(bug: Bug) -> Option<(u64, Vec<String>)> {
    let found = Mutex::new(None);
    play_seeds(0..SEEDS, bug, |seed, played| {
        if !played.broken.is_empty() {
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, played.broken));
            return false;
        }
        true
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn revocations_that_slow_commits_hold_up_for_minutes_fail_no_stream() {
    panics::install();
    for seed in 0..5 {
        seed_backoffs(seed);
        let (played, restarts) = in_paused_time(churn(seed, &stage()));
        assert!(played.broken.is_empty(), "seed {seed}: {:?}", played.broken);
        let allowed = u64::from(RestartPolicy::default().budget);
        assert!(restarts > allowed, "seed {seed}: too tame with {restarts} restarts: {:?}", played.seen);
    }
}

#[test]
fn offsets_that_are_stored_before_their_rows_are_found() {
    let (seed, broken) = found(Bug::OffsetBeforeRows).expect("found in under 200 seeds");
    println!("seed {seed}: {broken:?}");
    assert!(broken.iter().any(|b| b.contains("accounted for") || b.contains("missing")), "{broken:?}");
}

#[test]
fn offsets_that_are_set_without_comparing_are_found() {
    let (seed, broken) = found(Bug::NoCompareAndSet).expect("found in under 200 seeds");
    println!("seed {seed}: {broken:?}");
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    panics::install();
    for seed in 0..30 {
        let trails = [(); 2].map(|()| run(seed, Bug::None, &stage()).trail);
        assert_eq!(trails[0], trails[1], "seed {seed}");
    }
}
