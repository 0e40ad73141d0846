//! What users run today for the same job, on the same topic and server, in turns: a consumer as most people write it in
//! Python, and Debezium's JDBC sink in Kafka Connect. Then what one bad record and one SIGKILL do to each.
//!
//! The peers are spared what they can't do: their table has the fact table's fields alone, times as text, since the
//! server takes no ISO time with a zone; no parents, no keys but the primary one.

mod install;
mod programs;
mod trouble;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use self::install::Installed;
use self::programs::{Peer, Work};
use super::bare;
use super::config::{Config, FACT, TOPIC};
use super::daemon::{self, Replay};
use super::database::{self, list, quoted};
use super::sink::{self, median};
use super::{PeersArguments, Schema, Setup, cores};
use crate::cache::Cache;
use crate::interrupt;
use crate::servers::Kind;
use crate::shell;

const PEERS: [Peer; 2] = [Peer::Python, Peer::Debezium];
/// The peers' table.
const TABLE: &str = "peer";
const POLL: Duration = Duration::from_millis(20);
const PASS_LIMIT: Duration = Duration::from_secs(600);
/// Rows of a bare client's chunk, as in the benchmark of the sink.
const CHUNK_ROWS: u64 = bare::CHUNK_ROWS;

/// Everything that a pass needs.
struct Bench<'a> {
    setup: &'a Setup,
    installed: Installed,
    /// Names of fields, with whether they hold text.
    fields: Vec<(String, bool)>,
    /// The types of the fields, and those of the primary key.
    columns: Vec<String>,
    key: Vec<String>,
    /// So that no two programs share a group or a folder.
    started: u32,
}

/// What was seen of one pass of a peer.
struct Pass {
    rows_per_s: f64,
    peak_rss: u64,
}

pub async fn run(setup: &Setup, arguments: &PeersArguments) -> Result<Value> {
    let installed = install::install(&Cache::open()?)?;
    let mysql = setup.mysql()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &daemon::free_address()?)?;
    database::recreate(mysql).await?;
    database::migrate(mysql, &config.migrations()).await?;
    let create = database::plain_table(mysql).await?;
    let mut bench = Bench::new(setup, installed, &mut config).await?;
    config.only_fact_table(&create)?;
    let path = config.write()?;

    Replay::start(setup, &path, arguments.rows, None)?.wait(setup)?;
    let records = daemon::records_in_topic(setup)?;
    eprintln!("{records} records in the topic");
    database::recreate(mysql).await?;
    sink::pass(setup, &path, records).await?;
    let facts = database::read(mysql, FACT, CHUNK_ROWS).await?;

    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let mut best = 0.0_f64;
        for clients in [1, 2] {
            database::recreate(mysql).await?;
            database::migrate(mysql, &config.migrations()).await?;
            best = best.max(bare::insert(mysql, &[], &facts, clients, None).await?);
        }
        database::recreate(mysql).await?;
        let bief = sink::pass(setup, &path, records).await?;
        database::assert_complete(mysql, records).await?;
        let mut peers = Vec::new();
        for peer in PEERS {
            peers.push(bench.pass(peer, records).await?);
        }
        println!(
            "round {number}: bare {best:.0} rows/s; bief {:.0} rows/s, {:.0} MiB; {}",
            bief.rows_per_s,
            sink::mebibytes(bief.peak_rss),
            PEERS
                .iter()
                .zip(&peers)
                .map(|(peer, pass)| format!(
                    "{} {:.0} rows/s, {:.0} MiB",
                    peer.name(),
                    pass.rows_per_s,
                    sink::mebibytes(pass.peak_rss)
                ))
                .collect::<Vec<_>>()
                .join("; ")
        );
        rounds.push((best, bief, peers));
    }
    let of_bief = median(rounds.iter().map(|(_, bief, _)| bief.rows_per_s).collect());
    let rss_of_bief = rounds.iter().map(|(_, bief, _)| bief.peak_rss).max().unwrap_or(0);
    let mut summary = json!({
        "schema": Schema::Plain.name(),
        "rows": records,
        "cores": cores(),
        "bare_rows_per_s": median(rounds.iter().map(|(bare, ..)| *bare).collect()).round(),
        "bief_rows_per_s": of_bief.round(),
        "bief_peak_rss_bytes": rss_of_bief,
    });
    for (at, (peer, name)) in PEERS.iter().zip(["python", "debezium"]).enumerate() {
        let rate = median(rounds.iter().map(|(_, _, peers)| peers[at].rows_per_s).collect());
        let ratio = median(rounds.iter().map(|(_, bief, peers)| bief.rows_per_s / peers[at].rows_per_s).collect());
        let rss = rounds.iter().map(|(_, _, peers)| peers[at].peak_rss).max().unwrap_or(0);
        println!(
            "{}: bief has {ratio:.1} times its rate (median of {}), {:.2} of its memory",
            peer.name(),
            rounds.len(),
            rss_of_bief as f64 / rss.max(1) as f64
        );
        summary[name] = json!({
            "rows_per_s": rate.round(),
            "bief_times_faster": (ratio * 100.0).round() / 100.0,
            "peak_rss_bytes": rss,
        });
    }
    if !arguments.rates_only {
        trouble::tell(&mut bench, &mut config, records, &mut summary).await?;
    }
    Ok(summary)
}

impl<'a> Bench<'a> {
    async fn new(setup: &'a Setup, installed: Installed, config: &mut Config) -> Result<Self> {
        let mut conn = database::connect(setup.mysql()?, true).await?;
        let described = database::columns(&mut conn, FACT).await?;
        conn.disconnect().await?;
        let (mut fields, mut columns, mut key) = (Vec::new(), Vec::new(), Vec::new());
        for (column, field) in config.fact_columns()? {
            let of = described.iter().find(|c| c.name == column).with_context(|| format!("no column {column}"))?;
            // What bief takes from the record's frame the peers don't get.
            if field.starts_with('@') {
                continue;
            }
            let kind = if of.numeric { "INT" } else { "VARCHAR(32)" };
            columns.push(format!("{} {kind} {}", quoted(&field), if of.in_primary_key { "NOT NULL" } else { "NULL" }));
            if of.in_primary_key {
                key.push(field.clone());
            }
            fields.push((field, !of.numeric));
        }
        Ok(Self { setup, installed, fields, columns, key, started: 0 })
    }

    /// An empty table of the peers' own; with a key of its own where `keyless`, so that doubles show.
    async fn recreate(&self, keyless: bool) -> Result<()> {
        let mysql = self.setup.mysql()?;
        database::recreate(mysql).await?;
        let mut conn = database::connect(mysql, true).await?;
        let key = match keyless {
            true => "bench_id BIGINT AUTO_INCREMENT PRIMARY KEY".to_owned(),
            false => format!("PRIMARY KEY ({})", list(&self.key)),
        };
        conn.query_drop(format!("CREATE TABLE {TABLE} ({}, {key})", self.columns.join(", "))).await?;
        conn.disconnect().await?;
        Ok(())
    }

    fn command(&mut self, peer: Peer, topic: &str, group: &str, rest: &str) -> Result<Command> {
        let port = self.setup.mysql()?.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        let work = Work {
            installed: &self.installed,
            folder: &self.folder(group),
            kafka: self.setup.servers.address(Kind::Kafka)?,
            mysql_port: port.context("MySQL's address has no port")?,
            topic,
            group,
            table: TABLE,
            fields: &self.fields,
            rest,
        };
        programs::command(peer, &work)
    }

    fn folder(&self, group: &str) -> PathBuf {
        self.setup.folder().join(group)
    }

    fn group(&mut self) -> String {
        self.started += 1;
        format!("peer-{}", self.started)
    }

    async fn pass(&mut self, peer: Peer, records: u64) -> Result<Pass> {
        self.recreate(false).await?;
        let mut conn = database::connect(self.setup.mysql()?, true).await?;
        let before = rows_inserted(&mut conn).await?;
        let group = self.group();
        let rest = daemon::free_address()?;
        let command = self.command(peer, TOPIC, &group, &rest)?;
        let mut running = Running::start(self.setup, &group, &command)?;
        let start = Instant::now();
        let mut first = None;
        let (last, rows) = loop {
            running.look(self.setup)?;
            let rows = rows_inserted(&mut conn).await? - before;
            let now = Instant::now();
            if rows > 0 && first.is_none() {
                first = Some((now, rows));
            }
            if rows >= records {
                break (now, rows);
            }
            if start.elapsed() > PASS_LIMIT {
                bail!("{} stored {rows} of {records} rows in {} s", peer.name(), PASS_LIMIT.as_secs());
            }
            tokio::time::sleep(POLL).await;
        };
        // The count knows rows that are not committed yet.
        while count(&mut conn).await? < records {
            running.look(self.setup)?;
            anyhow::ensure!(start.elapsed() < PASS_LIMIT, "{} did not commit its last rows", peer.name());
            tokio::time::sleep(POLL).await;
        }
        let peak_rss = running.peak_rss;
        running.kill()?;
        conn.disconnect().await?;
        let (first, first_rows) = first.context("no row was stored")?;
        let seconds = last.duration_since(first).as_secs_f64();
        Ok(Pass { rows_per_s: (rows - first_rows) as f64 / seconds, peak_rss })
    }
}

/// A peer's process.
struct Running {
    child: Child,
    name: String,
    peak_rss: u64,
}

impl Running {
    fn start(setup: &Setup, name: &str, command: &Command) -> Result<Self> {
        Ok(Self { child: setup.servers.guard().start(name, command)?, name: name.to_owned(), peak_rss: 0 })
    }

    /// An error when it ended; notes its memory.
    fn look(&mut self, setup: &Setup) -> Result<()> {
        if self.has_ended(setup)? {
            let log = std::fs::read_to_string(setup.servers.guard().folder().join(format!("{}.log", self.name)));
            bail!("{} ended:\n{}", self.name, shell::tail(&log.unwrap_or_default(), 30));
        }
        Ok(())
    }

    fn has_ended(&mut self, setup: &Setup) -> Result<bool> {
        interrupt::check(&setup.interrupted)?;
        self.peak_rss = self.peak_rss.max(daemon::peak_rss(self.child.id()));
        Ok(self.child.try_wait()?.is_some())
    }

    fn kill(&mut self) -> Result<()> {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }
}

async fn rows_inserted(conn: &mut Conn) -> Result<u64> {
    let row: Option<(String, u64)> = conn.query_first("SHOW GLOBAL STATUS LIKE 'Innodb_rows_inserted'").await?;
    Ok(row.context("the server counts no rows")?.1)
}

async fn count(conn: &mut Conn) -> Result<u64> {
    let rows: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM {TABLE}")).await?;
    rows.context("a count without a row")
}
