//! The consumer's own thread: polls without ever waiting for a database, fills a batch for each lane, and
//! hands it on as soon as the lane has room. A full lane is simply not polled, so that its records wait in
//! librdkafka's queue, while the group goes on being served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use prometheus::Counter;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
// The machine's clock on a thread of its own, the paused one in a simulation.
use tokio::time::Instant;

use super::lanes::{BatchLimits, Filling, MemoryLimit, Position};
use super::pending::Pending;
use crate::messages::{Assignments, Board, RecordBatch};
use crate::metrics::{QueueMetrics, StreamMetrics};
use crate::ports::{Clock, PartitionOffset, Polled, RecordSource, SourceError, SourceEvent, WarehouseError};
use crate::runtime::ExitGuard;

/// How long a revocation waits for batches and claims on their way before the pipeline is rebuilt and the database's
/// compare-and-set decides; a drain waits as long for claims.
const REVOCATION_WAIT: Duration = Duration::from_secs(5);
/// How long the thread sleeps when a lane is full or the memory used up: their room is not signalled.
const FULL_WAIT: Duration = Duration::from_millis(1);
/// How long it sleeps when there is nothing to do: the group wants to be served now and then.
const IDLE_WAIT: Duration = Duration::from_millis(20);
/// Partitions that are not taken over after so long are told as trouble: they are not read meanwhile.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
/// How long other lanes go on after one has met a batch that cannot be read.
const OTHERS_GO_ON: Duration = Duration::from_secs(5);
const UNCLAIMED: &str = "partitions that the group gave are not taken over yet: the database, another daemon that holds \
                         their rows, or the broker keeps the answer back; it is waited for, and asked for again";
/// The thread's name on the board.
pub(super) const ACTOR: &str = "poll";
/// A lane that was given a batch so recently lets the next grow: a transaction costs the database the same for one
/// record as for fifty. A lane that was idle is given its first record at once.
const PACE: Duration = Duration::from_millis(20);
/// Records asked for in one call.
const POLLED_AT_ONCE: usize = 512;
/// How often commits are told to the broker and ends to the board.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What the actor answers to an assignment.
pub type Claims = Result<Vec<Claimed>, Ended>;

/// A partition that was taken over in the database.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub offset: PartitionOffset,
    /// The partition's end at the broker.
    pub high: i64,
}

/// Everything that the thread works with.
pub struct Feed {
    pub stream: String,
    pub source: Box<dyn RecordSource>,
    pub lanes: Vec<Sender<RecordBatch>>,
    pub limits: BatchLimits,
    pub memory: MemoryLimit,
    pub assignments: Assignments,
    pub board: Board,
    pub metrics: StreamMetrics,
    /// Seconds in which a lane had no room.
    pub blocked: Counter,
    /// What waits for the decoders.
    pub queue: QueueMetrics,
    pub claims: Receiver<Claims>,
    pub clock: Arc<dyn Clock>,
    /// Asks the actor to take these partitions over.
    pub claim: Box<dyn Fn(Vec<i32>) + Send>,
}

/// Why the thread ended.
#[derive(Debug)]
pub enum Ended {
    Drained,
    Cancelled,
    /// Broker, database or group are in the way for now: the pipeline is built again until they are not.
    Passing {
        error: String,
    },
    /// The broker truncated the log of a partition: that is put down first, then it is as passing as any doubt.
    Truncated {
        partition: i32,
        error: String,
    },
    Failed {
        error: String,
        fatal: bool,
    },
}

impl Ended {
    /// Says it by the guard of who ended.
    pub fn tell(self, guard: &ExitGuard) {
        match self {
            Ended::Drained | Ended::Cancelled => guard.finish(),
            Ended::Passing { error } | Ended::Truncated { error, .. } => guard.pass(error),
            Ended::Failed { error, fatal } => guard.fail(error, fatal),
        }
    }
}

impl From<SourceError> for Ended {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Fatal(error) => Ended::Failed { error, fatal: true },
            // In doubt: the next start looks at the offsets, and waits for an operator.
            SourceError::Transient(error) | SourceError::InDoubt(error) | SourceError::Damaged(error) => {
                Ended::Passing { error }
            }
            SourceError::Truncated { partition, what } => Ended::Truncated { partition, error: what },
        }
    }
}

impl From<WarehouseError> for Ended {
    fn from(error: WarehouseError) -> Self {
        let told = format!("partitions could not be taken over: {error}");
        match error {
            WarehouseError::Fatal { .. } => Ended::Failed { error: told, fatal: true },
            WarehouseError::Transient { .. } | WarehouseError::Fenced { .. } => Ended::Passing { error: told },
            WarehouseError::SchemaChanged { .. } => Ended::Failed { error: told, fatal: false },
        }
    }
}

struct State {
    positions: BTreeMap<i32, Position>,
    /// Assigned by the group, not yet claimed in the database.
    claiming: Pending,
    /// Revoked by the group, batches or a claim still on their way, and until when they may be.
    revoking: BTreeMap<i32, Instant>,
    /// Since when some claim has been under way, as far as it was looked at.
    claiming_since: Option<Instant>,
    /// Until when a drain waits for claims.
    draining: Option<Instant>,
    filling: Vec<Filling>,
    /// Since when each lane has had no room.
    blocked: Vec<Option<Instant>>,
    /// The memory is used up: since when that has not been counted.
    starved: Option<Instant>,
    /// When each lane was last given a batch.
    given: Vec<Option<Instant>>,
    reported: Instant,
    damaged: Option<Damaged>,
}

/// A batch that cannot be read. Its lane is polled no more; the others for a while, so that they are not held up by it
/// between one building of the pipeline and the next.
struct Damaged {
    error: String,
    lane: usize,
    until: Instant,
}

/// A feed that was begun, between two turns.
pub struct Polling {
    feed: Feed,
    state: State,
    events: Vec<SourceEvent>,
}

impl Polling {
    /// One turn. Answers how long to wait before the next, at most, or why there is none.
    pub fn step(&mut self, guard: &ExitGuard) -> Result<Duration, Ended> {
        if guard.cancelled().is_cancelled() {
            return Err(Ended::Cancelled);
        }
        let turn = match guard.draining().is_cancelled() {
            true => self.feed.drain(&mut self.state, &mut self.events)?,
            false => self.feed.turn(&mut self.state, &mut self.events)?,
        };
        Ok(match turn {
            Turn::Worked => Duration::ZERO,
            Turn::Full => FULL_WAIT,
            Turn::Idle => IDLE_WAIT,
        })
    }
}

impl Feed {
    /// Polls until told to stop or something is wrong.
    pub fn run(self, guard: &ExitGuard) -> Ended {
        let mut polling = self.begin();
        loop {
            match polling.step(guard) {
                Ok(Duration::ZERO) => {}
                Ok(at_most) => polling.feed.source.wait(at_most),
                Err(ended) => return ended,
            }
        }
    }

    /// For who takes the turns himself, as a simulation does.
    pub fn begin(self) -> Polling {
        let state = State {
            positions: BTreeMap::new(),
            claiming: Pending::default(),
            revoking: BTreeMap::new(),
            claiming_since: None,
            draining: None,
            filling: (0..self.lanes.len()).map(|_| Filling::default()).collect(),
            blocked: vec![None; self.lanes.len()],
            starved: None,
            given: vec![None; self.lanes.len()],
            reported: Instant::now(),
            damaged: None,
        };
        Polling { feed: self, state, events: Vec::new() }
    }

    fn turn(&mut self, state: &mut State, events: &mut Vec<SourceEvent>) -> Result<Turn, Ended> {
        self.source.serve(events)?;
        for event in events.drain(..) {
            match event {
                SourceEvent::Assigned(partitions) => {
                    state.claiming.asked(&partitions);
                    (self.claim)(partitions);
                }
                SourceEvent::Revoked(partitions) => self.revoke(state, &partitions),
            }
        }
        self.take_claims(state)?;
        self.give_back(state)?;
        let mut turn = Turn::Idle;
        self.count_starved(state);
        for lane in 0..self.lanes.len() {
            match self.fill(state, lane)? {
                Turn::Worked => turn = Turn::Worked,
                Turn::Full if turn != Turn::Worked => turn = Turn::Full,
                _ => {}
            }
        }
        if state.reported.elapsed() >= REPORT_EVERY {
            self.report(state);
        }
        self.end_if_damaged(state)?;
        Ok(turn)
    }

    /// What lies before a batch that cannot be read is handed on and written first.
    fn end_if_damaged(&self, state: &State) -> Result<(), Ended> {
        let Some(Damaged { error, until, .. }) = &state.damaged else { return Ok(()) };
        let under_way = state.filling.iter().any(|f| !f.is_empty()) || self.assignments.any_in_flight();
        let now = Instant::now();
        match now >= *until && (!under_way || now >= *until + REVOCATION_WAIT) {
            true => Err(Ended::Passing { error: error.clone() }),
            false => Ok(()),
        }
    }

    /// Polls one lane into its batch and hands the batch on where there is room.
    fn fill(&mut self, state: &mut State, lane: usize) -> Result<Turn, Ended> {
        let State { positions, filling, blocked, given, damaged, .. } = state;
        let readable = |damaged: &Option<Damaged>| {
            damaged.as_ref().is_none_or(|damaged| damaged.lane != lane && Instant::now() < damaged.until)
        };
        let filling = &mut filling[lane];
        let mut polled = 0;
        let (limits, memory, cost) = (self.limits, &self.memory.shares[lane], &self.memory.cost);
        // In parts, so that large records stop at the limits of bytes. While the memory is used up nothing is polled:
        // records wait in librdkafka, which stops fetching when its own share is full.
        loop {
            let part = filling.part(&limits, memory, cost, POLLED_AT_ONCE);
            if part == 0 || !readable(damaged) {
                break;
            }
            let (before, mut bytes) = (filling.records(), 0);
            let (board, stream) = (&self.board, &self.stream);
            let outcome = self.source.poll(lane, part, &mut |p| {
                if let (Polled::End { partition, offset }, true) = (p, positions.contains_key(&p.partition())) {
                    board.read_to_end(stream, partition, offset);
                }
                bytes += filling.take(p, positions, &limits);
            });
            let records = filling.records() - before;
            filling.charge(records, bytes, memory, cost);
            self.metrics.records_consumed.inc_by(records as u64);
            self.metrics.bytes_consumed.inc_by(bytes as u64);
            let count = match outcome {
                Ok(count) => count,
                Err(SourceError::Damaged(error)) => {
                    let until = Instant::now() + OTHERS_GO_ON;
                    damaged.get_or_insert(Damaged { error, lane, until });
                    records
                }
                Err(error) => return Err(error.into()),
            };
            polled += count;
            if count > 0 {
                crate::failpoint!("polled", |error| return Err(Ended::Failed { error, fatal: false }));
            }
            if count < part {
                break;
            }
        }
        let growing = given[lane].is_some_and(|at| at.elapsed() < PACE)
            && filling.part(&limits, memory, cost, POLLED_AT_ONCE) > 0;
        let starved = memory.room() == 0;
        if growing {
            // Its time comes within the pace.
        } else if !filling.is_empty() && self.lanes[lane].capacity() == 0 && !self.lanes[lane].is_closed() {
            blocked[lane].get_or_insert_with(Instant::now);
        } else if !filling.is_empty() {
            let mut batch = filling.finish();
            batch.in_flight = Some(self.assignments.depart(batch.moves.iter().map(|m| m.partition)));
            let records = batch.records.len();
            crate::failpoint!("hand-on", |error| return Err(Ended::Failed { error, fatal: false }));
            match self.lanes[lane].try_send(batch) {
                Ok(()) => {
                    self.queue.entered(records);
                    given[lane] = Some(Instant::now());
                    if let Some(since) = blocked[lane].take() {
                        self.blocked.inc_by(since.elapsed().as_secs_f64());
                    }
                    return Ok(Turn::Worked);
                }
                Err(TrySendError::Full(mut batch)) => {
                    batch.in_flight = None;
                    filling.resume(batch);
                    blocked[lane].get_or_insert_with(Instant::now);
                }
                Err(TrySendError::Closed(_)) => {
                    return Err(Ended::Failed { error: format!("lane {lane} is gone"), fatal: false });
                }
            }
        }
        Ok(match (polled > 0, filling.is_empty()) {
            (true, _) => Turn::Worked,
            (false, true) if !starved => Turn::Idle,
            (false, _) => Turn::Full,
        })
    }

    /// Counts the time in which a lane is not polled since the memory is used up.
    fn count_starved(&self, state: &mut State) {
        let now = Instant::now();
        let starved = self.memory.shares.iter().any(|share| share.room() == 0);
        if let Some(since) = std::mem::replace(&mut state.starved, starved.then_some(now)) {
            self.metrics.memory_waited.inc_by((now - since).as_secs_f64());
        }
    }

    fn take_claims(&mut self, state: &mut State) -> Result<(), Ended> {
        loop {
            match self.claims.try_recv() {
                Ok(Ok(claimed)) => {
                    let mut started = Vec::with_capacity(claimed.len());
                    // It may have been revoked while the database was asked.
                    for Claimed { offset, high } in claimed.into_iter().filter_map(|c| state.claiming.answered(c)) {
                        let partition = offset.partition;
                        let lane = partition as usize % self.lanes.len();
                        let position = Position { epoch: offset.epoch, lane, next: offset.next_offset, end: None };
                        self.assignments.assign(partition, offset.epoch);
                        self.board.claimed(&self.stream, &offset, lane, high);
                        state.positions.insert(partition, position);
                        started.push((partition, lane, offset.next_offset));
                        tracing::info!(
                            stream = self.stream,
                            partition,
                            lane,
                            offset = offset.next_offset,
                            epoch = offset.epoch,
                            "partition taken over"
                        );
                    }
                    crate::failpoint!("assign", |error| return Err(Ended::Passing { error }));
                    self.source.assign(&started)?;
                }
                Ok(Err(ended)) => return Err(ended),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(Ended::Failed { error: "nobody claims partitions any more".to_owned(), fatal: false });
                }
            }
        }
    }

    fn revoke(&mut self, state: &mut State, partitions: &[i32]) {
        for &partition in partitions {
            state.claiming.revoked(partition);
            state.positions.remove(&partition);
            self.assignments.revoke(partition);
            state.filling.iter_mut().for_each(|f| f.forget(partition));
            state.revoking.insert(partition, Instant::now() + REVOCATION_WAIT);
        }
    }

    /// Gives partitions back whose last batch has ended, and of which no claim is under way: one that lands later would
    /// fence whoever holds the partition by then.
    fn give_back(&mut self, state: &mut State) -> Result<(), Ended> {
        if state.revoking.is_empty() {
            return Ok(());
        }
        let claiming = state.revoking.keys().any(|p| state.claiming.contains(*p));
        if claiming || state.revoking.keys().any(|p| self.assignments.in_flight(*p) > 0) {
            if state.revoking.values().any(|deadline| *deadline <= Instant::now()) {
                let what = if claiming { "claim was not answered" } else { "batch was not written" };
                return Err(Ended::Passing {
                    error: format!("a revoked partition's {what} within {REVOCATION_WAIT:?}"),
                });
            }
            return Ok(());
        }
        crate::failpoint!("release", |error| return Err(Ended::Failed { error, fatal: false }));
        self.report(state);
        let partitions: Vec<i32> = std::mem::take(&mut state.revoking).into_keys().collect();
        for partition in &partitions {
            self.board.released(&self.stream, *partition);
        }
        tracing::info!(stream = self.stream, ?partitions, "partitions given back");
        self.source.release(&partitions)?;
        Ok(())
    }

    /// A turn of a drain: nothing more is polled; what is on its way ends, then the group is left.
    fn drain(&mut self, state: &mut State, events: &mut Vec<SourceEvent>) -> Result<Turn, Ended> {
        self.lanes.clear();
        while let Ok(answer) = self.claims.try_recv() {
            match answer {
                Ok(claimed) => claimed.into_iter().for_each(|c| drop(state.claiming.answered(c))),
                Err(_) => state.claiming.clear(),
            }
        }
        let until = *state.draining.get_or_insert_with(|| Instant::now() + REVOCATION_WAIT);
        let claimed = state.claiming.is_empty() || until <= Instant::now();
        if claimed && !self.assignments.any_in_flight() {
            self.report(state);
            return Err(Ended::Drained);
        }
        self.source.serve(events)?;
        events.clear();
        Ok(Turn::Full)
    }

    fn report(&mut self, state: &mut State) {
        state.reported = Instant::now();
        let since = state.claiming_since.unwrap_or(state.reported);
        state.claiming_since = (!state.claiming.is_empty()).then_some(since);
        let unclaimed = state.claiming_since.filter(|since| since.elapsed() >= CLAIM_PATIENCE);
        let unclaimed = unclaimed.map(|_| UNCLAIMED.to_owned());
        let damaged = state.damaged.as_ref().map(|damaged| damaged.error.clone());
        match self.source.trouble().or(damaged).or(unclaimed) {
            Some(cause) => self.board.troubled(&self.stream, ACTOR, &cause, self.clock.now()),
            None => self.board.well(&self.stream, ACTOR),
        }
        let committed = self.assignments.take_committed();
        if !committed.is_empty() {
            crate::failpoint!("report", |_error| return);
            self.source.report_committed(&committed);
        }
        for (partition, position) in &state.positions {
            // At its end the partition says so itself; the broker's mark counts transactions that are still open.
            if position.end.is_none_or(|end| end < position.next)
                && let Some(end) = self.source.known_end(*partition)
            {
                self.board.ends_at(&self.stream, *partition, end);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Worked,
    /// A lane has no room, or the memory is used up.
    Full,
    Idle,
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
