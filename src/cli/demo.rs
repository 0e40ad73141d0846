//! `bief demo`: the whole pipeline on this machine with nothing installed: a broker in this process, SQLite, the
//! shipped data replayed. Each run starts afresh: a log in memory beside a kept database would be a topic made anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use indicatif::ProgressBar;

use super::exit;
use super::replay::{Sent, bar, send};
use super::run::listen;
use super::support::{block_on, fail, load, log_command, print_json};
use super::verify::{self, Proof};
use crate::adapters::embedded::EmbeddedBroker;
use crate::adapters::kafka::broker::KafkaBroker;
use crate::adapters::kafka::client::client_config;
use crate::adapters::replay::{Options, Shift};
use crate::adapters::warehouse;
use crate::config::{Brokers, Config, Secret};
use crate::messages::Board;
use crate::ports::Broker;
use crate::runtime::UnitState;
use crate::runtime::signals::Signals;
use crate::topology::{self, Daemon};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief demo                                  replays the shipped data and stays up until Ctrl-C
  bief demo --rows 10000                     only the first 10,000 records of each file
  bief demo --until-caught-up --json         for a script: ends with one JSON object and exit code 0

Exit codes: 0 drained, or caught up and clean; 1 failed; 2 configuration; 3 verify found something")]
pub struct Args {
    /// Configuration file; its brokers, warehouse and cache are replaced by those of the demo
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Where the demo keeps its database; emptied at the start
    #[arg(long, value_name = "FOLDER", default_value = "var/demo")]
    folder: PathBuf,
    /// Address of the page, in place of [daemon] http
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Address of the embedded broker, for kcat and other clients; a free port unless told
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    kafka: SocketAddr,
    /// Replay only the first N records of each file
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// End once all replayed records are committed and verify is clean
    #[arg(long)]
    until_caught_up: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// How often the board is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let mut config = match load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    if let Some(http) = args.http {
        if let Err(error) = config.daemon.allow(http) {
            fail(args.json, &format!("--http: {error}"));
            return exit::USAGE;
        }
        config.daemon.http = http;
    }
    match prepare(args, config) {
        Ok((config, broker)) => block_on(serve(args, config, &broker)),
        Err(error) => fail(args.json, &error),
    }
}

/// Starts the broker and empties the folder.
fn prepare(args: &Args, mut config: Config) -> Result<(Config, EmbeddedBroker), String> {
    for name in ["bief.db", "cache.db"] {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let file = args.folder.join(format!("{name}{suffix}"));
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{} of an earlier demo can't be removed: {e}", file.display()));
                }
                _ => {}
            }
        }
    }
    let url = |name: &str| Secret::new(format!("sqlite://{}", args.folder.join(name).display()));
    config.warehouse.url = url("bief.db");
    if let Some(cache) = &mut config.cache {
        cache.url = url("cache.db");
    }
    config.kafka.brokers = Brokers::Embedded;
    for stream in &mut config.streams {
        stream.lanes = 1;
    }
    let mut topics: Vec<(String, i32)> = config
        .streams
        .iter()
        .map(|s| {
            let partitions = config.replays.iter().find(|r| r.topic == s.topic).map_or(4, |r| r.partitions);
            (s.topic.clone(), partitions)
        })
        .collect();
    topics.extend(config.streams.iter().filter_map(|s| s.dead_letter_topic.clone()).map(|topic| (topic, 1)));
    let broker = EmbeddedBroker::start(args.kafka, &topics).map_err(|e| e.to_string())?;
    Ok((config, broker))
}

async fn serve(args: &Args, config: Config, broker: &EmbeddedBroker) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(args.json, &format!("signals can't be listened to: {error}")),
    };
    let began = Instant::now();
    let bootstrap = broker.address().to_string();
    let config = Arc::new(config);
    let launched = listen(&config)
        .and_then(|listener| Ok((listener.local_addr().map_err(|e| e.to_string())?, listener)))
        .and_then(|(address, listener)| {
            let daemon = topology::launch(Arc::clone(&config), &bootstrap, listener);
            daemon.map(|daemon| (address, daemon)).map_err(|e| format!("the page can't be served: {e}"))
        });
    let (address, daemon) = match launched {
        Ok(launched) => launched,
        Err(error) => return fail(args.json, &error),
    };
    eprintln!("bief demo: http://{address}  (Kafka at {bootstrap}, SQLite in {})", args.folder.display());
    let cancel = Arc::new(AtomicBool::new(false));
    let work = caught_up(args, &config, &bootstrap, &daemon, &cancel, began);
    let outcome = tokio::select! {
        outcome = work => outcome,
        signal = signals.first() => {
            eprintln!("bief demo: {} before all was replayed; draining", signal.name());
            cancel.store(true, Ordering::SeqCst);
            let drained = daemon.supervisor.drain(config.daemon.drain_timeout).await;
            daemon.server.stop(false).await;
            return drained.exit_code();
        }
    };
    let code = match &outcome {
        Ok(summary) => summary.tell(args.json),
        Err(error) => fail(args.json, error),
    };
    if !args.until_caught_up && outcome.is_ok() {
        eprintln!("bief demo: stays up at http://{address} until Ctrl-C");
        signals.first().await;
    }
    let drained = daemon.supervisor.drain(config.daemon.drain_timeout).await;
    daemon.server.stop(false).await;
    if code == exit::OK { drained.exit_code() } else { code }
}

/// Replays, waits until all is committed, and proves it.
async fn caught_up(
    args: &Args,
    config: &Arc<Config>,
    bootstrap: &str,
    daemon: &Daemon,
    cancel: &Arc<AtomicBool>,
    began: Instant,
) -> Result<Summary, String> {
    let progress = bar();
    let options = Options { rows: args.rows, shift: Shift::WeeksToNow { now: Utc::now() }, ..Options::default() };
    let replaying = {
        let (config, bootstrap, cancel) = (Arc::clone(config), bootstrap.to_owned(), Arc::clone(cancel));
        tokio::task::spawn_blocking(move || {
            send(&config.replays, &config.kafka, &bootstrap, &options, &ProgressBar::hidden(), &cancel)
        })
    };
    tokio::pin!(replaying);
    let mut sent: Option<Sent> = None;
    loop {
        tokio::select! {
            done = &mut replaying, if sent.is_none() => sent = Some(done.map_err(|e| e.to_string())??),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let done = committed(&daemon.board);
        let total = sent.as_ref().map(|s| s.topics.values().sum::<u64>());
        progress.set_length(total.unwrap_or(done.max(1)));
        progress.set_position(done);
        if let Some(failed) = daemon.supervisor.status().into_iter().find(|u| matches!(u.state, UnitState::Failed)) {
            let cause = failed.last_error.unwrap_or_default();
            return Err(format!("stream {} stopped for good: {cause}", failed.name));
        }
        if total.is_some_and(|total| done >= total) {
            break;
        }
    }
    progress.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let client = client_config(&config.kafka, bootstrap, "bief-verify");
    let broker: Arc<dyn Broker> = Arc::new(KafkaBroker::new(client, &config.kafka.group).map_err(|e| e.to_string())?);
    let proof = verify::prove(config, &broker, None).await?;
    Ok(Summary { rows: count_rows(config).await?, proof, seconds })
}

/// Records with an outcome, over all streams.
fn committed(board: &Board) -> u64 {
    let partitions = board.snapshot().into_iter().flat_map(|s| s.partitions);
    partitions.map(|p| (p.counts.applied + p.counts.duplicates + p.counts.dead_letters).max(0) as u64).sum()
}

async fn count_rows(config: &Config) -> Result<BTreeMap<String, i64>, String> {
    let bookkeeping = (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(|e| e.to_string())?;
    let mut rows = BTreeMap::new();
    for table in config.streams.iter().flat_map(|s| &s.tables) {
        if !rows.contains_key(&table.table) {
            let count = bookkeeping.count_rows(&table.table).await.map_err(|e| e.to_string())?;
            rows.insert(table.table.clone(), count);
        }
    }
    Ok(rows)
}

/// What the demo came to.
struct Summary {
    rows: BTreeMap<String, i64>,
    proof: Proof,
    seconds: f64,
}

impl Summary {
    fn tell(&self, json: bool) -> u8 {
        let records: BTreeMap<&str, i64> = self
            .proof
            .streams
            .iter()
            .map(|s| {
                let recorded = s.partitions.iter().filter_map(|p| p.recorded.as_ref());
                let read = recorded.map(|r| r.counts.applied + r.counts.duplicates + r.counts.dead_letters).sum();
                (s.stream.as_str(), read)
            })
            .collect();
        let totals = self.proof.totals();
        if json {
            print_json(&serde_json::json!({
                "records": records,
                "rows": self.rows,
                "dead_letters": totals.dead_letters,
                "duplicates": totals.duplicates,
                "gaps": totals.gaps,
                "seconds": (self.seconds * 1000.0).round() / 1000.0,
                "verify": self.proof.verify,
            }));
        } else {
            println!("caught up in {:.1} s", self.seconds);
            for (table, rows) in &self.rows {
                println!("  {}: {rows} rows", super::printable::printable(table));
            }
            print!("{}", self.proof.text(super::support::colour()));
        }
        if self.proof.is_clean() { exit::OK } else { exit::FOUND }
    }
}
