//! What must hold of the tables, computed from the records alone: each with exactly one outcome, the rows of exactly those
//! before the stored offsets, a ledger that adds up, and a mark for each bucket whose rows changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::Row;
use crate::records::width;
use crate::world::{World, lock};

/// All that does not hold.
pub fn findings(world: &World) -> Vec<String> {
    let (tables, broker) = (lock(&world.tables), lock(&world.broker));
    let mut found = Vec::new();
    let (mut orders, mut firsts) = (BTreeMap::<String, Row>::new(), BTreeMap::<String, Row>::new());
    let mut readings = BTreeMap::<String, Row>::new();
    let mut customers = BTreeSet::new();
    for (&partition, offset) in &tables.offsets {
        let log = &broker.logs[partition as usize];
        let gaps: Vec<_> = tables.gaps.iter().filter(|(p, _)| *p == partition).map(|(_, gap)| gap).collect();
        let mut in_gaps = BTreeSet::new();
        for at in gaps.iter().flat_map(|gap| (*gap).clone()) {
            if !in_gaps.insert(at) || !(offset.start..offset.next).contains(&at) {
                found.push(format!("partition {partition}: {at} is a gap twice, or outside what was read"));
            }
            if log.record(at).is_some() {
                found.push(format!("partition {partition}: {at} is said to be a gap and is a record: lost"));
            }
        }
        let mut letters: Vec<i64> = tables.letters.iter().filter(|(p, _)| *p == partition).map(|(_, at)| *at).collect();
        letters.sort_unstable();
        let (mut good, mut bad) = (0, Vec::new());
        for at in (offset.start..offset.next).filter(|at| !in_gaps.contains(at)) {
            // What was compacted away after it was read is known by what was sent.
            let Some(sent) = log.sent(at) else {
                found.push(format!("partition {partition}: {at} never was a record, and is no gap"));
                continue;
            };
            let Some(order) = &sent.good else {
                bad.push(at);
                continue;
            };
            good += 1;
            let first = [("id", order.id), ("quantity", order.quantity)].map(|(c, v)| (c.to_owned(), v.to_string()));
            firsts.entry(order.id.to_string()).or_insert_with(|| first.clone().into());
            let row = orders.entry(order.id.to_string()).or_default();
            row.extend(first);
            row.insert("customer".to_owned(), order.customer.clone());
            row.insert("region".to_owned(), order.region.to_string());
            match &order.note {
                None => {}
                Some(None) => _ = row.remove("note"),
                Some(Some(text)) => _ = row.insert("note".to_owned(), text.clone()),
            }
            let at = (order.id * 1_000_000).to_string();
            let reading = [("at", at.clone()), ("quantity", order.quantity.to_string())];
            readings.insert(at, reading.map(|(c, v)| (c.to_owned(), v)).into());
            customers.insert(order.customer.clone());
        }
        if letters != bad {
            found.push(format!("partition {partition}: dead letters {letters:?}, expected {bad:?}"));
        }
        let counts = offset.counts;
        let told = (counts.applied + counts.duplicates, counts.dead_letters, counts.gaps);
        let expected = (good, bad.len() as i64, in_gaps.len() as i64);
        if told != expected {
            found.push(format!("partition {partition}: written, set aside, gaps are {told:?}, expected {expected:?}"));
        }
        if counts.total() != offset.next - offset.start {
            let advanced = offset.next - offset.start;
            found.push(format!("partition {partition}: {advanced} offsets advanced, {} accounted for", counts.total()));
        }
    }
    let rows = |table: &str| {
        let of_table = tables.rows.iter().filter(|((t, _), _)| t == table);
        of_table.map(|((_, key), row)| (key.clone(), row.clone())).collect::<BTreeMap<_, _>>()
    };
    for (table, expected) in [("orders", &orders), ("firsts", &firsts), ("readings", &readings)] {
        let is = rows(table);
        if is != *expected {
            let differs = is.iter().find(|(key, row)| expected.get(*key) != Some(row));
            let missing = expected.keys().find(|key| !is.contains_key(*key));
            found.push(format!(
                "{table}: {} rows of {}; {differs:?}, {missing:?} is missing",
                is.len(),
                expected.len()
            ));
        }
    }
    if let Some(at) = tables.unmarked.first() {
        found.push(format!("readings: {} rows changed without a mark, such as {at}", tables.unmarked.len()));
    }
    for at in readings.keys() {
        let start = at.parse().map_or(-1, |micros| width().start_of(micros));
        if !tables.marks.keys().any(|(_, bucket)| *bucket == start) {
            found.push(format!("readings: the bucket of {at} was never marked"));
        }
    }
    let is = rows("customers");
    // Those of records that were set aside, or whose batch did not get through, may be there too.
    if let Some(missing) = customers.iter().find(|code| !is.contains_key(*code)) {
        found.push(format!("customers: {missing} is missing"));
    }
    if let Some((code, row)) = is.iter().find(|(code, row)| row.get("name") != Some(&format!("n-{code}"))) {
        found.push(format!("customers: {code} is {row:?}"));
    }
    found
}
