//! Where a comparison's matrix is laid out, and where its result goes: one JSON file, whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::matrix_file;
use crate::core::comparison::{Comparison, Machine, Sample};
use crate::ports::frameworks::ComparisonGround;

/// How a sample is got.
pub type TakeSample =
    Arc<dyn Fn() -> futures_util::future::LocalBoxFuture<'static, Result<Sample, String>> + Send + Sync>;

pub struct Ground {
    take: TakeSample,
    /// For the matrix; removed when this is dropped.
    folder: TempDir,
    /// Where results go; nowhere where none is named.
    out: Option<PathBuf>,
}

impl Ground {
    /// `work`: for large files that are removed again.
    pub fn new(take: TakeSample, work: &Path, out: Option<PathBuf>) -> io::Result<Self> {
        fs::create_dir_all(work)?;
        Ok(Self { take, folder: tempfile::Builder::new().prefix("matrix-").tempdir_in(work)?, out })
    }
}

#[async_trait(?Send)]
impl ComparisonGround for Ground {
    async fn sample(&self) -> Result<Sample, String> {
        (self.take)().await
    }

    async fn lay_out(&mut self, sample: &Arc<Sample>, size: u32) -> Result<PathBuf, String> {
        let path = self.folder.path().join("matrix.parquet");
        let (sample, to) = (Arc::clone(sample), path.clone());
        let written = tokio::task::spawn_blocking(move || matrix_file::write(&sample.grown(size), &to)).await;
        let failed = |error: &dyn std::fmt::Display| format!("{} cannot be written: {error}", path.display());
        written.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(path)
    }

    async fn keep(&self, comparison: &Comparison) -> Result<(), String> {
        let Some(out) = &self.out else { return Ok(()) };
        write(out, comparison).map_err(|error| format!("{} cannot be written: {error}", out.display()))
    }
}

/// Stores a comparison.
pub fn write(path: &Path, comparison: &Comparison) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut text = serde_json::to_vec_pretty(comparison)?;
    text.push(b'\n');
    fs::write(&partial, text)?;
    fs::rename(partial, path)
}

/// Reads a stored comparison.
pub fn read(path: &Path) -> io::Result<Comparison> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The stored one where there is one.
pub fn newest(path: &Path) -> io::Result<Option<Comparison>> {
    match read(path) {
        Ok(comparison) => Ok(Some(comparison)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What this is.
pub fn machine() -> Machine {
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (cpu, memory) = (text("/proc/cpuinfo"), text("/proc/meminfo"));
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kibibytes = after(&memory, "MemTotal").and_then(|told| told.split(' ').next()?.parse::<u64>().ok());
    Machine {
        processor: after(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
        memory_bytes: kibibytes.unwrap_or_default() << 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::comparison::{Fitted, MatrixFacts, Outcome, Run, Seconds};

    fn comparison(fitted: Fitted) -> Comparison {
        let (framework, outcome) = ("bief".to_owned(), Outcome::Fitted(Box::new(fitted)));
        Comparison {
            made_at: chrono::DateTime::UNIX_EPOCH,
            version: String::new(),
            revision: String::new(),
            optimised: true,
            machine: machine(),
            matrix: MatrixFacts {
                source: String::new(),
                features: 1,
                train_rows: 1,
                holdout_rows: 1,
                left_out: Vec::new(),
            },
            tolerance: 1e-8,
            frameworks: Vec::new(),
            runs: vec![Run { framework, size: 1, rows: 1, workers: 2, outcome }],
            parity: Vec::new(),
            scaling: Vec::new(),
        }
    }

    #[test]
    fn what_is_stored_is_read_back_to_the_last_digit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compare/newest.json");
        assert!(newest(&path).unwrap().is_none());
        let coefficients: Vec<f64> = (1..2000).map(|at| f64::from(at).sin() * 10f64.powi(at % 40 - 20)).collect();
        let seconds = Seconds { fit: 0.1 + 0.2, ..Seconds::default() };
        let fitted = Fitted { coefficients, workers_had: 1, intercept: 1e-300, seconds, ..Fitted::default() };
        let made = comparison(fitted);
        write(&path, &made).unwrap();
        let found = newest(&path).unwrap().unwrap();
        assert_eq!((&found.runs, &found.machine), (&made.runs, &made.machine));
    }

    #[test]
    fn the_documented_comparison_is_one_that_bief_reads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/comparison.json");
        let documented = newest(&path).unwrap().unwrap();
        assert!(documented.is_well() && documented.runs.len() > 20);
    }
}
