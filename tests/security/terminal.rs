//! Control characters, C1 controls and marks of direction that came from records, databases or other daemons never
//! reach a terminal, whichever command prints them and in whichever form.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use bief::adapters::warehouse;
use bief::config;
use bief::core::printable::is_dangerous;
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::sqlx::{self, Connection};

use super::daemon::{Daemon, bief, printed};

/// Clears the screen, sets the title, forges a line, hides text, turns the direction of reading.
const HOSTILE: &str =
    "\u{1b}[2J\u{1b}]0;owned\u{7}\rok\nINFO forged\u{9b}31m\u{85}\u{7f}\u{202e}\u{2066}\u{200b}\u{e0041}";

fn assert_harmless(text: &str, what: &str) {
    let bad: Vec<String> =
        text.chars().filter(|c| *c != '\n' && is_dangerous(*c)).map(|c| c.escape_unicode().to_string()).collect();
    assert!(bad.is_empty(), "{what} prints {bad:?}: {text:?}");
    let forged = text.lines().find(|line| line.starts_with("INFO forged"));
    assert!(forged.is_none(), "{what} prints a forged line: {text}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A configuration on an SQLite file that holds the bookkeeping's tables.
fn config_on_sqlite(folder: &Path) -> PathBuf {
    let path = folder.join("actors.toml");
    let text = "[daemon]\nhttp = \"127.0.0.1:0\"\n[kafka]\nbrokers = \"127.0.0.1:1\"\n[warehouse]\nurl = \"sqlite://bief.db\"\n\
                [[stream]]\ntopic = \"orders\"\n[[stream.table]]\nname = \"orders\"\ncolumns = { id = \"id\" }\n";
    std::fs::write(&path, text).unwrap();
    let loaded = config::load(&path, &|_| None).unwrap();
    block_on(warehouse::prepare(&loaded.config.warehouse, folder)).unwrap();
    path
}

#[test]
fn a_hostile_dead_letter_is_listed_and_shown_without_what_a_terminal_obeys() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_on_sqlite(folder.path());
    block_on(async {
        let file = format!("sqlite://{}", folder.path().join("bief.db").display());
        let mut connection = SqliteConnection::connect(&file).await.unwrap();
        let insert = "INSERT INTO bief_dead_letter (topic, partition_id, record_offset, record_key, payload, reason, \
                      field, message, stored_at) VALUES (?, 0, 7, ?, ?, 'invalid_json', ?, ?, '2024-05-01 10:00:00')";
        let bytes = HOSTILE.as_bytes();
        let query = sqlx::query(insert).bind(HOSTILE).bind(bytes).bind(bytes).bind(HOSTILE).bind(HOSTILE);
        query.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
    for arguments in [
        &["dead-letters", "list", "-c"][..],
        &["dead-letters", "list", "--json", "-c"],
        &["dead-letters", "show", "1", "-c"],
        &["dead-letters", "show", "1", "--json", "-c"],
        &["dead-letters", "export", "-c"],
    ] {
        let (text, code) = printed(bief(arguments).arg(&config));
        assert_eq!(code, 0, "{arguments:?}: {text}");
        assert!(text.contains("forged"), "{arguments:?} shows the letter: {text}");
        assert_harmless(&text, &format!("{arguments:?}"));
    }
    for (arguments, wanted) in [
        (&["dead-letters", "retry", "1", "-c"][..], 3),
        (&["dead-letters", "retry", "1", "--json", "-c"], 3),
        (&["dead-letters", "drop", "1", "--yes", "-c"], 0),
    ] {
        let (text, code) = printed(bief(arguments).arg(&config));
        assert_eq!(code, wanted, "{arguments:?}: {text}");
        assert_harmless(&text, &format!("{arguments:?}"));
    }
}

#[test]
fn errors_that_name_a_hostile_place_do_not_write_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    // A folder's name gets into errors of the operating system and of the database.
    let hostile = folder.path().join("\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\nINFO forged");
    std::fs::create_dir(&hostile).unwrap();
    let sound = config_on_sqlite(&hostile);
    let without_database = hostile.join("moved.toml");
    let text = std::fs::read_to_string(&sound).unwrap().replace("bief.db", "not-there/bief.db");
    std::fs::write(&without_database, text).unwrap();
    let missing = hostile.join("not-there.toml");
    let commands: [&[&str]; 16] = [
        &["check", "--connect", "-c"],
        &["dead-letters", "drop", "1", "--yes", "-c"],
        &["dead-letters", "export", "-c"],
        &["dead-letters", "list", "-c"],
        &["dead-letters", "retry", "1", "-c"],
        &["dead-letters", "show", "1", "-c"],
        &["healthcheck", "-c"],
        &["offsets", "reset", "--topic", "orders", "--to", "latest", "--yes", "-c"],
        &["offsets", "show", "-c"],
        &["run", "--dry-run", "1", "-c"],
        &["status", "-c"],
        &["tap", "raw", "--for", "1", "-c"],
        &["test", "-c"],
        &["top", "--once", "-c"],
        &["verify", "-c"],
        &["verify", "--json", "-c"],
    ];
    // Side by side: some wait for a broker that is away.
    std::thread::scope(|scope| {
        for arguments in commands {
            for config in [&sound, &without_database, &missing] {
                scope.spawn(move || {
                    let (text, _) = printed(bief(arguments).arg(config));
                    assert_harmless(&text, &format!("{arguments:?} of {config:?}"));
                });
            }
        }
    });
}

#[test]
fn a_hostile_daemon_cannot_write_to_the_terminal_of_who_asks_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap();
            let asked = String::from_utf8_lossy(&head[..length]).into_owned();
            let check = serde_json::json!({ "name": HOSTILE, "ok": false, "cause": HOSTILE });
            let unit = serde_json::json!({ "name": HOSTILE, "state": HOSTILE, "last_error": HOSTILE, "actors": [] });
            let status = serde_json::json!({
                "name": HOSTILE, "version": HOSTILE, "checks": [check], "units": [unit],
                "streams": [{ "stream": HOSTILE, "partitions": [] }], HOSTILE: HOSTILE,
            });
            let (code, body) =
                if asked.contains("/status") { (200, status.to_string()) } else { (503, HOSTILE.to_owned()) };
            let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    for arguments in [
        &["status", "--url"][..],
        &["status", "--json", "--url"],
        &["top", "--once", "--url"],
        &["top", "--once", "--json", "--url"],
        &["healthcheck", "--ready", "--url"],
    ] {
        let (text, code) = printed(bief(arguments).arg(&url));
        assert_eq!(code, 5, "{arguments:?}: {text}");
        assert!(text.contains("forged"), "{arguments:?} says what it was told: {text}");
        assert_harmless(&text, &format!("{arguments:?}"));
    }
}

#[test]
fn hostile_records_cannot_write_to_the_terminal_of_who_looks_at_them() {
    let sample = serde_json::json!({
        "type": "sample", "stage": "rows", "stream": HOSTILE, "topic": HOSTILE, "partition": 0, "offset": 1,
        "timestamp": HOSTILE, "key": HOSTILE, "size": 1000, "payload": HOSTILE, "record": { HOSTILE: HOSTILE },
        "rows": { HOSTILE: [{ HOSTILE: HOSTILE }] }, "reason": HOSTILE, "field": HOSTILE, "message": HOSTILE,
    });
    let counts = serde_json::json!({ "type": "counts", "counts": [[HOSTILE, 1]], "distinct": 1, "others": 0 });
    let summary = serde_json::json!({ "type": "summary", "matched": 1, "undecided": 1, "cause": HOSTILE });
    let error = serde_json::json!({ "type": "error", "message": HOSTILE });
    let problem = serde_json::json!({ "detail": HOSTILE }).to_string();
    let lines = [sample, counts, summary, error].map(|line| line.to_string() + "\n").concat();
    for (status, body, code) in
        [(200, lines, 1), (503, problem.clone(), 5), (400, problem, 2), (200, HOSTILE.into(), 5)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = body.contains("forged");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).unwrap();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        for arguments in [&["tap", "rows", "--url"][..], &["tap", "rows", "--json", "--url"]] {
            let (text, was) = printed(bief(arguments).arg(&url));
            assert_eq!(was, code, "{status} {arguments:?}: {text}");
            assert!(told && (text.contains("forged") || code == 5), "{status} {arguments:?}: {text}");
            assert_harmless(&text, &format!("{arguments:?}"));
        }
    }
}

#[test]
fn a_hostile_configuration_cannot_write_to_the_terminal_of_who_checks_it() {
    let folder = tempfile::tempdir().unwrap();
    // What a line of TOML may hold as it is: C1 controls and marks of direction.
    let raw = "\u{9b}31m\u{202e}\u{2066}\u{200b}\u{e0041}";
    let escaped = r"\u001b[2J\u0007\r\nINFO forged\u009b\u202e";
    for line in [
        format!("[daemon]\nname = \"{raw}\""),
        format!("[daemon]\nname = \"{escaped}\""),
        format!("[daemon]\nallowed_hosts = [\"{escaped}\"]"),
        format!("[\"{escaped}\"]\n\"{escaped}\" = 1"),
        format!("[daemon]\n\"{raw}\" = \"{raw}\""),
        format!(
            "[[stream]]\ntopic = \"{escaped}\"\n[[stream.table]]\nname = \"{escaped}\"\ncolumns = {{ \"{escaped}\" = \"{escaped}\" }}"
        ),
        format!("[warehouse]\nurl = \"sqlite://x.db\"\nmigrations = \"{escaped}\""),
        format!("[kafka]\nbrokers = \"{escaped}\""),
        format!("[kafka.properties]\n\"{escaped}\" = \"{escaped}\""),
        format!("{raw} = {raw}"),
    ] {
        let path = folder.path().join("actors.toml");
        std::fs::write(&path, &line).unwrap();
        for arguments in [&["check", "-c"][..], &["check", "--json", "-c"], &["run", "-c"]] {
            let (text, code) = printed(bief(arguments).arg(&path));
            assert_eq!(code, 2, "{line}: {text}");
            assert_harmless(&text, &format!("{arguments:?} of {line:?}"));
        }
    }
    let path = config_on_sqlite(folder.path());
    let sound = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, sound.replace("{ id = \"id\" }", &format!("{{ id = \"{escaped}{raw}\" }}"))).unwrap();
    for arguments in [&["check", "--print", "-c"][..], &["check", "--connect", "-c"], &["verify", "-c"]] {
        assert_harmless(&printed(bief(arguments).arg(&path)).0, &format!("{arguments:?}"));
    }
}

#[test]
fn the_log_in_json_holds_nothing_that_a_terminal_obeys() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_on_sqlite(folder.path());
    let sound = std::fs::read_to_string(&config).unwrap();
    // A folder's name gets into errors of the operating system and of the database.
    let hostile = folder.path().join("\u{9b}31m\u{202e}\u{7f}");
    std::fs::create_dir(&hostile).unwrap();
    let moved = hostile.join("actors.toml");
    std::fs::write(&moved, sound).unwrap();
    let daemon = Daemon::start(&moved, &[("RUST_LOG", "trace")]);
    let _ = daemon.get("/readyz?verbose", None);
    assert_harmless(&daemon.log(), "the log");
}
