//! From `bief demo` on a built binary to the first chart that moves, in a real browser that is open already: what someone
//! sees who tries it. A chart is there when a panel's line is drawn on its canvas, and moves when its picture differs from
//! the first one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};

use super::sink::median;
use super::{DemoArguments, build, cores, workspace};
use crate::browser::{Driver, Page};
use crate::demo::Demo;

const LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Seconds since the command was given.
struct Times {
    answers: f64,
    drawn: f64,
    moves: f64,
    computed: f64,
}

/// How many pixels of the first panel that shows a line have its colour, and a number for which these are.
const PICTURE: &str = "
  const probe = document.createElement('canvas').getContext('2d');
  const rgb = (colour) => { probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1); return probe.getImageData(0, 0, 1, 1).data; };
  for (const panel of document.querySelectorAll('.panel-line')) {
    let [drawn, which] = [0, 0];
    const canvas = panel.querySelector('canvas');
    const colours = Array.from(panel.querySelectorAll('.swatch line'), (line) => rgb(line.getAttribute('stroke')));
    if (!canvas || canvas.width === 0 || colours.length === 0) continue;
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] > 200 && colours.some((c) => Math.abs(data[i] - c[0]) + Math.abs(data[i + 1] - c[1]) + Math.abs(data[i + 2] - c[2]) < 24)) {
        drawn += 1;
        which = (which * 31 + i) % 1000003;
      }
    }
    // The first alone: that another appears is no movement.
    if (drawn >= 200) return [drawn, which];
  }
  return [0, 0];";

pub fn run(arguments: &DemoArguments) -> Result<Value> {
    let bief = match &arguments.bief {
        Some(path) => path.canonicalize()?,
        None => build(&["--bin", "bief"])?.join("bief"),
    };
    let driver = Driver::start().map_err(|why| anyhow!("nothing can be drawn: {why}"))?;
    let mut all = Vec::new();
    for _ in 0..arguments.rounds {
        match measure(&bief, &driver) {
            Ok(times) => all.push(times),
            Err(error) => {
                driver.end();
                return Err(error);
            }
        }
    }
    driver.end();
    let of = |part: fn(&Times) -> f64| median(all.iter().map(part).collect());
    let (answers, drawn, moves) = (of(|t| t.answers), of(|t| t.drawn), of(|t| t.moves));
    let computed = of(|t| t.computed);
    println!(
        "the page answers after {answers:.1} s, a chart is drawn after {drawn:.1} s, moves after {moves:.1} s, all is \
         computed after {computed:.1} s (median of {}); {} cores",
        all.len(),
        cores()
    );
    let list = |part: fn(&Times) -> f64| all.iter().map(part).collect::<Vec<_>>();
    Ok(json!({
        "answers_s": list(|t| t.answers),
        "drawn_s": list(|t| t.drawn),
        "moves_s": list(|t| t.moves),
        "computed_s": list(|t| t.computed),
        "cores": cores(),
    }))
}

fn measure(bief: &Path, driver: &Driver) -> Result<Times> {
    let folder = tempfile::tempdir()?;
    let page = driver.page();
    page.open("about:blank");
    let began = Instant::now();
    let seconds = || began.elapsed().as_secs_f64();
    let demo = Demo::start(bief, &workspace(), folder.path())?;
    while demo.status().is_none() {
        ensure!(began.elapsed() < LIMIT, "no answer in {} s", LIMIT.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
    let answers = seconds();
    page.open(&format!("http://{}/#live", demo.http));
    let first = wait(&page, began, |picture| picture[0] > 0)?;
    let drawn = seconds();
    wait(&page, began, |picture| picture[1] != first[1])?;
    let moves = seconds();
    demo.wait_computed()?;
    Ok(Times { answers, drawn, moves, computed: seconds() })
}

fn wait(page: &Page, began: Instant, met: impl Fn(&[i64; 2]) -> bool) -> Result<[i64; 2]> {
    loop {
        let picture: [i64; 2] = serde_json::from_value(page.js(PICTURE))?;
        if met(&picture) {
            return Ok(picture);
        }
        ensure!(began.elapsed() < LIMIT, "no chart in {} s", LIMIT.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}
