//! `bief fit-exec`, hidden: a fit by linfa or by bief's own way in a process of its own. Nobody calls it by hand.

use std::path::PathBuf;

use crate::adapters::jobs::own_fit;
use crate::core::comparison::Framework;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// linfa or bief
    framework: Framework,
    /// The matrix, a Parquet file
    matrix: PathBuf,
    /// What is to be done, as JSON
    settings: PathBuf,
}

pub fn run(args: &Args) -> u8 {
    own_fit::run(args.framework, &args.matrix, &args.settings)
}
