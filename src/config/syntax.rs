//! Where a file is not TOML: the parser's errors in words that say what to write.
//! Must never repeat the text it complains about, which may be a secret.

use toml::de::Error;

use super::diagnostic::Severity;
use super::reader::Finding;

const DUPLICATE: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted";
/// How the parser's messages start about what ends with the line.
const WITHIN_A_VALUE: [&str; 8] = [
    UNQUOTED,
    "invalid basic string",
    "invalid literal string",
    "missing escaped value",
    "unexpected leading zero",
    "redundant numeric sign",
    "invalid integer",
    "invalid float",
];

/// One finding a line.
pub(super) fn findings(text: &str, errors: &[Error]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut lines = std::collections::HashSet::new();
    for error in errors {
        let end = text.trim_end().len();
        let span = error.span().filter(|span| span.start < text.len()).unwrap_or(end.saturating_sub(1)..end);
        let start = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let line = text[..start].matches('\n').count();
        if !lines.insert(line) {
            continue;
        }
        findings.push(Finding {
            severity: Severity::Error,
            span: start..span.end.max(start),
            message: match error.message() {
                DUPLICATE => "this key or section is there already".into(),
                other => format!("not TOML: {}", other.trim_end_matches(", expected nothing")),
            },
            help: help(error.message()).into(),
        });
    }
    findings
}

/// The errors leave no doubt about what belongs to which section, so that the rest of the file can be checked:
/// all of them lie within single values of one line.
pub(super) fn is_shape_known(errors: &[Error]) -> bool {
    errors.iter().all(|error| {
        let message = error.message();
        message == DUPLICATE || WITHIN_A_VALUE.iter().any(|start| message.starts_with(start))
    })
}

fn help(message: &str) -> &'static str {
    match message {
        DUPLICATE => "remove one of the two, or write [[…]] where a section may be repeated",
        m if m.starts_with(UNQUOTED) => "put the value in quotes: key = \"value\"",
        m if m.contains("unclosed array table") => "close the header with two brackets: [[section]]",
        m if m.contains("unclosed table") => "close the header with a bracket: [section]",
        m if m.contains("unclosed array") => "close the list with a bracket: key = [\"a\", \"b\"]",
        m if m.contains("inline table") => "write key = { a = \"b\", c = \"d\" }",
        m if m.contains("comma") => "separate entries with one comma each",
        m if m.contains("key with no value") || m.contains("missing value") => "write key = value",
        m if m.contains("unquoted key") => {
            "put a key with other characters than letters, digits, `_` and `-` in quotes"
        }
        m if m.contains("string") || m.contains("quote") || m.contains("escape") => {
            "close the text with the quote it starts with; write a backslash as \\\\ or use single quotes"
        }
        m if m.contains("zero") || m.contains("sign") || m.contains("number") || m.contains("float") => {
            "write numbers plainly, such as 10 or 0.5, and text in quotes"
        }
        m if m.contains("recurs") => "nest less deeply",
        _ => "write one `key = value` or one [section] a line",
    }
}
