//! What open pages are told, gathered and put into words once for all of them: the status each second, records and
//! replaced buckets as often as there are few enough readers. Takes what is there and waits for nothing; what is told is
//! bounded, so that a thousand readers cost the stream next to nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::SecondsFormat;
use futures_util::FutureExt;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::ring::Kind;
use crate::core::shown;
use crate::http::{Shared, status};
use crate::messages::tap::{Listening, Sample, Stage};
use crate::ports::cache::{Entry, Replacement};

/// With few readers, as often as it is looked whether there is something to tell: fast to the eye.
const TICK: Duration = Duration::from_millis(50);
/// Each reader makes it so much rarer, since each event is written to each: a thousand get one a second.
const PACE_A_READER: Duration = Duration::from_millis(1);
const SLOWEST: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Records that are looked at in a second, and told at once.
const SAMPLED_A_SECOND: usize = 100;
const MOST_RECORDS: usize = 100;
/// Bytes of records that are written to all readers in a second, together.
const RECORD_BYTES_A_SECOND: usize = 4 << 20;
/// Bytes of records in an event, at least and at most, however many read.
const RECORD_BYTES: (usize, usize) = (2 << 10, 16 << 10);
/// How long replaced buckets are still told after the last reader went: who comes back within it has missed none.
const LINGER: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(60) };
/// A payload that is longer is not told.
const LONGEST_FIELDS: u64 = 2 << 10;
/// Bytes of replaced buckets in an event, and of the documents of one bucket.
const DOCUMENT_BYTES: usize = 64 << 10;
const BUCKET_BYTES: usize = 32 << 10;

/// What is kept from one look to the next.
struct Live {
    listening: Option<Listening>,
    /// Records that had passed the tap at the last event.
    passed: u64,
    /// When somebody wanted to hear of buckets last; none while they are not gathered.
    documents_at: Option<Instant>,
    told_at: Instant,
    status_at: Instant,
}

/// Tells until the server is dropped; once a second also samples what shares are computed from, and cuts off what has
/// stalled.
pub(in crate::http) async fn tell(shared: Weak<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let mut live = Live { listening: None, passed: 0, documents_at: None, told_at: now, status_at: now };
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        live.tick(&shared);
    }
}

impl Live {
    fn tick(&mut self, shared: &Shared) {
        let (now, readers) = (Instant::now(), &shared.readers);
        let mut events = Vec::new();
        self.listen(shared, now);
        let pace = pace(readers.open());
        if now - self.told_at >= pace {
            let room = record_room(readers.open(), pace);
            self.told_at = now;
            events.extend(self.records(room).map(|json| (Kind::Records, json)));
            events.extend(documents(shared).map(|json| (Kind::Documents, json)));
        }
        if now - self.status_at >= STATUS_EVERY {
            self.status_at = now;
            let streams = shared.state.board.snapshot();
            let counts = streams.iter().map(|s| (s.stream.clone(), shared.state.metrics.stream(&s.stream).outcomes()));
            shared.rates.sample(now, counts.collect());
            shared.pipeline.sample(now, &shared.state.metrics, streams.iter().map(|s| s.stream.as_str()));
            if readers.want(Kind::Status) {
                events.push((Kind::Status, status::document(shared)));
            }
            shared.connections.tick();
        }
        if !events.is_empty() {
            shared.readers.ring.publish(&events);
        }
    }

    /// Looks at records while somebody wants to see them, and at what is replaced for a while longer: of records a page shows
    /// samples, of buckets all.
    fn listen(&mut self, shared: &Shared, now: Instant) {
        match (shared.readers.want(Kind::Records), &self.listening) {
            (true, None) => {
                // Where too many listen already, it is tried again.
                self.listening = shared.state.tap.listen(Stage::Rows, SAMPLED_A_SECOND).ok();
                self.passed = 0;
            }
            (false, Some(_)) => self.listening = None,
            _ => {}
        }
        let replacements = &shared.state.replacements;
        // Who came and went between two looks began it too.
        let begun = self.documents_at.is_none() && replacements.is_listened_to();
        if shared.readers.want(Kind::Documents) || begun {
            self.documents_at = Some(now);
            replacements.listen(true);
        } else if self.documents_at.is_some_and(|at| now - at >= LINGER) {
            self.documents_at = None;
            replacements.listen(false);
            shared.readers.ring.pass_over(Kind::Documents);
        }
    }

    fn records(&mut self, room: usize) -> Option<String> {
        let listening = self.listening.as_mut()?;
        let mut samples = Vec::with_capacity(MOST_RECORDS);
        // Takes what waits, and waits for none; what does not fit stays for the next time.
        let _ = listening.next(&mut samples, MOST_RECORDS).now_or_never();
        if samples.is_empty() {
            return None;
        }
        let passed = listening.passed().records;
        let since = passed - std::mem::replace(&mut self.passed, passed);
        let mut json = String::from("{\"records\":[");
        let mut empty = true;
        for sample in &samples {
            let record = record(sample).to_string();
            if !empty && json.len() + record.len() > room {
                break;
            }
            if !std::mem::take(&mut empty) {
                json.push(',');
            }
            json.push_str(&record);
        }
        json.push_str(&format!("],\"passed\":{since}}}"));
        Some(json)
    }
}

/// How often records and buckets are told.
fn pace(readers: usize) -> Duration {
    (PACE_A_READER * u32::try_from(readers).unwrap_or(u32::MAX)).clamp(TICK, SLOWEST)
}

/// Bytes of records for an event.
fn record_room(readers: usize, pace: Duration) -> usize {
    let (least, most) = RECORD_BYTES;
    let a_second = RECORD_BYTES_A_SECOND / readers.max(1);
    (a_second.saturating_mul(pace.as_millis() as usize) / 1000).clamp(least, most)
}

fn record(sample: &Arc<Sample>) -> Value {
    let payload = sample.payload.as_deref().filter(|_| sample.payload_bytes <= LONGEST_FIELDS);
    let fields = payload.and_then(|payload| serde_json::from_str::<Map<String, Value>>(payload).ok());
    let mut keys: Map<String, Value> = Map::new();
    for row in &sample.rows {
        let key = row.columns.iter().filter(|(at, _)| row.table.primary_key.contains(at));
        let key: Map<String, Value> =
            key.map(|(at, value)| (row.table.columns[*at].name.clone(), value.clone())).collect();
        let of_table = keys.entry(row.table.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(rows) = of_table {
            rows.push(Value::Object(key));
        }
    }
    json!({
        "stream": &*sample.stream,
        "topic": &*sample.topic,
        "partition": sample.partition,
        "offset": sample.offset,
        "timestamp": Some(sample.timestamp).filter(|millis| *millis >= 0).map(shown::moment_of_millis),
        "committed_at": sample.committed_at.map(shown::moment_of_millis),
        "fields": fields,
        "keys": keys,
    })
}

fn documents(shared: &Shared) -> Option<String> {
    let replaced = shared.state.replacements.take();
    if replaced.buckets.is_empty() && replaced.left_out == 0 {
        return None;
    }
    let mut left_out = replaced.left_out;
    let mut json = String::from("{\"buckets\":[");
    let mut empty = true;
    for replacement in &replaced.buckets {
        let whole = bucket(replacement, true);
        let text = if whole.len() <= BUCKET_BYTES { whole } else { bucket(replacement, false) };
        if json.len() + text.len() > DOCUMENT_BYTES {
            left_out += 1;
            continue;
        }
        if !std::mem::take(&mut empty) {
            json.push(',');
        }
        json.push_str(&text);
    }
    json.push_str(&format!("],\"left_out\":{left_out}}}"));
    Some(json)
}

fn bucket(replacement: &Replacement, whole: bool) -> String {
    let fields = |fields: &[(String, crate::core::document::Value)]| -> Map<String, Value> {
        fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    let document = |entry: &Entry| json!({ "key": fields(&entry.key), "values": fields(&entry.values) });
    let documents: Option<Vec<Value>> = whole.then(|| replacement.entries.iter().map(document).collect());
    json!({
        "aggregate": replacement.aggregate,
        "bucket_start": replacement.bucket.start().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "bucket_end": replacement.bucket.end().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "version": replacement.version,
        "computed_at": replacement.computed_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "offsets": replacement.offsets,
        "documents": documents,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::core::document::Bucket;
    use crate::core::schema::{Charset, Column, ColumnKind, Table};
    use crate::messages::tap::SampledRow;

    #[test]
    fn the_more_readers_the_rarer_and_the_smaller() {
        assert_eq!((pace(0), pace(1), pace(300)), (TICK, TICK, Duration::from_millis(300)));
        assert_eq!(pace(100_000), SLOWEST);
        assert_eq!(record_room(1, pace(1)), RECORD_BYTES.1);
        assert_eq!(record_room(1000, pace(1000)), RECORD_BYTES_A_SECOND / 1000);
        assert_eq!(record_room(1_000_000, SLOWEST), RECORD_BYTES.0);
    }

    #[test]
    fn a_record_is_told_with_its_fields_and_the_keys_of_its_rows() {
        let kind = ColumnKind::Text { max_chars: None, max_bytes: None, charset: Charset::Utf8mb4, padded: false };
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: kind.clone(),
            nullable: false,
            has_default: false,
            generated: false,
            declared: String::new(),
        };
        let table = Table {
            name: "sale".to_owned(),
            columns: vec![column("number"), column("amount")],
            primary_key: vec![0],
            foreign_keys: Vec::new(),
        };
        let sample = Sample {
            stage: Stage::Rows,
            stream: "sales".into(),
            topic: "sales.v1".into(),
            partition: 3,
            offset: 7,
            timestamp: -1,
            key: None,
            payload: Some("{\"n\": 1,\n\"deep\": {\"x\": [1]}}".to_owned()),
            payload_bytes: 30,
            rows: vec![SampledRow { table: Arc::new(table), columns: vec![(0, 1.into()), (1, "x".into())] }],
            rejection: None,
            committed_at: Some(1_500),
        };
        assert_eq!(
            record(&Arc::new(sample.clone())),
            json!({
                "stream": "sales", "topic": "sales.v1", "partition": 3, "offset": 7, "timestamp": null,
                "committed_at": "1970-01-01T00:00:01.500Z", "fields": {"n": 1, "deep": {"x": [1]}},
                "keys": {"sale": [{"number": 1}]},
            })
        );
        let long = Sample { payload_bytes: LONGEST_FIELDS + 1, ..sample };
        assert_eq!(record(&Arc::new(long))["fields"], Value::Null);
    }

    #[test]
    fn a_bucket_is_told_with_or_without_what_it_holds() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let replacement = Replacement {
            aggregate: "sums".to_owned(),
            bucket: Bucket::new(at(0), at(3600)).unwrap(),
            version: 7,
            computed_at: at(4000),
            offsets: Default::default(),
            entries: vec![Entry {
                key: vec![("shop".to_owned(), "north".into())],
                values: vec![("orders".to_owned(), 2.into())],
            }],
        };
        assert_eq!(
            bucket(&replacement, true),
            "{\"aggregate\":\"sums\",\"bucket_end\":\"1970-01-01T01:00:00Z\",\"bucket_start\":\"1970-01-01T00:00:00Z\",\
             \"computed_at\":\"1970-01-01T01:06:40Z\",\"documents\":[{\"key\":{\"shop\":\"north\"},\
             \"values\":{\"orders\":2}}],\"offsets\":{},\"version\":7}"
        );
        assert!(bucket(&replacement, false).contains("\"documents\":null"));
    }
}
