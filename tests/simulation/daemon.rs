//! A daemon as the topology builds it: the real supervisor, feed, decoders and writers, over the model's ports, all on one
//! thread. The feed takes its turns in a task instead of a thread; claims are asked for as the consumer does.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bief::actors::consumer::{BatchLimits, Claimed, Claims, Ended, Feed, MemoryLimit};
use bief::actors::decoder::{Decoder, DecoderSettings};
use bief::actors::writer::{Writer, WriterSettings};
use bief::core::commit_plan::Known;
use bief::core::doubt;
use bief::core::letter_share::LetterShare;
use bief::core::mapping::Plan;
use bief::core::memory::RecordCost;
use bief::messages::{Assignments, Board, StreamTap, Tap};
use bief::metrics::Metrics;
use bief::ports::{Bookkeeping, Claim, Clock, OpenWarehouse, SystemClock, TopicStanding, Warehouse};
use bief::runtime::{
    Budget, Incarnation, Options, Placement, RestartPolicy, Share, StartError, Supervisor, SupervisorHandle, UnitSpec,
    UnitState,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::broker::Source;
use crate::database::{Book, Connection};
use crate::records::{LARGEST, TOPIC, markings};
use crate::world::{Gate, World, lock, takes};

/// How a run's daemons are set up; all alike.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub lanes: usize,
    pub batch_records: usize,
    /// Bytes of memory that batches may take.
    pub memory: u64,
}

/// One process.
pub struct Daemon {
    pub gate: Arc<Gate>,
    supervisor: SupervisorHandle,
}

impl Daemon {
    pub fn start(world: &Arc<World>, plan: &Arc<Plan>, metrics: &Metrics, setup: Setup) -> Self {
        let gate = Arc::new(Gate::default());
        let budget = Budget::new(setup.memory, setup.lanes);
        let pipeline = Rc::new(Pipeline {
            world: Arc::clone(world),
            gate: Arc::clone(&gate),
            plan: Arc::clone(plan),
            board: Board::default(),
            metrics: metrics.clone(),
            setup,
            memory: MemoryLimit {
                shares: (0..setup.lanes).map(|lane| budget.share(lane)).collect(),
                cost: RecordCost::of(plan),
            },
        });
        // The budget is what a daemon has unless told otherwise: no outage may spend it.
        let policy = RestartPolicy {
            max: Duration::from_secs(3),
            abandon_after: Duration::from_secs(5),
            ..RestartPolicy::default()
        };
        let unit = UnitSpec::new("orders", policy, move |incarnation: Incarnation| {
            let pipeline = Rc::clone(&pipeline);
            Box::pin(async move { pipeline.start(incarnation).await })
        });
        let options =
            Options { placement: Placement::Current, seed: Some(world.below(u64::MAX)), ..Options::default() };
        Self { gate, supervisor: Supervisor::launch(vec![unit], options) }
    }

    /// SIGKILL: nothing of it goes on, nobody is told.
    pub async fn kill(&self) {
        self.gate.shut();
        self.supervisor.drain(Duration::ZERO).await;
    }

    /// SIGTERM.
    pub async fn drain(&self) {
        self.supervisor.drain(Duration::from_secs(20)).await;
    }

    /// The pipeline was given up.
    pub fn has_failed(&self) -> bool {
        self.supervisor.status().iter().any(|unit| unit.state == UnitState::Failed)
    }

    /// How often the pipeline was built again.
    pub fn restarts(&self) -> u64 {
        self.supervisor.status().iter().map(|unit| unit.restarts).sum()
    }

    /// How the unit does, for a failure's message.
    pub fn status(&self) -> String {
        format!("{:?}", self.supervisor.status())
    }
}

struct Pipeline {
    world: Arc<World>,
    gate: Arc<Gate>,
    plan: Arc<Plan>,
    board: Board,
    metrics: Metrics,
    setup: Setup,
    memory: MemoryLimit,
}

impl Pipeline {
    async fn start(&self, incarnation: Incarnation) -> Result<(), StartError> {
        self.gate.pass().await;
        self.board.restarted(TOPIC);
        self.world.tell(|| format!("a pipeline starts, generation {}", incarnation.generation()));
        // The plan is read from the database.
        let read = Connection::open(Arc::clone(&self.world), Arc::clone(&self.gate)).await;
        drop(read.map_err(StartError::transient)?);
        let metrics = self.metrics.stream(TOPIC);
        let assignments = Assignments::default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (to_decoder, to_writer) =
            (metrics.queue("decoder", self.setup.lanes), metrics.queue("writer", self.setup.lanes));
        let known = Arc::new(Mutex::new(Known::within(self.plan.targets.len(), 1 << 20)));
        let share = Arc::new(Mutex::new(LetterShare::new(1.0)));
        let (world, gate) = (Arc::clone(&self.world), Arc::clone(&self.gate));
        let open: OpenWarehouse = Arc::new(move || {
            let (world, gate) = (Arc::clone(&world), Arc::clone(&gate));
            Box::pin(async move {
                let connection = Connection::open(world, gate).await?;
                Ok(Box::new(connection) as Box<dyn Warehouse>)
            })
        });
        let arbiters = incarnation.placement();
        let tap = StreamTap::new(Tap::default(), TOPIC, Arc::clone(&self.plan));
        let mut lanes = Vec::new();
        for lane in 0..self.setup.lanes {
            let (records, decoder_in) = tokio::sync::mpsc::channel(1);
            let (rows, writer_in) = tokio::sync::mpsc::channel(1);
            lanes.push(records);
            let writer = WriterSettings {
                stream: TOPIC.to_owned(),
                plan: Arc::clone(&self.plan),
                markings: markings(&self.plan),
                known: Arc::clone(&known),
                share: Arc::clone(&share),
                lanes: self.setup.lanes,
                input: writer_in,
                open: Arc::clone(&open),
                clock: Arc::clone(&clock),
                assignments: assignments.clone(),
                board: self.board.clone(),
                tap: tap.clone(),
                metrics: metrics.clone(),
                rows_written: self.plan.targets.iter().map(|t| self.metrics.rows_written(&t.table.name)).collect(),
                queue: to_writer.clone(),
            };
            let name = format!("writer-{lane}");
            let guard = incarnation.guard(&name);
            arbiters.start(&name, move |_| Writer::new(writer, guard));
            let decoder = DecoderSettings {
                stream: TOPIC.to_owned(),
                plan: Arc::clone(&self.plan),
                input: decoder_in,
                output: rows,
                board: self.board.clone(),
                tap: tap.clone(),
                metrics: metrics.clone(),
                queue_in: to_decoder.clone(),
                queue_out: to_writer.clone(),
            };
            let name = format!("decoder-{lane}");
            let guard = incarnation.guard(&name);
            arbiters.start(&name, move |_| Decoder::new(decoder, guard));
        }
        let (claims, claims_in) = mpsc::channel();
        let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
        let feed = Feed {
            stream: TOPIC.to_owned(),
            source: Box::new(Source::open(Arc::clone(&self.world), Arc::clone(&self.gate))),
            lanes,
            limits: BatchLimits { records: self.setup.batch_records, bytes: 100_000, record_bytes: LARGEST },
            memory: MemoryLimit {
                shares: self.memory.shares.iter().map(Share::anew).collect(),
                cost: self.memory.cost,
            },
            assignments,
            board: self.board.clone(),
            blocked: metrics.blocked_seconds("consumer"),
            metrics,
            queue: to_decoder,
            claims: claims_in,
            clock,
            // Told nothing once the pipeline is taken down.
            claim: Box::new(move |partitions| _ = asked.send(partitions)),
        };
        let answered = Arc::new(Notify::new());
        self.take_claims(&incarnation, asks, claims, Arc::clone(&answered));
        self.take_turns(&incarnation, feed, answered);
        Ok(())
    }

    /// The feed's thread.
    fn take_turns(&self, incarnation: &Incarnation, feed: Feed, answered: Arc<Notify>) {
        let (guard, gate) = (incarnation.guard("poll"), Arc::clone(&self.gate));
        actix::spawn(async move {
            let mut polling = feed.begin();
            let ended = loop {
                gate.pass().await;
                let at_most = match polling.step(&guard) {
                    Ok(at_most) => at_most,
                    Err(ended) => break ended,
                };
                if at_most.is_zero() {
                    tokio::task::yield_now().await;
                    continue;
                }
                // Slower than the thread is, to be cheap.
                let next = Instant::now() + (at_most * 2).max(Duration::from_millis(8));
                tokio::select! {
                    biased;
                    () = guard.cancelled().cancelled() => {}
                    () = answered.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            };
            drop(polling);
            ended.tell(&guard);
        });
    }

    /// The consumer's part: takes partitions over, each request by itself.
    fn take_claims(
        &self,
        incarnation: &Incarnation,
        mut asks: tokio::sync::mpsc::UnboundedReceiver<Vec<i32>>,
        claims: mpsc::Sender<Claims>,
        answered: Arc<Notify>,
    ) {
        let guard = incarnation.guard("consumer");
        let (world, gate) = (Arc::clone(&self.world), Arc::clone(&self.gate));
        let requests = Rc::new(RefCell::new(Vec::new()));
        actix::spawn(async move {
            loop {
                let partitions = tokio::select! {
                    biased;
                    () = guard.cancelled().cancelled() => break,
                    asked = asks.recv() => match asked {
                        Some(partitions) => partitions,
                        None => break,
                    },
                };
                let book = Book { world: Arc::clone(&world), gate: Arc::clone(&gate) };
                let (claims, answered) = (claims.clone(), Arc::clone(&answered));
                requests.borrow_mut().push(actix::spawn(async move {
                    let claimed = claim(&book, partitions).await;
                    // The feed may have ended.
                    let _ = claims.send(claimed);
                    answered.notify_one();
                }));
            }
            requests.borrow().iter().for_each(tokio::task::JoinHandle::abort);
            guard.finish();
        });
    }
}

async fn claim(book: &Book, partitions: Vec<i32>) -> Claims {
    let recorded = book.offsets(Some(TOPIC)).await?;
    takes(book.world.millis(0, 20)).await;
    while book.world.faults().broker_until.is_some_and(|until| Instant::now() < until) {
        sleep(Duration::from_millis(100)).await;
    }
    book.gate.pass().await;
    let standing = {
        let broker = lock(&book.world.broker);
        let bounds = partitions.iter().map(|p| (*p, broker.bounds(*p)));
        TopicStanding { topic_id: "t".to_owned(), partitions: bounds.collect() }
    };
    let ours: Vec<_> = recorded.into_iter().filter(|o| partitions.contains(&o.partition)).collect();
    let doubts = standing.doubts(&ours);
    if !doubts.is_empty() {
        return Err(Ended::Passing { error: doubt::describe(TOPIC, &doubts) });
    }
    let claims: Vec<Claim> = partitions
        .iter()
        .map(|p| Claim { partition: *p, topic_id: "t".to_owned(), start_offset: standing.partitions[p].low })
        .collect();
    let offsets = book.claim(TOPIC, &claims, chrono::DateTime::UNIX_EPOCH).await?;
    let claimed = offsets.into_iter().map(|offset| {
        let high = standing.partitions[&offset.partition].high.max(offset.next_offset);
        Claimed { offset, high }
    });
    Ok(claimed.collect())
}
