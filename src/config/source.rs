//! The text of a configuration file: places for byte offsets, and lines that can be shown.
//! A line is never shown with what may be a secret in it, nor with control characters.

use std::ops::Range;

use super::Location;
use super::diagnostic::{Diagnostic, Severity};
use super::schema::ROOT;
use crate::core::printable::is_dangerous;

/// Stands for what is not shown.
pub(super) const MASK: &str = "***";

/// Sections whose lines hold no secret, for files whose syntax is broken and whose values are thus not known.
const HARMLESS_SECTIONS: [&str; 7] = [
    "[[stream]]",
    "[[stream.table]]",
    "[stream.table.columns]",
    "[[aggregate]]",
    "[[replay]]",
    "[[replay.lookup]]",
    "[replay.lookup.take]",
];
/// Keys of the other sections that hold no secret.
const HARMLESS_KEYS: [&str; 17] = [
    "brokers",
    "group",
    "tls",
    "ca",
    "migrations",
    "load",
    "name",
    "http",
    "allowed_hosts",
    "auth",
    "metrics_auth",
    "memory",
    "drain_timeout",
    "on_fatal",
    "restart_budget",
    "restart_window",
    "log",
];
/// A key with one of these in its name is hidden wherever it stands.
const TELLING_WORDS: [&str; 7] = ["pass", "secret", "token", "credential", "private", "webhook", "pwd"];

/// A file's text with what must be hidden of it.
#[derive(Clone)]
pub(super) struct SourceText {
    pub file: String,
    pub text: String,
    /// Byte offset of each line's start.
    starts: Vec<usize>,
    /// Byte ranges that are shown as `***`, in order and apart once `hide` has run.
    masks: Vec<Range<usize>>,
}

impl SourceText {
    pub fn new(file: &str, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut source = Self { file: file.to_owned(), text: text.to_owned(), starts, masks: Vec::new() };
        source.hide(credentials(text));
        source
    }

    /// Hides more of the text.
    pub fn hide(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        let mut all = std::mem::take(&mut self.masks);
        all.extend(ranges.into_iter().filter(|r| r.start < r.end));
        all.sort_by_key(|r| r.start);
        for range in all {
            match self.masks.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => self.masks.push(range),
            }
        }
    }

    /// Hides by the look of each line what may be a secret: for files that cannot be parsed.
    pub fn hide_by_line(&mut self) {
        let mut harmless_section = false;
        let mut ranges = Vec::new();
        for line in 0..self.starts.len() {
            let range = self.line_range(line);
            let text = &self.text[range.clone()];
            let trimmed = text.trim();
            if trimmed.starts_with('[') {
                let header = trimmed.split('#').next().unwrap_or("").trim();
                harmless_section = HARMLESS_SECTIONS.contains(&header);
                if is_header(header) {
                    continue;
                }
            }
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let (key, value_at) = match text.find('=') {
                Some(at) => (text[..at].trim(), range.start + at + 1),
                None => ("", range.start),
            };
            let telling = TELLING_WORDS.iter().any(|word| key.to_ascii_lowercase().contains(word));
            // Where the end of a line was lost, another key's value follows, or another section begins.
            let value = text.get(value_at - range.start..).unwrap_or_default();
            harmless_section &= !text.rfind('[').is_some_and(|at| is_header(text[at..].trim_end()));
            if !telling && (harmless_section || (HARMLESS_KEYS.contains(&key) && is_one_value(value))) {
                continue;
            }
            // A line's start is shown only where it is a key that bief knows: it may as well be a secret's second line.
            let name = key.trim_matches(['"', '\'']);
            let plain_key = super::properties::is_prefix(name) || ROOT.all().iter().any(|s| s.key(name).is_some());
            ranges.push(if plain_key { value_at..range.end } else { range });
        }
        self.hide(ranges);
    }

    /// Line and column of a byte offset.
    pub fn locate(&self, offset: usize) -> Location {
        let line = self.starts.partition_point(|&start| start <= offset).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let column = self.text.get(start..offset.min(self.text.len())).map_or(0, |s| s.chars().count());
        Location { line: line + 1, column: column + 1 }
    }

    /// The byte range of the word or quoted text that starts at a place.
    pub fn token_at(&self, location: Location) -> Range<usize> {
        let range = self.line_range(location.line.saturating_sub(1));
        let line = &self.text[range.clone()];
        let from = line.char_indices().nth(location.column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
        let mut rest = line[from..].char_indices();
        let length = match rest.next() {
            None => 0,
            Some((_, quote @ ('"' | '\''))) => rest.find(|&(_, c)| c == quote).map_or(1, |(at, _)| at + 1),
            Some((_, first)) => rest
                .find(|(_, c)| !c.is_alphanumeric() && !"_-.$".contains(*c))
                .map_or(line.len() - from, |(at, _)| at)
                .max(first.len_utf8()),
        };
        range.start + from..range.start + from + length
    }

    /// A finding about a byte range; only its first line is shown.
    pub fn diagnostic(&self, severity: Severity, span: Range<usize>, message: String, help: String) -> Diagnostic {
        let location = self.locate(span.start);
        // A finding about the file as a whole has nothing to underline.
        let whole = span == (0..0);
        let (source, caret) = if whole { (String::new(), 0..0) } else { self.show_line(location.line - 1, &span) };
        Diagnostic {
            severity,
            file: self.file.clone(),
            line: location.line,
            column: location.column,
            message,
            help,
            source,
            caret,
        }
    }

    /// Without the line's end.
    fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.starts.get(line).copied().unwrap_or(self.text.len());
        let end = self.starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or("");
        start..start + text.strip_suffix('\r').unwrap_or(text).len()
    }

    /// The line as it may be shown, and the characters of it that `span` covers.
    fn show_line(&self, line: usize, span: &Range<usize>) -> (String, Range<usize>) {
        let range = self.line_range(line);
        let (mut shown, mut width) = (String::new(), 0);
        let (mut first, mut last) = (None, 0);
        let mut masked_until = range.start;
        // The quote that the text at hand started with, and whether a backslash escapes in it.
        let (mut quote, mut escaped) = (None, false);
        for (at, c) in self.text[range.clone()].char_indices() {
            let at = range.start + at;
            let covered = span.contains(&at);
            if covered && first.is_none() {
                first = Some(if at < masked_until { width - MASK.len() } else { width });
            }
            if at >= masked_until {
                match self.masks.iter().find(|mask| mask.contains(&at)) {
                    Some(mask) => {
                        masked_until = mask.end;
                        shown.push_str(MASK);
                        width += MASK.len();
                    }
                    // A comment may hold yesterday's password.
                    None if c == '#' && quote.is_none() => {
                        shown.push_str("# …");
                        width += 3;
                        break;
                    }
                    None => {
                        match quote {
                            Some((open, _)) if c == open && !escaped => quote = None,
                            None if c == '"' || c == '\'' => quote = Some((c, c == '"')),
                            _ => {}
                        }
                        escaped = c == '\\' && !escaped && quote.is_some_and(|(_, escapes)| escapes);
                        let piece = if c == '\t' { " ".to_owned() } else { visible(c) };
                        width += piece.chars().count();
                        shown.push_str(&piece);
                    }
                }
            }
            if covered {
                last = width;
            }
        }
        let first = first.unwrap_or(if span.start <= range.start { 0 } else { width });
        (shown, first..last.max(first + 1))
    }
}

/// A number, a text or a list of them, also one that is not closed or not quoted, and nothing behind it.
fn is_one_value(text: &str) -> bool {
    let is_end = |rest: &str| rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
    let text = text.trim_start();
    let behind_text = |text: &str| {
        let quote = text.chars().next()?;
        text[1..].find(quote).map(|at| at + 2)
    };
    match text.chars().next() {
        None => true,
        Some('"' | '\'') => match behind_text(text) {
            Some(end) => is_end(&text[end..]),
            None => !text[1..].contains(['"', '\'', '=']),
        },
        Some('[') => {
            let mut rest = text[1..].trim_start_matches([' ', '\t', ',']);
            while rest.starts_with(['"', '\'']) {
                let Some(end) = behind_text(rest) else { return false };
                rest = rest[end..].trim_start_matches([' ', '\t', ',']);
            }
            rest.strip_prefix(']').is_some_and(is_end)
        }
        Some(_) => {
            let end = text.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(text.len());
            !text[..end].contains(['"', '\'', '=', '[', '{']) && is_end(&text[end..])
        }
    }
}

/// A table's header rather than a line of an array.
fn is_header(text: &str) -> bool {
    let name = text.trim_matches(['[', ']']);
    text.ends_with(']') && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b))
}

/// The passwords of URLs, `://user:HERE@`, wherever they stand; a reference such as `${NAME}` is none.
fn credentials(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, marker) in text.match_indices("://") {
        let start = at + marker.len();
        let rest = &text[start..];
        let token = &rest[..rest.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(rest.len())];
        if let Some(end) = token.rfind('@')
            && let Some(colon) = token[..end].find(':')
            && !is_reference(&token[colon + 1..end])
        {
            found.push(start + colon + 1..start + end);
        }
    }
    found
}

/// Nothing but one `${…}`.
pub(super) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.find('}')).is_some_and(|at| at + 3 == text.len())
}

/// A character that a terminal cannot be misled by.
fn visible(c: char) -> String {
    if is_dangerous(c) { c.escape_unicode().to_string() } else { c.to_string() }
}

/// A value for a message: quoted, cut to a readable length, without control characters.
pub(super) fn quoted(value: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::from("\"");
    for (count, c) in value.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push_str(&visible(c)),
        }
    }
    // A value that is itself a URL may carry a password.
    let mut source = out.clone();
    for range in credentials(&out).into_iter().rev() {
        source.replace_range(range, MASK);
    }
    source.push('"');
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = SourceText::new("f", "a\nüb = 1\r\n");
        assert_eq!(source.locate(0), Location { line: 1, column: 1 });
        assert_eq!(source.locate(4), Location { line: 2, column: 2 });
        assert_eq!(source.locate(999).line, 3);
    }

    #[test]
    fn a_masked_range_is_shown_as_stars_and_the_caret_follows() {
        let text = "a = \"hunter2\" b = 1";
        let mut source = SourceText::new("f", text);
        source.hide(std::iter::once(4..13));
        let finding = source.diagnostic(Severity::Error, 14..15, String::new(), String::new());
        assert_eq!(finding.source, "a = *** b = 1");
        assert_eq!(finding.caret, 8..9);
        let finding = source.diagnostic(Severity::Error, 4..13, String::new(), String::new());
        assert_eq!(finding.caret, 4..7);
    }

    #[test]
    fn a_password_within_a_url_is_hidden_and_a_reference_shown() {
        let source = SourceText::new("f", "u = \"mysql://me:hun:ter@2@db/x\"\nv = \"mysql://me:${PW}@db/x\"");
        let line = |at| source.diagnostic(Severity::Error, at..at + 1, String::new(), String::new()).source;
        assert_eq!(line(0), "u = \"mysql://me:***@db/x\"");
        assert_eq!(line(32), "v = \"mysql://me:${PW}@db/x\"");
        assert_eq!(quoted("mysql://a:b@c"), "\"mysql://a:***@c\"");
    }

    #[test]
    fn a_comment_is_not_shown_and_a_hash_within_a_text_is() {
        let source = SourceText::new("f", r##"a = "x\"#" # hunter2"##);
        let finding = source.diagnostic(Severity::Error, 0..1, String::new(), String::new());
        assert_eq!(finding.source, r##"a = "x\"#" # …"##);
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        let source = SourceText::new("f", "a = \"\u{1b}[31m\u{202e}\"");
        let shown = source.diagnostic(Severity::Error, 4..5, String::new(), String::new()).source;
        assert_eq!(shown, "a = \"\\u{1b}[31m\\u{202e}\"");
    }

    #[test]
    fn a_place_from_elsewhere_underlines_the_word_there() {
        let source = SourceText::new("f", "columns = { code = \"shop_customer\" }");
        assert_eq!(source.token_at(Location { line: 1, column: 13 }), 12..16);
        assert_eq!(source.token_at(Location { line: 1, column: 20 }), 19..34);
        assert_eq!(source.token_at(Location { line: 9, column: 9 }).len(), 0);
    }

    #[test]
    fn lines_of_a_file_that_cannot_be_parsed_hide_what_may_be_secret() {
        let text = "[warehouse]\nurl = \"mysql://u:hunter2@h\n[kafka.properties]\n\"sasl.password\" = \"hunter2\nhunter2==\n[daemon]\nname = \"x\npassword = hunter2\n";
        let mut source = SourceText::new("f", text);
        source.hide_by_line();
        let shown: Vec<String> = (0..8).map(|line| source.show_line(line, &(0..0)).0).collect();
        assert!(!shown.join("\n").contains("hunter2"), "{shown:#?}");
        assert_eq!(shown[6], "name = \"x");
        assert_eq!(shown[3], "\"sasl.password\" =***");
    }
}
