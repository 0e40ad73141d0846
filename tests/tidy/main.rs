//! House rules that no compiler checks: layers, names, words, files. Each rule is a test of its own and says
//! what to do; each is itself tested on planted text. It must need nothing but the files: no network, no git.

mod rules;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

/// What a newcomer, a packager or a tool looks for, and what bief itself needs to run from a clone.
const REQUIRED: [&str; 21] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    ".editorconfig",
    ".ci/run",
    "LICENSE",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/dependencies.md",
    "docs/decisions",
    "actors.toml",
    "migrations",
    "aggregates",
    "data",
    "src/main.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folders` with one of these endings: path from the root with `/`, and text.
fn files(folders: &[&str], endings: &[&str]) -> Vec<(String, String)> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            waiting.extend(entries.map(|entry| entry.expect("a readable folder").path()));
        } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push((relative, text));
        }
    }
    found.sort();
    assert!(!found.is_empty() || folders.iter().all(|f| !root().join(f).exists()), "no file below {folders:?}");
    found
}

fn sources() -> Vec<(String, String)> {
    files(&["src"], &["rs"])
}

/// Fails with all findings and what to do about them.
fn none(findings: Vec<String>, advice: &str) {
    assert!(findings.is_empty(), "\n{}\n\n{advice}\n", findings.join("\n"));
}

fn each_source(rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(|(path, text)| rule(path, text)).collect()
}

#[test]
fn dependencies_between_layers_point_down() {
    none(each_source(rules::upward_dependencies), rules::LAYERS_ADVICE);
}

#[test]
fn the_source_knows_no_word_of_the_shipped_domain() {
    none(
        each_source(rules::domain_words),
        "A domain is a TOML file, SQL and data; src/ must serve any. Say it in general words (record, table, \
         orders, sensors in tests), or move it to actors.toml, migrations/ or tests/.",
    );
}

#[test]
fn an_actor_names_no_other_actor() {
    let sources = sources();
    let actors = rules::actors(&sources);
    assert!(!actors.is_empty(), "no `impl Actor for` found below src/actors/: the rule looks in the wrong place");
    none(
        sources.iter().flat_map(|(path, text)| rules::other_actors(path, text, &actors)).collect(),
        "Actors are wired in src/topology.rs alone. Take a channel, a `Recipient<Message>` or a port in `new`; \
         what two actors share goes to src/messages/ or src/core/.",
    );
}

#[test]
fn every_source_file_begins_with_what_it_does() {
    none(each_source(rules::missing_head), "Begin the file with `//!`: what it does, and what it must never do.");
}

#[test]
fn names_say_what_a_thing_is() {
    let mut findings = each_source(rules::vague_names);
    findings
        .extend(files(&["xtask/src", "tests"], &["rs"]).iter().flat_map(|(path, text)| rules::vague_names(path, text)));
    none(findings, "Manager, helper and util name no job. Name it by what it keeps, decides or does.");
}

#[test]
fn nothing_is_left_to_be_done_in_the_code() {
    let texts = files(
        &["src", "xtask/src", "tests", "migrations", "aggregates", "web"],
        &["rs", "sql", "toml", "html", "css", "js"],
    );
    none(
        texts.iter().flat_map(|(path, text)| rules::leftovers(path, text)).collect(),
        "Do it now, or leave it out and file it with the project's issues; code carries no promises.",
    );
}

#[test]
fn every_required_file_is_there() {
    let missing = REQUIRED.iter().filter(|path| !root().join(path).exists());
    none(
        missing.map(|path| format!("{path} is missing")).collect(),
        "Write it. If it is not needed any more, take it off REQUIRED in tests/tidy/main.rs and say why in \
         docs/decisions/.",
    );
}

#[test]
fn every_dependency_has_its_line() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let Ok(page) = fs::read_to_string(root().join("docs/dependencies.md")) else {
        return; // `every_required_file_is_there` says so.
    };
    none(
        rules::unexplained_dependencies(&manifest, &page),
        "Give each crate its line in docs/dependencies.md, its name in backticks: for what, why this one, what it \
         would cost to leave.",
    );
}

#[test]
fn pages_name_only_files_that_exist() {
    let mut pages = files(&["docs"], &["md"]);
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        if let Ok(text) = fs::read_to_string(root().join(page)) {
            pages.push((page.to_owned(), text));
        }
    }
    let exists = |path: &str| root().join(path).exists();
    none(
        pages.iter().flat_map(|(path, text)| rules::dangling_paths(path, text, exists)).collect(),
        "The file was moved or renamed: mend the page.",
    );
}
