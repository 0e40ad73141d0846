//! A backup of one moment, taken while a daemon writes, and put back: the daemon reads on from there, and the rows are
//! those of all records.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params};

use super::parts::Parts;
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_backup_that_is_put_back_is_read_on_from_on_mysql", |s| put_back(s, &s.mysql)),
        ("a_backup_that_is_put_back_is_read_on_from_on_mariadb", |s| put_back(s, &s.mariadb)),
    ]
}

const RECORDS: i64 = 6000;

/// All tables of one moment, as `mysqldump --single-transaction` takes them.
async fn copy(from: &str, to: &str) {
    let (mut from, mut to) = (Conn::from_url(from).await.unwrap(), Conn::from_url(to).await.unwrap());
    to.query_drop("SET FOREIGN_KEY_CHECKS = 0").await.unwrap();
    from.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    from.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await.unwrap();
    let tables: Vec<String> = from.query("SHOW TABLES").await.unwrap();
    for table in tables {
        let shown: Option<(String, String)> = from.query_first(format!("SHOW CREATE TABLE `{table}`")).await.unwrap();
        to.query_drop(shown.unwrap().1).await.unwrap();
        let rows: Vec<mysql_async::Row> = from.query(format!("SELECT * FROM `{table}`")).await.unwrap();
        let marks = vec!["?"; rows.first().map_or(0, |row| row.columns_ref().len())].join(", ");
        let values = rows.into_iter().map(|row| Params::Positional(row.unwrap()));
        to.exec_batch(format!("INSERT INTO `{table}` VALUES ({marks})"), values).await.unwrap();
    }
    from.disconnect().await.unwrap();
    to.disconnect().await.unwrap();
}

fn put_back(servers: &Servers, server: &str) {
    let (database, backup) = (Database::create(server), Database::create(server));
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::new(servers, 4);
    let config = parts.config(folder.path(), &database.url(), &unique("group"), 20);
    parts.send(RECORDS);
    let read = "SELECT COALESCE(SUM(next_offset), 0) FROM bief_offset";
    let daemon = Daemon::start(&config);
    let next =
        |status: &serde_json::Value| partitions(status).iter().filter_map(|p| p["next_offset"].as_i64()).sum::<i64>();
    daemon.wait("some are in", |status| next(status) > 100);
    block_on(copy(&database.url(), &backup.url()));
    let kept = backup.count(read);
    assert!((100..RECORDS).contains(&kept), "{kept} of {RECORDS} were in: the backup is of no moment between");
    parts.send(500);
    daemon.wait_caught_up(parts.total());
    daemon.stop();

    replace_in(&config, &[(&database.url(), &backup.url())]);
    std::fs::remove_file(folder.path().join("cache.db")).unwrap();
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(parts.total());
    daemon.stop();
    assert_clean(&config);
    parts.assert_rows(&backup, "put back");
}
