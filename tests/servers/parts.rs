//! A domain whose records tell by themselves whether one was lost or written twice: each changes a row, none is a
//! duplicate, parents come with their children, some records are refused by the decoder and some by the database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rdkafka::producer::BaseProducer;

use super::items::{flush, producer, send};
use super::support::*;

const TABLES: &str = "\
CREATE TABLE maker (code VARCHAR(12) NOT NULL, name VARCHAR(20) NULL, PRIMARY KEY (code));
CREATE TABLE part (
  id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  maker VARCHAR(12) NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT part_maker FOREIGN KEY (maker) REFERENCES maker (code),
  CONSTRAINT part_amount CHECK (amount >= 0)
);
CREATE TABLE part_log (
  made_at DATETIME(6) NOT NULL,
  id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (made_at, id)
);
";

/// A part is made in the second of its number.
const LOG: &str = "SELECT COUNT(*) AS parts, SUM(version) AS versions FROM part_log\n\
                   WHERE made_at >= :bucket_start AND made_at < :bucket_end HAVING COUNT(*) > 0\n";

/// Parts of one maker follow each other.
const OF_ONE_MAKER: i64 = 25;

/// Whether everything is tried rather than a sample: `BIEF_TEST_LONG=1`.
pub fn long() -> bool {
    std::env::var("BIEF_TEST_LONG").is_ok_and(|v| v == "1")
}

/// Records of a topic of their own and what must come of them.
pub struct Parts {
    pub topic: String,
    kafka: String,
    producer: BaseProducer,
    sent: i64,
    /// Version and amount by id.
    rows: BTreeMap<i64, (i64, i64)>,
    ids: Vec<i64>,
    pub good: i64,
    pub poison: i64,
}

impl Parts {
    pub fn new(servers: &Servers, partitions: i32) -> Self {
        let topic = unique("parts");
        create_topic(&servers.kafka, &topic, partitions, &[]);
        Self {
            topic,
            kafka: servers.kafka.clone(),
            producer: producer(&servers.kafka, &[]),
            sent: 0,
            rows: BTreeMap::new(),
            ids: Vec::new(),
            good: 0,
            poison: 0,
        }
    }

    pub fn total(&self) -> i64 {
        self.good + self.poison
    }

    /// Sends so many more. The key is the row's id, so that versions of a row keep their order.
    pub fn send(&mut self, records: i64) {
        for at in self.sent..self.sent + records {
            let (id, version, amount) = match (at % 40, at % 5) {
                (7, _) => {
                    send(&self.producer, &self.topic, &at.to_string(), Some(b"{\"id\": "));
                    self.poison += 1;
                    continue;
                }
                (27, _) => (at, 1, -1),
                (_, 3) => {
                    let id = self.ids[(at * 7) as usize % self.ids.len()];
                    (id, self.rows[&id].0 + 1, at)
                }
                _ => (at, 1, at),
            };
            let maker = id / OF_ONE_MAKER;
            let payload = format!(
                r#"{{"id": {id}, "version": {version}, "amount": {amount}, "maker": "m{maker}", "maker_name": "Maker {maker}"}}"#
            );
            send(&self.producer, &self.topic, &id.to_string(), Some(payload.as_bytes()));
            if amount < 0 {
                self.poison += 1;
                continue;
            }
            if self.rows.insert(id, (version, amount)).is_none() {
                self.ids.push(id);
            }
            self.good += 1;
        }
        self.sent += records;
        flush(&self.producer);
    }

    /// A configuration for these records; batches are small, so that there are many.
    pub fn config(&self, folder: &Path, database: &str, group: &str, batch: usize) -> PathBuf {
        let migrations = folder.join("migrations");
        std::fs::create_dir_all(&migrations).unwrap();
        std::fs::write(migrations.join("0001_part.sql"), TABLES).unwrap();
        std::fs::write(folder.join("log.sql"), LOG).unwrap();
        let (kafka, topic) = (&self.kafka, &self.topic);
        let text = format!(
            r#"
[daemon]
http = "127.0.0.1:0"
drain_timeout = "60s"

[kafka]
brokers = "{kafka}"
group = "{group}"

[warehouse]
url = "{database}"
migrations = "migrations"

[cache]
url = "sqlite://cache.db"

[[aggregate]]
name = "parts_made"
table = "part_log"
time = "made_at"
bucket = "1m"
query = "log.sql"

[[stream]]
topic = "{topic}"
lanes = 2
max_dead_letter_share = 1.0
max_batch_records = {batch}

[[stream.table]]
name = "maker"
on_conflict = "update"
columns = {{ code = "maker", name = "maker_name" }}

[[stream.table]]
name = "part"
on_conflict = "update"
columns = {{ id = "id", version = "version", amount = "amount", maker = "maker" }}

[[stream.table]]
name = "part_log"
on_conflict = "update"
columns = {{ made_at = {{ field = "id", epoch = "s" }}, id = "id", version = "version" }}
"#
        );
        let path = folder.join("actors.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The rows are exactly those of the records, each record counted once, none twice.
    pub fn assert_rows(&self, database: &Database, about: &str) {
        let found: Vec<(i64, i64, i64, String)> = database
            .rows("SELECT id, version, amount, maker FROM part ORDER BY id")
            .into_iter()
            .map(mysql_async::from_row)
            .collect();
        let wanted: Vec<(i64, i64, i64, String)> = self
            .rows
            .iter()
            .map(|(id, (version, amount))| (*id, *version, *amount, format!("m{}", id / OF_ONE_MAKER)))
            .collect();
        let (there, due): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), wanted.iter().collect());
        let lost: Vec<_> = due.difference(&there).take(5).collect();
        let odd: Vec<_> = there.difference(&due).take(5).collect();
        assert!(found == wanted, "{about}: missing {lost:?}, not wanted {odd:?}");
        let sums = "SELECT CAST(SUM(applied) AS SIGNED), CAST(SUM(duplicates) AS SIGNED), \
                    CAST(SUM(dead_letters) AS SIGNED), CAST(SUM(gaps) AS SIGNED) FROM bief_offset";
        let sums: (i64, i64, i64, i64) = mysql_async::from_row(database.rows(sums).remove(0));
        assert_eq!(sums, (self.good, 0, self.poison, 0), "{about}: applied, duplicates, dead letters, gaps");
        assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), self.poison, "{about}");
        let unmarked = "SELECT COUNT(*) FROM part_log l LEFT JOIN bief_dirty_bucket d \
                        ON d.source = 'part_log.made_at/1m' \
                        AND d.bucket_start = DATE_SUB(l.made_at, INTERVAL SECOND(l.made_at) SECOND) \
                        WHERE d.source IS NULL";
        assert_eq!(database.count(unmarked), 0, "{about}: rows whose bucket was never marked");
    }
}
