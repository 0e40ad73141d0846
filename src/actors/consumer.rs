//! Takes partitions over in the database when the group gives them, and runs the thread that polls them.
//! Where a partition starts is the database's word alone; a partition whose offset the broker no longer has
//! stops the stream before anything is read.

mod feed;
mod lanes;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::Thread;

use actix::prelude::*;
use tokio::sync::mpsc::Sender;

use self::feed::Feed;
pub use self::feed::{Claimed, Claims, Ended};
pub use self::lanes::BatchLimits;
use crate::messages::{Assignments, Board, RecordBatch};
use crate::metrics::{QueueMetrics, StreamMetrics};
use crate::ports::{Broker, Claim, Clock, OpenBookkeeping, OpenSource, SourceError, WarehouseError};
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

/// The thread has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct PollingEnded;

pub struct Consumer {
    settings: Option<ConsumerSettings>,
    claimer: Arc<Claimer>,
    claims: Option<mpsc::Sender<Claims>>,
    thread: Option<Thread>,
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
        });
        Self { settings: Some(settings), claimer, claims: None, thread: None, poll_guard: Some(poll_guard), guard }
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
            let outcome = match (settings.open_source)() {
                Ok(source) => Feed {
                    stream: settings.stream,
                    source,
                    lanes: settings.lanes,
                    limits: settings.limits,
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
            match outcome {
                Ended::Drained | Ended::Cancelled => guard.finish(),
                Ended::Failed { error, fatal } => guard.fail(error, fatal),
            }
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
        let cancelled = self.guard.cancelled().clone();
        ctx.spawn(async move { cancelled.cancelled().await }.into_actor(self).map(|(), _, ctx| ctx.stop()));
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

impl Handler<PollingEnded> for Consumer {
    type Result = ();

    fn handle(&mut self, _: PollingEnded, ctx: &mut Self::Context) {
        self.guard.finish();
        ctx.stop();
    }
}

/// Takes partitions over: broker and database are asked for each assignment anew.
struct Claimer {
    topic: String,
    start: StartAt,
    open_bookkeeping: OpenBookkeeping,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
}

impl Claimer {
    async fn claim(&self, partitions: Vec<i32>) -> Claims {
        let (topic, broker) = (self.topic.clone(), Arc::clone(&self.broker));
        let asked = partitions.clone();
        let bounds = tokio::task::spawn_blocking(move || {
            let id = broker.topic_id(&topic)?;
            asked.iter().map(|p| broker.bounds(&topic, *p)).collect::<Result<Vec<_>, _>>().map(|bounds| (id, bounds))
        });
        let (topic_id, bounds) = match bounds.await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => return Err((error.to_string(), matches!(error, SourceError::Fatal(_)))),
            Err(error) => return Err((format!("asking the broker failed: {error}"), false)),
        };
        let fatal = |e: &WarehouseError| matches!(e, WarehouseError::Fatal { .. });
        let told = |e: WarehouseError| (format!("partitions could not be taken over: {e}"), fatal(&e));
        let bookkeeping = (self.open_bookkeeping)().await.map_err(told)?;
        let read_before = !bookkeeping.offsets(Some(&self.topic)).await.map_err(told)?.is_empty();
        let claims: Vec<Claim> = partitions
            .iter()
            .zip(&bounds)
            .map(|(partition, bounds)| Claim {
                partition: *partition,
                topic_id: topic_id.clone(),
                start_offset: match self.start {
                    StartAt::Earliest => bounds.low,
                    // A partition added later begins at its first record: nobody was there to leave it out.
                    StartAt::Latest if read_before => bounds.low,
                    StartAt::Latest => bounds.high,
                },
            })
            .collect();
        crate::failpoint!("claim", |error| return Err((error, false)));
        let offsets = bookkeeping.claim(&self.topic, &claims, self.clock.now()).await.map_err(told)?;
        let mut claimed = Vec::with_capacity(offsets.len());
        for (offset, bounds) in offsets.into_iter().zip(bounds) {
            let at = format!("partition {} of topic {}", offset.partition, self.topic);
            let stands = offset.next_offset;
            let doubt = if !offset.topic_id.is_empty() && !topic_id.is_empty() && offset.topic_id != topic_id {
                Some(format!("{at}: the topic was made anew (id {topic_id}, was {})", offset.topic_id))
            } else if stands < bounds.low {
                let lost = bounds.low - stands;
                Some(format!(
                    "{at}: offset {stands} is next, but retention left {} and later: {lost} offsets are lost",
                    bounds.low
                ))
            } else if stands > bounds.high {
                Some(format!("{at}: offset {stands} is next, but the partition ends at {}", bounds.high))
            } else {
                None
            };
            if let Some(doubt) = doubt {
                return Err((format!("{doubt}; nothing is consumed until an operator sets bief_offset right"), true));
            }
            claimed.push(Claimed { offset, high: bounds.high });
        }
        Ok(claimed)
    }
}
