//! `bief drill`: daemons, a topic and a database of its own on a staging of the user's, faults one after the other
//! while records are produced, and the proof that each record is in the tables once. Must never touch what it did not
//! make, and must not begin without being told that this is a staging.

mod faults;
mod fleet;
mod hook;
mod load;
mod report;
mod staging;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::faults::{Aftermath, Drill, Means};
use self::report::Report;
use self::staging::Ground;
use super::exit;
use super::support::{fail, load as load_config, log_command, print_json};
use crate::core::drill::tally::Outcome;
use crate::core::drill::{self, Kind, Need};
use crate::core::printable::printable;

/// How often a fault is tried that finds nothing to hit, with other numbers each time.
const TRIES: usize = 4;
/// Columns; clap breaks longer lines, without a look at their indent.
const HELP_WIDTH: usize = 100;

#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// Configuration that names the staging's servers; streams and tables in it are not used
    #[arg(short, long, value_name = "FILE", default_value = "actors.toml")]
    config: PathBuf,
    /// Confirm that these servers may be put under load and faults
    #[arg(long)]
    yes_this_is_staging: bool,
    /// How many faults
    #[arg(long, value_name = "N", default_value_t = drill::FAULTS)]
    faults: usize,
    /// The seed of the faults' sequence and of the records; drawn and told where none is given
    #[arg(long, value_name = "S", env = "BIEF_SEED")]
    seed: Option<u64>,
    /// Only these kinds of faults
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Daemons that share the topic
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    daemons: u64,
    /// Seconds after the end of a fault within which all must be in the tables; else it counts as stuck. A restart ends
    /// when the server answers again
    #[arg(long, value_name = "S", default_value_t = 120)]
    patience: u64,
    /// Shell command that kills the broker and starts it again; without it that fault is left out
    #[arg(long, value_name = "CMD")]
    broker_restart: Option<String>,
    /// Shell command that kills the database and starts it again; without it that fault is left out
    #[arg(long, value_name = "CMD")]
    database_restart: Option<String>,
    /// Make the whole MySQL server read-only (super_read_only) for that fault, rather than have the proxy answer so; no
    /// effect on MariaDB, which has no such thing. Under TLS there is no read-only without it
    #[arg(long)]
    server_read_only: bool,
    /// Keep topic, database, configuration and the daemons' logs
    #[arg(long)]
    keep: bool,
    /// Print the result as one JSON object, in the last line
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    let mut text = EXAMPLES.to_owned();
    for kind in Kind::ALL {
        let mut line = format!("  {:<20}", kind.name());
        for word in kind.describe().split(' ') {
            if line.chars().count() + 1 + word.chars().count() > HELP_WIDTH {
                text += &line;
                line = format!("\n{:<22}", "");
            }
            line = line + " " + word;
        }
        text += &line;
        text.push('\n');
    }
    text + PLACE
}

const EXAMPLES: &str = "\
Examples:
  bief drill -c staging.toml --yes-this-is-staging
  bief drill -c staging.toml --yes-this-is-staging --faults 200 --seed 7 --json
  bief drill -c staging.toml --yes-this-is-staging --kinds daemon-kill,commit-answer-cut
  bief drill -c staging.toml --yes-this-is-staging --database-restart 'docker restart -s KILL mysql'

Kinds of faults:
";
const PLACE: &str = "
Takes [kafka] and the server of [warehouse] from the configuration. Makes a topic bief-drill-ID, a \
database bief_drill_ID and the consumer group bief-drill-ID-drill, and removes at the end what it \
made. Kafka's account needs CREATE, DELETE, READ, WRITE and DESCRIBE on the topic, READ and DELETE on \
the group; the database's ALL on `bief\\_drill\\_%`.*. Daemons reach the database through a proxy in \
this process, which cuts and slows their connections; under warehouse.tls = \"require\" it cannot see \
statements, and kinds that wait for one are left out.

Exit codes: 0 nothing lost, doubled or stuck, 1 the drill could not be held or no fault hit anything, \
2 usage or configuration, 3 something lost, doubled or stuck, a dead letter, or a finding of verify, \
130 stopped by a signal (topic, database and folder are removed first)";

pub fn run(args: &Args, log: Option<&str>) -> u8 {
    if let Err(code) = log_command(log) {
        return code;
    }
    let loaded = match load_config(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if !args.yes_this_is_staging {
        errln!(
            "bief: a drill puts the servers of {} under load and faults, beside a topic and a database of its own; \
             nothing was done. If they are a staging, add --yes-this-is-staging",
            args.config.display()
        );
        return exit::USAGE;
    }
    if let Err(error) = staging::refuse(&loaded.config) {
        errln!("bief: {}: {error}; nothing was done", args.config.display());
        return exit::USAGE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(args.json, &format!("no runtime can be made: {error}")),
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    runtime.spawn(watch_signals(Arc::clone(&interrupted)));
    let mut ground = match Ground::make(&runtime, &loaded.config) {
        Ok(ground) => ground,
        Err(error) => return fail(args.json, &error),
    };
    let held = hold(args, &runtime, &ground, &interrupted);
    let problem = matches!(&held, Ok(report) if !report.is_well());
    if args.keep {
        errln!("bief: kept: {}", ground.describe());
    } else {
        // Logs are worth keeping where there is something to find out.
        for left in ground.remove(&runtime, matches!(held, Err(Stop::Failed(_))) || problem) {
            errln!("bief: {}", printable(&left));
        }
    }
    match held {
        Ok(report) => {
            if args.json {
                print_json(&report);
            } else {
                out!("{}", report.text());
            }
            match (report.is_well(), report.faults) {
                (false, _) => exit::FOUND,
                (true, 0) => {
                    errln!("bief: no fault hit anything; the drill proves nothing");
                    exit::FAILED
                }
                (true, _) => exit::OK,
            }
        }
        Err(Stop::Interrupted) => {
            fail(args.json, "stopped by a signal; the drill proves nothing");
            exit::INTERRUPTED
        }
        Err(Stop::Failed(error)) => fail(args.json, &error),
    }
}

async fn watch_signals(interrupted: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        return;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {}, _ = hangup.recv() => {} }
    interrupted.store(true, Ordering::Relaxed);
    errln!("bief: stopping the drill and removing what it made");
}

/// Why a drill ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    Interrupted,
    Failed(String),
}

impl From<String> for Stop {
    fn from(error: String) -> Self {
        Stop::Failed(error)
    }
}

/// The kinds that can be inflicted here, and those left out, with why.
fn choose(args: &Args, means: &Means) -> (Vec<Kind>, Vec<(Kind, &'static str)>) {
    let wanted = if args.kinds.is_empty() { Kind::ALL.to_vec() } else { args.kinds.clone() };
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for kind in wanted {
        let why = match kind.need() {
            Need::Packets if kind == Kind::ReadOnly && means.server_read_only => None,
            Need::Packets if !means.packets => Some("the database is reached by TLS, which hides statements"),
            Need::Failpoints if !cfg!(feature = "failpoints") => Some("this build has no failpoints"),
            Need::BrokerRestart if args.broker_restart.is_none() => Some("no --broker-restart was given"),
            Need::DatabaseRestart if args.database_restart.is_none() => Some("no --database-restart was given"),
            _ if kind == Kind::CutMidLoad && !means.loads => Some("the server takes no LOAD DATA LOCAL"),
            _ => None,
        };
        match why {
            Some(why) => left_out.push((kind, why)),
            None => chosen.push(kind),
        }
    }
    (chosen, left_out)
}

fn hold(
    args: &Args,
    runtime: &tokio::runtime::Runtime,
    ground: &Ground,
    interrupted: &Arc<AtomicBool>,
) -> Result<Report, Stop> {
    let began = Instant::now();
    let means = Means::find(runtime, ground, args.server_read_only)?;
    let (kinds, left_out) = choose(args, &means);
    if kinds.is_empty() {
        return Err(Stop::Failed("none of the wanted kinds of faults can be inflicted here".to_owned()));
    }
    let seed = args.seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    errln!("bief: drill {}, seed {seed}: {} faults of {} kinds", ground.id(), args.faults, kinds.len());
    for (kind, why) in &left_out {
        errln!("bief: left out: {}: {why}", kind.name());
    }
    let sequence = drill::sequence(seed, args.faults, &kinds);
    let mut drill = Drill::begin(args, runtime, ground, means, seed, interrupted)?;
    drill.settle()?;
    let (mut outcomes, mut not_applied) = (Vec::new(), 0);
    let mut tries = sequence.into_iter().enumerate().map(|(at, fault)| (at, fault, 1)).collect::<VecDeque<_>>();
    while let Some((at, mut fault, tried)) = tries.pop_front() {
        let kind = fault.kind;
        let (from_record, doubled_before) = (drill.load.acknowledged(), drill.doubled());
        drill.complete_fleet()?;
        let told = drill.inflict(kind, &mut fault.dice)?;
        let recovered_seconds = drill.recover(Duration::from_secs(args.patience))?;
        let doubled = drill.doubled().saturating_sub(doubled_before);
        let aftermath = match recovered_seconds {
            Some(seconds) => format!("recovered in {seconds:.1} s"),
            None => "STUCK".to_owned(),
        };
        errln!("bief: {:>3}/{} {}: {}; {aftermath}", at + 1, args.faults, kind.name(), told.words);
        if recovered_seconds.is_none() {
            err!("{}", drill.fleet.last_words());
            drill.start_over()?;
        }
        if told.applied || recovered_seconds.is_none() || doubled > 0 {
            outcomes.push(Outcome { kind, from_record, recovered_seconds, doubled });
        } else if tried < TRIES {
            tries.push_front((at, fault, tried + 1));
        } else {
            not_applied += 1;
        }
    }
    let Aftermath { records, difference, duplicates, dead_letters, stuck, unexpected_ends, proof } =
        drill.finish(Duration::from_secs(args.patience))?;
    Ok(Report::new(report::Findings {
        id: ground.id().to_owned(),
        seed,
        records,
        seconds: began.elapsed().as_secs_f64(),
        outcomes,
        not_applied,
        left_out,
        difference,
        duplicates,
        dead_letters,
        stuck_at_end: stuck,
        unexpected_ends,
        proof,
    }))
}
