//! Marks of dirty buckets: in the transaction that changes their rows, of exactly the buckets whose rows change.

use std::collections::BTreeSet;

use super::*;
use crate::core::bucket::Width;
use crate::core::marks::{self, BucketSource, Marking};
use crate::core::schema::ColumnKind;
use crate::core::time::parse_datetime;

/// Readings that point at the hour they belong to; both have buckets: of an hour, and of a day.
fn log() -> Plan {
    let time = || ColumnKind::DateTime { fraction: 6, timestamp: false };
    let hours = vec![required("at", time()), column("label", varchar(9))];
    let readings = vec![required("at", time()), column("hour", time()), column("quantity", bigint())];
    let tables = [table("readings", readings, &[(1, "hours", "at")]), table("hours", hours, &[])];
    let mappings = [
        mapping("readings", Update, &[("at", "at"), ("hour", "hour"), ("quantity", "quantity")]),
        mapping("hours", Update, &[("at", "hour"), ("label", "label")]),
    ];
    Plan::new("log", &mappings, &tables).unwrap()
}

fn marking(lanes: usize) -> Bench {
    let mut bench = Bench::with_lanes(log(), lanes);
    let source = |table: &str, width| BucketSource { table: table.into(), time: "at".into(), width };
    let sources = [source("readings", Width::HOUR), source("hours", Width::DAY)];
    let markings: Arc<[Marking]> = marks::markings(&bench.plan, &sources).unwrap().into();
    let known = Arc::new(Mutex::new(Known::new(bench.plan.targets.len())));
    bench.lanes = [0, 1].map(|_| {
        Committer::new(Arc::clone(&bench.plan), Arc::clone(&known), lanes).with_markings(Arc::clone(&markings))
    });
    bench
}

fn reading(at: &str, quantity: i64) -> String {
    let hour = &at[..2];
    format!(
        r#"{{"at":"2013-01-01T{at}:00Z","hour":"2013-01-01T{hour}:00:00Z","quantity":{quantity},"label":"h{hour}"}}"#
    )
}

/// Source, hour of the day, lane and version of each mark.
fn shown(bench: &Bench) -> Vec<String> {
    let midnight = parse_datetime("2013-01-01T00:00:00Z").unwrap();
    let ledger = bench.ledger.borrow();
    let marks = ledger.database.marks.iter();
    marks
        .map(|((source, start, lane), version)| {
            format!("{source} {} lane {lane}: {version}", (start - midnight) / Width::HOUR.micros())
        })
        .collect()
}

#[test]
fn each_batch_marks_the_buckets_of_changed_rows_once_and_no_other() {
    for lanes in [1, 2] {
        let mut bench = marking(lanes);
        bench.write(&[&reading("10:00", 1), &reading("12:30", 1), &reading("10:59", 1), &reading("10:00", 2)]);
        let first = ["hours.at/1d 0 lane 0: 1", "readings.at/1h 10 lane 0: 1", "readings.at/1h 12 lane 0: 1"];
        assert_eq!(shown(&bench), first, "{lanes} lanes");
        // The same again changes nothing.
        bench.write(&[&reading("12:30", 1), &reading("10:00", 2)]);
        assert_eq!(shown(&bench), first);
        bench.write(&[&reading("12:30", 7)]);
        assert_eq!(shown(&bench)[2], "readings.at/1h 12 lane 0: 2");
        assert_eq!(shown(&bench)[..2], first[..2], "a late record changes its own bucket and no other");
    }
}

#[test]
fn a_record_that_is_set_aside_marks_nothing() {
    let mut bench = marking(1);
    bench.write(&[&reading("08:00", -1), "[]", &reading("09:00", 1)]);
    assert_eq!(bench.letters(), [0, 1]);
    assert_eq!(shown(&bench), ["hours.at/1d 0 lane 0: 1", "readings.at/1h 9 lane 0: 1"]);
}

#[test]
fn marks_are_committed_with_their_rows_or_not_at_all() {
    let mut bench = marking(1);
    let batch = bench.batch(&[(0, 0, reading("10:00", 1))]);
    bench.ledger.borrow_mut().fail_commit = true;
    bench.commit(0, &batch).unwrap_err();
    assert_eq!(shown(&bench), [""; 0]);
    bench.ledger.borrow_mut().lose_answer = true;
    bench.commit(0, &batch).unwrap_err();
    assert!(bench.commit(0, &batch).unwrap().found);
    assert_eq!(shown(&bench), ["hours.at/1d 0 lane 0: 1", "readings.at/1h 10 lane 0: 1"], "marked once");
}

#[test]
fn lanes_mark_under_numbers_of_their_own() {
    let mut bench = marking(2);
    let (one, other) = (bench.batch(&[(0, 0, reading("10:00", 1))]), bench.batch(&[(1, 0, reading("10:01", 1))]));
    bench.commit(0, &one).unwrap();
    bench.commit(1, &other).unwrap();
    let of_readings: Vec<String> = shown(&bench).split_off(1);
    assert_eq!(of_readings, ["readings.at/1h 10 lane 0: 1", "readings.at/1h 10 lane 1: 1"]);
}

#[test]
fn a_rehearsal_marks_nothing() {
    let mut bench = marking(1);
    let mut batch = bench.batch(&[(0, 0, reading("10:00", 1))]);
    batch.source.moves.clear();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(bench.lanes[0].rehearse(&mut bench.model, &batch, DateTime::UNIX_EPOCH)).unwrap();
    assert_eq!(bench.ledger.borrow().database, Database::default());
}

/// Buckets of rows that are in one state of the database and not in the other.
fn changed(before: &Database, after: &Database) -> BTreeSet<(String, i64)> {
    let mut buckets = BTreeSet::new();
    for (table, width) in [("readings", Width::HOUR), ("hours", Width::DAY)] {
        let rows = |of: &Database| of.tables.get(table).cloned().unwrap_or_default();
        let (before, after) = (rows(before), rows(after));
        for (key, _) in after.iter().filter(|(key, row)| before.get(*key) != Some(*row)) {
            let at: i64 = key[0].strip_prefix("at ").unwrap().parse().unwrap();
            buckets.insert((format!("{table}.at/{width}"), width.start_of(at)));
        }
    }
    buckets
}

fn payload() -> impl Strategy<Value = String> {
    let at = prop::sample::select(&["08:00", "08:01", "09:00", "09:30", "10:00", "23:59"][..]);
    let record = (at, -1..4i64).prop_map(|(at, quantity)| reading(at, quantity));
    prop_oneof![9 => record, 1 => Just(r#"{"at":"never"}"#.to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_version_rises_exactly_where_rows_of_the_bucket_change(
        batches in prop::collection::vec(prop::collection::vec(payload(), 1..8), 1..8),
        lanes in 1..3usize,
    ) {
        let mut bench = marking(lanes);
        for payloads in &batches {
            let before = bench.ledger.borrow().database.clone();
            bench.write(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
            let after = bench.ledger.borrow().database.clone();
            let raised = after.marks.iter().filter(|(mark, version)| before.marks.get(*mark) != Some(*version));
            let raised: BTreeSet<(String, i64)> =
                raised.map(|((source, start, _), _)| (source.clone(), *start)).collect();
            prop_assert_eq!(raised, changed(&before, &after));
        }
    }
}
