//! What fitting a model takes: bief's fit beside the Gram product alone and beside scikit-learn, in turns over the same file.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{TrainArguments, build, cores};
use crate::shell;

/// scikit-learn's fit of the same file, timed as the Rust program times its own: the fastest of three after one.
const SKLEARN: &str = r#"
import json, sys, time
import numpy, sklearn
from sklearn.linear_model import LinearRegression
file, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
table = numpy.fromfile(file).reshape(rows, columns + 1)
x, y = numpy.ascontiguousarray(table[:, :columns]), numpy.ascontiguousarray(table[:, columns])
del table
def fastest(work, times=3):
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - began)
    return min(seconds), answer
seconds, model = fastest(lambda: LinearRegression().fit(x, y))
gram, _ = fastest(lambda: x.T @ x)
print(json.dumps({
    "seconds": seconds, "gram": gram, "version": sklearn.__version__, "numpy": numpy.__version__,
    "coefficients": model.coef_.tolist(), "intercept": float(model.intercept_),
}))
"#;

/// Runs it; the figures are medians of the rounds.
pub fn run(arguments: &TrainArguments) -> Result<Value> {
    let program = build(&["--example", "fit"])?.join("examples/fit");
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let file = folder.path().join("matrix");
    let (rows, columns) = (arguments.rows.to_string(), arguments.columns.to_string());
    eprintln!("writing {rows} rows of {columns} features");
    shell::run(Command::new(&program).arg("make").arg(&file).args([&rows, &columns]))?;
    let python = sklearn(arguments.python.as_deref())?;
    let threads = cores().to_string();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let mut command = Command::new(&program);
        ours.push(answer(command.arg("time").arg(&file).args([&rows, &columns, &threads]))?);
        if let Ok(python) = &python {
            let mut command = Command::new(python);
            theirs.push(answer(command.args(["-c", SKLEARN]).arg(&file).args([&rows, &columns]))?);
        }
        eprintln!("round {round} of {} is done", arguments.rounds);
    }
    let of = |key: &str| median(ours.iter().map(|round| &round[key]));
    let (gram, one, several, linfa) = (of("gram"), of("one_thread"), of("threads"), of("linfa"));
    println!("{rows} rows of {columns} features, {} cores, median of {} rounds", cores(), arguments.rounds);
    println!("Gram product alone, ndarray dot            {gram:8.3} s");
    println!("bief's fit, 1 thread                       {one:8.3} s  {:.2} x the product", one / gram);
    println!("bief's fit, {threads} threads                      {several:8.3} s  {:.2} x the product", several / gram);
    println!("linfa-linear alone                         {linfa:8.3} s  {:.2} x the product", linfa / gram);
    println!("largest relative difference to linfa's coefficients: {}", ours[0]["from_linfa"]);
    let mut result = json!({
        "rows": arguments.rows, "columns": arguments.columns, "cores": cores(), "rounds": arguments.rounds,
        "gram_seconds": gram, "fit_1_thread_seconds": one, "fit_seconds": several, "threads": cores(),
        "linfa_seconds": linfa, "from_linfa": ours[0]["from_linfa"],
    });
    match python {
        Err(absent) => {
            println!("scikit-learn was not measured: {absent}");
            result["sklearn"] = json!({ "absent": absent });
        }
        Ok(_) => {
            let seconds = median(theirs.iter().map(|round| &round["seconds"]));
            let product = median(theirs.iter().map(|round| &round["gram"]));
            let (version, apart) = (&theirs[0]["version"], apart(&ours[0], &theirs[0]));
            println!("scikit-learn {version} LinearRegression  {seconds:8.3} s  {:.1} x bief's", seconds / several);
            println!("Gram product by its numpy                  {product:8.3} s");
            println!("largest relative difference to scikit-learn's coefficients: {apart:e}");
            result["sklearn"] = json!({
                "version": version, "numpy": theirs[0]["numpy"], "seconds": seconds, "gram_seconds": product,
                "difference": apart,
            });
        }
    }
    Ok(result)
}

/// A Python that has scikit-learn, or why there is none.
fn sklearn(python: Option<&Path>) -> Result<Result<PathBuf, String>> {
    let Some(python) = python else {
        return Ok(Err("name a Python that has it with --python, such as that of a venv after \
            `pip install scikit-learn`"
            .to_owned()));
    };
    let asked = Command::new(python).args(["-c", "import sklearn"]).output();
    let asked = asked.with_context(|| format!("cannot run {}", python.display()))?;
    Ok(match asked.status.success() {
        true => Ok(python.to_path_buf()),
        false => Err(format!("{} has none: `pip install scikit-learn` there", python.display())),
    })
}

fn answer(command: &mut Command) -> Result<Value> {
    let printed = shell::output(command)?;
    serde_json::from_str(&printed).with_context(|| format!("cannot read the answer {printed:?}"))
}

/// The largest relative difference of two coefficients.
fn apart(one: &Value, other: &Value) -> f64 {
    let list = |of: &Value| -> Vec<f64> {
        of["coefficients"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    list(one).into_iter().zip(list(other)).map(|(a, b)| ((a - b) / b).abs()).fold(0.0, f64::max)
}

fn median<'v>(values: impl Iterator<Item = &'v Value>) -> f64 {
    let mut values: Vec<f64> = values.filter_map(Value::as_f64).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
