//! A comparison as text for a terminal.

use crate::actors::comparer::Progress;
use crate::cli::table::{Align, Table, grouped};
use crate::core::comparison::{Comparison, Outcome, Parity, Run};

/// Lines of a failed job's last words.
const LAST_WORDS: usize = 12;

fn count(n: u64) -> String {
    grouped(i64::try_from(n).unwrap_or(i64::MAX))
}

/// In one line.
pub fn progress(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Sample(sample) => format!(
            "{}: {} rows of {} features are fitted, {} are held out",
            sample.source,
            count(sample.train_rows as u64),
            sample.width(),
            count(sample.holdout_rows() as u64)
        ),
        Progress::LaidOut { size, rows } => format!("size {size}: {} rows are laid out", count(*rows as u64)),
        Progress::Begins { framework, size, workers } => {
            format!("{}, size {size}, {} begins", framework.name(), workers_text(*workers))
        }
        Progress::Ended(run) => format!("{}: {}", label(run), outcome(run)),
    }
}

fn label(run: &Run) -> String {
    format!("{}, size {}, {}", run.framework, run.size, workers_text(run.workers))
}

fn workers_text(workers: u32) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}

/// As asked for, and how many there were where that is another number.
fn workers_of(run: &Run) -> String {
    match &run.outcome {
        Outcome::Fitted(fitted) if fitted.workers_had != run.workers => {
            format!("{} (had {})", run.workers, fitted.workers_had)
        }
        _ => run.workers.to_string(),
    }
}

fn outcome(run: &Run) -> String {
    match &run.outcome {
        Outcome::Fitted(fitted) => {
            let seconds = &fitted.seconds;
            format!("fitted in {:.2} s, {:.2} s from start to end", seconds.fit, seconds.wall)
        }
        Outcome::Absent { why } => format!("ABSENT: {why}"),
        Outcome::Failed { why, .. } => format!("FAILED: {why}"),
    }
}

/// All of it.
pub fn text(comparison: &Comparison) -> String {
    let mut table = Table::new(&[
        ("FRAMEWORK", Align::Left),
        ("SIZE", Align::Right),
        ("WORKERS", Align::Right),
        ("START-UP s", Align::Right),
        ("LOAD s", Align::Right),
        ("FIT s", Align::Right),
        ("PREDICT s", Align::Right),
        ("WHOLE s", Align::Right),
        ("CPU s", Align::Right),
        ("PEAK MiB", Align::Right),
        ("PARITY", Align::Left),
    ]);
    for run in &comparison.runs {
        let head = [run.framework.clone(), run.size.to_string(), workers_of(run)];
        let Outcome::Fitted(fitted) = &run.outcome else {
            let mut cells = head.to_vec();
            cells.resize(10, "-".to_owned());
            cells.push(if matches!(run.outcome, Outcome::Absent { .. }) { "absent" } else { "failed" }.to_owned());
            table.row(cells);
            continue;
        };
        let of = &fitted.seconds;
        let seconds = [of.start_up, of.load, of.fit, of.predict, of.wall, fitted.cpu_seconds];
        let rest = [count(fitted.peak_memory_bytes >> 20), verdict(comparison, run)];
        table.row(head.into_iter().chain(seconds.map(|s| format!("{s:.3}"))).chain(rest));
    }
    let mut out = table.render();
    for scaling in &comparison.scaling {
        out += &format!(
            "{}, {}: the fit's time grows as rows^{:.2}, the whole as rows^{:.2}\n",
            scaling.framework,
            workers_text(scaling.workers),
            scaling.fit_exponent,
            scaling.wall_exponent
        );
    }
    for run in &comparison.runs {
        if let Outcome::Failed { stderr, .. } = &run.outcome {
            out += &format!("{}: {}\n", label(run), outcome(run));
            let lines: Vec<_> = stderr.lines().collect();
            lines[lines.len().saturating_sub(LAST_WORDS)..].iter().for_each(|line| out += &format!("  {line}\n"));
        }
    }
    for facts in &comparison.frameworks {
        if let Some(why) = &facts.absent {
            out += &format!("{} is absent: {why}\n", facts.framework);
        }
    }
    for run in &comparison.runs {
        if let Outcome::Fitted(fitted) = &run.outcome {
            fitted.remarks.iter().for_each(|remark| out += &format!("{}: {remark}\n", label(run)));
        }
    }
    out + &format!(
        "{}, {}, tolerance {:.0e}\n",
        if comparison.is_well() { "all fitted and agree" } else { "NOT all fitted and agree" },
        if comparison.optimised { "optimised build" } else { "build without optimisation: linfa's times mean nothing" },
        comparison.tolerance
    )
}

fn verdict(comparison: &Comparison, run: &Run) -> String {
    let of_run = |p: &&Parity| p.framework == run.framework && p.size == run.size && p.workers == run.workers;
    match comparison.parity.iter().find(of_run) {
        None => "the reference".to_owned(),
        Some(parity) => {
            let largest = parity.coefficients.max(parity.predictions);
            format!("{} {largest:.1e}", if parity.agrees { "yes" } else { "NO" })
        }
    }
}
