//! `cargo xtask drill`: `bief drill` against servers that are started for it, so that they can be killed and started
//! again too.

use std::fs;
use std::io::BufReader;
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

/// What goes into `cargo test`'s step: every kind of fault once.
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
    Ok(ExitCode::from(hold(&bief, &servers, database, &options, &interrupted)?.code))
}

/// How a drill ended.
pub struct Held {
    pub code: u8,
    /// The report, with `--json`.
    pub last_line: String,
}

/// Whether a drill of [`SHORT`] faults went well and left no kind of fault out.
///
/// # Errors
/// What is wrong with it.
pub fn judge(held: &Held) -> Result<(), String> {
    if held.code != 0 {
        return Err(format!("it ended with {}", held.code));
    }
    let report: serde_json::Value =
        serde_json::from_str(&held.last_line).map_err(|error| format!("its last line is no report: {error}"))?;
    let count = |name: &str| report[name].as_object().map(serde_json::Map::len);
    if count("left_out") != Some(0) || report["not_applied"] != 0 {
        return Err(format!("left out: {}; found nothing to hit: {}", report["left_out"], report["not_applied"]));
    }
    if report["faults"] != SHORT || count("kinds") != usize::try_from(SHORT).ok() {
        return Err(format!(
            "{} faults of {} kinds, where {SHORT} of as many kinds are wanted",
            report["faults"],
            count("kinds").unwrap_or(0)
        ));
    }
    Ok(())
}

/// Holds a drill on servers that were started here; they are killed and started again meanwhile.
pub fn hold(
    bief: &Path,
    servers: &Servers,
    database: Kind,
    options: &[String],
    interrupted: &AtomicBool,
) -> Result<Held> {
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
    let mut child = guard.start_group("drill", &command, Stdio::piped())?;
    let output = BufReader::new(child.stdout.take().context("the drill has no output")?);
    let passing_on = std::thread::spawn(move || {
        let mut last_line = String::new();
        shell::pass_on(output, |line| line.trim_end().clone_into(&mut last_line));
        last_line
    });
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(Held { code, last_line: passing_on.join().unwrap_or_default() });
        }
        if interrupted.load(Ordering::Relaxed) && !std::mem::replace(&mut told, true) {
            signal_group("TERM", child.id());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The binary with failpoints, where the tests have it too.
pub fn build() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--workspace", "--features", "bief/failpoints", "--bin", "bief"]))
        .context("cannot build bief")?;
    place()
}

/// The binary that `cargo test` has just built with failpoints. A build of its own would compile much twice: features
/// that only tests need differ.
pub fn built_by_tests() -> Result<PathBuf> {
    let bief = place()?;
    if bief.exists() { Ok(bief) } else { build() }
}

fn place() -> Result<PathBuf> {
    Ok(shell::target_folder()?.join("debug/bief"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(change: impl Fn(&mut serde_json::Value)) -> Held {
        let kinds: serde_json::Map<_, _> = (0..SHORT).map(|at| (format!("kind-{at}"), serde_json::json!({}))).collect();
        let mut report =
            serde_json::json!({ "faults": SHORT, "kinds": kinds, "not_applied": 0, "left_out": {}, "lost": 0 });
        change(&mut report);
        Held { code: 0, last_line: report.to_string() }
    }

    #[test]
    fn a_short_drill_is_well_only_with_every_kind_of_fault() {
        judge(&report(|_| {})).unwrap();
        judge(&report(|report| report["not_applied"] = 1.into())).unwrap_err();
        judge(&report(|report| report["left_out"]["daemon-kill"] = "why".into())).unwrap_err();
        judge(&report(|report| report["faults"] = 19.into())).unwrap_err();
        let fewer = report(|report| drop(report["kinds"].as_object_mut().unwrap().remove("kind-3")));
        assert!(judge(&fewer).unwrap_err().contains("20 faults of 19 kinds"));
        judge(&Held { code: 0, last_line: "0 lost".into() }).unwrap_err();
        assert!(judge(&Held { code: 3, ..report(|_| {}) }).unwrap_err().contains("ended with 3"));
    }
}
