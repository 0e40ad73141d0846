//! `bief check`: every mistake of a configuration at once; with `--connect` also what only database and broker
//! know: tables, column types, queries, topics, grants. Changes nothing.

mod aggregates;

use std::path::PathBuf;

use super::exit;
use super::support::{block_on, broker_of, colour};
use crate::adapters::warehouse;
use crate::config::{self, Brokers, Config, Diagnostic, Loaded, Location, Severity};
use crate::ports::{MissingGrants, WarehouseError};
use crate::topology;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief check                        ./actors.toml, offline
  bief check -c prod.toml --connect also asks the database and the broker
  bief check --print                the file as understood: defaults filled in, secrets hidden

Exit codes: 0 nothing found (warnings aside), 2 mistakes in the file, 3 --connect found a difference")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Ask the database and the broker too
    #[arg(long)]
    connect: bool,
    /// Print the file as understood
    #[arg(long, conflicts_with = "json")]
    print: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> u8 {
    let file = args.config.display().to_string();
    let outcome = config::load(&args.config, &|name| std::env::var(name).ok());
    let mut report = config::report(&file, &outcome);
    let sound = outcome.is_ok();
    if let (true, Ok(loaded)) = (args.connect, &outcome) {
        report.extend(block_on(connect(loaded)));
    }
    if args.json {
        super::support::print_json(&report.json());
    } else {
        if let (true, Ok(loaded)) = (args.print, &outcome) {
            out!("{}", config::print(loaded));
        }
        err!("{}", report.text(colour()));
    }
    match (sound, report.is_sound()) {
        (false, _) => exit::USAGE,
        (true, false) => exit::FOUND,
        (true, true) => exit::OK,
    }
}

async fn missing_grants(config: &Config) -> Result<Option<MissingGrants>, WarehouseError> {
    warehouse::catalog(&config.warehouse).await?.missing_grants().await
}

async fn connect(loaded: &Loaded) -> Vec<Diagnostic> {
    let config = &loaded.config;
    let mut found = Vec::new();
    let mut tell = |location: Location, problem: String, help: String| {
        found.push(loaded.at(Severity::Error, location, problem, help));
    };
    // What an account may not read is not in the answers below, so that this comes first.
    let first = config.streams.first().and_then(|s| s.tables.first()).map(|t| t.location).unwrap_or_default();
    match missing_grants(config).await {
        Ok(None) => {}
        Ok(Some(missing)) => tell(
            first,
            format!("the account {} lacks {} on database {}", missing.account, missing.privileges, missing.database),
            format!("run as an administrator: {}", missing.statement),
        ),
        // The streams below tell why it can't be asked.
        Err(error) => tracing::debug!(%error, "the grants could not be asked for"),
    }
    for stream in &config.streams {
        let first = stream.tables.first().map(|t| t.location).unwrap_or_default();
        match topology::plan_or_misfits(config, stream).await {
            Ok(Ok(_)) => {}
            Ok(Err(misfits)) => {
                for misfit in misfits {
                    let table = &stream.tables[misfit.mapping];
                    let location = misfit.column.map_or(table.location, |c| table.columns[c].location);
                    tell(location, misfit.problem, misfit.help);
                }
            }
            Err(error) => {
                tell(
                    first,
                    format!("the warehouse can't be asked: {error}"),
                    "mend [warehouse], or start the server".to_owned(),
                );
                break;
            }
        }
    }
    found.extend(aggregates::findings(loaded).await);
    if config.kafka.brokers == Brokers::Embedded {
        return found;
    }
    let mut tell = |location: Location, problem: String, help: String| {
        found.push(loaded.at(Severity::Error, location, problem, help));
    };
    match broker_of(config) {
        Err(error) => tell(Location { line: 1, column: 1 }, error, "mend [kafka]".to_owned()),
        Ok(broker) => {
            for stream in &config.streams {
                let location = stream.tables.first().map(|t| t.location).unwrap_or_default();
                let letters = stream.dead_letter_topic.as_ref().map(|topic| (topic, "no `dead_letter_topic`"));
                for (topic, none) in [(&stream.topic, "no topic")].into_iter().chain(letters) {
                    match broker.partitions(topic) {
                        Ok(partitions) if partitions.is_empty() => tell(
                            location,
                            format!("there is {none} `{topic}` at the broker"),
                            "create it, or name one that is there".to_owned(),
                        ),
                        Ok(_) => {}
                        Err(error) => {
                            tell(
                                location,
                                format!("the broker can't be asked: {error}"),
                                "mend [kafka], or start it".to_owned(),
                            );
                            return found;
                        }
                    }
                }
            }
        }
    }
    found
}
