//! What `check` says about broken files: one snapshot for each file of `tests/broken/`.

use std::path::{Path, PathBuf};

use bief::config::{self, Report};

/// Stands for a secret that is in the environment; `hunter2` for one that is written into a file.
const CANARY: &str = "canary-7f3a";
const WRITTEN: &str = "hunter2";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

fn env(name: &str) -> Option<String> {
    (name == "BIEF_DB_PASSWORD").then(|| CANARY.to_owned())
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of broken files")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    files
}

fn check(path: &Path) -> Report {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
    config::report(name, &config::parse(&text, name, &folder(), &env))
}

#[test]
fn each_broken_file_is_reported_as_its_snapshot_says() {
    let files = files();
    assert!(files.len() >= 30, "only {} broken files", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| {
        for path in files {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            insta::assert_snapshot!(name, check(&path).text(false));
        }
    });
}

#[test]
fn every_finding_has_a_place_in_the_file_and_a_help() {
    for path in files() {
        let report = check(&path);
        let lines = std::fs::read_to_string(&path).unwrap().lines().count().max(1);
        assert!(!report.diagnostics.is_empty(), "{} has no finding", path.display());
        for finding in &report.diagnostics {
            assert!((1..=lines).contains(&finding.line), "{finding}");
            assert!(finding.column > 0 && !finding.message.is_empty() && !finding.help.trim().is_empty(), "{finding}");
        }
    }
}

#[test]
fn no_report_of_a_broken_file_shows_a_secret() {
    for path in files() {
        let report = check(&path);
        for shown in [report.text(true), report.json().to_string(), format!("{report:?}")] {
            assert!(!shown.contains(CANARY) && !shown.contains(WRITTEN), "{}:\n{shown}", path.display());
        }
    }
}
