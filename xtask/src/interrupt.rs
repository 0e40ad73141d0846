//! SIGINT and SIGTERM: the first is noticed and everything is taken down in order; a second ends this process at
//! once, and the guard's shell takes the servers down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// 128 and the signal's number, as shells say it; 130 for both, since which one it was makes no difference here.
pub const EXIT_CODE: u8 = 130;

/// Why a task ended before its end.
#[derive(Debug)]
pub struct Interrupted;

impl std::error::Error for Interrupted {}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted; everything that was started has ended")
    }
}

/// An error once a signal came.
pub fn check(interrupted: &AtomicBool) -> Result<(), Interrupted> {
    if interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
}

/// A flag that is true once a signal came.
pub fn watch() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: this one sees the flag that the next one sets at the signal before.
        flag::register_conditional_shutdown(signal, i32::from(EXIT_CODE), Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .context("cannot watch for signals")?;
    }
    Ok(interrupted)
}
