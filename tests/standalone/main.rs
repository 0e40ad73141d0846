//! The demo and the commands on a machine that has nothing but this binary.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod going_on;
#[cfg(target_os = "linux")]
mod outage;
mod running;
mod tap;
#[cfg(unix)]
mod top;

use std::process::{Command, Output};

use serde_json::Value;

fn bief(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("FAILPOINTS").env_remove("RUST_LOG");
    command.output().unwrap()
}

fn demo(folder: &std::path::Path, rows: &str) -> Value {
    let folder = folder.join("demo");
    let output = bief(&[
        "demo",
        "--until-caught-up",
        "--json",
        "--rows",
        rows,
        "--http",
        "127.0.0.1:0",
        "--folder",
        folder.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn the_demo_writes_every_record_once_and_works_twice_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut summary = demo(folder.path(), "3000");
        assert!(summary["seconds"].take().as_f64() > Some(0.0));
        let wanted = serde_json::json!({
            "records": { "flights": 3000, "weather": 3000 },
            "rows": { "aircraft": 1434, "airport": 92, "carrier": 15, "flight": 3000, "weather": 3000 },
            "dead_letters": 0,
            "duplicates": 0,
            "gaps": 0,
            "seconds": null,
            "verify": "clean",
        });
        assert_eq!(summary, wanted);
    }
}

#[test]
fn the_demo_replays_the_whole_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let summary = demo(folder.path(), "1000000");
    assert_eq!(summary["records"], serde_json::json!({ "flights": 336_776, "weather": 26_115 }));
    assert_eq!((&summary["dead_letters"], &summary["gaps"]), (&0.into(), &0.into()));
    assert_eq!(summary["verify"], "clean");
    let wanted = serde_json::json!({
        "aircraft": 4043, "airport": 107, "carrier": 16, "flight": 336_776, "weather": 26_115,
    });
    assert_eq!(summary["rows"], wanted);
}

/// A full disk behind the log while an actor panics, one behind the answer, a reader that has gone.
#[cfg(target_os = "linux")]
#[test]
fn what_a_command_does_is_not_changed_by_who_reads_of_it() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG");
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--until-caught-up", "--json", "--rows", "3000", "--http", "127.0.0.1:0", "--folder"];
    let mut demo = command(&arguments);
    demo.arg(folder.path().join("demo")).env("FAILPOINTS", "after-decode=1*panic(planted)->off");
    let output = demo.stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"verify\":\"clean\""));

    let check = ["check", "--print", "-c", "actors.toml"];
    let output = command(&check).stdout(full()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "the answer is not whole");
    assert!(String::from_utf8(output.stderr).unwrap().contains("stdout does not take what is printed"));

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&check).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.lines().count(), told.contains("stdout")), (Some(0), 1, false), "{told}");
}

#[test]
fn every_command_has_examples_in_its_help() {
    let top = String::from_utf8(bief(&["--help"]).stdout).unwrap();
    for command in [
        "demo",
        "run",
        "check",
        "test",
        "replay",
        "verify",
        "status",
        "top",
        "tap",
        "healthcheck",
        "dead-letters",
        "completions",
        "man",
    ] {
        assert!(top.contains(command), "{command} is not in --help");
        let help = String::from_utf8(bief(&[command, "--help"]).stdout).unwrap();
        assert!(help.contains("Example") && help.contains(&format!("bief {command}")), "{command}: {help}");
    }
}

#[test]
fn the_shipped_configuration_passes_its_check() {
    let output = bief(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_real_broker_is_asked_for_where_the_configuration_has_none() {
    let output = bief(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("brokers = \"host:9092\""), "{said}");
}
