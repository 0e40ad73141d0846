//! `bief compare`: the forecasts' model made by linfa, bief's own way, scikit-learn, Dask-ML and Spark MLlib on the same
//! matrix, whether they agree, and what each takes. Installs them with `--setup`, and nothing without.

mod shown;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::exit;
use super::printable::printable;
use super::support::{fail, load, log_command, print_json};
use crate::actors::comparer::Progress;
use crate::adapters::jobs::{JOBS, JobFiles, Setup};
use crate::config::{CompareConfig, Config};
use crate::core::comparison::{Comparison, Framework};
use crate::runtime::signals::Signals;
use crate::topology::comparisons::{self, Commission};

/// How long what was cancelled may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bief compare --setup                                   install what is missing, and end
  bief compare --sizes 1,10,100 --workers 1,2            the matrix of the first forecast, and larger ones
  bief compare --generated 26000x40 --frameworks linfa,scikit-learn
  bief compare --spark-master spark://host:7077 --dask-scheduler tcp://host:8786 --workers 8

Each fit is a child process, killed with all that it started when it takes longer or more memory than it may, and when \
this ends. One that is not installed is told as absent, with how to get it. On a cluster the matrix's \
folder (`folder` of [compare]) must be one that all workers see.

Exit codes: 0 all fitted and agree, 1 failed, 2 usage or configuration, 3 a framework is absent or failed, or they \
disagree, 130 stopped by a signal (nothing that was started stays)")]
pub struct Args {
    /// Configuration file; not needed with --generated
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Install the frameworks that are missing or of other versions, and end
    #[arg(long)]
    setup: bool,
    /// The interpreter that makes the environments, 3.11 or later
    #[arg(long, value_name = "PYTHON", default_value = "python3", requires = "setup")]
    python: PathBuf,
    /// Only these: linfa, bief, scikit-learn, dask-ml, spark-mllib
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    frameworks: Vec<Framework>,
    /// How often the matrix's rows are repeated, each time a little shaken
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sizes: Vec<u32>,
    /// Numbers of workers; linfa has one
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Vec<u32>,
    /// A generated matrix in place of a forecast's: rows and features
    #[arg(long, value_name = "ROWSxFEATURES", value_parser = shape)]
    generated: Option<(usize, usize)>,
    /// Seconds that one fit may take, start-up among it
    #[arg(long, value_name = "S")]
    time_limit: Option<u64>,
    /// MiB that one fit's whole process tree may take
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Folder of the frameworks' environments [default: that of the configuration]
    #[arg(long, value_name = "FOLDER")]
    environment: Option<PathBuf>,
    /// Folder for the matrix and the jobs' files while they are needed [default: that of the configuration]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// A running Spark
    #[arg(long, value_name = "URL")]
    spark_master: Option<String>,
    /// A running Dask scheduler
    #[arg(long, value_name = "URL")]
    dask_scheduler: Option<String>,
    /// Where the result is stored, as JSON [default: newest.json in the folder of the configuration]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let read = || {
        let (rows, features) = text.split_once('x')?;
        Some((rows.parse().ok()?, features.parse().ok()?))
    };
    let fits = |(rows, features): &(usize, usize)| *features > 0 && *features <= 1000 && *rows > 4 * features;
    read().filter(fits).ok_or_else(|| "write rows and features, such as 26000x40, with many more rows".to_owned())
}

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let loaded = match args.generated.is_some() && !args.config.exists() {
        true => None,
        false => match load(&args.config) {
            Ok(loaded) => Some(loaded.config),
            Err(code) => return code,
        },
    };
    let compare = settings(args, loaded.as_ref());
    match args.setup {
        true => actix::System::new().block_on(set_up(args, &compare)),
        false => actix::System::new().block_on(hold(args, compare, loaded.as_ref())),
    }
}

/// What the command line says goes before what the file says.
fn settings(args: &Args, config: Option<&Config>) -> CompareConfig {
    let mut compare = config.map_or_else(comparisons::without_configuration, |config| config.compare.clone());
    let given = |list: &[u32], or: Vec<u32>| if list.is_empty() { or } else { list.to_vec() };
    compare.sizes = given(&args.sizes, compare.sizes);
    compare.workers = given(&args.workers, compare.workers);
    if !args.frameworks.is_empty() {
        compare.frameworks = args.frameworks.clone();
    }
    compare.frameworks.sort_unstable();
    compare.frameworks.dedup();
    compare.time_limit = args.time_limit.map_or(compare.time_limit, Duration::from_secs);
    compare.memory = args.memory.map_or(compare.memory, |mebibytes| mebibytes << 20);
    compare.environment = args.environment.clone().unwrap_or(compare.environment);
    compare.folder = args.folder.clone().unwrap_or(compare.folder);
    compare.spark_master = args.spark_master.clone().or(compare.spark_master);
    compare.dask_scheduler = args.dask_scheduler.clone().or(compare.dask_scheduler);
    compare
}

async fn set_up(args: &Args, compare: &CompareConfig) -> u8 {
    if let Some(python) = &compare.python {
        let why = "`python` in [compare] names an interpreter, into which nothing is installed; remove it to have bief make \
                   environments of its own, or install what ml/requirements of bief's source names";
        errln!("bief: {why} ({})", python.display());
        return exit::USAGE;
    }
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(args.json, &format!("signals can't be listened to: {error}")),
    };
    let cancel = CancellationToken::new();
    let environments = comparisons::environments(compare);
    let mut told = |setup: Setup<'_>| {
        let (job, what): (&JobFiles, _) = match setup {
            Setup::There(job) => (job, "is installed"),
            Setup::Installs(job) => (job, "is being installed"),
            Setup::Installed(job) => (job, "is installed now"),
        };
        errln!("bief: {} {what}", job.framework.name());
    };
    let install = async {
        for job in JOBS.iter().filter(|job| compare.frameworks.contains(&job.framework)) {
            environments.make(job, &args.python, &cancel, &mut told).await?;
        }
        Ok::<_, crate::adapters::jobs::SetupError>(())
    };
    tokio::pin!(install);
    let made = tokio::select! {
        made = &mut install => made,
        _ = signals.first() => {
            cancel.cancel();
            let _ = tokio::time::timeout(END_LIMIT, install).await;
            return exit::INTERRUPTED;
        }
    };
    match made {
        Ok(()) => {
            let missing = JOBS.iter().filter(|job| compare.frameworks.contains(&job.framework));
            let missing = missing.filter_map(|job| Some((job.framework.name(), environments.find(job).err()?)));
            let missing: Vec<_> = missing.collect();
            for (framework, why) in &missing {
                errln!("bief: {framework} cannot run: {why}");
            }
            if missing.is_empty() { exit::OK } else { exit::FOUND }
        }
        Err(error) => fail(args.json, &error.to_string()),
    }
}

async fn hold(args: &Args, compare: CompareConfig, config: Option<&Config>) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(args.json, &format!("signals can't be listened to: {error}")),
    };
    let out = args.out.clone().unwrap_or_else(|| compare.newest());
    let take = match (args.generated, config) {
        (Some((rows, features)), _) => comparisons::generated(rows, features),
        (None, Some(config)) => comparisons::sample_of(config),
        (None, None) => return exit::USAGE,
    };
    let on_progress = Arc::new(|progress: &Progress<'_>| {
        errln!("bief: {}", printable(&shown::progress(progress)));
    });
    let commission = Commission { compare, take, out: Some(out.clone()), on_progress, nice: 0 };
    let (supervisor, told) = comparisons::once(commission);
    let made = tokio::select! {
        // A signal before all: what it breaks off is told as that, whatever it comes to. A result, where there is one,
        // before the end.
        biased;
        _ = signals.first() => {
            supervisor.drain(END_LIMIT).await;
            fail(args.json, "stopped by a signal; nothing that was started stays");
            return exit::INTERRUPTED;
        }
        made = told => made.unwrap_or_else(|_| Err("the comparison ended without a result".to_owned())),
        units = supervisor.board().ended() => Err(last_error(&units)),
    };
    supervisor.drain(END_LIMIT).await;
    match made {
        Ok(comparison) => tell(args, &comparison, &out),
        Err(error) => fail(args.json, &error),
    }
}

fn last_error(units: &[crate::runtime::UnitStatus]) -> String {
    let error = units.iter().find_map(|unit| unit.last_error.clone());
    error.unwrap_or_else(|| "the comparison ended without a result".to_owned())
}

fn tell(args: &Args, comparison: &Comparison, out: &std::path::Path) -> u8 {
    if args.json {
        print_json(comparison);
    } else {
        out!("{}", printable_lines(&shown::text(comparison)));
        errln!("bief: stored in {}", out.display());
    }
    if comparison.is_well() { exit::OK } else { exit::FOUND }
}

fn printable_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", printable(line))).collect()
}
