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
        assert_eq!((&told["passed"], &told["failed"]), (&10.into(), &0.into()), "{told}");
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

/// The same domain with sales and what they come to by the hour and customer, and these tests of it.
fn shop(tests: &str) -> tempfile::TempDir {
    let folder = domain(tests);
    let path = |name: &str| folder.path().join(name);
    let more = "[cache]\nurl = \"mongodb://bief:${NOT_SET_FOR_IT}@127.0.0.1:1/shop\"\n\
         [[stream]]\ntopic = \"sales\"\n\
         [[stream.table]]\nname = \"sale\"\non_conflict = \"update\"\n\
         columns = { at = \"at\", id = \"id\", customer = \"customer\", cents = \"cents\" }\n\
         [[aggregate]]\nname = \"sales_hourly\"\ntable = \"sale\"\ntime = \"at\"\nbucket = \"1h\"\nkeep = \"30d\"\n\
         query = \"sales_hourly.sql\"\nkey = [\"customer\"]\n\
         [[aggregate]]\nname = \"sales_in_all\"\ntable = \"sale\"\ntime = \"at\"\nbucket = \"1h\"\nquery = \"in_all.sql\"\n\
         [[aggregate]]\nname = \"sales_by_name\"\ntable = \"sale\"\ntime = \"at\"\nbucket = \"1h\"\n\
         query = \"by_name.sql\"\nkey = [\"name\"]\n";
    let config = std::fs::read_to_string(path("actors.toml")).unwrap() + more;
    std::fs::write(path("actors.toml"), config).unwrap();
    std::fs::write(
        path("migrations/0002_sales.sql"),
        "CREATE TABLE sale (at DATETIME(6) NOT NULL, id BIGINT NOT NULL, customer VARCHAR(3) NULL, cents INT NULL, \
         PRIMARY KEY (at, id));\n",
    )
    .unwrap();
    let of_bucket = "FROM sale WHERE at >= :bucket_start AND at < :bucket_end";
    let hourly = "SELECT customer, COUNT(*) AS sales, SUM(cents) AS cents, SUM(cents) * 1e0 / COUNT(cents) AS mean, \
                  MIN(at) AS first";
    std::fs::write(path("sales_hourly.sql"), format!("{hourly} {of_bucket} GROUP BY customer;\n")).unwrap();
    let in_all = format!("SELECT COUNT(*) AS sales {of_bucket} HAVING COUNT(*) > 0;\n");
    std::fs::write(path("in_all.sql"), in_all).unwrap();
    let by_name = "SELECT name, COUNT(*) AS sales FROM sale JOIN customer ON code = customer \
                   WHERE at >= :bucket_start AND at < :bucket_end GROUP BY name;\n";
    std::fs::write(path("by_name.sql"), by_name).unwrap();
    folder
}

const SALES: &str = r#"
stream = "sales"
[sample.sale]
value = { id = 1, at = 2024-05-01T10:30:00Z, customer = "a", cents = 1000 }

[[test]]
name = "sales are summed by hour and customer"
commit = "each"
[[test.record]]
sample = "sale"
[[test.record]]
sample = "sale"
value = { id = 2, cents = 501 }
[[test.record]]
sample = "sale"
value = { id = 3, at = 2024-05-01T12:00:00Z }
null = ["customer", "cents"]
[[test.record]]
sample = "sale"
value = { cents = 500 }
[test.documents]
sales_hourly = [
  { bucket_start = 2024-05-01T14:00:00+02:00, values = { sales = 1, first = "2024-05-01 12:00:00.000000" } },
  { bucket_start = 2024-05-01T10:00:00Z, key.customer = "a", values = { sales = 2, cents = 1001, mean = 500.5, first = "2024-05-01 10:30:00.000000" } },
]
sales_in_all = [
  { bucket_start = 2024-05-01T10:00:00Z, values.sales = 2 },
  { bucket_start = 2024-05-01T12:00:00Z, values.sales = 1 },
]
"#;

#[test]
fn documents_of_marked_buckets_are_compared_by_key_and_value() {
    let (text, errors, code) = bief(shop(SALES).path(), &["test"]);
    assert_eq!((code, text.lines().last()), (0, Some("1 passed, 0 failed")), "{text} {errors}");

    let failing =
        SALES.replace("cents = 1001", "cents = 1500").replace("10:00:00Z, values.sales", "11:00:00Z, values.sales");
    let folder = shop(&failing);
    let (text, _, code) = bief(folder.path(), &["test"]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(text, @r"
    FAIL  tests/orders.toml: sales are summed by hour and customer
            documents.sales_hourly: bucket_start=2024-05-01T10:00:00Z key.customer='a'
          -   values.cents=1500
          +   values.cents=1001
          - documents.sales_in_all: bucket_start=2024-05-01T11:00:00Z values.sales=2
          + documents.sales_in_all: bucket_start=2024-05-01T10:00:00Z values.sales=2
    0 passed, 1 failed
    ");
    let (text, _, _) = bief(folder.path(), &["test", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    let first = &told["tests"][0]["differences"][0];
    assert_eq!((&first["kind"], &first["aggregate"]), (&"row_differs".into(), &"sales_hourly".into()), "{told}");
}

/// A sale marks its hour; a customer that is named otherwise marks nothing, and the daemon's document keeps the old name.
const RENAMED: &str = r#"
stream = "orders"
[sample.order]
value = { id = 7, customer = "a", name = "Ann", amount = 1 }

[[test]]
name = "what marks nothing changes no document"
commit = "each"
[[test.record]]
sample = "order"
[[test.record]]
stream = "sales"
value = { id = 1, at = 2024-05-01T10:30:00Z, customer = "a", cents = 1000 }
[[test.record]]
sample = "order"
value = { name = "Anna" }
[test.rows]
customer = [{ code = "a", name = "Anna" }]
[test.documents]
sales_by_name = [{ bucket_start = 2024-05-01T10:00:00Z, key.name = "Ann", values.sales = 1 }]
"#;

#[test]
fn documents_are_as_old_as_their_marks() {
    let (text, errors, code) = bief(shop(RENAMED).path(), &["test"]);
    assert_eq!(code, 0, "{text} {errors}");
    // A sale that comes afterwards brings the new name along.
    let sale = "[[test.record]]\nstream = \"sales\"\nvalue = { id = 2, at = 2024-05-01T10:40:00Z, customer = \"a\" }\n";
    let marked = RENAMED.replace("[test.rows]", &format!("{sale}[test.rows]"));
    let (text, errors, code) = bief(shop(&marked).path(), &["test"]);
    assert_eq!(code, 3, "{text} {errors}");
    assert!(
        text.contains("+ documents.sales_by_name: bucket_start=2024-05-01T10:00:00Z key.name='Anna' values.sales=2")
    );
}

#[test]
fn what_no_document_can_be_is_told() {
    let record = SALES.split_once("[test.documents]").unwrap().0;
    for (documents, told) in [
        ("sales = []", "! there is no aggregate sales; there are sales_hourly, sales_in_all, sales_by_name"),
        (
            "sales_in_all = [{ bucket_start = 2024-05-01T10:30:00Z }]",
            "! documents.sales_in_all, document 1: no bucket starts at 2024-05-01 10:30:00.000000; the one it lies in starts at \
             2024-05-01T10:00:00Z",
        ),
        (
            "sales_in_all = [{ bucket_start = 2024-05-01T10:00:00Z, values.sale = 2 }]",
            "! documents.sales_in_all, document 1: there is no values.sale; there are sales",
        ),
        (
            "sales_in_all = [{ bucket_start = 2024-05-01T10:00:00Z }, { bucket_start = 2024-05-01T12:00:00+02:00 }]",
            "! documents.sales_in_all, document 2: document 1 has the same bucket_start and key",
        ),
        (
            "sales_in_all = [{ bucket_start = 2024-05-01T10:00:00Z, key.customer = \"a\", values.sales = 2 }]",
            "! documents.sales_in_all, document 1: there is no key.customer; there are none",
        ),
    ] {
        let (text, errors, code) = bief(shop(&format!("{record}[test.documents]\n{documents}\n")).path(), &["test"]);
        assert!(code == 3 && text.contains(told), "{code}: {text} {errors}");
    }
    for (query, told) in [
        ("SELECT nothing FROM sale", "! the query of aggregate sales_in_all fails"),
        ("SELECT cents AS sales FROM sale", "the query of the aggregate sales_in_all gives the key"),
    ] {
        let folder = shop(SALES);
        let query = format!("{query} WHERE at >= :bucket_start AND at < :bucket_end");
        std::fs::write(folder.path().join("in_all.sql"), query).unwrap();
        let (text, errors, code) = bief(folder.path(), &["test"]);
        assert!(code == 3 && text.contains(told), "{code}: {text} {errors}");
    }
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
