//! What is offered, taken, spread and dropped.

use std::collections::BTreeSet;

use super::*;
use crate::core::cell::Span;
use crate::core::decode::{Envelope, FieldOrder};
use crate::core::outcome::{Reason, Rejection};
use crate::core::target::OnConflict;
use crate::core::testing::{decode_records, envelope, shop};
use crate::messages::{Record, RecordBatch, RowBatch};

fn sample(offset: i64) -> Sample {
    Sample {
        stage: Stage::Raw,
        stream: "orders".into(),
        topic: "sales".into(),
        partition: 0,
        offset,
        timestamp: -1,
        key: None,
        payload: None,
        payload_bytes: 0,
        rows: Vec::new(),
        rejection: None,
        committed_at: None,
    }
}

fn take(listening: &mut Listening) -> Vec<Arc<Sample>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut taken = Vec::new();
    while !listening.samples.is_empty() {
        runtime.block_on(listening.next(&mut taken, 64));
    }
    taken
}

fn offsets(samples: &[Arc<Sample>]) -> Vec<i64> {
    samples.iter().map(|sample| sample.offset).collect()
}

#[test]
fn nothing_is_copied_while_nobody_listens_to_the_stage() {
    let tap = Tap::default();
    assert!(tap.listened().is_empty());
    let letters = tap.listen(Stage::DeadLetters, 10).unwrap();
    assert!(tap.listened().has(Stage::DeadLetters) && !tap.listened().has(Stage::Raw));
    tap.offer(Stage::Raw, 100, |_| panic!("copied for nobody"));
    assert_eq!(letters.passed(), Passed::default());
    drop(letters);
    assert!(tap.listened().is_empty());
}

#[test]
fn a_few_records_all_come_and_many_are_spread_evenly() {
    let tap = Tap::default();
    let mut all = tap.listen(Stage::Raw, 1000).unwrap();
    tap.offer(Stage::Raw, 5, |at| Some(sample(at as i64)));
    assert_eq!(offsets(&take(&mut all)), [0, 1, 2, 3, 4]);
    drop(all);

    let mut some = tap.listen(Stage::Raw, 100).unwrap();
    let mut fewer = tap.listen(Stage::Raw, 40).unwrap();
    tap.offer(Stage::Raw, 10_000, |at| Some(sample(at as i64)));
    assert_eq!(offsets(&take(&mut some)), (0..10).map(|n| n * 1000).collect::<Vec<_>>());
    assert_eq!(offsets(&take(&mut fewer)), [2000, 4000, 7000, 9000]);
    assert_eq!(some.passed(), Passed { records: 10_000, dropped: 0 });
}

#[test]
fn no_more_come_in_a_second_than_were_asked_for() {
    let tap = Tap::default();
    let mut listening = tap.listen(Stage::Raw, 50).unwrap();
    let began = Instant::now();
    for _ in 0..1000 {
        tap.offer(Stage::Raw, 100, |at| Some(sample(at as i64)));
    }
    let tenths = began.elapsed().as_millis() as usize / 100 + 1;
    let taken = take(&mut listening).len();
    assert!((5..=5 * (tenths + 1)).contains(&taken), "{taken} in {tenths} tenths of a second");
    assert_eq!(listening.passed().records, 100_000);
}

#[test]
fn what_does_not_fit_the_queue_is_dropped_and_counted_and_room_comes_back() {
    let tap = Tap::default();
    let mut listening = tap.listen(Stage::Raw, 1_000_000).unwrap();
    let large = "x".repeat(100 << 10);
    let offer =
        |count| tap.offer(Stage::Raw, count, |at| Some(Sample { payload: Some(large.clone()), ..sample(at as i64) }));
    offer(20);
    let kept = take(&mut listening).len();
    assert!((1..=5).contains(&kept), "{kept} of 100 KiB each");
    assert_eq!(listening.passed().dropped, 20 - kept as u64);
    assert_eq!(tap.counts(Stage::Raw), (20, 20 - kept as u64));
    offer(1);
    assert_eq!(take(&mut listening).len(), 1, "there is room again");

    tap.offer(Stage::Raw, 5000, |at| Some(sample(at as i64)));
    let kept = take(&mut listening).len();
    assert!((100..=QUEUE_SAMPLES).contains(&kept), "{kept} small ones");
}

#[test]
fn listeners_are_bounded_and_a_place_is_given_back() {
    let tap = Tap::default();
    let mut listeners: Vec<_> = (0..MAX_LISTENERS).map(|_| tap.listen(Stage::Rows, 1).unwrap()).collect();
    assert_eq!(tap.listen(Stage::Raw, 1).unwrap_err(), TooMany);
    listeners.pop();
    assert!(tap.listen(Stage::Raw, 1).is_ok());
}

#[test]
fn lanes_that_offer_at_once_and_listeners_that_come_and_go_disturb_nobody() {
    let tap = Tap::default();
    let mut stays = tap.listen(Stage::Raw, 1_000_000).unwrap();
    std::thread::scope(|scope| {
        for lane in 0..3 {
            let tap = tap.clone();
            scope.spawn(move || (0..300).for_each(|at| tap.offer(Stage::Raw, 1, |_| Some(sample(lane * 1000 + at)))));
        }
        let tap = tap.clone();
        scope.spawn(move || (0..100).for_each(|_| drop(tap.listen(Stage::Raw, 10).unwrap())));
    });
    let taken = offsets(&take(&mut stays));
    let distinct: BTreeSet<_> = taken.iter().collect();
    assert_eq!(distinct.len(), taken.len(), "none comes twice");
    let Passed { records, dropped } = stays.passed();
    assert_eq!(taken.len() as u64 + dropped, records);
}

/// Records of two partitions of a shop, decoded: the second is no object, the third is of a partition that is lost.
fn batch(plan: &crate::core::mapping::Plan) -> RowBatch {
    let payloads = [
        r#"{"id":1,"quantity":1,"customer":"a","name":"Ann"}"#,
        "[]",
        r#"{"id":2,"quantity":1}"#,
        r#"{"id":3,"quantity":2,"customer":"b"}"#,
    ];
    let mut source = RecordBatch::default();
    for (at, payload) in payloads.iter().enumerate() {
        let span = Span::new(source.bytes.len(), payload.len());
        source.bytes.extend_from_slice(payload.as_bytes());
        source.records.push(Record {
            partition: i32::from(at == 2),
            offset: at as i64,
            timestamp: 1_357_035_300_000,
            key: None,
            payload: Some(span),
            oversize: None,
        });
    }
    let envelopes: Vec<Envelope<'_>> = (0..)
        .zip(&source.records)
        .map(|(index, record)| Envelope {
            index,
            payload: record.payload.map(|span| span.of(&source.bytes)),
            ..envelope()
        })
        .collect();
    let mut order = FieldOrder::default();
    let (tables, extra, rejected) = decode_records(plan, &mut order, &source.bytes, &envelopes);
    source.bytes.extend_from_slice(&extra);
    RowBatch { source, tables, rejected }
}

#[test]
fn a_committed_batch_is_seen_as_rows_and_as_dead_letters_with_their_reasons() {
    let plan = Arc::new(shop(OnConflict::Update));
    let tap = Tap::default();
    let of_stream = StreamTap::new(tap.clone(), "orders", Arc::clone(&plan));
    let mut raw = tap.listen(Stage::Raw, 1000).unwrap();
    let mut rows = tap.listen(Stage::Rows, 1000).unwrap();
    let mut letters = tap.listen(Stage::DeadLetters, 1000).unwrap();
    let batch = batch(&plan);
    of_stream.polled(&batch.source);
    assert_eq!(offsets(&take(&mut raw)), [0, 1, 2, 3]);

    let refused = Rejection { reason: Reason::Check, field: Some("quantity".into()), message: "no".into() };
    let set_aside = [batch.rejected[0].clone(), (3, refused)];
    of_stream.committed(&batch, &[(0, 4)], &set_aside, 1_357_035_301_500);
    let committed = take(&mut rows);
    assert_eq!(offsets(&committed), [0], "neither a letter nor a partition that was lost");
    let document = serde_json::Value::Object(committed[0].document());
    assert_eq!(
        document,
        serde_json::json!({
            "stage": "rows", "stream": "orders", "topic": "sales", "partition": 0, "offset": 0,
            "timestamp": "2013-01-01T10:15:00.000Z", "key": null, "size": 49,
            "payload": r#"{"id":1,"quantity":1,"customer":"a","name":"Ann"}"#,
            "record": { "id": 1, "quantity": 1, "customer": "a", "name": "Ann" },
            "rows": {
                "customers": [{ "code": "a", "name": "Ann" }],
                "orders": [{ "id": 1, "customer": "a", "quantity": 1 }],
            },
            "reason": null, "field": null, "message": null, "committed_at": "2013-01-01T10:15:01.500Z",
            "latency_ms": 1500,
        })
    );
    let letters = take(&mut letters);
    assert_eq!(offsets(&letters), [1, 3]);
    let told: Vec<_> = letters.iter().map(|l| l.document()["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["not_an_object", "check"]);
    assert_eq!(letters[0].document()["record"], serde_json::json!([]));
    assert_eq!(letters[1].document()["rows"]["orders"][0]["id"], 3, "what the database refused is shown");
}

#[test]
fn a_sample_is_bounded_whatever_the_record_is() {
    let plan = Arc::new(shop(OnConflict::Update));
    let mut source = RecordBatch { bytes: vec![b'"'; 1 << 20], ..RecordBatch::default() };
    let whole = Some(Span::new(0, 1 << 20));
    source.records.push(Record { partition: 0, offset: 0, timestamp: -1, key: whole, payload: whole, oversize: None });
    let tap = Tap::default();
    let mut raw = tap.listen(Stage::Raw, 1).unwrap();
    StreamTap::new(tap, "orders", plan).polled(&source);
    let taken = take(&mut raw);
    assert!(taken[0].size() < 20 << 10, "{}", taken[0].size());
    assert_eq!(taken[0].document()["size"], 1 << 20);
}
