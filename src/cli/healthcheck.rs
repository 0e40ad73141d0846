//! `bief healthcheck`: asks a running daemon whether it lives, for images that hold no shell and no curl. Shows the
//! daemon's token to nobody: probes need none.

use std::time::Duration;

use super::exit;
use super::http_client::{AskError, Daemon};
use super::printable::printable;

const EXAMPLES: &str = "\
Examples:
  bief healthcheck -c /etc/bief/actors.toml
  bief healthcheck --url http://127.0.0.1:8080 --ready
  HEALTHCHECK CMD [\"/bief\", \"healthcheck\", \"-c\", \"/etc/bief/actors.toml\"]

Exit codes: 0 well, 2 wrong address or configuration, 5 not well or no answer";

/// Ask a running daemon whether it lives (GET /livez); exit code 0 says yes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,

    /// Ask whether it is ready instead (GET /readyz), which its database, broker and cache decide
    #[arg(long)]
    ready: bool,

    /// Wait at most so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

#[cfg(test)]
impl Args {
    pub(super) fn of(daemon: Daemon, ready: bool) -> Self {
        Self { daemon, ready, timeout: 5 }
    }
}

/// Prints nothing when the daemon is well, else the reason to stderr.
pub fn run(args: &Args) -> u8 {
    let path = if args.ready { "/readyz" } else { "/livez" };
    match args.daemon.probe(path, Duration::from_secs(args.timeout)) {
        Ok(answer) if answer.status == 200 => exit::OK,
        Ok(answer) => {
            errln!("{path} answered {}", answer.status);
            answer.body.lines().for_each(|line| errln!("  {}", printable(line)));
            if answer.body.trim() == "not ready" {
                errln!("  `bief status` tells the causes, with the daemon's token");
            }
            exit::NOT_READY
        }
        Err(error @ AskError::Usage(_)) => {
            errln!("{}", printable(&error.to_string()));
            exit::USAGE
        }
        Err(error) => {
            errln!("{}", printable(&error.to_string()));
            exit::NOT_READY
        }
    }
}
