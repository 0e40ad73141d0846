//! Takes partitions over in the database when the group gives them, and runs the thread that polls them.
//! Where a partition starts is the database's word alone; a partition whose offset the broker no longer has
//! stops the stream before anything is read.

mod claimer;
mod feed;
mod lanes;
mod pending;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use actix::prelude::*;
use tokio::sync::mpsc::Sender;

use self::claimer::Claimer;
pub use self::feed::{Claimed, Claims, Ended, Feed, Polling};
pub use self::lanes::{BatchLimits, MemoryLimit};
use self::watch::{LOOK_EVERY, Watch};
use crate::messages::{Assignments, Board, RecordBatch};
use crate::metrics::{QueueMetrics, StreamMetrics};
use crate::ports::{Broker, Clock, OpenBookkeeping, OpenSource, WarehouseError};
use crate::runtime::ExitGuard;

/// Where a partition begins that the database does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    Earliest,
    Latest,
}

/// What a consumer is made of.
pub struct ConsumerSettings {
    pub stream: String,
    pub topic: String,
    pub start: StartAt,
    pub limits: BatchLimits,
    pub memory: MemoryLimit,
    pub open_source: OpenSource,
    pub open_bookkeeping: OpenBookkeeping,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub assignments: Assignments,
    pub board: Board,
    pub metrics: StreamMetrics,
    /// What waits for the decoders.
    pub queue: QueueMetrics,
    pub lanes: Vec<Sender<RecordBatch>>,
}

/// The group gave these partitions to this daemon.
#[derive(Message)]
#[rtype(result = "()")]
struct PartitionsAssigned(Vec<i32>);

/// The broker truncated the log of this partition; answered once that is put down, or cannot be.
#[derive(Message)]
#[rtype(result = "()")]
struct LogTruncated {
    partition: i32,
    done: mpsc::Sender<Result<(), WarehouseError>>,
}

/// The thread has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct PollingEnded;

pub struct Consumer {
    settings: Option<ConsumerSettings>,
    claimer: Arc<Claimer>,
    claims: Option<mpsc::Sender<Claims>>,
    thread: Option<Thread>,
    watch: Arc<Watch>,
    /// A look at the broker is under way.
    looking: bool,
    /// Of the polling thread; handed to it at the start.
    poll_guard: Option<ExitGuard>,
    guard: ExitGuard,
}

impl Consumer {
    /// `poll_guard` is the thread's, `guard` the actor's.
    pub fn new(settings: ConsumerSettings, guard: ExitGuard, poll_guard: ExitGuard) -> Self {
        let claimer = Arc::new(Claimer {
            topic: settings.topic.clone(),
            start: settings.start,
            open_bookkeeping: Arc::clone(&settings.open_bookkeeping),
            broker: Arc::clone(&settings.broker),
            clock: Arc::clone(&settings.clock),
            topic_id: OnceLock::new(),
        });
        let watch = Arc::new(Watch {
            stream: settings.stream.clone(),
            topic: settings.topic.clone(),
            broker: Arc::clone(&settings.broker),
            board: settings.board.clone(),
            clock: Arc::clone(&settings.clock),
            missing: AtomicBool::default(),
            asked: AtomicUsize::default(),
        });
        Self {
            settings: Some(settings),
            claimer,
            claims: None,
            thread: None,
            watch,
            looking: false,
            poll_guard: Some(poll_guard),
            guard,
        }
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (Some(settings), Some(guard)) = (self.settings.take(), self.poll_guard.take()) else { return };
        let (claims, claims_in) = mpsc::channel();
        self.claims = Some(claims);
        let addr = ctx.address();
        let ended = ctx.address();
        let name = format!("poll-{}", settings.stream);
        let poll = move |guard: &ExitGuard| {
            let mut outcome = match (settings.open_source)() {
                Ok(source) => Feed {
                    stream: settings.stream,
                    source,
                    lanes: settings.lanes,
                    limits: settings.limits,
                    memory: settings.memory,
                    assignments: settings.assignments,
                    board: settings.board,
                    blocked: settings.metrics.blocked_seconds("consumer"),
                    metrics: settings.metrics,
                    queue: settings.queue,
                    claims: claims_in,
                    clock: settings.clock,
                    claim: Box::new(move |partitions| addr.do_send(PartitionsAssigned(partitions))),
                }
                .run(guard),
                Err(error) => error.into(),
            };
            if let Ended::Truncated { partition, .. } = outcome {
                // Before the next life of the pipeline looks at the offsets. Where this one is cancelled nobody answers.
                let (done, put_down) = mpsc::channel();
                ended.do_send(LogTruncated { partition, done });
                if let Ok(Err(error)) = put_down.recv() {
                    outcome = error.into();
                }
            }
            outcome.tell(guard);
            ended.do_send(PollingEnded);
        };
        let spawned = std::thread::Builder::new().name(name).spawn(move || guard.run(poll));
        match spawned {
            Ok(handle) => self.thread = Some(handle.thread().clone()),
            Err(error) => {
                self.guard.fail(format!("the polling thread could not be started: {error}"), false);
                ctx.stop();
            }
        }
        ctx.run_interval(LOOK_EVERY, Self::look);
        let cancelled = self.guard.cancelled().clone();
        ctx.spawn(async move { cancelled.cancelled().await }.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Consumer {
    /// Looks whether the topic is still the one that is read; what is found takes the pipeline down.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let watch = Arc::clone(&self.watch);
        let expected = self.claimer.topic_id.get().cloned().unwrap_or_default();
        let look = async move { tokio::task::spawn_blocking(move || watch.look(&expected)).await };
        let told = look.into_actor(self).map(|found, actor, ctx| {
            actor.looking = false;
            match found {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(doubt))) => {
                    actor.guard.pass(doubt);
                    ctx.stop();
                }
                // The source tells that no broker answers.
                Ok(Err(error)) => tracing::debug!(%error, "the broker could not be asked where the topic stands"),
                Err(error) => tracing::debug!(%error, "the broker was not asked where the topic stands"),
            }
        });
        ctx.spawn(told);
    }
}

impl Handler<PartitionsAssigned> for Consumer {
    type Result = ();

    fn handle(&mut self, PartitionsAssigned(partitions): PartitionsAssigned, ctx: &mut Self::Context) {
        let claimer = Arc::clone(&self.claimer);
        let answer = async move { claimer.claim(partitions).await }.into_actor(self).map(|claims, actor, _| {
            // The thread may have ended; then its guard has told why.
            let _ = actor.claims.as_ref().map(|c| c.send(claims));
            if let Some(thread) = &actor.thread {
                thread.unpark();
            }
        });
        ctx.spawn(answer);
    }
}

impl Handler<LogTruncated> for Consumer {
    type Result = ();

    fn handle(&mut self, LogTruncated { partition, done }: LogTruncated, ctx: &mut Self::Context) {
        let (claimer, watch) = (Arc::clone(&self.claimer), Arc::clone(&self.watch));
        let put_down = async move {
            let waited = |cause: &str| watch.board.troubled(&watch.stream, feed::ACTOR, cause, watch.clock.now());
            // The thread waits for it.
            let _ = done.send(claimer.put_down(partition, &waited).await);
        };
        ctx.spawn(put_down.into_actor(self));
    }
}

impl Handler<PollingEnded> for Consumer {
    type Result = ();

    fn handle(&mut self, _: PollingEnded, ctx: &mut Self::Context) {
        self.guard.finish();
        ctx.stop();
    }
}
