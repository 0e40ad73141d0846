//! Each failpoint x each kind of fault: killed, panicked, failed, hung for good, stalled. The daemon meets the fault
//! once, at its nth pass; at the end the rows are those of the records and the ledger is clean. By default a sample
//! that covers each failpoint and each kind (BIEF_SEED draws another), with BIEF_TEST_LONG=1 all of it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use bief::failpoints::NAMES;

use super::parts::{Parts, long};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_fault_at_any_failpoint_loses_and_doubles_nothing_on_mysql", |s| matrix(s, &s.mysql, 0)),
        ("a_fault_at_any_failpoint_loses_and_doubles_nothing_on_mariadb", |s| matrix(s, &s.mariadb, 2)),
    ]
}

/// What is done to the daemon, as FAILPOINTS names it.
const KINDS: [&str; 5] = ["kill", "panic", "error", "hang", "stall"];
/// Faults that the daemon survives are tried several in one run; more would only wait for each other's backoff.
const IN_ONE_RUN: usize = 4;
/// Records for each fault to meet.
const RECORDS: i64 = 300;
const BATCH: usize = 30;
const PARTITIONS: i32 = 4;

#[derive(Debug, Clone, Copy)]
struct Cell {
    point: &'static str,
    kind: &'static str,
    /// Passes before the fault.
    after: u64,
}

impl Cell {
    fn ends_the_run(&self) -> bool {
        // A release needs a second daemon that asks for partitions.
        matches!(self.kind, "kill" | "hang") || self.point == "release"
    }

    fn action(&self) -> String {
        format!("{}={}*off->1*return({})->off", self.point, self.after, self.kind)
    }
}

/// Points that a run passes only once or twice for certain.
const RARE: [&str; 5] = ["claim", "assign", "rows-direct", "report", "release"];

fn cells(shift: usize) -> Vec<Cell> {
    let seed: usize = std::env::var("BIEF_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut cells = Vec::new();
    for (at, point) in NAMES.into_iter().enumerate() {
        for (number, kind) in KINDS.into_iter().enumerate() {
            if long() || (at + shift + seed) % KINDS.len() == number {
                let after = if RARE.contains(&point) { 0 } else { (at + number + seed) as u64 % 3 };
                cells.push(Cell { point, kind, after });
            }
        }
    }
    cells
}

fn matrix(servers: &Servers, server: &str, shift: usize) {
    let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
    let mut parts = Parts::new(servers, PARTITIONS);
    // Seldom a moment in which no lane meets a row that is there already, or none that is new.
    parts.send(50);
    let cells = cells(shift);
    let (alone, mut together): (Vec<Cell>, Vec<Cell>) = cells.iter().partition(|cell| cell.ends_the_run());
    // Kind by kind, so that no run has a point twice: the later action would take the earlier one's place.
    together.sort_by_key(|cell| KINDS.iter().position(|kind| *kind == cell.kind));
    let runs = alone.chunks(1).chain(together.chunks(IN_ONE_RUN));
    for run in runs {
        parts.send(RECORDS * run.len() as i64);
        // A group of its own for each run: nobody waits for the session of the one that was killed.
        let config = parts.config(folder.path(), &database.url(), &unique("group"), BATCH);
        let told: Vec<String> = run.iter().map(Cell::action).collect();
        // What hangs is cut at the end of its time to drain, for certain. All others, the second daemon as well, have long
        // enough for a busy machine.
        let is_hang = run[0].kind == "hang";
        let (usual, short) = ("drain_timeout = \"60s\"", "drain_timeout = \"2s\"");
        if is_hang {
            replace_in(&config, &[(usual, short)]);
        }
        let daemon = Daemon::start_with(&config, &[("FAILPOINTS", &told.join(";"))]);
        if is_hang {
            replace_in(&config, &[(short, usual)]);
        }
        let second = run[0].point.eq("release").then(|| {
            daemon.wait("holding all", |status| partitions(status).len() == PARTITIONS as usize);
            Daemon::start(&config)
        });
        match run[0].kind {
            "kill" => dies(daemon, &run[0]),
            "hang" => hangs(daemon, &run[0]),
            _ => survives(daemon, run, &parts, second.is_some()),
        }
        if let Some(second) = second {
            // Whatever became of the first.
            second.wait("holding all", |status| partitions(status).len() == PARTITIONS as usize);
            second.wait_caught_up(parts.total());
            second.stop();
        }
    }
    let config = parts.config(folder.path(), &database.url(), &unique("group"), BATCH);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(parts.total());
    daemon.stop();
    assert_clean(&config);
    parts.assert_rows(&database, &format!("{cells:?}"));
    let points: std::collections::BTreeSet<_> = cells.iter().map(|c| c.point).collect();
    assert_eq!(points.len(), NAMES.len(), "every failpoint has a cell");
    println!("{} cells, {} records", cells.len(), parts.total());
}

fn acted(daemon: &Daemon, cell: &Cell) -> bool {
    let point = format!("\"failpoint\":\"{}\"", cell.point);
    daemon.log().iter().any(|line| line.contains(&point) && line.contains(&format!("\"action\":\"{}\"", cell.kind)))
}

fn wait_for_the_fault(daemon: &Daemon, cell: &Cell) {
    daemon.wait(&format!("meeting {cell:?}"), |_| acted(daemon, cell));
}

fn dies(mut daemon: Daemon, cell: &Cell) {
    let status = daemon.wait_end(PATIENCE);
    assert!(status.signal().is_some(), "{cell:?}: {status:?} {:#?}", daemon.log());
    assert!(acted(&daemon, cell), "{cell:?}");
}

/// A thread that hangs for good keeps no daemon from ending in time.
fn hangs(mut daemon: Daemon, cell: &Cell) {
    wait_for_the_fault(&daemon, cell);
    daemon.signal("-TERM");
    daemon.wait_end(Duration::from_secs(30));
}

/// The same daemon goes on to the end.
fn survives(daemon: Daemon, cells: &[Cell], parts: &Parts, shared: bool) {
    cells.iter().for_each(|cell| wait_for_the_fault(&daemon, cell));
    if !shared {
        daemon.wait_caught_up(parts.total());
    }
    daemon.stop();
}
