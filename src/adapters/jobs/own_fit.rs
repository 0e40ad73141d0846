//! The job in Rust, `bief fit-exec`: reads the matrix's file, fits it by linfa or by bief's own way, predicts what is held
//! out, and writes the result, by the contract of `ml/README.md` as `ml/contract.py` does for Python. Must never print
//! anything but progress on the standard output.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use ndarray::{Axis, s};

use super::contract::{DONE, FAILED, JobResult, MEMORY, Task, Told, USAGE};
use super::matrix_file::{self, Matrix, ReadError};
use super::own::{LOCK_FILE, version_of};
use crate::core::build::VERSION;
use crate::core::comparison::Framework;
use crate::core::forecast::gram::threads_of;
use crate::core::forecast::linear::{self, Solver};

/// The job's life. Answers its exit code.
pub fn run(framework: Framework, matrix: &Path, settings: &Path) -> u8 {
    let own = matches!(framework, Framework::Linfa | Framework::Bief);
    let task = match read_task(settings) {
        Ok(task) if own => task,
        Ok(_) => return refuse(USAGE, &format!("{} is no part of bief", framework.name())),
        Err(error) => return refuse(USAGE, &format!("{}: {error}", settings.display())),
    };
    let mut phases = Phases::default();
    phases.time("start", || ());
    let rows = match phases.time("load", || matrix_file::read(matrix, &task.features, &task.target)) {
        Ok(read) if task.train_rows <= read.x.nrows() => read,
        Ok(read) => return refuse(USAGE, &format!("{} rows are too few", read.x.nrows())),
        Err(error @ ReadError::Memory(_)) => return refuse(MEMORY, &error.to_string()),
        Err(error) => return refuse(FAILED, &format!("{}: {error}", matrix.display())),
    };
    let written = fit(framework, &task, &rows, &mut phases)
        .and_then(|result| write(&task.result, &result).map_err(|error| format!("{}: {error}", task.result.display())));
    written.map_or_else(|why| refuse(FAILED, &why), |()| DONE)
}

fn refuse(code: u8, why: &str) -> u8 {
    // Nobody may be listening any more.
    let _ = writeln!(io::stderr(), "bief: {why}");
    code
}

fn read_task(path: &Path) -> io::Result<Task> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn fit(framework: Framework, task: &Task, matrix: &Matrix, phases: &mut Phases) -> Result<JobResult, String> {
    let (x, held_out) = matrix.x.view().split_at(Axis(0), task.train_rows);
    let y = matrix.y.slice(s![..task.train_rows]);
    let solution = phases.time("fit", || match framework {
        Framework::Linfa => linear::fit_linfa(x, y),
        _ => linear::fit(x, y, task.workers as usize),
    });
    let solution = solution.map_err(|error| error.to_string())?;
    let predictions = phases.time("predict", || solution.predict(held_out));
    let version = match framework {
        Framework::Linfa => ("linfa-linear".to_owned(), version_of("linfa-linear", LOCK_FILE)),
        _ => ("bief".to_owned(), VERSION.to_owned()),
    };
    let solver = match solution.solver {
        Solver::Cholesky => "Gram matrix and Cholesky",
        Solver::Qr => "QR of the standardised columns",
        Solver::Linfa => "QR",
    };
    let threads = if framework == Framework::Linfa { 1 } else { threads_of(x.nrows(), task.workers as usize) };
    Ok(JobResult {
        versions: BTreeMap::from([version]),
        settings: BTreeMap::new(),
        solver: solver.to_owned(),
        workers: u32::try_from(threads).unwrap_or(u32::MAX),
        coefficients: solution.coefficients.to_vec(),
        intercept: solution.intercept,
        predictions: predictions.to_vec(),
        seconds: std::mem::take(&mut phases.seconds),
    })
}

/// What each phase took, told at its end.
#[derive(Default)]
struct Phases {
    seconds: BTreeMap<String, f64>,
}

impl Phases {
    fn time<T>(&mut self, phase: &str, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let told = Told { phase: phase.to_owned(), seconds: began.elapsed().as_secs_f64() };
        if let Ok(line) = serde_json::to_string(&told) {
            // Where nobody reads, the guardian ends this.
            let _ = writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
        }
        self.seconds.insert(told.phase, told.seconds);
        done
    }
}

/// Whole or not at all.
fn write(path: &Path, result: &JobResult) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_vec(result)?)?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::core::comparison::{Sample, difference};

    const TRAIN: usize = 400;

    /// A plane, as a file.
    fn matrix() -> (TempDir, Sample) {
        let mut sample = Sample::generated(500, 3, 500 - TRAIN);
        for row in 0..500 {
            let x = &sample.x[row * 3..row * 3 + 3];
            sample.y[row] = 2.0 * x[0] - 3.0 * x[1] + 0.5 * x[2] + 7.0;
        }
        let folder = tempfile::tempdir().unwrap();
        matrix_file::write(&sample.grown(1), &folder.path().join("matrix.parquet")).unwrap();
        (folder, sample)
    }

    fn run_in(folder: &TempDir, framework: Framework, train_rows: usize) -> (u8, Option<JobResult>) {
        let [matrix, settings, result] =
            ["matrix.parquet", "settings.json", "result.json"].map(|name| folder.path().join(name));
        let task = Task {
            features: ["x0", "x1", "x2"].map(str::to_owned).to_vec(),
            target: "target".to_owned(),
            train_rows,
            workers: 2,
            result: result.clone(),
        };
        fs::write(&settings, serde_json::to_vec(&task).unwrap()).unwrap();
        let code = run(framework, &matrix, &settings);
        (code, fs::read(result).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    #[test]
    fn both_find_the_plane_that_the_target_lies_in_and_tell_what_they_took() {
        let (folder, sample) = matrix();
        for framework in [Framework::Linfa, Framework::Bief] {
            let (code, result) = run_in(&folder, framework, TRAIN);
            let result = result.unwrap();
            assert_eq!(code, DONE);
            assert!(difference(&result.coefficients, &[2.0, -3.0, 0.5]) < 1e-9, "{:?}", result.coefficients);
            assert!(difference(&result.predictions, &sample.y[TRAIN..]) < 1e-9);
            let phases: Vec<_> = result.seconds.keys().map(String::as_str).collect();
            assert_eq!(phases, ["fit", "load", "predict", "start"]);
            // Of the two that were asked for: each thread wants more rows than there are.
            assert_eq!(result.workers, 1);
        }
    }

    #[test]
    fn what_it_cannot_do_is_an_exit_code_and_leaves_no_result() {
        let (folder, _) = matrix();
        assert!(matches!(run_in(&folder, Framework::Bief, 501), (USAGE, None)));
        assert!(matches!(run_in(&folder, Framework::DaskMl, TRAIN), (USAGE, None)));
        assert!(matches!(run_in(&folder, Framework::Linfa, 2), (FAILED, None)));
        fs::write(folder.path().join("matrix.parquet"), "no Parquet").unwrap();
        assert!(matches!(run_in(&folder, Framework::Linfa, TRAIN), (FAILED, None)));
        assert_eq!(run(Framework::Linfa, Path::new("/nowhere"), Path::new("/nowhere")), USAGE);
    }
}
