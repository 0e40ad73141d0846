//! `bief child-exec`, hidden: what stands between the daemon and a program that it runs. Nobody calls it by hand.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::runtime::child::guardian::{self, Guarded};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the account of the child is written
    #[arg(long, value_name = "FILE", required_unless_present = "enter")]
    account: Option<PathBuf>,
    /// Become the child of this guardian
    #[arg(long, value_name = "PID")]
    enter: Option<i32>,
    /// Bytes that the whole process tree may take
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// Added to the niceness
    #[arg(long, value_name = "N", default_value_t = 0)]
    nice: u8,
    /// Program and arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(args: &Args) -> u8 {
    let Args { account, enter, memory, nice, command } = args;
    if let Some(pid) = enter {
        return guardian::enter(*pid, *memory, *nice, command);
    }
    let account = account.clone().unwrap_or_default();
    guardian::guard(&Guarded { account, memory: *memory, nice: *nice, command: command.clone() })
}
