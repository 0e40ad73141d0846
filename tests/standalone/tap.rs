//! `bief tap` beside a running demo.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bief;
use crate::going_on::Demo;

fn lines(demo: &Demo, arguments: &[&str]) -> Vec<Value> {
    let output = bief(&[&["tap"], arguments, &["--url", &demo.address, "--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_tap_shows_what_its_condition_holds_for_and_counts() {
    let no_programs = tempfile::tempdir().unwrap();
    // So fast that all of the first days is replayed at the pace, for some minutes.
    let demo = Demo::start(no_programs.path(), &["--rows", "3000", "--pace", "1200"]);
    demo.wait_for("records keep coming");
    let told = lines(
        &demo,
        &["raw", "--where", "topic == 'flights' && record.origin == 'JFK'", "--limit", "5", "--for", "60"],
    );
    let samples: Vec<_> = told.iter().filter(|line| line["type"] == "sample").collect();
    assert_eq!(samples.len(), 5, "{told:?}");
    for sample in samples {
        let record: Value = serde_json::from_str(sample["payload"].as_str().unwrap()).unwrap();
        assert_eq!((&sample["topic"], &record["origin"]), (&"flights".into(), &"JFK".into()), "{sample}");
    }
    let told = lines(&demo, &["rows", "--count-by", "origin", "--for", "5"]);
    // Once a second what was counted, and then where it stands.
    let mut pairs = told.windows(2).filter(|two| two[0]["type"] == "counts" && two[1]["type"] == "summary");
    let [counts, summary] = pairs.next_back().unwrap_or_else(|| panic!("{told:?}")) else { panic!("two lines") };
    let counts: Vec<(String, u64)> = serde_json::from_value(counts["counts"].clone()).unwrap();
    assert!(counts.iter().all(|(origin, _)| ["EWR", "JFK", "LGA"].contains(&origin.as_str())), "{counts:?}");
    let counted: u64 = counts.iter().map(|(_, n)| n).sum();
    assert!(counted > 10 && Some(counted) == summary["matched"].as_u64(), "{counts:?} {summary}");
    assert_eq!(summary["dropped"], 0);
    assert_eq!(demo.interrupt(), Some(0));
}

#[test]
fn taps_that_are_killed_or_not_read_cost_the_stream_nothing() {
    let no_programs = tempfile::tempdir().unwrap();
    let demo = Demo::start(no_programs.path(), &["--rows", "100000", "--until-caught-up", "--json"]);
    let tap = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(["tap", "rows", "--json", "--url", &demo.address]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let (mut killed, mut unread) = (tap(), tap());
    // Killed while records pass by.
    let mut told = BufReader::new(killed.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line.contains("\"type\":\"sample\"")), "no record passed");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let (code, told) = demo.ended();
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["records"], serde_json::json!({ "flights": 100_000, "weather": 26_115 }), "{told}");
    let none = serde_json::json!([0, 0, 0]);
    assert_eq!(serde_json::json!([told["dead_letters"], told["duplicates"], told["gaps"]]), none, "{told}");
    assert_eq!((code, &told["verify"]), (Some(0), &"clean".into()));
    unread.kill().unwrap();
    unread.wait().unwrap();
}
