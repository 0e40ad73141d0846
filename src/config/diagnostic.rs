//! One finding about a configuration file: where, what is wrong, what to write instead.
//! Must never hold a secret: the source line it carries has secrets replaced before it gets here.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::core::printable::printable;

/// Whether bief can start with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// bief does not start.
    Error,
    /// bief starts; the reader should know.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A finding with its place. `Display` is the plain rendering; `Serialize` is an entry of `check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file as the user named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, with the offending value unless it may be a secret.
    pub message: String,
    /// What to write or do instead.
    pub help: String,
    /// The line of the file, secrets and control characters replaced; empty where there is none to show.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Characters of `source` that are underlined.
    #[serde(skip)]
    pub(super) caret: Range<usize>,
}

impl Diagnostic {
    /// A finding about the file as a whole: it cannot be read, say. It stands at 1:1 and shows no line.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 1,
            column: 1,
            message: message.into(),
            help: help.into(),
            source: String::new(),
            caret: 0..0,
        }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding for people: place and message, the line with the spot underlined, the help. Ends with a newline.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let tone = if self.is_error() { "1;31" } else { "1;33" };
        let mut out = format!(
            "{}:{}:{}: {}: {}\n",
            printable(&self.file),
            self.line,
            self.column,
            paint(tone, self.severity.word()),
            paint("1", &printable(&self.message))
        );
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        if !self.source.is_empty() {
            let before = " ".repeat(self.caret.start);
            let carets = "^".repeat(self.caret.len().max(1));
            out += &format!("{gutter} |\n{number} | {}\n", self.source);
            out += &format!("{gutter} | {before}{}\n", paint(tone, &carets));
        }
        out += &format!("{gutter} {}: {}\n", paint("1;36", "help"), printable(&self.help));
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_place_line_caret_and_help() {
        let finding = Diagnostic {
            severity: Severity::Error,
            file: "actors.toml".into(),
            line: 12,
            column: 1,
            message: "unknown key `lane`".into(),
            help: "did you mean `lanes`?".into(),
            source: "lane = 4".into(),
            caret: 0..4,
        };
        let expected = "actors.toml:12:1: error: unknown key `lane`\n   |\n12 | lane = 4\n   | ^^^^\n   help: did you mean `lanes`?\n";
        assert_eq!(finding.to_string(), expected);
        assert!(finding.render(true).contains("\x1b[1;31merror\x1b[0m"));
    }

    #[test]
    fn a_finding_serializes_without_its_caret() {
        let value = serde_json::to_value(Diagnostic::of_file("a.toml", "cannot be read", "name another")).unwrap();
        assert_eq!(value["severity"], "error");
        assert_eq!(value["line"], 1);
        assert!(value.get("caret").is_none() && value.get("source").is_none());
    }
}
