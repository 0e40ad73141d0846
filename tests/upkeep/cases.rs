//! What must hold.

use super::{Shop, json};
use serde_json::{Value, json as object};

/// By aggregate, what differed, in the order in which it was told.
fn told(report: &Value, aggregate: &str) -> Vec<String> {
    let of = report["aggregates"].as_array().unwrap().iter().find(|of| of["aggregate"] == aggregate).unwrap();
    let lines = of["differences"].as_array().unwrap().iter().map(|d| {
        let fields = d["fields"].as_array().into_iter().flatten();
        let fields: Vec<String> =
            fields.map(|f| format!("{}:{}->{}", f["field"].as_str().unwrap(), f["cached"], f["computed"])).collect();
        let (start, shop) = (d["bucket_start"].as_str().unwrap(), d["key"]["shop"].as_str().unwrap_or("-"));
        format!("{} {shop} {} {}", &start[..13], d["kind"].as_str().unwrap(), fields.join(" ")).trim_end().to_owned()
    });
    lines.collect()
}

pub fn documents_changed_by_hand_are_found_and_mended(shop: &Shop) {
    shop.sell(0..5);
    for name in ["by_shop", "in_all"] {
        json(&shop.run(&["rebuild", name, "--json"]), 0);
    }
    let clean = json(&shop.run(&["reconcile", "--all", "--json"]), 0);
    assert_eq!((&clean["reconcile"], &clean["differing"]), (&"clean".into(), &0.into()));
    assert_eq!((&clean["aggregates"][0]["buckets"], &clean["aggregates"][0]["documents"]), (&5.into(), &10.into()));
    let text = String::from_utf8(shop.run(&["reconcile", "--all", "in_all"]).stdout).unwrap();
    assert_eq!(
        text,
        "in_all: 5 buckets with 5 documents compared, 0 differed\nclean: what was compared is what the rows come to\n"
    );

    // In the cache: a document edited, one deleted, one put where no row is.
    shop.edit("by_shop|2024-03-01T00:00:00Z|A", "sales", 99);
    shop.remove("by_shop|2024-03-01T01:00:00Z|B");
    shop.copy_to_february("by_shop|2024-03-01T00:00:00Z|B", 7);
    // In the tables: a row deleted, one corrected, one inserted, none of them by a writer.
    shop.sql("DELETE FROM sale WHERE sold_at = '2024-03-01 02:15:00.000000' AND shop = 'B'");
    shop.sql("UPDATE sale SET amount = 1000 WHERE sold_at = '2024-03-01 03:15:00.000000' AND shop = 'A'");
    shop.sql("INSERT INTO sale (sold_at, shop, amount) VALUES ('2024-03-02 10:00:00.000000', 'C', 5)");
    let by_shop = [
        "2024-02-01T07 B surplus",
        "2024-03-01T00 A differs sales:99->1",
        "2024-03-01T01 B missing",
        "2024-03-01T02 B surplus",
        "2024-03-01T03 A differs amount:3->1000",
        "2024-03-02T10 C missing",
    ];
    let in_all = [
        "2024-03-01T02 - differs sales:2->1 amount:6->2",
        "2024-03-01T03 - differs amount:9->1006",
        "2024-03-02T10 - missing",
    ];
    // Looking changes nothing, so that the second look finds the same.
    for _ in 0..2 {
        let found = json(&shop.run(&["reconcile", "--all", "--dry-run", "--json"]), 3);
        assert_eq!(
            (told(&found, "by_shop"), told(&found, "in_all")),
            (by_shop.map(str::to_owned).to_vec(), in_all.map(str::to_owned).to_vec())
        );
        let counts = [&found["differing"], &found["mended"], &found["remaining"]].map(Value::as_i64);
        assert_eq!(counts, [Some(9), Some(0), Some(9)], "{found:#}");
    }
    let mended = json(&shop.run(&["reconcile", "--all", "--json"]), 3);
    let counts = [&mended["differing"], &mended["mended"], &mended["remaining"]].map(Value::as_i64);
    assert_eq!(counts, [Some(9), Some(9), Some(0)], "{mended:#}");
    assert_eq!(mended["aggregates"][0]["differences"][1]["became"], "mended");
    let clean = json(&shop.run(&["reconcile", "--all", "--json"]), 0);
    assert_eq!(clean["aggregates"][0]["documents"], 10, "{clean:#}");
    // What was mended is what a computation from nothing comes to.
    let before = ["by_shop", "in_all"].map(|name| shop.documents(name));
    for name in ["by_shop", "in_all"] {
        json(&shop.run(&["rebuild", name, "--json"]), 0);
    }
    assert_eq!(["by_shop", "in_all"].map(|name| shop.documents(name)), before);

    // A version that nothing gets above is told, with what to do; that mends it.
    shop.set_version("by_shop|2024-03-01T04:00:00Z|A", 1_000_000_000);
    shop.edit("by_shop|2024-03-01T04:00:00Z|A", "sales", 7);
    let output = shop.run(&["reconcile", "--all", "by_shop"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("sales: cached 7, computed 1; version: cached 1000000000, computed"), "{text}");
    assert!(text.contains("(still so)") && text.contains("run `bief rebuild by_shop`"), "{text}");
    json(&shop.run(&["rebuild", "by_shop", "--json"]), 0);
    json(&shop.run(&["reconcile", "--all", "--json"]), 0);
    assert_eq!(shop.documents("by_shop"), before[0]);
}

pub fn names_and_shares_that_are_wrong_are_told(shop: &Shop) {
    for command in ["rebuild", "reconcile"] {
        let output = shop.run(&[command, "by_shelf"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("no aggregate `by_shelf`: there are by_shop, in_all"), "{stderr}");
    }
    assert_eq!(shop.run(&["reconcile", "--sample", "0"]).status.code(), Some(2));
    // A sample says how to draw it again, and finds nothing in nothing.
    let sample = json(&shop.run(&["reconcile", "--sample", "0.5", "--seed", "7", "--json"]), 0);
    assert_eq!([&sample["sample"], &sample["seed"]], [&object!(0.5), &object!(7)]);
}

/// Some 300 buckets in chunks of 64, killed when the third was replaced and not yet put down as done.
#[cfg(feature = "failpoints")]
pub fn a_rebuild_goes_on_after_a_kill(shop: &Shop) {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    const BUCKETS: i64 = 300;
    shop.sell(0..BUCKETS);
    let mut first = shop.command(&["rebuild", "by_shop", "--json"]);
    let mut first = first.env("FAILPOINTS", "before-clean=2*off->pause").stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let done = || shop.number("SELECT buckets FROM bief_rebuild WHERE aggregate = 'by_shop'");
    // All of the third chunk is in the cache.
    while shop.documents("by_shop").len() < 3 * 64 * 2 {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?} buckets", done());
        assert_eq!(first.try_wait().unwrap(), None, "the rebuild ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(done(), Some(128));
    // What is done is not done again: nobody would notice a sale in it that no writer marked.
    shop.sql("UPDATE sale SET amount = 7000 WHERE sold_at = '2024-03-01 00:15:00.000000' AND shop = 'A'");
    let output = shop.run(&["rebuild", "by_shop", "--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let rebuilt = json(&output, 0);
    assert_eq!(
        [&rebuilt["went_on"], &rebuilt["buckets"], &rebuilt["documents"]],
        [&object!(true), &object!(BUCKETS), &object!((BUCKETS - 128) * 2)]
    );
    assert!(stderr.contains("was broken off after 128 buckets: going on from 2024-03-06T08:00:00Z"), "{stderr}");
    assert_eq!(done(), None);
    shop.sql("UPDATE sale SET amount = 0 WHERE sold_at = '2024-03-01 00:15:00.000000' AND shop = 'A'");
    // As one that nobody killed.
    let went_on = ["by_shop", "in_all"].map(|name| shop.documents(name));
    let fresh = json(&shop.run(&["rebuild", "by_shop", "--restart", "--json"]), 0);
    assert_eq!([&fresh["went_on"], &fresh["documents"]], [&object!(false), &object!(BUCKETS * 2)]);
    assert_eq!(shop.documents("by_shop"), went_on[0]);
    assert_eq!(went_on[0].len() as i64, BUCKETS * 2);
    json(&shop.run(&["reconcile", "--all", "--json"]), 0);
}
