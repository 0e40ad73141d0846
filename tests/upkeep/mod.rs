//! A shop whose sales are kept as documents, in databases of its own, and what must hold of them whatever someone does by
//! hand or kills midway. Written once for SQLite (`tests/upkeep.rs`) and for servers (`tests/servers/upkeep.rs`).

use std::path::PathBuf;
use std::process::{Command, Output};

use bief::adapters::cache::open_cache;
use bief::config::{self, Secret, WarehouseConfig};
use bief::ports::cache::{CacheQuery, Document};
use mongodb::bson::{Bson, Document as Stored, doc};
use sea_orm::{ConnectionTrait, Database};
use serde_json::Value;

mod cases;
pub mod leases;
mod passes;

#[cfg(feature = "failpoints")]
pub use cases::a_rebuild_goes_on_after_a_kill;
pub use cases::{documents_changed_by_hand_are_found_and_mended, names_and_shares_that_are_wrong_are_told};
pub use passes::{
    a_pass_that_fails_is_tried_again_and_one_that_was_missed_is_not_made_up_for,
    of_two_reconcilers_one_works_and_the_other_takes_over,
};

/// Where the documents are.
#[allow(dead_code, reason = "without servers there are files alone")]
pub enum Kept {
    Sqlite,
    /// The URL with its database.
    MongoDb(String),
}

pub struct Shop {
    folder: tempfile::TempDir,
    /// `mysql://…` or `sqlite://…`
    warehouse: String,
    /// The URL of the documents.
    pub cache: String,
    in_mongodb: bool,
}

const TABLE: &str = "\
CREATE TABLE sale (
  sold_at DATETIME(6) NOT NULL,
  shop VARCHAR(3) NOT NULL,
  amount INTEGER NOT NULL,
  price DOUBLE NULL,
  PRIMARY KEY (sold_at, shop)
);
";

const BY_SHOP: &str = "SELECT shop, COUNT(*) AS sales, SUM(amount) AS amount, AVG(price) AS mean_price FROM sale \
    WHERE sold_at >= :bucket_start AND sold_at < :bucket_end GROUP BY shop";
const IN_ALL: &str = "SELECT COUNT(*) AS sales, SUM(amount) AS amount FROM sale \
    WHERE sold_at >= :bucket_start AND sold_at < :bucket_end HAVING COUNT(*) > 0";

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

impl Shop {
    /// `warehouse`: None for a file. Kafka is named where a daemon is to run.
    pub fn new(warehouse: Option<String>, kept: Kept, kafka: &str, topic: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
        let warehouse = warehouse.unwrap_or_else(|| file("shop.db"));
        let (cache, in_mongodb) = match kept {
            Kept::Sqlite => (file("cache.db"), false),
            Kept::MongoDb(url) => (url, true),
        };
        std::fs::create_dir(folder.path().join("migrations")).unwrap();
        std::fs::write(folder.path().join("migrations/0001_sale.sql"), TABLE).unwrap();
        std::fs::write(folder.path().join("by_shop.sql"), BY_SHOP).unwrap();
        std::fs::write(folder.path().join("in_all.sql"), IN_ALL).unwrap();
        let shop = Self { folder, warehouse, cache, in_mongodb };
        shop.configure(kafka, topic, "off");
        // Makes the tables; there is nothing to compute yet.
        let rebuilt = json(&shop.run(&["rebuild", "by_shop", "--json"]), 0);
        assert_eq!((&rebuilt["buckets"], &rebuilt["documents"]), (&0.into(), &0.into()), "{rebuilt}");
        shop
    }

    /// Writes the configuration; `reconcile` is its schedule.
    pub fn configure(&self, kafka: &str, topic: &str, reconcile: &str) {
        let text = format!(
            r#"
[daemon]
http = "127.0.0.1:0"

[kafka]
brokers = "{kafka}"
group = "{topic}"

[warehouse]
url = "{}"
migrations = "migrations"

[cache]
url = "{}"
reconcile = "{reconcile}"
reconcile_sample = 1.0

[[stream]]
topic = "{topic}"
lanes = 1

[[stream.table]]
name = "sale"
on_conflict = "update"
columns = {{ sold_at = "at", shop = "shop", amount = "amount", price = "price" }}

[[aggregate]]
name = "by_shop"
table = "sale"
time = "sold_at"
bucket = "1h"
query = "by_shop.sql"
key = ["shop"]

[[aggregate]]
name = "in_all"
table = "sale"
time = "sold_at"
bucket = "1h"
query = "in_all.sql"
"#,
            self.warehouse, self.cache
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("actors.toml")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(arguments).arg("-c").arg(self.config()).env_remove("FAILPOINTS").env_remove("RUST_LOG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// By hand, in the tables.
    pub fn sql(&self, sql: &str) {
        execute(&self.warehouse, sql);
    }

    /// The first column of the first row.
    pub fn number(&self, sql: &str) -> Option<i64> {
        block_on(async {
            let db = Database::connect(&self.warehouse).await.unwrap();
            let statement = sea_orm::Statement::from_string(db.get_database_backend(), sql);
            let row = db.query_one_raw(statement).await.unwrap();
            db.close().await.unwrap();
            row.and_then(|row| row.try_get_by_index::<Option<i64>>(0).unwrap())
        })
    }

    /// So many sales in each of these hours of March 2024, in shops A and B.
    pub fn sell(&self, hours: std::ops::Range<i64>) {
        let rows: Vec<String> = hours
            .flat_map(|hour| {
                let at = format!("2024-03-{:02} {:02}:15:00.000000", 1 + hour / 24, hour % 24);
                [("A", 1), ("B", 2)].map(|(shop, n)| format!("('{at}', '{shop}', {}, {hour}.1)", hour * n))
            })
            .collect();
        for rows in rows.chunks(500) {
            self.sql(&format!("INSERT INTO sale (sold_at, shop, amount, price) VALUES {}", rows.join(", ")));
        }
    }

    /// All documents of an aggregate, without when and from what they were computed, nor their version.
    pub fn documents(&self, aggregate: &str) -> Vec<String> {
        block_on(async {
            let mut cache = open_cache(&Secret::new(self.cache.clone()))().await.unwrap();
            let query = CacheQuery { aggregate: aggregate.to_owned(), limit: 1_000_000, ..CacheQuery::default() };
            let shown = |d: &Document| format!("{} {:?} {:?}", d.bucket.start(), d.key, d.values);
            cache.read(&query).await.unwrap().documents.iter().map(shown).collect()
        })
    }

    /// By hand, in a document: a column of its values.
    pub fn edit(&self, id: &str, column: &str, value: i64) {
        if self.in_mongodb {
            self.in_collection(id, |collection, id| async move {
                let changed = collection.update_one(id, doc! { "$set": { format!("values.{column}"): value } }).await;
                assert_eq!(changed.unwrap().modified_count, 1);
            });
            return;
        }
        let sql = "UPDATE bief_document SET \"values\" = json_set(\"values\"";
        execute(&self.cache, &format!("{sql}, '$.{column}', {value}) WHERE id = '{id}'"));
    }

    /// By hand, something that no replacement gets above: in MongoDB a document is enough.
    pub fn set_version(&self, id: &str, version: i64) {
        if self.in_mongodb {
            self.in_collection(id, |collection, id| async move {
                let changed = collection.update_one(id, doc! { "$set": { "version": version } }).await;
                assert_eq!(changed.unwrap().modified_count, 1);
            });
            return;
        }
        let bucket = id.rsplit_once('|').unwrap().0;
        execute(&self.cache, &format!("UPDATE bief_bucket SET version = {version} WHERE id = '{bucket}'"));
        execute(&self.cache, &format!("UPDATE bief_document SET version = {version} WHERE id = '{id}'"));
    }

    pub fn remove(&self, id: &str) {
        if self.in_mongodb {
            self.in_collection(id, |collection, id| async move {
                assert_eq!(collection.delete_one(id).await.unwrap().deleted_count, 1);
            });
            return;
        }
        execute(&self.cache, &format!("DELETE FROM bief_document WHERE id = '{id}'"));
    }

    /// By hand, a copy of a document in a bucket that has no rows: an hour of 1 February.
    pub fn copy_to_february(&self, id: &str, hour: i64) {
        let copy = id.replace("2024-03-01T00", &format!("2024-02-01T{hour:02}"));
        let at = |hour: i64| 1_706_745_600_000_i64 + hour * 3_600_000;
        if self.in_mongodb {
            self.in_collection(id, |collection, id| async move {
                let mut found = collection.find_one(id).await.unwrap().unwrap();
                for (field, at) in [("bucket_start", at(hour)), ("bucket_end", at(hour + 1))] {
                    found.insert(field, Bson::DateTime(mongodb::bson::DateTime::from_millis(at)));
                }
                found.insert("_id", copy);
                collection.insert_one(found).await.unwrap();
            });
            return;
        }
        let rest = "aggregate, key, \"values\", version, computed_at, offsets";
        let sql = format!(
            "INSERT INTO bief_document (id, bucket_start, bucket_end, {rest}) \
             SELECT '{copy}', {}, {}, {rest} FROM bief_document WHERE id = '{id}'",
            at(hour),
            at(hour + 1)
        );
        execute(&self.cache, &sql);
    }

    /// Does something with the collection that a document belongs to, and the document's filter.
    fn in_collection<F: Future>(&self, id: &str, work: impl FnOnce(mongodb::Collection<Stored>, Stored) -> F) {
        block_on(async {
            let client = mongodb::Client::with_uri_str(&self.cache).await.unwrap();
            let database = client.default_database().unwrap();
            let aggregate = id.split('|').next().unwrap();
            work(database.collection(aggregate), doc! { "_id": id }).await;
            client.shutdown().await;
        });
    }

    pub fn settings(&self) -> WarehouseConfig {
        let loaded = config::load(&self.config(), &|_| None).unwrap_or_else(|_| panic!("the configuration is right"));
        loaded.config.warehouse
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if self.in_mongodb {
            block_on(async {
                let client = mongodb::Client::with_uri_str(&self.cache).await.unwrap();
                let _ = client.default_database().unwrap().drop().await;
                client.shutdown().await;
            });
        }
    }
}

fn execute(url: &str, sql: &str) {
    block_on(async {
        let db = Database::connect(url).await.unwrap();
        let done = db.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(done.rows_affected() > 0, "{sql} changed nothing");
        db.close().await.unwrap();
    });
}

/// What a command printed as JSON; it must have ended so.
pub fn json(output: &Output, code: i32) -> Value {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"))
}
