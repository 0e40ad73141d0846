//! The warehouse adapter on a real MySQL or MariaDB. Each function takes the server's URL without a database, works in
//! a database of its own, and states one behaviour.

use std::sync::Arc;
use std::time::Duration;

use bief::adapters::mysql;
use bief::config::{Load, Secret, Tls, WarehouseConfig};
use bief::core::cell::{Cell, Span};
use bief::core::outcome::{Counts, Reason, Rejection};
use bief::core::schema::{Charset, ColumnKind, Table};
use bief::core::target::{OnConflict, Rows, Target};
use bief::messages::{DeadLetter, OffsetMove};
use bief::ports::{PartitionCounts, Warehouse, WarehouseError, Written};
use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::{FromRow, Queryable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Each behaviour on both servers.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        vec![$(
            (concat!(stringify!($name), "_on_mysql"), |s| super::support::block_on($name(&s.mysql))),
            (concat!(stringify!($name), "_on_mariadb"), |s| super::support::block_on($name(&s.mariadb))),
        )*]
    };
}

pub fn tests() -> Vec<(&'static str, super::Test)> {
    on_both![
        ignore_keeps_the_row_that_is_there,
        update_sets_the_given_columns_and_tells_what_was_the_same,
        what_was_there_unchanged_is_told_whether_it_was_expected_or_not,
        update_never_deletes_a_row_that_has_children,
        a_clash_on_another_unique_index_is_refused_and_touches_no_row,
        a_clash_is_refused_whatever_the_servers_make_of_a_null_key,
        of_two_rows_that_clash_with_each_other_the_later_is_blamed,
        a_row_may_lean_on_one_that_comes_after_it,
        a_zero_in_an_auto_increment_column_is_zero,
        every_row_whose_parent_is_missing_is_refused_and_named,
        each_kind_of_refused_value_has_its_reason_and_field,
        one_percent_of_poison_is_found_in_few_calls,
        rows_that_a_load_drops_are_found_and_the_others_stand,
        an_account_that_may_set_nothing_finds_poison_too,
        whatever_the_mixture_of_poison_exactly_the_rows_that_a_model_refuses_are_refused,
        a_column_that_is_left_out_takes_its_default_and_keeps_its_value,
        offsets_advance_by_compare_and_set_and_gaps_and_counts_are_kept,
        a_dead_letter_of_any_size_is_stored,
        of_two_writers_in_a_deadlock_one_is_told_to_try_again,
        who_waits_for_a_locked_table_gives_the_offsets_free_in_time,
        a_hundred_thousand_random_values_read_back_identical_through_load_data,
        random_values_read_back_identical_through_insert,
        one_column_of_empty_texts_is_loaded_row_by_row,
        a_server_that_stops_taking_files_is_written_to_by_insert,
        a_connection_that_was_killed_is_opened_again_and_left_no_trace,
        a_write_that_is_dropped_midway_leaves_no_trace,
        the_catalog_tells_what_each_column_holds,
        what_an_operator_must_mend_is_fatal_and_says_how,
        tls_is_used_where_it_is_required,
        a_server_that_asks_for_a_file_gets_no_byte_of_it,
    ]
}

const BOOKKEEPING: [&str; 3] = [
    "CREATE TABLE bief_offset (topic VARCHAR(249) COLLATE utf8mb4_bin, partition_id INT, topic_id VARCHAR(64), epoch BIGINT, \
     start_offset BIGINT, next_offset BIGINT, applied BIGINT, duplicates BIGINT, dead_letters BIGINT, gaps BIGINT, \
     updated_at DATETIME(6), PRIMARY KEY (topic, partition_id)) CHARACTER SET utf8mb4",
    "CREATE TABLE bief_gap (topic VARCHAR(249) COLLATE utf8mb4_bin, partition_id INT, first_offset BIGINT, last_offset BIGINT, \
     offsets BIGINT, ranges LONGTEXT, PRIMARY KEY (topic, partition_id, first_offset)) CHARACTER SET utf8mb4",
    "CREATE TABLE bief_dead_letter (id BIGINT AUTO_INCREMENT PRIMARY KEY, topic VARCHAR(249) COLLATE utf8mb4_bin NOT NULL, \
     partition_id INT NOT NULL, record_offset BIGINT NOT NULL, record_timestamp DATETIME(6) NULL, record_key LONGBLOB NULL, \
     payload LONGBLOB NULL, reason VARCHAR(32) NOT NULL, field VARCHAR(255) NULL, message TEXT NOT NULL, \
     stored_at DATETIME(6) NOT NULL, UNIQUE (topic, partition_id, record_offset)) CHARACTER SET utf8mb4",
];

/// A database of its own with the bookkeeping tables, dropped by [`Database::end`].
struct Database {
    admin: Conn,
    name: String,
    settings: WarehouseConfig,
}

impl Database {
    async fn new(url: &str) -> Self {
        Self::with(url, Load::Auto).await
    }

    async fn with(url: &str, load: Load) -> Self {
        let mut admin = Conn::from_url(url).await.unwrap();
        let name = format!("bief_mysqltest_{}", uuid::Uuid::new_v4().simple());
        admin.query_drop(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await.unwrap();
        admin.query_drop(format!("USE {name}")).await.unwrap();
        for table in BOOKKEEPING {
            admin.query_drop(table).await.unwrap();
        }
        let settings = WarehouseConfig {
            url: Secret::new(format!("{}/{name}", url.trim_end_matches('/'))),
            tls: Tls::Disable,
            ca: None,
            migrations: None,
            load,
        };
        Self { admin, name, settings }
    }

    async fn sql(&mut self, sql: &str) {
        self.admin.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn read<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Vec<T> {
        self.admin.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn warehouse(&self) -> Box<dyn Warehouse> {
        mysql::open(&self.settings)().await.unwrap()
    }

    async fn table(&self, name: &str) -> Table {
        mysql::catalog(&self.settings).unwrap().tables(&[name]).await.unwrap().remove(0)
    }

    async fn target(&self, name: &str, columns: &[&str], on_conflict: OnConflict) -> Target {
        let table = self.table(name).await;
        let columns: Vec<usize> = columns.iter().map(|name| table.column(name).unwrap()).collect();
        let key = table.primary_key.iter().map(|k| columns.iter().position(|c| c == k).unwrap()).collect();
        Target { table: Arc::new(table), columns, key, on_conflict, dimension: false }
    }

    async fn end(mut self) {
        let sql = format!("DROP DATABASE {}", self.name);
        self.sql(&sql).await;
    }
}

/// A value to write.
#[derive(Clone)]
enum V<'a> {
    Null,
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Microseconds since 1970.
    Time(i64),
}
use V::{Bytes, Float, Int, Null, Text, Time};

/// Rows with their arena.
struct Batch {
    columns: Vec<usize>,
    cells: Vec<Cell>,
    arena: Vec<u8>,
}

impl Batch {
    /// `columns` are positions in the target's columns.
    fn new(columns: &[usize]) -> Self {
        Self { columns: columns.to_vec(), cells: Vec::new(), arena: Vec::new() }
    }

    fn push(&mut self, row: &[V<'_>]) {
        assert_eq!(row.len(), self.columns.len());
        for value in row {
            let cell = match value {
                Null => Cell::Null,
                Int(value) => Cell::Int(*value),
                Float(value) => Cell::Float(*value),
                Text(text) => Cell::Text(self.keep(text.as_bytes())),
                Bytes(bytes) => Cell::Bytes(self.keep(bytes)),
                Time(micros) => Cell::DateTime(*micros),
            };
            self.cells.push(cell);
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.arena.len(), bytes.len());
        self.arena.extend_from_slice(bytes);
        span
    }

    fn of(columns: &[usize], rows: &[&[V<'_>]]) -> Self {
        let mut batch = Self::new(columns);
        rows.iter().for_each(|row| batch.push(row));
        batch
    }

    fn rows<'a>(&'a self, target: &'a Target) -> Rows<'a> {
        Rows { target, columns: &self.columns, cells: &self.cells, arena: &self.arena }
    }
}

/// Writes in a transaction of its own; commits where nothing was refused.
async fn write(warehouse: &mut dyn Warehouse, target: &Target, batch: &Batch) -> Written {
    warehouse.begin().await.unwrap();
    warehouse.savepoint().await.unwrap();
    let written = warehouse.write(batch.rows(target)).await.unwrap();
    if written.refused.is_empty() {
        warehouse.commit().await.unwrap();
    } else {
        warehouse.rollback().await.unwrap();
    }
    written
}

/// Keeps what went in beside what was refused, so that it can be looked at.
async fn write_and_keep(warehouse: &mut dyn Warehouse, target: &Target, batch: &Batch) -> Written {
    warehouse.begin().await.unwrap();
    warehouse.savepoint().await.unwrap();
    let written = warehouse.write(batch.rows(target)).await.unwrap();
    warehouse.commit().await.unwrap();
    written
}

/// Position, reason and field of what was refused.
fn refused(written: &Written) -> Vec<(usize, Reason, Option<&str>)> {
    written.refused.iter().map(|r| (r.row, r.rejection.reason, r.rejection.field.as_deref())).collect()
}

async fn ignore_keeps_the_row_that_is_there(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v VARCHAR(10) NULL)").await;
    let target = db.target("t", &["k", "v"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let first = Batch::of(&[0, 1], &[&[Int(1), Text("one")], &[Int(2), Text("two")]]);
    assert_eq!(write(&mut *warehouse, &target, &first).await, Written::default());
    let second = Batch::of(&[0, 1], &[&[Int(1), Text("uno")], &[Int(2), Null], &[Int(3), Text("three")]]);
    assert_eq!(write(&mut *warehouse, &target, &second).await.unchanged, [0, 1]);
    let rows: Vec<(i32, Option<String>)> = db.read("SELECT k, v FROM t ORDER BY k").await;
    assert_eq!(rows, [(1, Some("one".into())), (2, Some("two".into())), (3, Some("three".into()))]);
    db.end().await;
}

async fn update_sets_the_given_columns_and_tells_what_was_the_same(url: &str) {
    let mut db = Database::new(url).await;
    db.sql(
        "CREATE TABLE t (k INT PRIMARY KEY, v VARCHAR(10) NULL, f FLOAT NULL, kept INT NOT NULL DEFAULT 7, \
         at DATETIME(3) NULL)",
    )
    .await;
    let target = db.target("t", &["k", "v", "f", "kept", "at"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    let columns = [0, 1, 2, 4];
    let first = Batch::of(
        &columns,
        &[
            &[Int(1), Text("same"), Float(0.1), Time(1_357_034_705_123_456)],
            &[Int(2), Text("case"), Float(2.5), Null],
            &[Int(3), Text("gone"), Null, Null],
        ],
    );
    assert_eq!(write(&mut *warehouse, &target, &first).await, Written::default());
    db.sql("UPDATE t SET kept = 8").await;
    let second = Batch::of(
        &columns,
        &[
            &[Int(1), Text("same"), Float(0.1), Time(1_357_034_705_123_789)],
            &[Int(2), Text("CASE"), Float(2.5), Null],
            &[Int(3), Null, Float(-1e-30), Null],
            &[Int(4), Text("new"), Null, Null],
        ],
    );
    assert_eq!(write(&mut *warehouse, &target, &second).await.unchanged, [0]);
    let rows: Vec<(i32, Option<String>, i32)> = db.read("SELECT k, v, kept FROM t ORDER BY k").await;
    let texts: Vec<_> = rows.iter().map(|(k, v, kept)| (*k, v.as_deref(), *kept)).collect();
    assert_eq!(texts, [(1, Some("same"), 8), (2, Some("CASE"), 8), (3, None, 8), (4, Some("new"), 7)]);
    db.end().await;
}

async fn what_was_there_unchanged_is_told_whether_it_was_expected_or_not(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v INT)").await;
    let target = db.target("t", &["k", "v"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    // Each round changes the rows whose number is divisible and adds as many as it says.
    let mut rows: Vec<(i64, i64)> = (0..300).map(|k| (k, 0)).collect();
    for (round, (divisor, added)) in [(1, 0), (1, 0), (2, 1), (3, 0), (1000, 0), (1, 5), (7, 0)].into_iter().enumerate()
    {
        let mut unchanged = Vec::new();
        if round > 0 {
            for (k, v) in &mut rows {
                if *k % divisor == 0 { *v += 1 } else { unchanged.push(*k as usize) }
            }
        }
        let next = rows.len() as i64;
        rows.extend((next..next + added).map(|k| (k, 0)));
        let mut batch = Batch::new(&[0, 1]);
        rows.iter().for_each(|(k, v)| batch.push(&[Int(*k), Int(*v)]));
        assert_eq!(write(&mut *warehouse, &target, &batch).await.unchanged, unchanged, "round {round}");
        assert_eq!(db.read::<(i64, i64)>("SELECT k, v FROM t ORDER BY k").await, rows, "round {round}");
    }
    db.end().await;
}

async fn update_never_deletes_a_row_that_has_children(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE p (k INT PRIMARY KEY, v INT)").await;
    db.sql("CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (k) ON DELETE CASCADE)").await;
    db.sql("INSERT INTO p VALUES (1, 1), (2, 2)").await;
    db.sql("INSERT INTO c VALUES (10, 1), (20, 2)").await;
    let target = db.target("p", &["k", "v"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    let mut batch = Batch::new(&[0, 1]);
    (1..=300).for_each(|k| batch.push(&[Int(k), Int(-k)]));
    assert_eq!(write(&mut *warehouse, &target, &batch).await, Written::default());
    assert_eq!(db.read::<i32>("SELECT id FROM c ORDER BY id").await, [10, 20]);
    assert_eq!(db.read::<i32>("SELECT v FROM p WHERE k IN (1, 2, 300) ORDER BY k").await, [-1, -2, -300]);
    db.end().await;
}

async fn a_clash_on_another_unique_index_is_refused_and_touches_no_row(url: &str) {
    for on_conflict in [OnConflict::Ignore, OnConflict::Update] {
        let mut db = Database::new(url).await;
        db.sql(
            "CREATE TABLE t (a INT, b VARCHAR(5), u INT NULL, w INT NULL, v INT NULL, PRIMARY KEY (b, a), \
             UNIQUE uw (u, w))",
        )
        .await;
        db.sql("INSERT INTO t VALUES (1, 'x', 10, 1, 100), (9, 'z', 99, 9, 900)").await;
        let target = db.target("t", &["a", "b", "u", "w", "v"], on_conflict).await;
        let mut warehouse = db.warehouse().await;
        let batch = Batch::of(
            &[0, 1, 2, 3, 4],
            &[
                &[Int(1), Text("x"), Int(10), Int(1), Int(101)],
                &[Int(2), Text("y"), Int(99), Int(9), Int(5)],
                &[Int(3), Text("y"), Int(98), Int(9), Int(5)],
            ],
        );
        let written = write_and_keep(&mut *warehouse, &target, &batch).await;
        assert_eq!(refused(&written), [(1, Reason::UniqueKey, Some("u,w"))], "{written:?}");
        let rows: Vec<(i32, i32)> = db.read("SELECT a, v FROM t ORDER BY a").await;
        let known = if on_conflict == OnConflict::Update { 101 } else { 100 };
        assert_eq!(rows, [(1, known), (3, 5), (9, 900)], "what was refused left no trace");
        db.end().await;
    }
}

/// The server makes 0 of a NULL in a column with AUTO_INCREMENT, and the present time in a TIMESTAMP.
async fn a_clash_is_refused_whatever_the_servers_make_of_a_null_key(url: &str) {
    let time = |day: i32| Time(i64::from(day) * 86_400_000_000);
    for on_conflict in [OnConflict::Ignore, OnConflict::Update] {
        let mut db = Database::new(url).await;
        db.sql("CREATE TABLE t (k BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, u INT UNIQUE, v INT)").await;
        db.sql("INSERT INTO t VALUES (-1, 10, 100), (9, 99, 900)").await;
        db.sql("CREATE TABLE s (k TIMESTAMP(6) NOT NULL PRIMARY KEY, u INT UNIQUE, v INT)").await;
        db.sql("INSERT INTO s VALUES ('1970-01-03 00:00:00.25', 10, 100), ('1970-01-10', 99, 900)").await;
        let mut warehouse = db.warehouse().await;
        for (table, keys) in [("t", [Int(-1), Int(2), Int(3)]), ("s", [Time(172_800_250_000), time(3), time(4)])] {
            let target = db.target(table, &["k", "u", "v"], on_conflict).await;
            let [known, clashing, new] = keys;
            let rows: [&[_]; 3] = [&[known, Int(10), Int(101)], &[clashing, Int(99), Int(5)], &[new, Int(98), Int(5)]];
            // Once as a few rows that are inserted, once behind so many that they are loaded.
            let more = |n: i32| if table == "t" { Int(i64::from(n) + 1000) } else { time(n + 1000) };
            for filled in [0, 150] {
                let mut batch = Batch::of(&[0, 1, 2], &rows);
                (0..filled).for_each(|n| batch.push(&[more(n), Int(i64::from(n) + 1000), Int(1)]));
                let written = write_and_keep(&mut *warehouse, &target, &batch).await;
                assert_eq!(refused(&written), [(1, Reason::UniqueKey, Some("u"))], "{table} {written:?}");
            }
            let sql = format!("SELECT u, v FROM {table} WHERE u < 1000 ORDER BY u");
            let read: Vec<(i32, i32)> = db.read(&sql).await;
            let known = if on_conflict == OnConflict::Update { 101 } else { 100 };
            assert_eq!(read, [(10, known), (98, 5), (99, 900)], "{table}: what was refused left no trace");
        }
        db.end().await;
    }
}

/// Of keys that are written in their order, while another order would do.
async fn a_row_may_lean_on_one_that_comes_after_it(url: &str) {
    let mut db = Database::new(url).await;
    db.sql(
        "CREATE TABLE t (k INT PRIMARY KEY, parent INT NULL, u INT UNIQUE, \
         CONSTRAINT own FOREIGN KEY (parent) REFERENCES t (k))",
    )
    .await;
    db.sql("INSERT INTO t VALUES (90, NULL, 7), (30, NULL, 8)").await;
    let mut warehouse = db.warehouse().await;
    let target = db.target("t", &["k", "parent", "u"], OnConflict::Update).await;
    let batch = Batch::of(
        &[0, 1, 2],
        &[
            &[Int(10), Int(20), Int(8)],
            &[Int(20), Int(40), Int(1)],
            &[Int(30), Null, Int(7)],
            &[Int(35), Int(99), Int(2)],
            &[Int(40), Int(90), Int(3)],
            &[Int(90), Null, Int(9)],
            &[Int(95), Null, Int(9)],
        ],
    );
    let written = write_and_keep(&mut *warehouse, &target, &batch).await;
    let wanted = [(3, Reason::ForeignKey, Some("parent")), (6, Reason::UniqueKey, Some("u"))];
    assert_eq!(refused(&written), wanted, "{written:?}");
    let read: Vec<(i32, Option<i32>, i32)> = db.read("SELECT k, parent, u FROM t ORDER BY k").await;
    let wanted = [(10, Some(20), 8), (20, Some(40), 1), (30, None, 7), (40, Some(90), 3), (90, None, 9)];
    assert_eq!(read, wanted);
    db.end().await;
}

/// The server would make the next number of it, as of a null.
async fn a_zero_in_an_auto_increment_column_is_zero(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT) AUTO_INCREMENT = 50000").await;
    let target = db.target("t", &["k", "v"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    // Inserted, as one row; loaded, as one of many; staged, since it is there.
    for (version, rows) in [(1, 1), (2, 300), (3, 300)] {
        let mut batch = Batch::new(&[0, 1]);
        (0..rows).for_each(|k| batch.push(&[Int(k), Int(version)]));
        let written = write_and_keep(&mut *warehouse, &target, &batch).await;
        assert_eq!(refused(&written), []);
        let read: Vec<(i32, i32, i32)> = db.read("SELECT COUNT(*), MIN(k), MIN(v) FROM t").await;
        assert_eq!(read, [(rows as i32, 0, version as i32)]);
    }
    db.end().await;
}

async fn of_two_rows_that_clash_with_each_other_the_later_is_blamed(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, u INT UNIQUE)").await;
    let target = db.target("t", &["k", "u"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let mut batch = Batch::new(&[0, 1]);
    (0..200).for_each(|k| batch.push(&[Int(k), Int(if k == 150 { 3 } else { k })]));
    let written = write(&mut *warehouse, &target, &batch).await;
    assert_eq!(refused(&written), [(150, Reason::UniqueKey, Some("u"))]);
    db.end().await;
}

async fn every_row_whose_parent_is_missing_is_refused_and_named(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE p (a INT, b VARCHAR(5), PRIMARY KEY (a, b))").await;
    db.sql("CREATE TABLE q (id INT PRIMARY KEY)").await;
    db.sql(
        "CREATE TABLE c (k INT PRIMARY KEY, pa INT NULL, pb VARCHAR(5) NULL, q INT NULL, self INT NULL, \
         CONSTRAINT fk_p FOREIGN KEY (pa, pb) REFERENCES p (a, b), CONSTRAINT fk_q FOREIGN KEY (q) REFERENCES q (id), \
         CONSTRAINT fk_self FOREIGN KEY (self) REFERENCES c (k))",
    )
    .await;
    db.sql("INSERT INTO p VALUES (1, 'x')").await;
    db.sql("INSERT INTO q VALUES (5)").await;
    let target = db.target("c", &["k", "pa", "pb", "q", "self"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    let batch = Batch::of(
        &[0, 1, 2, 3, 4],
        &[
            &[Int(0), Int(1), Text("x"), Int(5), Null],
            &[Int(1), Int(1), Text("y"), Int(5), Null],
            // One null in the key: nothing is pointed at.
            &[Int(2), Int(7), Null, Int(5), Int(0)],
            &[Int(3), Null, Null, Int(6), Null],
            &[Int(4), Null, Null, Null, Int(77)],
        ],
    );
    let written = write(&mut *warehouse, &target, &batch).await;
    assert_eq!(
        refused(&written),
        [
            (1, Reason::ForeignKey, Some("pa,pb")),
            (3, Reason::ForeignKey, Some("q")),
            (4, Reason::ForeignKey, Some("self"))
        ]
    );
    assert!(written.refused[0].rejection.message.contains("1,y"), "{}", written.refused[0].rejection.message);
    db.end().await;
}

async fn each_kind_of_refused_value_has_its_reason_and_field(url: &str) {
    for load in [Load::Auto, Load::Insert] {
        let mut db = Database::with(url, load).await;
        db.sql(
            "CREATE TABLE t (k INT PRIMARY KEY, s SMALLINT NULL, v VARCHAR(3) NULL, n INT NOT NULL, d DATETIME NULL, \
             l VARCHAR(9) CHARACTER SET latin1 NULL, b VARBINARY(2) NULL, dec_ DECIMAL(4,1) NULL, \
             f DOUBLE NULL, CONSTRAINT small CHECK (n < 100))",
        )
        .await;
        let target = db.target("t", &["k", "s", "v", "n", "d", "l", "b", "dec_", "f"], OnConflict::Ignore).await;
        let mut warehouse = db.warehouse().await;
        let mut batch = Batch::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let good =
            [Int(0), Int(1), Text("abc"), Int(1), Time(0), Text("é"), Bytes(b"\xff\t"), Text("999.9"), Float(0.5)];
        let poison: [(usize, V<'_>, Reason); 9] = [
            (1, Int(40_000), Reason::OutOfRange),
            (1, Text("zzz"), Reason::WrongType),
            (2, Text("abcd"), Reason::TooLong),
            (3, Null, Reason::NullNotAllowed),
            (4, Text("yesterday"), Reason::InvalidTime),
            (5, Text("漢"), Reason::NotEncodable),
            (6, Bytes(b"abc"), Reason::TooLong),
            (7, Text("12345.6"), Reason::OutOfRange),
            (3, Int(100), Reason::Check),
        ];
        let names = ["k", "s", "v", "n", "d", "l", "b", "dec_", "f"];
        let mut expected = Vec::new();
        for k in 0..250 {
            let mut row = good.clone();
            row[0] = Int(k);
            if k % 25 == 7
                && let Some((column, value, reason)) = poison.get(k as usize / 25)
            {
                row[*column] = value.clone();
                let field = (*reason != Reason::Check).then_some(names[*column]);
                expected.push((k as usize, *reason, field));
            }
            batch.push(&row);
        }
        let written = write(&mut *warehouse, &target, &batch).await;
        assert_eq!(refused(&written), expected, "{load:?} {written:?}");
        db.end().await;
    }
}

async fn rows_that_a_load_drops_are_found_and_the_others_stand(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE p (k INT PRIMARY KEY)").await;
    db.sql("INSERT INTO p VALUES (1), (2)").await;
    db.sql(
        "CREATE TABLE t (a INT, b VARCHAR(20), p INT NULL, v INT NULL, PRIMARY KEY (a, b), \
         FOREIGN KEY (p) REFERENCES p (k), CHECK (v < 100))",
    )
    .await;
    let target = db.target("t", &["a", "b", "p", "v"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    let batch = |first: i64, odd: &[(i64, [V<'static>; 2])]| {
        let mut batch = Batch::new(&[0, 1, 2, 3]);
        for a in first..first + 300 {
            let [p, v] = odd.iter().find(|(at, _)| *at == a).map_or([Int(1), Int(5)], |(_, values)| values.clone());
            batch.push(&[Int(a), Text("a\tb"), p, v]);
        }
        batch
    };
    let dropped = batch(0, &[(7, [Int(1), Int(100)]), (120, [Int(9), Int(5)]), (299, [Null, Int(999)])]);
    // What else the load does than dropping new rows, all of it must be undone.
    let altered = batch(1000, &[(1007, [Int(1), Int(100)]), (1008, [Int(1), Int(99_999_999_999)])]);
    let there = batch(250, &[(260, [Int(1), Int(100)])]);

    warehouse.begin().await.unwrap();
    warehouse.savepoint().await.unwrap();
    let written = warehouse.write(dropped.rows(&target)).await.unwrap();
    let reasons: Vec<_> = written.refused.iter().map(|r| (r.row, r.rejection.reason)).collect();
    assert_eq!(reasons, [(7, Reason::Check), (120, Reason::ForeignKey), (299, Reason::Check)], "{written:?}");
    assert!(written.others_in && written.unchanged.is_empty(), "{written:?}");
    warehouse.commit().await.unwrap();
    assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [297]);
    assert_eq!(db.read::<i32>("SELECT a FROM t WHERE a IN (7, 120, 299)").await, [0; 0]);

    let written = write(&mut *warehouse, &target, &altered).await;
    let reasons: Vec<_> = written.refused.iter().map(|r| (r.row, r.rejection.reason)).collect();
    assert!(!written.others_in && reasons.contains(&(8, Reason::OutOfRange)), "{written:?}");
    let written = write(&mut *warehouse, &target, &there).await;
    assert_eq!(refused(&written).first().map(|(row, ..)| *row), Some(10), "{written:?}");
    assert!(!written.others_in);
    assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [297]);
    db.end().await;
}

async fn an_account_that_may_set_nothing_finds_poison_too(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (a INT PRIMARY KEY, v INT NULL, CHECK (v < 100))").await;
    let target = db.target("t", &["a", "v"], OnConflict::Update).await;
    let user = &db.name["bief_mysqltest_".len()..][..20].to_owned();
    db.sql(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'")).await;
    let grants = format!("SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON {}.*", db.name);
    db.sql(&format!("GRANT {grants} TO '{user}'@'%'")).await;
    let address = url.rsplit_once('@').unwrap().1.trim_end_matches('/');
    db.settings.url = Secret::new(format!("mysql://{user}:secret@{address}/{}", db.name));
    let mut warehouse = db.warehouse().await;
    let mut batch = Batch::new(&[0, 1]);
    (0..300).for_each(|a| batch.push(&[Int(a), Int(if a % 100 == 50 { 99_999_999_999 } else { a % 101 })]));
    let mut expected: Vec<(usize, Reason)> = vec![(50, Reason::OutOfRange), (150, Reason::OutOfRange)];
    expected.extend([(100, Reason::Check), (201, Reason::Check), (250, Reason::OutOfRange)]);
    let mut found = Vec::new();
    // What the columns can't hold is found first, then what the table refuses.
    loop {
        let rows: Vec<usize> = (0..300).filter(|row| !found.iter().any(|(at, _)| at == row)).collect();
        let mut left = Batch::new(&[0, 1]);
        left.cells = rows.iter().flat_map(|&row| batch.rows(&target).row(row).to_vec()).collect();
        let written = write(&mut *warehouse, &target, &left).await;
        found.extend(written.refused.iter().map(|r| (rows[r.row], r.rejection.reason)));
        if written.refused.is_empty() {
            break;
        }
    }
    found.sort_by_key(|(row, _)| *row);
    expected.sort_by_key(|(row, _)| *row);
    assert_eq!(found, expected);
    assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [295]);
    db.sql(&format!("DROP USER '{user}'@'%'")).await;
    db.end().await;
}

async fn one_percent_of_poison_is_found_in_few_calls(url: &str) {
    for (load, on_conflict) in
        [(Load::Auto, OnConflict::Ignore), (Load::Auto, OnConflict::Update), (Load::Insert, OnConflict::Update)]
    {
        let mut db = Database::with(url, load).await;
        db.sql("CREATE TABLE p (id INT PRIMARY KEY)").await;
        db.sql("INSERT INTO p VALUES (1), (2), (3)").await;
        db.sql(
            "CREATE TABLE t (k INT PRIMARY KEY, p INT NULL, u INT UNIQUE, n INT NOT NULL CHECK (n >= 0), v VARCHAR(5), \
             FOREIGN KEY (p) REFERENCES p (id))",
        )
        .await;
        let target = db.target("t", &["k", "p", "u", "n", "v"], on_conflict).await;
        let mut warehouse = db.warehouse().await;
        let mut bad: Vec<(usize, Reason)> = Vec::new();
        let row_of = |k: i64| -> ([V<'static>; 5], Option<Reason>) {
            let mut row = [Int(k), Int(k % 3 + 1), Int(k), Int(k), Text("ok")];
            let reason = match k {
                _ if k % 100 != 50 => None,
                _ if k % 400 == 50 => Some((1, Int(99), Reason::ForeignKey)),
                _ if k % 400 == 150 => Some((2, Int(0), Reason::UniqueKey)),
                _ if k % 400 == 250 => Some((3, Int(-1), Reason::Check)),
                _ => Some((4, Text("much too long"), Reason::TooLong)),
            }
            .map(|(column, value, reason): (usize, V<'static>, Reason)| {
                row[column] = value;
                reason
            });
            (row, reason)
        };
        for k in 0..5000 {
            if let (_, Some(reason)) = row_of(k) {
                bad.push((k as usize, reason));
            }
        }
        warehouse.begin().await.unwrap();
        warehouse.savepoint().await.unwrap();
        let mut left: Vec<i64> = (0..5000).collect();
        let mut found: Vec<(usize, Reason)> = Vec::new();
        let mut calls = 0;
        let start = std::time::Instant::now();
        loop {
            let mut batch = Batch::new(&[0, 1, 2, 3, 4]);
            left.iter().for_each(|&k| batch.push(&row_of(k).0));
            calls += 1;
            let written = warehouse.write(batch.rows(&target)).await.unwrap();
            if written.refused.is_empty() {
                break;
            }
            warehouse.rollback_rows().await.unwrap();
            found.extend(written.refused.iter().map(|r| (left[r.row] as usize, r.rejection.reason)));
            let gone: Vec<usize> = written.refused.iter().map(|r| r.row).collect();
            let mut position = 0;
            left.retain(|_| {
                position += 1;
                gone.binary_search(&(position - 1)).is_err()
            });
        }
        warehouse.commit().await.unwrap();
        found.sort_unstable();
        assert_eq!(found, bad);
        assert!(calls <= 2, "{calls} calls");
        println!(
            "{load:?} {on_conflict:?}: {} poison rows of 5,000 in {calls} calls, {:?}",
            bad.len(),
            start.elapsed()
        );
        assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [4950]);
        db.end().await;
    }
}

/// The model takes rows one by one, as a database would that is given each in a statement of its own.
async fn whatever_the_mixture_of_poison_exactly_the_rows_that_a_model_refuses_are_refused(url: &str) {
    for (load, on_conflict) in
        [(Load::Auto, OnConflict::Ignore), (Load::Auto, OnConflict::Update), (Load::Insert, OnConflict::Update)]
    {
        let mut db = Database::with(url, load).await;
        db.sql("CREATE TABLE p (id INT PRIMARY KEY)").await;
        db.sql("INSERT INTO p VALUES (1), (2), (3)").await;
        db.sql(
            "CREATE TABLE t (k INT PRIMARY KEY, p INT NULL, u INT NULL UNIQUE, n INT NOT NULL CHECK (n >= 0), \
             v VARCHAR(5), FOREIGN KEY (p) REFERENCES p (id))",
        )
        .await;
        db.sql("INSERT INTO t VALUES (-1, 1, 0, 0, ''), (-2, 1, 1, 0, '')").await;
        let target = db.target("t", &["k", "p", "u", "n", "v"], on_conflict).await;
        let mut warehouse = db.warehouse().await;
        let mut random = Random(0x9e37_79b9);
        let mut taken: std::collections::BTreeSet<i64> = [0, 1].into();
        let (mut key, mut refused_in_all, mut written_in_all) = (0, 0, 2);
        for round in 0..30 {
            // From hardly any poison to hardly anything else.
            let poison = 1 + random.next() % 60;
            let rows: Vec<[V<'_>; 5]> = (0..1 + random.next() % 120)
                .map(|_| {
                    key += 1;
                    let mut bad = || random.next() % 100 < poison;
                    let p = if bad() { Int(9) } else { Int(1 + key % 3) };
                    let n = if bad() { if key % 2 == 0 { Null } else { Int(-key) } } else { Int(key) };
                    let v = if bad() { Text("too long") } else { Text("ok") };
                    let u = if bad() { Int((random.next() % 40) as i64) } else { Int(1_000 + key) };
                    [Int(key), p, if key % 7 == 0 { Null } else { u }, n, v]
                })
                .collect();
            let mut expected = Vec::new();
            for (at, row) in rows.iter().enumerate() {
                let sound = matches!(row, [_, Int(1..=3), _, Int(0..), Text("ok")]);
                match &row[2] {
                    Int(u) if sound && !taken.insert(*u) => expected.push(at),
                    _ if !sound => expected.push(at),
                    _ => {}
                }
            }
            warehouse.begin().await.unwrap();
            warehouse.savepoint().await.unwrap();
            let (mut left, mut found): (Vec<usize>, Vec<usize>) = ((0..rows.len()).collect(), Vec::new());
            while !left.is_empty() {
                let mut batch = Batch::new(&[0, 1, 2, 3, 4]);
                left.iter().for_each(|&at| batch.push(&rows[at]));
                let written = warehouse.write(batch.rows(&target)).await.unwrap();
                if written.refused.is_empty() {
                    break;
                }
                warehouse.rollback_rows().await.unwrap();
                let refused: Vec<usize> = written.refused.iter().map(|r| left[r.row]).collect();
                left.retain(|at| !refused.contains(at));
                found.extend(refused);
            }
            warehouse.commit().await.unwrap();
            found.sort_unstable();
            assert_eq!(found, expected, "round {round}, {load:?} {on_conflict:?}");
            refused_in_all += found.len();
            written_in_all += rows.len() - found.len();
        }
        assert!(refused_in_all > 100, "{refused_in_all} are too few");
        assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [written_in_all as i64]);
        db.end().await;
    }
}

async fn a_column_that_is_left_out_takes_its_default_and_keeps_its_value(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, a INT NULL DEFAULT 5, b INT NULL)").await;
    let target = db.target("t", &["k", "a", "b"], OnConflict::Update).await;
    let mut warehouse = db.warehouse().await;
    let without = Batch::of(&[0, 2], &[&[Int(1), Int(1)]]);
    let null = Batch::of(&[0, 1, 2], &[&[Int(2), Null, Int(2)]]);
    write(&mut *warehouse, &target, &without).await;
    write(&mut *warehouse, &target, &null).await;
    let again = Batch::of(&[0, 2], &[&[Int(1), Int(11)], &[Int(2), Null]]);
    write(&mut *warehouse, &target, &again).await;
    let rows: Vec<(i32, Option<i32>, Option<i32>)> = db.read("SELECT k, a, b FROM t ORDER BY k").await;
    assert_eq!(rows, [(1, Some(5), Some(11)), (2, None, None)]);
    // The key alone, as a parent that is known by nothing else.
    let key = Batch::of(&[0], &[&[Int(1)], &[Int(3)]]);
    assert_eq!(write(&mut *warehouse, &target, &key).await.unchanged, [0]);
    db.end().await;
}

async fn offsets_advance_by_compare_and_set_and_gaps_and_counts_are_kept(url: &str) {
    let mut db = Database::new(url).await;
    db.sql(
        "INSERT INTO bief_offset VALUES ('t', 0, '', 3, 0, 10, 0, 0, 0, 0, NOW(6)), \
         ('t', 1, '', 3, 0, 0, 0, 0, 0, 0, NOW(6))",
    )
    .await;
    let mut warehouse = db.warehouse().await;
    let step = |partition, epoch, from, to, gaps: &[std::ops::Range<i64>]| OffsetMove {
        partition,
        epoch,
        from,
        to,
        gaps: gaps.to_vec(),
    };
    let now = DateTime::<Utc>::from_timestamp_micros(1_700_000_000_123_456).unwrap();
    warehouse.begin().await.unwrap();
    warehouse.advance("t", &[step(0, 3, 10, 30, &[12..13, 15..20]), step(1, 3, 0, 0, &[])]).await.unwrap();
    let counts = Counts { applied: 10, duplicates: 3, dead_letters: 1, gaps: 6 };
    warehouse
        .count(
            "t",
            &[PartitionCounts { partition: 0, counts }, PartitionCounts { partition: 1, counts: Counts::default() }],
            now,
        )
        .await
        .unwrap();
    warehouse.commit().await.unwrap();
    let rows: Vec<(i32, i64, i64, i64, i64, i64)> = db
        .read("SELECT partition_id, next_offset, applied, duplicates, dead_letters, gaps FROM bief_offset ORDER BY 1")
        .await;
    assert_eq!(rows, [(0, 30, 10, 3, 1, 6), (1, 0, 0, 0, 0, 0)]);
    let stamp: Vec<String> = db.read("SELECT CAST(updated_at AS CHAR) FROM bief_offset WHERE partition_id = 0").await;
    assert_eq!(stamp, ["2023-11-14 22:13:20.123456"]);
    let gaps: Vec<(i64, i64, i64, String)> =
        db.read("SELECT first_offset, last_offset, offsets, ranges FROM bief_gap").await;
    assert_eq!(gaps, [(12, 19, 6, "12,15-19".into())]);
    for (epoch, from) in [(3, 10), (2, 30), (4, 30)] {
        warehouse.begin().await.unwrap();
        let error = warehouse.advance("t", &[step(0, epoch, from, 31, &[])]).await.unwrap_err();
        let WarehouseError::Fenced { topic, partition: 0, detail } = error else { panic!("{error}") };
        assert!(topic == "t" && detail.contains("next offset 30"), "{detail}");
        warehouse.abandon();
    }
    warehouse.begin().await.unwrap();
    assert!(matches!(warehouse.advance("T", &[step(0, 3, 30, 31, &[])]).await, Err(WarehouseError::Fenced { .. })));
    db.end().await;
}

async fn a_dead_letter_of_any_size_is_stored(url: &str) {
    let mut db = Database::new(url).await;
    let packet: u64 = db.read("SELECT @@GLOBAL.max_allowed_packet").await[0];
    let letter = |offset: i64, payload: Option<Vec<u8>>| DeadLetter {
        topic: "t".into(),
        partition: 4,
        offset,
        timestamp: if offset == 1 { -1 } else { 1_700_000_000_123 },
        key: Some(vec![0xff, 0x00]),
        payload,
        rejection: Rejection {
            reason: Reason::InvalidUtf8,
            field: (offset != 1).then(|| "f".into()),
            message: "m".repeat(20_000),
        },
    };
    let mut warehouse = db.warehouse().await;
    let now = DateTime::UNIX_EPOCH;
    for _ in 0..2 {
        let mut letters =
            vec![letter(1, None), letter(2, Some(b"\x00\xfe\xff".to_vec())), letter(3, Some(vec![7; 17 << 20]))];
        letters.push(letter(4, Some(vec![7; packet as usize])));
        letters.extend((5..500).map(|offset| letter(offset, Some(vec![1; 100]))));
        warehouse.begin().await.unwrap();
        warehouse.set_aside(&letters, now).await.unwrap();
        warehouse.commit().await.unwrap();
    }
    type Letter = (i64, Option<String>, Option<u64>, Option<String>, String);
    let rows: Vec<Letter> = db
        .read(
            "SELECT record_offset, CAST(record_timestamp AS CHAR), LENGTH(payload), field, reason \
             FROM bief_dead_letter WHERE record_offset < 6 ORDER BY 1",
        )
        .await;
    let stamp = Some("2023-11-14 22:13:20.123000".to_owned());
    let size = |offset: usize| rows[offset - 1].2;
    assert_eq!(rows[0], (1, None, None, None, "invalid_utf8".into()));
    assert_eq!(rows[1], (2, stamp, Some(3), Some("f".into()), "invalid_utf8".into()));
    assert_eq!((size(4), size(5)), (None, Some(100)));
    let message: Vec<String> =
        db.read("SELECT message FROM bief_dead_letter WHERE record_offset IN (3, 4) ORDER BY record_offset").await;
    assert!(size(3) == Some(17 << 20) || message[0].contains("SHA-256"), "{:?} {}", size(3), &message[0][15_000..]);
    println!("17 MiB payload stored: {:?}", size(3));
    assert!(message[1].contains(&format!("payload of {packet} bytes")) && message[1].contains("SHA-256"));
    assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM bief_dead_letter").await, [499]);
    db.end().await;
}

async fn of_two_writers_in_a_deadlock_one_is_told_to_try_again(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v INT)").await;
    db.sql("INSERT INTO t VALUES (1, 0), (2, 0)").await;
    let target = db.target("t", &["k", "v"], OnConflict::Update).await;
    let (mut a, mut b) = (db.warehouse().await, db.warehouse().await);
    let one = Batch::of(&[0, 1], &[&[Int(1), Int(1)]]);
    let two = Batch::of(&[0, 1], &[&[Int(2), Int(2)]]);
    a.begin().await.unwrap();
    b.begin().await.unwrap();
    a.write(one.rows(&target)).await.unwrap();
    b.write(two.rows(&target)).await.unwrap();
    let (first, second) = tokio::join!(a.write(two.rows(&target)), b.write(one.rows(&target)));
    let (winner, loser) = match (&first, &second) {
        (Ok(_), Err(WarehouseError::Transient { .. })) => (&mut a, &mut b),
        (Err(WarehouseError::Transient { .. }), Ok(_)) => (&mut b, &mut a),
        other => panic!("{other:?}"),
    };
    winner.commit().await.unwrap();
    loser.abandon();
    loser.begin().await.unwrap();
    loser.write(one.rows(&target)).await.unwrap();
    loser.commit().await.unwrap();
    db.end().await;
}

/// Numbers without a library: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.next() % (most + 1);
        (0..len)
            .map(|_| {
                if self.next().is_multiple_of(4) {
                    b"\t\n\\\r\0'\"N,Z"[(self.next() % 10) as usize]
                } else {
                    self.next() as u8
                }
            })
            .collect()
    }

    fn text(&mut self, most: u64) -> String {
        let len = self.next() % (most + 1);
        (0..len)
            .map(|_| match self.next() % 4 {
                0 => ['\t', '\n', '\\', '\r', '\0', '\'', '"', 'N', '\u{1a}', ' '][(self.next() % 10) as usize],
                1 => char::from_u32((self.next() % 0xd800) as u32).unwrap_or('x'),
                2 => char::from_u32(0x10000 + (self.next() % 0x100_000) as u32).unwrap_or('x'),
                _ => char::from(b'a' + (self.next() % 26) as u8),
            })
            .collect()
    }
}

async fn random_values_read_back(url: &str, load: Load, rows: i64, part: i64) {
    let mut db = Database::with(url, load).await;
    db.sql(
        "CREATE TABLE t (k INT PRIMARY KEY, b VARBINARY(40) NOT NULL, t TEXT CHARACTER SET utf8mb4 NOT NULL, \
         f DOUBLE NOT NULL)",
    )
    .await;
    let target = db.target("t", &["k", "b", "t", "f"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut sent = Vec::new();
    for start in (0..rows).step_by(part as usize) {
        let mut batch = Batch::new(&[0, 1, 2, 3]);
        for k in start..start + part {
            let float = std::iter::repeat_with(|| f64::from_bits(random.next())).find(|f| f.is_normal()).unwrap();
            let (bytes, text) = (random.bytes(40), random.text(20));
            batch.push(&[Int(k), Bytes(&bytes), Text(&text), Float(float)]);
            sent.push((bytes, text, float));
        }
        assert_eq!(write(&mut *warehouse, &target, &batch).await, Written::default());
    }
    let read: Vec<(Vec<u8>, Vec<u8>)> = db.read("SELECT b, t FROM t ORDER BY k").await;
    assert_eq!(read.len(), sent.len());
    for (k, ((bytes, text), expected)) in read.iter().zip(&sent).enumerate() {
        assert_eq!((bytes, text.as_slice()), (&expected.0, expected.1.as_bytes()), "row {k}");
    }
    // Binary protocol: the number itself, not its text.
    let floats: Vec<f64> = db.admin.exec("SELECT f FROM t ORDER BY k", ()).await.unwrap();
    assert!(floats.iter().zip(&sent).all(|(read, (_, _, sent))| read.to_bits() == sent.to_bits()));
    db.end().await;
}

async fn who_waits_for_a_locked_table_gives_the_offsets_free_in_time(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY)").await;
    db.sql("INSERT INTO bief_offset VALUES ('o', 0, '', 1, 0, 0, 0, 0, 0, 0, NOW())").await;
    let target = db.target("t", &["k"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let step = OffsetMove { partition: 0, epoch: 1, from: 0, to: 1, gaps: vec![] };
    let batch = Batch::of(&[0], &[&[Int(1)]]);
    db.sql("LOCK TABLES t WRITE").await;
    let began = std::time::Instant::now();
    warehouse.begin().await.unwrap();
    warehouse.advance("o", std::slice::from_ref(&step)).await.unwrap();
    warehouse.savepoint().await.unwrap();
    let Err(WarehouseError::Transient { what }) = warehouse.write(batch.rows(&target)).await else {
        panic!("the table is locked")
    };
    // The server's own patience is a year, bief's with a statement two minutes.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}: {what}", began.elapsed());
    warehouse.abandon();
    db.sql("UNLOCK TABLES").await;
    warehouse.begin().await.unwrap();
    warehouse.advance("o", &[step]).await.unwrap();
    warehouse.savepoint().await.unwrap();
    assert_eq!(warehouse.write(batch.rows(&target)).await.unwrap(), Written::default());
    warehouse.commit().await.unwrap();
    db.end().await;
}

async fn a_hundred_thousand_random_values_read_back_identical_through_load_data(url: &str) {
    random_values_read_back(url, Load::Auto, 100_000, 10_000).await;
}

async fn random_values_read_back_identical_through_insert(url: &str) {
    random_values_read_back(url, Load::Insert, 5_000, 1_000).await;
}

async fn one_column_of_empty_texts_is_loaded_row_by_row(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k VARCHAR(5) NOT NULL PRIMARY KEY)").await;
    let target = db.target("t", &["k"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let texts: Vec<String> = (0..150).map(|i| if i == 0 { String::new() } else { format!("{i:03}") }).collect();
    let mut batch = Batch::new(&[0]);
    texts.iter().for_each(|text| batch.push(&[Text(text)]));
    assert_eq!(write(&mut *warehouse, &target, &batch).await, Written::default());
    assert_eq!(db.read::<String>("SELECT k FROM t ORDER BY k").await, texts);
    assert_eq!(write(&mut *warehouse, &target, &batch).await.unchanged, (0..150).collect::<Vec<_>>());
    db.end().await;
}

async fn a_server_that_stops_taking_files_is_written_to_by_insert(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v INT)").await;
    let target = db.target("t", &["k", "v"], OnConflict::Update).await;
    let mut open_before = db.warehouse().await;
    db.sql("SET GLOBAL local_infile = 0").await;
    let mut open_after = db.warehouse().await;
    let forced = mysql::open(&WarehouseConfig { load: Load::LoadData, ..db.settings.clone() })().await;
    let mut batch = Batch::new(&[0, 1]);
    (0..300).for_each(|k| batch.push(&[Int(k), Int(k)]));
    let first = write(&mut *open_before, &target, &batch).await;
    let second = write(&mut *open_after, &target, &batch).await;
    db.sql("SET GLOBAL local_infile = 1").await;
    assert_eq!((first, second.unchanged.len()), (Written::default(), 300));
    let Err(WarehouseError::Fatal { what }) = forced else { panic!("LOAD DATA was demanded") };
    assert!(what.contains("local_infile"), "{what}");
    db.end().await;
}

async fn a_connection_that_was_killed_is_opened_again_and_left_no_trace(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v INT)").await;
    let target = db.target("t", &["k", "v"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let batch = Batch::of(&[0, 1], &[&[Int(1), Int(1)]]);
    kill_others(&mut db).await;
    warehouse.begin().await.unwrap();
    warehouse.write(batch.rows(&target)).await.unwrap();
    kill_others(&mut db).await;
    let error = warehouse.commit().await.unwrap_err();
    assert!(matches!(error, WarehouseError::Transient { .. }), "{error}");
    let error = warehouse.write(batch.rows(&target)).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Transient { .. }), "{error}");
    warehouse.abandon();
    assert_eq!(write(&mut *warehouse, &target, &batch).await, Written::default());
    assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [1]);
    db.end().await;
}

async fn kill_others(db: &mut Database) {
    let sql =
        format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()", db.name);
    for id in db.read::<u64>(&sql).await {
        // It may have ended by itself.
        let _ = db.admin.query_drop(format!("KILL {id}")).await;
    }
}

async fn a_write_that_is_dropped_midway_leaves_no_trace(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v VARCHAR(100))").await;
    let target = db.target("t", &["k", "v"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    let mut batch = Batch::new(&[0, 1]);
    let long = "x".repeat(100);
    (0..50_000).for_each(|k| batch.push(&[Int(k), Text(&long)]));
    for millis in [1, 3, 10, 30] {
        warehouse.begin().await.unwrap();
        let dropped = tokio::time::timeout(Duration::from_millis(millis), warehouse.write(batch.rows(&target))).await;
        if dropped.is_err() {
            let after = warehouse.commit().await.unwrap_err();
            assert!(matches!(after, WarehouseError::Transient { .. }), "{after}");
        }
        warehouse.abandon();
    }
    // The server may still be busy undoing: its locks make this wait, or end in a deadlock that is tried again.
    let small = batch.rows(&target).slice(0, 10);
    for attempt in 0.. {
        warehouse.begin().await.unwrap();
        match warehouse.write(small).await {
            Ok(written) => {
                assert_eq!(written, Written::default());
                break;
            }
            Err(WarehouseError::Transient { what }) => assert!(attempt < 20, "{what}"),
            Err(other) => panic!("{other}"),
        }
        warehouse.abandon();
    }
    warehouse.commit().await.unwrap();
    assert_eq!(db.read::<i64>("SELECT COUNT(*) FROM t").await, [10]);
    db.end().await;
}

async fn the_catalog_tells_what_each_column_holds(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE p (a INT, b INT, PRIMARY KEY (a, b))").await;
    db.sql(
        "CREATE TABLE t (id BIGINT UNSIGNED AUTO_INCREMENT, b BOOLEAN NOT NULL DEFAULT 0, d DECIMAL(7,2) UNSIGNED, \
         f FLOAT, \
         v VARCHAR(7) CHARACTER SET utf8mb4, l CHAR(3) CHARACTER SET latin1 NOT NULL, x TEXT CHARACTER SET ascii, \
         bin VARBINARY(9), at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), ts TIMESTAMP NULL, day DATE, \
         tm TIME(3), j JSON, \
         e ENUM('a','it''s'), g INT GENERATED ALWAYS AS (b + 1) STORED, bits BIT(3), pa INT, pb INT, \
         expr INT NOT NULL DEFAULT (1 + 1), \
         PRIMARY KEY (l, id), KEY (id), CONSTRAINT fk FOREIGN KEY (pa, pb) REFERENCES p (a, b))",
    )
    .await;
    let mut catalog = mysql::catalog(&db.settings).unwrap();
    let tables = catalog.tables(&["t", "missing", "p"]).await.unwrap();
    assert_eq!(tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["t", "p"]);
    let table = &tables[0];
    let kind = |name: &str| table.columns[table.column(name).unwrap()].kind.clone();
    let text = |max_chars, max_bytes, charset| {
        let padded = charset == Charset::Latin1;
        ColumnKind::Text { max_chars, max_bytes, charset, padded }
    };
    assert_eq!(kind("id"), ColumnKind::Integer { min: 0, max: i128::from(u64::MAX) });
    assert_eq!(kind("b"), ColumnKind::Integer { min: -128, max: 127 });
    assert_eq!(kind("d"), ColumnKind::Decimal { precision: 7, scale: 2, unsigned: true });
    assert_eq!(kind("f"), ColumnKind::Float { single: true });
    assert_eq!(kind("v"), text(Some(7), None, Charset::Utf8mb4));
    assert_eq!(kind("l"), text(Some(3), None, Charset::Latin1));
    assert_eq!(kind("x"), text(None, Some(65_535), Charset::Ascii));
    assert_eq!(kind("bin"), ColumnKind::Binary { max_bytes: Some(9), padded: false });
    assert_eq!(kind("at"), ColumnKind::DateTime { fraction: 6, timestamp: false });
    assert_eq!(kind("ts"), ColumnKind::DateTime { fraction: 0, timestamp: true });
    assert_eq!(kind("day"), ColumnKind::Date);
    assert_eq!(kind("tm"), ColumnKind::Time { fraction: 3 });
    assert_eq!(kind("j"), ColumnKind::Json);
    assert_eq!(kind("e"), ColumnKind::Enum { values: vec!["a".into(), "it's".into()] });
    assert_eq!(kind("bits"), ColumnKind::Other);
    let having = |test: fn(&bief::core::schema::Column) -> bool| -> Vec<&str> {
        table.columns.iter().filter(|c| test(c)).map(|c| c.name.as_str()).collect()
    };
    assert_eq!(having(|c| c.has_default), ["id", "b", "at", "expr"]);
    assert_eq!(having(|c| c.generated), ["g"]);
    assert_eq!(having(|c| !c.nullable), ["id", "b", "l", "at", "expr"]);
    assert_eq!(table.primary_key, [5, 0]);
    let key = &table.foreign_keys[0];
    assert_eq!(
        (key.name.as_str(), key.parent.as_str(), &key.columns, &key.parent_columns),
        ("fk", "p", &vec![16, 17], &vec!["a".to_owned(), "b".to_owned()])
    );
    db.sql("CREATE TABLE m (k INT PRIMARY KEY) ENGINE = MyISAM").await;
    let Err(WarehouseError::Fatal { what }) = catalog.tables(&["m"]).await else { panic!("no transactions") };
    assert!(what.contains("MyISAM") && what.contains("InnoDB"), "{what}");
    db.end().await;
}

async fn what_an_operator_must_mend_is_fatal_and_says_how(url: &str) {
    let mut db = Database::new(url).await;
    db.sql("CREATE TABLE t (k INT PRIMARY KEY, v INT)").await;
    let target = db.target("t", &["k", "v"], OnConflict::Ignore).await;
    let mut warehouse = db.warehouse().await;
    db.sql("DROP TABLE t").await;
    let batch = Batch::of(&[0, 1], &[&[Int(1), Int(1)]]);
    warehouse.begin().await.unwrap();
    let error = warehouse.write(batch.rows(&target)).await.unwrap_err();
    assert!(matches!(&error, WarehouseError::SchemaChanged { what } if what.contains("create the table")), "{error}");
    let opts = db.admin.opts().clone();
    let (user, host, port) = (opts.user().unwrap(), opts.ip_or_hostname(), opts.tcp_port());
    for (url, hint) in [
        (format!("mysql://{user}:s3cret@{host}:{port}/{}", db.name), "check user and password"),
        (format!("mysql://nobody:s3cret@{host}:{port}/{}", db.name), "check user and password"),
        (format!("{}x", db.settings.url.expose()), "create the database"),
    ] {
        let Err(error) = mysql::open(&WarehouseConfig { url: Secret::new(url), ..db.settings.clone() })().await else {
            panic!("refused")
        };
        let WarehouseError::Fatal { what } = error else { panic!("{error}") };
        assert!(what.contains(hint) && !what.contains("s3cret"), "{what}");
    }
    db.end().await;
}

async fn tls_is_used_where_it_is_required(url: &str) {
    let mut db = Database::new(url).await;
    let offered: Vec<(String, String)> = db.read("SHOW GLOBAL VARIABLES LIKE 'have_ssl'").await;
    let mariadb: bool = db.read::<String>("SELECT VERSION()").await[0].contains("MariaDB");
    let required = WarehouseConfig { tls: Tls::Require, ..db.settings.clone() };
    if mariadb && offered.first().is_none_or(|(_, value)| value != "YES") {
        let Err(WarehouseError::Fatal { what }) = mysql::open(&required)().await else { panic!("no TLS there") };
        assert!(what.contains("offers no TLS"), "{what}");
        db.end().await;
        return;
    }
    let user = format!("tls_{}", &db.name[db.name.len() - 12..]);
    db.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'pw' REQUIRE SSL")).await;
    db.sql(&format!("GRANT ALL ON {}.* TO {user}@'%'", db.name)).await;
    let opts = db.admin.opts().clone();
    let url = Secret::new(format!("mysql://{user}:pw@{}:{}/{}", opts.ip_or_hostname(), opts.tcp_port(), db.name));
    let with = |tls| WarehouseConfig { url: url.clone(), tls, ..db.settings.clone() };
    let required = mysql::open(&with(Tls::Require))().await.map(|_| ());
    let plain = mysql::open(&with(Tls::Disable))().await.map(|_| ());
    let verified = mysql::open(&with(Tls::Verify))().await.map(|_| ());
    db.sql(&format!("DROP USER {user}@'%'")).await;
    assert!(required.is_ok(), "{required:?}");
    assert!(matches!(plain, Err(WarehouseError::Fatal { .. })), "{plain:?}");
    let Err(WarehouseError::Fatal { what }) = verified else {
        panic!("a certificate of nobody's was taken: {verified:?}")
    };
    assert!(what.contains("warehouse.ca"), "{what}");
    db.end().await;
}

/// What a hostile server got from its client after its handshake.
async fn rogue_server(answers_before: usize) -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = vec![10];
        hello.extend_from_slice(b"8.0.36\0");
        hello.extend_from_slice(&[1, 0, 0, 0]);
        hello.extend_from_slice(b"abcdefgh\0");
        // Protocol 4.1, LOCAL FILES, secure connection, plugin authentication.
        hello.extend_from_slice(&[0x80 | 0x08, 0x82, 45, 2, 0, 0x08, 0x00, 21]);
        hello.extend_from_slice(&[0; 10]);
        hello.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        send(&mut socket, 0, &hello).await;
        receive(&mut socket).await.unwrap();
        send(&mut socket, 2, &[0, 0, 0, 2, 0, 0, 0]).await;
        let mut answered = 0;
        while let Some(query) = receive(&mut socket).await {
            if answered == answers_before {
                assert_eq!(query[0], 3, "a query");
                send(&mut socket, 1, b"\xfb/etc/passwd").await;
                let mut leaked = Vec::new();
                let _ = socket.read_to_end(&mut leaked).await;
                return leaked;
            }
            answered += 1;
            send(&mut socket, 1, &[0, 0, 0, 2, 0, 0, 0]).await;
        }
        panic!("the client left before it was asked");
    });
    (port, server)
}

async fn send(socket: &mut tokio::net::TcpStream, sequence: u8, payload: &[u8]) {
    let mut packet = vec![payload.len() as u8, (payload.len() >> 8) as u8, 0, sequence];
    packet.extend_from_slice(payload);
    socket.write_all(&packet).await.unwrap();
}

async fn receive(socket: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    socket.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16];
    socket.read_exact(&mut payload).await.ok()?;
    Some(payload)
}

async fn a_server_that_asks_for_a_file_gets_no_byte_of_it(_url: &str) {
    // The first statement is the driver's own SELECT of settings, then come ours.
    for answers_before in 0..4 {
        let (port, server) = rogue_server(answers_before).await;
        let settings = WarehouseConfig {
            url: Secret::new(format!(
                "mysql://u:s3cret@127.0.0.1:{port}/d?max_allowed_packet=1000000&wait_timeout=100"
            )),
            tls: Tls::Disable,
            ca: None,
            migrations: None,
            load: Load::Auto,
        };
        let Err(error) = mysql::open(&settings)().await else { panic!("refused") };
        let WarehouseError::Fatal { what } = error else { panic!("{error}") };
        assert!(what.contains("/etc/passwd") && !what.contains("s3cret"), "{what}");
        let leaked =
            tokio::time::timeout(Duration::from_secs(10), server).await.expect("the connection is closed").unwrap();
        assert_eq!(leaked, b"", "after {answers_before} statements");
    }
}
