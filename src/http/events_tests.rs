//! The live stream over a real connection: several types, resumed, slow, and many at once.

use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::schema_for_tests::Check;
use super::sources_for_tests::{bucket, moment};
use super::tests::{Daemon, READERS, daemon, next_line};
use crate::core::outcome::Counts;
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
    let data: Value = serde_json::from_str(&next_line(reader, "data: ")["data: ".len()..]).unwrap();
    Check::must_fit(&(kind[..1].to_uppercase() + &kind[1..]), &data);
    (id, kind, data)
}

/// The next event of a type, while things happen: what happens before the daemon listens for a reader is told to nobody.
fn next_of(daemon: &Daemon, reader: &mut BufReader<TcpStream>, wanted: &str) -> (String, Value) {
    let (found, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            happen(daemon);
            while ended.recv_timeout(Duration::from_millis(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
                happen(daemon);
            }
        });
        // Let go however this ends, so that the other thread ends too.
        let _found = found;
        loop {
            let (id, kind, data) = event(reader);
            if kind == wanted {
                return (id, data);
            }
        }
    })
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
fn who_comes_back_after_nobody_listened_for_a_while_is_told_that_events_are_missing() {
    let daemon = daemon();
    let mut reader = daemon.open_events();
    let (last, _) = next_of(&daemon, &mut reader, "documents");
    drop(reader);
    let limit = Instant::now() + Duration::from_secs(60);
    while daemon.replacements.is_listened_to() {
        assert!(Instant::now() < limit, "nobody wants to hear of buckets, and they are gathered still");
        std::thread::sleep(Duration::from_millis(20));
    }
    happen(&daemon);
    let mut again = daemon.open_events_at("/events?types=documents", &format!("Last-Event-ID: {last}\r\n"));
    let (_, kind, data) = event(&mut again);
    assert_eq!((kind.as_str(), &data["restarted"]), ("missed", &false.into()));
}

#[test]
fn a_reader_to_whom_nothing_is_told_hears_that_the_daemon_lives() {
    let daemon = daemon();
    let mut reader = daemon.open_events_at("/events?types=documents", "");
    let _others = daemon.open_events();
    for _ in 0..2 {
        assert_eq!(next_line(&mut reader, ":").trim(), ": beat");
    }
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

#[test]
fn the_live_stream_brings_what_was_committed_since() {
    let daemon = daemon();
    let mut reader = daemon.open_events();
    assert!(next_line(&mut reader, "HTTP/1.1").contains(" 200 "));
    assert_eq!(next_line(&mut reader, "content-type").trim(), "content-type: text/event-stream");
    assert_eq!(next_line(&mut reader, "retry:"), "retry: 2000\n");
    let mut next_offset = || {
        let data = next_line(&mut reader, "data: ");
        let status: Value = serde_json::from_str(&data[6..]).unwrap();
        status["streams"][0]["partitions"][0]["next_offset"].as_i64().unwrap()
    };
    assert_eq!(next_offset(), 110);
    daemon.board.committed("orders", 3, 111, Counts { applied: 1, ..Counts::default() });
    // One document may have been made before.
    assert!((0..3).any(|_| next_offset() == 111), "what was committed is told");
}

#[test]
fn open_pages_are_bounded_and_a_place_is_given_back() {
    let daemon = daemon();
    let mut readers: Vec<_> = (0..READERS).map(|_| daemon.open_events()).collect();
    for reader in &mut readers {
        assert!(next_line(reader, "HTTP/1.1").contains(" 200 "));
    }
    assert_eq!(daemon.get("/events").status, 503);
    assert_eq!(daemon.get("/livez").status, 200, "open pages do not lock the probe out");
    drop(readers);
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let mut reader = daemon.open_events();
        if next_line(&mut reader, "HTTP/1.1").contains(" 200 ") {
            break;
        }
        assert!(Instant::now() < limit, "no place was given back");
        std::thread::sleep(Duration::from_millis(50));
    }
}
