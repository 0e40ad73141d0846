//! What `grafana/` hands to Grafana and Prometheus: dashboards and alerts name only series, labels, tables and columns
//! that are there, load as they are, and every alert has its tests and its part of docs/runbook.md. Without promtool
//! what it would tell is left out.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use bief::messages::LiveError;
use bief::metrics::Metrics;
use serde_json::Value;

/// Labels that Prometheus adds, and the one of a histogram's buckets.
const OTHER_LABELS: [&str; 3] = ["job", "instance", "le"];

/// Words of PromQL, and what Grafana asks for the values of a variable with.
const LANGUAGE: [&str; 20] = [
    "absent",
    "and",
    "avg",
    "by",
    "changes",
    "count",
    "deriv",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "min",
    "min_over_time",
    "on",
    "rate",
    "sum",
    "time",
    "up",
    "without",
    "or",
];

/// What Grafana itself puts in.
const GRAFANAS: [&str; 4] = ["__rate_interval", "__interval", "__timeFilter", "__timeGroupAlias"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Name, text and content of each dashboard.
fn dashboards() -> Vec<(String, String, Value)> {
    let mut names: Vec<String> = std::fs::read_dir(folder().join("dashboards"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let open = |name: String| {
        let text = read(&format!("grafana/dashboards/{name}"));
        let content = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, text, content)
    };
    names.into_iter().map(open).collect()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

fn variables(dashboard: &Value) -> &Vec<Value> {
    dashboard["templating"]["list"].as_array().unwrap()
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every query of a dashboard under this key, with where it is from; those of variables too, whatever their form.
fn queries(name: &str, dashboard: &Value, key: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            if let Some(query) = target[key].as_str() {
                found.push((format!("{name}, {}", text_of(panel, "title")), query.to_owned()));
            }
        }
    }
    for variable in variables(dashboard).iter().filter(|v| v["type"] == "query") {
        let is_prometheus = variable["datasource"]["type"] == "prometheus";
        if is_prometheus == (key == "expr") {
            let query = variable["query"]["query"].as_str().or(variable["query"].as_str()).unwrap();
            found.push((format!("{name}, variable {}", text_of(variable, "name")), query.to_owned()));
        }
    }
    found
}

/// One alert of rules.yml: `expr` and the keys of labels and annotations.
struct Rule {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Rule {
    fn field(&self, key: &str) -> &str {
        self.fields.get(key).map(String::as_str).unwrap_or_default()
    }
}

/// Reads the form that rules.yml keeps to; promtool reads all of YAML.
fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in read("grafana/prometheus/rules.yml").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            rules.push(Rule { name: name.to_owned(), fields: BTreeMap::new() });
        } else if let Some(rule) = rules.last_mut()
            && !line.starts_with('#')
        {
            match line.split_once(": ") {
                Some(("expr", "|")) => {}
                Some((key, value)) => {
                    rule.fields.insert(key.to_owned(), value.trim_matches('"').to_owned());
                }
                // A line of an expression that has several.
                None if !line.ends_with(':') => {
                    let expr = rule.fields.entry("expr".to_owned()).or_default();
                    expr.push_str(line);
                    expr.push(' ');
                }
                None => {}
            }
        }
    }
    rules
}

/// Every PromQL expression of dashboards and rules, with where it is from.
fn expressions() -> Vec<(String, String)> {
    let mut all: Vec<_> = dashboards().iter().flat_map(|(name, _, content)| queries(name, content, "expr")).collect();
    all.extend(rules().into_iter().map(|rule| (rule.name.clone(), rule.field("expr").to_owned())));
    assert!(all.len() > 50, "only {} expressions", all.len());
    all
}

/// A family of /metrics.
#[derive(Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

/// What the daemon answers at /metrics, by name.
fn registered() -> BTreeMap<String, Family> {
    let metrics = Metrics::new("1.2.3", "abcdef0");
    let stream = metrics.stream("orders");
    stream.blocked_seconds("decoder");
    stream.queue("decoder", 4);
    metrics.rows_written("customer");
    metrics.actor_restarts("writer-0");
    metrics.aggregate("sums");
    metrics.reconcile(&["sums"]);
    metrics.source("order.at/1h");
    let live = LiveError {
        horizon: "1h".to_owned(),
        scored: 1,
        mae: Some(2.0),
        holdout_mae: 1.0,
        ratio: Some(2.0),
        drifted: true,
    };
    metrics.forecast("tides").live(&live);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut last = String::new();
    for line in metrics.render().lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut last);
            families.insert(last.clone(), Family { kind: kind.to_owned(), ..Family::default() });
        } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let labels = labels.split('}').next().unwrap_or_default().split(',');
            let names = labels.filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            families.get_mut(&last).unwrap().labels.extend(names);
        }
    }
    families
}

/// The family that a series is of: its own, or the histogram that it is a part of.
fn family<'a>(families: &'a BTreeMap<String, Family>, series: &str) -> Option<&'a Family> {
    let whole = families.get(series).filter(|family| family.kind != "histogram");
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| series.strip_suffix(part));
    whole.or_else(|| parts.filter_map(|name| families.get(name)).find(|family| family.kind == "histogram"))
}

/// Identifiers of an expression: not what is quoted, not numbers, durations and variables.
fn words(expression: &str) -> Vec<&str> {
    let outside = expression.split('"').step_by(2);
    let words = outside.flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')));
    words.filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_')).collect()
}

fn is_series(word: &str) -> bool {
    word.starts_with("bief_") || word.starts_with("process_")
}

/// Elsewhere than on Linux the series of the process are not there.
fn may_be_missing(series: &str) -> bool {
    cfg!(not(target_os = "linux")) && series.starts_with("process_")
}

#[test]
fn dashboards_and_rules_name_only_series_and_labels_that_the_daemon_has() {
    let families = registered();
    let labels: BTreeSet<&str> =
        families.values().flat_map(|f| f.labels.iter().map(String::as_str)).chain(OTHER_LABELS).collect();
    for (place, expression) in expressions() {
        let mut named = 0;
        for word in words(&expression) {
            if is_series(word) {
                named += 1;
                assert!(may_be_missing(word) || family(&families, word).is_some(), "{place}: no series {word}");
            } else {
                named += usize::from(word == "up");
                let known = LANGUAGE.contains(&word) || labels.contains(word);
                assert!(known, "{place}: {word} is no label of any series, and no word of PromQL that is used here");
            }
        }
        assert!(named > 0, "{place} asks for no series: {expression}");
    }
}

#[test]
fn rates_are_taken_of_counters_and_of_nothing_else() {
    let families = registered();
    for (place, expression) in expressions() {
        for function in ["rate(", "increase("] {
            for (_, rest) in expression.match_indices(function).map(|(at, _)| expression.split_at(at + function.len()))
            {
                let series = words(rest).first().copied().unwrap_or_default();
                let kind = family(&families, series).map(|family| family.kind.as_str());
                let counts = matches!(kind, Some("counter" | "histogram"));
                assert!(counts || may_be_missing(series), "{place}: {function}{series} of a {kind:?}");
            }
        }
        let is_counter = |word: &&str| family(&families, word).is_some_and(|family| family.kind == "counter");
        for counter in words(&expression).into_iter().filter(is_counter) {
            let read = ["rate(", "increase("].iter().any(|f| expression.contains(&format!("{f}{counter}")));
            assert!(read, "{place}: the counter {counter} starts anew with the process; take its rate");
        }
    }
}

#[test]
fn a_misspelt_series_or_label_would_be_found() {
    let families = registered();
    assert!(family(&families, "bief_lag_records").is_some());
    assert!(family(&families, "bief_commit_duration_seconds_bucket").is_some());
    assert!(family(&families, "bief_commit_duration_seconds").is_none(), "a histogram has no series of its name");
    assert!(family(&families, "bief_lag_records_bucket").is_none());
    assert!(families["bief_dead_letters_total"].labels.contains("reason"));
    assert_eq!(
        words("sum by (le) (rate(bief_x{a=~\"$b.c\"}[$__rate_interval])) > 0.5 and y[15m:1m]"),
        ["sum", "by", "le", "rate", "bief_x", "a", "and", "y"]
    );
}

#[test]
fn every_datasource_is_the_variable_and_nothing_is_left_of_an_export() {
    fn every_datasource(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("datasource").cloned());
                fields.values().for_each(|field| every_datasource(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| every_datasource(item, found)),
            _ => {}
        }
    }
    for (name, text, content) in dashboards() {
        for leftover in ["DS_", "__inputs", "__requires", "__elements", "-- Grafana --", "-- Mixed --"] {
            assert!(!text.contains(leftover), "{name}: {leftover}");
        }
        let chosen: Vec<_> = variables(&content).iter().filter(|v| v["type"] == "datasource").collect();
        assert_eq!(chosen.len(), 1, "{name}: one variable of type datasource");
        assert_eq!(text_of(chosen[0], "name"), "datasource", "{name}");
        let mut datasources = Vec::new();
        every_datasource(&content, &mut datasources);
        assert!(datasources.len() > panels(&content).len(), "{name}");
        for datasource in datasources {
            assert_eq!(text_of(&datasource, "uid"), "${datasource}", "{name}: {datasource}");
            assert_eq!(datasource["type"], chosen[0]["query"], "{name}: {datasource}");
        }
    }
}

#[test]
fn dashboards_and_panels_have_names_of_their_own_and_room() {
    let mut uids = BTreeSet::new();
    for (name, _, content) in dashboards() {
        assert!(content.get("id").is_none(), "{name}: an id is given by the Grafana that has the dashboard");
        assert!(uids.insert(text_of(&content, "uid").to_owned()) && uids.iter().all(|uid| !uid.is_empty()), "{name}");
        let (mut ids, mut titles, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in panels(&content) {
            let title = text_of(panel, "title");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: the id of {title} is there twice");
            let is_row = panel["type"] == "row";
            assert!(!title.is_empty() && (is_row || titles.insert(title.to_owned())), "{name}: {title} is there twice");
            assert!(is_row || !text_of(panel, "description").is_empty(), "{name}: {title} has no description");
            assert!(
                is_row || panel["targets"].as_array().is_some_and(|t| !t.is_empty()),
                "{name}: {title} asks nothing"
            );
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {title} is beyond the edge");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{name}: {title} covers another panel");
                }
            }
            let references: BTreeSet<&str> =
                panel["targets"].as_array().into_iter().flatten().map(|t| text_of(t, "refId")).collect();
            assert_eq!(references.len(), panel["targets"].as_array().map_or(0, Vec::len), "{name}: {title}: refId");
        }
    }
}

#[test]
fn the_pipeline_begins_with_rate_errors_and_duration() {
    let (_, _, content) = dashboards().into_iter().find(|(name, ..)| name == "pipeline.json").unwrap();
    let titles: Vec<&str> = panels(&content).iter().map(|panel| text_of(panel, "title")).take(4).collect();
    assert_eq!(
        titles,
        ["Rate, errors, duration", "Records a second", "Errors a second", "From append to commit"],
        "what is looked at first when something is wrong"
    );
}

#[test]
fn queries_use_only_variables_that_are_there() {
    for (name, _, content) in dashboards() {
        let own: BTreeSet<&str> = variables(&content).iter().map(|v| text_of(v, "name")).collect();
        for (place, query) in queries(&name, &content, "expr").into_iter().chain(queries(&name, &content, "rawSql")) {
            for part in query.split('$').skip(1) {
                let part = part.trim_start_matches('{');
                let variable = part.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
                assert!(own.contains(variable) || GRAFANAS.contains(&variable), "{place}: ${variable}");
            }
        }
    }
}

/// Columns by table, from the migrations.
fn tables() -> BTreeMap<String, BTreeSet<String>> {
    let mut tables = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).unwrap() {
        let sql = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (_, rest) in sql.match_indices("CREATE TABLE ").map(|(at, word)| sql.split_at(at + word.len())) {
            let (name, body) = rest.split_once(" (").unwrap();
            let body = body.split("\n);").next().unwrap();
            let columns =
                body.lines().filter_map(|line| line.trim().split_once(' ')).map(|(first, _)| first.to_owned());
            let columns = columns.filter(|first| first.chars().all(|c| c.is_lowercase() || c == '_'));
            tables.insert(name.to_owned(), columns.collect());
        }
    }
    tables
}

#[test]
fn sql_names_only_tables_and_columns_of_the_migrations_and_reads_the_time_shown_alone() {
    let tables = tables();
    assert!(tables.len() == 5 && tables["flight"].contains("dep_delay"), "{tables:?}");
    let (name, _, content) = dashboards().into_iter().find(|(name, ..)| name == "domain.json").unwrap();
    let queries = queries(&name, &content, "rawSql");
    assert!(queries.len() > 15);
    for (place, query) in queries {
        let words: Vec<&str> = query.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
        let mut aliases = BTreeMap::new();
        for pair in words.windows(3).filter(|pair| ["FROM", "JOIN"].contains(&pair[0]) && pair[1] != "SELECT") {
            assert!(tables.contains_key(pair[1]), "{place}: no table {}", pair[1]);
            aliases.insert(pair[2], pair[1]);
        }
        assert!(!aliases.is_empty(), "{place}: {query}");
        for (alias, column) in words.iter().filter_map(|word| word.split_once('.')) {
            // An alias of a table in brackets, and numbers, are not among them.
            let Some(table) = aliases.get(alias) else { continue };
            assert!(tables[*table].contains(column), "{place}: {table} has no column {column}");
        }
        let filter = match aliases.values().copied().find(|table| ["flight", "weather"].contains(table)) {
            _ if place.contains("variable") => continue,
            Some("weather") if !query.contains("flight") => "$__timeFilter(w.observed_at)",
            _ => "$__timeFilter(f.scheduled_departure)",
        };
        assert!(query.contains(filter), "{place} reads all of the table");
    }
}

#[test]
fn every_alert_has_a_severity_texts_and_its_part_of_the_runbook() {
    let runbook = read("docs/runbook.md");
    let headings: BTreeSet<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).filter(|h| h.starts_with("Bief")).collect();
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names.len(), rules.len(), "each name once");
    assert_eq!(headings, names, "docs/runbook.md has a part for each alert and for nothing else");
    for rule in &rules {
        let name = &rule.name;
        assert!(["critical", "warning"].contains(&rule.field("severity")), "{name}: {}", rule.field("severity"));
        assert!(rule.field("summary").len() > 20 && !rule.field("summary").ends_with('.'), "{name}: summary");
        assert!(rule.field("description").ends_with('.'), "{name}: the description is sentences");
        assert_eq!(rule.field("runbook_url"), format!("docs/runbook.md#{}", name.to_lowercase()));
    }
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let (mut firing, mut silent, mut current) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for line in read("grafana/prometheus/rules_test.yml").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alertname: ") {
            name.clone_into(&mut current);
        } else if line == "exp_alerts: []" {
            silent.insert(current.clone());
        } else if line == "exp_alerts:" {
            firing.insert(current.clone());
        }
    }
    let names: BTreeSet<String> = rules().into_iter().map(|rule| rule.name).collect();
    assert_eq!(firing, names, "a case in which it fires");
    assert_eq!(silent, names, "a case in which it does not");
}

/// Runs promtool in the folder, which must succeed; where it is not installed nothing is asked.
fn promtool(folder: &Path, arguments: &[&str]) {
    match Command::new("promtool").args(arguments).current_dir(folder).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: promtool {} (Debian has it in its package prometheus)", arguments.join(" "));
        }
        Err(e) => panic!("promtool: {e}"),
        Ok(output) => {
            let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(output.status.success(), "promtool {}:\n{told}", arguments.join(" "));
        }
    }
}

#[test]
fn promtool_takes_the_configuration_and_the_rules_and_their_tests_pass() {
    let folder = folder().join("prometheus");
    promtool(&folder, &["check", "config", "prometheus.yml"]);
    promtool(&folder, &["check", "rules", "rules.yml"]);
    promtool(&folder, &["test", "rules", "rules_test.yml"]);
}

#[test]
fn promtool_takes_every_expression_of_the_dashboards() {
    let mut rules = "groups:\n  - name: dashboards\n    rules:\n".to_owned();
    for (name, _, content) in dashboards() {
        for (at, (_, query)) in queries(&name, &content, "expr").into_iter().enumerate() {
            if !query.starts_with("label_values(") {
                let query = query.replace("$__rate_interval", "1m").replace('\'', "''");
                rules += &format!("      - record: dashboard:{at}:expression\n        expr: '{query}'\n");
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("expressions.yml"), rules).unwrap();
    promtool(folder.path(), &["check", "rules", "expressions.yml"]);
}
