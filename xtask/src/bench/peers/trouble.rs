//! What one bad record, and one SIGKILL in the middle, do to bief and to each peer.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::{Bench, PEERS, Running, TABLE, count};
use crate::bench::config::{Config, FACT, TOPIC};
use crate::bench::daemon::{self, Daemon, get};
use crate::bench::database::{self, list, quoted};
use crate::shell;

const POISON_TOPIC: &str = "poison";
const POISON_SCRIPT: &str = include_str!("poison_topic.py");
/// Records of the topic with one bad record, and which one it is.
const POISON_RECORDS: u64 = 20_000;
const POISON_AT: u64 = 10_500;
/// Rows in the table when a program is killed.
const KILLED_AT: u64 = 120_000;
/// Nothing changed for so long: that is all that comes. Longer than a dead member keeps its partitions.
const QUIET: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);

pub async fn tell(bench: &mut Bench<'_>, config: &mut Config, records: u64, summary: &mut Value) -> Result<()> {
    let field = bench.fields.iter().find(|(name, text)| !text && !bench.key.contains(name));
    let field = field.context("no field to poison")?.0.clone();
    daemon::create_topic(bench.setup, POISON_TOPIC, 1, &[])?;
    let script = bench.setup.folder().join("poison_topic.py");
    std::fs::write(&script, POISON_SCRIPT)?;
    let poisoned = POISON_AT.to_string();
    let mut copy = Command::new(&bench.installed.python);
    copy.arg(script).args([bench.setup.kafka()?, TOPIC, POISON_TOPIC, &POISON_RECORDS.to_string(), &poisoned, &field]);
    shell::run(&mut copy).context("cannot make the topic with a bad record")?;

    for (name, peer) in ["python", "debezium"].into_iter().zip(PEERS) {
        bench.recreate(false).await?;
        let group = bench.group();
        let rest = daemon::free_address()?;
        let command = bench.command(peer, POISON_TOPIC, &group, &rest)?;
        let mut running = Running::start(bench.setup, &group, &command)?;
        let mut conn = database::connect(bench.setup.mysql()?, true).await?;
        let rows = settle(bench, Some(&mut running), &mut conn, POISON_RECORDS).await?;
        let ended = running.has_ended(bench.setup)?;
        let status = get(&rest, &format!("/connectors/{group}/status")).unwrap_or_default();
        let state = match (ended, status.contains("FAILED")) {
            (true, _) => "process ended",
            (false, true) => "task FAILED",
            (false, false) => "running",
        };
        let zero: Option<u64> =
            conn.query_first(format!("SELECT COUNT(*) FROM {TABLE} WHERE {} = 0", quoted(&field))).await?;
        running.kill()?;
        let stored = if rows >= POISON_RECORDS { "the bad record is stored as a row too" } else { "stuck" };
        println!("one bad record in {POISON_RECORDS}: {}: {rows} rows, {stored}, {state}", peer.name());
        summary[name]["poison"] = json!({"rows": rows, "state": state, "rows_with_zero": zero});

        bench.recreate(true).await?;
        let group = bench.group();
        let command = bench.command(peer, TOPIC, &group, &rest)?;
        let mut running = Running::start(bench.setup, &group, &command)?;
        let start = Instant::now();
        while count(&mut conn).await? < KILLED_AT.min(records / 2) {
            running.look(bench.setup)?;
            ensure!(start.elapsed() < LIMIT, "{} stores too slowly to be killed", peer.name());
            tokio::time::sleep(LOOK).await;
        }
        running.kill()?;
        let mut running = Running::start(bench.setup, &group, &command)?;
        let rows = settle(bench, Some(&mut running), &mut conn, u64::MAX).await?;
        running.kill()?;
        let distinct = format!("SELECT COUNT(DISTINCT {}) FROM {TABLE}", list(&bench.key));
        let distinct: u64 = conn.query_first(distinct).await?.context("a count without a row")?;
        println!(
            "one SIGKILL at {KILLED_AT} rows: {}: {} rows twice, {} lost",
            peer.name(),
            rows - distinct,
            records - distinct
        );
        summary[name]["sigkill"] = json!({"doubled": rows - distinct, "lost": records - distinct});
        conn.disconnect().await?;
    }
    of_bief(bench, config, records, summary).await
}

async fn of_bief(bench: &mut Bench<'_>, config: &mut Config, records: u64, summary: &mut Value) -> Result<()> {
    let (setup, mysql) = (bench.setup, bench.setup.mysql()?);
    database::recreate(mysql).await?;
    let path = config.write()?;
    let mut conn = database::connect(mysql, true).await?;
    let mut running = Daemon::start(setup, &path)?;
    while database::committed(&mut conn).await? < KILLED_AT.min(records / 2) {
        running.look(setup)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.kill()?;
    let mut running = Daemon::start(setup, &path)?;
    let start = Instant::now();
    while database::committed(&mut conn).await? < records {
        running.look(setup)?;
        ensure!(start.elapsed() < LIMIT, "bief does not go on after SIGKILL");
        tokio::time::sleep(LOOK).await;
    }
    running.stop(setup)?;
    database::assert_complete(mysql, records).await?;
    // Its table has a key: a record that was written again has found its row, and is counted for it.
    let again = "SELECT CAST(SUM(duplicates) AS UNSIGNED) FROM bief_offset";
    let again: u64 = conn.query_first(again).await?.context("no counts")?;
    println!("one SIGKILL at {KILLED_AT} rows: bief: {again} rows twice, 0 lost");

    config.set_topic(POISON_TOPIC)?;
    let path = config.write()?;
    database::recreate(mysql).await?;
    let mut running = Daemon::start(setup, &path)?;
    let rows_of_fact = format!("SELECT COUNT(*) FROM {FACT}");
    let start = Instant::now();
    loop {
        running.look(setup)?;
        let done =
            conn.query_first::<u64, _>(&rows_of_fact).await.ok().flatten().is_some_and(|r| r + 1 >= POISON_RECORDS);
        if done {
            break;
        }
        ensure!(start.elapsed() < LIMIT, "bief does not pass the bad record");
        tokio::time::sleep(LOOK).await;
    }
    running.stop(setup)?;
    let rows: u64 = conn.query_first(&rows_of_fact).await?.context("a count without a row")?;
    let letters: u64 = conn.query_first("SELECT COUNT(*) FROM bief_dead_letter").await?.context("no count")?;
    println!("one bad record in {POISON_RECORDS}: bief: {rows} rows, {letters} dead letter, running");
    summary["bief_poison"] = json!({"rows": rows, "dead_letters": letters});
    summary["bief_sigkill"] = json!({"doubled": again, "lost": 0});
    conn.disconnect().await?;
    Ok(())
}

/// Waits until `rows` are there, nothing changed for a while, or the program ended; tells how many there are.
async fn settle(bench: &Bench<'_>, mut running: Option<&mut Running>, conn: &mut Conn, rows: u64) -> Result<u64> {
    let start = Instant::now();
    let (mut changed, mut seen) = (Instant::now(), count(conn).await?);
    loop {
        let now = count(conn).await?;
        if now != seen {
            (changed, seen) = (Instant::now(), now);
        }
        let ended = match &mut running {
            Some(running) => running.has_ended(bench.setup)?,
            None => false,
        };
        if seen >= rows || ended || changed.elapsed() > QUIET || start.elapsed() > LIMIT {
            return count(conn).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}
