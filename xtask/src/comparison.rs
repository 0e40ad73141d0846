//! `cargo xtask comparison`: tables and plots of a stored comparison, put into `docs/comparison.md` between its two marks.
//! What is written around them is people's, and is left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use serde_json::Value;

const BEGIN: &str = "<!-- made by `cargo xtask comparison`: begin -->";
const END: &str = "<!-- made by `cargo xtask comparison`: end -->";
/// What is a part of bief.
const OWN: [&str; 2] = ["linfa", "bief"];
const SIZE: (u32, u32) = (860, 420);
/// Of it, for the names of the lines.
const LEGEND: u32 = 170;

#[derive(clap::Args)]
pub struct Arguments {
    /// What `bief compare --out` wrote.
    #[arg(long, default_value = "docs/comparison.json")]
    from: PathBuf,
    /// The page.
    #[arg(long, default_value = "docs/comparison.md")]
    page: PathBuf,
    /// Where the plots go.
    #[arg(long, default_value = "docs/images")]
    images: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { from, page, images } = arguments;
    let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let comparison: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no comparison", from.display()))?;
    let runs = runs(&comparison);
    if runs.is_empty() {
        bail!("{} holds no fit", from.display());
    }
    let plot = |name: &str, title: &str, unit: &str, of: fn(&Run) -> f64| {
        draw(&images.join(format!("comparison-{name}.svg")), title, unit, &lines(&runs, of))
    };
    plot("fit", "Time of the fit", "s", |run| run.fit)?;
    plot("whole", "From start to end: start-up, loading, fit, prediction", "s", |run| run.wall)?;
    plot("memory", "Peak memory of the whole process tree", "MiB", |run| run.memory)?;
    draw_start_up(&images.join("comparison-start-up.svg"), &runs)?;
    let old = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let (Some((before, _)), Some((_, after))) = (old.split_once(BEGIN), old.split_once(END)) else {
        bail!("{} lacks the marks between which the figures go", page.display());
    };
    fs::write(page, format!("{before}{BEGIN}\n\n{}\n{END}{after}", figures(&comparison, &runs)))?;
    Ok(())
}

/// A fit that came to a model.
struct Run {
    framework: String,
    solver: String,
    size: u64,
    rows: f64,
    /// As asked for.
    workers: u64,
    /// Where there were so many in place of them.
    had: Option<u64>,
    start_up: f64,
    load: f64,
    fit: f64,
    predict: f64,
    wall: f64,
    cpu: f64,
    /// MiB.
    memory: f64,
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn runs(comparison: &Value) -> Vec<Run> {
    let fitted = list(&comparison["runs"]).iter().filter(|run| run["outcome"] == "fitted");
    let read = fitted.map(|run| {
        let seconds = |name: &str| number(&run["seconds"][name]);
        Run {
            framework: text(&run["framework"]),
            solver: text(&run["solver"]),
            size: run["size"].as_u64().unwrap_or_default(),
            rows: number(&run["rows"]),
            workers: number_of_workers(run),
            had: run["workers_had"].as_u64().filter(|had| *had != number_of_workers(run)),
            start_up: seconds("start_up"),
            load: seconds("load"),
            fit: seconds("fit"),
            predict: seconds("predict"),
            wall: seconds("wall"),
            cpu: number(&run["cpu_seconds"]),
            memory: number(&run["peak_memory_bytes"]) / f64::from(1 << 20),
        }
    });
    read.collect()
}

fn number_of_workers(run: &Value) -> u64 {
    run["workers"].as_u64().unwrap_or_default()
}

type Line = (String, Vec<(f64, f64)>);

/// A line for each framework and number of workers, in the order in which they ran.
fn lines(runs: &[Run], of: impl Fn(&Run) -> f64) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    for run in runs {
        let name = format!("{}, {} worker{}", run.framework, run.workers, if run.workers == 1 { "" } else { "s" });
        let point = (run.rows, of(run).max(1e-4));
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => found.push((name, vec![point])),
        }
    }
    found
}

/// One colour a framework, told apart by those who see few colours too (Okabe and Ito).
fn colour(name: &str) -> RGBColor {
    match name.split(',').next().unwrap_or_default() {
        "linfa" => RGBColor(0, 114, 178),
        "bief" => RGBColor(0, 158, 115),
        "scikit-learn" => RGBColor(230, 159, 0),
        "dask-ml" => RGBColor(204, 121, 167),
        _ => RGBColor(213, 94, 0),
    }
}

/// Tens and hundreds as people write them.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", (v / 1e5).round() / 10.0),
        v if v >= 1e4 => format!("{}k", (v / 1e2).round() / 10.0),
        v if v >= 1.0 => format!("{}", (v * 10.0).round() / 10.0),
        v => format!("{}", (v * 1e4).round() / 1e4),
    }
}

fn failed(error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("a plot cannot be drawn: {error}")
}

/// Logarithmic on both sides.
fn draw(path: &Path, title: &str, unit: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let (least, most) = points().map(of).fold((f64::MAX, 0.0), |(a, b), v: f64| (v.min(a), v.max(b)));
        (least / 1.5)..(most * 1.5)
    };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{title} ({unit})"), ("sans-serif", 18))
        .margin(12)
        .margin_right(LEGEND + 24)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(bounds(|p| p.0).log_scale(), bounds(|p| p.1).log_scale())
        .map_err(|e| failed(&e))?;
    let formatted = |value: &f64| short(*value);
    chart
        .configure_mesh()
        .x_desc("rows")
        .y_desc(unit)
        .light_line_style(RGBColor(236, 236, 236))
        .x_label_formatter(&formatted)
        .y_label_formatter(&formatted)
        .draw()
        .map_err(|e| failed(&e))?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let colour = colour(name);
        // One worker is a full line with full points; more have open ones.
        let filled = name.ends_with(" 1 worker");
        let style = if filled { colour.stroke_width(2) } else { colour.mix(0.6).stroke_width(1) };
        let point = if filled { colour.filled() } else { colour.stroke_width(1) };
        chart.draw_series(LineSeries::new(points.iter().copied(), style)).map_err(|e| failed(&e))?;
        chart.draw_series(points.iter().map(|at| Circle::new(*at, 4, point))).map_err(|e| failed(&e))?;
        let (x, y) = ((SIZE.0 - LEGEND) as i32, 60 + 22 * at as i32);
        root.draw(&PathElement::new(vec![(x, y), (x + 22, y)], style)).map_err(|e| failed(&e))?;
        root.draw(&Circle::new((x + 11, y), 4, point)).map_err(|e| failed(&e))?;
        root.draw(&Text::new(name.clone(), (x + 30, y - 6), ("sans-serif", 13))).map_err(|e| failed(&e))?;
    }
    root.present().map_err(|e| failed(&e))
}

/// Bars: the shortest start-up of each framework with one worker.
fn draw_start_up(path: &Path, runs: &[Run]) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    let mut least: BTreeMap<&str, f64> = BTreeMap::new();
    for run in runs {
        if !names.contains(&run.framework.as_str()) {
            names.push(&run.framework);
        }
        let known = least.entry(&run.framework).or_insert(f64::MAX);
        *known = known.min(run.start_up);
    }
    let most = least.values().copied().fold(0.1, f64::max);
    let root = SVGBackend::new(path, (SIZE.0, 260)).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Start-up until the framework is ready (s, the shortest)", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(110)
        .build_cartesian_2d(0.0..most * 1.15, Frameworks(0..names.len()))
        .map_err(|e| failed(&e))?;
    let named = |at: &usize| names.get(*at).map_or(String::new(), |name| (*name).to_owned());
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(names.len())
        .y_label_formatter(&named)
        .x_desc("s")
        .draw()
        .map_err(|e| failed(&e))?;
    for (at, name) in names.iter().enumerate() {
        let seconds = least.get(name).copied().unwrap_or_default();
        let middle = chart.backend_coord(&(seconds, at));
        let from = chart.backend_coord(&(0.0, at));
        let bar = Rectangle::new([(from.0, from.1 - 9), (middle.0.max(from.0 + 1), from.1 + 9)], colour(name).filled());
        root.draw(&bar).map_err(|e| failed(&e))?;
        let label = Text::new(format!("{seconds:.2}"), (middle.0 + 6, from.1 - 6), ("sans-serif", 13));
        root.draw(&label).map_err(|e| failed(&e))?;
    }
    root.present().map_err(|e| failed(&e))
}

/// Positions one below the other, the first at the top.
struct Frameworks(std::ops::Range<usize>);

impl plotters::coord::ranged1d::Ranged for Frameworks {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = usize;

    fn map(&self, value: &usize, limit: (i32, i32)) -> i32 {
        let count = self.0.len().max(1) as f64;
        let share = (*value as f64 + 0.5) / count;
        // The limit runs from the bottom up.
        limit.1 + ((f64::from(limit.0 - limit.1)) * share) as i32
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, _: Hint) -> Vec<usize> {
        self.0.clone().collect()
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.0.clone()
    }
}

impl ValueFormatter<usize> for Frameworks {
    fn format(value: &usize) -> String {
        value.to_string()
    }
}

/// What stands between the marks.
fn figures(comparison: &Value, runs: &[Run]) -> String {
    let (matrix, machine) = (&comparison["matrix"], &comparison["machine"]);
    let mut out = format!(
        "bief {} {}, {}; {}, {} cores, {:.0} GiB; {}.\n\nThe matrix: {}, {} features, {} rows are fitted and {} are held out. ",
        text(&comparison["version"]),
        if comparison["optimised"] == true { "(release build)" } else { "(build without optimisation)" },
        text(&comparison["made_at"]).split('T').next().unwrap_or_default(),
        text(&machine["processor"]),
        machine["cores"],
        number(&machine["memory_bytes"]) / f64::from(1 << 30),
        versions(comparison),
        text(&matrix["source"]),
        matrix["features"],
        grouped(number(&matrix["train_rows"])),
        grouped(number(&matrix["holdout_rows"])),
    );
    let left_out: Vec<String> = list(&matrix["left_out"]).iter().map(|name| format!("`{}`", text(name))).collect();
    if !left_out.is_empty() {
        out += &format!("Left out for all, since they are combinations of others: {}. ", left_out.join(", "));
    }
    out += "Times in seconds, memory in MiB.\n\n";
    out += "| framework | size | rows | workers | start-up | load | fit | predict | start to end | CPU | peak memory | largest difference |\n";
    out += "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for run in runs {
        out += &format!(
            "| {} | {} | {} | {} | {:.2} | {:.2} | {:.3} | {:.3} | {:.2} | {:.2} | {:.0} | {} |\n",
            run.framework,
            run.size,
            grouped(run.rows),
            run.had.map_or_else(|| run.workers.to_string(), |had| format!("{} (had {had})", run.workers)),
            run.start_up,
            run.load,
            run.fit,
            run.predict,
            run.wall,
            run.cpu,
            run.memory,
            difference(comparison, run)
        );
    }
    for run in list(&comparison["runs"]).iter().filter(|run| run["outcome"] != "fitted") {
        out += &format!(
            "| {} | {} | {} | {} | {}: {} |||||||||\n",
            text(&run["framework"]),
            run["size"],
            grouped(number(&run["rows"])),
            number_of_workers(run),
            text(&run["outcome"]),
            text(&run["why"])
        );
    }
    let disagree = list(&comparison["parity"]).iter().filter(|parity| parity["agrees"] != true).count();
    out += &format!(
        "\nParity: {} of {} fits agree with the reference within {:e}: every coefficient and the intercept relatively, every held-out prediction by the root mean square of them all.\n",
        list(&comparison["parity"]).len() - disagree,
        list(&comparison["parity"]).len(),
        number(&comparison["tolerance"])
    );
    for (name, what) in [
        ("fit", "time of the fit"),
        ("whole", "time from start to end"),
        ("memory", "peak memory"),
        ("start-up", "start-up"),
    ] {
        out += &format!("\n![{what}](images/comparison-{name}.svg)\n");
    }
    out += "\n### How the times grow\n\nThe exponent of rows: 1 is as the rows do.\n\n| framework | workers | fit | start to end |\n|---|--:|--:|--:|\n";
    for scaling in list(&comparison["scaling"]) {
        out += &format!(
            "| {} | {} | {:.2} | {:.2} |\n",
            text(&scaling["framework"]),
            scaling["workers"],
            number(&scaling["fit_exponent"]),
            number(&scaling["wall_exponent"])
        );
    }
    out += "\n### What each costs to have\n\n| framework | solves by | settings | lines | packages or crates | installed | needs |\n|---|---|---|--:|--:|--:|---|\n";
    for facts in list(&comparison["frameworks"]) {
        let (name, complexity) = (text(&facts["framework"]), &facts["complexity"]);
        let installed = match complexity["install_bytes"].as_f64() {
            Some(bytes) => format!("{:.0} MiB", bytes / f64::from(1 << 20)),
            None if OWN.contains(&name.as_str()) => "in the binary".to_owned(),
            None => "–".to_owned(),
        };
        let settings = settings(comparison, &name);
        let solver = runs.iter().find(|run| run.framework == name).map_or("", |run| run.solver.as_str());
        let needs = text(&complexity["needs"]);
        let (lines, crates) = (&complexity["lines"], &complexity["dependencies"]);
        out += &format!("| {name} | {solver} | {settings} | {lines} | {crates} | {installed} | {needs} |\n");
    }
    out
}

/// What its estimator was given that is not its default.
fn settings(comparison: &Value, framework: &str) -> String {
    let of = |run: &&Value| run["framework"] == framework && run["outcome"] == "fitted";
    let given = list(&comparison["runs"]).iter().find(of).and_then(|run| run["settings"].as_object());
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = given.into_iter().flatten().map(|(name, value)| format!("`{name}={}`", plain(value)));
    let told = pairs.collect::<Vec<_>>().join(", ");
    if told.is_empty() { "none".to_owned() } else { told }
}

fn versions(comparison: &Value) -> String {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for run in list(&comparison["runs"]) {
        for (name, version) in run["versions"].as_object().into_iter().flatten() {
            found.insert(name.clone(), text(version));
        }
    }
    found.remove("bief");
    found.into_iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
}

fn difference(comparison: &Value, run: &Run) -> String {
    let of_run = |parity: &&Value| {
        parity["framework"] == run.framework.as_str() && parity["size"] == run.size && parity["workers"] == run.workers
    };
    match list(&comparison["parity"]).iter().find(of_run) {
        None => "reference".to_owned(),
        Some(parity) => format!("{:.0e}", number(&parity["coefficients"]).max(number(&parity["predictions"]))),
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
