//! `bief train`: fits the forecasts' models to the documents in the cache, shows how they stand beside the naive ones,
//! keeps the versions and promotes those whose contest says so.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::exit;
use super::support::{fail, load, log_command, owner, print_json};
use super::table::{Align, Table, grouped};
use crate::actors::training::{FIT, TrainingOrder, train_once};
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::{Config, Forecast, WarehouseConfig};
use crate::core::forecast::interval::errors_needed;
use crate::core::forecast::model::{Evaluation, Fit};
use crate::core::forecast::{HorizonModel, ModelVersion, Score};
use crate::ports::models::Models;
use crate::ports::{Clock, SystemClock, WarehouseError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief train                             every forecast of the configuration
  bief train orders_next_hour            one
  bief train --json                      all figures, coefficients too
  bief train --dry-run                   figures and verdict alone: nothing is kept or promoted

The last stretch of the history, `holdout`, is not seen by the fit that is judged. A baseline and the model are
compared on the rows for which both have a forecast.

Exit codes: 0 trained, 1 failed, 2 configuration, or no such forecast")]
pub struct Args {
    /// Forecasts; all where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Keep and promote nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let chosen = match chosen(&loaded.config, &args.names) {
        Ok(chosen) => chosen,
        Err(words) => {
            fail(args.json, &words);
            return exit::USAGE;
        }
    };
    match super::support::block_on(train_all(&loaded.config, &chosen, !args.dry_run)) {
        Ok(trained) => {
            if args.json {
                print_json(&serde_json::json!({ "trained": trained }));
            } else {
                out!("{}", trained.iter().map(Trained::text).collect::<Vec<_>>().join("\n"));
            }
            exit::OK
        }
        Err(error) => fail(args.json, &error),
    }
}

/// The forecasts of these names, in the file's order; all where none is named.
fn chosen<'c>(config: &'c Config, names: &[String]) -> Result<Vec<&'c Forecast>, String> {
    let all = &config.forecasts;
    if all.is_empty() {
        return Err("the configuration has no [[forecast]]: there is nothing to train".to_owned());
    }
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|forecast| forecast.spec.name != **name)) {
        let there: Vec<&str> = all.iter().map(|forecast| forecast.spec.name.as_str()).collect();
        return Err(format!("there is no forecast `{unknown}`: there are {}", there.join(", ")));
    }
    Ok(all.iter().filter(|forecast| names.is_empty() || names.contains(&forecast.spec.name)).collect())
}

/// A version, and what it took.
#[derive(Debug, Serialize)]
pub struct Trained {
    #[serde(flatten)]
    pub model: ModelVersion,
    pub target: String,
    pub interval: f64,
    /// Documents that were left out: their bucket has another width, or their key is not whole.
    pub ignored: u64,
    pub read_seconds: f64,
    pub fit_seconds: f64,
    /// Whether the version was kept.
    pub kept: bool,
    /// Whether its contest would have it forecast.
    pub wins: bool,
    /// Whether it forecasts from now on.
    pub promoted: bool,
    /// What the contest came to.
    pub verdict: String,
}

async fn train_all(config: &Config, chosen: &[&Forecast], keep: bool) -> Result<Vec<Trained>, String> {
    let Some(settings) = &config.cache else { return Err("the configuration has no [cache]".to_owned()) };
    let mut cache = (open_cache(&settings.url))().await.map_err(|e| e.to_string())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let models = open_models(&config.warehouse, keep).await.map_err(|e| e.to_string())?;
    let peer = owner();
    let mut trained = Vec::with_capacity(chosen.len());
    for Forecast { spec, .. } in chosen {
        let order = TrainingOrder {
            spec,
            at: SystemClock.now(),
            threads,
            fit: FIT,
            keep,
            daemon: &config.daemon.name,
            peer: &peer,
        };
        let done = train_once(&order, cache.as_mut(), models.as_deref()).await;
        let done = done.map_err(|e| format!("the forecast `{}`: {e}", spec.name))?;
        trained.push(Trained {
            model: done.model,
            target: spec.target.clone(),
            interval: spec.interval,
            ignored: done.ignored,
            read_seconds: done.read_seconds,
            fit_seconds: done.fit_seconds,
            kept: keep,
            wins: done.verdict.promote,
            promoted: done.promoted.is_some(),
            verdict: done.verdict.reason,
        });
    }
    Ok(trained)
}

/// Where versions are. A dry run makes nothing: where nobody has made the tables yet there is no champion.
async fn open_models(settings: &WarehouseConfig, keep: bool) -> Result<Option<Box<dyn Models>>, WarehouseError> {
    if !keep {
        return warehouse::open_models_if_there(settings).await;
    }
    // The tables alone: the domain's are the daemon's.
    let books = WarehouseConfig { migrations: None, ..settings.clone() };
    warehouse::prepare(&books, Path::new("")).await?;
    Ok(Some((warehouse::open_models(&books))().await?))
}

impl Trained {
    /// For people: a table for each horizon.
    fn text(&self) -> String {
        let ModelVersion { forecast, version, data, keys, horizons, .. } = &self.model;
        let day = |moment: chrono::DateTime<chrono::Utc>| moment.format("%Y-%m-%d %H:%M").to_string();
        let mut out = format!(
            "{forecast}: {} of {} series, {} to {}; read in {:.1} s, fitted in {:.2} s\n",
            self.target,
            keys.len(),
            day(data.from),
            day(data.to),
            self.read_seconds,
            self.fit_seconds
        );
        if self.ignored > 0 {
            out += &format!("  {} documents were left out: of another bucket or key\n", self.ignored);
        }
        for HorizonModel { horizon, features, judged, holdout, .. } in horizons {
            out += &format!(
                "\n{horizon} ahead: {} features, fitted to {} rows; holdout {} to {}\n",
                features.len(),
                count(judged.rows),
                day(holdout.range.from),
                day(holdout.range.to)
            );
            let right = |title| (title, Align::Right);
            let columns = [("", Align::Left), right("ROWS"), right("MAE"), right("RMSE"), right("R2"), right("MASE")];
            let mut table = Table::new(&[&columns[..], &[right("MODEL'S MAE"), right("R2")]].concat());
            table.row(cells("model".to_owned(), &holdout.score, None));
            for beside in &holdout.beside {
                table.row(cells(beside.baseline.to_string(), &beside.score, Some(&beside.model)));
            }
            let lines = table.render();
            lines.lines().for_each(|line| out += &format!("  {line}\n"));
            out += &interval(self.interval, judged, holdout);
            out += &folds(judged);
        }
        out += &match (self.kept, self.promoted) {
            (false, _) if self.wins => format!("\nnothing is kept; it would forecast: {}\n", self.verdict),
            (false, _) => format!("\nnothing is kept; it would not forecast: {}\n", self.verdict),
            (true, true) => format!("\nversion {version} is kept, and forecasts: {}\n", self.verdict),
            (true, false) => format!("\nversion {version} is kept, not promoted: {}\n", self.verdict),
        };
        out
    }
}

fn cells(name: String, score: &Score, model: Option<&Score>) -> Vec<String> {
    let figure = |value: f64| format!("{value:.3}");
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let mut cells = vec![name, count(score.rows), figure(score.mae), figure(score.rmse)];
    cells.extend([or_dash(score.r2), or_dash(score.mase)]);
    cells.extend(model.into_iter().flat_map(|model| [figure(model.mae), or_dash(model.r2)]));
    cells
}

/// What the interval came to in the holdout, and what it is of where that is not the rolling origin.
fn interval(share: f64, fit: &Fit, holdout: &Evaluation) -> String {
    let percent = format!("{:.3}", share * 100.0);
    let percent = percent.trim_end_matches('0').trim_end_matches('.');
    let Some((coverage, width)) = holdout.coverage.zip(holdout.width) else {
        let (errors, needed) = (count(fit.bands.errors), count(errors_needed(share)));
        return format!("  no {percent} % interval: it takes {needed} errors of forecasts, and there are {errors}\n");
    };
    let coverage = coverage * 100.0;
    let mut text =
        format!("  the {percent} % interval holds {coverage:.1} % of the truth, {width:.1} wide on average\n");
    if fit.folds.iter().map(|fold| fold.score.rows).sum::<usize>() < errors_needed(share) {
        text += "  the history is too short for a rolling origin of as many errors as the interval takes: it is of the fit's own\n";
    }
    text
}

/// The rolling origin before the holdout, in a line; and features without a coefficient.
fn folds(fit: &Fit) -> String {
    let errors: Vec<String> = fit.folds.iter().map(|fold| format!("{:.2}", fold.score.mae)).collect();
    let mut text = match errors.is_empty() {
        true => String::new(),
        false => format!("  MAE of the rolling origin before it: {}\n", errors.join(", ")),
    };
    if !fit.aliased.is_empty() {
        text += &format!("  constant, or a combination of others: {}\n", fit.aliased.join(", "));
    }
    text
}

fn count(rows: usize) -> String {
    grouped(i64::try_from(rows).unwrap_or(i64::MAX))
}
