//! Words for whoever started the process. Must never panic: std's own macros do where a reader has gone or a disk is
//! full, and what a command did, or a daemon is, does not depend on who reads of it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Something that was meant for stdout was not taken, and not because its reader had gone.
static FAILED: AtomicBool = AtomicBool::new(false);

/// As `print!`.
macro_rules! out {
    ($($what:tt)*) => { $crate::printing::to_stdout(format_args!($($what)*)) };
}

/// As `println!`.
macro_rules! outln {
    ($($what:tt)*) => { $crate::printing::to_stdout(format_args!("{}\n", format_args!($($what)*))) };
}

/// As `eprint!`.
macro_rules! err {
    ($($what:tt)*) => { $crate::printing::to_stderr(format_args!($($what)*)) };
}

/// As `eprintln!`.
macro_rules! errln {
    ($($what:tt)*) => { $crate::printing::to_stderr(format_args!("{}\n", format_args!($($what)*))) };
}

pub(crate) fn to_stdout(what: Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    match stdout.write_fmt(what).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        // `… | head` has what it wants.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            if !FAILED.swap(true, Ordering::Relaxed) {
                errln!("bief: stdout does not take what is printed: {error}");
            }
        }
    }
}

pub(crate) fn to_stderr(what: Arguments<'_>) {
    // There is no other place to tell it.
    let _ = io::stderr().lock().write_fmt(what);
}

/// The answer of a command that printed to stdout and did its work is not whole.
pub(crate) fn failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}
