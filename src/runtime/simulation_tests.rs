//! The supervisor under seeded chaos in paused time: actors and starts that end, fail, panic, hang or are deaf
//! at random moments, and a drain at a random one. A failure names its seed;
//! `BIEF_SEED=n cargo test --lib simulation` plays it again, `BIEF_SEEDS=n` plays so many.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::backoff::{RestartPolicy, SplitMix64};
use super::exit_guard::ExitGuard;
use super::panics;
use super::placement::Placement;
use super::status::{ActorState, UnitState};
use super::supervisor::{OnRestart, Options, Supervisor};
use super::unit::{Incarnation, StartError, UnitSpec};

const UNIT: &str = "unit";
const ABANDON_AFTER: Duration = Duration::from_secs(3);
const BUDGET: u32 = 4;
const WINDOW: Duration = Duration::from_secs(30);

/// What the simulated world remembers, for the invariants.
#[derive(Default)]
struct World {
    /// Guards alive, by generation.
    alive: RefCell<Vec<u64>>,
    /// When each incarnation was cancelled, by generation.
    cancelled_at: RefCell<HashMap<u64, Instant>>,
    last_generation: Cell<u64>,
    drained: Cell<bool>,
    restarts_at: RefCell<Vec<Instant>>,
    /// What broke: an assertion would be one more simulated panic.
    broken: RefCell<Vec<String>>,
}

impl World {
    fn begins(&self, generation: u64) {
        self.holds(!self.drained.get(), || format!("generation {generation} begins after the drain"));
        self.holds(generation == self.last_generation.get() + 1, || format!("generation {generation} is out of turn"));
        self.last_generation.set(generation);
        for earlier in self.alive.borrow().iter() {
            let waited = self.cancelled_at.borrow().get(earlier).map(Instant::elapsed).unwrap_or_default();
            self.holds(waited >= ABANDON_AFTER, || {
                format!("generation {generation} beside {earlier} after {waited:?}")
            });
        }
    }

    fn holds(&self, invariant: bool, broken: impl FnOnce() -> String) {
        if !invariant {
            self.broken.borrow_mut().push(broken());
        }
    }
}

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next() % n
    }

    fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.below(below))
    }
}

/// One actor: lives for a while, then ends in one of the ways there are.
async fn actor(guard: ExitGuard, world: Rc<World>, mut random: Random) {
    struct Alive(Rc<World>, u64);
    impl Drop for Alive {
        fn drop(&mut self) {
            let mut alive = self.0.alive.borrow_mut();
            let at = alive.iter().position(|g| *g == self.1).expect("it was alive");
            alive.remove(at);
        }
    }
    // Declared after the guard, so dropped before it, in a panic too.
    let alive = Alive(world, guard.generation());
    let deaf = random.below(8) == 0;
    let life = random.millis(5_000);
    let (cancel, drain) = (guard.cancelled().clone(), guard.draining().clone());
    if deaf {
        sleep(life + random.millis(10 * ABANDON_AFTER.as_millis() as u64)).await;
    } else {
        tokio::select! {
            () = cancel.cancelled() => sleep(random.millis(500)).await,
            () = drain.cancelled() => sleep(random.millis(500)).await,
            () = sleep(life) => {}
        }
    }
    match random.below(12) {
        0 => guard.fail("fatal", true),
        1..=3 => guard.fail("failed", false),
        4 => panic!("simulated"),
        5 => {}
        _ => guard.finish(),
    }
    drop(alive);
}

async fn start(incarnation: Incarnation, world: Rc<World>, seed: u64) -> Result<(), StartError> {
    let generation = incarnation.generation();
    world.begins(generation);
    let cancelled = incarnation.cancel();
    let noted = Rc::clone(&world);
    actix::spawn(async move {
        cancelled.cancelled().await;
        noted.cancelled_at.borrow_mut().insert(generation, Instant::now());
    });
    let mut random = Random(SplitMix64(seed ^ (generation << 32)));
    for n in 0..random.below(4) {
        let guard = incarnation.guard(&format!("actor-{n}"));
        world.alive.borrow_mut().push(generation);
        let own = Random(SplitMix64(seed ^ (generation << 32) ^ (n << 16) ^ 1));
        actix::spawn(panics::in_actor("simulated".into(), actor(guard, Rc::clone(&world), own)));
        if random.below(3) == 0 {
            sleep(random.millis(1_000)).await;
        }
    }
    match random.below(12) {
        0 | 1 => Err(StartError::transient("refused")),
        2 if random.below(3) == 0 => Err(StartError::fatal("refused for good")),
        3 => panic!("simulated"),
        4 => std::future::pending().await,
        _ => Ok(()),
    }
}

/// Returns what came about.
async fn play(seed: u64) -> Vec<&'static str> {
    let mut random = Random(SplitMix64(seed));
    let world = Rc::new(World::default());
    let policy = RestartPolicy {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(5),
        healthy_after: Duration::from_secs(4),
        budget: BUDGET,
        window: WINDOW,
        abandon_after: ABANDON_AFTER,
    };
    let begun = Rc::clone(&world);
    let spec = UnitSpec::new(UNIT, policy, move |incarnation| Box::pin(start(incarnation, Rc::clone(&begun), seed)));
    let restarts = Arc::new(AtomicU64::new(0));
    let counted = restarts.clone();
    let on_restart: OnRestart = Arc::new(move |_, _, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let options = Options { placement: Placement::Current, seed: Some(seed), on_restart: Some(on_restart) };
    let supervisor = Supervisor::launch(vec![spec], options);

    let watching = Rc::clone(&world);
    let board = supervisor.board().clone();
    let watch = actix::spawn(async move {
        let mut changes = board.changes();
        let mut known = 0;
        while changes.changed().await.is_ok() {
            let unit = board.unit(UNIT).expect("declared");
            let mut at = watching.restarts_at.borrow_mut();
            while known < unit.restarts {
                known += 1;
                at.push(Instant::now());
            }
            let recent = at.iter().filter(|at| at.elapsed() < WINDOW).count();
            watching.holds(recent <= BUDGET as usize, || format!("{recent} restarts within the window"));
        }
    });

    sleep(random.millis(60_000)).await;
    let deadline = Duration::from_secs(10 + random.below(10));
    let asked = Instant::now();
    let drained = supervisor.drain(deadline).await;
    assert!(asked.elapsed() <= deadline, "the drain took {:?} of {deadline:?}", asked.elapsed());
    let unit = supervisor.board().unit(UNIT).expect("declared");
    assert!(unit.state.has_ended(), "{unit:?}");
    world.drained.set(true);
    // What was left behind ends at last; nothing may come of it.
    sleep(Duration::from_secs(60)).await;
    watch.abort();
    assert!(world.broken.borrow().is_empty(), "{:?}", world.broken.borrow());
    let later = supervisor.board().unit(UNIT).expect("declared");
    assert_eq!(later, unit, "changed after the drain");
    assert_eq!(restarts.load(Ordering::SeqCst), unit.restarts, "each restart is told once");
    assert_eq!(unit.generation, world.last_generation.get());
    assert!(world.alive.borrow().is_empty());
    let failed = unit.state == UnitState::Failed;
    assert!(!failed || unit.last_error.is_some());
    let outcomes = [
        ("restarted", unit.restarts > 0),
        ("refused at the start", unit.generation > unit.restarts + 1),
        ("budget spent", failed && unit.restarts >= u64::from(BUDGET)),
        ("failed for good at once", failed && unit.generation == 1),
        ("stopped", !failed),
        ("left behind", unit.actors.iter().any(|a| a.state == ActorState::Abandoned)),
        ("cut", !drained.cut.is_empty()),
    ];
    outcomes.into_iter().filter(|(_, came_about)| *came_about).map(|(name, _)| name).collect()
}

#[test]
fn whatever_happens_no_two_incarnations_work_at_once_restarts_are_counted_once_and_a_drain_ends() {
    // A panic within a simulated actor goes to its guard's report, not to the test's output.
    panics::install();
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = match number("BIEF_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BIEF_SEEDS").unwrap_or(500),
    };
    let mut outcomes = BTreeMap::new();
    let many = seeds.end - seeds.start >= 500;
    for seed in seeds {
        let played = std::panic::catch_unwind(|| {
            actix::System::new().block_on(async {
                tokio::time::pause();
                panics::in_actor("simulation".into(), play(seed)).await
            })
        });
        match played {
            Ok(came_about) => came_about.into_iter().for_each(|name| *outcomes.entry(name).or_insert(0) += 1),
            Err(payload) => {
                let what = panics::text_of(&*payload).unwrap_or_default();
                panic!("seed {seed}: {what}; play it again with BIEF_SEED={seed} cargo test --lib simulation");
            }
        }
    }
    println!("{outcomes:?}");
    assert!(!many || (outcomes.len() == 7 && outcomes.values().all(|n| *n >= 3)), "too tame: {outcomes:?}");
}
