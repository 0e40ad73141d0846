//! What training costs the stream: `bief run` over the same records at full speed, in turns with nothing that trains and
//! with models that are all trained at the full minute, which comes while the records do. The documents that they are
//! trained on are in the cache before; both compute them again as the rows come.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

use super::config::Config;
use super::daemon::{self, Daemon, Replay};
use super::sink;
use super::{Setup, TrainingArguments, cores, database};

/// A daemon takes about as long to its first rows.
const BEFORE_THE_MINUTE: u64 = 3;
/// The documents may take so long.
const LIMIT: Duration = Duration::from_secs(900);

pub async fn run(setup: &Setup, arguments: &TrainingArguments) -> Result<Value> {
    ensure!(arguments.rounds.is_multiple_of(2), "--rounds must be even: each of both is first as often as the other");
    let mysql = setup.mysql()?;
    let http = daemon::free_address()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &http)?;
    config.with_page()?;
    let without = named(&config, "without")?;
    config.set_forecasts(arguments.models)?;
    let with = named(&config, "with")?;
    Replay::start(setup, &without, None, None)?.wait(setup)?;
    let records = daemon::records_in_topic(setup)?;
    eprintln!("{records} records in the topic");
    database::recreate(mysql).await?;
    compute(setup, &without, &http, records).await?;

    let (mut rates, mut trained) = ([Vec::new(), Vec::new()], Vec::new());
    for number in 1..=arguments.rounds {
        // In turns: whichever is first was quicker by a seventh.
        let ((alone, none), (beside, versions)) = if number % 2 == 1 {
            let alone = pass(setup, &without, records).await?;
            (alone, pass(setup, &with, records).await?)
        } else {
            let beside = pass(setup, &with, records).await?;
            (pass(setup, &without, records).await?, beside)
        };
        ensure!(none == 0, "something was trained where nothing should be");
        ensure!(versions > 0, "no training ended while the records came: it is not known whether any was under way");
        println!(
            "round {number}: {alone:.0} rows/s alone, {beside:.0} while {} models are trained, of which {versions} were \
             done within it",
            arguments.models
        );
        rates[0].push(alone);
        rates[1].push(beside);
        trained.push(versions);
    }
    let cost = 1.0 - mean(&rates[1]) / mean(&rates[0]);
    println!(
        "training costs {:.1} % of the rows a second (geometric means of {}); {} cores",
        cost * 100.0,
        arguments.rounds,
        cores()
    );
    Ok(json!({
        "records": records,
        "rows_per_s": rates[0],
        "rows_per_s_beside_training": rates[1],
        "models": arguments.models,
        "versions_done": trained,
        "cost": (cost * 1000.0).round() / 1000.0,
        "cores": cores(),
    }))
}

/// The geometric one: of rates that went up and down by a share.
fn mean(rates: &[f64]) -> f64 {
    (rates.iter().map(|rate| rate.ln()).sum::<f64>() / rates.len() as f64).exp()
}

fn named(config: &Config, name: &str) -> Result<PathBuf> {
    let path = config.write()?;
    let named = path.with_file_name(format!("{name}.toml"));
    std::fs::rename(path, &named).context("cannot write the configuration")?;
    Ok(named)
}

/// Until all documents are in the cache.
async fn compute(setup: &Setup, config: &Path, http: &str, records: u64) -> Result<()> {
    let mut conn = database::connect(setup.mysql()?, true).await?;
    let mut daemon = Daemon::start(setup, config)?;
    daemon.wait_ready(setup, http)?;
    loop {
        daemon.look(setup)?;
        let waiting = "SELECT COUNT(*) FROM bief_dirty_bucket WHERE pending_since IS NOT NULL";
        if database::committed(&mut conn).await? >= records && conn.query_first::<u64, _>(waiting).await? == Some(0) {
            break;
        }
        ensure!(daemon.started.elapsed() < LIMIT, "the documents are not computed in {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    conn.disconnect().await?;
    daemon.stop(setup)
}

/// Rows a second, and versions that were trained meanwhile.
async fn pass(setup: &Setup, config: &Path, records: u64) -> Result<(f64, u64)> {
    let mysql = setup.mysql()?;
    database::recreate(mysql).await?;
    let second = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 60;
    tokio::time::sleep(Duration::from_secs((120 - BEFORE_THE_MINUTE - second) % 60)).await;
    let pass = sink::pass(setup, config, records).await?;
    database::assert_complete(mysql, records).await?;
    let mut conn = database::connect(mysql, true).await?;
    let versions = conn.query_first::<u64, _>("SELECT COUNT(*) FROM bief_model").await?;
    conn.disconnect().await?;
    Ok((pass.rows_per_s, versions.context("no count")?))
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn half_and_double_even_out() {
        assert!((mean(&[50.0, 200.0]) - 100.0).abs() < 1e-9);
    }
}
