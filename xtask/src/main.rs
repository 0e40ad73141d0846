//! What developers run: servers for tests, the tests with their servers, benchmarks. The product never needs it.

mod bench;
mod browser;
mod cache;
mod comparison;
mod demo;
mod drill;
mod interrupt;
mod ml;
mod screenshots;
mod servers;
mod shell;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use cache::Cache;
use interrupt::Interrupted;
use servers::{Durability, Kind, Servers};

/// Tests and benchmarks of bief with real servers, which it fetches and starts itself.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Kafka, MySQL, MariaDB and what speaks MongoDB's protocol on this machine, nothing installed.
    #[command(subcommand)]
    Servers(ServersTask),
    /// How fast bief is, beside what the same server does without it.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// `bief drill` on servers of its own: daemons, broker and database killed, paused, cut and slowed; nothing lost.
    #[command(after_help = "Examples:\n  cargo xtask drill\n  cargo xtask drill --faults 200 --seed 7 --mariadb")]
    Drill(drill::Arguments),
    /// Pictures of the page, each tab in dark and light, of a real demo. Needs chromium and chromedriver.
    #[command(after_help = "Example:\n  cargo xtask screenshots")]
    Screenshots(screenshots::Arguments),
    /// The figures and plots of docs/comparison.md, made from docs/comparison.json, which `bief compare --out` writes.
    #[command(after_help = "Example:\n  cargo xtask comparison")]
    Comparison(comparison::Arguments),
    /// All tests, with the servers they need: fetched, started on free ports, and taken down at the end. When all of
    /// them ran, and no server was given, a short drill follows.
    ///
    /// A server that is there already is used instead where its variable is set: BIEF_TEST_KAFKA (host:port),
    /// BIEF_TEST_MYSQL and BIEF_TEST_MARIADB (mysql://user:password@host:port/), BIEF_TEST_MONGODB and BIEF_TEST_FERRETDB
    /// (mongodb://user:password@host:port/?authSource=admin). Beside a Kafka of yours, tests of TLS and SASL are left out
    /// unless BIEF_TEST_KAFKA_SECURE (host:port) and BIEF_TEST_KAFKA_CA (a PEM file) name a listener of it; user and
    /// password are those in tests/servers/security.rs. Likewise BIEF_TEST_FERRETDB_TLS and BIEF_TEST_FERRETDB_CA.
    #[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test -- --test kafka -- --nocapture")]
    Test {
        /// The frameworks that bief is compared with, in place of all that: installs them into the cache folder, has all
        /// fit the same matrix, and sees to it that nothing of them stays, whatever becomes of them. Needs Python 3.11 and Java 17.
        #[arg(long)]
        ml: bool,
        /// Handed to `cargo test`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum ServersTask {
    /// Fetch the servers into the cache folder ($BIEF_CACHE, $XDG_CACHE_HOME/bief or ~/.cache/bief).
    Fetch(Which),
    /// Start servers on free ports and leave them running; prints VARIABLE=value lines.
    Up {
        #[command(flatten)]
        which: Which,
        /// The servers' own defaults, each commit on the disk, instead of quick and small.
        #[arg(long)]
        durable: bool,
    },
    /// End servers that `up` started, and remove their data.
    Down {
        /// The folder that `up` named; may be left out where only one was started.
        folder: Option<PathBuf>,
        /// End all that were started.
        #[arg(long, conflicts_with = "folder")]
        all: bool,
    },
}

#[derive(Args)]
struct Which {
    /// Only these servers.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Kind>,
}

impl Which {
    fn kinds(&self) -> Vec<Kind> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        let can_be_had = |kind: &Kind| match kind.hindrance() {
            Some(why) => {
                eprintln!("without {kind:?}: {why}");
                false
            }
            None => true,
        };
        Kind::ALL.into_iter().filter(can_be_had).collect()
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            if error.is::<Interrupted>() { ExitCode::from(interrupt::EXIT_CODE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Servers(ServersTask::Fetch(which)) => {
            let cache = Cache::open()?;
            for kind in which.kinds() {
                let path = servers::fetch(&cache, kind)?;
                println!("{kind:?}: {}", path.display());
            }
        }
        Task::Servers(ServersTask::Up { which, durable }) => up(&which.kinds(), durable)?,
        Task::Servers(ServersTask::Down { folder, all }) => down(folder, all)?,
        Task::Bench(bench) => return bench::run(bench),
        Task::Drill(arguments) => return drill::run(&arguments),
        Task::Screenshots(arguments) => screenshots::run(&arguments)?,
        Task::Comparison(arguments) => comparison::run(&arguments)?,
        Task::Test { ml: true, arguments } => return ml::run(&arguments),
        Task::Test { ml: false, arguments } => return test::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(kinds: &[Kind], durable: bool) -> Result<()> {
    let cache = Cache::open()?;
    let durability = if durable { Durability::Durable } else { Durability::Lean };
    let servers = Servers::start(&cache, kinds, durability, interrupt::watch()?.as_ref())?;
    for running in servers.running() {
        eprintln!("{} at {}", running.version, running.address);
        for (name, value) in &running.variables {
            println!("{name}={value}");
        }
    }
    let folder = servers.keep(&cache)?;
    eprintln!("end them with: cargo xtask servers down {}", folder.display());
    Ok(())
}

fn down(folder: Option<PathBuf>, all: bool) -> Result<()> {
    let cache = Cache::open()?;
    let known = servers::remembered(&cache);
    let folders = match folder {
        Some(folder) if known.contains(&folder) => vec![folder],
        Some(folder) => bail!("{} is not a folder that `servers up` started", folder.display()),
        None if all || known.len() <= 1 => known,
        None => {
            let names: Vec<_> = known.iter().map(|folder| format!("  {}", folder.display())).collect();
            bail!("several were started; name one, or all with --all:\n{}", names.join("\n"))
        }
    };
    for folder in folders {
        servers::down(&cache, &folder)?;
        eprintln!("ended those in {}", folder.display());
    }
    Ok(())
}
