//! Commits batches, one transaction each, and tries a batch again for as long as the database is away. A batch
//! that is not ours any more ends the pipeline, which is then built anew from the database's offsets.

mod commit;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use prometheus::IntCounter;
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;

pub use self::commit::{Committed, Committer, Ended, Rehearsed, Retried, RetryRequest};
use crate::core::commit_plan::Known;
use crate::core::letter_share::LetterShare;
use crate::core::mapping::Plan;
use crate::core::marks::Marking;
use crate::core::outcome::Counts;
use crate::messages::{Assignments, Board, RowBatch, StreamTap};
use crate::metrics::{QueueMetrics, StreamMetrics};
use crate::ports::{Clock, OpenWarehouse, Warehouse, WarehouseError};
use crate::runtime::{Backoff, ExitGuard};

/// First and longest wait before a batch is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What a writer is made of.
pub struct WriterSettings {
    pub stream: String,
    pub plan: Arc<Plan>,
    /// Whose buckets are marked where rows change.
    pub markings: Arc<[Marking]>,
    /// Committed rows of the dimension tables; one for all lanes of the stream.
    pub known: Arc<Mutex<Known>>,
    /// How many of the stream's recent records were set aside; one for all its lanes.
    pub share: Arc<Mutex<LetterShare>>,
    /// How many lanes the stream has.
    pub lanes: usize,
    pub input: Receiver<RowBatch>,
    pub open: OpenWarehouse,
    pub clock: Arc<dyn Clock>,
    pub assignments: Assignments,
    pub board: Board,
    /// Where committed rows and dead letters can be looked at.
    pub tap: StreamTap,
    pub metrics: StreamMetrics,
    /// Rows written, by target.
    pub rows_written: Vec<IntCounter>,
    /// What waits for the writers.
    pub queue: QueueMetrics,
}

pub struct Writer {
    stream: String,
    input: Option<Receiver<RowBatch>>,
    open: OpenWarehouse,
    /// Away while a batch is being written.
    lane: Option<Lane>,
    clock: Arc<dyn Clock>,
    assignments: Assignments,
    board: Board,
    tap: StreamTap,
    metrics: StreamMetrics,
    rows_written: Vec<IntCounter>,
    queue: QueueMetrics,
    guard: ExitGuard,
}

/// What one batch hands to the next.
struct Lane {
    committer: Committer,
    warehouse: Option<Box<dyn Warehouse>>,
}

enum Outcome {
    Committed(Committed),
    Cancelled,
    /// Another has taken the partitions over.
    Fenced {
        error: String,
    },
    Failed {
        error: String,
        fatal: bool,
    },
}

impl Writer {
    pub fn new(settings: WriterSettings, guard: ExitGuard) -> Self {
        let committer = Committer::new(settings.plan, settings.known, settings.lanes)
            .with_share(settings.share)
            .with_markings(settings.markings);
        Self {
            stream: settings.stream,
            input: Some(settings.input),
            open: settings.open,
            lane: Some(Lane { committer, warehouse: None }),
            clock: settings.clock,
            assignments: settings.assignments,
            board: settings.board,
            tap: settings.tap,
            metrics: settings.metrics,
            rows_written: settings.rows_written,
            queue: settings.queue,
            guard,
        }
    }

    fn committed(&mut self, batch: &RowBatch, committed: &Committed, began: Instant) {
        let now = self.clock.now().timestamp_millis();
        let metrics = &self.metrics;
        let mut total = Counts::default();
        for (partition, next_offset) in &committed.offsets {
            let counts =
                committed.counts.iter().find(|c| c.partition == *partition).map(|c| c.counts).unwrap_or_default();
            total = total.plus(counts);
            self.assignments.committed(*partition, *next_offset);
            self.board.committed(&self.stream, *partition, *next_offset, counts);
        }
        if committed.found {
            metrics.commits_found.inc();
            tracing::info!(
                stream = self.stream,
                actor = self.guard.name(),
                "the answer to COMMIT was lost, but the batch is in: its offsets stand where it alone puts them"
            );
        }
        let records = batch.source.records.len() as u64;
        metrics.committed(records, total, began.elapsed().as_secs_f64(), now as f64 / 1000.0);
        for (counter, rows) in self.rows_written.iter().zip(&committed.rows) {
            counter.inc_by(*rows);
        }
        for (_, rejection) in &committed.dead_letters {
            metrics.dead_letters(rejection.reason).inc();
        }
        for record in batch.source.records.iter().filter(|r| r.timestamp >= 0) {
            metrics.end_to_end_latency.observe((now - record.timestamp).max(0) as f64 / 1000.0);
        }
        self.tap.committed(batch, &committed.offsets, &committed.dead_letters, now);
    }
}

impl Actor for Writer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(input) = self.input.take() {
            ctx.add_stream(ReceiverStream::new(input));
        }
    }
}

impl StreamHandler<RowBatch> for Writer {
    fn handle(&mut self, batch: RowBatch, ctx: &mut Self::Context) {
        crate::failpoint!("before-write", |error| {
            self.guard.fail(error, false);
            return ctx.stop();
        });
        self.queue.left(batch.source.records.len());
        let Some(mut lane) = self.lane.take() else { return };
        let open = Arc::clone(&self.open);
        let held = self.assignments.clone();
        let clock = Arc::clone(&self.clock);
        let cancelled = self.guard.cancelled().clone();
        let (board, metrics) = (self.board.clone(), self.metrics.clone());
        let (stream, actor) = (self.stream.clone(), self.guard.name().to_owned());
        let began = Instant::now();
        let work = async move {
            let reporter = Reporter { board, metrics, stream, actor };
            let outcome = tokio::select! {
                biased;
                outcome = write(&mut lane, &open, &batch, &held, &clock, &reporter) => outcome,
                () = cancelled.cancelled() => Outcome::Cancelled,
            };
            (lane, batch, outcome)
        };
        ctx.wait(work.into_actor(self).map(move |(mut lane, batch, outcome), actor, ctx| match outcome {
            Outcome::Committed(committed) => {
                actor.lane = Some(lane);
                actor.committed(&batch, &committed, began);
            }
            Outcome::Cancelled => {
                if let Some(warehouse) = &mut lane.warehouse {
                    warehouse.abandon();
                }
                ctx.stop();
            }
            Outcome::Fenced { error } => {
                actor.guard.pass(error);
                ctx.stop();
            }
            Outcome::Failed { error, fatal } => {
                actor.guard.fail(error, fatal);
                ctx.stop();
            }
        }));
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.guard.finish();
        ctx.stop();
    }
}

/// Where a writer's trouble is told while it waits.
struct Reporter {
    board: Board,
    metrics: StreamMetrics,
    stream: String,
    actor: String,
}

/// Until the batch is in, whatever the database does in the meantime.
async fn write(
    lane: &mut Lane,
    open: &OpenWarehouse,
    batch: &RowBatch,
    held: &Assignments,
    clock: &Arc<dyn Clock>,
    reporter: &Reporter,
) -> Outcome {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
    let mut tried = false;
    loop {
        let outcome = attempt(lane, open, batch, held, clock).await;
        let error = match outcome {
            Ok(committed) => {
                if tried {
                    reporter.board.well(&reporter.stream, &reporter.actor);
                    tracing::info!(
                        stream = reporter.stream,
                        actor = reporter.actor,
                        "the warehouse takes batches again"
                    );
                }
                return Outcome::Committed(committed);
            }
            Err(error) => error,
        };
        reporter.metrics.commit_failures.inc();
        let what = match error {
            WarehouseError::Transient { what } => what,
            error @ WarehouseError::Fenced { .. } => {
                reporter.metrics.fenced_commits.inc();
                return Outcome::Fenced { error: error.to_string() };
            }
            error @ WarehouseError::SchemaChanged { .. } => {
                return Outcome::Failed { error: error.to_string(), fatal: false };
            }
            error @ WarehouseError::Fatal { .. } => {
                return Outcome::Failed { error: error.to_string(), fatal: true };
            }
        };
        if let Some(warehouse) = &mut lane.warehouse {
            warehouse.abandon();
        }
        let wait = backoff.next_delay();
        reporter.metrics.commit_retries.inc();
        reporter.board.troubled(&reporter.stream, &reporter.actor, &what, clock.now());
        tracing::warn!(
            stream = reporter.stream,
            actor = reporter.actor,
            cause = what,
            wait_seconds = wait.as_secs_f64(),
            "the warehouse did not take a batch; nothing is lost, the batch is tried again"
        );
        tried = true;
        tokio::time::sleep(wait).await;
    }
}

async fn attempt(
    lane: &mut Lane,
    open: &OpenWarehouse,
    batch: &RowBatch,
    held: &Assignments,
    clock: &Arc<dyn Clock>,
) -> Result<Committed, WarehouseError> {
    if lane.warehouse.is_none() {
        lane.warehouse = Some(open().await?);
    }
    match &mut lane.warehouse {
        Some(warehouse) => lane.committer.commit(warehouse.as_mut(), batch, held, clock.now()).await,
        None => Err(WarehouseError::Transient { what: "the warehouse is not open".to_owned() }),
    }
}
