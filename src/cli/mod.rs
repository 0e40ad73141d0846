//! The commands: one file each. They parse, call and answer an exit code; data goes to stdout, prose to stderr.

pub mod exit;
pub mod logging;

mod aggregate_names;
mod check;
mod child_exec;
mod compare;
mod completions;
mod dead_letters;
#[cfg(feature = "embedded")]
mod demo;
mod domain_tests;
mod drill;
mod fit_exec;
mod healthcheck;
mod http_client;
mod man;
mod models;
mod offsets;
mod rebuild;
mod reconcile;
mod rehearsal;
mod replay;
mod run;
mod status;
mod status_document;
mod support;
mod table;
mod tap;
#[cfg(test)]
mod tests;
mod top;
mod train;
mod verify;

pub use crate::core::printable;

use std::io::IsTerminal;

use clap::{CommandFactory, Parser, Subcommand};

/// From Kafka to normalised MySQL tables, exactly once, in one supervised daemon.
#[derive(Debug, Parser)]
#[command(name = "bief", version, max_term_width = 100)]
#[command(after_help = "\
First steps:
  bief demo                the whole pipeline on this machine, nothing installed
  bief check               every mistake of ./actors.toml, and what to write instead
  bief run                 the daemon
  bief verify              the proof that nothing was lost or written twice")]
pub struct Cli {
    /// What is logged: error, warn, info, debug, trace, or directives as in RUST_LOG
    #[arg(long, global = true, value_name = "LEVEL", env = "BIEF_LOG")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline on this machine with nothing installed
    #[cfg(feature = "embedded")]
    Demo(demo::Args),
    /// Run the daemon
    Run(run::Args),
    /// Report every mistake of a configuration at once
    Check(check::Args),
    /// Run a domain's tests: sample records, and the rows and dead letters that they must become
    Test(domain_tests::Args),
    /// Send CSV files to Kafka, with shifted times
    Replay(replay::Args),
    /// Prove that nothing was lost or counted twice
    Verify(verify::Args),
    /// Compare cached documents with the rows, and mend what differs
    Reconcile(reconcile::Args),
    /// Compute an aggregate's documents anew from nothing
    Rebuild(rebuild::Args),
    /// Fit the forecasts' model with four frameworks, and compare what each takes
    Compare(compare::Args),
    /// Fit the forecasts' models, and compare them with the naive ones
    Train(train::Args),
    /// List, show, promote and take back versions of forecasts' models
    Models(models::Args),
    /// Show where each partition stands, and set offsets
    Offsets(offsets::Args),
    /// Inflict faults on daemons of its own at a staging, and prove that nothing was lost or doubled
    Drill(drill::Args),
    /// Show the running daemon's actors, lag and ledger
    Status(status::Args),
    /// Watch the running daemon: actors, queues, lag, and what holds it up
    Top(top::Args),
    /// Show the running daemon's records as they pass
    Tap(tap::Args),
    /// Answer whether the daemon lives, for container images without a shell
    Healthcheck(healthcheck::Args),
    /// List, show, retry, drop and export records that were set aside
    DeadLetters(dead_letters::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write the manual pages
    Man(man::Args),
    /// Guard a program that runs beside the daemon
    #[command(hide = true)]
    ChildExec(child_exec::Args),
    /// Fit a matrix in a process of its own
    #[command(hide = true)]
    FitExec(fit_exec::Args),
}

impl Command {
    /// It prints all trouble itself, and logs only for who asks for it. `top` has the terminal for itself.
    fn tells_all_itself(&self) -> bool {
        use Command::{Check, Completions, Healthcheck, Man, Offsets, Status, Tap, Test, Verify};
        matches!(
            self,
            Check(_) | Completions(_) | Healthcheck(_) | Man(_) | Offsets(_) | Status(_) | Tap(_) | Test(_) | Verify(_)
        )
    }
}

/// The whole command line, for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses, runs, answers the exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing to be done where the terminal is gone.
            let _ = error.print();
            return code;
        }
    };
    let _failpoints = crate::failpoints::from_environment();
    crate::runtime::panics::install();
    match run(&cli) {
        exit::OK if crate::printing::failed() => exit::FAILED,
        code => code,
    }
}

fn run(cli: &Cli) -> u8 {
    let log = cli.log.as_deref();
    if cli.command.tells_all_itself()
        && let Err(code) = support::log_if_asked(log)
    {
        return code;
    }
    match &cli.command {
        #[cfg(feature = "embedded")]
        Command::Demo(args) => demo::run(args, log),
        Command::Run(args) => run::run(args, log),
        Command::Check(args) => check::run(args),
        Command::Test(args) => domain_tests::run(args),
        Command::Replay(args) => replay::run(args, log),
        Command::Verify(args) => verify::run(args),
        Command::Reconcile(args) => reconcile::run(args, log),
        Command::Rebuild(args) => rebuild::run(args, log),
        Command::Compare(args) => compare::run(args, log),
        Command::Train(args) => train::run(args, log),
        Command::Models(args) => models::run(args, log),
        Command::Offsets(args) => offsets::run(args),
        Command::Drill(args) => drill::run(args, log),
        Command::Status(args) => status::run(args, &mut std::io::stdout()),
        Command::Top(args) => top::run(args, &mut std::io::stdout()),
        Command::Tap(args) => tap::run(args, std::io::stdout().is_terminal(), &mut std::io::stdout()),
        Command::Healthcheck(args) => healthcheck::run(args),
        Command::DeadLetters(args) => dead_letters::run(args, log),
        Command::Completions(args) => completions::run(args, &mut command(), &mut std::io::stdout()),
        Command::Man(args) => man::run(args, command(), &mut std::io::stdout()),
        Command::ChildExec(args) => child_exec::run(args),
        Command::FitExec(args) => fit_exec::run(args),
    }
}
