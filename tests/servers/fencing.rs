//! A daemon that is stopped in the middle of a batch, past its session timeout, while another takes its partitions
//! over: when it goes on, its commit is refused and counted, and no record is lost or written twice.

use std::time::{Duration, Instant};

use super::parts::{Parts, long};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_daemon_that_slept_past_its_session_can_commit_nothing", slept),
        ("a_daemon_that_sleeps_on_its_locks_delays_the_others_by_half_a_minute_at_most", slept_on_locks),
    ]
}

const PARTITIONS: usize = 4;
/// The group gives a silent member up well before the database gives up its connection: otherwise the sleeper finds
/// that one gone, and knows of the group's verdict before it can try again.
const SHORT_SESSION: &str = "\
[kafka.properties]
\"session.timeout.ms\" = \"6000\"
\"heartbeat.interval.ms\" = \"1500\"

[warehouse]";

/// So long the database has certainly not given the connection up, which it does after 30 s. Where a slow machine took longer
/// there is nothing to be fenced: rows and ledger alone tell.
const SESSION_ENDS: Duration = Duration::from_secs(25);

/// Rounds on top where a busy machine let the server end each session before its daemon woke.
const MORE_ROUNDS: usize = 5;

const ADVANCED: &str = "SELECT SUM(next_offset) FROM bief_offset";
/// The group's patience, the database's with a silent session, and as much again for a slow machine.
const FREE_AGAIN: Duration = Duration::from_secs(2 * (6 + 30));

fn send_until_stopped(sleeper: &Daemon, parts: &mut Parts, round: usize) {
    let began = Instant::now();
    while !sleeper.is_stopped() {
        assert!(began.elapsed() < PATIENCE, "round {round}: it never stopped: {:#?}", sleeper.log());
        parts.send(60);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn slept_on_locks(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let mut parts = Parts::new(servers, PARTITIONS as i32);
    let config = parts.config(folder.path(), &database.url(), &parts.topic.clone(), 20);
    replace_in(&config, &[("[warehouse]", SHORT_SESSION)]);
    parts.send(200);
    let stays = Daemon::start(&config);
    stays.wait("holding all", |status| partitions(status).len() == PARTITIONS);
    let sleeper = Daemon::start_with(&config, &[("FAILPOINTS", "after-advance=5*off->1*return(stop)->off")]);
    send_until_stopped(&sleeper, &mut parts, 0);
    let began = Instant::now();
    stays.wait("going on", |_| database.count(ADVANCED) == parts.total());
    let delayed = began.elapsed();
    assert!(delayed < FREE_AGAIN, "{delayed:?}");
    sleeper.signal("-CONT");
    sleeper.wait("back in the group", |status| !partitions(status).is_empty());
    parts.send(100);
    stays.wait("all in", |_| database.count(ADVANCED) == parts.total());
    sleeper.stop();
    stays.wait_caught_up(parts.total());
    stays.stop();
    assert_clean(&config);
    parts.assert_rows(&database, "sleeping on locks");
    println!("the others went on after {delayed:?}");
}

fn slept(servers: &Servers) {
    let rounds = if long() { 50 } else { 3 };
    for (server, rounds) in [(&servers.mysql, rounds - rounds / 3), (&servers.mariadb, rounds / 3)] {
        let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
        let mut parts = Parts::new(servers, PARTITIONS as i32);
        let config = parts.config(folder.path(), &database.url(), &parts.topic.clone(), 20);
        // One lane: with a second, whose transaction was under way, its locks would make the other daemon wait until
        // the server gives the silent session up, and with it the one that is to be refused.
        replace_in(&config, &[("lanes = 2", "lanes = 1"), ("[warehouse]", SHORT_SESSION)]);
        let all = |status: &serde_json::Value| partitions(status).len() == PARTITIONS;
        parts.send(200);
        let mut stays = Daemon::start(&config);
        stays.wait("holding all", all);
        let (mut stopped_in_all, mut fenced_in_all, mut ended) = (0, 0.0, 0);
        for round in 0..rounds + MORE_ROUNDS {
            if round >= rounds && fenced_in_all > 0.0 {
                break;
            }
            // It stops itself within a transaction that has not touched an offset yet: the other need not wait.
            let sleeper = Daemon::start_with(&config, &[("FAILPOINTS", "after-begin=5*off->1*return(stop)->off")]);
            send_until_stopped(&sleeper, &mut parts, round);
            let stopped = Instant::now();
            stopped_in_all += 1;
            stays.wait("holding all", all);
            parts.send(100);
            stays.wait("going on", |_| database.count(ADVANCED) == parts.total());
            sleeper.signal("-CONT");
            if stopped.elapsed() < SESSION_ENDS {
                let fenced = format!("bief_fenced_commits_total{{stream=\"{}\"}}", parts.topic);
                sleeper.wait("fenced", |_| sleeper.metric(&fenced) >= Some(1.0));
                fenced_in_all += sleeper.metric(&fenced).unwrap();
            } else {
                ended += 1;
            }
            sleeper.wait("back in the group", |status| !partitions(status).is_empty());
            stays.stop();
            stays = sleeper;
            stays.wait("holding all", all);
        }
        parts.send(100);
        stays.wait_caught_up(parts.total());
        stays.stop();
        assert_clean(&config);
        parts.assert_rows(&database, "fencing");
        assert!(
            fenced_in_all > 0.0,
            "the server had ended the session each of {ended} times: nothing was to be fenced"
        );
        println!(
            "{stopped_in_all} times stopped, {fenced_in_all} commits fenced, {ended} times the session had ended meanwhile"
        );
    }
}
