//! Benchmarks: the release binary, run as a user runs it, beside what the same server takes without it. Each starts
//! fresh servers with durable defaults and leaves nothing behind.

mod bare;
mod config;
mod daemon;
mod dashboards;
mod database;
mod demo;
mod latency;
mod null;
mod page;
mod pages;
mod peers;
mod poison;
mod refresh;
mod sink;
mod train;
mod training;

pub use daemon::get;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use crate::cache::Cache;
use crate::interrupt;
use crate::servers::{self, Durability, Kind, Servers};
use crate::shell;

#[derive(Subcommand)]
pub enum Bench {
    /// Rows a second from Kafka into MySQL, beside a bare LOAD DATA LOCAL of the same rows into the same table.
    ///
    /// Alternates bare with one client, bare with two, both again with a consumer beside that reads the same topic and
    /// drops it, and `bief run`, on one server with durable defaults. Bare goes in chunks of 10,000 rows, a commit
    /// each, in the order of the primary key, from memory.
    #[command(
        after_help = "Examples:\n  cargo xtask bench sink\n  cargo xtask bench sink --schema plain --updates --json"
    )]
    Sink(SinkArguments),
    /// How long after its append to Kafka a record's row can be read in MySQL, seen from outside.
    #[command(after_help = "Example:\n  cargo xtask bench latency --rate 2000 --seconds 30 --json")]
    Latency(LatencyArguments),
    /// How long after its append to Kafka a record is drawn on the page, in a real browser, and what the page's heap
    /// comes to. Needs chromium and chromedriver.
    #[command(
        after_help = "Examples:\n  cargo xtask bench page --json\n  cargo xtask bench page --seconds 3600   an hour, for the heap"
    )]
    Page(PageArguments),
    /// What bad records cost: rows a second with none, with one in 10,000 and with one in 100 of them.
    ///
    /// Half of them bief refuses itself (a number beyond the column's), half only the database does (a CHECK).
    #[command(after_help = "Example:\n  cargo xtask bench poison --rounds 3 --json")]
    Poison(PoisonArguments),
    /// What it costs to keep the aggregates fresh after 1,000 new records, by the length of the history in MySQL; and what
    /// the page's panels take from the cache beside the same SQL on MySQL.
    #[command(after_help = "Example:\n  cargo xtask bench refresh --json")]
    Refresh(RefreshArguments),
    /// What open pages cost: rows a second and memory with 1,000 readers of the live stream, of which 100 take nothing, and
    /// with none.
    #[command(after_help = "Example:\n  cargo xtask bench pages --rounds 5 --json")]
    Pages(PagesArguments),
    /// What users run today on the same topic and server, in turns: a consumer in Python, Debezium's JDBC sink.
    ///
    /// Fetches both into the cache. Into a table with a primary key alone; then what one bad record and one SIGKILL do
    /// to each.
    #[command(after_help = "Example:\n  cargo xtask bench peers --rounds 3 --json")]
    Peers(PeersArguments),
    /// What training models costs the stream: rows a second with and without, in turns.
    #[command(after_help = "Example:\n  cargo xtask bench training --rounds 6 --json")]
    Training(TrainingArguments),
    /// From `bief demo` to the first chart that moves, in a real browser.
    #[command(after_help = "Example:\n  cargo xtask bench demo --rounds 5 --json")]
    Demo(DemoArguments),
    /// What fitting a forecast's model takes, beside the Gram product alone and beside scikit-learn. Needs no server.
    #[command(after_help = "Example:\n  cargo xtask bench train --python venv/bin/python --json")]
    Train(TrainArguments),
}

#[derive(Args)]
pub struct Common {
    /// The tables to write.
    #[arg(long, value_enum, default_value_t = Schema::Real)]
    schema: Schema,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A binary to measure instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
}

#[derive(Args)]
pub struct SinkArguments {
    #[command(flatten)]
    common: Common,
    /// Measure a second pass, in which every record updates a row.
    #[arg(long)]
    updates: bool,
    /// Replay only so many records.
    #[arg(long)]
    rows: Option<u64>,
    /// How many times bare and bief alternate; ratios are the median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
}

#[derive(Args)]
pub struct LatencyArguments {
    #[command(flatten)]
    common: Common,
    /// Records a second.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long to send; what is sent in the first 10 s warms up and is not counted.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(15..))]
    seconds: u64,
    /// Write each record's partition, offset, and times (microseconds since 1970) to this file, as CSV.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
}

#[derive(Args)]
pub struct PageArguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A binary to measure instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// Records a second.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long to look, after 10 s of warm-up.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..))]
    seconds: u64,
}

#[derive(Args)]
pub struct PoisonArguments {
    #[command(flatten)]
    common: Common,
    /// How many times all alternate; ratios are the median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Args)]
pub struct TrainingArguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A binary to measure instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// Models that are trained at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    models: u32,
    /// How often, an even number.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Args)]
pub struct DemoArguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A binary to measure instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// How often; figures are the median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Args)]
pub struct RefreshArguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A binary to measure instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// Rows of history, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000, 10_000_000])]
    rows: Vec<u64>,
    /// How many times 1,000 records are sent for each length; figures are the median.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Args)]
pub struct PagesArguments {
    #[command(flatten)]
    common: Common,
    /// Open pages.
    #[arg(long, default_value_t = 1000)]
    pages: usize,
    /// How many of them take nothing.
    #[arg(long, default_value_t = 100)]
    stalled: usize,
    /// Records a second; without it the stream reads what is there already as fast as it can.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Replay only so many records; with a rate as many as come in 40 s.
    #[arg(long)]
    rows: Option<u64>,
    /// How many times both alternate; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Args)]
pub struct PeersArguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A binary to measure instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// Replay only so many records.
    #[arg(long)]
    rows: Option<u64>,
    /// How many times all alternate; figures are the median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Leave out the bad record and the SIGKILL.
    #[arg(long)]
    rates_only: bool,
}

#[derive(Args)]
pub struct TrainArguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// A Python that has scikit-learn; without, that is said to be absent.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Rows of the matrix.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    rows: u64,
    /// Features.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=500))]
    columns: u64,
    /// How many times both alternate; figures are the median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Schema {
    /// The shipped tables with their foreign keys and indexes.
    Real,
    /// The shipped fact table alone, with a primary key and nothing else.
    Plain,
}

impl Schema {
    fn name(self) -> &'static str {
        match self {
            Schema::Real => "real",
            Schema::Plain => "plain",
        }
    }
}

/// Runs a benchmark.
pub fn run(bench: Bench) -> Result<ExitCode> {
    let interrupted = interrupt::watch()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (json, result) = match bench {
        Bench::Sink(arguments) => {
            let bench = Setup::new(arguments.common.bief.as_deref(), &interrupted)?;
            (arguments.common.json, runtime.block_on(sink::run(&bench, &arguments))?)
        }
        Bench::Latency(arguments) => {
            let bench = Setup::new(arguments.common.bief.as_deref(), &interrupted)?;
            (arguments.common.json, runtime.block_on(latency::run(&bench, &arguments))?)
        }
        Bench::Page(arguments) => {
            let bench = Setup::new(arguments.bief.as_deref(), &interrupted)?;
            (arguments.json, page::run(&bench, &arguments, &runtime)?)
        }
        Bench::Poison(arguments) => {
            let bench = Setup::new(arguments.common.bief.as_deref(), &interrupted)?;
            (arguments.common.json, runtime.block_on(poison::run(&bench, &arguments))?)
        }
        Bench::Refresh(arguments) => {
            let kinds = [Kind::Kafka, Kind::Mysql, Kind::Ferretdb];
            let bench = Setup::with(arguments.bief.as_deref(), &kinds, &interrupted)?;
            (arguments.json, runtime.block_on(refresh::run(&bench, &arguments))?)
        }
        Bench::Pages(arguments) => {
            let bench = Setup::new(arguments.common.bief.as_deref(), &interrupted)?;
            (arguments.common.json, runtime.block_on(pages::run(&bench, &arguments))?)
        }
        Bench::Peers(arguments) => {
            let bench = Setup::new(arguments.bief.as_deref(), &interrupted)?;
            (arguments.json, runtime.block_on(peers::run(&bench, &arguments))?)
        }
        Bench::Training(arguments) => {
            let bench = Setup::new(arguments.bief.as_deref(), &interrupted)?;
            (arguments.json, runtime.block_on(training::run(&bench, &arguments))?)
        }
        Bench::Demo(arguments) => (arguments.json, demo::run(&arguments)?),
        Bench::Train(arguments) => (arguments.json, train::run(&arguments)?),
    };
    if json {
        println!("{result}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What each benchmark needs: servers, a binary, and where they are.
struct Setup {
    servers: Servers,
    kafka_jars: PathBuf,
    bief: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Setup {
    fn new(bief: Option<&Path>, interrupted: &Arc<AtomicBool>) -> Result<Self> {
        Self::with(bief, &[Kind::Kafka, Kind::Mysql], interrupted)
    }

    fn with(bief: Option<&Path>, kinds: &[Kind], interrupted: &Arc<AtomicBool>) -> Result<Self> {
        let bief = match bief {
            Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
            None => build(&["--bin", "bief"])?.join("bief"),
        };
        let cache = Cache::open()?;
        let servers = Servers::start(&cache, kinds, Durability::Durable, interrupted)?;
        for running in servers.running() {
            eprintln!("started {} at {}", running.version, running.address);
        }
        let kafka_jars = servers::fetch(&cache, Kind::Kafka)?;
        Ok(Self { servers, kafka_jars, bief, interrupted: Arc::clone(interrupted) })
    }

    fn kafka(&self) -> Result<&str> {
        self.servers.address(Kind::Kafka)
    }

    fn mysql(&self) -> Result<&str> {
        self.servers.address(Kind::Mysql)
    }

    /// Where the benchmark's files go; removed with the servers.
    fn folder(&self) -> PathBuf {
        self.servers.guard().folder().join("bench")
    }
}

/// The folder of the workspace.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Builds a release binary, and says in which folder they are.
fn build(what: &[&str]) -> Result<PathBuf> {
    let built = shell::cargo().args(["build", "--release"]).args(what).current_dir(workspace()).status();
    anyhow::ensure!(built.context("cannot run cargo")?.success(), "{} does not build", what.join(" "));
    Ok(shell::target_folder()?.join("release"))
}

/// Processors that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
