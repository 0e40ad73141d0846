//! A look at records on their way: a sampled broadcast that may drop and never delays. While nobody listens it costs
//! one relaxed load a batch; while somebody does, a bounded number of copies a second. What does not fit a
//! listener's queue is dropped and counted. Who offers never waits: for no listener, and for no lock.

mod sample;

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};
use std::time::Instant;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

pub use self::sample::{Sample, SampledRow, StreamTap};

/// Listeners at once, open pages together counting as one: each may hold [`QUEUE_BYTES`].
pub const MAX_LISTENERS: usize = 8;

/// Most that waits for one listener, in samples and in bytes: together with [`MAX_LISTENERS`] a small part of the
/// room that the memory ceiling leaves beside the batches.
const QUEUE_SAMPLES: usize = 1024;
const QUEUE_BYTES: usize = 512 << 10;

/// A second's samples are taken in so many parts, so that a large batch does not use all of them up at once.
const PARTS_OF_A_SECOND: u64 = 10;

/// Where a record is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// As it was polled, before it is decoded.
    Raw,
    /// As the rows that were committed.
    Rows,
    /// As it was set aside, with the reason.
    DeadLetters,
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Raw, Stage::Rows, Stage::DeadLetters];

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Raw => "raw",
            Stage::Rows => "rows",
            Stage::DeadLetters => "dead-letters",
        }
    }

    pub fn named(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.as_str() == name)
    }
}

/// The stages that somebody listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages(u8);

impl Stages {
    pub fn has(self, stage: Stage) -> bool {
        self.0 & (1 << stage as u8) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where samples are offered and listened to. Cheap to clone; all clones are one tap.
#[derive(Debug, Clone, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// One bit a stage that has a listener.
    listened: AtomicU8,
    listeners: RwLock<Vec<Arc<Listener>>>,
    /// By stage, since the daemon began.
    sampled: [AtomicU64; 3],
    dropped: [AtomicU64; 3],
}

#[derive(Debug)]
struct Listener {
    stage: Stage,
    /// Most samples in a tenth of a second.
    most: usize,
    began: Instant,
    /// The present tenth of a second since `began`, and what was taken in it.
    part: AtomicU64,
    taken: AtomicUsize,
    queue: Sender<Arc<Sample>>,
    queued_bytes: AtomicUsize,
    passed: AtomicU64,
    dropped: AtomicU64,
}

/// What went by a listener since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Records, sampled or not.
    pub records: u64,
    /// Samples that did not fit its queue.
    pub dropped: u64,
}

/// All listeners that there may be listen already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Tap {
    /// The stages that somebody listens to: all that is asked while nobody does.
    pub fn listened(&self) -> Stages {
        Stages(self.0.listened.load(Ordering::Relaxed))
    }

    /// Listens to a stage until the answer is dropped, to at most so many samples a second.
    pub fn listen(&self, stage: Stage, per_second: usize) -> Result<Listening, TooMany> {
        let (queue, samples) = mpsc::channel(QUEUE_SAMPLES);
        let listener = Arc::new(Listener {
            stage,
            most: per_second.div_ceil(PARTS_OF_A_SECOND as usize).max(1),
            began: Instant::now(),
            part: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            queue,
            queued_bytes: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let mut listeners = self.0.listeners.write().unwrap_or_else(PoisonError::into_inner);
        if listeners.len() >= MAX_LISTENERS {
            return Err(TooMany);
        }
        listeners.push(Arc::clone(&listener));
        self.tell_listened(&listeners);
        drop(listeners);
        Ok(Listening { tap: self.clone(), listener, samples })
    }

    /// Offers `count` records of a stage. `make` copies the one at a position, and is called for those that are
    /// taken: evenly spread, ascending. One that it answers nothing for is left out.
    pub fn offer(&self, stage: Stage, count: usize, mut make: impl FnMut(usize) -> Option<Sample>) {
        if count == 0 {
            return;
        }
        let listeners = match self.0.listeners.try_read() {
            Ok(listeners) => listeners,
            Err(TryLockError::Poisoned(whole)) => whole.into_inner(),
            // A listener comes or goes just now: this batch is not looked at.
            Err(TryLockError::WouldBlock) => {
                self.0.dropped[stage as usize].fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let now = Instant::now();
        let takers: Vec<(&Arc<Listener>, usize)> =
            listeners.iter().filter(|l| l.stage == stage).map(|l| (l, l.allow(count, now))).collect();
        let most = takers.iter().map(|(_, allowed)| *allowed).max().unwrap_or(0);
        for nth in 0..most {
            let Some(sample) = make(nth * count / most) else { continue };
            let sample = Arc::new(sample);
            self.0.sampled[stage as usize].fetch_add(1, Ordering::Relaxed);
            for (listener, allowed) in &takers {
                // Evenly spread for those too that may take less.
                let is_due = (nth + 1) * allowed / most > nth * allowed / most;
                if is_due && !listener.take(&sample) {
                    self.0.dropped[stage as usize].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Records copied for listeners of a stage, and copies that did not fit a listener's queue, since the daemon began.
    pub fn counts(&self, stage: Stage) -> (u64, u64) {
        let at = stage as usize;
        (self.0.sampled[at].load(Ordering::Relaxed), self.0.dropped[at].load(Ordering::Relaxed))
    }

    fn leave(&self, listener: &Arc<Listener>) {
        let mut listeners = self.0.listeners.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|other| !Arc::ptr_eq(other, listener));
        self.tell_listened(&listeners);
    }

    fn tell_listened(&self, listeners: &[Arc<Listener>]) {
        let bits = listeners.iter().fold(0, |bits, listener| bits | 1 << listener.stage as u8);
        self.0.listened.store(bits, Ordering::Relaxed);
    }
}

impl Listener {
    /// How many of `count` records it may take now. Lanes that ask at the same time may together get a few more.
    fn allow(&self, count: usize, now: Instant) -> usize {
        self.passed.fetch_add(count as u64, Ordering::Relaxed);
        let since = now.saturating_duration_since(self.began).as_millis() as u64;
        let part = since * PARTS_OF_A_SECOND / 1000;
        if self.part.swap(part, Ordering::Relaxed) != part {
            self.taken.store(0, Ordering::Relaxed);
        }
        let allowed = count.min(self.most.saturating_sub(self.taken.load(Ordering::Relaxed)));
        self.taken.fetch_add(allowed, Ordering::Relaxed);
        allowed
    }

    /// Whether the sample fitted the queue.
    fn take(&self, sample: &Arc<Sample>) -> bool {
        let size = sample.size();
        let fits = self.queued_bytes.fetch_add(size, Ordering::Relaxed) + size <= QUEUE_BYTES;
        let sent = if fits { self.queue.try_send(Arc::clone(sample)) } else { Err(TrySendError::Full(sample.clone())) };
        if sent.is_err() {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent.is_ok()
    }
}

/// Somebody who listens; dropping it ends that.
#[derive(Debug)]
pub struct Listening {
    tap: Tap,
    listener: Arc<Listener>,
    samples: Receiver<Arc<Sample>>,
}

impl Listening {
    /// Waits for a sample, and appends it and those behind it to `into`, at most `limit`. Loses none where it is
    /// dropped before it ends.
    pub async fn next(&mut self, into: &mut Vec<Arc<Sample>>, limit: usize) {
        let before = into.len();
        self.samples.recv_many(into, limit).await;
        let taken = into[before..].iter().map(|sample| sample.size()).sum();
        self.listener.queued_bytes.fetch_sub(taken, Ordering::Relaxed);
    }

    /// What went by since it began.
    pub fn passed(&self) -> Passed {
        Passed {
            records: self.listener.passed.load(Ordering::Relaxed),
            dropped: self.listener.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.tap.leave(&self.listener);
    }
}

#[cfg(test)]
#[path = "tap/tests.rs"]
mod tests;
