//! Rows a second of `bief run` beside a bare LOAD DATA, in turns on one server.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::bare::{self, CHUNK_ROWS};
use super::config::{Config, FACT};
use super::daemon::{self, Daemon, Replay};
use super::database::{self, Rows};
use super::null::{self, NullConsumer};
use super::{Schema, Setup, SinkArguments, cores};

/// How often the committed offsets are read.
const POLL: Duration = Duration::from_millis(20);

/// Clients of a bare run, and whether a consumer reads beside.
const TURNS: [(usize, bool); 4] = [(1, false), (2, false), (1, true), (2, true)];

/// A pass that takes longer has failed.
const PASS_LIMIT: Duration = Duration::from_secs(1800);

/// One turn of all.
struct Pair {
    bare: Bare,
    /// The same while a null consumer reads the topic on the same cores.
    beside: Bare,
    /// Rows a second of two clients that write among each other's keys, as bief's lanes do.
    dealt: f64,
    bief: Pass,
}

/// Rows a second with nothing but clients, by their number.
#[derive(Clone, Copy, Default)]
struct Bare {
    with_1: f64,
    with_2: f64,
    /// Processor seconds of the server for the run with two clients.
    mysql_cpu: f64,
}

/// What was seen of one `bief run`.
#[derive(Clone, Copy)]
pub struct Pass {
    /// From the first commit that was seen to the last.
    pub rows_per_s: f64,
    /// Of the second half of the records alone: what has piled up before the first commit is done by then.
    pub later_rows_per_s: f64,
    /// From the start of the process to the last commit.
    wall_seconds: f64,
    pub peak_rss: u64,
    /// Processor seconds between those two commits.
    pub cpu: Cpu,
}

/// Processor seconds.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    pub bief: f64,
    mysql: f64,
    kafka: f64,
}

impl Cpu {
    fn now(setup: &Setup, daemon: &Daemon) -> Self {
        Self { bief: daemon.cpu_seconds(), mysql: server_cpu(setup, "mysql"), kafka: server_cpu(setup, "kafka") }
    }

    fn since(self, earlier: Self) -> Self {
        Self { bief: self.bief - earlier.bief, mysql: self.mysql - earlier.mysql, kafka: self.kafka - earlier.kafka }
    }
}

impl Bare {
    fn best(&self) -> f64 {
        self.with_1.max(self.with_2)
    }

    fn set(&mut self, clients: usize, rate: f64, mysql_cpu: f64) {
        match clients {
            1 => self.with_1 = rate,
            _ => (self.with_2, self.mysql_cpu) = (rate, mysql_cpu),
        }
    }
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.bief.rows_per_s / self.bare.best()
    }

    fn ratio_beside(&self) -> f64 {
        self.bief.rows_per_s / self.beside.best()
    }

    fn ratio_dealt(&self) -> f64 {
        self.bief.rows_per_s / self.dealt
    }
}

pub async fn run(setup: &Setup, arguments: &SinkArguments) -> Result<Value> {
    let mysql = setup.mysql()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &daemon::free_address()?)?;
    if arguments.common.schema == Schema::Plain {
        database::recreate(mysql).await?;
        database::migrate(mysql, &config.migrations()).await?;
        let create = database::plain_table(mysql).await?;
        config.only_fact_table(&create)?;
    }
    let tables = config.table_names()?;
    let path = config.write()?;

    let start = Instant::now();
    Replay::start(setup, &path, arguments.rows, None)?.wait(setup)?;
    let records = daemon::records_in_topic(setup)?;
    eprintln!("{records} records in the topic after {:.1} s", start.elapsed().as_secs_f64());

    // Warms everything up, and gives the rows that the bare clients load.
    database::recreate(mysql).await?;
    pass(setup, &path, records).await?;
    database::assert_complete(mysql, records).await?;
    let mut parents = Vec::new();
    for table in tables.iter().filter(|table| *table != FACT) {
        parents.push(database::read(mysql, table, CHUNK_ROWS).await?);
    }
    let facts = database::read(mysql, FACT, CHUNK_ROWS).await?;

    let reader = null::program()?;
    let mut pairs = Vec::new();
    if arguments.updates {
        config.set_on_conflict("update")?;
        let path = config.write()?;
        for number in 1..=arguments.pairs {
            let pair = update_pair(setup, &path, &facts, &reader, records).await?;
            report(number, &pair);
            pairs.push(pair);
        }
    } else {
        for number in 1..=arguments.pairs {
            let pair = insert_pair(setup, &path, &config, (&parents, &facts), &reader, records).await?;
            report(number, &pair);
            pairs.push(pair);
        }
    }
    Ok(summary(arguments, &config, records, &pairs))
}

async fn insert_pair(
    setup: &Setup,
    path: &Path,
    config: &Config,
    (parents, facts): (&[Rows], &Rows),
    reader: &Path,
    records: u64,
) -> Result<Pair> {
    let mysql = setup.mysql()?;
    let empty = async || {
        database::recreate(mysql).await?;
        database::migrate(mysql, &config.migrations()).await
    };
    let load = async |clients, consumer| bare::insert(mysql, parents, facts, clients, consumer).await;
    let (bare, beside) = bare_turns(setup, reader, empty, load).await?;
    empty().await?;
    let dealt = bare::insert(mysql, parents, &facts.dealt(CHUNK_ROWS)?, 2, None).await?;
    database::recreate(mysql).await?;
    let bief = pass(setup, path, records).await?;
    database::assert_complete(mysql, records).await?;
    Ok(Pair { bare, beside, dealt, bief })
}

/// The table is full; before each run every row is made to differ from its record, and after it none does.
async fn update_pair(setup: &Setup, path: &Path, facts: &Rows, reader: &Path, records: u64) -> Result<Pair> {
    let mysql = setup.mysql()?;
    let mut conn = database::connect(mysql, true).await?;
    let column = database::free_number(&mut conn).await?;
    conn.disconnect().await?;
    let before = database::fingerprint(mysql, &column).await?;
    let disturb = async || database::disturb(mysql, &column).await;
    let load = async |clients, consumer| bare::update(mysql, facts, clients, consumer).await;
    let (bare, beside) = bare_turns(setup, reader, disturb, load).await?;
    disturb().await?;
    let dealt = bare::update(mysql, &facts.dealt(CHUNK_ROWS)?, 2, None).await?;
    database::disturb(mysql, &column).await?;
    database::forget_offsets(mysql).await?;
    let bief = pass(setup, path, records).await?;
    database::assert_complete(mysql, records).await?;
    let after = database::fingerprint(mysql, &column).await?;
    anyhow::ensure!(before == after, "not every row was updated: {column} was {before}, is {after}");
    Ok(Pair { bare, beside, dealt, bief })
}

/// Each of [`TURNS`] after `prepare`: alone, and with a consumer beside.
async fn bare_turns(
    setup: &Setup,
    reader: &Path,
    prepare: impl AsyncFn() -> Result<()>,
    load: impl AsyncFn(usize, Option<NullConsumer>) -> Result<f64>,
) -> Result<(Bare, Bare)> {
    let (mut bare, mut beside) = (Bare::default(), Bare::default());
    for (clients, shared) in TURNS {
        prepare().await?;
        let before = server_cpu(setup, "mysql");
        let consumer = shared.then(|| NullConsumer::start(setup, reader)).transpose()?;
        let rate = load(clients, consumer).await?;
        let of = if shared { &mut beside } else { &mut bare };
        of.set(clients, rate, server_cpu(setup, "mysql") - before);
    }
    Ok((bare, beside))
}

/// Runs the daemon until every record is committed.
pub async fn pass(setup: &Setup, config: &Path, records: u64) -> Result<Pass> {
    let mut conn = database::connect(setup.mysql()?, true).await?;
    let mut daemon = Daemon::start(setup, config)?;
    let mut first: Option<(Instant, u64, Cpu)> = None;
    let mut half: Option<(Instant, u64)> = None;
    let (last, seen) = loop {
        daemon.look(setup)?;
        let committed = database::committed(&mut conn).await?;
        let now = Instant::now();
        if committed > 0 && first.is_none() {
            first = Some((now, committed, Cpu::now(setup, &daemon)));
        }
        if committed >= records / 2 && half.is_none() {
            half = Some((now, committed));
        }
        if committed >= records {
            break (now, committed);
        }
        if daemon.started.elapsed() > PASS_LIMIT {
            bail!("{committed} of {records} records are committed after {} s", PASS_LIMIT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    };
    daemon.look(setup)?;
    let cpu = Cpu::now(setup, &daemon);
    let (first, first_seen, before) = first.context("nothing was committed")?;
    let (wall_seconds, peak_rss) = (last.duration_since(daemon.started).as_secs_f64(), daemon.peak_rss);
    daemon.stop(setup)?;
    conn.disconnect().await?;
    if last == first {
        bail!("all {records} records were committed between two looks: replay more");
    }
    let rate = |from: Instant, already: u64| (seen - already) as f64 / last.duration_since(from).as_secs_f64();
    let (half, half_seen) = half.context("nothing was committed")?;
    let (rows_per_s, later_rows_per_s) = (rate(first, first_seen), rate(half, half_seen));
    Ok(Pass { rows_per_s, later_rows_per_s, wall_seconds, peak_rss, cpu: cpu.since(before) })
}

fn server_cpu(setup: &Setup, name: &str) -> f64 {
    daemon::server_process(setup, name).map_or(0.0, daemon::cpu_seconds)
}

fn report(number: u32, pair: &Pair) {
    println!(
        "pair {number}: bare 1 client {:.0} rows/s, 2 clients {:.0} rows/s, with a null consumer beside {:.0} and {:.0}, \
         2 clients among each other's keys {:.0}; bief {:.0} rows/s ({:.1} s from its start, {:.0} MiB at its peak); \
         ratio {:.3}, {:.3} with the consumer beside, {:.3} to clients among each other's keys; \
         processor seconds: bare MySQL {:.1}; bief {:.1}, MySQL {:.1}, Kafka {:.1}",
        pair.bare.with_1,
        pair.bare.with_2,
        pair.beside.with_1,
        pair.beside.with_2,
        pair.dealt,
        pair.bief.rows_per_s,
        pair.bief.wall_seconds,
        mebibytes(pair.bief.peak_rss),
        pair.ratio(),
        pair.ratio_beside(),
        pair.ratio_dealt(),
        pair.bare.mysql_cpu,
        pair.bief.cpu.bief,
        pair.bief.cpu.mysql,
        pair.bief.cpu.kafka,
    );
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn summary(arguments: &SinkArguments, config: &Config, records: u64, pairs: &[Pair]) -> Value {
    let of = |value: fn(&Pair) -> f64| median(pairs.iter().map(value).collect());
    let (ratio, ratio_beside) = (of(Pair::ratio), of(Pair::ratio_beside));
    let peak_rss = pairs.iter().map(|pair| pair.bief.peak_rss).max().unwrap_or(0);
    println!(
        "{} schema, {}: ratio {ratio:.3}, {ratio_beside:.3} with a null consumer beside, {:.3} to clients that write \
         among each other's keys (median of {}): \
         bief {:.0} rows/s, the best bare LOAD DATA {:.0} rows/s, with the consumer {:.0} rows/s; \
         {:.0} MiB resident at the peak (memory = {}); {records} rows, {} cores",
        arguments.common.schema.name(),
        if arguments.updates { "every record an update" } else { "every record a new row" },
        of(Pair::ratio_dealt),
        pairs.len(),
        of(|pair| pair.bief.rows_per_s),
        of(|pair| pair.bare.best()),
        of(|pair| pair.beside.best()),
        mebibytes(peak_rss),
        config.memory(),
        cores(),
    );
    let pair = |pair: &Pair| {
        json!({
            "ratio": rounded(pair.ratio(), 1000.0),
            "ratio_beside": rounded(pair.ratio_beside(), 1000.0),
            "ratio_dealt": rounded(pair.ratio_dealt(), 1000.0),
            "dealt_rows_per_s": pair.dealt.round(),
            "bare_1_rows_per_s": pair.bare.with_1.round(),
            "bare_2_rows_per_s": pair.bare.with_2.round(),
            "beside_1_rows_per_s": pair.beside.with_1.round(),
            "beside_2_rows_per_s": pair.beside.with_2.round(),
            "bief_rows_per_s": pair.bief.rows_per_s.round(),
            "bare_mysql_cpu_seconds": rounded(pair.bare.mysql_cpu, 100.0),
            "bief_cpu_seconds": rounded(pair.bief.cpu.bief, 100.0),
            "mysql_cpu_seconds": rounded(pair.bief.cpu.mysql, 100.0),
            "kafka_cpu_seconds": rounded(pair.bief.cpu.kafka, 100.0),
            "bief_wall_seconds": rounded(pair.bief.wall_seconds, 100.0),
        })
    };
    json!({
        "ratio": rounded(ratio, 1000.0),
        "ratio_beside": rounded(ratio_beside, 1000.0),
        "ratio_dealt": rounded(of(Pair::ratio_dealt), 1000.0),
        "bief_rows_per_s": of(|pair| pair.bief.rows_per_s).round(),
        "bare_rows_per_s": of(|pair| pair.bare.best()).round(),
        "beside_rows_per_s": of(|pair| pair.beside.best()).round(),
        "peak_rss_bytes": peak_rss,
        "schema": arguments.common.schema.name(),
        "updates": arguments.updates,
        "rows": records,
        "pairs": pairs.iter().map(pair).collect::<Vec<_>>(),
        "cores": cores(),
    })
}

fn rounded(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}

/// The middle value; of an even number, the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_pairs_ratio_is_against_the_better_of_the_bare_runs() {
        let bief =
            Pass { rows_per_s: 60.0, later_rows_per_s: 60.0, wall_seconds: 1.0, peak_rss: 1, cpu: Cpu::default() };
        let bare = Bare { with_1: 100.0, with_2: 120.0, mysql_cpu: 1.0 };
        let beside = Bare { with_1: 80.0, with_2: 60.0, mysql_cpu: 1.0 };
        let pair = Pair { bare, beside, dealt: 240.0, bief };
        assert_eq!((pair.ratio(), pair.ratio_beside(), pair.ratio_dealt()), (0.5, 0.75, 0.25));
    }
}
