//! The `bief` command: parse, call, exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(bief::cli::main())
}
