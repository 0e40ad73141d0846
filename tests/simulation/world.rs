//! What all parts of a simulated run share: one seeded generator, the faults that are on, and what broke. All of it is on
//! one thread in paused time, so that a seed is a run. No lock here is ever held over an await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::database::Tables;

/// A mistake that is planted to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Offsets are stored in a transaction of their own, before the rows.
    OffsetBeforeRows,
    /// Offsets are set, whatever they were and whoever holds the partition.
    NoCompareAndSet,
}

/// How likely each fault is, in thousandths of the calls that it can happen to; and windows of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The connection is cut before a statement is answered.
    pub cut: u64,
    /// The server ends a transaction as the victim of a deadlock that the model has no part in.
    pub deadlock: u64,
    /// The answer to a COMMIT is lost.
    pub lost_commit: u64,
    /// A statement takes seconds.
    pub slow: u64,
    /// A stage panics while it writes.
    pub panic: u64,
    /// The source fails.
    pub source: u64,
    pub outage_until: Option<Instant>,
    pub read_only_until: Option<Instant>,
    pub broker_until: Option<Instant>,
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Random(u64);

pub struct World {
    random: Mutex<Random>,
    faults: Mutex<Faults>,
    pub bug: Bug,
    pub tables: Mutex<Tables>,
    pub broker: Mutex<Broker>,
    /// Locks were released.
    pub released: Notify,
    broken: Mutex<Vec<String>>,
    /// What came about, to see that a set of seeds is not too tame.
    seen: Mutex<BTreeMap<&'static str, u64>>,
    began: Instant,
    /// A hash over all that happened, in its order.
    trail: Mutex<u64>,
    told: bool,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(seed: u64, bug: Bug, partitions: usize) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))),
            faults: Mutex::new(Faults::default()),
            bug,
            tables: Mutex::new(Tables::new()),
            broker: Mutex::new(Broker::new(partitions)),
            released: Notify::new(),
            broken: Mutex::new(Vec::new()),
            seen: Mutex::new(BTreeMap::new()),
            began: Instant::now(),
            trail: Mutex::new(seed),
            told: std::env::var_os("BIEF_TRACE").is_some(),
        })
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&self, bound: u64) -> u64 {
        let mut random = lock(&self.random);
        random.0 = random.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = random.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
    }

    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True so often in a thousand.
    pub fn chance(&self, thousandths: u64) -> bool {
        thousandths > 0 && self.below(1000) < thousandths
    }

    pub fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    pub fn faults(&self) -> Faults {
        *lock(&self.faults)
    }

    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.faults));
    }

    /// Says what happened; read with BIEF_TRACE=1.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let at = self.began.elapsed().as_millis() as u64;
        let text = what();
        let mut trail = lock(&self.trail);
        for byte in text.bytes().chain(at.to_le_bytes()) {
            *trail = (*trail ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.told {
            eprintln!("{at:>7} {text}");
        }
    }

    pub fn trail(&self) -> u64 {
        *lock(&self.trail)
    }

    pub fn saw(&self, what: &'static str) {
        *lock(&self.seen).entry(what).or_default() += 1;
    }

    pub fn seen(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.seen).clone()
    }

    pub fn broke(&self, what: String) {
        self.tell(|| format!("BROKEN: {what}"));
        lock(&self.broken).push(what);
    }

    pub fn broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }
}

/// What stops a daemon in its tracks: nothing of it goes on while it is shut.
#[derive(Default)]
pub struct Gate {
    shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    pub async fn pass(&self) {
        while self.is_shut() {
            let opened = self.opened.notified();
            if self.is_shut() {
                opened.await;
            }
        }
    }
}

/// Time that a thing takes.
pub async fn takes(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}
