//! What bad records cost: `bief run` on the same records with none, few and many that cannot be stored, in turns.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::config::{Config, TOPIC};
use super::daemon::{self, Replay};
use super::database;
use super::sink::{self, median};
use super::{PoisonArguments, Schema, Setup, cores};
use crate::shell;

/// One bad record in so many.
const SHARES: [usize; 2] = [10_000, 100];
/// A number that bief refuses by the column's type, and one that only the table's CHECK does. Numbers both: the replay
/// takes a column with a single text in it for a column of texts.
const REFUSED_BY_BIEF: (&str, &str) = ("dep_delay", "99999");
const REFUSED_BY_MYSQL: (&str, &str) = ("sched_arr_time", "9999");

/// One topic: where it is, and how many of its records are bad.
struct Topic {
    config: PathBuf,
    bad: u64,
    rates: Vec<f64>,
}

pub async fn run(setup: &Setup, arguments: &PoisonArguments) -> Result<Value> {
    ensure!(arguments.common.schema == Schema::Real, "the plain table has no CHECK that could refuse a record");
    let mysql = setup.mysql()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &daemon::free_address()?)?;
    let clean = shell::output(Command::new("gzip").arg("-dc").arg(config.replayed()?))?;
    Replay::start(setup, &config.write()?, None, None)?.wait(setup)?;
    let records = daemon::records_in_topic(setup)?;
    eprintln!("{records} records in the topic");

    let mut topics = vec![topic(setup, &mut config, TOPIC, 0)?];
    for share in SHARES {
        let (text, bad) = poisoned(&clean, share)?;
        let name = format!("{TOPIC}-{share}");
        let file = setup.folder().join(format!("{name}.csv"));
        std::fs::write(&file, text).context("cannot write the records")?;
        config.set_replay(&name, &file)?;
        Replay::start(setup, &config.write()?, None, None)?.wait(setup)?;
        topics.push(topic(setup, &mut config, &name, bad)?);
    }

    // Warms everything up.
    pass(setup, &topics[0], records).await?;
    for number in 1..=arguments.rounds {
        let mut told = format!("round {number}:");
        for topic in &mut topics {
            let rate = pass(setup, topic, records).await?;
            topic.rates.push(rate);
            write!(told, " {rate:.0} rows/s with {} bad records;", topic.bad)?;
        }
        println!("{}", told.trim_end_matches(';'));
    }

    let mut summary = json!({
        "records": records,
        "rows_per_s": median(topics[0].rates.clone()).round(),
        "cores": cores(),
    });
    for (share, topic) in SHARES.iter().zip(&topics[1..]) {
        let costs = topics[0].rates.iter().zip(&topic.rates).map(|(clean, bad)| 1.0 - bad / clean);
        let cost = median(costs.collect());
        println!("1 bad record in {share}: {:.1} % of the throughput (median of {})", cost * 100.0, arguments.rounds);
        summary[format!("cost_of_1_in_{share}")] = json!((cost * 1000.0).round() / 1000.0);
    }
    Ok(summary)
}

/// A configuration of its own that reads the topic.
fn topic(setup: &Setup, config: &mut Config, name: &str, bad: u64) -> Result<Topic> {
    config.set_topic(name)?;
    let path = setup.folder().join(format!("{name}.toml"));
    std::fs::rename(config.write()?, &path).context("cannot write the configuration")?;
    Ok(Topic { config: path, bad, rates: Vec::new() })
}

async fn pass(setup: &Setup, topic: &Topic, records: u64) -> Result<f64> {
    let mysql = setup.mysql()?;
    database::recreate(mysql).await?;
    let pass = sink::pass(setup, &topic.config, records).await?;
    database::assert_complete_but(mysql, records, topic.bad).await?;
    Ok(pass.rows_per_s)
}

/// The records with every `share`th made bad, in turns for bief and for the database; and how many are.
fn poisoned(csv: &str, share: usize) -> Result<(String, u64)> {
    let mut lines = csv.lines();
    let header = lines.next().context("the file with the records is empty")?;
    let names: Vec<&str> = header.split(',').collect();
    let position = |field: &str| names.iter().position(|name| *name == field).context("no such field in the records");
    let ways = [(position(REFUSED_BY_BIEF.0)?, REFUSED_BY_BIEF.1), (position(REFUSED_BY_MYSQL.0)?, REFUSED_BY_MYSQL.1)];
    let mut text = format!("{header}\n");
    let mut bad = 0;
    for (number, line) in (1..).zip(lines) {
        if number % share == 0 {
            let mut fields: Vec<&str> = line.split(',').collect();
            ensure!(fields.len() == names.len(), "line {number} has not the header's fields: {line}");
            let (position, value) = ways[bad % ways.len()];
            fields[position] = value;
            text += &fields.join(",");
            bad += 1;
        } else {
            text += line;
        }
        text.push('\n');
    }
    Ok((text, bad as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_th_record_is_bad_in_turns() {
        let csv = "dep_delay,sched_arr_time\n1,1\n2,2\n3,3\n4,4\n5,5\n";
        let (text, bad) = poisoned(csv, 2).unwrap();
        assert_eq!(text, "dep_delay,sched_arr_time\n1,1\n99999,2\n3,3\n4,9999\n5,5\n");
        assert_eq!(bad, 2);
    }
}
