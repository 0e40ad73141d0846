//! Offsets that the broker no longer has: the stream stops, consumes nothing, says what was expected and found, and
//! goes on once the operator has decided; what was lost is told for ever.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("records_that_retention_took_unread_stop_the_stream_until_the_loss_is_accepted", taken_by_retention),
        ("a_topic_made_anew_while_it_is_read_stops_the_stream_until_the_loss_is_accepted", made_anew),
        ("an_offset_past_the_end_stops_the_stream_until_the_operator_decides", past_the_end),
        ("a_partition_that_is_gone_stops_the_stream_until_the_loss_is_accepted", partition_gone),
        ("a_log_that_the_broker_truncated_stops_the_stream_also_after_a_restart", truncated),
        ("offsets_are_set_back_and_forth_and_the_ledger_closes", back_and_forth),
    ]
}

/// Items of this many partitions, read to the end by a daemon that has stopped.
struct Read {
    topic: String,
    folder: tempfile::TempDir,
    database: Database,
    config: PathBuf,
}

impl Read {
    fn new(servers: &Servers, server: &str, partitions: i32, records: i64) -> Self {
        let (topic, folder) = (unique("offsets"), tempfile::tempdir().unwrap());
        create_topic(&servers.kafka, &topic, partitions, &[]);
        let database = Database::create(server);
        let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
        let read = Self { topic, folder, database, config };
        read.send(servers, 0..records);
        let daemon = Daemon::start(&read.config);
        daemon.wait_caught_up(records);
        daemon.stop();
        read
    }

    fn send(&self, servers: &Servers, ids: std::ops::Range<i64>) {
        let producer = producer(&servers.kafka, &[]);
        ids.for_each(|id| send(&producer, &self.topic, &id.to_string(), Some(&good(id))));
        flush(&producer);
    }

    fn items(&self) -> i64 {
        self.database.count("SELECT COUNT(*) FROM item WHERE id >= 0")
    }

    fn make_anew(&self, servers: &Servers, partitions: i32) {
        let deleted = block_on(admin(&servers.kafka).delete_topics(&[&self.topic], &AdminOptions::new())).unwrap();
        deleted.into_iter().for_each(|outcome| drop(outcome.unwrap()));
        // The broker takes a moment until the name is free.
        let began = Instant::now();
        let new = || {
            let topic =
                rdkafka::admin::NewTopic::new(&self.topic, partitions, rdkafka::admin::TopicReplication::Fixed(1));
            block_on(admin(&servers.kafka).create_topics(&[topic], &AdminOptions::new())).unwrap().remove(0)
        };
        while let Err(error) = new() {
            assert!(began.elapsed() < PATIENCE, "{error:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn forget_ids(&self) {
        self.database.execute("UPDATE bief_offset SET topic_id = ''");
    }

    /// `bief offsets reset … --yes --json`.
    fn reset(&self, to: &str) -> (Value, i32) {
        json_of(
            bief(&["offsets", "reset", "--yes", "--json", "--topic", &self.topic, "--to", to, "-c"]).arg(&self.config),
        )
    }
}

fn show(config: &Path) -> (Value, i32) {
    json_of(bief(&["offsets", "show", "--json", "-c"]).arg(config))
}

/// Longer than a stream would take to read what is there.
fn assert_nothing_is_consumed(daemon: &Daemon, read: &Read, items: i64) {
    let before = read.database.count("SELECT SUM(next_offset) FROM bief_offset");
    let polled = |daemon: &Daemon| {
        let stream = daemon.status()["streams"][0]["stream"].as_str().unwrap().to_owned();
        // It is there once somebody has asked for the stream's figures.
        daemon.metric(&format!("bief_records_consumed_total{{stream=\"{stream}\"}}")).unwrap_or_default()
    };
    let consumed = polled(daemon);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(polled(daemon), consumed);
    assert_eq!(read.items(), items);
    assert_eq!(read.database.count("SELECT SUM(next_offset) FROM bief_offset"), before);
    assert!(daemon.get("/livez").is_some_and(|(status, _)| status == 200));
}

fn notes(proof: &Value, kind: &str) -> Vec<i64> {
    let partitions = proof["streams"][0]["partitions"].as_array().unwrap();
    let notes = partitions.iter().flat_map(|p| p["notes"].as_array().unwrap());
    notes.filter(|n| n["kind"] == kind).map(|n| n["offsets"].as_i64().unwrap()).collect()
}

fn taken_by_retention(servers: &Servers) {
    let read = Read::new(servers, &servers.mysql, 1, 100);
    read.send(servers, 100..200);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&read.topic, 0, Offset::Offset(130)).unwrap();
    block_on(admin(&servers.kafka).delete_records(&before, &AdminOptions::new())).unwrap();
    let began = Instant::now();
    let daemon = Daemon::start(&read.config);
    let told = daemon.wait_not_ready(&["partition 0", "expected offset 100 next", "found offsets 130 to 200"]);
    println!("told after {:?}: {told}", began.elapsed());
    assert_nothing_is_consumed(&daemon, &read, 100);
    assert_eq!(daemon.status()["streams"][0]["in_doubt"][0]["kind"], "before_start");
    let (shown, code) = show(&read.config);
    let partition = &shown["streams"][0]["partitions"][0];
    assert_eq!((code, &partition["in_doubt"]["kind"]), (3, &"before_start".into()), "{shown:#}");
    assert_eq!(
        (&partition["next_offset"], &partition["low"], &partition["high"]),
        (&100.into(), &130.into(), &200.into())
    );
    let (done, code) = read.reset("accept-loss");
    assert_eq!((code, &done["steps"][0]["lost"], &done["steps"][0]["to"]), (0, &30.into(), &130.into()), "{done:#}");
    // It goes on by itself.
    daemon.wait("gone on", |status| partitions(status).iter().any(|p| p["caught_up"] == true));
    assert_eq!(read.items(), 170);
    // While it holds the partition, nobody sets its offset.
    let (refused, code) = read.reset("earliest");
    assert_eq!(code, 1, "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("may hold the partition"), "{refused:#}");
    daemon.stop();
    let proof = assert_clean(&read.config);
    assert_eq!(notes(&proof, "loss_accepted"), [30]);
    assert_eq!(show(&read.config).1, 0);
    drop(read.folder);
}

fn made_anew(servers: &Servers) {
    let read = Read::new(servers, &servers.mariadb, 2, 300);
    let daemon = Daemon::start(&read.config);
    daemon.wait("reading", |status| partitions(status).len() == 2);
    read.make_anew(servers, 2);
    let began = Instant::now();
    read.send(servers, 1000..1040);
    daemon.wait_not_ready(&["recreated", "expected topic id", "found topic id"]);
    let took = began.elapsed();
    // On a machine that does nothing else it is under 5 s.
    assert!(took < Duration::from_secs(30), "{took:?}");
    println!("told after {took:?}");
    assert_nothing_is_consumed(&daemon, &read, 300);
    let (done, code) = read.reset("accept-loss");
    assert_eq!((code, &done["steps"][0]["change"]), (0, &"anew".into()), "{done:#}");
    daemon.wait("gone on", |status| {
        partitions(status).len() == 2 && partitions(status).iter().all(|p| p["caught_up"] == true)
    });
    assert_eq!(read.items(), 340);
    daemon.stop();
    let proof = assert_clean(&read.config);
    assert_eq!(notes(&proof, "loss_accepted"), [0, 0]);
}

fn past_the_end(servers: &Servers) {
    let read = Read::new(servers, &servers.mysql, 1, 100);
    // As from a broker that gives no ids: the end alone tells.
    read.make_anew(servers, 1);
    read.forget_ids();
    read.send(servers, 1000..1020);
    let daemon = Daemon::start(&read.config);
    daemon.wait_not_ready(&["partition 0", "past_end", "expected offset 100 next", "found an end at 20"]);
    assert_nothing_is_consumed(&daemon, &read, 100);
    // Where the log has grown beyond the next offset its end no longer tells: it is remembered.
    read.send(servers, 1020..1150);
    daemon.wait_not_ready(&["partition 0", "truncated", "expected offset 100 next"]);
    assert_nothing_is_consumed(&daemon, &read, 100);
    let (done, code) = read.reset("earliest");
    assert_eq!((code, &done["steps"][0]["change"]), (0, &"anew".into()), "{done:#}");
    daemon.wait("gone on", |status| partitions(status).iter().any(|p| p["caught_up"] == true));
    assert_eq!(read.items(), 250);
    daemon.stop();
    let proof = assert_clean(&read.config);
    assert_eq!(notes(&proof, "loss_accepted"), [0]);
    // Known from now on.
    assert_eq!(read.database.count("SELECT COUNT(*) FROM bief_offset WHERE topic_id = '' AND topic NOT LIKE '%@%'"), 0);
    // Once more another log, whose records are passed over: they are counted, and told for ever.
    read.make_anew(servers, 1);
    read.send(servers, 2000..2030);
    let (done, code) = read.reset("latest");
    let step = &done["steps"][0];
    assert_eq!((code, &step["change"], &step["begins_at"]), (0, &"anew".into(), &0.into()), "{done:#}");
    let proof = assert_clean(&read.config);
    let mut losses = notes(&proof, "loss_accepted");
    losses.sort_unstable();
    assert_eq!(losses, [0, 0, 30]);
}

fn partition_gone(servers: &Servers) {
    let read = Read::new(servers, &servers.mysql, 2, 100);
    let (first, second) = {
        let next = |p| read.database.count(&format!("SELECT next_offset FROM bief_offset WHERE partition_id = {p}"));
        (next(0), next(1))
    };
    read.make_anew(servers, 1);
    read.forget_ids();
    // As far as the first partition had been read before: only the second tells.
    read.send(servers, 1000..1000 + first + 10);
    let daemon = Daemon::start(&read.config);
    daemon.wait_not_ready(&["partition 1", "no_partition", &format!("expected offset {second} next")]);
    assert_nothing_is_consumed(&daemon, &read, 100);
    // Or the daemon ends, where that is asked for.
    let (text, exits) = (std::fs::read_to_string(&read.config).unwrap(), read.folder.path().join("exits.toml"));
    std::fs::write(&exits, text.replace("[daemon]", "[daemon]\non_fatal = \"exit\"")).unwrap();
    assert_eq!(Daemon::start(&exits).wait_end(PATIENCE).code(), Some(4));
    let (done, code) = read.reset("accept-loss");
    assert_eq!((code, &done["steps"][0]["change"], &done["steps"][1]), (0, &"forget".into(), &Value::Null), "{done:#}");
    daemon.wait("gone on", |status| partitions(status).iter().any(|p| p["caught_up"] == true));
    assert_eq!(read.items(), 110, "from where the first partition stood");
    daemon.stop();
    let proof = assert_clean(&read.config);
    assert_eq!(notes(&proof, "loss_accepted"), [0]);
}

/// Where the log has grown again, its bounds tell nothing: what the daemon heard is remembered by the database.
fn truncated(servers: &Servers) {
    let read = Read::new(servers, &servers.mysql, 1, 100);
    read.send(servers, 100..200);
    let daemon = Daemon::start_with(&read.config, &[("FAILPOINTS", "log-truncated=3*off->1*return->off")]);
    daemon.wait_not_ready(&["partition 0", "truncated", "expected offset 100 next"]);
    daemon.stop();
    let daemon = Daemon::start(&read.config);
    daemon.wait_not_ready(&["partition 0", "truncated", "expected offset 100 next"]);
    assert_nothing_is_consumed(&daemon, &read, 100);
    let (proof, code) = verify(&read.config);
    let finding = &proof["streams"][0]["partitions"][0]["findings"][0];
    assert_eq!((code, &finding["kind"]), (3, &"truncated".into()), "{proof:#}");
    let (done, code) = read.reset("earliest");
    let step = &done["steps"][0];
    assert_eq!((code, &step["change"], &step["to"]), (0, &"anew".into(), &0.into()), "{done:#}");
    daemon.wait("read again", |status| {
        partitions(status).iter().any(|p| p["caught_up"] == true && p["next_offset"] == 200)
    });
    assert_eq!(read.items(), 200);
    daemon.stop();
    assert_eq!(notes(&assert_clean(&read.config), "loss_accepted"), [0]);
}

fn back_and_forth(servers: &Servers) {
    let read = Read::new(servers, &servers.mysql, 1, 100);
    let (done, code) = read.reset("40");
    assert_eq!((code, &done["steps"][0]["change"]), (0, &"rewind".into()), "{done:#}");
    assert_clean(&read.config);
    let daemon = Daemon::start(&read.config);
    daemon.wait("read again", |status| {
        partitions(status).iter().any(|p| p["caught_up"] == true && p["next_offset"] == 100)
    });
    let status = daemon.status();
    let counted = partitions(&status)[0];
    assert_eq!((&counted["applied"], &counted["duplicates"]), (&100.into(), &60.into()), "{counted:#}");
    daemon.stop();
    assert_clean(&read.config);
    read.send(servers, 100..150);
    let (done, code) = read.reset("latest");
    assert_eq!((code, &done["steps"][0]["lost"]), (0, &50.into()), "{done:#}");
    let daemon = Daemon::start(&read.config);
    read.send(servers, 150..160);
    daemon
        .wait("gone on", |status| partitions(status).iter().any(|p| p["caught_up"] == true && p["next_offset"] == 160));
    daemon.stop();
    // The records are there; that they were passed over is no finding, and is never forgotten.
    let proof = assert_clean(&read.config);
    assert_eq!(notes(&proof, "loss_accepted"), [50]);
    assert_eq!(read.items(), 110);
    // Without a terminal nobody is asked.
    let refused = bief(&["offsets", "reset", "--topic", &read.topic, "--to", "earliest", "-c"])
        .arg(&read.config)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let (refused, code) = read.reset("161");
    assert_eq!(code, 1);
    assert!(refused["message"].as_str().unwrap().contains("0 to 160"), "{refused:#}");
}
