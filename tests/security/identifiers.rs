//! Names from the configuration reach SQL as identifiers, which cannot be bound. Whatever is written there is refused
//! with its place, or is a plain name; and asking the database about it changes nothing.

use std::path::Path;

use bief::adapters::warehouse;
use bief::config::{self, Diagnostic, Loaded};
use bief::topology;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::sqlx::{self, Connection};

/// Names of a kind that people and attackers write.
const IDENTIFIERS: u32 = 10_000;

/// How many sound names are asked of the database together.
const TOGETHER: usize = 100;

const HOSTILE: &str = "(?s)(orders|id|bief_offset|sqlite_schema|)([`\"'\\[\\];\\\\\\x00-\\x20./*-]|--|/\\*|\\*/|; DROP TABLE orders|\
     `; DELETE FROM orders; --|\" OR \"1\"=\"1|' UNION SELECT|\\PC){0,6}[a-zA-Z0-9_$é東\u{202e}]{0,70}";

/// A file with these tables and their columns.
fn parse(tables: &[(&str, &str)], folder: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let mut file = String::from(
        "[kafka]\nbrokers = \"k:9092\"\n[warehouse]\nurl = \"sqlite://bief.db\"\n[[stream]]\ntopic = \"orders\"\n",
    );
    for (table, column) in tables {
        let (table, column) = (basic_string(table), basic_string(column));
        file += &format!("[[stream.table]]\nname = {table}\n[stream.table.columns]\n{column} = \"field\"\n");
    }
    config::parse(&file, "actors.toml", folder, &|_| None)
}

/// A TOML string in one line, which can stand as a key and as a value.
fn basic_string(text: &str) -> String {
    let plain = |c: &char| !c.is_control() && !['"', '\\'].contains(c);
    let escaped = |c: char| if plain(&c) { c.to_string() } else { format!("\\U{:08X}", u32::from(c)) };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

fn is_plain(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$');
    plain && (1..=64).contains(&name.len()) && !name.starts_with(|c: char| c.is_ascii_digit())
}

async fn schema(folder: &Path) -> Vec<(String, String)> {
    let file = format!("sqlite://{}", folder.join("bief.db").display());
    let mut connection = SqliteConnection::connect(&file).await.unwrap();
    let rows = sqlx::query_as("SELECT name, COALESCE(sql, '') FROM sqlite_schema ORDER BY name");
    rows.fetch_all(&mut connection).await.unwrap()
}

#[test]
fn ten_thousand_names_are_refused_with_their_place_or_plain_and_change_no_schema() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    let domain = "CREATE TABLE orders (id BIGINT NOT NULL PRIMARY KEY, note VARCHAR(20));";
    std::fs::write(folder.path().join("migrations/0001_orders.sql"), domain).unwrap();
    let mut settings = parse(&[("orders", "id")], folder.path()).unwrap().config.warehouse;
    settings.migrations = Some("migrations".into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(warehouse::prepare(&settings, folder.path())).unwrap();
    let before = runtime.block_on(schema(folder.path()));
    assert!(before.iter().any(|(name, _)| name == "orders"));

    let accepted = std::cell::RefCell::new(Vec::new());
    let settings = Config { cases: IDENTIFIERS, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(settings).run(&(HOSTILE, any::<bool>()), |(name, is_table)| {
        let pair = if is_table { (name.as_str(), "id") } else { ("orders", name.as_str()) };
        match parse(&[pair], folder.path()) {
            Ok(_) => {
                prop_assert!(is_plain(&name), "accepted");
                accepted.borrow_mut().push((pair.0.to_owned(), pair.1.to_owned()));
            }
            Err(found) => {
                prop_assert!(found.iter().all(|f| f.line > 0 && f.column > 0 && !f.help.is_empty()));
                let at = if is_table { 8 } else { 10 };
                prop_assert!(found.iter().any(|f| f.line == at), "told elsewhere: {found:?}");
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));

    let mut accepted = accepted.into_inner();
    accepted.sort();
    accepted.dedup_by(|a, b| a.0.eq_ignore_ascii_case(&b.0));
    assert!(!accepted.is_empty(), "some names are plain");
    for names in accepted.chunks(TOGETHER) {
        let tables: Vec<(&str, &str)> = names.iter().map(|(table, column)| (table.as_str(), column.as_str())).collect();
        let config = parse(&tables, folder.path()).unwrap_or_else(|found| panic!("{found:?}")).config;
        let plan = runtime.block_on(topology::plan_or_misfits(&config, &config.streams[0]));
        assert!(plan.unwrap().is_err(), "none of {names:?} is there");
    }
    assert_eq!(runtime.block_on(schema(folder.path())), before);
}
