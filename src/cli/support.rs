//! What the commands share: reading the configuration, one error form, JSON on stdout, prose on stderr.

use std::future::Future;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use uuid::Uuid;

use super::exit;
use super::logging::Format;
use crate::adapters::kafka::broker::KafkaBroker;
use crate::adapters::kafka::client::client_config;
use crate::config::{self, Brokers, Config, Loaded, LogFormat};
use crate::ports::Broker;
use crate::runtime::signals::Signals;

/// Reads the configuration; tells every mistake on stderr and answers the exit code where there is one.
pub fn load(path: &Path) -> Result<Loaded, u8> {
    load_with(path, &|name| std::env::var(name).ok())
}

/// The same with variables from elsewhere.
pub fn load_with(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, u8> {
    let outcome = config::load(path, env);
    let report = config::report(&path.display().to_string(), &outcome);
    if report.errors() + report.warnings() > 0 {
        err!("{}", report.text(colour()));
    }
    outcome.map_err(|_| exit::USAGE)
}

/// Sets the daemon's log up, as configured.
pub fn log_daemon(format: LogFormat, filter: Option<&str>) -> Result<(), u8> {
    let format = match format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    log(format, filter)
}

/// Sets a command's log up: what it does it prints itself, so that only trouble is logged.
pub fn log_command(filter: Option<&str>) -> Result<(), u8> {
    let quiet = std::env::var_os("RUST_LOG").is_none().then_some("error,bief=warn");
    log(Format::Auto, filter.or(quiet))
}

/// Sets up the log of a command that tells all trouble itself: for who asks for one.
pub fn log_if_asked(filter: Option<&str>) -> Result<(), u8> {
    match filter.is_some() || std::env::var_os("RUST_LOG").is_some_and(|filter| !filter.is_empty()) {
        true => log(Format::Auto, filter),
        false => Ok(()),
    }
}

fn log(format: Format, filter: Option<&str>) -> Result<(), u8> {
    super::logging::init(format, filter).map_err(|error| {
        errln!("bief: {error}");
        exit::USAGE
    })
}

/// Whether stderr wants colour: a terminal, and NO_COLOR is not set.
pub fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// One line on stderr, or the error envelope on stdout for a script; the code for "failed".
pub fn fail(json: bool, error: &str) -> u8 {
    if json {
        print_json(&serde_json::json!({ "code": "failed", "message": error }));
    }
    errln!("bief: {}", super::printable::printable(error));
    exit::FAILED
}

/// One line on stdout, without a character that a terminal would obey.
pub fn print_json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => outln!("{}", super::printable::json_escaped(&text)),
        Err(error) => errln!("bief: the answer could not be printed as JSON: {error}"),
    }
}

/// Runs a command's questions to database and broker.
pub fn block_on<F: Future>(future: F) -> F::Output {
    actix::System::new().block_on(future)
}

/// What a command calls itself where daemons and commands agree on who does what; another at each run.
pub fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().take(64).collect();
    format!("command {} on {host}/{}", std::process::id(), &Uuid::new_v4().simple().to_string()[..8])
}

/// The brokers' address; the embedded broker lives in `bief demo` alone.
pub fn bootstrap(config: &Config) -> Result<&str, String> {
    match &config.kafka.brokers {
        Brokers::Servers(servers) => Ok(servers),
        Brokers::Embedded => Err("brokers = \"embedded\" is for `bief demo`; \
            write brokers = \"host:9092\" in [kafka] to use a Kafka"
            .to_owned()),
    }
}

pub fn broker_of(config: &Config) -> Result<Arc<dyn Broker>, String> {
    let client = client_config(&config.kafka, bootstrap(config)?, "bief-cli");
    let broker = KafkaBroker::new(client, &config.kafka.group).map_err(|e| e.to_string())?;
    Ok(Arc::new(broker))
}

/// Set by the first SIGINT or SIGTERM; the second ends the process.
pub fn interrupted() -> Result<Arc<AtomicBool>, String> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let mut signals = Signals::listen().map_err(|e| format!("signals can't be listened to: {e}"))?;
    std::thread::spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
            runtime.block_on(signals.first());
            set.store(true, Ordering::SeqCst);
        }
    });
    Ok(flag)
}
