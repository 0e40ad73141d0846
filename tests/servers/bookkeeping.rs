//! The bookkeeping tables, claims and the domain's migrations on a real MySQL or MariaDB. Each function takes the
//! server's URL without a database and works in a database of its own.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bief::adapters::bookkeeping::connect::{Sessions, connect};
use bief::adapters::proxy::{Proxy, Traffic};
use bief::adapters::{bookkeeping, migrations, warehouse};
use bief::config::{Load, Secret, Tls, WarehouseConfig};
use bief::core::bucket::Width;
use bief::core::forecast::{Drift, Horizon, ModelVersion, PanelBuilder, Spec, Training, train};
use bief::core::outcome::Reason;
use bief::core::reset::{Change, Step};
use bief::ports::{Bookkeeping, Claim, CountsView, DeadLetterFilter, ModelChange, Promoted, WarehouseError};
use chrono::{DateTime, Utc};
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Row};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tempfile::TempDir;

/// A database of its own, dropped by [`Server::end`].
struct Server {
    settings: WarehouseConfig,
    database: String,
    admin: MySqlConnection,
    folder: TempDir,
}

impl Server {
    async fn new(url: &str) -> Self {
        let mut admin = MySqlConnectOptions::from_str(url).unwrap().connect().await.unwrap();
        let database = format!("bief_test_{}", uuid::Uuid::new_v4().simple());
        // No character set: what the server's default is must not matter.
        execute(&mut admin, &format!("CREATE DATABASE {database}")).await;
        execute(&mut admin, &format!("USE {database}")).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sql")).unwrap();
        let settings = WarehouseConfig {
            url: Secret::new(format!("{}/{database}", url.trim_end_matches('/'))),
            tls: Tls::Disable,
            ca: None,
            migrations: Some(PathBuf::from("sql")),
            load: Load::Auto,
        };
        Self { settings, database, admin, folder }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("sql").join(name), text).unwrap();
    }

    async fn prepare(&self) -> Result<Vec<migrations::Applied>, WarehouseError> {
        warehouse::prepare(&self.settings, self.folder.path()).await
    }

    async fn books(&self) -> Box<dyn Bookkeeping> {
        warehouse::open_bookkeeping(&self.settings)().await.unwrap()
    }

    async fn sql(&mut self, sql: &str) {
        execute(&mut self.admin, sql).await;
    }

    /// First column of each row.
    async fn column(&mut self, sql: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.admin).await.unwrap();
        rows.iter().map(|r| r.get::<String, _>(0)).collect()
    }

    async fn end(mut self) {
        let drop = format!("DROP DATABASE {}", self.database);
        execute(&mut self.admin, &drop).await;
    }
}

async fn execute(connection: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap()
}

fn claims(partitions: std::ops::Range<i32>) -> Vec<Claim> {
    partitions.map(|partition| Claim { partition, topic_id: "id".to_owned(), start_offset: 5 }).collect()
}

/// Daemons that start at once make the tables once, in Unicode, whatever the server's default.
pub async fn daemons_that_start_at_once_make_the_tables_once(url: &str) {
    let mut server = Server::new(url).await;
    server.write("0001_domain.sql", "CREATE TABLE t1 (a BIGINT PRIMARY KEY);\nINSERT INTO t1 VALUES (1);\n");
    let (a, b, c) = tokio::join!(server.prepare(), server.prepare(), server.prepare());
    let applied: usize = [a, b, c].into_iter().map(|r| r.unwrap().len()).sum();
    assert_eq!(applied, 1);
    assert_eq!(server.prepare().await.unwrap(), []);
    let of_schema = "FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE 'bief\\_%' \
                     AND table_name <> 'bief_schema'";
    let other = server
        .column(&format!(
            "SELECT CONCAT(table_name, '.', column_name) {of_schema} AND collation_name IS NOT NULL \
             AND collation_name <> 'utf8mb4_bin'"
        ))
        .await;
    assert_eq!(other, Vec::<String>::new());
    let types = server
        .column(&format!(
            "SELECT CAST(CONCAT(column_name, ' ', column_type, ' ', is_nullable, ' ', column_key) AS CHAR) {of_schema} \
             AND table_name = 'bief_dead_letter' ORDER BY ordinal_position"
        ))
        .await;
    let types: Vec<String> = types.iter().map(|t| t.replace("(20)", "").replace("(11)", "")).collect();
    assert_eq!(
        types,
        [
            "id bigint NO PRI",
            "topic varchar(249) NO MUL",
            "partition_id int NO ",
            "record_offset bigint NO ",
            "record_timestamp datetime(6) YES ",
            "record_key longblob YES ",
            "payload longblob YES ",
            "reason varchar(32) NO MUL",
            "field varchar(255) YES ",
            "message text NO ",
            "stored_at datetime(6) NO ",
            "published_at datetime(6) YES ",
        ]
    );
    server.end().await;
}

/// Claims of the same new partitions at once all get through, each with epochs of its own.
pub async fn claims_that_race_all_get_through_with_epochs_of_their_own(url: &str) {
    let server = Server::new(url).await;
    server.prepare().await.unwrap();
    let books = [server.books().await, server.books().await, server.books().await, server.books().await];
    let mut epochs = Vec::new();
    for round in 0..5 {
        let wanted = claims(0..8 + round);
        let claiming = books.iter().map(|b| b.claim("orders", &wanted, now()));
        for rows in futures_util::future::join_all(claiming).await {
            let rows = rows.unwrap();
            assert!(rows.iter().all(|r| r.next_offset == 5 && r.start_offset == 5));
            assert_eq!(rows.iter().map(|r| r.partition).collect::<Vec<_>>(), (0..8 + round).collect::<Vec<_>>());
            epochs.extend(rows.iter().map(|r| (r.partition, r.epoch)));
        }
    }
    epochs.sort_unstable();
    let rounds = |p: i32| i64::from(5 - (p - 7).max(0)) * 4;
    let expected: Vec<_> = (0..12).flat_map(|p| (1..=rounds(p)).map(move |e| (p, e))).collect();
    assert_eq!(epochs, expected);
    server.end().await;
}

/// A partition that is gone and comes back, again and again, gets no epoch twice, so that each log can be put away.
pub async fn a_partition_that_comes_back_goes_on_from_its_former_epochs(url: &str) {
    let mut server = Server::new(url).await;
    server.prepare().await.unwrap();
    let books = server.books().await;
    for epoch in 1..=3 {
        assert_eq!(books.claim("orders", &claims(0..2), now()).await.unwrap()[1].epoch, epoch);
        let gone = |partition| {
            let (change, topic_id) = (Change::Forget, "id".to_owned());
            (Step { partition, change, from: 5, to: 5, begins_at: 5, lost: None, topic_id }, epoch)
        };
        books.reset("orders", &[gone(0), gone(1)], now()).await.unwrap();
    }
    books.claim("orders", &claims(0..1), now()).await.unwrap();
    let latest = Step {
        partition: 0,
        change: Change::Anew,
        from: 5,
        to: 1_005,
        begins_at: 5,
        lost: None,
        topic_id: "other".to_owned(),
    };
    books.reset("orders", &[(latest, 4)], now()).await.unwrap();
    let rows = server
        .column(
            "SELECT CAST(CONCAT(topic, ' ', epoch, ' ', start_offset, ' ', next_offset, ' ', gaps) AS CHAR) \
             FROM bief_offset WHERE partition_id = 0 ORDER BY topic",
        )
        .await;
    assert_eq!(
        rows,
        ["orders 5 5 1005 1000", "orders@1 1 5 5 0", "orders@2 2 5 5 0", "orders@3 3 5 5 0", "orders@4 4 5 5 0"]
    );
    assert_eq!(books.ledger("orders").await.unwrap().gaps[&0], [5..1_005]);
    server.end().await;
}

/// A claim and a writer that moves the same offsets wait for each other and never deadlock.
pub async fn a_claim_and_a_writer_never_deadlock(url: &str) {
    let server = Server::new(url).await;
    server.prepare().await.unwrap();
    let books = server.books().await;
    books.claim("orders", &claims(0..6), now()).await.unwrap();
    let mut writer = MySqlConnectOptions::from_str(server.settings.url.expose()).unwrap().connect().await.unwrap();
    let writing = async {
        for _ in 0..60 {
            execute(&mut writer, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await;
            execute(&mut writer, "BEGIN").await;
            for partition in 0..6 {
                let sql = format!(
                    "UPDATE bief_offset SET next_offset = next_offset + 1 WHERE topic = 'orders' AND partition_id = {partition}"
                );
                execute(&mut writer, &sql).await;
            }
            execute(&mut writer, "COMMIT").await;
        }
    };
    let claiming = async {
        for round in 0..60 {
            // New partitions among the known ones, at times.
            books.claim("orders", &claims(0..6 + round / 10), now()).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(writing, claiming) }).await.unwrap();
    let offsets = books.offsets(Some("orders")).await.unwrap();
    assert_eq!((offsets[0].next_offset, offsets[0].epoch), (65, 61));
    server.end().await;
}

/// A server that falls silent while a claim waits there does not keep it waiting for ever.
pub async fn a_claim_whose_server_falls_silent_ends_and_is_tried_again(url: &str) {
    let mut server = Server::new(url).await;
    server.prepare().await.unwrap();
    server.books().await.claim("orders", &claims(0..2), now()).await.unwrap();
    let (proxy, settings) = behind_a_proxy(&server).await;
    let books = warehouse::open_bookkeeping(&settings)().await.unwrap();
    let mut writer = MySqlConnectOptions::from_str(server.settings.url.expose()).unwrap().connect().await.unwrap();
    execute(&mut writer, "BEGIN").await;
    execute(&mut writer, "SELECT * FROM bief_offset FOR UPDATE").await;
    let waits = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.processlist \
                 WHERE db = DATABASE() AND info LIKE '%bief_offset%FOR UPDATE%' AND id <> CONNECTION_ID()";
    let wanted = claims(0..2);
    let error = falls_silent(&mut server, &proxy, waits, books.claim("orders", &wanted, now())).await;
    assert!(matches!(error, WarehouseError::Transient { .. }), "{error:?}");
    // Where the server has given the wait for the row up before, it is the next try's connection that ends.
    assert!(error.to_string().contains("within"), "{error}");
    drop((books, proxy));
    execute(&mut writer, "ROLLBACK").await;
    server.end().await;
}

/// Partitions that are known keep their offset and their epoch, so that who holds them is not fenced.
pub async fn partitions_are_introduced_without_fencing_anyone(url: &str) {
    let server = Server::new(url).await;
    server.prepare().await.unwrap();
    let books = server.books().await;
    let at = |partition: i32, start_offset: i64| Claim { partition, topic_id: "id".into(), start_offset };
    books.claim("orders", &[at(1, 5)], now()).await.unwrap();
    books.introduce("orders", &[at(2, 9), at(0, 9), at(1, 9)], now()).await.unwrap();
    let of = |offsets: Vec<bief::ports::PartitionOffset>| -> Vec<(i32, i64, i64)> {
        offsets.iter().map(|o| (o.partition, o.epoch, o.next_offset)).collect()
    };
    assert_eq!(of(books.offsets(Some("orders")).await.unwrap()), [(0, 1, 9), (1, 1, 5), (2, 1, 9)]);
    let claimed = books.claim("orders", &[at(0, 100)], now()).await.unwrap();
    assert_eq!(of(claimed), [(0, 2, 9)]);
    books.truncated("orders", 0, Some(1), now()).await.unwrap();
    books.truncated("orders", 0, Some(2), now()).await.unwrap();
    books.truncated("orders", 0, None, now()).await.unwrap();
    let row = &books.offsets(Some("orders")).await.unwrap()[0];
    assert_eq!((row.epoch, row.topic_id.as_str()), (3, "truncated:id"), "once");
    server.end().await;
}

/// A server that falls silent while a daemon makes its tables ready does not keep it waiting for ever.
pub async fn a_start_whose_server_falls_silent_ends_and_is_tried_again(url: &str) {
    let mut server = Server::new(url).await;
    server.prepare().await.unwrap();
    let (proxy, settings) = behind_a_proxy(&server).await;
    let lock = "CONCAT('bief-schema-', LEFT(SHA2(DATABASE(), 256), 40))";
    let mut holder = MySqlConnectOptions::from_str(server.settings.url.expose()).unwrap().connect().await.unwrap();
    execute(&mut holder, &format!("DO GET_LOCK({lock}, 0)")).await;
    let waits = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.processlist \
                 WHERE db = DATABASE() AND info LIKE '%GET_LOCK%' AND id <> CONNECTION_ID()";
    let error = falls_silent(&mut server, &proxy, waits, warehouse::prepare(&settings, Path::new(""))).await;
    assert!(matches!(error, WarehouseError::Transient { .. }), "{error:?}");
    assert!(error.to_string().contains("did not answer within 330 s"), "{error}");
    drop(proxy);
    execute(&mut holder, &format!("DO RELEASE_LOCK({lock})")).await;
    server.prepare().await.unwrap();
    server.end().await;
}

/// The server's settings, by way of a proxy.
async fn behind_a_proxy(server: &Server) -> (Proxy, WarehouseConfig) {
    let mut behind = url::Url::parse(server.settings.url.expose()).unwrap();
    let upstream = format!("{}:{}", behind.host_str().unwrap(), behind.port().unwrap());
    let proxy = Proxy::start(&upstream, false).await.unwrap();
    behind.set_host(Some("127.0.0.1")).unwrap();
    behind.set_port(Some(proxy.address().port())).unwrap();
    let settings = WarehouseConfig { url: Secret::new(behind.to_string()), ..server.settings.clone() };
    (proxy, settings)
}

/// The error of a call through the proxy that hears nothing any more as soon as `waits` counts it on the server.
async fn falls_silent<T: std::fmt::Debug>(
    server: &mut Server,
    proxy: &Proxy,
    waits: &str,
    call: impl Future<Output = Result<T, WarehouseError>>,
) -> WarehouseError {
    let silence = async {
        let mut tries = 0;
        while server.column(waits).await == ["0"] {
            tries += 1;
            assert!(tries < 2000, "the call never waited");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy.traffic(Traffic { hangs: true, ..Traffic::default() });
        // Nobody answers any more, so that time passes at once.
        tokio::time::pause();
    };
    let limit = Duration::from_secs(600);
    let (called, ()) = tokio::join!(tokio::time::timeout(limit, call), silence);
    tokio::time::resume();
    called.expect("it ends by itself").unwrap_err()
}

/// A daemon that is stopped while it holds rows or the right to publish keeps them for a minute, not for 8 hours.
pub async fn a_bookkeeping_session_that_falls_silent_is_given_up_by_the_server(url: &str) {
    let server = Server::new(url).await;
    for sessions in [Sessions::Few, Sessions::One] {
        let db = connect(&server.settings, sessions).await.unwrap();
        let told = "SELECT @@SESSION.wait_timeout AS idle, @@SESSION.innodb_lock_wait_timeout AS locked";
        let row = db.query_one_raw(Statement::from_string(DbBackend::MySql, told)).await.unwrap().unwrap();
        let limit = |name: &str| row.try_get::<u64>("", name).unwrap();
        assert_eq!((limit("idle"), limit("locked")), (30, 10), "{sessions:?}");
    }
    server.end().await;
}

/// What the writers store reads back as it was.
pub async fn offsets_gaps_and_dead_letters_read_back(url: &str) {
    let mut server = Server::new(url).await;
    server.prepare().await.unwrap();
    let books = server.books().await;
    let claimed = books.claim("orders", &claims(0..2), now()).await.unwrap();
    assert_eq!((claimed[1].updated_at, claimed[1].topic_id.as_str()), (now(), "id"));
    server
        .sql("UPDATE bief_offset SET applied = 1, duplicates = 2, dead_letters = 3, gaps = 4 WHERE partition_id = 1")
        .await;
    let offsets = books.offsets(None).await.unwrap();
    assert_eq!(offsets[1].counts, CountsView { applied: 1, duplicates: 2, dead_letters: 3, gaps: 4 });
    assert_eq!(books.offsets(Some("ORDERS")).await.unwrap(), []);

    server.sql("INSERT INTO bief_gap (topic, partition_id, first_offset, last_offset, offsets, ranges) VALUES ('orders', 0, 29, 29, 1, '29'), ('orders', 0, 3, 9, 6, '3-7,9')").await;
    assert_eq!(books.ledger("orders").await.unwrap().gaps[&0], [3..8, 9..10, 29..30]);

    server
        .sql(
            "INSERT INTO bief_dead_letter (topic, partition_id, record_offset, record_timestamp, record_key, payload, \
             reason, field, message, stored_at) VALUES \
             ('orders', 0, 7, '2013-01-01 05:00:00.123', x'00FF', x'7B80', 'wrong_type', 'a', 'no \u{1F600}', '2023-11-14 22:13:20.123456'), \
             ('orders', 1, 8, NULL, NULL, NULL, 'tombstone', NULL, '', '2023-11-14 22:13:20.123455')",
        )
        .await;
    let all = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let stored = books.dead_letters(&all).await.unwrap();
    assert_eq!(stored.len(), 2);
    let letter = &stored[0].letter;
    assert_eq!((letter.offset, letter.timestamp), (7, 1_357_016_400_123));
    assert_eq!((letter.key.as_deref(), letter.payload.as_deref()), (Some(&[0, 255][..]), Some(&[0x7B, 0x80][..])));
    assert_eq!((letter.rejection.reason, letter.rejection.message.as_str()), (Reason::WrongType, "no \u{1F600}"));
    assert_eq!((stored[1].letter.timestamp, stored[1].letter.key.as_ref()), (-1, None));
    assert_eq!(stored[0].stored_at, now());
    let since = DeadLetterFilter { since: Some(now()), ..all.clone() };
    assert_eq!(books.dead_letters(&since).await.unwrap(), stored[..1]);
    let reason = DeadLetterFilter { reason: Some("tombstone".into()), topic: Some("orders".into()), ..all };
    assert_eq!(books.dead_letters(&reason).await.unwrap(), stored[1..]);
    assert_eq!(books.dead_letter(stored[1].id).await.unwrap().as_ref(), Some(&stored[1]));
    assert_eq!(books.ledger("orders").await.unwrap().dead_letters, [(0, 1), (1, 1)].into());
    assert_eq!(books.count_rows("bief_dead_letter").await.unwrap(), 2);
    server.end().await;
}

/// A file that failed midway goes on where it stopped, and only what was not applied may be corrected.
pub async fn a_half_applied_file_goes_on_where_it_stopped(url: &str) {
    let mut server = Server::new(url).await;
    let head = "CREATE TABLE t1 (a BIGINT PRIMARY KEY);\nINSERT INTO t1 VALUES (1);\nCREATE TABLE t2 (a BIGINT);\n";
    server.write("0001_domain.sql", &format!("{head}INSERT INTO t9 VALUES (1);\n"));
    let error = server.prepare().await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fatal { .. }), "{error:?}");
    for part in ["0001_domain.sql, line 4", "t9", "(1146)", "will not run again"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    server
        .write("0001_domain.sql", &format!("{}INSERT INTO t2 VALUES (1);\n", head.replace("VALUES (1)", "VALUES (7)")));
    let error = server.prepare().await.unwrap_err().to_string();
    assert!(error.contains("first 3 statements"), "{error}");

    let corrected = format!("{head}INSERT INTO t2 VALUES (1);\n");
    server.write("0001_domain.sql", &corrected);
    let applied = server.prepare().await.unwrap();
    assert_eq!((applied[0].statements, applied[0].already_applied), (1, 3));
    assert_eq!(server.column("SELECT CAST(COUNT(*) AS CHAR) FROM t1").await, ["1"]);
    assert_eq!(server.prepare().await.unwrap(), []);

    server.write("0001_domain.sql", &format!("{corrected}SELECT 1;\n"));
    assert!(server.prepare().await.unwrap_err().to_string().contains("was changed after"));
    std::fs::remove_file(server.folder.path().join("sql/0001_domain.sql")).unwrap();
    assert!(server.prepare().await.unwrap_err().to_string().contains("missing in the folder"));
    server.end().await;
}

/// A daemon that was killed between a statement and its record does not run into its own table.
pub async fn a_statement_in_doubt_is_found_done(url: &str) {
    let mut server = Server::new(url).await;
    let head = "CREATE TABLE t1 (a BIGINT PRIMARY KEY);\nCREATE TABLE t2 (a BIGINT);\n";
    server.write("0001_domain.sql", &format!("{head}INSERT INTO t9 VALUES (1);\n"));
    server.prepare().await.unwrap_err();
    // As the kill leaves it: the second statement is announced and done, but not counted.
    server.sql("UPDATE bief_migration SET statements_applied = 1").await;
    server.write("0001_domain.sql", &format!("{head}INSERT INTO t2 VALUES (1);\n"));
    let applied = server.prepare().await.unwrap();
    assert_eq!((applied[0].statements, applied[0].already_applied), (2, 1));

    // A table that was there before anyone announced to make it is no such case.
    server.sql("CREATE TABLE t3 (a BIGINT)").await;
    server.write("0002_more.sql", "CREATE TABLE t3 (a BIGINT);\n");
    for _ in 0..2 {
        let error = server.prepare().await.unwrap_err().to_string();
        assert!(error.contains("0002_more.sql, line 1") && error.contains("(1050)"), "{error}");
    }
    server.end().await;
}

/// What people must mend is said without the password.
pub async fn a_wrong_password_and_an_unknown_database_are_fatal_and_print_no_secret(url: &str) {
    let mut server = Server::new(url).await;
    let user = format!("u{}", &server.database[10..30]);
    server.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'right-s3cret'")).await;
    let host = url.split('@').nth(1).unwrap().trim_end_matches('/').to_owned();
    let unknown = format!("{}/bief_test_absent", url.trim_end_matches('/'));
    for (url, word) in
        [(format!("mysql://{user}:wr0ng-s3cret@{host}/{}", server.database), "user"), (unknown, "CREATE DATABASE")]
    {
        let settings = WarehouseConfig { url: Secret::new(url), ..server.settings.clone() };
        for error in [
            bookkeeping::open(&settings)().await.err().unwrap(),
            connect(&settings, Sessions::One).await.err().unwrap(),
        ] {
            assert!(matches!(error, WarehouseError::Fatal { .. }), "{error:?}");
            assert!(error.to_string().contains(word) && !format!("{error:?}").contains("s3cret"), "{error}");
        }
    }
    server.sql(&format!("DROP USER {user}@'%'")).await;
    server.end().await;
}

/// Encryption is what the settings say; where the server can't, the answer names the setting.
pub async fn encryption_is_what_the_settings_say(url: &str) {
    let mut server = Server::new(url).await;
    let user = format!("e{}", &server.database[10..30]);
    server.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY 's3cret'")).await;
    server.sql(&format!("GRANT ALL ON {}.* TO {user}@'%'", server.database)).await;
    let host = url.split('@').nth(1).unwrap().trim_end_matches('/').to_owned();
    let url = Secret::new(format!("mysql://{user}:s3cret@{host}/{}", server.database));
    let settings = server.settings.clone();
    let with = |tls| WarehouseConfig { url: url.clone(), tls, ..settings.clone() };
    let cipher = |db: sea_orm::DatabaseConnection| async move {
        use sea_orm::{ConnectionTrait, DbBackend, Statement};
        let asked = Statement::from_string(DbBackend::MySql, "SHOW STATUS LIKE 'Ssl_cipher'");
        db.query_one_raw(asked).await.unwrap().unwrap().try_get_by_index::<String>(1).unwrap()
    };
    // On this machine a password that needs encryption gets it; nothing else does.
    let plain = cipher(connect(&with(Tls::Disable), Sessions::One).await.unwrap()).await;
    let version = server.column("SELECT VERSION()").await.remove(0);
    assert_eq!(plain.is_empty(), version.contains("MariaDB"), "{version}: {plain:?}");
    let offered = match connect(&with(Tls::Require), Sessions::One).await {
        Ok(db) => {
            assert_ne!(cipher(db).await, "");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("warehouse.tls"), "{error}");
            false
        }
    };
    // The servers of the tests sign their certificates themselves.
    let error = connect(&with(Tls::Verify), Sessions::One).await.err().unwrap();
    assert!(matches!(error, WarehouseError::Fatal { .. }), "{error:?}");
    assert!(!offered || error.to_string().contains("certificate"), "{error}");
    server.sql(&format!("DROP USER {user}@'%'")).await;
    server.end().await;
}

/// An hourly series of a month with a rhythm of the day.
fn trained() -> ModelVersion {
    let spec = Spec {
        name: "sales".to_owned(),
        aggregate: "sums".to_owned(),
        target: "sold".to_owned(),
        key: vec!["shop".to_owned()],
        width: Width::HOUR,
        horizons: vec![Horizon { buckets: 1, text: "1h".to_owned() }],
        lags: vec![0, 1],
        seasons: Vec::new(),
        rolling: Vec::new(),
        others: Vec::new(),
        calendar: Vec::new(),
        harmonics: 1,
        covariates: Vec::new(),
        holdout: Duration::from_secs(7 * 86_400),
        interval: 0.8,
        memory: 1 << 30,
        drift: Drift { ratio: 1.5, window: Duration::from_secs(86_400) },
    };
    let mut builder = PanelBuilder::new(&spec);
    for hour in 0..24 * 30 {
        let bucket = Width::HOUR.bucket_of(hour * 3_600_000_000).unwrap();
        let sold = ((hour * 7) % 24) as f64 + (hour % 5) as f64;
        builder.add("sums", &vec![("shop".to_owned(), "a".into())], bucket, &vec![("sold".to_owned(), sold.into())]);
    }
    let training = Training { version: 0, at: DateTime::UNIX_EPOCH, code_version: "1.2.3", threads: 1 };
    train(&spec, &builder.build(None), &training).unwrap()
}

pub async fn versions_of_models_are_kept_listed_promoted_and_taken_back(url: &str) {
    let server = Server::new(url).await;
    server.prepare().await.unwrap();
    let models = warehouse::open_models(&server.settings)().await.unwrap();
    let model = trained();
    let puts = futures_util::future::join_all((0..4).map(|_| models.put(&model, "good"))).await;
    let mut versions: Vec<u64> = puts.into_iter().map(Result::unwrap).collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4], "each has a number of its own, also at once");
    let change = || ModelChange {
        at: DateTime::UNIX_EPOCH,
        daemon: "bief".to_owned(),
        peer: "test".to_owned(),
        reason: "good".to_owned(),
    };
    let promoted = |version, before| Some(Promoted { version, before });
    assert_eq!(models.champion("sales").await.unwrap(), None);
    assert_eq!(models.promote("sales", 2, &change()).await.unwrap(), promoted(2, None));
    assert_eq!(models.promote("sales", 1, &change()).await.unwrap(), promoted(1, Some(2)));
    assert_eq!(models.promote("sales", 9, &change()).await.unwrap(), None);
    assert_eq!(models.champion("sales").await.unwrap().unwrap().version, 1);
    let listed = models.list("sales", Some(4), 2).await.unwrap();
    let told: Vec<(u64, bool)> = listed.iter().map(|head| (head.version, head.promoted_at.is_some())).collect();
    assert_eq!(told, [(3, false), (2, true)]);
    assert_eq!(models.rollback("sales", &change()).await.unwrap(), promoted(2, Some(1)));
    assert_eq!(models.rollback("sales", &change()).await.unwrap(), None);
    let stored = models.get("sales", 2).await.unwrap().unwrap();
    assert!(stored.head.champion && stored.model.keys == ["shop=a"] && stored.model.version == 2);
    assert_eq!(stored.head.horizons.len(), 1);
    let audit = warehouse::open_letter_reader(&server.settings)().await.unwrap().audit_entries(None, 10).await.unwrap();
    assert_eq!(audit.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["rollback", "promote", "promote"]);
    server.end().await;
}
