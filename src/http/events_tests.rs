//! The live stream over a real connection: several types, resumed, slow, and many at once.

use std::io::{BufReader, Read};
use std::net::TcpStream;

use serde_json::Value;

use super::sources_for_tests::{bucket, moment};
use super::tests::{Daemon, daemon, next_line};
use crate::messages::tap::{Sample, Stage};
use crate::ports::cache::{Entry, Replacement};

/// A record is applied and a bucket replaced, for who listens.
pub(super) fn happen(daemon: &Daemon) {
    daemon.tap.offer(Stage::Rows, 1, |_| {
        Some(Sample {
            stage: Stage::Rows,
            stream: "orders".into(),
            topic: "orders.v1".into(),
            partition: 3,
            offset: 110,
            timestamp: 1_767_225_600_000,
            key: None,
            payload: Some("{\"note\": \"<script>\\n\"}".to_owned()),
            payload_bytes: 23,
            rows: Vec::new(),
            rejection: None,
            committed_at: Some(1_767_225_600_100),
        })
    });
    daemon.replacements.tell(&Replacement {
        aggregate: "sums".to_owned(),
        bucket: bucket(0),
        version: 8,
        computed_at: moment(1),
        offsets: Default::default(),
        entries: vec![Entry {
            key: vec![("shop".to_owned(), "north".into()), ("aisle".to_owned(), 3.into())],
            values: vec![("orders".to_owned(), 2.into())],
        }],
    });
}

/// The next event: its id, type and data.
fn event(reader: &mut BufReader<TcpStream>) -> (String, String, Value) {
    let id = next_line(reader, "id: ")["id: ".len()..].trim().to_owned();
    let kind = next_line(reader, "event: ")["event: ".len()..].trim().to_owned();
    let data = next_line(reader, "data: ")["data: ".len()..].to_owned();
    (id, kind, serde_json::from_str(&data).unwrap())
}

/// The next event of a type, while things happen.
fn next_of(daemon: &Daemon, reader: &mut BufReader<TcpStream>, wanted: &str) -> (String, Value) {
    loop {
        happen(daemon);
        let (id, kind, data) = event(reader);
        if kind == wanted {
            return (id, data);
        }
    }
}

#[test]
fn who_comes_back_gets_what_came_since() {
    let daemon = daemon();
    let mut reader = daemon.open_events();
    let (first, data) = next_of(&daemon, &mut reader, "documents");
    assert_eq!(data["buckets"][0]["documents"][0]["values"]["orders"], 2);
    let (second, _) = next_of(&daemon, &mut reader, "documents");
    drop(reader);
    let mut again = daemon.open_events_at("/events?types=documents", &format!("Last-Event-ID: {first}\r\n"));
    let (id, kind, _) = event(&mut again);
    assert_eq!((id, kind.as_str()), (second, "documents"));
}

#[test]
fn who_comes_back_to_another_run_is_told_that_events_are_missing() {
    let daemon = daemon();
    for (id, is_told) in [("other-7", true), ("", false)] {
        let mut reader = daemon.open_events_at("/events", &format!("Last-Event-ID: {id}\r\n"));
        let (_, kind, data) = event(&mut reader);
        assert_eq!(kind == "missed", is_told, "{id}");
        assert!(!is_told || data["restarted"] == true);
    }
}

#[test]
fn a_reader_gets_the_types_that_it_asked_for_and_no_others_are_gathered() {
    let daemon = daemon();
    let mut reader = daemon.open_events_at("/events?types=records", "");
    let (_, data) = next_of(&daemon, &mut reader, "records");
    let record = &data["records"][0];
    assert_eq!((&record["offset"], &record["fields"]["note"]), (&110.into(), &"<script>\n".into()));
    assert!(daemon.replacements.take().buckets.is_empty(), "nobody asked for documents");
    let mut status = daemon.open_events_at("/events?types=status", "");
    for _ in 0..2 {
        assert_eq!(event(&mut status).1, "status");
    }
}

#[test]
fn readers_that_take_nothing_hold_up_nobody() {
    let daemon = daemon();
    // Their answers are never read.
    let stalled: Vec<_> = (0..100).map(|_| daemon.open_events()).collect();
    let mut reader = daemon.open_events();
    for _ in 0..3 {
        next_of(&daemon, &mut reader, "records");
    }
    assert_eq!(daemon.get("/livez").status, 200);
    let mut some = [0; 12];
    stalled.into_iter().next().unwrap().into_inner().read_exact(&mut some).unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
}
