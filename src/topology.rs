//! Builds the daemon from its configuration: the only file that names two actors. A stream is one unit of
//! restart: consumer, and for each lane a decoder and a writer, joined by channels that hold one batch.

mod aggregators;
pub mod comparisons;
mod forecasts;
pub mod letters;
mod plans;
pub mod rebuild;
mod reconcilers;
mod served;
mod settings;

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{Mutex, mpsc};

pub use self::plans::{aggregate_query, markings, plan_or_misfits, read_plan, refresh_plans};
use crate::actors::consumer::{BatchLimits, Consumer, ConsumerSettings, MemoryLimit, StartAt};
use crate::actors::decoder::{Decoder, DecoderSettings};
use crate::actors::outbox::{Outbox, OutboxSettings};
use crate::actors::writer::{Writer, WriterSettings};
use crate::adapters::jobs;
use crate::adapters::kafka::broker::KafkaBroker;
use crate::adapters::kafka::client::client_config;
use crate::adapters::kafka::letters::LetterProducer;
use crate::adapters::kafka::source::{KafkaSource, SourceSettings};
use crate::adapters::warehouse;
use crate::config::{Config, OnFatal, Start, Stream};
use crate::core::build::{REVISION, VERSION};
use crate::core::commit_plan::Known;
use crate::core::doubt;
use crate::core::letter_share::LetterShare;
use crate::core::mapping::Plan;
use crate::core::marks::Marking;
use crate::core::memory::{self, RecordCost};
use crate::http::{self, DaemonInfo, HttpState};
use crate::messages::{Assignments, Board, Forecasts, Freshness, Replacements, StreamTap, Tap};
use crate::metrics::Metrics;
use crate::ports::{
    Broker, Clock, LetterPublisher, OpenLetterPublisher, OpenSource, RecordSource, SourceError, SystemClock,
    TopicStanding, WarehouseError,
};
use crate::runtime::{
    Budget, Incarnation, Options, RestartPolicy, Share, StartError, Supervisor, SupervisorHandle, UnitSpec,
};

/// A partition that the broker does not name is asked for again after so long: a broker that has just started names none.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// Batches that wait between two stages of a lane. One: while it waits the next fills, so that batches grow
/// with the load and no larger number would make them come sooner.
const QUEUE: usize = 1;

/// A running daemon.
pub struct Daemon {
    pub supervisor: SupervisorHandle,
    pub board: Board,
    pub metrics: Metrics,
    /// Serves page and API; stopped by its handle.
    pub server: actix_web::dev::ServerHandle,
}

/// Starts everything on the present actix system. The database may be away: the daemon is up and says so.
pub fn launch(config: Arc<Config>, bootstrap: &str, listener: TcpListener) -> io::Result<Daemon> {
    let board = Board::default();
    let metrics = Metrics::new(VERSION, REVISION);
    let tap = Tap::default();
    let prepared = Arc::new(Mutex::new(false));
    let lanes: usize = config.streams.iter().map(|s| s.lanes).sum();
    let budget = Budget::new(memory::batches(config.daemon.memory), lanes);
    let meter = budget.clone();
    metrics.meter_memory(budget.limit(), Box::new(move || meter.used()));
    metrics.meter_tap(tap.clone());
    let mut shares = (0..lanes).map(|lane| budget.share(lane));
    let (freshness, replacements) = (Freshness::default(), Replacements::default());
    let beside = aggregators::Surroundings {
        config: Arc::clone(&config),
        prepared: Arc::clone(&prepared),
        clock: Arc::new(SystemClock),
        freshness: freshness.clone(),
        replacements: replacements.clone(),
        metrics: metrics.clone(),
    };
    let aggregators = beside.units().map_err(io::Error::other)?;
    let reconciler = reconcilers::unit(&beside).map_err(io::Error::other)?;
    let standing = Forecasts::default();
    let forecasts = forecasts::units(&beside, &standing);
    let units = config
        .streams
        .iter()
        .flat_map(|stream| {
            board.declare(&stream.name, &stream.topic);
            let pipeline = Pipeline {
                config: Arc::clone(&config),
                stream: Arc::new(stream.clone()),
                bootstrap: bootstrap.to_owned(),
                board: board.clone(),
                tap: tap.clone(),
                metrics: metrics.clone(),
                clock: Arc::new(SystemClock),
                prepared: Arc::clone(&prepared),
                memory: config.daemon.memory / config.streams.len().max(1) as u64,
                shares: shares.by_ref().take(stream.lanes).collect(),
                letters: Arc::new(std::sync::Mutex::new(LetterShare::new(stream.max_dead_letter_share))),
            };
            let outbox = stream.dead_letter_topic.clone().map(|topic| pipeline.clone().into_outbox(topic));
            [Some(pipeline.into_unit()), outbox].into_iter().flatten()
        })
        .chain(aggregators)
        .chain(reconciler)
        .chain(comparisons::unit(&beside))
        .chain(forecasts)
        .collect();
    let restarts = metrics.clone();
    let on_restart =
        Arc::new(move |_: &str, actor: &str, _: &crate::runtime::Exit| restarts.actor_restarts(actor).inc());
    let supervisor = Supervisor::launch(units, Options { on_restart: Some(on_restart), ..Options::default() });
    let (statuses, checked, troubles) = (supervisor.board().clone(), supervisor.board().clone(), board.clone());
    let (fresh, settings, comparison) = (freshness.clone(), settings::of_units(&config), config.compare.newest());
    let server = http::serve(
        listener,
        HttpState {
            daemon: DaemonInfo {
                name: config.daemon.name.clone(),
                version: VERSION,
                revision: REVISION,
                started_at: Utc::now(),
            },
            metrics: metrics.clone(),
            board: board.clone(),
            tap,
            units: Arc::new(move || served::units(&statuses.snapshot(), &settings)),
            checks: Arc::new(move || served::checks(&checked.snapshot(), &troubles, &fresh)),
            allowed_hosts: config.daemon.allowed_hosts.clone(),
            access: config.daemon.access.clone(),
            aggregates: config.aggregates.clone(),
            forecasts: config.forecasts.clone(),
            panels: config.panels.clone(),
            tables: served::tables(&config),
            lanes: served::lanes(&config),
            database: served::database(&config),
            freshness,
            replacements,
            standing,
            comparison: Arc::new(move || jobs::newest(&comparison)),
        },
        served::sources(&config, &board),
    )?;
    let handle = server.handle();
    actix::spawn(server);
    Ok(Daemon { supervisor, board, metrics, server: handle })
}

/// What one stream's unit is built from, each time it is built.
#[derive(Clone)]
struct Pipeline {
    config: Arc<Config>,
    stream: Arc<Stream>,
    bootstrap: String,
    board: Board,
    /// One for all streams.
    tap: Tap,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// Whether the tables are known to be there.
    prepared: Arc<Mutex<bool>>,
    /// Bytes: an equal part of the daemon's memory, for what is the stream's own.
    memory: u64,
    /// What each lane takes of the daemon's budget; the same for all incarnations.
    shares: Vec<Share>,
    /// How many of the recent records were set aside: over all incarnations, so that a pipeline that is built again and
    /// again drains no topic. A batch whose COMMIT was not answered before its pipeline ended is not counted.
    letters: Arc<std::sync::Mutex<LetterShare>>,
}

impl Pipeline {
    fn into_unit(self) -> UnitSpec {
        let daemon = &self.config.daemon;
        let policy =
            RestartPolicy { budget: daemon.restart_budget, window: daemon.restart_window, ..RestartPolicy::default() };
        UnitSpec::new(self.stream.name.clone(), policy, move |incarnation: Incarnation| {
            let pipeline = self.clone();
            Box::pin(async move { pipeline.start(incarnation).await })
        })
    }

    /// The outbox is a unit of its own: it fails and restarts without the pipeline.
    fn into_outbox(self, dead_letter_topic: String) -> UnitSpec {
        let name = outbox_of(&self.stream.name);
        UnitSpec::new(name, RestartPolicy::default(), move |incarnation: Incarnation| {
            let (pipeline, to) = (self.clone(), dead_letter_topic.clone());
            Box::pin(async move {
                pipeline.prepare().await?;
                let guard = incarnation.guard("outbox");
                let (config, stream, bootstrap) =
                    (Arc::clone(&pipeline.config), Arc::clone(&pipeline.stream), pipeline.bootstrap.clone());
                let open_publisher: OpenLetterPublisher = Arc::new(move || {
                    let producer = LetterProducer::new(&config.kafka, &bootstrap, &stream.name, &to)?;
                    Ok(Box::new(producer) as Box<dyn LetterPublisher>)
                });
                let metrics = pipeline.metrics.stream(&pipeline.stream.name);
                let settings = OutboxSettings {
                    topic: pipeline.stream.topic.clone(),
                    bytes_a_round: memory::outbox(pipeline.config.daemon.memory, pipeline.config.streams.len()),
                    open_book: warehouse::open_letter_book(&pipeline.config.warehouse),
                    open_publisher,
                    clock: Arc::clone(&pipeline.clock),
                    published: metrics.letters_published,
                    failures: metrics.letter_publish_failures,
                };
                incarnation.placement().start("outbox", move |_| Outbox::new(settings, guard));
                Ok(())
            })
        })
    }

    async fn prepare(&self) -> Result<(), StartError> {
        prepare(&self.config, &self.prepared).await
    }

    async fn start(self, incarnation: Incarnation) -> Result<(), StartError> {
        self.board.restarted(&self.stream.name);
        self.prepare().await?;
        let plan = Arc::new(read_plan(&self.config, &self.stream).await?);
        let markings = markings(&self.config, &plan)?;
        let client = client_config(&self.config.kafka, &self.bootstrap, &format!("bief-{}", self.config.daemon.name));
        let broker: Arc<dyn Broker> =
            Arc::new(KafkaBroker::new(client.clone(), &self.config.kafka.group).map_err(source_start)?);
        self.look_for_doubts(&broker).await?;
        let settings = SourceSettings {
            client,
            group: group_of(&self.config, &self.stream),
            topic: self.stream.topic.clone(),
            lanes: self.stream.lanes,
            memory: self.memory,
        };
        let open_source: OpenSource =
            Arc::new(move || KafkaSource::open(&settings).map(|source| Box::new(source) as Box<dyn RecordSource>));
        self.start_actors(&incarnation, (plan, markings), open_source, broker);
        Ok(())
    }

    /// Nothing is started, and so no group joined, while an offset is in doubt; once an operator has decided, the next
    /// try goes on by itself.
    async fn look_for_doubts(&self, broker: &Arc<dyn Broker>) -> Result<(), StartError> {
        let Stream { name, topic, .. } = &*self.stream;
        let bookkeeping = (warehouse::open_bookkeeping(&self.config.warehouse))().await.map_err(warehouse_start)?;
        let recorded = bookkeeping.offsets(Some(topic)).await.map_err(warehouse_start)?;
        let mut standing = standing(broker, topic).await?;
        let mut doubts = standing.doubts(&recorded);
        let mut cut_short = Vec::new();
        if doubts.iter().any(|d| matches!(d.kind, doubt::Kind::NoPartition | doubt::Kind::PastEnd)) {
            tokio::time::sleep(ASKED_AGAIN).await;
            standing = self::standing(broker, topic).await?;
            let again = standing.doubts(&recorded);
            cut_short = doubt::cut_short(&doubts, &again);
            doubts = doubt::confirmed(&doubts, again);
        }
        self.board.in_doubt(name, &doubts, self.clock.now());
        for row in recorded.iter().filter(|row| cut_short.contains(&row.partition)) {
            let put_down = bookkeeping.truncated(topic, row.partition, Some(row.epoch), self.clock.now());
            put_down.await.map_err(warehouse_start)?;
        }
        if !doubts.is_empty() {
            let told = doubt::describe(topic, &doubts);
            return Err(match self.config.daemon.on_fatal {
                OnFatal::Exit => StartError::fatal(told),
                OnFatal::StayUp => StartError::transient(told),
            });
        }
        if standing.partitions.is_empty() {
            return Err(StartError::transient(format!("topic {topic} is not there yet; create it, or send to it")));
        }
        Ok(())
    }

    fn start_actors(
        &self,
        incarnation: &Incarnation,
        (plan, markings): (Arc<Plan>, Arc<[Marking]>),
        open_source: OpenSource,
        broker: Arc<dyn Broker>,
    ) {
        let stream = &self.stream;
        let metrics = self.metrics.stream(&stream.name);
        let assignments = Assignments::default();
        let arbiters = incarnation.placement();
        let to_decoder = metrics.queue("decoder", QUEUE * stream.lanes);
        let to_writer = metrics.queue("writer", QUEUE * stream.lanes);
        let open = warehouse::open_warehouse(&self.config.warehouse);
        let known = Known::within(plan.targets.len(), memory::known_rows(self.memory));
        let known = Arc::new(std::sync::Mutex::new(known));
        let cost = RecordCost::of(&plan);
        let tap = StreamTap::new(self.tap.clone(), &stream.name, Arc::clone(&plan));
        let mut lanes = Vec::with_capacity(stream.lanes);
        for lane in 0..stream.lanes {
            let (records, decoder_in) = mpsc::channel(QUEUE);
            let (rows, writer_in) = mpsc::channel(QUEUE);
            lanes.push(records);
            let writer = WriterSettings {
                stream: stream.name.clone(),
                plan: Arc::clone(&plan),
                markings: Arc::clone(&markings),
                known: Arc::clone(&known),
                share: Arc::clone(&self.letters),
                lanes: stream.lanes,
                input: writer_in,
                open: Arc::clone(&open),
                clock: Arc::clone(&self.clock),
                assignments: assignments.clone(),
                board: self.board.clone(),
                tap: tap.clone(),
                metrics: metrics.clone(),
                rows_written: plan.targets.iter().map(|t| self.metrics.rows_written(&t.table.name)).collect(),
                queue: to_writer.clone(),
            };
            let name = format!("writer-{lane}");
            let guard = incarnation.guard(&name);
            arbiters.start(&name, move |_| Writer::new(writer, guard));
            let decoder = DecoderSettings {
                stream: stream.name.clone(),
                plan: Arc::clone(&plan),
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
        let consumer = ConsumerSettings {
            stream: stream.name.clone(),
            topic: stream.topic.clone(),
            start: match stream.start {
                Start::Earliest => StartAt::Earliest,
                Start::Latest => StartAt::Latest,
            },
            limits: BatchLimits {
                records: stream.max_batch_records,
                bytes: stream.max_batch_bytes,
                record_bytes: stream.max_record_bytes,
            },
            memory: MemoryLimit { shares: self.shares.iter().map(Share::anew).collect(), cost },
            open_source,
            open_bookkeeping: warehouse::open_bookkeeping(&self.config.warehouse),
            broker,
            clock: Arc::clone(&self.clock),
            assignments,
            board: self.board.clone(),
            metrics,
            queue: to_decoder,
            lanes,
        };
        let (guard, poll_guard) = (incarnation.guard("consumer"), incarnation.guard("poll"));
        arbiters.start("consumer", move |_| Consumer::new(consumer, guard, poll_guard));
    }
}

/// Makes the tables, once for all units.
async fn prepare(config: &Config, prepared: &Mutex<bool>) -> Result<(), StartError> {
    let mut prepared = prepared.lock().await;
    if !*prepared {
        warehouse::prepare(&config.warehouse, Path::new("")).await.map_err(warehouse_start)?;
        *prepared = true;
    }
    Ok(())
}

/// Where a topic stands; the broker is asked on a thread that may wait.
async fn standing(broker: &Arc<dyn Broker>, topic: &str) -> Result<TopicStanding, StartError> {
    let (asked, topic) = (Arc::clone(broker), topic.to_owned());
    let told = tokio::task::spawn_blocking(move || asked.standing(&topic)).await.map_err(StartError::transient)?;
    told.map_err(source_start)
}

/// What the unit is called that publishes a stream's dead letters.
fn outbox_of(stream: &str) -> String {
    format!("outbox-{stream}")
}

/// The consumer group of a stream.
pub fn group_of(config: &Config, stream: &Stream) -> String {
    format!("{}-{}", config.kafka.group, stream.name)
}

fn warehouse_start(error: WarehouseError) -> StartError {
    match error {
        WarehouseError::Fatal { .. } => StartError::fatal(error),
        _ => StartError::transient(error),
    }
}

fn source_start(error: SourceError) -> StartError {
    match error {
        SourceError::Fatal(_) => StartError::fatal(error),
        _ => StartError::transient(error),
    }
}
