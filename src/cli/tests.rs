//! The commands that ask a daemon, against a real one on a free port.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::http_client::Daemon;
use super::{exit, healthcheck, status, tap, top};
use crate::config::{Access, Secret};
use crate::http::{Check, DaemonInfo, HttpState, serve, sources_for_tests};
use crate::messages::tap::{Sample, Stage};
use crate::messages::{Board, Forecasts, Freshness, Replacements, Tap};
use crate::metrics::Metrics;

/// Runs `ask` with the address of a daemon whose readiness is `ready`.
fn with_daemon(ready: &Arc<AtomicBool>, ask: impl FnOnce(&Daemon)) {
    with_guarded_daemon(ready, Access::default(), ask);
}

fn with_guarded_daemon(ready: &Arc<AtomicBool>, access: Access, ask: impl FnOnce(&Daemon)) {
    with_tapped_daemon(ready, access, Tap::default(), ask);
}

fn with_tapped_daemon(ready: &Arc<AtomicBool>, access: Access, tap: Tap, ask: impl FnOnce(&Daemon)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let board = Board::default();
    board.declare("orders", "orders.v1");
    let ready = ready.clone();
    let state = HttpState {
        daemon: DaemonInfo { name: "shop".into(), version: "1.2.3", revision: "abc", started_at: Utc::now() },
        metrics: Metrics::new("1.2.3", "abc"),
        board,
        tap,
        units: Arc::new(|| serde_json::json!([])),
        checks: Arc::new(move || {
            let ok = ready.load(Ordering::Relaxed);
            vec![Check { name: "database".into(), ok, cause: Some("connection refused".into()), since: None }]
        }),
        allowed_hosts: Vec::new(),
        access,
        aggregates: Vec::new(),
        forecasts: Vec::new(),
        panels: Vec::new(),
        tables: Vec::new(),
        lanes: BTreeMap::new(),
        database: "MySQL",
        freshness: Freshness::default(),
        replacements: Replacements::default(),
        standing: Forecasts::default(),
    };
    let sources = sources_for_tests::sources(&Arc::default());
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let server = serve(listener, state, sources).unwrap();
            send.send(server.handle()).unwrap();
            server.await.unwrap();
        });
    });
    let handle = receive.recv().unwrap();
    ask(&Daemon { url: Some(url), config: None });
    drop(handle.stop(false));
    thread.join().unwrap();
}

fn status_of(daemon: &Daemon, json: bool) -> (u8, String) {
    let mut out = Vec::new();
    let code = status::run(&status::Args::of(daemon.clone(), json), &mut out);
    (code, String::from_utf8(out).unwrap())
}

#[test]
fn a_daemon_that_is_not_ready_lives_and_says_why() {
    let ready = Arc::new(AtomicBool::new(true));
    with_daemon(&ready, |daemon| {
        let health = |wants_ready| healthcheck::run(&healthcheck::Args::of(daemon.clone(), wants_ready));
        assert_eq!((health(false), health(true), status_of(daemon, false).0), (exit::OK, exit::OK, exit::OK));
        ready.store(false, Ordering::Relaxed);
        assert_eq!((health(false), health(true)), (exit::OK, exit::NOT_READY));
        let (code, text) = status_of(daemon, false);
        assert_eq!(code, exit::NOT_READY);
        assert!(text.contains("NOT READY\n  database: connection refused\n"), "{text}");
    });
}

#[test]
fn the_json_is_the_daemons_own_document() {
    with_daemon(&Arc::new(AtomicBool::new(true)), |daemon| {
        let (code, text) = status_of(daemon, true);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &document["streams"][0]["topic"]), (exit::OK, &"orders.v1".into()));
    });
}

#[test]
fn no_daemon_is_not_ready_and_a_wrong_address_is_a_usage_error() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, code) in [(format!("http://127.0.0.1:{port}"), exit::NOT_READY), ("ftp://x".into(), exit::USAGE)] {
        let daemon = Daemon { url: Some(url), config: None };
        assert_eq!(healthcheck::run(&healthcheck::Args::of(daemon.clone(), false)), code);
        assert_eq!(status_of(&daemon, false), (code, String::new()));
    }
}

#[test]
fn a_daemon_with_a_token_is_asked_with_it_and_says_where_it_is_missing() {
    let access = Access { token: Some(Secret::new("a-token-of-some-length")), ..Access::default() };
    with_guarded_daemon(&Arc::new(AtomicBool::new(true)), access, |daemon| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("actors.toml");
        let address = daemon.url.as_deref().unwrap().trim_start_matches("http://");
        let with_token = |token: &str| {
            std::fs::write(&file, format!("[daemon]\nhttp = \"{address}\"\ntoken = \"{token}\"\n")).unwrap();
            Daemon { url: None, config: Some(file.clone()) }
        };
        assert_eq!(status_of(&with_token("a-token-of-some-length"), false).0, exit::OK);
        assert_eq!(status_of(&with_token("another-of-that-length"), false), (exit::USAGE, String::new()));
        for ready in [false, true] {
            let probe = healthcheck::Args::of(with_token("another-of-that-length"), ready);
            assert_eq!(healthcheck::run(&probe), exit::OK, "a probe needs no token");
        }
    });
}

/// Offers these payloads at a stage as soon as somebody listens there, and answers what `bief tap` came to.
fn tap_of(stage: Stage, payloads: &[&str], args: impl FnOnce(&Daemon) -> tap::Args) -> (u8, String) {
    let offered = Tap::default();
    let tap = offered.clone();
    let mut outcome = (exit::OK, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let limit = Instant::now() + Duration::from_secs(20);
            while !tap.listened().has(stage) {
                assert!(Instant::now() < limit, "nobody listens");
                std::thread::sleep(Duration::from_millis(5));
            }
            tap.offer(stage, payloads.len(), |at| {
                Some(Sample {
                    stage,
                    stream: "orders".into(),
                    topic: "orders.v1".into(),
                    partition: 0,
                    offset: at as i64,
                    timestamp: 1_357_035_300_000,
                    key: None,
                    payload: Some(payloads[at].to_owned()),
                    payload_bytes: payloads[at].len() as u64,
                    rows: Vec::new(),
                    rejection: None,
                    committed_at: None,
                })
            });
        });
        with_tapped_daemon(&Arc::new(AtomicBool::new(true)), Access::default(), offered, |daemon| {
            outcome.0 = tap::run(&args(daemon), false, &mut outcome.1);
        });
    });
    (outcome.0, String::from_utf8(outcome.1).unwrap())
}

const PAYLOADS: [&str; 3] = [r#"{"id":1,"city":"Bern"}"#, r#"{"id":2,"city":"Genf\u001b[2J"}"#, "no \u{1b}[31m JSON"];

#[test]
fn the_tap_shows_records_and_ends_at_its_limit() {
    let (code, text) = tap_of(Stage::Raw, &PAYLOADS, |d| tap::Args::of(d.clone(), Stage::Raw, 3, false));
    assert_eq!(code, exit::OK);
    assert_eq!(
        text,
        "orders.v1[0]@0  2013-01-01T10:15:00.000Z\n  raw  {\"id\":1,\"city\":\"Bern\"}\n\
         orders.v1[0]@1  2013-01-01T10:15:00.000Z\n  raw  {\"id\":2,\"city\":\"Genf\\u001b[2J\"}\n\
         orders.v1[0]@2  2013-01-01T10:15:00.000Z\n  raw  no \\u{1b}[31m JSON\n"
    );
    let (code, text) = tap_of(Stage::Raw, &PAYLOADS, |d| tap::Args::of(d.clone(), Stage::Raw, 3, true));
    let samples = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ids: Vec<_> =
        samples.filter(|line| line["type"] == "sample").map(|line| line["record"]["id"].clone()).collect();
    assert_eq!((code, ids), (exit::OK, vec![1.into(), 2.into(), serde_json::Value::Null]));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_tap_takes_a_condition_and_fields_or_counts() {
    let (code, text) = tap_of(Stage::Rows, &PAYLOADS, |d| {
        tap::Args::of(d.clone(), Stage::Rows, 1, false)
            .with_condition("record.id + 0 == 2")
            .with_fields(&["id", "city"])
    });
    assert_eq!((code, text.as_str()), (exit::OK, "orders.v1[0]@1 id=2 city='Genf\\u{1b}[2J'\n"));
    let (code, text) =
        tap_of(Stage::Rows, &PAYLOADS, |d| tap::Args::of(d.clone(), Stage::Rows, 3, false).with_count_by("city"));
    assert_eq!(code, exit::OK);
    assert_eq!(
        text,
        "VALUE          RECORDS   SHARE\n\
         Bern                 1  33.3 %\n\
         Genf\\u{1b}[2J        1  33.3 %\n\
         null                 1  33.3 %\n"
    );
}

#[test]
fn a_condition_that_is_none_is_refused_before_the_daemon_is_asked() {
    let nowhere = Daemon { url: Some("http://127.0.0.1:1".into()), config: None };
    for condition in ["city == 'Bern'", "record.id ==", ""] {
        let args = tap::Args::of(nowhere.clone(), Stage::Raw, 1, false).with_condition(condition);
        assert_eq!(tap::run(&args, false, &mut Vec::new()), exit::USAGE, "{condition}");
    }
    assert_eq!(tap::run(&tap::Args::of(nowhere, Stage::Raw, 1, false), false, &mut Vec::new()), exit::NOT_READY);
}

#[test]
fn top_looks_once_at_a_real_daemon() {
    let ready = Arc::new(AtomicBool::new(true));
    with_daemon(&ready, |daemon| {
        let mut out = Vec::new();
        assert_eq!(top::run(&top::Args::once(daemon.clone(), true), &mut out), exit::OK);
        let standing: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&standing["name"], &standing["ready"]), (&"shop".into(), &true.into()));
        assert_eq!(standing["bottleneck"], "nothing holds it up: every stream keeps up");
        assert!(standing["window_seconds"].as_f64().unwrap() >= 1.0);
        ready.store(false, Ordering::Relaxed);
        let mut out = Vec::new();
        assert_eq!(top::run(&top::Args::once(daemon.clone(), false), &mut out), exit::NOT_READY);
        assert!(String::from_utf8(out).unwrap().contains("NOT READY\n  database: connection refused\n"));
    });
    let nowhere = Daemon { url: Some("http://127.0.0.1:1".into()), config: None };
    assert_eq!(top::run(&top::Args::once(nowhere, true), &mut Vec::new()), exit::NOT_READY);
}
