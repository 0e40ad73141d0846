//! actors.toml: read, checked as a whole, and handed on as plain values. No I/O but the file itself, the
//! files that secrets point at, the aggregates' queries, and whether files it names are there; nothing here knows a
//! database or a broker.
//!
//! `load` finds every mistake at once; what it read can be printed (`print`) and judged (`report`). The parts:
//! `schema` names every key, `reader` walks the parsed file and collects findings, a file for each section gives
//! the values their meaning, `source` shows lines of the file without its secrets.

mod access;
mod aggregates;
mod cache;
mod columns;
mod compare;
mod daemon;
mod database_url;
mod diagnostic;
mod forecasts;
mod load;
mod names;
mod panels;
mod print;
mod properties;
mod queries;
mod reader;
mod replays;
mod report;
pub mod schema;
mod secrets;
mod source;
mod streams;
mod syntax;
mod units;
mod unknown;
mod values;
mod warehouse;

pub use access::{Access, resolve};
pub use cache::CacheBackend;
pub use compare::CompareConfig;
pub use database_url::Backend;
pub use diagnostic::{Diagnostic, Severity};
pub use load::{Loaded, load, parse, print};
pub use queries::{QueryFault, faulty_queries, read_query};
pub use report::{Report, missing_files, report};
pub use units::{duration_text, size_text};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::bucket::Width;
use crate::core::forecast::Spec;
pub use crate::core::mapping::{EpochUnit, Source};
use crate::core::marks::BucketSource;
pub use crate::core::schedule::Schedule;
use crate::core::target::OnConflict;

/// A whole configuration, defaults filled in, every field valid by itself and beside the others.
#[derive(Debug, Clone)]
pub struct Config {
    pub daemon: Daemon,
    pub kafka: Kafka,
    pub warehouse: WarehouseConfig,
    /// Where there are aggregates, it is there.
    pub cache: Option<CacheConfig>,
    pub streams: Vec<Stream>,
    pub aggregates: Vec<Aggregate>,
    pub forecasts: Vec<Forecast>,
    pub panels: Vec<Panel>,
    pub replays: Vec<Replay>,
    pub compare: CompareConfig,
}

#[derive(Debug, Clone)]
pub struct Daemon {
    pub name: String,
    /// Where page, API and metrics are served.
    pub http: SocketAddr,
    /// Host headers that are answered beside the address itself and localhost.
    pub allowed_hosts: Vec<String>,
    pub access: Access,
    /// Bytes that records may take between broker and database.
    pub memory: u64,
    /// How long a drain may take before what is left is cut.
    pub drain_timeout: Duration,
    /// What to do when a stream has stopped for good.
    pub on_fatal: OnFatal,
    /// Restarts of one pipeline within `restart_window` before it counts as failed for good.
    pub restart_budget: u32,
    pub restart_window: Duration,
    pub log: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFatal {
    /// The daemon goes on serving `/readyz` with the cause.
    StayUp,
    /// The daemon exits with its documented code.
    Exit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct Kafka {
    pub brokers: Brokers,
    /// Each stream consumes in the group `{group}-{stream}`, so that streams never rebalance each other.
    pub group: String,
    /// Handed to librdkafka as they are; those that bief must own are refused by the check.
    pub properties: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brokers {
    /// The broker inside this process; for `bief demo`.
    Embedded,
    /// librdkafka's `bootstrap.servers`.
    Servers(String),
}

#[derive(Debug, Clone)]
pub struct WarehouseConfig {
    /// `mysql://user:password@host:port/database` (MySQL and MariaDB) or `sqlite://path`,
    /// the path joined with the configuration file's folder.
    pub url: Secret,
    pub tls: Tls,
    /// PEM file of the authority that signed the server's certificate; Mozilla's, compiled in, where none is named.
    pub ca: Option<PathBuf>,
    /// Folder of the domain's SQL files; relative to the configuration file, with whose folder it is joined here.
    pub migrations: Option<PathBuf>,
    /// How rows reach MySQL.
    pub load: Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Disable,
    /// Encrypted, the server's certificate not checked.
    Require,
    /// Encrypted, certificate and host name checked. The default where the host is not this machine.
    Verify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// LOAD DATA LOCAL where the server allows it, else INSERT.
    Auto,
    LoadData,
    Insert,
}

#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// `mongodb://…` with the database in its path, or `sqlite://path`, the path joined with the configuration file's
    /// folder.
    pub url: Secret,
    /// When the daemon compares documents with the rows, in UTC; never where it is off.
    pub reconcile: Option<Schedule>,
    /// Of all buckets, how many it then compares; 0 to 1.
    pub reconcile_sample: f64,
}

#[derive(Debug, Clone)]
pub struct Stream {
    /// The topic's name unless told otherwise; a label of metrics.
    pub name: String,
    pub topic: String,
    pub start: Start,
    /// Writers that commit in parallel; 1 on SQLite.
    pub lanes: usize,
    pub max_batch_records: usize,
    /// Payload bytes.
    pub max_batch_bytes: usize,
    /// A larger payload is a dead letter.
    pub max_record_bytes: usize,
    /// Where dead letters are told too; in no topic where none is named.
    pub dead_letter_topic: Option<String>,
    /// Above this share of dead letters among recent records the stream stops; 0 to 1.
    pub max_dead_letter_share: f64,
    pub tables: Vec<TableMapping>,
}

/// Where a partition begins that the database does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
}

/// How one record becomes one row of one table.
#[derive(Debug, Clone)]
pub struct TableMapping {
    pub table: String,
    pub on_conflict: OnConflict,
    /// A record whose key for this table is null or missing yields no row, instead of a dead letter.
    pub optional: bool,
    pub columns: Vec<ColumnMapping>,
    /// Where in the file the mapping stands, for what is only known once the database is.
    pub location: Location,
}

#[derive(Debug, Clone)]
pub struct ColumnMapping {
    pub column: String,
    pub source: Source,
    pub location: Location,
}

/// Documents that are computed from the rows of one table, one for each bucket of time and key.
#[derive(Debug, Clone)]
pub struct Aggregate {
    pub name: String,
    /// Rows of this table make its buckets dirty.
    pub table: String,
    /// The column, of the table's primary key, that tells a row's bucket.
    pub time: String,
    pub bucket: Width,
    /// The file of its SELECT; relative to the configuration file, with whose folder it is joined here.
    pub query: PathBuf,
    /// Columns of the query that tell the documents of a bucket apart; the others are values.
    pub key: Vec<String>,
    /// How often dirty buckets are looked for.
    pub every: Duration,
    /// How long after its bucket's end a document is kept; for ever where it is not said.
    pub keep: Option<Duration>,
    pub places: AggregatePlaces,
}

/// A value of an aggregate that is forecast, and when its model is trained.
#[derive(Debug, Clone)]
pub struct Forecast {
    pub spec: Spec,
    /// When the daemon trains, in UTC; never by schedule where it is off.
    pub train_at: Option<Schedule>,
    /// Of its name, for what is only known once the documents are.
    pub place: Location,
    /// What queries must yield for it: the target and the covariates' fields.
    pub columns: Vec<AskedColumn>,
}

/// A column that a forecast takes from the documents of an aggregate, and where the file says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedColumn {
    pub aggregate: String,
    pub column: String,
    pub place: Location,
}

/// What the page shows of an aggregate.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub kind: PanelKind,
    pub aggregate: String,
    /// Columns of the aggregate's query.
    pub values: Vec<String>,
    /// The column of its key that makes a series each; one series where none is named.
    pub by: Option<String>,
    /// How far back from now.
    pub range: Duration,
    pub unit: Option<String>,
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelKind {
    /// Values over time.
    Line,
    /// The same as bars.
    Bar,
    Table,
    /// Values over the column that `by` names, summed over time.
    Histogram,
    /// The last value.
    Stat,
}

impl PanelKind {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            PanelKind::Line => "line",
            PanelKind::Bar => "bar",
            PanelKind::Table => "table",
            PanelKind::Histogram => "histogram",
            PanelKind::Stat => "stat",
        }
    }
}

/// Where in the file parts of an aggregate stand, for what is only known once the database is.
#[derive(Debug, Clone, Copy, Default)]
pub struct AggregatePlaces {
    pub name: Location,
    pub table: Location,
    pub time: Location,
    pub query: Location,
    pub key: Location,
}

impl Aggregate {
    /// What its dirty buckets are told by.
    pub fn source(&self) -> BucketSource {
        BucketSource { table: self.table.clone(), time: self.time.clone(), width: self.bucket }
    }
}

impl Config {
    /// The sources of all aggregates, each once.
    pub fn bucket_sources(&self) -> Vec<BucketSource> {
        let mut sources: Vec<BucketSource> = Vec::new();
        for source in self.aggregates.iter().map(Aggregate::source) {
            if sources.iter().all(|known| known.id() != source.id()) {
                sources.push(source);
            }
        }
        sources
    }

    /// The topics of the streams that feed a table, ascending.
    pub fn topics_feeding(&self, table: &str) -> Vec<String> {
        let feeds = |stream: &&Stream| stream.tables.iter().any(|t| t.table.eq_ignore_ascii_case(table));
        let mut topics: Vec<String> = self.streams.iter().filter(feeds).map(|s| s.topic.clone()).collect();
        topics.sort();
        topics
    }
}

/// A place in a configuration file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Location {
    pub line: usize,
    pub column: usize,
}

/// What `bief demo` and `bief replay` send to a topic: a CSV file with columns of other files joined to it.
#[derive(Debug, Clone)]
pub struct Replay {
    pub topic: String,
    /// CSV, plain or gzip by its ending `.gz`; relative to the configuration file, with whose folder it is joined here.
    pub file: PathBuf,
    /// Columns that make the record's key, joined by `|`.
    pub key: Vec<String>,
    /// The time column that decides by how many whole weeks all of `times` are shifted.
    pub event_time: Option<String>,
    /// Columns that hold UTC times and are shifted with it.
    pub times: Vec<String>,
    /// Partitions of the topic where the replay has to create it.
    pub partitions: i32,
    pub lookups: Vec<Lookup>,
}

/// Fields added to each record from the row of another CSV file that has the same key.
#[derive(Debug, Clone)]
pub struct Lookup {
    pub file: PathBuf,
    /// Column of the replayed file.
    pub field: String,
    /// Column of the lookup file that must be equal.
    pub key: String,
    /// Field of the record -> column of the lookup file.
    pub take: BTreeMap<String, String>,
}

/// A value that is never printed: no Debug of the content, no Display, no Serialize.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The content; for the client that needs it and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
