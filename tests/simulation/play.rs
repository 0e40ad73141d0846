//! One seeded run: daemons over one database and one broker, producers, and faults at random moments; then the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bief::core::mapping::Plan;
use bief::metrics::Metrics;
use tokio::time::{Instant, sleep};

use crate::daemon::{Daemon, Setup};
use crate::verdict;
use crate::world::{Bug, Faults, World, lock};

/// How long a run may take to catch up when nothing is in its way any more: some restarts, and a session that ends.
const CATCH_UP: Duration = Duration::from_secs(240);

/// What is the same for all runs of a thread.
pub struct Stage {
    pub plan: Arc<Plan>,
    pub metrics: Metrics,
}

pub struct Played {
    pub broken: Vec<String>,
    pub seen: BTreeMap<&'static str, u64>,
    pub trail: u64,
}

/// Plays one seed from its beginning to the verdict.
pub async fn play(seed: u64, bug: Bug, stage: &Stage) -> Played {
    let begin = World::new(seed, bug, 1);
    let partitions = begin.between(1, 5) as usize;
    let world = World::new(seed, bug, partitions);
    let liveness = world.chance(500);
    let setup = Setup {
        lanes: world.between(1, 3) as usize,
        batch_records: world.between(1, 40) as usize,
        memory: if world.chance(150) { 12_000 } else { 4 << 20 },
    };
    let transactional = world.chance(400);
    let compacted = world.chance(300);
    world.tell(|| format!("{partitions} partitions, {setup:?}, liveness {liveness}"));
    let count = world.between(1, 3);
    let start = || Daemon::start(&world, &stage.plan, &stage.metrics, setup);
    let mut daemons: Vec<Daemon> = (0..count).map(|_| start()).collect();
    let rates = Faults {
        cut: world.below(15),
        deadlock: world.below(15),
        lost_commit: world.below(120),
        slow: if world.chance(300) { world.below(10) } else { 0 },
        panic: if world.chance(300) { world.below(4) } else { 0 },
        source: if world.chance(300) { world.below(40) } else { 0 },
        ..Faults::default()
    };
    world.set_faults(|f| *f = rates);

    let until = Instant::now() + world.millis(10_000, 40_000);
    // From a trickle to more than the daemons can write.
    let pause = world.between(20, 600);
    while Instant::now() < until {
        sleep(world.millis(10, pause)).await;
        let partition = world.below(partitions as u64) as usize;
        for _ in 0..world.between(1, 4) {
            let partition = world.below(partitions as u64) as usize;
            lock(&world.broker).produce(&world, partition, transactional && world.chance(500));
        }
        lock(&world.broker).expire();
        let at = world.below(daemons.len() as u64) as usize;
        match world.below(300) {
            0..=2 => {
                world.saw("kill");
                world.tell(|| format!("daemon {at} is killed"));
                daemons[at].kill().await;
                daemons[at] = start();
            }
            3..=4 => {
                world.saw("drain");
                world.tell(|| format!("daemon {at} drains"));
                daemons[at].gate.open();
                daemons[at].drain().await;
                daemons[at] = start();
            }
            5..=8 => {
                world.saw("freeze");
                world.tell(|| format!("daemon {at} is frozen"));
                daemons[at].gate.shut();
            }
            9..=16 => daemons.iter().for_each(|d| d.gate.open()),
            17..=20 => {
                world.saw("rebalance");
                lock(&world.broker).rebalance(1);
            }
            21..=22 => {
                let ends = Instant::now() + world.millis(100, 6_000);
                world.tell(|| "the database is away".to_owned());
                world.set_faults(|f| f.outage_until = Some(ends));
            }
            23 => {
                let ends = Instant::now() + world.millis(100, 4_000);
                world.set_faults(|f| f.read_only_until = Some(ends));
            }
            24 => {
                let ends = Instant::now() + world.millis(100, 4_000);
                world.set_faults(|f| f.broker_until = Some(ends));
            }
            25..=28 if compacted => {
                world.saw("compaction");
                lock(&world.broker).compact(partition);
            }
            29..=30 => {
                world.saw("retention");
                let next = lock(&world.tables).next(partition as i32);
                lock(&world.broker).retain_from(partition, next);
            }
            31 if daemons.len() < 4 => {
                world.saw("daemon joins");
                daemons.push(start());
            }
            _ => {}
        }
    }
    lock(&world.broker).close();
    if liveness {
        world.set_faults(|f| *f = Faults::default());
        daemons.iter().for_each(|d| d.gate.open());
        world.tell(|| "no more faults".to_owned());
        let until = Instant::now() + CATCH_UP;
        while !is_caught_up(&world, partitions) {
            if Instant::now() > until {
                let standing: Vec<_> = (0..partitions as i32)
                    .map(|p| (lock(&world.tables).next(p), lock(&world.broker).bounds(p).high))
                    .collect();
                let status: Vec<String> = daemons.iter().map(Daemon::status).collect();
                world.broke(format!("not caught up: {standing:?} (stored, end); {}", status.join("; ")));
                break;
            }
            sleep(Duration::from_millis(100)).await;
            lock(&world.broker).expire();
        }
    }
    for daemon in &daemons {
        daemon.kill().await;
    }
    // What was on its way to the database still arrives.
    world.set_faults(|f| *f = Faults::default());
    let mut patience = 200;
    while lock(&world.tables).is_busy() && patience > 0 {
        sleep(Duration::from_millis(100)).await;
        patience -= 1;
    }
    if lock(&world.tables).is_busy() {
        world.broke("a transaction is never ended".to_owned());
    }
    let mut broken = world.broken();
    broken.extend(verdict::findings(&world));
    if lock(&world.tables).offsets.values().any(|o| o.next > o.start) {
        world.saw("records were stored");
    }
    world.tell(|| format!("{:?}", lock(&world.tables).offsets));
    Played { broken, seen: world.seen(), trail: world.trail() }
}

/// Minutes in which commits often take longer than a revocation waits, while partitions go to and fro. Answers how often
/// the pipelines were built again.
pub async fn churn(seed: u64, stage: &Stage) -> (Played, u64) {
    const PARTITIONS: usize = 4;
    let world = World::new(seed, Bug::None, PARTITIONS);
    let setup = Setup { lanes: 2, batch_records: 40, memory: 4 << 20 };
    let daemons = [(); 2].map(|()| Daemon::start(&world, &stage.plan, &stage.metrics, setup));
    world.set_faults(|f| f.slow = 250);
    let until = Instant::now() + Duration::from_secs(400);
    while Instant::now() < until {
        sleep(world.millis(1_000, 3_000)).await;
        (0..PARTITIONS).for_each(|partition| lock(&world.broker).produce(&world, partition, false));
        lock(&world.broker).expire();
        if world.chance(500) {
            lock(&world.broker).rebalance(1);
        }
    }
    lock(&world.broker).close();
    world.set_faults(|f| *f = Faults::default());
    let until = Instant::now() + CATCH_UP;
    while !is_caught_up(&world, PARTITIONS) && Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
        lock(&world.broker).expire();
    }
    let mut broken = verdict::findings(&world);
    if !is_caught_up(&world, PARTITIONS) {
        broken.push(format!("not caught up: {}", daemons.iter().map(Daemon::status).collect::<Vec<_>>().join("; ")));
    }
    broken.extend(daemons.iter().filter(|d| d.has_failed()).map(|d| format!("given up: {}", d.status())));
    let restarts = daemons.iter().map(Daemon::restarts).max().unwrap_or_default();
    for daemon in &daemons {
        daemon.kill().await;
    }
    (Played { broken, seen: world.seen(), trail: world.trail() }, restarts)
}

fn is_caught_up(world: &World, partitions: usize) -> bool {
    (0..partitions as i32).all(|p| lock(&world.tables).next(p) == lock(&world.broker).bounds(p).high)
}
