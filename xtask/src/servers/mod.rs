//! Real servers for tests and benchmarks without Docker: fetched once into the cache, started on free ports of the
//! loopback address, ended without a trace. Nothing is installed on the machine.

mod debian;
mod ferretdb;
pub mod guard;
pub mod kafka;
mod mariadb;
pub mod maven;
mod mongodb;
mod mysql;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::interrupt;
use crate::shell;
use guard::Guard;

/// A starting server answers within seconds; this long even on a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A port found free can be taken before the server binds it.
const START_TRIES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    Kafka,
    Mysql,
    Mariadb,
    Mongodb,
    Ferretdb,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Kafka, Kind::Mysql, Kind::Mariadb, Kind::Mongodb, Kind::Ferretdb];

    /// The environment variable that names a running server.
    pub fn variable(self) -> &'static str {
        match self {
            Kind::Kafka => "BIEF_TEST_KAFKA",
            Kind::Mysql => "BIEF_TEST_MYSQL",
            Kind::Mariadb => "BIEF_TEST_MARIADB",
            Kind::Mongodb => "BIEF_TEST_MONGODB",
            Kind::Ferretdb => "BIEF_TEST_FERRETDB",
        }
    }

    /// Why a server of the kind cannot be had on this machine, where tests do without.
    pub fn hindrance(self) -> Option<String> {
        match self {
            Kind::Ferretdb => ferretdb::hindrance(),
            _ => None,
        }
    }

    /// What is fetched: the name of its folder in the cache (the number rises when the recipe changes), and a line
    /// for the reader.
    fn recipe(self) -> (&'static str, &'static str) {
        match self {
            Kind::Kafka => ("kafka-4.3.1-1", "Apache Kafka 4.3.1 by Maven, 55 MB"),
            Kind::Mysql => ("mysql-1", "MySQL 9 from Debian sid's packages, 58 MB, 450 MB once unpacked"),
            Kind::Mariadb => {
                ("mariadb-1", "MariaDB 10.11 from Debian bookworm's packages, 14 MB, 190 MB once unpacked")
            }
            Kind::Mongodb => ("mongo-java-server-1.47.0-1", "mongo-java-server 1.47.0 by Maven, 9 MB"),
            Kind::Ferretdb => (
                "ferretdb-2.7.0-1",
                "PostgreSQL 18 with DocumentDB from Debian sid's packages, FerretDB 2.7.0 built by Go, a few minutes",
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Quick and small; a crash of the machine (not of the server) can lose commits. For tests.
    Lean,
    /// The server's own defaults, each commit on the disk. For benchmarks.
    Durable,
}

/// Fetches what is not in the cache and says so; returns the server's folder.
pub fn fetch(cache: &Cache, kind: Kind) -> Result<PathBuf> {
    let (name, what) = kind.recipe();
    if let Some(path) = cache.find(name) {
        return Ok(path);
    }
    eprintln!("fetching {what}, into {}", cache.root().join(name).display());
    let start = Instant::now();
    let path = cache.get_or_make(name, |folder| match kind {
        Kind::Kafka => kafka::fetch(folder),
        Kind::Mysql => mysql::fetch(folder),
        Kind::Mariadb => mariadb::fetch(folder),
        Kind::Mongodb => mongodb::fetch(folder),
        Kind::Ferretdb => ferretdb::fetch(folder),
    })?;
    let size = shell::size_of(&path) / 1_000_000;
    eprintln!("fetched {} in {:.1} s, {size} MB in {}", version(&path), start.elapsed().as_secs_f64(), path.display());
    Ok(path)
}

/// What a fetched folder holds, by the line that the fetch wrote.
fn version(folder: &Path) -> String {
    fs::read_to_string(folder.join("version")).map_or_else(|_| "a server".into(), |text| text.trim().to_string())
}

/// Running servers, which end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    guard: Guard,
    running: Vec<Running>,
}

/// One server that answers.
#[derive(Debug)]
pub struct Running {
    pub kind: Kind,
    /// `host:port` of Kafka, a URL of the others, without a database.
    pub address: String,
    /// What it is, with its version.
    pub version: String,
    /// The environment variables that tell tests of it, with their values.
    pub variables: Vec<(&'static str, String)>,
}

impl Servers {
    /// Starts servers side by side and waits until each answers. `interrupted` ends the wait.
    pub fn start(cache: &Cache, kinds: &[Kind], durability: Durability, interrupted: &AtomicBool) -> Result<Self> {
        for kind in kinds {
            fetch(cache, *kind)?;
            interrupt::check(interrupted)?;
        }
        let guard = Guard::new()?;
        let start_one = |kind: Kind| {
            let folder = fetch(cache, kind)?;
            let [port, secure_port, _] = start_on_free_port(kind, &folder, &guard, durability, interrupted)?;
            let address = match kind {
                Kind::Kafka => format!("127.0.0.1:{port}"),
                Kind::Mysql | Kind::Mariadb => format!("mysql://root@127.0.0.1:{port}/"),
                Kind::Mongodb => format!("mongodb://127.0.0.1:{port}/"),
                Kind::Ferretdb => format!("mongodb://{}@127.0.0.1:{port}/?authSource=admin", ferretdb::login()),
            };
            let mut variables = vec![(kind.variable(), address.clone())];
            if kind == Kind::Kafka {
                variables.push(("BIEF_TEST_KAFKA_SECURE", format!("127.0.0.1:{secure_port}")));
                variables.push(("BIEF_TEST_KAFKA_CA", kafka::authority(&guard).display().to_string()));
            }
            if kind == Kind::Ferretdb {
                variables.push(("BIEF_TEST_FERRETDB_TLS", format!("127.0.0.1:{secure_port}")));
                variables.push(("BIEF_TEST_FERRETDB_CA", ferretdb::authority(&folder).display().to_string()));
            }
            Ok(Running { kind, address, version: version(&folder), variables })
        };
        let running: Result<Vec<_>> = std::thread::scope(|scope| {
            let threads: Vec<_> = kinds.iter().map(|kind| scope.spawn(|| start_one(*kind))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            // All are waited for, so that nothing starts after the guard has ended the rest.
            let results: Vec<_> = threads.into_iter().map(join).collect();
            results.into_iter().collect()
        });
        Ok(Self { running: running?, guard })
    }

    pub fn running(&self) -> &[Running] {
        &self.running
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The address of a server that was started.
    pub fn address(&self, kind: Kind) -> Result<&str> {
        let running = self.running.iter().find(|running| running.kind == kind);
        running.map(|running| running.address.as_str()).with_context(|| format!("{kind:?} was not started"))
    }

    /// Lets them run on; returns the folder by which `down` finds them.
    pub fn keep(self, cache: &Cache) -> Result<PathBuf> {
        remember(cache, self.guard.folder())?;
        self.guard.keep()
    }
}

fn start_on_free_port(
    kind: Kind,
    folder: &Path,
    guard: &Guard,
    durability: Durability,
    interrupted: &AtomicBool,
) -> Result<[u16; 3]> {
    let mut last = String::new();
    for _ in 0..START_TRIES {
        let ports = free_ports()?;
        let (mut child, answers): (Child, fn(u16) -> bool) = match kind {
            Kind::Kafka => (kafka::start(folder, guard, ports)?, kafka::answers),
            Kind::Mysql => (mysql::start(folder, guard, ports[0], durability)?, mysql::answers),
            Kind::Mariadb => (mariadb::start(folder, guard, ports[0], durability)?, mysql::answers),
            Kind::Mongodb => (mongodb::start(folder, guard, ports[0])?, mongodb::answers),
            Kind::Ferretdb => (ferretdb::start(folder, guard, ports, durability)?, mongodb::answers),
        };
        let start = Instant::now();
        loop {
            interrupt::check(interrupted)?;
            if let Some(status) = child.try_wait()? {
                let name = format!("{kind:?}").to_lowercase();
                let log = fs::read_to_string(guard.folder().join(format!("{name}.log"))).unwrap_or_default();
                last = format!("{kind:?} ended while starting ({status}):\n{}", shell::tail(&log, 30));
                let log = log.to_lowercase();
                if log.contains("address already in use") || log.contains("bind on tcp/ip port") {
                    break;
                }
                bail!(last);
            }
            if answers(ports[0]) {
                return Ok(ports);
            }
            if start.elapsed() > START_LIMIT {
                bail!("{kind:?} does not answer after {} s", START_LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    bail!("no free port for {kind:?} in {START_TRIES} tries: {last}")
}

/// Ports that nobody has at the moment.
fn free_ports() -> Result<[u16; 3]> {
    // All are held until all are known, so that they differ.
    let bind = || TcpListener::bind("127.0.0.1:0");
    let held = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Remembers kept servers in the cache, so that `down` finds them.
fn remember(cache: &Cache, folder: &Path) -> Result<()> {
    let list = cache.root().join("running");
    fs::create_dir_all(&list)?;
    let name = folder.file_name().context("a folder without a name")?;
    fs::write(list.join(name), folder.display().to_string()).context("cannot write to the cache")
}

/// Folders of kept servers.
pub fn remembered(cache: &Cache) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cache.root().join("running")) else { return Vec::new() };
    let mut folders: Vec<_> = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .map(|text| PathBuf::from(text.trim()))
        .collect();
    folders.sort();
    folders
}

/// Ends kept servers and forgets them.
pub fn down(cache: &Cache, folder: &Path) -> Result<()> {
    if folder.exists() {
        guard::end(folder)?;
    }
    if let Some(name) = folder.file_name() {
        let _ = fs::remove_file(cache.root().join("running").join(name));
    }
    Ok(())
}
