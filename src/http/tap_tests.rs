//! `/api/v1/tap` against a real server: what is offered comes as lines, filtered, projected and counted.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::schema_for_tests::Check;
use super::tests::{Daemon, daemon, next_line};
use crate::messages::tap::{Sample, Stage};

fn sample(offset: i64) -> Sample {
    Sample {
        stage: Stage::Raw,
        stream: "orders".into(),
        topic: "orders.v1".into(),
        partition: 3,
        offset,
        timestamp: -1,
        key: Some("k\u{1b}[2J".into()),
        payload: Some(format!("{{\"id\":{offset},\"city\":\"{}\"}}", ["Bern", "Genf"][offset as usize % 2])),
        payload_bytes: 10,
        rows: Vec::new(),
        rejection: None,
        committed_at: None,
    }
}

/// Opens the tap and waits until it listens.
fn open(daemon: &Daemon, query: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /api/v1/tap?{query} HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address).unwrap();
    let mut reader = BufReader::new(stream);
    let head = next_line(&mut reader, "HTTP/1.1");
    assert!(head.contains(" 200 "), "{query}: {head}");
    assert_eq!(next_line(&mut reader, "content-type").trim(), "content-type: application/x-ndjson");
    let first: Value = serde_json::from_str(&next_line(&mut reader, "{")).unwrap();
    Check::must_fit("TapLine", &first);
    assert!(["summary", "counts"].contains(&first["type"].as_str().unwrap()), "it tells at once that it listens");
    reader
}

fn next(reader: &mut BufReader<TcpStream>, kind: &str) -> Value {
    loop {
        let line: Value = serde_json::from_str(&next_line(reader, "{")).unwrap();
        Check::must_fit("TapLine", &line);
        assert_ne!((line["type"].as_str(), kind), (Some("error"), "sample"), "{line}");
        if line["type"] == kind {
            return line;
        }
    }
}

fn offer(daemon: &Daemon, stage: Stage, count: usize) {
    daemon.tap.offer(stage, count, |at| Some(Sample { stage, ..sample(at as i64) }));
}

#[test]
fn what_passes_the_stage_comes_with_all_that_is_known_of_it() {
    let daemon = daemon();
    let mut reader = open(&daemon, "stage=raw");
    offer(&daemon, Stage::Rows, 1);
    offer(&daemon, Stage::Raw, 1);
    let line = next(&mut reader, "sample");
    assert_eq!(line["stage"], "raw");
    assert_eq!(line["record"], json!({ "id": 0, "city": "Bern" }));
    assert_eq!((&line["offset"], &line["partition"]), (&json!(0), &json!(3)));
    let summary = next(&mut reader, "summary");
    assert_eq!((&summary["records"], &summary["sampled"], &summary["dropped"]), (&json!(1), &json!(1), &json!(0)));
}

#[test]
fn a_condition_and_fields_are_asked_on_the_daemons_side_until_the_limit() {
    let daemon = daemon();
    // record.city == 'Genf' && offset > 1
    let condition = "record.city%20%3D%3D%20'Genf'%20%26%26%20offset%20%3E%201";
    let mut reader = open(&daemon, &format!("stage=raw&where={condition}&fields=id,key,nothing&limit=2"));
    offer(&daemon, Stage::Raw, 10);
    let offsets: Vec<Value> = (0..2).map(|_| next(&mut reader, "sample")["offset"].clone()).collect();
    assert_eq!(offsets, [3, 5]);
    let summary = next(&mut reader, "summary");
    assert_eq!((&summary["sampled"], &summary["matched"], &summary["undecided"]), (&json!(6), &json!(2), &json!(0)));
    let limit = Instant::now() + Duration::from_secs(10);
    while !daemon.tap.listened().is_empty() {
        assert!(Instant::now() < limit, "who has all that he asked for listens no longer");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut reader = open(&daemon, "stage=raw&fields=id,key,nothing");
    offer(&daemon, Stage::Raw, 1);
    let line = next(&mut reader, "sample");
    assert_eq!(
        line,
        json!({ "type": "sample", "stream": "orders", "topic": "orders.v1", "partition": 3, "offset": 0,
            "fields": { "id": 0, "key": "k\u{1b}[2J", "nothing": null } })
    );
}

#[test]
fn values_are_counted_the_most_frequent_first() {
    let daemon = daemon();
    let mut reader = open(&daemon, "stage=dead-letters&count_by=city");
    offer(&daemon, Stage::DeadLetters, 5);
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let counts = next(&mut reader, "counts");
        if counts["counts"] == json!([["Bern", 3], ["Genf", 2]]) {
            assert_eq!((&counts["distinct"], &counts["others"]), (&json!(2), &json!(0)));
            break;
        }
        assert!(Instant::now() < limit, "{counts}");
    }
}

#[test]
fn records_that_a_condition_does_not_fit_are_counted_with_the_cause() {
    let daemon = daemon();
    let mut reader = open(&daemon, "stage=raw&where=record.missing%20%3E%201");
    offer(&daemon, Stage::Raw, 3);
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let summary = next(&mut reader, "summary");
        if summary["undecided"] == 3 {
            assert_eq!(summary["cause"], "there is no `missing`; ask with has(…) first");
            break;
        }
        assert!(Instant::now() < limit, "{summary}");
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_and_not_repeated() {
    let daemon = daemon();
    for query in [
        "",
        "stage=hidden",
        "stage=raw&where=",
        "stage=raw&where=hidden%20%3D%3D%201",
        "stage=raw&where=!!!!!!(!!!(hidden",
        "stage=raw&fields=hidden..x",
        "stage=raw&limit=hidden",
        "stage=raw&hidden=1",
    ] {
        let answer = daemon.get(&format!("/api/v1/tap?{query}"));
        assert_eq!((answer.status, answer.header("content-type")), (400, "application/problem+json"), "{query}");
        assert!(!answer.text().contains("hidden"), "{query}: {}", answer.text());
    }
    assert!(daemon.tap.listened().is_empty());
}

#[test]
fn readers_are_bounded_and_who_leaves_listens_no_longer() {
    let daemon = daemon();
    let readers: Vec<_> = (0..crate::messages::tap::MAX_LISTENERS).map(|_| open(&daemon, "stage=raw")).collect();
    assert_eq!(daemon.get("/api/v1/tap?stage=raw").status, 503);
    assert_eq!(daemon.get("/livez").status, 200);
    drop(readers);
    let limit = Instant::now() + Duration::from_secs(20);
    while !daemon.tap.listened().is_empty() {
        assert!(Instant::now() < limit, "the daemon still listens for who has gone");
        std::thread::sleep(Duration::from_millis(50));
    }
}
