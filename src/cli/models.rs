//! `bief models`: the versions of forecasts' models, and which of them forecasts.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::exit;
use super::support::{fail, load, log_command, owner, print_json};
use super::table::{Align, Table, grouped};
use crate::adapters::warehouse;
use crate::config::{Config, Forecast};
use crate::core::printable::printable;
use crate::ports::models::{ModelChange, ModelHead, Models, Promoted, StoredModel};
use crate::ports::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief models list                           versions of every forecast, newest first
  bief models show orders_next_hour 12       one, with its figures and coefficients
  bief models promote orders_next_hour 12    from now on it forecasts
  bief models rollback orders_next_hour      back to the one that forecast before

Running daemons take another version up at their next look. A version whose features are not those of the
configuration is not promoted. Each change is in the audit.

Exit codes: 0 done, 1 failed, 2 configuration, no such forecast, or no such version")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml", global = true)]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List versions, newest first
    List {
        /// A forecast; all where none is named
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// At most so many of each
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
        /// Only versions below this one
        #[arg(long, value_name = "VERSION")]
        after: Option<u64>,
    },
    /// Show a version
    Show {
        #[arg(value_name = "NAME")]
        name: String,
        /// The champion where none is given
        #[arg(value_name = "VERSION")]
        version: Option<u64>,
    },
    /// Let a version forecast
    Promote {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(value_name = "VERSION")]
        version: u64,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT", default_value = "by hand")]
        reason: String,
    },
    /// Take the last promotion back
    Rollback {
        #[arg(value_name = "NAME")]
        name: String,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT", default_value = "by hand")]
        reason: String,
    },
}

impl Action {
    fn name(&self) -> Option<&str> {
        match self {
            Self::List { name, .. } => name.as_deref(),
            Self::Show { name, .. } | Self::Promote { name, .. } | Self::Rollback { name, .. } => Some(name),
        }
    }
}

/// Why a command failed, and whether it asked for what is not there.
enum Failure {
    Failed(String),
    NotThere(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let done = match chosen(&loaded.config, args.action.name()) {
        Ok(chosen) => super::support::block_on(act(args, &loaded.config, &chosen)),
        Err(words) => Err(Failure::NotThere(words)),
    };
    match done {
        Ok(()) => exit::OK,
        Err(Failure::Failed(words)) => fail(args.json, &words),
        Err(Failure::NotThere(words)) => {
            fail(args.json, &words);
            exit::USAGE
        }
    }
}

fn chosen<'c>(config: &'c Config, name: Option<&str>) -> Result<Vec<&'c Forecast>, String> {
    let all = &config.forecasts;
    if all.is_empty() {
        return Err("the configuration has no [[forecast]]: there are no models".to_owned());
    }
    let found: Vec<&Forecast> = all.iter().filter(|f| name.is_none_or(|name| f.spec.name == name)).collect();
    match name {
        Some(unknown) if found.is_empty() => {
            let there: Vec<&str> = all.iter().map(|forecast| forecast.spec.name.as_str()).collect();
            Err(format!("there is no forecast `{unknown}`: there are {}", there.join(", ")))
        }
        _ => Ok(found),
    }
}

async fn act(args: &Args, config: &Config, chosen: &[&Forecast]) -> Result<(), Failure> {
    let models = (warehouse::open_models(&config.warehouse))().await?;
    let models = &*models;
    let change = |reason: &str| ModelChange {
        at: SystemClock.now(),
        daemon: config.daemon.name.clone(),
        peer: owner(),
        reason: reason.to_owned(),
    };
    let forecast = chosen[0];
    let name = forecast.spec.name.as_str();
    match &args.action {
        Action::List { limit, after, .. } => {
            let mut heads = Vec::new();
            for forecast in chosen {
                heads.extend(models.list(&forecast.spec.name, *after, *limit).await?);
            }
            if args.json {
                print_json(&serde_json::json!({ "models": heads }));
            } else {
                out!("{}", listed(&heads));
            }
        }
        Action::Show { version, .. } => {
            let StoredModel { head, model } = stored(models, name, *version).await?;
            if args.json {
                let whole = serde_json::json!({
                    "champion": head.champion, "promoted_at": head.promoted_at, "verdict": head.verdict, "model": model,
                });
                print_json(&whole);
            } else {
                out!("{}", shown(&head, forecast, &model));
            }
        }
        Action::Promote { version, reason, .. } => {
            let stored = stored(models, name, Some(*version)).await?;
            stored.model.check(&forecast.spec)?;
            let promoted = models.promote(name, *version, &change(reason)).await?;
            told(args, name, promoted.ok_or_else(|| no_version(name, *version))?);
        }
        Action::Rollback { reason, .. } => {
            let promoted = models.rollback(name, &change(reason)).await?;
            let nothing =
                || Failure::NotThere(format!("no version of `{name}` was promoted before: nothing is changed"));
            told(args, name, promoted.ok_or_else(nothing)?);
        }
    }
    Ok(())
}

fn no_version(name: &str, version: u64) -> Failure {
    Failure::NotThere(format!("there is no version {version} of `{name}`; bief models list {name} has them"))
}

async fn stored(models: &dyn Models, name: &str, version: Option<u64>) -> Result<StoredModel, Failure> {
    let version = match version {
        Some(version) => version,
        None => {
            let none = || Failure::NotThere(format!("no version of `{name}` was promoted yet"));
            models.champion(name).await?.map(|head| head.version).ok_or_else(none)?
        }
    };
    models.get(name, version).await?.ok_or_else(|| no_version(name, version))
}

fn told(args: &Args, name: &str, promoted: Promoted) {
    if args.json {
        print_json(&serde_json::json!({ "forecast": name, "champion": promoted.version, "before": promoted.before }));
        return;
    }
    match promoted.before {
        Some(before) if before == promoted.version => outln!("{name}: version {before} forecasts already"),
        Some(before) => outln!("{name}: version {} forecasts, in the place of {before}", promoted.version),
        None => outln!("{name}: version {} forecasts", promoted.version),
    }
}

fn minute(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M").to_string()
}

/// A line a version and horizon.
fn listed(heads: &[ModelHead]) -> String {
    let right = |title| (title, Align::Right);
    let left = |title| (title, Align::Left);
    let mut table = Table::new(&[
        left("FORECAST"),
        right("VERSION"),
        left("TRAINED"),
        left("PROMOTED"),
        left("HORIZON"),
        right("MAE"),
        right("PERSISTENCE"),
        right("R2"),
    ]);
    for head in heads {
        let promoted = match (head.champion, head.promoted_at) {
            (true, Some(at)) => format!("{} champion", minute(at)),
            (_, at) => at.map_or_else(|| "-".to_owned(), minute),
        };
        for scores in &head.horizons {
            let naive = scores.beside.first().map_or_else(|| "-".to_owned(), |b| format!("{:.3}", b.score.mae));
            table.row(vec![
                head.forecast.clone(),
                head.version.to_string(),
                minute(head.trained_at),
                promoted.clone(),
                scores.horizon.clone(),
                format!("{:.3}", scores.score.mae),
                naive,
                scores.score.r2.map_or_else(|| "-".to_owned(), |r2| format!("{r2:.3}")),
            ]);
        }
    }
    if heads.is_empty() { "no version was trained yet\n".to_owned() } else { table.render() }
}

fn shown(head: &ModelHead, forecast: &Forecast, model: &crate::core::forecast::ModelVersion) -> String {
    let mut out = format!(
        "{} version {}: trained {} by bief {}, of {} to {}\n  input {}\n  {}\n",
        head.forecast,
        head.version,
        minute(head.trained_at),
        printable(&head.code_version),
        minute(head.data.from),
        minute(head.data.to),
        printable(&head.input_hash),
        printable(&head.verdict)
    );
    out += &match (head.champion, head.promoted_at) {
        (true, Some(at)) => format!("  the champion since {}\n", minute(at)),
        (_, Some(at)) => format!("  promoted {}, not the champion any more\n", minute(at)),
        _ => "  never promoted, or taken back\n".to_owned(),
    };
    if let Err(refused) = model.check(&forecast.spec) {
        out += &format!("  can't forecast: {}\n", printable(&refused.to_string()));
    }
    for of in &model.horizons {
        let rows = grouped(i64::try_from(of.serving.rows).unwrap_or(i64::MAX));
        out += &format!(
            "\n{} ahead: MAE {:.3} in its holdout, fitted to {rows} rows\n",
            printable(&of.horizon),
            of.holdout.score.mae
        );
        let mut table = Table::new(&[("FEATURE", Align::Left), ("COEFFICIENT", Align::Right)]);
        table.row(vec!["(intercept)".to_owned(), format!("{:.6}", of.serving.intercept)]);
        for (feature, coefficient) in of.features.iter().zip(&of.serving.coefficients) {
            table.row(vec![feature.clone(), format!("{coefficient:.6}")]);
        }
        table.render().lines().for_each(|line| out += &format!("  {line}\n"));
    }
    out
}
