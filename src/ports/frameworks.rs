//! The port of what fits a matrix, a framework in a process beside this one; and of where the matrix comes from and the
//! comparison goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::core::comparison::{Comparison, Facts, Framework, Outcome, Sample};

/// One matrix to fit.
#[derive(Debug, Clone)]
pub struct FitJob {
    pub sample: Arc<Sample>,
    /// How often the sample's rows are repeated.
    pub size: u32,
    /// The same matrix as a file.
    pub file: PathBuf,
    /// How many may work at once.
    pub workers: u32,
    pub time_limit: Duration,
    /// Bytes of the whole process tree.
    pub memory_limit: Option<u64>,
}

/// A framework. What it starts must be gone when a fit has ended or was cancelled.
#[async_trait(?Send)]
pub trait FitFramework {
    /// Which it is.
    fn framework(&self) -> Framework;

    /// What there is to know of it without a fit.
    async fn facts(&self) -> Facts;

    /// Whether it can use more than one worker.
    fn is_parallel(&self) -> bool;

    /// Fits and predicts. What goes wrong is an outcome too.
    async fn fit(&self, job: &FitJob, cancel: &CancellationToken) -> Outcome;
}

/// Opens a framework on the actor's own thread.
pub type OpenFramework = Arc<dyn Fn() -> Box<dyn FitFramework> + Send + Sync>;

/// Where matrices come from, and comparisons go.
#[async_trait(?Send)]
pub trait ComparisonGround {
    /// The matrix of size 1.
    async fn sample(&self) -> Result<Sample, String>;

    /// The matrix of this size as a Parquet file, which stays until another size is asked for, or this is dropped.
    async fn lay_out(&mut self, sample: &Arc<Sample>, size: u32) -> Result<PathBuf, String>;

    /// Stores it.
    async fn keep(&self, comparison: &Comparison) -> Result<(), String>;
}

/// Opens it on the actor's own thread.
pub type OpenGround = Arc<dyn Fn() -> Result<Box<dyn ComparisonGround>, String> + Send + Sync>;
