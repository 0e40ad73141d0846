//! What keeping the aggregates fresh costs as the history grows: 1,000 new records meet histories of each length in
//! MySQL, generated at the pace of the shipped flights and with the marks that it would have left; and what a panel's
//! documents take from the cache beside the same SQL on MySQL.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::config::{Config, DATABASE, FACT, PARTITIONS, TOPIC};
use super::daemon::{self, Daemon, Replay};
use super::sink::median;
use super::{RefreshArguments, Setup, cores, dashboards, database};
use crate::servers::Kind;

/// New records of a round.
const NEW: u64 = 1000;
/// Seconds between two flights: about as many an hour as the shipped data has.
const APART: i64 = 90;
/// Rows of one INSERT.
const AT_ONCE: u64 = 100_000;
/// Rounds after each growth that are not counted.
const WARM_UP: u32 = 2;
/// The first documents of the shortest history, and the rows of the longest, may take so long.
const LIMIT: Duration = Duration::from_secs(1800);

/// Where the history ends and what is new begins.
fn present() -> Result<DateTime<Utc>> {
    DateTime::from_timestamp(1_767_225_600, 0).context("no such moment")
}

pub async fn run(setup: &Setup, arguments: &RefreshArguments) -> Result<Value> {
    ensure!(arguments.rows.is_sorted(), "--rows must grow: the history is never cut");
    let mysql = setup.mysql()?;
    let http = daemon::free_address()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &http)?;
    config.set_cache(&setup.servers.address(Kind::Ferretdb)?.replacen("/?", &format!("/{DATABASE}?"), 1))?;
    daemon::create_stamped_topic(setup, PARTITIONS)?;
    database::recreate(mysql).await?;
    database::reuse_redo_log(mysql).await?;
    database::migrate(mysql, &config.migrations()).await?;
    let mut conn = database::connect(mysql, true).await?;
    parents(&mut conn).await?;
    let first = *arguments.rows.first().context("--rows names no length")?;
    grow(&mut conn, 0, first).await?;
    // Made before, they are no migration any more.
    config.without_migrations()?;
    let mut daemon = Daemon::start(setup, &config.write()?)?;
    daemon.wait_ready(setup, &http)?;
    let mut bench = Bench { setup, http, conn, daemon, config, rounds: 0 };
    bench.wait_refreshed().await?;

    let (mut there, mut steps) = (first, Vec::new());
    for rows in &arguments.rows {
        grow(&mut bench.conn, there, *rows).await?;
        mark_clean(&mut bench.conn).await?;
        settle(&mut bench.conn).await?;
        there = *rows;
        let mut costs = Vec::new();
        for round in 0..WARM_UP + arguments.rounds {
            let cost = bench.round().await?;
            if round >= WARM_UP {
                costs.push(cost);
            }
        }
        let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
        let (seconds, read, buckets) = (of(|c| c.seconds), of(|c| c.rows_read), of(|c| c.buckets));
        println!(
            "{rows} rows of history: {:.0} ms to refresh {buckets} documents' buckets after {NEW} new records, {read} \
             rows read by the server (median of {})",
            seconds * 1000.0,
            arguments.rounds
        );
        steps.push(json!({
            "rows": rows,
            "refresh_ms": (seconds * 1e4).round() / 10.0,
            "rows_read": read,
            "buckets": buckets,
            "all_ms": costs.iter().map(|c| (c.seconds * 1e4).round() / 10.0).collect::<Vec<_>>(),
        }));
    }
    let spread = |name: &str| {
        let values: Vec<f64> = steps.iter().filter_map(|step| step[name].as_f64()).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        most / values.iter().copied().fold(f64::MAX, f64::min)
    };
    let (time, read) = (spread("refresh_ms"), spread("rows_read"));
    println!("the dearest is {time:.2} times the cheapest by time, {read:.2} times by rows read; {} cores", cores());
    let until = present()? + TimeDelta::seconds(APART * i64::try_from(bench.rounds * NEW)?);
    let panels = dashboards::compare(&bench.http, &mut bench.conn, until).await?;
    bench.conn.disconnect().await?;
    bench.daemon.stop(setup)?;
    Ok(json!({ "steps": steps, "ratio": time, "ratio_of_rows_read": read, "panels": panels, "cores": cores() }))
}

struct Bench<'a> {
    setup: &'a Setup,
    http: String,
    conn: Conn,
    daemon: Daemon,
    config: Config,
    rounds: u64,
}

/// What the refresh after one round's records came to.
struct Cost {
    /// From reading the versions of the buckets to setting them clean, all sources.
    seconds: f64,
    rows_read: f64,
    /// A bucket of each aggregate.
    buckets: f64,
}

impl Bench<'_> {
    async fn round(&mut self) -> Result<Cost> {
        let file = self.setup.folder().join("new.csv");
        std::fs::write(&file, new_records(self.rounds)?).context("cannot write the records")?;
        self.rounds += 1;
        let (before, committed) = (self.counters().await?, database::committed(&mut self.conn).await?);
        self.config.set_replay(TOPIC, &file)?;
        Replay::start(self.setup, &self.config.write()?, None, None)?.wait(self.setup)?;
        let began = Instant::now();
        while database::committed(&mut self.conn).await? < committed + NEW {
            ensure!(began.elapsed() < LIMIT, "the new records are not written");
            self.pause().await?;
        }
        self.wait_refreshed().await?;
        let after = self.counters().await?;
        Ok(Cost {
            seconds: after.seconds - before.seconds,
            rows_read: after.rows_read - before.rows_read,
            buckets: after.buckets - before.buckets,
        })
    }

    async fn pause(&mut self) -> Result<()> {
        self.daemon.look(self.setup)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    /// Until no bucket waits, and every aggregate has been told of that.
    async fn wait_refreshed(&mut self) -> Result<()> {
        let began = Instant::now();
        // By the index, so that the looking costs the same whatever the history.
        let of = format!("source IN ('{FACT}.scheduled_departure/1h', '{FACT}.scheduled_departure/1d')");
        let pending = format!("SELECT COUNT(*) FROM bief_dirty_bucket WHERE {of} AND pending_since IS NOT NULL");
        while self.conn.query_first::<u64, _>(&pending).await? != Some(0) {
            ensure!(began.elapsed() < LIMIT, "buckets still wait");
            self.pause().await?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        loop {
            let fresh = series(&self.http, "bief_aggregate_fresh_timestamp_seconds")?;
            if !fresh.is_empty() && fresh.iter().all(|moment| *moment > now) {
                // A cache that is empty has its buckets marked first.
                return match self.conn.query_first::<u64, _>(&pending).await? {
                    Some(0) => Ok(()),
                    _ => Box::pin(self.wait_refreshed()).await,
                };
            }
            ensure!(began.elapsed() < LIMIT, "the aggregates are not told to be fresh");
            self.pause().await?;
        }
    }

    async fn counters(&mut self) -> Result<Cost> {
        let sum = |name: &str| -> Result<f64> { Ok(series(&self.http, name)?.iter().sum()) };
        let read: Option<(String, f64)> = self.conn.query_first("SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'").await?;
        Ok(Cost {
            seconds: sum("bief_aggregate_refresh_duration_seconds_sum")?,
            rows_read: read.context("the server does not count the rows that it reads")?.1,
            buckets: sum("bief_aggregate_buckets_refreshed_total")?,
        })
    }
}

/// All values of a metric.
fn series(http: &str, name: &str) -> Result<Vec<f64>> {
    let text = daemon::get(http, "/metrics")?;
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix('{')?.rsplit(' ').next()?.trim().parse().ok();
    Ok(text.lines().filter_map(of).collect())
}

/// The files' header, and the round's records behind those of the rounds before.
fn new_records(round: u64) -> Result<String> {
    let mut csv = "scheduled_departure,carrier,flight,origin,dest,tailnum,actual_departure,dep_delay,sched_arr_time,\
                   arr_time,arr_delay,air_time,distance\n"
        .to_owned();
    for n in round * NEW..(round + 1) * NEW {
        let departs = present()? + TimeDelta::seconds(APART * i64::try_from(n)?);
        let delay = n * 7919 % 100;
        let left = departs + TimeDelta::minutes(i64::try_from(delay)?);
        let at = |list: &[&'static str]| list[n as usize % list.len()];
        let stamp = |moment: DateTime<Utc>| moment.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (departs, left) = (stamp(departs), stamp(left));
        let (carrier, origin, destination) = (at(&CARRIERS), at(&ORIGINS), at(&DESTINATIONS));
        writeln!(
            csv,
            "{departs},{carrier},{},{origin},{destination},,{left},{delay},819,830,{delay},227,1400",
            n % 2000
        )?;
    }
    Ok(csv)
}

const CARRIERS: [&str; 4] = ["AA", "B6", "DL", "UA"];
const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];
const DESTINATIONS: [&str; 7] = ["ATL", "BOS", "FLL", "IAH", "LAX", "MIA", "ORD"];

fn pick(list: &[&str]) -> String {
    let quoted: Vec<String> = list.iter().map(|code| format!("'{code}'")).collect();
    format!("ELT(1 + n % {}, {})", list.len(), quoted.join(", "))
}

async fn parents(conn: &mut Conn) -> Result<()> {
    let rows = |list: &[&str]| list.iter().map(|code| format!("('{code}')")).collect::<Vec<_>>().join(", ");
    conn.query_drop(format!("INSERT INTO carrier (code) VALUES {}", rows(&CARRIERS))).await?;
    conn.query_drop(format!("INSERT INTO airport (code) VALUES {}, {}", rows(&ORIGINS), rows(&DESTINATIONS))).await?;
    conn.query_drop("CREATE TABLE bench_digit (d INT NOT NULL PRIMARY KEY)").await?;
    conn.query_drop("INSERT INTO bench_digit VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)").await?;
    Ok(())
}

/// Makes the history longer, to the past.
async fn grow(conn: &mut Conn, from: u64, to: u64) -> Result<()> {
    let (start, present) = (Instant::now(), present()?.format("%Y-%m-%d %H:%M:%S"));
    let departs = format!("TIMESTAMPADD(SECOND, -{APART} * (n + 1), '{present}')");
    let (carrier, origin, destination) = (pick(&CARRIERS), pick(&ORIGINS), pick(&DESTINATIONS));
    let mut at = from;
    while at < to {
        let most = (to - at).min(AT_ONCE);
        conn.query_drop(format!(
            "INSERT INTO {FACT} SELECT {departs}, {carrier}, n % 2000, {origin}, {destination}, NULL, \
             IF(n % 40 = 0, NULL, TIMESTAMPADD(MINUTE, n * 7919 % 100, {departs})), \
             IF(n % 40 = 0, NULL, n * 7919 % 100), 819, IF(n % 40 < 2, NULL, 830), \
             IF(n % 40 < 2, NULL, n * 7919 % 100), IF(n % 40 < 2, NULL, 227), 1400, '{present}' \
             FROM (SELECT {at} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS n FROM bench_digit f, \
             bench_digit e, bench_digit c, bench_digit b, bench_digit a) s WHERE n < {at} + {most}"
        ))
        .await
        .context("cannot make the history")?;
        at += most;
    }
    conn.query_drop(format!("ANALYZE TABLE {FACT}")).await?;
    if to > from {
        eprintln!("{} rows made in {:.0} s", to - from, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The marks that the history would have left: a row for each of its buckets, clean.
async fn mark_clean(conn: &mut Conn) -> Result<()> {
    for (width, format) in [("1h", "%Y-%m-%d %H:00:00"), ("1d", "%Y-%m-%d")] {
        conn.query_drop(format!(
            "INSERT IGNORE INTO bief_dirty_bucket (source, bucket_start, lane, dirty_version, clean_version, pending_since) \
             SELECT DISTINCT '{FACT}.scheduled_departure/{width}', DATE_FORMAT(scheduled_departure, '{format}'), 0, 1, 1, \
             NULL FROM {FACT}"
        ))
        .await
        .context("cannot make the marks of the history")?;
    }
    conn.query_drop("ANALYZE TABLE bief_dirty_bucket").await?;
    Ok(())
}

/// Until the server has written out what the growth left in its memory.
async fn settle(conn: &mut Conn) -> Result<()> {
    let start = Instant::now();
    conn.query_drop("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, GLOBAL innodb_max_dirty_pages_pct = 0").await?;
    loop {
        let dirty: Option<(String, u64)> =
            conn.query_first("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'").await?;
        match dirty {
            Some((_, pages)) if pages < 100 => break,
            _ if start.elapsed() > LIMIT => bail!("the server does not write its pages out"),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    conn.query_drop("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT, GLOBAL innodb_max_dirty_pages_pct_lwm = DEFAULT")
        .await?;
    Ok(())
}
