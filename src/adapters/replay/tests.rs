//! Files in a folder of their own, a sink in memory.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;
use crate::config::{Lookup, Replay};
use crate::ports::{Clock, SystemClock};

#[derive(Default)]
struct Memory {
    topics: Vec<(String, i32)>,
    records: Vec<(String, Option<String>, serde_json::Value)>,
    /// Records that fit before `serve` must be called.
    room: usize,
    queued: usize,
    refuse_after: Option<usize>,
}

impl RecordSink for Memory {
    fn open(&mut self, topic: &str, partitions: i32) -> Result<usize, SinkError> {
        self.topics.push((topic.to_string(), partitions));
        Ok(self.topics.len() - 1)
    }

    fn send(&mut self, topic: usize, key: Option<&[u8]>, payload: &[u8]) -> Result<bool, SinkError> {
        if self.room > 0 && self.queued == self.room {
            return Ok(false);
        }
        self.queued += 1;
        let key = key.map(|key| String::from_utf8(key.to_vec()).unwrap());
        self.records.push((self.topics[topic].0.clone(), key, serde_json::from_slice(payload).unwrap()));
        Ok(true)
    }

    fn serve(&mut self, _wait: Duration) -> Result<(), SinkError> {
        self.queued = 0;
        match self.refuse_after {
            Some(limit) if self.records.len() > limit => Err(SinkError("no more".to_string())),
            _ => Ok(()),
        }
    }

    fn pending(&self) -> usize {
        self.queued
    }

    fn give_up(&mut self) {
        self.queued = 0;
    }

    fn delivered(&self, topic: usize) -> Delivered {
        let name = &self.topics[topic].0;
        let arrived = self.records.iter().filter(|(topic, ..)| topic == name).count() - self.queued;
        Delivered { arrived: arrived as u64, failed: 0 }
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    fn run(&self, replays: &[Replay], options: &Options) -> Result<(Summary, Memory), ReplayError> {
        let mut sink = Memory { room: 2, ..Memory::default() };
        replay(replays, self.0.path(), options, &mut sink, &mut |_| {}, &AtomicBool::new(false), &SystemClock)
            .map(|summary| (summary, sink))
    }

    /// The error's text with the folder left out.
    fn error(&self, replays: &[Replay]) -> String {
        let error = self.run(replays, &Options::default()).err().expect("an error").to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn plain(topic: &str, file: &str) -> Replay {
    Replay {
        topic: topic.to_string(),
        file: PathBuf::from(file),
        key: vec![],
        event_time: None,
        times: vec![],
        partitions: 3,
        lookups: vec![],
    }
}

fn timed(topic: &str, file: &str) -> Replay {
    Replay { event_time: Some("at".to_string()), ..plain(topic, file) }
}

fn lookup(file: &str, take: &[(&str, &str)]) -> Lookup {
    Lookup {
        file: PathBuf::from(file),
        field: "who".to_string(),
        key: "code".to_string(),
        take: take.iter().map(|(field, column)| (field.to_string(), column.to_string())).collect(),
    }
}

fn values(sink: &Memory, field: &str) -> Vec<serde_json::Value> {
    sink.records.iter().map(|(_, _, record)| record[field].clone()).collect()
}

#[test]
fn each_row_becomes_a_record_with_its_key_and_looked_up_fields() {
    let folder = Folder::new()
        .file("r.csv", "n,who,note\n1,A,\n2,B,\"x, \"\"y\"\"\nz\"\n")
        .file("names.csv", "code,name,size\nA,Alpha,10\nC,Gamma,\n");
    let mut source = plain("t", "r.csv");
    source.key = vec!["who".to_string(), "n".to_string()];
    source.lookups = vec![lookup("names.csv", &[("who_name", "name"), ("who_size", "size")])];
    let (summary, sink) = folder.run(&[source], &Options::default()).unwrap();
    assert_eq!(sink.topics, [("t".to_string(), 3)]);
    assert_eq!(summary.topics, BTreeMap::from([("t".to_string(), 2)]));
    assert!(!summary.cancelled && summary.undelivered == 0);
    let first = serde_json::json!({"n": 1, "who": "A", "note": null, "who_name": "Alpha", "who_size": 10});
    let second = serde_json::json!({"n": 2, "who": "B", "note": "x, \"y\"\nz"});
    assert_eq!(sink.records[0], ("t".to_string(), Some("A|1".to_string()), first));
    assert_eq!(sink.records[1], ("t".to_string(), Some("B|2".to_string()), second));
}

#[test]
fn a_gzip_file_of_several_members_is_read_whole() {
    let mut content = Vec::new();
    for part in ["n\n1\n", "2\n3\n"] {
        let mut encoder = flate2::write::GzEncoder::new(&mut content, flate2::Compression::fast());
        encoder.write_all(part.as_bytes()).unwrap();
        encoder.finish().unwrap();
    }
    let folder = Folder::new().file("r.csv.gz", content);
    let (_, sink) = folder.run(&[plain("t", "r.csv.gz")], &Options::default()).unwrap();
    assert_eq!(values(&sink, "n"), [1, 2, 3]);
    assert_eq!(sink.records[0].1, None, "without key columns there is no key");
}

#[test]
fn the_type_of_a_column_does_not_depend_on_how_many_rows_are_sent() {
    let folder = Folder::new().file("r.csv", "n\n1\n2\nx\n");
    let options = Options { rows: Some(2), ..Options::default() };
    let (summary, sink) = folder.run(&[plain("t", "r.csv")], &options).unwrap();
    assert_eq!(values(&sink, "n"), ["1", "2"]);
    assert_eq!(summary.topics["t"], 2);
}

#[test]
fn files_of_a_topic_follow_each_other_and_topics_are_merged_by_event_time() {
    let folder = Folder::new()
        .file("a1.csv", "at,n\n2020-01-01T00:00:00Z,1\n2020-01-03T00:00:00Z,2\n")
        .file("a2.csv", "at,n\n2020-01-02T00:00:00Z,3\n")
        .file("b.csv", "at,n\n2020-01-02T12:00:00Z,4\n2020-01-04T00:00:00Z,5\n")
        .file("c.csv", "n\n6\n");
    let sources = [timed("a", "a1.csv"), timed("b", "b.csv"), timed("a", "a2.csv"), plain("c", "c.csv")];
    let (_, sink) = folder.run(&sources, &Options::default()).unwrap();
    assert_eq!(values(&sink, "n"), [6, 1, 4, 2, 3, 5]);
}

#[test]
fn all_files_move_by_the_same_weeks_and_only_in_their_time_columns() {
    let folder = Folder::new()
        .file("a.csv", "at,until,note\n2013-01-01T10:00:00Z,2013-01-02T00:00:00+01:00,2013-01-01T10:00:00Z\n")
        .file("b.csv", "at\n2012-12-01T10:00:00Z\n");
    let now = DateTime::parse_from_rfc3339("2013-01-16T09:00:00Z").unwrap().to_utc();
    let mut first = timed("a", "a.csv");
    first.times = vec!["until".to_string()];
    first.key = vec!["at".to_string()];
    let options = Options { shift: Shift::WeeksToNow { now }, ..Options::default() };
    let (summary, sink) = folder.run(&[first, timed("b", "b.csv")], &options).unwrap();
    assert_eq!(summary.days, 14);
    assert_eq!(values(&sink, "at"), ["2012-12-15T10:00:00Z", "2013-01-15T10:00:00Z"]);
    assert_eq!(sink.records[1].1.as_deref(), Some("2013-01-15T10:00:00Z"));
    assert_eq!(values(&sink, "until")[1], "2013-01-15T23:00:00Z");
    assert_eq!(values(&sink, "note")[1], "2013-01-01T10:00:00Z");
}

#[test]
fn a_mistake_is_told_with_file_line_and_column_before_anything_is_sent() {
    let two = "at,n\n2020-01-01T00:00:00Z,1\n";
    let folder = Folder::new()
        .file("short.csv", "a,b\n1,2\n3\n")
        .file("time.csv", format!("{two}2020-01-01 noon,2\n"))
        .file("latin.csv", b"at,n\n2020-01-01T00:00:00Z,\"a\nb\"\n2020-01-01T00:00:00Z,\xe9\n")
        .file("twice.csv", "a,a\n1,2\n")
        .file("nameless.csv", "a,\n1,2\n")
        .file("empty.csv", "")
        .file("good.csv", two)
        .file("cut.csv.gz", b"\x1f\x8b\x08\x00");
    assert_eq!(folder.error(&[plain("t", "short.csv")]), "short.csv, line 3: 1 cells where the header has 2");
    assert_eq!(
        folder.error(&[timed("t", "time.csv")]),
        "time.csv, line 3, column \"at\": \"2020-01-01 noon\" is no RFC 3339 time; write it as 2013-01-31T17:05:00Z"
    );
    assert_eq!(
        folder.error(&[timed("t", "latin.csv")]),
        "latin.csv, line 4, column \"n\": the bytes are not UTF-8; save the file as UTF-8"
    );
    assert_eq!(folder.error(&[plain("t", "twice.csv")]), "twice.csv, line 1: two columns are named \"a\"");
    assert_eq!(folder.error(&[plain("t", "nameless.csv")]), "nameless.csv, line 1: column 2 has no name");
    assert_eq!(
        folder.error(&[plain("t", "empty.csv")]),
        "empty.csv: the file is empty; its first line must name the columns"
    );
    assert_eq!(folder.error(&[timed("t", "short.csv")]), "short.csv: there is no column \"at\"; its columns are a, b");
    assert!(folder.error(&[plain("t", "gone.csv")]).starts_with("cannot read gone.csv: "));
    assert!(folder.error(&[plain("t", "cut.csv.gz")]).starts_with("cannot read cut.csv.gz, about line "));
    let mut sink = Memory::default();
    let sources = [plain("t", "good.csv"), plain("t", "short.csv")];
    let result = replay(
        &sources,
        folder.0.path(),
        &Options::default(),
        &mut sink,
        &mut |_| {},
        &AtomicBool::new(false),
        &SystemClock,
    );
    assert!(result.is_err() && sink.records.is_empty() && sink.topics.is_empty());
}

#[test]
fn a_lookup_that_cannot_be_right_is_refused() {
    let folder = Folder::new()
        .file("r.csv", "who,n\nA,1\n")
        .file("twice.csv", "code,name\nA,x\nA,y\n")
        .file("empty.csv", "code,name\n,x\n");
    let with = |lookup| vec![Replay { lookups: vec![lookup], ..plain("t", "r.csv") }];
    assert_eq!(
        folder.error(&with(lookup("twice.csv", &[("l", "name")]))),
        "twice.csv, line 3: a second row with code \"A\""
    );
    assert_eq!(
        folder.error(&with(lookup("empty.csv", &[("l", "name")]))),
        "empty.csv, line 2: the key column \"code\" is empty"
    );
    assert_eq!(
        folder.error(&with(lookup("twice.csv", &[("n", "name")]))),
        "twice.csv: the lookup adds a field \"n\", which r.csv has already"
    );
    assert_eq!(
        folder.error(&with(lookup("twice.csv", &[("l", "nam")]))),
        "twice.csv: there is no column \"nam\"; its columns are code, name"
    );
}

#[test]
fn a_cancel_ends_the_replay_between_two_records() {
    let folder = Folder::new().file("r.csv", "n\n1\n2\n3\n");
    let cancel = AtomicBool::new(false);
    let seen = RefCell::new(0);
    let mut sink = Memory { room: 1, ..Memory::default() };
    let options = Options { pace: Pace::Rate(5.0), ..Options::default() };
    let mut progress = |progress: &Progress| {
        assert_eq!(progress.total, 3);
        *seen.borrow_mut() += 1;
        cancel.store(true, Ordering::Relaxed);
    };
    let summary =
        replay(&[plain("t", "r.csv")], folder.0.path(), &options, &mut sink, &mut progress, &cancel, &SystemClock)
            .unwrap();
    assert!(summary.cancelled);
    assert_eq!(summary.topics["t"], 1);
    assert_eq!(sink.records.len(), 1);
    assert!(*seen.borrow() >= 2);
}

#[test]
fn a_rate_and_a_speed_take_their_time() {
    let folder = Folder::new().file("r.csv", "at\n2020-01-01T00:00:00Z\n2020-01-01T00:00:01Z\n2020-01-01T00:01:00Z\n");
    for pace in [Pace::Rate(20.0), Pace::Speed(600.0)] {
        let started = Instant::now();
        let (_, sink) = folder.run(&[timed("t", "r.csv")], &Options { pace, ..Options::default() }).unwrap();
        assert_eq!(sink.records.len(), 3);
        assert!(started.elapsed() >= Duration::from_millis(99), "{pace:?} took {:?}", started.elapsed());
    }
}

#[test]
fn a_speed_needs_event_times_and_a_rate_must_be_positive() {
    let folder = Folder::new().file("r.csv", "n\n1\n");
    let run =
        |pace| folder.run(&[plain("t", "r.csv")], &Options { pace, ..Options::default() }).err().map(|e| e.to_string());
    assert!(run(Pace::Speed(2.0)).unwrap().contains("set event_time"));
    for pace in [Pace::Rate(0.0), Pace::Rate(f64::NAN), Pace::Speed(-1.0), Pace::Speed(f64::INFINITY)] {
        assert!(run(pace).unwrap().contains("must be above 0"), "{pace:?}");
    }
}

#[test]
fn a_record_that_is_not_delivered_stops_the_replay() {
    let folder = Folder::new().file("r.csv", "n\n1\n2\n3\n4\n5\n");
    let mut sink = Memory { room: 2, refuse_after: Some(3), ..Memory::default() };
    let error = replay(
        &[plain("t", "r.csv")],
        folder.0.path(),
        &Options::default(),
        &mut sink,
        &mut |_| {},
        &AtomicBool::new(false),
        &SystemClock,
    );
    assert_eq!(error.unwrap_err().to_string(), "no more");
    assert_eq!(sink.records.len(), 4);
}

/// A clock that moves only while the replay waits, and when each record was sent by it.
struct Waited {
    now: std::sync::Mutex<DateTime<Utc>>,
}

impl Clock for Waited {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }
}

struct Timed<'a> {
    memory: Memory,
    clock: &'a Waited,
    sent_at: Vec<DateTime<Utc>>,
}

impl RecordSink for Timed<'_> {
    fn open(&mut self, topic: &str, partitions: i32) -> Result<usize, SinkError> {
        self.memory.open(topic, partitions)
    }

    fn send(&mut self, topic: usize, key: Option<&[u8]>, payload: &[u8]) -> Result<bool, SinkError> {
        self.sent_at.push(self.clock.now());
        self.memory.send(topic, key, payload)
    }

    fn serve(&mut self, wait: Duration) -> Result<(), SinkError> {
        *self.clock.now.lock().unwrap() += wait;
        self.memory.serve(wait)
    }

    fn pending(&self) -> usize {
        self.memory.pending()
    }

    fn give_up(&mut self) {
        self.memory.give_up();
    }

    fn delivered(&self, topic: usize) -> Delivered {
        self.memory.delivered(topic)
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

#[test]
fn up_to_now_the_history_comes_at_once_the_last_stretch_at_its_pace_and_the_rest_at_its_time() {
    let start = DateTime::parse_from_rfc3339("2026-11-24T11:00:00Z").unwrap().to_utc();
    let clock = Waited { now: std::sync::Mutex::new(start) };
    let mut file = "at\n".to_string();
    for hour in 0..24 * 30 {
        let at = DateTime::parse_from_rfc3339("2013-03-01T00:30:00Z").unwrap().to_utc() + chrono::Duration::hours(hour);
        file += &format!("{}\n", at.format("%Y-%m-%dT%H:%M:%SZ"));
    }
    let folder = Folder::new().file("r.csv", file);
    let mut sink = Timed { memory: Memory::default(), clock: &clock, sent_at: vec![] };
    let options = Options { pace: Pace::UpToNow(1801.0), shift: Shift::AroundNow { now: start }, ..Options::default() };
    let (mut history, mut was_live) = (None, false);
    let mut progress = |progress: &Progress| {
        history = progress.history;
        was_live = progress.is_live;
    };
    let never = AtomicBool::new(false);
    let replays = [timed("t", "r.csv")];
    let summary = replay(&replays, folder.0.path(), &options, &mut sink, &mut progress, &never, &clock).unwrap();
    assert_eq!((summary.topics["t"], summary.days % 7), (720, 0));
    let event =
        |record: &serde_json::Value| DateTime::parse_from_rfc3339(record["at"].as_str().unwrap()).unwrap().to_utc();
    let all: Vec<_> = sink.memory.records.iter().map(|(.., record)| event(record)).zip(sink.sent_at).collect();
    let ahead = all.last().unwrap().0 - start;
    assert!(ahead >= chrono::Duration::days(1) && ahead < chrono::Duration::days(8), "{ahead}");
    assert!(all.iter().all(|(event, sent)| sent >= event), "a record came before it happened");
    // Two seconds for each hour of the 50 days that are caught up in 40 minutes: all that there is but the start.
    assert_eq!(history, Some(0));
    let caught_up = all.iter().position(|(event, sent)| *sent - *event < chrono::Duration::minutes(1)).unwrap();
    let steps: Vec<_> = all[..caught_up].windows(2).map(|two| (two[1].1 - two[0].1).num_milliseconds()).collect();
    assert!(steps.len() > 400 && steps.iter().all(|step| (1_990..=2_030).contains(step)), "{steps:?}");
    assert!(was_live && all[caught_up + 1..].iter().all(|(event, sent)| *sent - *event < chrono::Duration::seconds(1)));
}

#[test]
fn without_event_times_all_is_history_and_a_pace_below_that_of_events_is_refused() {
    let folder = Folder::new().file("r.csv", "n\n1\n2\n");
    let mut history = None;
    let options = Options {
        pace: Pace::UpToNow(60.0),
        shift: Shift::AroundNow { now: DateTime::UNIX_EPOCH },
        ..Options::default()
    };
    let mut sink = Memory::default();
    let mut progress = |progress: &Progress| history = progress.history;
    let never = AtomicBool::new(false);
    replay(&[plain("t", "r.csv")], folder.0.path(), &options, &mut sink, &mut progress, &never, &SystemClock).unwrap();
    assert_eq!(history, Some(2));
    for pace in [0.5, f64::NAN, f64::INFINITY] {
        let options = Options { pace: Pace::UpToNow(pace), ..Options::default() };
        assert!(folder.run(&[plain("t", "r.csv")], &options).err().unwrap().to_string().contains("at least 1"));
    }
}
