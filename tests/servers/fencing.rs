//! A daemon that is stopped in the middle of a batch, past its session timeout, while another takes its partitions
//! over: when it goes on, its commit is refused and counted, and no record is lost or written twice.

use std::time::{Duration, Instant};

use super::parts::{Parts, long};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![("a_daemon_that_slept_past_its_session_can_commit_nothing", slept)]
}

const PARTITIONS: usize = 4;
/// The group gives a silent member up well before the database gives up its connection: otherwise the sleeper finds
/// that one gone, and knows of the group's verdict before it can try again.
const SHORT_SESSION: &str = "\
[kafka.properties]
\"session.timeout.ms\" = \"6000\"
\"heartbeat.interval.ms\" = \"1500\"

[warehouse]";

fn slept(servers: &Servers) {
    let rounds = if long() { 50 } else { 3 };
    for (server, rounds) in [(&servers.mysql, rounds - rounds / 3), (&servers.mariadb, rounds / 3)] {
        let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
        let mut parts = Parts::new(servers, PARTITIONS as i32);
        let config = parts.config(folder.path(), &database.url(), &parts.topic.clone(), 20);
        // One lane: with a second, whose transaction was under way, its locks would make the other daemon wait until
        // the server gives the silent session up, and with it the one that is to be refused.
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("lanes = 2", "lanes = 1").replace("[warehouse]", SHORT_SESSION)).unwrap();
        let all = |status: &serde_json::Value| partitions(status).len() == PARTITIONS;
        parts.send(200);
        let mut stays = Daemon::start(&config);
        stays.wait("holding all", all);
        let mut fenced_in_all = 0.0;
        for round in 0..rounds {
            // It stops itself within a transaction that has not touched an offset yet: the other need not wait.
            let sleeper = Daemon::start_with(&config, &[("FAILPOINTS", "after-begin=5*off->1*return(stop)->off")]);
            let began = Instant::now();
            while !sleeper.is_stopped() {
                assert!(began.elapsed() < PATIENCE, "round {round}: it never stopped: {:#?}", sleeper.log());
                parts.send(60);
                std::thread::sleep(Duration::from_millis(50));
            }
            stays.wait("holding all", all);
            parts.send(100);
            stays.wait("going on", |_| database.count("SELECT SUM(next_offset) FROM bief_offset") == parts.total());
            sleeper.signal("-CONT");
            let fenced = format!("bief_fenced_commits_total{{stream=\"{}\"}}", parts.topic);
            sleeper.wait("fenced", |_| sleeper.metric(&fenced) >= Some(1.0));
            fenced_in_all += sleeper.metric(&fenced).unwrap();
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
        println!("{rounds} times stopped, {fenced_in_all} commits fenced");
    }
}
