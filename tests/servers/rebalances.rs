//! Daemons that join a group and leave it again while records keep coming to many partitions: none is lost or written
//! twice, and no partition stands still for long.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::parts::{Parts, long};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![("daemons_that_join_and_leave_lose_nothing_and_let_no_partition_wait", joins_and_leaves)]
}

const PARTITIONS: usize = 16;
const DAEMONS: usize = 3;

/// Joins and leaves, and how long a partition may stand still. The short run is beside other tests, yet no rebalance may take
/// the 30 s that the group would wait for a member.
const LONG: (usize, Duration) = (100, Duration::from_secs(10));
const SHORT: (usize, Duration) = (8, Duration::from_secs(25));

/// Each partition gets some within a second.
const AT_ONCE: i64 = 40;
const BETWEEN: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(200);

/// Does it again and again, until told to end.
fn meanwhile(end: &AtomicBool, every: Duration, mut what: impl FnMut()) {
    while !end.load(Ordering::SeqCst) {
        what();
        std::thread::sleep(every);
    }
}

/// How long each partition has stood still at most, all of them having records to come.
struct Idle<'a> {
    database: &'a Database,
    moved: BTreeMap<i32, (i64, Instant)>,
    longest: BTreeMap<i32, Duration>,
}

impl Idle<'_> {
    fn look(&mut self) {
        for row in self.database.rows("SELECT partition_id, next_offset FROM bief_offset") {
            let (partition, next): (i32, i64) = mysql_async::from_row(row);
            let (at, since) = self.moved.entry(partition).or_insert_with(|| (next, Instant::now()));
            let longest = self.longest.entry(partition).or_default();
            *longest = (*longest).max(since.elapsed());
            if *at != next {
                (*at, *since) = (next, Instant::now());
            }
        }
    }
}

/// Alternately up to all daemons and down to one; the one that leaves has been there longest.
fn change(daemons: &mut Vec<Daemon>, config: &Path, joining: &mut bool) {
    match daemons.len() {
        DAEMONS => *joining = false,
        1 => *joining = true,
        _ => {}
    }
    if *joining {
        daemons.push(Daemon::start(config));
    } else {
        daemons.remove(0).stop();
    }
    let began = Instant::now();
    loop {
        let held: Vec<usize> = daemons.iter().map(|daemon| partitions(&daemon.status()).len()).collect();
        if held.iter().sum::<usize>() == PARTITIONS && held.iter().all(|held| *held > 0) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{held:?} partitions held: {:#?}", daemons.last().map(Daemon::log));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn joins_and_leaves(servers: &Servers) {
    let (changes, limit) = if long() { LONG } else { SHORT };
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let mut parts = Parts::new(servers, PARTITIONS as i32);
    let config = parts.config(folder.path(), &database.url(), &parts.topic.clone(), 20);
    parts.send(AT_ONCE * PARTITIONS as i64);
    let mut daemons = vec![Daemon::start(&config)];
    daemons[0].wait_caught_up(parts.total());
    let mut idle = Idle { database: &database, moved: BTreeMap::new(), longest: BTreeMap::new() };
    let (settled, fed) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| meanwhile(&fed, BETWEEN, || parts.send(AT_ONCE)));
        let looking = scope.spawn(|| meanwhile(&settled, LOOK, || idle.look()));
        let changing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut joining = true;
            for _ in 0..changes {
                change(&mut daemons, &config, &mut joining);
            }
        }));
        // Nobody looks any more before nothing comes any more; and all are told to end, whoever panicked.
        settled.store(true, Ordering::SeqCst);
        let looked = looking.join();
        fed.store(true, Ordering::SeqCst);
        for outcome in [changing, looked, feeding.join()] {
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let ends = "SELECT SUM(next_offset) FROM bief_offset";
    daemons[0].wait("all in", |_| database.count(ends) == parts.total());
    daemons.into_iter().for_each(Daemon::stop);
    assert_clean(&config);
    parts.assert_rows(&database, "joining and leaving");
    assert_eq!(idle.longest.len(), PARTITIONS);
    let (partition, longest) = idle.longest.iter().max_by_key(|(_, longest)| **longest).unwrap();
    assert!(*longest < limit, "partition {partition} stood still for {longest:?}: {:?}", idle.longest);
    println!(
        "{changes} joins and leaves, {} records; partition {partition} stood still longest: {longest:?}",
        parts.total()
    );
}
