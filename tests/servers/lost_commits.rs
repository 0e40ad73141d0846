//! Answers to COMMIT that never come, half of them of a COMMIT that the server has done: no record is lost or written
//! twice, no batch is refused as another daemon's, and no restart is spent.

use std::time::Instant;

use super::commit_proxy::CommitProxy;
use super::parts::{Parts, long};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("lost_answers_to_commit_lose_and_double_nothing_and_cost_no_restart_on_mysql", |s| lost(s, &s.mysql)),
        ("lost_answers_to_commit_lose_and_double_nothing_and_cost_no_restart_on_mariadb", |s| lost(s, &s.mariadb)),
    ]
}

fn lost(servers: &Servers, server: &str) {
    let answers = if long() { 200 } else { 40 };
    let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
    let proxy = CommitProxy::start(server, answers);
    let mut parts = Parts::new(servers, 4);
    parts.send(500);
    let config = parts.config(folder.path(), &proxy.url(&database.url()), &parts.topic.clone(), 20);
    let daemon = Daemon::start(&config);
    let began = Instant::now();
    let all = || {
        let (before, after) = proxy.swallowed();
        before + after
    };
    while all() < answers {
        assert!(began.elapsed() < PATIENCE, "{:?} of {answers}: {:#?}", proxy.swallowed(), daemon.log());
        parts.send(500);
        daemon.wait_caught_up(parts.total());
    }
    daemon.wait_caught_up(parts.total());
    let (before, after) = proxy.swallowed();
    assert_eq!((before, after), (answers / 2, answers / 2));
    let of_stream = |name: &str| daemon.metric(&format!("{name}{{stream=\"{}\"}}", parts.topic));
    // What is found are batches; a parents' transaction of its own is simply repeated.
    let found = of_stream("bief_commits_found_total").unwrap();
    assert!(found > 0.0 && found <= after as f64, "{found} of {after}");
    assert_eq!(of_stream("bief_fenced_commits_total"), Some(0.0));
    let (_, metrics) = daemon.get("/metrics").unwrap();
    let restarts: Vec<&str> =
        metrics.lines().filter(|l| l.starts_with("bief_actor_restarts_total") && !l.ends_with(" 0")).collect();
    assert!(restarts.is_empty(), "{restarts:?}");
    println!("{before} before, {after} after the server had done it, of which {found} batches");
    daemon.stop();
    assert_clean(&config);
    parts.assert_rows(&database, "lost answers");
}
