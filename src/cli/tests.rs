//! The commands that ask a daemon, against a real one on a free port.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use chrono::Utc;

use super::http_client::Daemon;
use super::{exit, healthcheck, status};
use crate::config::{Access, Secret};
use crate::http::{Check, DaemonInfo, HttpState, serve};
use crate::messages::{Board, Tap};
use crate::metrics::Metrics;

/// Runs `ask` with the address of a daemon whose readiness is `ready`.
fn with_daemon(ready: &Arc<AtomicBool>, ask: impl FnOnce(&Daemon)) {
    with_guarded_daemon(ready, Access::default(), ask);
}

fn with_guarded_daemon(ready: &Arc<AtomicBool>, access: Access, ask: impl FnOnce(&Daemon)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let board = Board::default();
    board.declare("orders", "orders.v1");
    let ready = ready.clone();
    let state = HttpState {
        daemon: DaemonInfo { name: "shop".into(), version: "1.2.3", revision: "abc", started_at: Utc::now() },
        metrics: Metrics::new("1.2.3", "abc"),
        board,
        tap: Tap::default(),
        units: Arc::new(|| serde_json::json!([])),
        checks: Arc::new(move || {
            let ok = ready.load(Ordering::Relaxed);
            vec![Check { name: "database".into(), ok, cause: Some("connection refused".into()), since: None }]
        }),
        allowed_hosts: Vec::new(),
        access,
    };
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let server = serve(listener, state).unwrap();
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
