//! Tables that change under a running stream: it goes on, or stops and names the difference; nothing is lost.

use std::time::{Duration, Instant};

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_table_that_changes_stops_the_stream_only_where_the_mapping_does_not_fit_on_mysql", |s| {
            tables_change(s, &s.mysql)
        }),
        ("a_table_that_changes_stops_the_stream_only_where_the_mapping_does_not_fit_on_mariadb", |s| {
            tables_change(s, &s.mariadb)
        }),
        ("check_names_the_grants_that_are_missing_on_mysql", |s| grants_are_checked(s, &s.mysql)),
        ("check_names_the_grants_that_are_missing_on_mariadb", |s| grants_are_checked(s, &s.mariadb)),
    ]
}

/// Waits until `/readyz` tells of this for good.
fn wait_stopped(daemon: &Daemon, words: &[&str]) {
    let began = Instant::now();
    loop {
        let (status, told) = daemon.get("/readyz").unwrap_or_default();
        if status == 503 && words.iter().all(|word| told.contains(word)) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{words:?} not in {told}\n{:#?}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.wait("stopped for good", |status| status["units"][0]["state"].to_string().contains("failed"));
    assert!(daemon.get("/livez").is_some_and(|(status, _)| status == 200));
}

fn tables_change(servers: &Servers, server: &str) {
    let (topic, folder) = (unique("schema"), tempfile::tempdir().unwrap());
    create_topic(&servers.kafka, &topic, 1, &[]);
    let database = Database::create(server);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let producer = producer(&servers.kafka, &[]);
    let mut sent = 0;
    let mut send_some = || {
        (sent..sent + 50).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
        flush(&producer);
        sent += 50;
        sent
    };
    let at_end = |daemon: &Daemon, offset: i64| {
        daemon.wait("at the end", |status| {
            partitions(status).first().is_some_and(|p| p["caught_up"] == true && p["next_offset"] == offset)
        });
    };
    let daemon = Daemon::start(&config);
    at_end(&daemon, send_some());
    // What nobody has to know of.
    database.execute("ALTER TABLE item ADD COLUMN note VARCHAR(10) NULL, ADD COLUMN made INT NOT NULL DEFAULT 7");
    database.execute("ALTER TABLE item MODIFY COLUMN name VARCHAR(30) NOT NULL");
    at_end(&daemon, send_some());
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE made = 7 AND id >= 0"), 100);

    let breaks = [
        ("ALTER TABLE item ADD COLUMN must INT NOT NULL", "must", "ALTER TABLE item DROP COLUMN must"),
        ("ALTER TABLE item RENAME COLUMN born TO birth", "born", "ALTER TABLE item RENAME COLUMN birth TO born"),
        ("ALTER TABLE item DROP COLUMN born", "born", "ALTER TABLE item ADD COLUMN born DATETIME(6) NULL"),
        ("RENAME TABLE item TO thing", "item", "RENAME TABLE thing TO item"),
    ];
    let mut daemon = daemon;
    for (change, named, mend) in breaks {
        database.execute(change);
        let offset = send_some();
        wait_stopped(&daemon, &["the mapping does not fit the tables", &format!("`{named}`")]);
        let (found, code) = json_of(bief(&["check", "--connect", "--json", "-c"]).arg(&config));
        assert_eq!(code, 3, "{found:#}");
        assert!(found.to_string().contains(&format!("`{named}`")), "{change}: {found:#}");
        daemon.kill();
        database.execute(mend);
        daemon = Daemon::start(&config);
        at_end(&daemon, offset);
    }
    daemon.stop();
    let proof = assert_clean(&config);
    let partition = &proof["streams"][0]["partitions"][0];
    assert_eq!((&partition["applied"], &partition["dead_letters"]), (&300.into(), &0.into()), "{partition:#}");
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 300);
}

fn grants_are_checked(servers: &Servers, server: &str) {
    let (topic, folder, user) = (unique("grants"), tempfile::tempdir().unwrap(), unique("u"));
    create_topic(&servers.kafka, &topic, 1, &[]);
    let database = Database::create(server);
    let url = url::Url::parse(&database.url()).unwrap();
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let daemon = Daemon::start(&config);
    daemon.wait("ready", |status| partitions(status).len() == 1);
    daemon.stop();
    let name = url.path().trim_start_matches('/').replace('_', "\\_");
    database.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'hunter2'"));
    let most = "SELECT, INSERT, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES";
    database.execute(&format!("GRANT {most} ON `{name}`.* TO '{user}'@'%'"));
    let mut theirs = url.clone();
    theirs.set_username(&user).unwrap();
    theirs.set_password(Some("hunter2")).unwrap();
    let tls = format!("url = \"{theirs}\"\ntls = \"require\"");
    let plain = format!("url = \"{theirs}\"");
    // MySQL's default login wants an encrypted connection; MariaDB's does not, and may offer none.
    let url_line = if server == servers.mysql { tls } else { plain };
    replace_in(&config, &[(&format!("url = \"{}\"", database.url()), &url_line)]);
    let check = || json_of(bief(&["check", "--connect", "--json", "-c"]).arg(&config));
    let (found, code) = check();
    let told = found.to_string();
    assert_eq!(code, 3, "{found:#}");
    assert!(told.contains("lacks UPDATE, CREATE TEMPORARY TABLES on database"), "{found:#}");
    let statement =
        format!("GRANT UPDATE, CREATE TEMPORARY TABLES ON `{}`.* TO '{user}'@'%'", name.replace("\\_", "_"));
    assert!(told.contains(&statement), "{statement} not in {found:#}");
    database.execute(&statement);
    let (found, code) = check();
    database.execute(&format!("DROP USER '{user}'@'%'"));
    assert_eq!(code, 0, "{found:#}");
}
