//! The unit that compares frameworks: one actor for each framework, and the one that has them fit the same matrices. In
//! the daemon at the times of its schedule; for `bief compare` once, without a daemon.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;
use ndarray::Axis;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::aggregators::Surroundings;
use super::prepare;
use crate::actors::comparer::{Comparer, ComparerSettings, Contender, Extent, Occasion, OnProgress};
use crate::actors::fitter::Fitter;
use crate::actors::history;
use crate::adapters::cache::open_cache;
use crate::adapters::jobs::{self, Environments, Ground, JobSettings, OwnJob, PythonJob, job_of};
use crate::adapters::warehouse;
use crate::config::{CompareConfig, Config};
use crate::core::build::{REVISION, VERSION};
use crate::core::comparison::{Comparison, Framework, Sample};
use crate::core::forecast::{Spec, Split, matrix};
use crate::ports::frameworks::{ComparisonGround, FitFramework, OpenFramework, OpenGround};
use crate::ports::{Cache, Clock, SystemClock};
use crate::runtime::child::own_binary;
use crate::runtime::{Incarnation, Options, RestartPolicy, Supervisor, SupervisorHandle, UnitSpec};

const UNIT: &str = "comparison";
/// What compares in the daemon steps back before the stream.
const NICE_IN_DAEMON: u8 = 10;

/// How the matrix of size 1 is got.
pub type TakeSample = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Sample, String>> + Send + Sync>;

/// What is compared, where and for whom.
#[derive(Clone)]
pub struct Commission {
    pub compare: CompareConfig,
    pub take: TakeSample,
    /// Where the result goes.
    pub out: Option<PathBuf>,
    pub on_progress: OnProgress,
    pub nice: u8,
}

/// None where the schedule is off.
pub(super) fn unit(given: &Surroundings) -> Option<UnitSpec> {
    let given = given.clone();
    let schedule = given.config.compare.schedule.clone()?;
    // One for the daemon's life: built again, it holds its own lease still.
    let owner = format!("{}/{}", given.config.daemon.name, Uuid::new_v4());
    let commission = Commission {
        take: sample_of(&given.config),
        out: Some(given.config.compare.newest()),
        compare: given.config.compare.clone(),
        on_progress: Arc::new(|_| ()),
        nice: NICE_IN_DAEMON,
    };
    Some(UnitSpec::new(UNIT, RestartPolicy::default(), move |incarnation: Incarnation| {
        let (given, commission) = (given.clone(), commission.clone());
        let occasion = Occasion::Scheduled {
            schedule: Box::new(schedule.clone()),
            owner: owner.clone(),
            open_leases: warehouse::open_leases(&given.config.warehouse),
        };
        Box::pin(async move {
            prepare(&given.config, &given.prepared).await?;
            start(&incarnation, &commission, occasion, given.clock);
            Ok(())
        })
    }))
}

/// Begins a comparison on the present actix system: its supervisor, and where its result comes.
pub fn once(commission: Commission) -> (SupervisorHandle, oneshot::Receiver<Result<Comparison, String>>) {
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    // What broke once is not tried again without a word.
    let policy = RestartPolicy { budget: 0, ..RestartPolicy::default() };
    let unit = UnitSpec::new(UNIT, policy, move |incarnation: Incarnation| {
        let (commission, tell) = (commission.clone(), Arc::clone(&tell));
        Box::pin(async move {
            start(&incarnation, &commission, Occasion::Once(tell), Arc::new(SystemClock));
            Ok(())
        })
    });
    (Supervisor::launch(vec![unit], Options::default()), told)
}

fn start(incarnation: &Incarnation, commission: &Commission, occasion: Occasion, clock: Arc<dyn Clock>) {
    let compare = &commission.compare;
    let frameworks = compare.frameworks.iter().map(|framework| (framework.name(), open(*framework, commission)));
    let extent = Extent {
        sizes: compare.sizes.clone(),
        workers: compare.workers.clone(),
        time_limit: compare.time_limit,
        memory_limit: Some(compare.memory),
        machine: jobs::machine(),
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
    };
    start_actors(incarnation, frameworks, |contenders| ComparerSettings {
        contenders,
        extent,
        occasion,
        open_ground: open_ground(commission),
        clock,
        on_progress: Arc::clone(&commission.on_progress),
    });
}

/// One actor for each framework, and the comparer that they answer.
fn start_actors<'f>(
    incarnation: &Incarnation,
    frameworks: impl Iterator<Item = (&'f str, OpenFramework)>,
    settings: impl FnOnce(Vec<Contender>) -> ComparerSettings,
) {
    let arbiters = incarnation.placement();
    // Before the others, so that the unit has not ended while they are started.
    let guard = incarnation.guard("comparer");
    let contenders = frameworks.map(|(name, open)| {
        let guard = incarnation.guard(name);
        let fitter = arbiters.start(name, move |_| Fitter::new(&open, guard));
        Contender { fit: fitter.clone().recipient(), describe: fitter.recipient() }
    });
    let settings = settings(contenders.collect());
    arbiters.start("comparer", move |_| Comparer::new(settings, guard));
}

fn open_ground(commission: &Commission) -> OpenGround {
    let Commission { compare, take, out, .. } = commission.clone();
    Arc::new(move || {
        let ground = Ground::new(Arc::clone(&take), &compare.folder, out.clone());
        let ground = ground.map_err(|error| format!("{} cannot be written: {error}", compare.folder.display()))?;
        Ok(Box::new(ground) as Box<dyn ComparisonGround>)
    })
}

fn open(framework: Framework, commission: &Commission) -> OpenFramework {
    let settings = job_settings(&commission.compare, commission.nice);
    Arc::new(move || match job_of(framework) {
        Some(files) => Box::new(PythonJob { files, settings: settings.clone() }) as Box<dyn FitFramework>,
        None => Box::new(OwnJob { framework, settings: settings.clone() }),
    })
}

fn job_settings(compare: &CompareConfig, nice: u8) -> JobSettings {
    JobSettings {
        environments: environments(compare),
        spark_master: compare.spark_master.clone(),
        dask_scheduler: compare.dask_scheduler.clone(),
        folder: compare.folder.clone(),
        nice,
        guardian: own_binary(),
    }
}

/// Where the configuration has the frameworks.
pub fn environments(compare: &CompareConfig) -> Environments {
    Environments { folder: compare.environment.clone(), python: compare.python.clone() }
}

/// The matrix of the configuration's first forecast and its first horizon, read from the cache: the rows that a training
/// would fit now, and those that would judge it. Missing values are the means of what is fitted, as there.
pub fn sample_of(config: &Config) -> TakeSample {
    let (cache, forecast) = (config.cache.clone(), config.forecasts.first().cloned());
    Arc::new(move || {
        let (cache, forecast) = (cache.clone(), forecast.clone());
        Box::pin(async move {
            let Some(forecast) = forecast else { return Err("the configuration has no [[forecast]]".to_owned()) };
            let Some(cache) = cache else { return Err("the configuration has no [cache]".to_owned()) };
            let mut cache = (open_cache(&cache.url))().await.map_err(|e| e.to_string())?;
            sample_at(SystemClock.now(), &forecast.spec, cache.as_mut()).await
        })
    })
}

async fn sample_at(now: DateTime<Utc>, spec: &Spec, cache: &mut dyn Cache) -> Result<Sample, String> {
    let panel = history::read_until(cache, spec, now).await.map_err(|e| e.to_string())?;
    let no_horizon = || format!("the forecast `{}` has no horizon", spec.name);
    let horizon = spec.horizons.first().ok_or_else(no_horizon)?;
    let no_history = || format!("the cache holds no history of {}", spec.aggregate);
    let split = Split::of(spec, &panel).ok_or_else(no_history)?;
    let matrix = matrix(spec, &panel, &panel.labels(), horizon.buckets, 0..panel.buckets());
    let matrix = matrix.map_err(|e| e.to_string())?;
    let (fitted, held_out) = split.rows(spec, &matrix, horizon.buckets);
    let (train_rows, features) = (fitted.len(), matrix.names.len());
    if train_rows <= features {
        return Err(format!("{train_rows} rows before the holdout are too few for {features} features"));
    }
    let source = format!("{}, {} ahead", spec.name, horizon.text);
    let x = matrix.filled(&matrix.part(fitted.clone()).means());
    let rows: Vec<usize> = fitted.chain(held_out).collect();
    let y = rows.iter().map(|row| matrix.y[*row]).collect();
    Ok(Sample::independent(source, matrix.names, &x.select(Axis(0), &rows), y, train_rows))
}

/// A matrix of this many rows and features that stands for one; a fifth of it is held out.
pub fn generated(rows: usize, features: usize) -> TakeSample {
    Arc::new(move || Box::pin(async move { Ok(Sample::generated(rows, features, rows / 5)) }))
}

/// The defaults where there is no configuration: paths from here.
pub fn without_configuration() -> CompareConfig {
    CompareConfig::of_folder(Path::new(""))
}

#[cfg(test)]
#[path = "comparisons_tests.rs"]
mod tests;
