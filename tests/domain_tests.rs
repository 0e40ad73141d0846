//! `bief test`: the tests of the shipped domain pass without a server or a secret, and one that does not says why.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What it printed on stdout, on stderr, and its exit code.
fn bief(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
    command.args(arguments).current_dir(folder).env_remove("FAILPOINTS").env_remove("RUST_LOG");
    let output = command.env_remove("BIEF_DB_PASSWORD").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_shipped_domain_passes_its_tests_with_both_configurations() {
    let files = ["tests/flights.toml", "tests/weather.toml"];
    let with_mysql = [&["test", "--json", "-c", "examples/mysql/actors.toml"][..], &files].concat();
    for arguments in [&["test", "--json"][..], &with_mysql] {
        let (text, errors, code) = bief(root(), arguments);
        assert_eq!(code, 0, "{arguments:?}: {text} {errors}");
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&told["passed"], &told["failed"]), (&9.into(), &0.into()), "{told}");
        let tested: Vec<_> = told["tests"].as_array().unwrap().iter().map(|t| t["file"].as_str().unwrap()).collect();
        assert!(files.iter().all(|file| tested.contains(file)), "{tested:?}");
    }
}

/// A domain of orders and customers, and these tests of it.
fn domain(tests: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "actors.toml",
        "[daemon]\ntoken = \"${NOT_SET_HERE}\"\n[kafka]\nbrokers = \"127.0.0.1:1\"\n[warehouse]\n\
         url = \"mysql://bief:${NOT_SET_EITHER}@127.0.0.1:1/shop\"\nmigrations = \"migrations\"\n\
         [[stream]]\ntopic = \"orders\"\n\
         [[stream.table]]\nname = \"customer\"\non_conflict = \"update\"\ncolumns = { code = \"customer\", name = \"name\" }\n\
         [[stream.table]]\nname = \"orders\"\non_conflict = \"update\"\n\
         columns = { id = \"id\", customer = \"customer\", amount = \"amount\" }\n",
    );
    write(
        "migrations/0001_shop.sql",
        "CREATE TABLE customer (code VARCHAR(3) NOT NULL, name VARCHAR(20) NULL, PRIMARY KEY (code));\n\
         CREATE TABLE orders (id BIGINT NOT NULL, customer VARCHAR(3) NULL, amount DECIMAL(8,2) NULL, \
         PRIMARY KEY (id), CONSTRAINT orders_customer FOREIGN KEY (customer) REFERENCES customer (code));\n",
    );
    write("tests/orders.toml", tests);
    folder
}

const PASSING: &str = r#"
stream = "orders"
[[test]]
name = "an order brings its customer"
[[test.record]]
value = { id = 7, customer = "a", name = "Ann", amount = 12.5 }
[test.rows]
customer = [{ code = "a", name = "Ann" }]
orders = [{ id = 7, customer = "a", amount = 12.50 }]
"#;

const FAILING: &str = r#"
[[test]]
name = "what differs is shown"
applied = 2
[[test.record]]
value = { id = 7, customer = "a", name = "Ann", amount = 12.5 }
[[test.record]]
value = { id = 8, customer = "b", amount = "much" }
[[test.record]]
value = { id = 9, customer = "c\u001b[2J" }
[test.rows]
customer = [{ code = "a", name = "Anna" }, { code = "z" }]
orders = [{ id = 7, customer = "a", amount = 10 }]
nothing = []
[[test.dead_letter]]
record = 1
reason = "check"
"#;

#[test]
fn what_differs_is_shown_and_the_exit_code_says_so() {
    let folder = domain(&[PASSING, FAILING].concat());
    let (text, errors, code) = bief(folder.path(), &["test"]);
    assert_eq!(code, 3, "{text} {errors}");
    insta::assert_snapshot!(text);
    let (text, _, code) = bief(folder.path(), &["test", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["passed"], &told["failed"]), (3, &1.into(), &1.into()));
    let kinds: Vec<_> = told["tests"][1]["differences"].as_array().unwrap().iter().map(|d| d["kind"].clone()).collect();
    assert!(kinds.contains(&"row_differs".into()) && kinds.contains(&"letter_unexpected".into()), "{kinds:?}");
    let (text, _, code) = bief(folder.path(), &["test", "--only", "brings"]);
    assert_eq!(
        (code, text.as_str()),
        (0, "ok    tests/orders.toml: an order brings its customer\n1 passed, 0 failed\n")
    );
}

#[test]
fn what_is_no_test_is_refused_with_its_place() {
    for (tests, told) in [
        ("[[test]]\nname = \"x\"\nrecrods = 1\n", "tests/orders.toml: line 3: unknown field `recrods`"),
        ("[[test]]\nname = \"x\"\n", "test \"x\": it has no [[test.record]]"),
        ("", "there is no [[test]] in it"),
    ] {
        let folder = domain(tests);
        let (_, errors, code) = bief(folder.path(), &["test"]);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains(told), "{errors}");
    }
    let folder = domain(&PASSING.replace("stream = \"orders\"", "stream = \"refunds\""));
    let (_, errors, code) = bief(folder.path(), &["test"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("there is no stream refunds; there are orders"), "{errors}");
    let folder = domain(&PASSING.replace("amount = 12.50", "amount = \"much\""));
    let (text, _, code) = bief(folder.path(), &["test"]);
    assert!(code == 3 && text.contains("! orders, row 1: amount = \"much\": not a decimal number"), "{code}: {text}");
    std::fs::remove_dir_all(folder.path().join("tests")).unwrap();
    let (_, errors, code) = bief(folder.path(), &["test"]);
    assert!(code == 2 && errors.contains("there is no tests/*.toml"), "{code}: {errors}");
}
