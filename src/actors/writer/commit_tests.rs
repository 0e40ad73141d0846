//! Batches against a model of the database: rows, outcomes and offsets agree whatever the batches are.

#[path = "commit_marks_tests.rs"]
mod marks;
#[path = "commit_model.rs"]
mod model;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use self::model::{Database, Ledger, Model, Row};
use super::*;
use crate::core::cell::Span;
use crate::core::decode::{Envelope, FieldOrder};
use crate::core::mapping::Mapping;
use crate::core::outcome::Reason;
use crate::core::target::OnConflict::{Ignore, Update};
use crate::core::target::Rows;
use crate::core::testing::{bigint, column, decode_records, envelope, mapping, required, shop, table, varchar};
use crate::messages::{Record, RecordBatch};

/// Records of a batch: partition, offset, payload. Offsets between are gaps.
type Records = [(i32, i64, String)];

/// A batch from these records, decoded; `from` holds the partitions' next offsets and is moved on.
fn batch(plan: &Plan, from: &mut BTreeMap<i32, i64>, records: &Records) -> RowBatch {
    let mut source = RecordBatch::default();
    let mut moves: BTreeMap<i32, OffsetMove> = BTreeMap::new();
    for (partition, offset, payload) in records {
        let span = Span::new(source.bytes.len(), payload.len());
        source.bytes.extend_from_slice(payload.as_bytes());
        source.records.push(Record {
            partition: *partition,
            offset: *offset,
            timestamp: -1,
            key: None,
            payload: Some(span),
            oversize: None,
        });
        let next = from.entry(*partition).or_default();
        let of = moves.entry(*partition).or_insert_with(|| OffsetMove {
            partition: *partition,
            epoch: 1,
            from: *next,
            to: *next,
            gaps: Vec::new(),
        });
        if *offset > of.to {
            of.gaps.push(of.to..*offset);
        }
        (of.to, *next) = (*offset + 1, *offset + 1);
    }
    source.moves = moves.into_values().collect();
    let mut order = FieldOrder::default();
    let envelopes: Vec<Envelope<'_>> = (0..)
        .zip(&source.records)
        .map(|(index, record)| Envelope {
            index,
            payload: record.payload.map(|span| span.of(&source.bytes)),
            ..envelope()
        })
        .collect();
    let (tables, extra, rejected) = decode_records(plan, &mut order, &source.bytes, &envelopes);
    source.bytes.extend_from_slice(&extra);
    RowBatch { source, tables, rejected }
}

/// A stream under test: one warehouse, two lanes that share what they know.
struct Bench {
    plan: Arc<Plan>,
    held: Assignments,
    lanes: [Committer; 2],
    model: Model,
    ledger: Rc<RefCell<Ledger>>,
    from: BTreeMap<i32, i64>,
}

impl Bench {
    fn new(plan: Plan) -> Self {
        Self::with_lanes(plan, 1)
    }

    /// As one of so many lanes that write at the same time.
    fn with_lanes(plan: Plan, count: usize) -> Self {
        let plan = Arc::new(plan);
        let held = Assignments::default();
        held.assign(0, 1);
        held.assign(1, 1);
        let known = Arc::new(Mutex::new(Known::new(plan.targets.len())));
        let lanes = [0, 1].map(|_| Committer::new(Arc::clone(&plan), Arc::clone(&known), count));
        let model = Model::default();
        let ledger = Rc::clone(&model.ledger);
        Self { plan, held, lanes, model, ledger, from: BTreeMap::new() }
    }

    fn batch(&mut self, records: &Records) -> RowBatch {
        batch(&self.plan, &mut self.from, records)
    }

    fn commit(&mut self, lane: usize, batch: &RowBatch) -> Result<Committed, WarehouseError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let done = runtime.block_on(self.lanes[lane].commit(&mut self.model, batch, &self.held, DateTime::UNIX_EPOCH));
        if done.is_err() {
            self.model.abandon();
        }
        done
    }

    /// Commits these payloads of partition 0 as one batch.
    fn write(&mut self, payloads: &[&str]) -> Committed {
        let first = self.from.get(&0).copied().unwrap_or_default();
        let records: Vec<_> = (first..).zip(payloads).map(|(offset, p)| (0, offset, (*p).to_owned())).collect();
        let batch = self.batch(&records);
        self.commit(0, &batch).unwrap()
    }

    fn rows(&self, table: &str) -> Vec<String> {
        let ledger = self.ledger.borrow();
        let rows = ledger.database.tables.get(table).into_iter().flat_map(BTreeMap::values);
        rows.map(|row| row.iter().map(|(c, v)| format!("{c}={v}")).collect::<Vec<_>>().join(" ")).collect()
    }

    fn letters(&self) -> Vec<i64> {
        self.ledger.borrow().database.letters.iter().map(|l| l.offset).collect()
    }

    fn handed(&self, table: &str) -> usize {
        self.ledger.borrow().handed.get(table).copied().unwrap_or_default()
    }

    fn counts(&self, partition: i32) -> Counts {
        self.ledger.borrow().database.counts.get(&partition).copied().unwrap_or_default()
    }
}

fn counts(applied: i64, duplicates: i64, dead_letters: i64, gaps: i64) -> Counts {
    Counts { applied, duplicates, dead_letters, gaps }
}

fn reasons(committed: &Committed) -> Vec<Reason> {
    committed.dead_letters.iter().map(|(_, rejection)| rejection.reason).collect()
}

const ANN: &str = r#"{"id":1,"quantity":1,"customer":"a","name":"Ann"}"#;

#[test]
fn a_batch_is_committed_with_its_offsets_gaps_and_counts() {
    let mut bench = Bench::new(shop(Update));
    let records = [(0, 2, ANN.to_owned()), (1, 0, "[]".to_owned()), (0, 5, ANN.replace(":1", ":2"))];
    let batch = bench.batch(&records);
    let committed = bench.commit(0, &batch).unwrap();
    assert_eq!(committed.offsets, [(0, 6), (1, 1)]);
    assert_eq!(committed.rows, [1, 2]);
    assert_eq!(reasons(&committed), [Reason::NotAnObject]);
    assert_eq!((bench.counts(0), bench.counts(1)), (counts(2, 0, 0, 4), counts(0, 0, 1, 0)));
    let letter = bench.ledger.borrow().database.letters[0].clone();
    assert_eq!((letter.partition, letter.offset, letter.payload.as_deref()), (1, 0, Some(b"[]".as_slice())));
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Ann\""]);
}

#[test]
fn repetitions_are_duplicates_and_known_parents_are_not_written_again() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[ANN, ANN]);
    let again = bench.write(&[ANN]);
    assert_eq!(again.rows, [0, 0]);
    assert_eq!(bench.counts(0), counts(2, 1, 0, 0));
    assert_eq!(bench.handed("customers"), 1);
    bench.write(&[&ANN.replace("Ann", "Eve")]);
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Eve\""]);
}

#[test]
fn a_refused_row_blames_its_author_only() {
    let mut bench = Bench::new(shop(Update));
    let order =
        |quantity: i64| format!(r#"{{"id":1,"quantity":{quantity},"customer":"a","name":"n{quantity}","city":1}}"#);
    bench.write(&[&order(1), &order(2), &order(-3)]);
    assert_eq!(bench.letters(), [2]);
    assert_eq!(bench.rows("orders"), ["customer=\"a\" id=1 quantity=2"]);
    assert_eq!(bench.rows("customers"), ["city=1 code=\"a\" name=\"n2\""], "a dead letter leaves nothing elsewhere");
    assert_eq!(bench.counts(0), counts(2, 0, 1, 0));
}

#[test]
fn beside_a_row_that_was_dropped_alone_the_others_stand_without_a_second_pass() {
    for (others_stay, rolled_back) in [(true, 0), (false, 1)] {
        let mut bench = Bench::with_lanes(shop(Update), 2);
        bench.ledger.borrow_mut().others_stay = others_stay;
        let order = |id: i64, quantity: i64| {
            format!(r#"{{"id":{id},"quantity":{quantity},"customer":"a","name":"Ann","city":1}}"#)
        };
        let written = bench.write(&[&order(1, 1), &order(2, -2), &order(3, 3)]);
        assert_eq!((bench.letters(), written.dead_letters.len()), (vec![1], 1));
        assert_eq!(bench.rows("orders"), ["customer=\"a\" id=1 quantity=1", "customer=\"a\" id=3 quantity=3"]);
        assert_eq!((written.rows, bench.counts(0)), (vec![1, 2], counts(2, 0, 1, 0)));
        assert_eq!(bench.ledger.borrow().rolled_back, rolled_back);
    }
}

#[test]
fn a_row_joined_from_several_records_blames_the_one_whose_value_it_is() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[
        r#"{"id":1,"quantity":1,"customer":"a","city":-1}"#,
        r#"{"id":2,"quantity":1,"customer":"a","name":"Ann"}"#,
        r#"{"id":3,"quantity":1,"customer":"a","name":"Eve"}"#,
    ]);
    assert_eq!(bench.letters(), [0]);
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Eve\""]);
    assert_eq!(bench.counts(0), counts(2, 0, 1, 0));
}

#[test]
fn among_many_refused_records_of_one_key_the_sound_one_is_kept() {
    for on_conflict in [Update, Ignore] {
        let mut bench = Bench::new(shop(on_conflict));
        let mut payloads: Vec<String> =
            (1..200).map(|n| ANN.replace("quantity\":1", &format!("quantity\":-{n}"))).collect();
        payloads.insert(if on_conflict == Update { 3 } else { 150 }, ANN.to_owned());
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        bench.write(&payloads);
        assert_eq!(bench.rows("orders"), ["customer=\"a\" id=1 quantity=1"], "{on_conflict:?}");
        // Where the row that is there stays, what comes behind is no row at all.
        let dead = if on_conflict == Update { 199 } else { 150 };
        assert_eq!(bench.letters().len(), dead, "{on_conflict:?}");
        assert_eq!(bench.counts(0).total(), 200);
        assert!(bench.ledger.borrow().rolled_back < 40, "attempts are bounded");
    }
}

#[test]
fn a_parent_that_was_deleted_by_hand_is_written_again() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[ANN]);
    bench.ledger.borrow_mut().database.tables.clear();
    let written = bench.write(&[&ANN.replace("\"id\":1", "\"id\":2")]);
    assert!(written.dead_letters.is_empty());
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Ann\""]);
    assert_eq!(bench.rows("orders"), ["customer=\"a\" id=2 quantity=1"]);
}

#[test]
fn what_points_at_nothing_is_a_dead_letter_even_when_other_parents_are_known() {
    let mut bench = Bench::new(regions());
    bench.ledger.borrow_mut().database.tables.entry("regions".into()).or_default().insert(vec!["1".into()], Row::new());
    let order = |id: i64, region: i64| format!(r#"{{"id":{id},"customer":"a","region":{region},"quantity":1}}"#);
    bench.write(&[&order(1, 1)]);
    bench.write(&[&order(2, 1), &order(3, 7), &order(4, 1)]);
    assert_eq!(bench.letters(), [2]);
    assert_eq!(bench.rows("orders").len(), 3);
}

#[test]
fn partitions_that_are_not_held_are_left_out() {
    let mut bench = Bench::new(shop(Update));
    let records = [(0, 0, ANN.to_owned()), (1, 0, ANN.replace("\"id\":1", "\"id\":2")), (1, 1, "[]".to_owned())];
    let batch = bench.batch(&records);
    bench.held.revoke(1);
    let committed = bench.commit(0, &batch).unwrap();
    assert_eq!(committed.offsets, [(0, 1)]);
    assert!(committed.dead_letters.is_empty());
    assert_eq!(bench.rows("orders"), ["customer=\"a\" id=1 quantity=1"]);
    assert!(!bench.ledger.borrow().database.offsets.contains_key(&1));
    bench.held.assign(1, 2);
    let fenced = bench.commit(0, &batch).unwrap_err();
    assert!(matches!(fenced, WarehouseError::Fenced { partition: 0, .. }), "{fenced}");
    bench.held.revoke(0);
    let none = bench.commit(0, &batch).unwrap();
    assert_eq!(none, Committed { rows: vec![0, 0], ..Committed::default() }, "another epoch is another holder");
}

#[test]
fn a_failed_commit_leaves_no_trace_and_forgets() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[ANN]);
    let before = bench.ledger.borrow().database.clone();
    let batch = bench.batch(&[(0, 1, ANN.replace("Ann", "Eve"))]);
    bench.ledger.borrow_mut().fail_commit = true;
    assert!(matches!(bench.commit(0, &batch), Err(WarehouseError::Transient { .. })));
    assert_eq!(bench.ledger.borrow().database, before);
    let committed = bench.commit(0, &batch).unwrap();
    assert_eq!(committed.rows, [1, 0], "the row is written, not believed to be there");
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Eve\""]);
    assert_eq!(bench.counts(0), counts(2, 0, 0, 0));
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_and_counted_once() {
    for lanes in [1, 2] {
        let mut bench = Bench::with_lanes(shop(Update), lanes);
        bench.write(&[ANN]);
        let batch = bench.batch(&[(0, 1, ANN.replace("Ann", "Eve")), (1, 0, "[]".to_owned())]);
        // The short transaction of the parents commits first.
        if lanes > 1 {
            let parents = batch.source.moves.clone();
            let early = bench.lanes[0].write_parents(&mut bench.model, &batch, &parents, 0);
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(early).unwrap();
        }
        bench.ledger.borrow_mut().lose_answer = true;
        assert!(matches!(bench.commit(0, &batch), Err(WarehouseError::Transient { .. })));
        let after = bench.ledger.borrow().database.clone();
        let committed = bench.commit(0, &batch).unwrap();
        assert!(committed.found);
        assert_eq!(committed.offsets, [(0, 2), (1, 1)]);
        assert_eq!(committed.dead_letters.len(), 1);
        assert_eq!(bench.ledger.borrow().database, after, "nothing is written again");
        // The next batch is one like any other.
        assert!(!bench.write(&[ANN]).found);
    }
}

#[test]
fn a_commit_that_got_lost_before_the_database_is_repeated_even_after_another_was_found() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[ANN]);
    for name in ["Eve", "Sue"] {
        let next = bench.from[&0];
        let batch = bench.batch(&[(0, next, ANN.replace("Ann", name))]);
        bench.ledger.borrow_mut().fail_commit = true;
        bench.commit(0, &batch).unwrap_err();
        bench.ledger.borrow_mut().lose_answer = true;
        bench.commit(0, &batch).unwrap_err();
        assert!(bench.commit(0, &batch).unwrap().found);
    }
    assert_eq!(bench.counts(0), counts(3, 0, 0, 0));
}

#[test]
fn a_commit_in_doubt_is_not_taken_for_done_once_another_daemon_holds_the_partition() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[ANN]);
    let batch = bench.batch(&[(0, 1, ANN.replace("Ann", "Eve"))]);
    // It never got there, and another daemon has read the same record under its own epoch.
    bench.ledger.borrow_mut().fail_commit = true;
    bench.commit(0, &batch).unwrap_err();
    bench.ledger.borrow_mut().database.offsets.insert(0, (2, 2));
    assert!(matches!(bench.commit(0, &batch), Err(WarehouseError::Fenced { .. })));
}

#[test]
fn an_assignment_makes_the_lanes_forget() {
    let mut bench = Bench::new(shop(Update));
    bench.write(&[ANN]);
    bench.held.assign(2, 1);
    bench.write(&[ANN]);
    bench.write(&[ANN]);
    assert_eq!(bench.handed("customers"), 2, "once, and once after the assignment");
}

#[test]
fn a_lane_remembers_no_parent_that_another_has_changed_meanwhile() {
    let mut bench = Bench::with_lanes(shop(Update), 2);
    let eve = ANN.replace("Ann", "Eve");
    let (of_0, of_1) = (bench.batch(&[(0, 0, ANN.to_owned())]), bench.batch(&[(1, 0, eve)]));
    let mut other = std::mem::replace(&mut bench.lanes[1], {
        let nobody = Arc::new(Mutex::new(Known::new(bench.plan.targets.len())));
        Committer::new(Arc::clone(&bench.plan), nobody, 2)
    });
    let (mut model, held) = (Model::default(), bench.held.clone());
    model.ledger = Rc::clone(&bench.ledger);
    bench.ledger.borrow_mut().meanwhile = Some(Box::new(move || {
        let committing = std::pin::pin!(other.commit(&mut model, &of_1, &held, DateTime::UNIX_EPOCH));
        let done = committing.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert!(matches!(done, std::task::Poll::Ready(Ok(_))), "the model never waits");
    }));
    bench.commit(0, &of_0).unwrap();
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Eve\""]);
    bench.write(&[ANN]);
    assert_eq!(bench.rows("customers"), ["code=\"a\" name=\"Ann\""], "it is not what the table has");
}

#[test]
fn a_rehearsal_tells_what_would_be_and_leaves_no_trace() {
    let mut bench = Bench::new(shop(Update));
    let mut batch = bench.batch(&[(0, 0, ANN.to_owned()), (0, 1, ANN.replace(":1", ":-1")), (1, 0, "[]".to_owned())]);
    batch.source.moves.clear();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let told = runtime.block_on(bench.lanes[0].rehearse(&mut bench.model, &batch, DateTime::UNIX_EPOCH)).unwrap();
    assert_eq!(reasons(&told.committed), [Reason::Check, Reason::NotAnObject]);
    assert_eq!(told.letters.iter().map(|l| (l.partition, l.offset)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    let counted: Vec<_> = told.committed.counts.iter().map(|c| (c.partition, c.counts)).collect();
    assert_eq!(counted, [(0, counts(1, 0, 1, 0)), (1, counts(0, 0, 1, 0))]);
    assert_eq!(bench.ledger.borrow().database, Database::default());
    bench.from.clear();
    assert_eq!(bench.write(&[ANN]).rows, [1, 1], "nothing of it is remembered");
}

/// Orders with a customer that each record brings along, a region that no record brings, an order that they replace, and
/// a log of first orders.
fn regions() -> Plan {
    let customers = vec![required("code", varchar(3)), column("name", varchar(9)), column("city", bigint())];
    let orders = vec![
        required("id", bigint()),
        column("customer", varchar(3)),
        column("region", bigint()),
        column("quantity", bigint()),
        column("replaces", bigint()),
    ];
    let firsts = vec![required("customer", varchar(3)), column("quantity", bigint())];
    let tables = [
        table("firsts", firsts, &[(0, "customers", "code")]),
        table("orders", orders, &[(1, "customers", "code"), (2, "regions", "id"), (4, "orders", "id")]),
        table("customers", customers, &[]),
    ];
    let optional = |m: Mapping| Mapping { optional: true, ..m };
    let order = ["id", "customer", "region", "quantity", "replaces"].map(|name| (name, name));
    let mappings = [
        mapping("orders", Update, &order),
        optional(mapping("firsts", Ignore, &[("customer", "customer"), ("quantity", "quantity")])),
        optional(mapping("customers", Update, &[("code", "customer"), ("name", "name"), ("city", "city")])),
        optional(mapping("customers", Update, &[("code", "payer"), ("city", "payer_city")])),
    ];
    Plan::new("sales", &mappings, &tables).unwrap()
}

/// A record over few keys; some values are refused by the decoder, a CHECK or a foreign key.
fn payload() -> impl Strategy<Value = String> {
    let field = |name: &'static str, values: &'static [&'static str]| {
        prop::option::weighted(0.7, prop::sample::select(values))
            .prop_map(move |v| v.map(|v| format!("\"{name}\":{v}")))
    };
    let id = prop::sample::select(&["\"id\":1", "\"id\":2", "\"id\":3", "\"id\":\"x\""][..]);
    let id = prop_oneof![9 => prop::sample::select(&["\"id\":1", "\"id\":2", "\"id\":3"][..]), 1 => id];
    let rest = (
        field("customer", &["\"a\"", "\"b\"", "\"c\"", "null"]),
        field("region", &["1", "1", "2", "7", "null"]),
        field("quantity", &["1", "2", "3", "0", "-1", "null"]),
        field("name", &["\"n\"", "\"m\"", "\"\\u006e\"", "null"]),
        field("city", &["1", "2", "0", "-1", "null"]),
        field("payer", &["\"a\"", "\"b\"", "\"d\""]),
        field("payer_city", &["1", "5", "-1", "null"]),
        field("replaces", &["1", "2", "3", "null"]),
    );
    let record = (id, rest).prop_map(|(id, (a, b, c, d, e, f, g, h))| {
        let fields: Vec<String> = [Some(id.to_owned()), a, b, c, d, e, f, g, h].into_iter().flatten().collect();
        format!("{{{}}}", fields.join(","))
    });
    prop_oneof![20 => record, 1 => Just("[]".to_owned())]
}

/// Records with partition, distance to the one before, and whether a batch ends behind them.
fn stream() -> impl Strategy<Value = Vec<(i32, i64, bool, String)>> {
    let record = (0..2i32, prop_oneof![4 => Just(1i64), 1 => 1..4i64], prop::bool::weighted(0.25), payload());
    prop::collection::vec(record, 1..40)
}

/// Applies one record by itself: true where it was written, false where it was refused and left no trace.
fn apply_alone(plan: &Plan, database: &mut Database, payload: &str, checked: bool) -> bool {
    let alone = batch(plan, &mut BTreeMap::new(), &[(0, 0, payload.to_owned())]);
    if !alone.rejected.is_empty() {
        return false;
    }
    let mut next = database.clone();
    for (index, target) in plan.targets.iter().enumerate() {
        let columns: Vec<usize> = (0..target.columns.len()).collect();
        // Each row as it stands, so that the reference shares nothing with the joining of rows.
        let rows = Rows { target, columns: &columns, cells: &alone.tables[index].cells, arena: &alone.source.bytes };
        let touched: Vec<_> = (0..rows.len()).filter_map(|at| next.put_unchecked(&rows, at)).collect();
        if checked && touched.iter().any(|key| next.check(&target.table, key).is_err()) {
            return false;
        }
    }
    *database = next;
    true
}

fn with_regions() -> Database {
    let mut database = Database::default();
    let regions = database.tables.entry("regions".into()).or_default();
    regions.insert(vec!["1".into()], Row::new());
    regions.insert(vec!["2".into()], Row::new());
    database
}

/// Without values that no CHECK lets in: who brought one was superseded by a record of its batch that was set aside, whose
/// parent stays.
fn without_superseded(database: &Database) -> Database {
    let mut database = database.clone();
    for row in database.tables.values_mut().flat_map(|table| table.values_mut()) {
        row.retain(|_, value| !value.starts_with('-'));
    }
    database
}

/// Runs the stream, cut as it says or record by record; answers the bench and the records as they were.
fn run(
    stream: &[(i32, i64, bool, String)],
    singly: bool,
    lanes: usize,
    others_stay: bool,
) -> (Bench, Vec<(i32, i64, String)>) {
    let mut bench = Bench::with_lanes(regions(), lanes);
    bench.ledger.borrow_mut().others_stay = others_stay;
    bench.ledger.borrow_mut().database = with_regions();
    let mut next = [0, 0];
    let mut records = Vec::new();
    let mut pending = Vec::new();
    let mut lane = 0;
    for (at, (partition, distance, cut, payload)) in stream.iter().enumerate() {
        let offset = next[*partition as usize] + distance - 1;
        next[*partition as usize] = offset + 1;
        pending.push((*partition, offset, payload.clone()));
        if singly || *cut || at + 1 == stream.len() {
            let batch = bench.batch(&pending);
            let committed = bench.commit(lane, &batch).unwrap();
            for (moved, counted) in batch.source.moves.iter().zip(&committed.counts) {
                assert_eq!(counted.counts.total(), moved.to - moved.from, "every offset has one outcome");
            }
            lane = 1 - lane;
            records.append(&mut pending);
        }
    }
    (bench, records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn record_by_record_the_model_and_the_committer_agree(stream in stream(), others_stay in any::<bool>()) {
        let (bench, records) = run(&stream, true, 1, others_stay);
        let mut reference = with_regions();
        let plan = regions();
        let mut dead = Vec::new();
        for (partition, offset, payload) in &records {
            if !apply_alone(&plan, &mut reference, payload, true) {
                dead.push((*partition, *offset));
            }
        }
        let ledger = bench.ledger.borrow();
        let letters: Vec<_> = ledger.database.letters.iter().map(|l| (l.partition, l.offset)).collect();
        prop_assert_eq!(letters, dead);
        prop_assert_eq!(&ledger.database.tables, &reference.tables);
    }

    /// Whatever the batches: the records that were not set aside, applied one by one, give the rows that are there;
    /// each that was set aside would have been refused in its turn; and every offset has one outcome.
    /// Where lanes write in parallel, that is so but for parents.
    #[test]
    fn however_batches_are_cut_rows_and_outcomes_agree(
        stream in stream(), lanes in 1..3usize, others_stay in any::<bool>()
    ) {
        let (bench, records) = run(&stream, false, lanes, others_stay);
        let plan = regions();
        let ledger = bench.ledger.borrow();
        let mut reference = with_regions();
        for (partition, offset, payload) in &records {
            let dead = ledger.database.letters.iter().any(|l| (l.partition, l.offset) == (*partition, *offset));
            if dead {
                let mut before = if lanes > 1 { without_superseded(&reference) } else { reference.clone() };
                let refused = !apply_alone(&plan, &mut before, payload, true);
                prop_assert!(refused, "{payload} at {offset} is sound and was set aside");
            } else {
                prop_assert!(apply_alone(&plan, &mut reference, payload, false));
            }
        }
        let mut tables = ledger.database.tables.clone();
        if lanes > 1 {
            // Parents of records that the database refused may stay.
            let parents = tables.remove("customers").unwrap_or_default();
            let expected = reference.tables.remove("customers").unwrap_or_default();
            prop_assert!(expected.keys().all(|key| parents.contains_key(key)));
        }
        prop_assert_eq!(&tables, &reference.tables);
        for (partition, (next, _)) in &ledger.database.offsets {
            prop_assert_eq!(ledger.database.counts[partition].total(), *next);
            prop_assert_eq!(bench.from[partition], *next);
            let letters = ledger.database.letters.iter().filter(|l| l.partition == *partition).count();
            prop_assert_eq!(ledger.database.counts[partition].dead_letters, letters as i64);
        }
    }
}

/// Items with a name of their own, and another item that they are part of.
fn items() -> Plan {
    let columns = ["id", "part_of", "serial", "quantity"];
    let made = columns.map(|name| if name == "id" { required(name, bigint()) } else { column(name, bigint()) });
    let table = table("items", made.to_vec(), &[(1, "items", "id")]);
    Plan::new("items", &[mapping("items", Update, &columns.map(|name| (name, name)))], &[table]).unwrap()
}

#[test]
fn rows_that_lean_on_rows_with_other_columns_go_in_behind_them() {
    for others_stay in [false, true] {
        let mut bench = Bench::new(items());
        bench.ledger.borrow_mut().others_stay = others_stay;
        // The smallest key is a child's, and fields that are null are left out. A chain in either order of the records.
        let committed = bench.write(&[
            r#"{"id":1,"part_of":2}"#,
            r#"{"id":2,"part_of":3,"quantity":1}"#,
            r#"{"id":3,"part_of":9,"serial":1}"#,
            r#"{"id":9}"#,
            r#"{"id":8,"part_of":9,"quantity":7}"#,
            r#"{"id":7,"part_of":8,"serial":2}"#,
            r#"{"id":6,"part_of":7}"#,
            r#"{"id":5,"part_of":4}"#,
        ]);
        assert_eq!((reasons(&committed), bench.letters()), (vec![Reason::ForeignKey], vec![7]), "{others_stay}");
        assert_eq!((bench.counts(0), bench.rows("items").len()), (counts(7, 0, 1, 0), 7));
        // What one gives up another takes, which comes first in the order of keys.
        let committed = bench.write(&[r#"{"id":3,"serial":5,"quantity":1}"#, r#"{"id":1,"serial":1}"#]);
        assert_eq!(reasons(&committed), [], "{others_stay}");
        assert_eq!(bench.rows("items")[0], "id=1 part_of=2 serial=1");
        // Who holds it keeps it; the record that does not want it is written.
        let taken = [r#"{"id":2,"serial":5}"#, r#"{"id":2,"quantity":3}"#, r#"{"id":4,"quantity":1,"part_of":1}"#];
        assert_eq!(reasons(&bench.write(&taken)), [Reason::UniqueKey], "{others_stay}");
        assert_eq!(bench.rows("items")[1], "id=2 part_of=3 quantity=3");
    }
}

#[test]
fn a_batch_with_too_many_dead_letters_is_refused_for_good_and_leaves_no_trace() {
    let mut bench = Bench::new(shop(Update));
    let share = Arc::new(Mutex::new(LetterShare::new(0.05)));
    let known = Arc::new(Mutex::new(Known::new(bench.plan.targets.len())));
    bench.lanes[0] = Committer::new(Arc::clone(&bench.plan), known, 1).with_share(share);
    let mut payloads = vec![ANN; 950];
    payloads.extend(["[]"; 50]);
    bench.write(&payloads);
    assert_eq!(bench.letters().len(), 50, "the share itself is still right");
    let before = bench.ledger.borrow().database.clone();
    let records: Vec<_> = (1_000..1_100).map(|offset| (0, offset, "[]".to_owned())).collect();
    let batch = bench.batch(&records);
    let error = bench.commit(0, &batch).unwrap_err();
    assert!(matches!(error, WarehouseError::Fatal { .. }));
    let told = error.to_string();
    for part in ["150 of the last 1100 records", "max_dead_letter_share = 0.05", "offset 1000: not_an_object"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(bench.ledger.borrow().database, before);
}
