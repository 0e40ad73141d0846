//! From the broker's append of a record to the moment at which it is drawn on the page, in a real browser; and what the
//! open page's heap comes to meanwhile.
//!
//! The topic stamps each record with the time of its append (LogAppendTime, whole milliseconds, rounded down). An observer
//! in the page sees each record that is put into its list, waits for the second frame after it, which is when the first
//! is on the screen, and takes the time. All clocks are this machine's. What is measured are the records that the page
//! shows: a sample, as always.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::config::{Config, PARTITIONS};
use super::daemon::{self, Daemon, Replay};
use super::{PageArguments, Setup, cores, database};
use crate::browser::Driver;

/// The broker is cold, the page is loading.
const WARM_UP: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at the heap, each after a collection.
const HEAP_EVERY: Duration = Duration::from_secs(30);
/// Seconds after which all that the page keeps for a span is full: its documents once the shipped data has come through
/// once, its records some time before.
const FILLED: f64 = 300.0;

/// What is seen is counted in the page, by whole milliseconds, and read once at the end: what a script answers stays in
/// the heap that is looked at.
const OBSERVER: &str = "
  window.drawn = { took: new Uint32Array(60000), first: Infinity, last: 0 };
  const known = new Set();
  new MutationObserver(() => {
    const fresh = [];
    for (const item of document.querySelectorAll('#records details')) {
      const time = item.querySelector('time')?.dateTime;
      if (!time || known.has(item.dataset.key)) continue;
      known.add(item.dataset.key);
      fresh.push(Date.parse(time));
    }
    // What left the list does not come back.
    if (known.size > 1000) for (const key of Array.from(known).slice(0, 500)) known.delete(key);
    if (fresh.length === 0) return;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const now = performance.timeOrigin + performance.now();
      const { drawn } = window;
      for (const appended of fresh) {
        drawn.took[Math.min(Math.max(0, Math.round(now - appended)), drawn.took.length - 1)] += 1;
        drawn.first = Math.min(drawn.first, appended);
        drawn.last = Math.max(drawn.last, appended);
      }
    }));
  }).observe(document.getElementById('records'), { childList: true });";

/// Forgets what the warm-up came to.
const BEGIN: &str = "window.drawn.took.fill(0); window.drawn.first = Infinity; window.drawn.last = 0;";
/// How often something took so many milliseconds, where it did; and the span of the appends.
const DRAWN: &str = "const { took, first, last } = window.drawn;
  return [Array.from(took.entries()).filter(([, count]) => count > 0), Number.isFinite(first) ? first : 0, last];";

/// How long records took until they were drawn.
struct Drawn {
    /// Milliseconds, and how many records.
    took: Vec<(u32, u64)>,
    /// First and last append, milliseconds since 1970.
    first: f64,
    last: f64,
}

impl Drawn {
    fn count(&self) -> u64 {
        self.took.iter().map(|(_, count)| count).sum()
    }

    /// The milliseconds within which so large a share was drawn.
    fn percentile(&self, share: f64) -> u32 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reaches = |(ms, count): &(u32, u64)| {
            seen += count;
            (seen >= wanted).then_some(*ms)
        };
        self.took.iter().find_map(reaches).unwrap_or_default()
    }
}

/// The page's heap after a collection.
#[derive(Clone, Copy)]
struct Heap {
    seconds: f64,
    bytes: f64,
}

pub fn run(setup: &Setup, arguments: &PageArguments, runtime: &Runtime) -> Result<Value> {
    let driver = Driver::start().map_err(|why| anyhow!("nothing can be drawn: {why}"))?;
    let measured = measure(setup, arguments, runtime, &driver);
    driver.end();
    let (drawn, heap, replayed) = measured?;
    summary(arguments, &drawn, &heap, replayed)
}

fn measure(
    setup: &Setup,
    arguments: &PageArguments,
    runtime: &Runtime,
    driver: &Driver,
) -> Result<(Drawn, Vec<Heap>, u64)> {
    let mysql = setup.mysql()?;
    let http = daemon::free_address()?;
    let mut config = Config::shipped(&setup.folder(), setup.kafka()?, mysql, &http)?;
    config.with_page()?;
    runtime.block_on(database::recreate(mysql))?;
    let path = config.write()?;
    daemon::create_stamped_topic(setup, PARTITIONS)?;
    let mut bief = Daemon::start(setup, &path)?;
    bief.wait_ready(setup, &http)?;
    let mut replay = Replay::start(setup, &path, None, Some(arguments.rate))?;
    let page = driver.page();
    page.open(&format!("http://{http}/#live"));
    page.wait("records", "document.querySelector('#records details')");
    page.js(OBSERVER);

    let began = Instant::now();
    let (mut heap, mut heap_at) = (Vec::new(), Instant::now());
    while began.elapsed() < WARM_UP + Duration::from_secs(arguments.seconds) {
        std::thread::sleep(LOOK_EVERY);
        bief.look(setup)?;
        // The shipped data lasts for some minutes; then its rows are sent once more.
        if replay.is_done(setup)? {
            replay = Replay::start(setup, &path, None, Some(arguments.rate))?;
        }
        if began.elapsed() < WARM_UP {
            continue;
        }
        if heap.is_empty() {
            page.js(BEGIN);
        }
        if heap.is_empty() || heap_at.elapsed() >= HEAP_EVERY {
            heap_at = Instant::now();
            page.devtools("HeapProfiler.collectGarbage", json!({}));
            let usage = page.devtools("Runtime.getHeapUsage", json!({}));
            let bytes = usage["usedSize"].as_f64().context("the browser tells no heap")?;
            heap.push(Heap { seconds: began.elapsed().as_secs_f64(), bytes });
            eprintln!("{:.0} s: heap {:.2} MiB", began.elapsed().as_secs_f64(), bytes / 1048576.0);
        }
    }
    let told: (Vec<(u32, u64)>, f64, f64) =
        serde_json::from_value(page.js(DRAWN)).context("the page tells nothing of what was drawn")?;
    let drawn = Drawn { took: told.0, first: told.1, last: told.2 };
    let records = daemon::records_in_topic(setup)?;
    drop(page);
    bief.stop(setup)?;
    Ok((drawn, heap, records))
}

fn summary(arguments: &PageArguments, drawn: &Drawn, heap: &[Heap], records: u64) -> Result<Value> {
    if drawn.count() == 0 {
        bail!("nothing was drawn after the warm-up");
    }
    let (p50, p95, max) = (drawn.percentile(0.5), drawn.percentile(0.95), drawn.percentile(1.0));
    // While what is kept for a span fills up it grows.
    let filled: Vec<Heap> = heap.iter().filter(|look| look.seconds >= FILLED).copied().collect();
    let slope = slope(&filled).map(|bytes| bytes * 60.0 / 1024.0);
    let heaps: Vec<f64> = heap.iter().map(|one| one.bytes).collect();
    println!(
        "{} records/s: p50 {p50} ms, p95 {p95} ms, max {max} ms from append to drawn, of {} records drawn in \
         {:.0} s; heap {}; {} cores",
        arguments.rate,
        drawn.count(),
        (drawn.last - drawn.first) / 1000.0,
        slope.map_or("not looked at for long enough".to_owned(), |slope| format!(
            "from {:.2} to {:.2} MiB, {slope:+.1} KiB a minute after the first {FILLED} s",
            heaps.first().unwrap_or(&0.0) / 1048576.0,
            heaps.last().unwrap_or(&0.0) / 1048576.0
        )),
        cores(),
    );
    Ok(json!({
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "records_appended": records,
        "records_drawn": drawn.count(),
        "p50_ms": p50,
        "p95_ms": p95,
        "max_ms": max,
        "heap_bytes": heaps,
        "heap_kib_per_minute": slope,
        "cores": cores(),
    }))
}

/// Bytes a second, by least squares; `None` of fewer than two.
fn slope(heap: &[Heap]) -> Option<f64> {
    let count = heap.len() as f64;
    if heap.len() < 2 {
        return None;
    }
    let (mean_at, mean) =
        (heap.iter().map(|h| h.seconds).sum::<f64>() / count, heap.iter().map(|h| h.bytes).sum::<f64>() / count);
    let over: f64 = heap.iter().map(|h| (h.seconds - mean_at) * (h.bytes - mean)).sum();
    let under: f64 = heap.iter().map(|h| (h.seconds - mean_at).powi(2)).sum();
    Some(over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_reached_where_so_many_were_drawn() {
        let drawn = Drawn { took: vec![(10, 5), (20, 4), (90, 1)], first: 0.0, last: 1.0 };
        assert_eq!([0.5, 0.9, 0.91, 1.0].map(|share| drawn.percentile(share)), [10, 20, 90, 90]);
    }

    #[test]
    fn a_slope_is_that_of_the_line_through_all_looks() {
        let heap = |all: &[(f64, f64)]| {
            all.iter().map(|(seconds, bytes)| Heap { seconds: *seconds, bytes: *bytes }).collect::<Vec<_>>()
        };
        assert_eq!(slope(&heap(&[(0.0, 5.0)])), None);
        assert_eq!(slope(&heap(&[(0.0, 5.0), (10.0, 25.0), (20.0, 45.0)])), Some(2.0));
        assert_eq!(slope(&heap(&[(0.0, 7.0), (10.0, 9.0), (20.0, 7.0)])), Some(0.0));
    }
}
