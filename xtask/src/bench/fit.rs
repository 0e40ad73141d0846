//! What a fit takes beside the Gram product alone, for `cargo xtask bench train`: a program of its own, as it uses the crate.
//!
//! `fit make FILE ROWS COLUMNS` writes a matrix, `fit time FILE ROWS COLUMNS THREADS` tells seconds as JSON. The file holds
//! doubles in this machine's order, row by row, the truth as the last column.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use bief::core::forecast::linear::{FitError, Solution, fit, fit_linfa};
use ndarray::{Array2, s};

/// Each is measured so many times after one that warms up, and its fastest counts: what else the machine does only adds.
const TIMES: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    let outcome = match arguments[..] {
        ["make", file, rows, columns] => {
            number(rows).and_then(|rows| make(file, rows, number(columns)?).map_err(|e| e.to_string()))
        }
        ["time", file, rows, columns, threads] => number(rows)
            .and_then(|rows| time(file, rows, number(columns)?, number(threads)?).map(|seconds| println!("{seconds}"))),
        _ => Err("fit make FILE ROWS COLUMNS | fit time FILE ROWS COLUMNS THREADS".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Columns of different height and width, and a truth of all of them with noise; the same each time.
fn make(file: &str, rows: usize, columns: usize) -> std::io::Result<()> {
    let mut state = 42_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    for _ in 0..rows {
        let mut truth = 7.0 + next();
        for column in 0..columns {
            let scale = 1.0 + column as f64;
            let value = scale * (next() + column as f64 / 10.0);
            truth += value / scale;
            out.write_all(&value.to_ne_bytes())?;
        }
        out.write_all(&truth.to_ne_bytes())?;
    }
    out.flush()
}

fn time(file: &str, rows: usize, columns: usize, threads: usize) -> Result<String, String> {
    let table = read(file, rows, columns + 1).map_err(|error| format!("{file}: {error}"))?;
    let x = table.slice(s![.., ..columns]).to_owned();
    let y = table.column(columns).to_owned();
    drop(table);
    let (gram, _) = fastest(|| Ok::<_, FitError>(black_box(x.t().dot(&x))))?;
    let (one, solution) = fastest(|| fit(x.view(), y.view(), 1))?;
    let (several, _) = fastest(|| fit(x.view(), y.view(), threads))?;
    // Once: it takes long, and copies the matrix twice.
    let began = Instant::now();
    let linfa = fit_linfa(x.view(), y.view()).map_err(|error| error.to_string())?;
    let linfa_seconds = began.elapsed().as_secs_f64();
    let apart = apart(&solution, &linfa);
    let list = |solution: &Solution| solution.coefficients.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
    Ok(format!(
        "{{\"gram\":{gram},\"one_thread\":{one},\"threads\":{several},\"linfa\":{linfa_seconds},\
         \"from_linfa\":{apart:e},\"coefficients\":[{}],\"intercept\":{}}}",
        list(&solution),
        solution.intercept
    ))
}

/// The largest relative difference of two coefficients.
fn apart(one: &Solution, other: &Solution) -> f64 {
    let pairs = one.coefficients.iter().zip(&other.coefficients);
    pairs.map(|(a, b)| ((a - b) / b).abs()).fold(0.0, f64::max)
}

fn fastest<T, E: std::fmt::Display>(mut work: impl FnMut() -> Result<T, E>) -> Result<(f64, T), String> {
    let mut answer = work().map_err(|error| error.to_string())?;
    let mut least = f64::INFINITY;
    for _ in 0..TIMES {
        let began = Instant::now();
        answer = work().map_err(|error| error.to_string())?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok((least, answer))
}

fn read(file: &str, rows: usize, columns: usize) -> std::io::Result<Array2<f64>> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut table = Array2::zeros((rows, columns));
    let mut bytes = [0; 8];
    for value in &mut table {
        input.read_exact(&mut bytes)?;
        *value = f64::from_ne_bytes(bytes);
    }
    Ok(table)
}
