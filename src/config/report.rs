//! What `check` says about a file: for people and as JSON.

use serde_json::{Value, json};

use super::Brokers;
use super::database_url::Backend;
use super::diagnostic::{Diagnostic, Severity};
use super::load::Loaded;

/// The findings about one file.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file as the user named it.
    pub file: String,
    /// In the file's order.
    pub diagnostics: Vec<Diagnostic>,
    /// What the file describes, in a few words, where it is sound.
    summary: Option<String>,
}

/// All that can be told without a database and a broker: the findings of `load`, files that are not there, and queries
/// that are none.
pub fn report(file: &str, outcome: &Result<Loaded, Vec<Diagnostic>>) -> Report {
    match outcome {
        Ok(loaded) => {
            let mut diagnostics = loaded.warnings.clone();
            diagnostics.extend(missing_files(loaded));
            diagnostics.extend(super::faulty_queries(loaded));
            let mut report = Report { file: file.to_owned(), diagnostics, summary: Some(summary(loaded)) };
            report.sort();
            report
        }
        Err(diagnostics) => Report { file: file.to_owned(), diagnostics: diagnostics.clone(), summary: None },
    }
}

/// Files and folders that the configuration names and that are not there or not of that kind.
/// Those of a replay are warnings, since only `replay` and `demo` read them.
pub fn missing_files(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for named in &loaded.paths {
        let (kind, other) = if named.folder { ("folder", "file") } else { ("file", "folder") };
        let what = match std::fs::metadata(&named.path) {
            Ok(found) if found.is_dir() == named.folder => continue,
            Ok(_) => format!("is a {other}, not a {kind}"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is not there".to_owned(),
            Err(error) => format!("cannot be read: {}", super::secrets::cause(&error)),
        };
        let severity = if named.needed { Severity::Error } else { Severity::Warning };
        findings.push(loaded.at_span(
            severity,
            &named.span,
            format!("`{}` = {} {what}", named.key, super::source::quoted(&named.raw)),
            "correct the path; a relative one starts at this configuration file's folder".to_owned(),
        ));
    }
    findings
}

fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let tables: std::collections::BTreeSet<String> = config
        .streams
        .iter()
        .flat_map(|stream| stream.tables.iter().map(|table| table.table.to_ascii_lowercase()))
        .collect();
    let from = if config.kafka.brokers == Brokers::Embedded { "the embedded broker" } else { "Kafka" };
    let to = match config.warehouse.backend() {
        Backend::MySql => "MySQL",
        Backend::Sqlite => "SQLite",
    };
    let (streams, tables) = (count(config.streams.len(), "stream"), count(tables.len(), "table"));
    let aggregates = match config.aggregates.len() {
        0 => String::new(),
        many => format!(", {}", count(many, "aggregate")),
    };
    format!("{streams} from {from} to {tables} in {to}{aggregates}")
}

impl Report {
    /// Adds what the database and the broker told.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.diagnostics.extend(diagnostics);
        self.sort();
    }

    fn sort(&mut self) {
        self.diagnostics.sort_by_key(|d| (d.line, d.column));
    }

    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.is_error()).count()
    }

    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// bief can start with it.
    pub fn is_sound(&self) -> bool {
        self.errors() == 0
    }

    /// For people: each finding, then one line with their number.
    pub fn text(&self, colour: bool) -> String {
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            out += &diagnostic.render(colour);
            out.push('\n');
        }
        let warnings = count(self.warnings(), "warning");
        let verdict = match (self.errors(), self.warnings(), &self.summary) {
            (0, 0, Some(summary)) => format!("sound: {summary}"),
            (0, _, Some(summary)) => format!("sound, with {warnings}: {summary}"),
            (errors, 0, _) => count(errors, "error"),
            (errors, _, _) => format!("{}, {warnings}", count(errors, "error")),
        };
        out += &format!("{}: {verdict}\n", crate::core::printable::printable(&self.file));
        out
    }

    /// `{file, ok, errors, warnings, diagnostics: [{severity, file, line, column, message, help, source}]}`.
    pub fn json(&self) -> Value {
        json!({
            "file": self.file,
            "ok": self.is_sound(),
            "errors": self.errors(),
            "warnings": self.warnings(),
            "diagnostics": self.diagnostics,
        })
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
