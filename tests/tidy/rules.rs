//! The rules, as functions from a file to findings (`path:line: what`).

use crate::text::{code_only, crate_paths, identifiers, words};

/// What each top-level module may name. From the top: main, cli, topology; then actors, adapters and http
/// beside each other, none naming another; then what they stand on.
///
/// `messages` and `ports` are one layer: ports take batches and offsets, the status board shows what a port
/// answers, a batch carries its permit of the budget. `metrics` counts what messages carry. Actors get ports, never an adapter.
const MAY_NAME: [(&str, &[&str]); 14] = [
    ("core", &[]),
    ("printing", &[]),
    ("runtime", &["printing"]),
    ("failpoints", &[]),
    ("config", &["core"]),
    ("messages", &["core", "ports", "runtime"]),
    ("ports", &["core", "messages"]),
    ("metrics", &["core", "messages", "ports"]),
    ("http", &["core", "config", "messages", "ports", "metrics", "runtime"]),
    ("adapters", &["core", "config", "messages", "ports", "metrics", "runtime", "failpoints"]),
    ("actors", &["core", "config", "messages", "ports", "metrics", "runtime", "failpoints"]),
    (
        "topology",
        &["core", "config", "messages", "ports", "metrics", "runtime", "failpoints", "http", "adapters", "actors"],
    ),
    (
        "cli",
        &[
            "core",
            "config",
            "messages",
            "ports",
            "metrics",
            "runtime",
            "failpoints",
            "http",
            "adapters",
            "actors",
            "topology",
            "printing",
        ],
    ),
    ("main", &["cli"]),
];

/// Macros live at the crate's root wherever they are written.
const ROOT_MACROS: [&str; 1] = ["failpoint"];

pub const LAYERS_ADVICE: &str = "Dependencies point down: main → cli → topology → actors, adapters, http → ports, \
    messages, metrics, config, runtime → core. Move what both need down (a type to core/ or messages/, a trait to \
    ports.rs), or hand it in from topology.rs. A new top-level module gets its line in MAY_NAME in \
    tests/tidy/rules.rs, with what it may name.";

/// The top-level module that a file of src/ belongs to.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

pub fn upward_dependencies(path: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(path).filter(|m| *m != "lib") else { return Vec::new() };
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{path}:1: the module {module} has no layer")];
    };
    let code = code_only(text);
    // main.rs sees the library by its name.
    let code = if module == "main" { code.replace("bief::", "crate::") } else { code };
    let named = crate_paths(&code).into_iter();
    let upward = named.filter(|(_, other)| {
        other != module && !allowed.contains(&other.as_str()) && !ROOT_MACROS.contains(&other.as_str())
    });
    upward.map(|(line, other)| format!("{path}:{line}: {module} names {other}")).collect()
}

const DOMAIN: [&str; 8] = ["flight", "airport", "airline", "carrier", "aircraft", "tailnum", "weather", "nycflights"];
/// Words of the field that one of them is in.
const NOT_OF_THE_DOMAIN: [&str; 3] = ["inflight", "preflight", "preflights"];

pub fn domain_words(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(n, line)| {
            let words = words(line);
            let bad = words.iter().enumerate().find(|(at, word)| {
                let in_flight = word.as_str() == "flight" && *at > 0 && words[*at - 1] == "in";
                !in_flight && !NOT_OF_THE_DOMAIN.contains(&word.as_str()) && DOMAIN.iter().any(|d| word.contains(d))
            });
            bad.map(|(_, word)| format!("{path}:{}: {word}", n + 1))
        })
        .collect()
}

/// An actor: its module below `actors`, and its type.
pub struct Actor {
    module: String,
    name: String,
}

fn actor_module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/actors/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|module| *module != "mod")
}

/// All actors of src/actors/, from their `impl Actor for`.
pub fn actors(sources: &[(String, String)]) -> Vec<Actor> {
    let mut actors = Vec::new();
    for (path, text) in sources {
        let Some(module) = actor_module(path) else { continue };
        for line in code_only(text).lines() {
            let Some((before, after)) = line.split_once("Actor for ") else { continue };
            let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // One in a test is a neighbour's stand-in.
            let top_level = line.starts_with("impl");
            if top_level && before.trim_end().ends_with(['l', '>', ':']) && !name.is_empty() {
                actors.push(Actor { module: module.to_owned(), name });
            }
        }
    }
    actors
}

pub fn other_actors(path: &str, text: &str, actors: &[Actor]) -> Vec<String> {
    let Some(module) = actor_module(path) else { return Vec::new() };
    let code = code_only(text);
    let mut findings = Vec::new();
    for (line, word) in identifiers(&code) {
        if let Some(other) = actors.iter().find(|a| a.module != module && a.name == word) {
            findings.push(format!("{path}:{line}: names the actor {}", other.name));
        }
    }
    for (n, line) in code.lines().enumerate() {
        for other in actors.iter().filter(|a| a.module != module) {
            let paths = [format!("actors::{}::", other.module), format!("super::{}::", other.module)];
            if paths.iter().any(|p| line.contains(p)) {
                findings.push(format!("{path}:{}: names the module of the actor {}", n + 1, other.name));
            }
        }
    }
    findings
}

pub fn missing_head(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") { Vec::new() } else { vec![format!("{path}:1: no `//!` head")] }
}

const DEFINES: [&str; 8] = ["struct", "enum", "trait", "type", "mod", "fn", "union", "macro_rules"];
const VAGUE: [&str; 6] = ["manager", "managers", "helper", "helpers", "util", "utils"];

/// Names that are defined here; a foreign type may be called as its makers like.
pub fn vague_names(path: &str, text: &str) -> Vec<String> {
    let vague = |name: &str| words(name).iter().any(|word| VAGUE.contains(&word.as_str()));
    let mut findings = Vec::new();
    if vague(path) {
        findings.push(format!("{path}:1: the file's name"));
    }
    let code = code_only(text);
    let mut before = "";
    for (line, word) in identifiers(&code) {
        if DEFINES.contains(&before) && vague(word) {
            findings.push(format!("{path}:{line}: {before} {word}"));
        }
        before = word;
    }
    findings
}

/// In two parts, so that this file passes.
const LEFTOVERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

pub fn leftovers(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(n, line)| {
            let mut words = line.split(|c: char| !c.is_alphanumeric());
            words.find(|w| LEFTOVERS.contains(w)).map(|word| format!("{path}:{}: {word}", n + 1))
        })
        .collect()
}

/// Crates of `[dependencies]` that the page does not name in backticks.
pub fn unexplained_dependencies(manifest: &str, page: &str) -> Vec<String> {
    let mut within = false;
    let mut findings = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line == "[dependencies]" || (line.starts_with("[target.") && line.ends_with(".dependencies]"));
        } else if within && let Some((name, _)) = line.split_once(['=', '.']) {
            let name = name.trim();
            if !name.is_empty() && !name.starts_with('#') && !page.contains(&format!("`{name}`")) {
                findings.push(format!("docs/dependencies.md has no line for `{name}`"));
            }
        }
    }
    findings
}

/// Folders whose files pages name.
const NAMED_FOLDERS: [&str; 8] =
    ["src/", "docs/", "tests/", "migrations/", "aggregates/", "xtask/", "data/", "grafana/"];

/// Paths in backticks that lead nowhere. Patterns and placeholders are left alone.
pub fn dangling_paths(page: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(n, line)| line.split('`').skip(1).step_by(2).map(move |quoted| (n + 1, quoted)))
        .filter(|(_, quoted)| NAMED_FOLDERS.iter().any(|folder| quoted.starts_with(folder)))
        .filter(|(_, quoted)| !quoted.contains(['*', '{', '<', '$', ' ', '…', 'N']))
        .filter(|(_, quoted)| !exists(quoted.split(':').next().unwrap_or(quoted)))
        .map(|(line, quoted)| format!("{page}:{line}: {quoted} does not exist"))
        .collect()
}

#[test]
fn an_upward_dependency_is_found() {
    let finds = |path, text| upward_dependencies(path, text);
    assert_eq!(
        finds("src/core/cell.rs", "\nuse crate::messages::Record;"),
        ["src/core/cell.rs:2: core names messages"]
    );
    assert_eq!(finds("src/actors/writer.rs", "fn f(x: crate::adapters::mysql::X) {}").len(), 1);
    assert_eq!(finds("src/runtime/unit.rs", "use crate::{\n core,\n ports::Clock};").len(), 2);
    assert_eq!(finds("src/ports.rs", "use crate::core::cell; // crate::cli").len(), 0);
    assert_eq!(finds("src/main.rs", "bief::topology::run()"), ["src/main.rs:1: main names topology"]);
    assert_eq!(finds("src/actors/writer.rs", "crate::failpoint!(\"x\");\nuse crate::actors::writer::plan;").len(), 0);
    assert_eq!(finds("src/novelty/mod.rs", ""), ["src/novelty/mod.rs:1: the module novelty has no layer"]);
}

#[test]
fn a_word_of_the_domain_is_found_and_in_flight_is_none() {
    let found = domain_words(
        "src/a.rs",
        "// the Airport\nlet origin_airports = 1;\nstruct TailnumColumn;\nfn bad_weather() {}",
    );
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(domain_words("src/a.rs", "in-flight in_flight inflight InFlight preflight").is_empty());
}

#[test]
fn an_actor_that_names_another_is_found() {
    let reader = ("src/actors/reader.rs".to_owned(), "impl Actor for Reader {}".to_owned());
    let writer = ("src/actors/writer/mod.rs".to_owned(), "impl actix::Actor for Writer {}".to_owned());
    let actors = actors(&[reader, writer]);
    assert_eq!(actors.len(), 2);
    assert_eq!(other_actors("src/actors/reader.rs", "x: Addr<Writer>", &actors).len(), 1);
    assert_eq!(other_actors("src/actors/reader/part.rs", "use super::super::writer::plan;", &actors).len(), 1);
    assert_eq!(other_actors("src/actors/reader.rs", "// the Writer\nstruct Reader; WriterSettings", &actors).len(), 0);
    assert_eq!(other_actors("src/topology.rs", "Writer, Reader", &actors).len(), 0);
}

#[test]
fn a_file_without_a_head_is_found() {
    assert_eq!(missing_head("src/a.rs", "// What it does.\n//! late").len(), 1);
    assert_eq!(missing_head("src/a.rs", "//! What it does.\n").len(), 0);
}

#[test]
fn a_vague_name_is_found_where_it_is_defined() {
    let text = ["struct OffsetMana", "ger; fn use_it(m: &SchemaMana", "ger) {} mod string_ut", "ils {}"].concat();
    let found = vague_names("src/a.rs", &text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(vague_names(concat!("src/ut", "il.rs"), "").len(), 1);
    assert_eq!(vague_names("src/a.rs", "struct Utility; fn process() {}").len(), 0);
}

#[test]
fn a_leftover_is_found() {
    let text = format!("fine\n// {}: later\n-- {}", LEFTOVERS[0], LEFTOVERS[1]);
    assert_eq!(leftovers("a.sql", &text), [format!("a.sql:2: {}", LEFTOVERS[0]), format!("a.sql:3: {}", LEFTOVERS[1])]);
    assert!(leftovers("a.rs", "todo!() is a lint's matter; MasTODOn").is_empty());
}

#[test]
fn a_dependency_without_a_line_is_found() {
    let manifest = "[dependencies]\n# why\nserde = \"1\"\ntokio.workspace = true\n[dev-dependencies]\ninsta = \"1\"\n";
    assert_eq!(unexplained_dependencies(manifest, "| `serde` | …"), ["docs/dependencies.md has no line for `tokio`"]);
}

#[test]
fn a_page_that_names_a_missing_file_is_found() {
    let text = "see `src/a.rs` and `src/b.rs:12`, `src/*.rs`, `docs/decisions/NNNN-title.md`, `cargo test`";
    assert_eq!(dangling_paths("README.md", text, |p| p == "src/a.rs"), ["README.md:1: src/b.rs:12 does not exist"]);
}
