//! `cargo xtask drill`: `bief drill` against servers that are started for it, so that they can be killed and started
//! again too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::interrupt;
use crate::servers::guard::signal_group;
use crate::servers::{Durability, Kind, Servers};
use crate::shell;

/// What goes into `cargo test`'s step: every kind of fault at least once.
pub const SHORT: u32 = 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// How many faults.
    #[arg(long, default_value_t = SHORT)]
    faults: u32,
    /// Replays the drill of this seed.
    #[arg(long, env = "BIEF_SEED")]
    seed: Option<u64>,
    /// MariaDB in place of MySQL.
    #[arg(long)]
    mariadb: bool,
    /// A bief to drill in place of one that is built for it; without failpoints, its panics are left out.
    #[arg(long)]
    bief: Option<PathBuf>,
    /// Print the result as one JSON object, in the last line.
    #[arg(long)]
    json: bool,
    /// Handed to `bief drill`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Builds bief with failpoints, starts servers, and holds the drill.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let interrupted = interrupt::watch()?;
    let bief = match &arguments.bief {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => build()?,
    };
    let database = if arguments.mariadb { Kind::Mariadb } else { Kind::Mysql };
    let servers = Servers::start(&Cache::open()?, &[Kind::Kafka, database], Durability::Lean, &interrupted)?;
    for running in servers.running() {
        eprintln!("started {} at {}", running.version, running.address);
    }
    let mut options = vec![format!("--faults={}", arguments.faults)];
    options.extend(arguments.seed.map(|seed| format!("--seed={seed}")));
    options.extend(arguments.json.then(|| "--json".to_owned()));
    options.extend(arguments.rest.iter().cloned());
    hold(&bief, &servers, database, &options, &interrupted)
}

/// Holds a drill on servers that were started here; they are killed and started again meanwhile.
pub fn hold(
    bief: &Path,
    servers: &Servers,
    database: Kind,
    options: &[String],
    interrupted: &AtomicBool,
) -> Result<ExitCode> {
    let guard = servers.guard();
    let config = guard.folder().join("staging.toml");
    let (kafka, url) = (servers.address(Kind::Kafka)?, servers.address(database)?);
    fs::write(
        &config,
        format!(
            "[kafka]\nbrokers = \"{kafka}\"\n\n[warehouse]\nurl = \"{url}mysql\"\n\n[[stream]]\ntopic = \"unused\"\n\n\
             [[stream.table]]\nname = \"unused\"\ncolumns = {{ a = \"a\" }}\n"
        ),
    )
    .context("cannot write the drill's configuration")?;
    let mut command = Command::new(bief);
    command.arg("drill").arg("-c").arg(&config).arg("--yes-this-is-staging").args(options);
    command.arg("--broker-restart").arg(guard.restart_command("kafka"));
    command.arg("--database-restart").arg(guard.restart_command(match database {
        Kind::Mariadb => "mariadb",
        _ => "mysql",
    }));
    if database == Kind::Mysql {
        command.arg("--server-read-only");
    }
    let mut child = guard.start_group("drill", &command, Stdio::inherit())?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        if interrupted.load(Ordering::Relaxed) && !std::mem::replace(&mut told, true) {
            signal_group("TERM", child.id());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The binary with failpoints, where the tests have it too.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    shell::run(Command::new(&cargo).args(["build", "--workspace", "--features", "bief/failpoints", "--bin", "bief"]))
        .context("cannot build bief")?;
    let metadata = shell::output(Command::new(&cargo).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(Path::new(target).join("debug/bief"))
}
