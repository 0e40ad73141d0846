//! `bief demo`: the whole pipeline on this machine with nothing installed: a broker in this process, SQLite, the
//! shipped data replayed: the history at once, then at a pace that comes up to the present and goes on in real time.
//! Each run starts afresh: a log in memory beside a kept database would be a topic made anew.

mod browser;
mod feeding;
mod summary;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::feeding::Feeding;
use self::summary::{Summary, count_rows};
use super::exit;
use super::replay::bar;
use super::run::listen;
use super::support::{block_on, fail, load, log_command};
use super::verify;
use crate::adapters::embedded::EmbeddedBroker;
use crate::adapters::kafka::broker::KafkaBroker;
use crate::adapters::kafka::client::client_config;
use crate::config::{Brokers, Config, Secret};
use crate::messages::Board;
use crate::ports::Broker;
use crate::runtime::UnitState;
use crate::runtime::signals::Signals;
use crate::topology::{self, Daemon};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief demo --open                           a year of data, then records that keep coming; shows the page
  bief demo --pace 600                       ten minutes of data each second, over a longer stretch
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
    /// Times as fast as it happened, for the last stretch before the present
    #[arg(long, value_name = "X", default_value_t = 60.0, value_parser = pace, conflicts_with = "until_caught_up")]
    pace: f64,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    /// Replay everything at once, and end when all is committed and verify is clean
    #[arg(long)]
    until_caught_up: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

fn pace(text: &str) -> Result<f64, String> {
    let pace: f64 = text.parse().map_err(|_| "write a number, such as 60".to_owned())?;
    if pace.is_finite() && pace >= 1.0 {
        Ok(pace)
    } else {
        Err("write at least 1, which is as fast as it happened".to_owned())
    }
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
    errln!("bief demo: http://{address}  (Kafka at {bootstrap}, SQLite in {})", args.folder.display());
    if args.open {
        browser::open(address);
    }
    let pace = (!args.until_caught_up).then_some(args.pace);
    let mut feeding = Feeding::start(&config, &bootstrap, args.rows, pace);
    let ended = tokio::select! {
        outcome = caught_up(&config, &bootstrap, &daemon, &mut feeding, began) => Ok(outcome),
        signal = signals.first() => Err(signal),
    };
    let code = match ended {
        Err(signal) => {
            errln!("bief demo: {} before all was replayed; draining", signal.name());
            exit::OK
        }
        Ok(Err(error)) => fail(args.json, &error),
        Ok(Ok(summary)) if args.until_caught_up => summary.tell(args.json),
        Ok(Ok(summary)) => {
            let code = summary.tell(args.json);
            errln!("bief demo: records keep coming; stays up at http://{address} until Ctrl-C");
            tokio::select! {
                error = feeding.go_on() => fail(args.json, &error),
                _ = signals.first() => code,
            }
        }
    };
    feeding.stop().await;
    let drained = daemon.supervisor.drain(config.daemon.drain_timeout).await;
    daemon.server.stop(false).await;
    if code == exit::OK { drained.exit_code() } else { code }
}

/// Waits until all is committed that was sent at once, and proves it.
async fn caught_up(
    config: &Arc<Config>,
    bootstrap: &str,
    daemon: &Daemon,
    feeding: &mut Feeding,
    began: Instant,
) -> Result<Summary, String> {
    let progress = bar();
    loop {
        let wanted = feeding.at_once(LOOK_EVERY).await?;
        let done = committed(&daemon.board);
        progress.set_length(wanted.unwrap_or_else(|| feeding.sent()).max(done).max(1));
        progress.set_position(done);
        if let Some(failed) = daemon.supervisor.status().into_iter().find(|u| matches!(u.state, UnitState::Failed)) {
            let cause = failed.last_error.unwrap_or_default();
            return Err(format!("stream {} stopped for good: {cause}", failed.name));
        }
        if wanted.is_some_and(|wanted| done >= wanted) {
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
