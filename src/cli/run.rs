//! `bief run`: the daemon against real servers, until a signal. `--dry-run N` writes N real records in a
//! transaction that is rolled back and shows what would have been.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use super::support::{block_on, bootstrap, fail, load, log_command, log_daemon};
use super::{exit, rehearsal};
use crate::config::{Config, Loaded, OnFatal};
use crate::runtime::signals::Signals;
use crate::runtime::{UnitState, UnitStatus};
use crate::topology::{self, Daemon};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief run                          with ./actors.toml
  bief run -c prod.toml
  bief run --dry-run 5              what the next 5 records of each stream would do; needs the tables,
                                    keeps nothing

SIGTERM and Ctrl-C drain: what was polled is committed, within drain_timeout; a second signal stops at once.

Exit codes: 0 drained, 1 failed, 2 configuration, 4 a stream stopped for good (on_fatal = \"exit\"),
75 the drain was cut, 130 or 143 stopped by a second signal")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Write N real records of each stream in a transaction that is rolled back, show them, and end
    #[arg(long, value_name = "N")]
    dry_run: Option<usize>,
    /// With --dry-run: print one JSON object a record
    #[arg(long, requires = "dry_run")]
    json: bool,
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Some(records) = args.dry_run {
        if let Err(code) = log_command(log) {
            return code;
        }
        return rehearsal::run(&loaded.config, records, args.json);
    }
    if let Err(code) = log_daemon(loaded.config.daemon.log, log) {
        return code;
    }
    let bootstrap = match bootstrap(&loaded.config) {
        Ok(bootstrap) => bootstrap.to_owned(),
        Err(error) => return fail(false, &error),
    };
    block_on(serve(loaded, &bootstrap))
}

/// Binds the page's address, or says who could be there.
pub fn listen(config: &Config) -> Result<TcpListener, String> {
    TcpListener::bind(config.daemon.http)
        .map_err(|e| format!("http address {} can't be used: {e}; write another in [daemon] http", config.daemon.http))
}

async fn serve(loaded: Loaded, bootstrap: &str) -> u8 {
    let config = Arc::new(loaded.config);
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(false, &format!("signals can't be listened to: {error}")),
    };
    let listener = match listen(&config) {
        Ok(listener) => listener,
        Err(error) => return fail(false, &error),
    };
    let address = listener.local_addr();
    let daemon = match topology::launch(Arc::clone(&config), bootstrap, listener) {
        Ok(daemon) => daemon,
        Err(error) => return fail(false, &format!("the page can't be served: {error}")),
    };
    tracing::info!(
        name = config.daemon.name,
        version = env!("CARGO_PKG_VERSION"),
        http = %address.unwrap_or(config.daemon.http),
        streams = config.streams.len(),
        "bief runs"
    );
    let streams: Vec<String> = config.streams.iter().map(|stream| stream.name.clone()).collect();
    tokio::select! {
        drained = signals.drain_at_first(&daemon.supervisor, config.daemon.drain_timeout) => {
            daemon.server.stop(false).await;
            let code = drained.exit_code();
            tracing::info!(code, "bief ends");
            code
        }
        () = given_up(&daemon, &streams), if config.daemon.on_fatal == OnFatal::Exit => {
            tracing::error!("a stream stopped for good and on_fatal is \"exit\"");
            daemon.supervisor.drain(config.daemon.drain_timeout).await;
            exit::STREAM_STOPPED
        }
    }
}

/// What works beside the streams holds up no record.
fn is_given_up(streams: &[String], unit: &str, state: &UnitState) -> bool {
    *state == UnitState::Failed && streams.iter().any(|stream| stream == unit)
}

/// Waits until one of these streams has stopped for good.
async fn given_up(daemon: &Daemon, streams: &[String]) {
    let mut changes = daemon.supervisor.board().changes();
    loop {
        let stopped = |unit: &UnitStatus| is_given_up(streams, &unit.name, &unit.state);
        if changes.borrow_and_update().iter().any(stopped) {
            return;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_works_beside_the_streams_ends_no_daemon() {
        let streams = ["orders".to_owned()];
        assert!(is_given_up(&streams, "orders", &UnitState::Failed));
        assert!(!is_given_up(&streams, "orders", &UnitState::Running));
        assert!(!is_given_up(&streams, "outbox-orders", &UnitState::Failed));
    }
}
