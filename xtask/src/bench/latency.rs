//! From the broker's append of a record to the moment at which another connection can read its row.
//!
//! The topic stamps each record with the time of its append (LogAppendTime); the fact table gets three more columns
//! that hold the record's partition, offset and that time. A connection of its own reads new rows in the order of
//! partition and offset, every few milliseconds, and takes the time when they arrive. Both clocks are this
//! machine's; the stamp is in whole milliseconds, rounded down, so that up to 1 ms is counted too much.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::config::{Config, FACT, PARTITIONS};
use super::daemon::{self, Daemon, Replay};
use super::{LatencyArguments, Schema, Setup, cores, database};

/// Between two reads. The looking itself must leave the processors to what is measured; a row is counted as visible
/// up to so much too late.
const PAUSE: Duration = Duration::from_millis(4);

/// Records of the first seconds are not counted: the broker is cold, and nearly every record brings a parent that the
/// tables do not have yet. They are told apart, as the share that took longer than [`SLOW`].
const WARM_UP: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_millis(100);

/// How long the group may take until bief holds all partitions.
const ASSIGNMENT_LIMIT: Duration = Duration::from_secs(60);
/// Between two commits of the baseline.
const BARE_EVERY: Duration = Duration::from_millis(20);

/// How long the last rows may take once all records are sent.
const LAST_ROWS_LIMIT: Duration = Duration::from_secs(60);

const EXTRA_COLUMNS: &str = "ALTER TABLE flight ADD COLUMN bench_partition INTEGER NULL;
ALTER TABLE flight ADD COLUMN bench_offset BIGINT NULL;
ALTER TABLE flight ADD COLUMN bench_appended DATETIME(6) NULL;
CREATE INDEX bench_order ON flight (bench_partition, bench_offset)";

pub async fn run(setup: &Setup, arguments: &LatencyArguments) -> Result<Value> {
    let mysql = setup.mysql()?;
    let http = daemon::free_address()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &http)?;
    database::recreate(mysql).await?;
    database::reuse_redo_log(mysql).await?;
    if arguments.common.schema == Schema::Plain {
        database::migrate(mysql, &config.migrations()).await?;
        let create = database::plain_table(mysql).await?;
        config.only_fact_table(&create)?;
        database::recreate(mysql).await?;
    }
    config.add_migration("9999_bench.sql", EXTRA_COLUMNS)?;
    for (column, source) in
        [("bench_partition", "@partition"), ("bench_offset", "@offset"), ("bench_appended", "@timestamp")]
    {
        config.add_column(column, source)?;
    }
    let path = config.write()?;
    daemon::create_stamped_topic(setup, PARTITIONS)?;

    let mut daemon = Daemon::start(setup, &path)?;
    daemon.wait_ready(setup, &http)?;
    let mut conn = database::connect(mysql, true).await?;
    wait_assigned(setup, &mut daemon, &mut conn).await?;
    let rows = arguments.rate * arguments.seconds;
    eprintln!("sending {rows} records, {} a second", arguments.rate);
    let bare = BareCommits::default();
    let bare_task = tokio::spawn(bare.clone().run(database::connect(mysql, true).await?));
    let mut replay = Replay::start(setup, &path, Some(rows), Some(arguments.rate))?;
    let seen = watch(setup, &mut daemon, &mut replay, &mut conn).await?;
    bare_task.abort();
    let peak_rss = daemon.peak_rss;
    conn.disconnect().await?;
    daemon.stop(setup)?;
    database::assert_complete(mysql, seen.len() as u64).await?;
    if let Some(path) = &arguments.samples {
        let line = |row: &Seen| format!("{},{},{},{}\n", row.partition, row.offset, row.appended, row.visible);
        let lines: String = seen.iter().map(line).collect();
        std::fs::write(path, format!("partition,offset,appended,visible\n{lines}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    summary(arguments, &seen, &bare.taken(), peak_rss)
}

/// The baseline: another client of the same server that commits one row now and then. Where it has to wait, the
/// server or its disk stalls, and whoever commits waits.
#[derive(Clone, Default)]
struct BareCommits(Arc<Mutex<Vec<Commit>>>);

/// When a commit began, microseconds since 1970, and how long it took, microseconds.
#[derive(Clone, Copy)]
struct Commit {
    began: i64,
    took: i64,
}

impl BareCommits {
    async fn run(self, mut conn: Conn) -> Result<()> {
        conn.query_drop("CREATE TABLE bench_bare (id BIGINT AUTO_INCREMENT PRIMARY KEY)").await?;
        loop {
            let began = now()?;
            conn.query_drop("INSERT INTO bench_bare VALUES ()").await?;
            let took = now()? - began;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Commit { began, took });
            tokio::time::sleep(BARE_EVERY).await;
        }
    }

    fn taken(&self) -> Vec<Commit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Microseconds since 1970.
fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// The group's first member is given its partitions only seconds after it joined.
async fn wait_assigned(setup: &Setup, daemon: &mut Daemon, conn: &mut Conn) -> Result<()> {
    let start = Instant::now();
    loop {
        daemon.look(setup)?;
        let held: Option<i64> = conn.query_first("SELECT COUNT(*) FROM bief_offset").await?;
        match held {
            Some(held) if held >= PARTITIONS => return Ok(()),
            _ if start.elapsed() > ASSIGNMENT_LIMIT => bail!("bief holds {held:?} of {PARTITIONS} partitions"),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One row: when its record was appended and when it was read, microseconds since 1970.
struct Seen {
    partition: i32,
    offset: i64,
    appended: i64,
    visible: i64,
}

async fn watch(setup: &Setup, daemon: &mut Daemon, replay: &mut Replay, conn: &mut Conn) -> Result<Vec<Seen>> {
    let mut last = vec![-1_i64; usize::try_from(PARTITIONS)?];
    let mut seen = Vec::new();
    let mut looked = Instant::now();
    let mut sent: Option<(Instant, u64)> = None;
    loop {
        let rows: Vec<(i32, i64, i64)> = conn.query(new_rows(&last)).await.context("cannot read new rows")?;
        let visible = now()?;
        for (partition, offset, appended) in rows {
            let last = usize::try_from(partition).ok().and_then(|partition| last.get_mut(partition));
            *last.context("a partition that the topic does not have")? = offset;
            seen.push(Seen { partition, offset, appended, visible });
        }
        if looked.elapsed() > Duration::from_millis(100) {
            looked = Instant::now();
            daemon.look(setup)?;
            if sent.is_none() && replay.is_done(setup)? {
                sent = Some((Instant::now(), daemon::records_in_topic(setup)?));
            }
        }
        match sent {
            Some((_, records)) if seen.len() as u64 >= records => return Ok(seen),
            Some((at, records)) if at.elapsed() > LAST_ROWS_LIMIT => {
                bail!(
                    "{} of {records} rows are visible {} s after the last record",
                    seen.len(),
                    LAST_ROWS_LIMIT.as_secs()
                );
            }
            _ => {}
        }
        // Nothing else runs on this thread, and the timer of the runtime is too coarse.
        std::thread::sleep(PAUSE);
    }
}

/// The rows of each partition above its last offset that was read.
fn new_rows(last: &[i64]) -> String {
    let of_partition = |(partition, last): (usize, &i64)| {
        format!(
            "(SELECT bench_partition, bench_offset, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', bench_appended) FROM {FACT} \
             WHERE bench_partition = {partition} AND bench_offset > {last} ORDER BY bench_offset)"
        )
    };
    last.iter().enumerate().map(of_partition).collect::<Vec<_>>().join(" UNION ALL ")
}

fn summary(arguments: &LatencyArguments, seen: &[Seen], bare: &[Commit], peak_rss: u64) -> Result<Value> {
    let first = seen.iter().map(|row| row.appended).min().context("no row became visible")?;
    let last = seen.iter().map(|row| row.appended).max().unwrap_or(first);
    let from = first + i64::try_from(WARM_UP.as_micros())?;
    let mut latencies: Vec<i64> =
        seen.iter().filter(|row| row.appended >= from).map(|row| row.visible - row.appended).collect();
    let early: Vec<i64> = seen.iter().filter(|row| row.appended < from).map(|row| row.visible - row.appended).collect();
    let slow = i64::try_from(SLOW.as_micros())?;
    let early_slow = early.iter().filter(|latency| **latency > slow).count() as f64 / early.len().max(1) as f64;
    latencies.sort_unstable();
    if latencies.is_empty() {
        bail!("all records were sent within the {} s of the warm-up", WARM_UP.as_secs());
    }
    let at = |share: f64| percentile(&latencies, share) as f64 / 1000.0;
    let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
    let mut bare: Vec<i64> = bare.iter().filter(|commit| commit.began >= from).map(|commit| commit.took).collect();
    bare.sort_unstable();
    if bare.is_empty() {
        bail!("the baseline committed nothing after the warm-up");
    }
    let of_bare = |share: f64| percentile(&bare, share) as f64 / 1000.0;
    let (bare_p50, bare_p99, bare_max) = (of_bare(0.5), of_bare(0.99), of_bare(1.0));
    let rate = (seen.len() as f64 / (last - first).max(1) as f64 * 1e6).round();
    println!(
        "{} schema, {rate} records/s appended: p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, max {max:.1} ms \
         from append to row visible; a bare commit beside it p50 {bare_p50:.1} ms, p99 {bare_p99:.1} ms, max \
         {bare_max:.1} ms; {} rows after {} s of warm-up, in which {:.0} % took longer than {} ms; {} cores",
        arguments.common.schema.name(),
        latencies.len(),
        WARM_UP.as_secs(),
        early_slow * 100.0,
        SLOW.as_millis(),
        cores(),
    );
    Ok(json!({
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "max_ms": max,
        "bare_commit_p50_ms": bare_p50,
        "bare_commit_p99_ms": bare_p99,
        "bare_commit_max_ms": bare_max,
        "rate": arguments.rate,
        "appended_per_s": rate,
        "seconds": arguments.seconds,
        "rows": latencies.len(),
        "warm_up_seconds": WARM_UP.as_secs(),
        "warm_up_share_above_100_ms": early_slow,
        "schema": arguments.common.schema.name(),
        "peak_rss_bytes": peak_rss,
        "cores": cores(),
    }))
}

/// The smallest value that this share of the sorted values does not exceed.
pub fn percentile(sorted: &[i64], share: f64) -> i64 {
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted[rank.min(sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<i64> = (1..=1000).collect();
        assert_eq!(percentile(&sorted, 0.5), 500);
        assert_eq!(percentile(&sorted, 0.99), 990);
        assert_eq!(percentile(&sorted, 0.999), 999);
        assert_eq!(percentile(&sorted, 1.0), 1000);
        assert_eq!(percentile(&[7], 0.5), 7);
    }
}
