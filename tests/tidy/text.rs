//! Rust text cut into what rules look at. Not a parser: it knows comments, strings and characters, so that
//! words in them are not taken for code.

/// The text with comments, strings and character literals blanked out; lines stay where they are.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => block_comment_end(bytes, at),
            [b'"', ..] => string_end(bytes, at + 1),
            [b'r' | b'b', ..] if !continues_word(bytes, at) => raw_or_byte_string_end(bytes, at),
            [b'\'', ..] => char_end(bytes, at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// `at` is behind the opening quote.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_or_byte_string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    at += usize::from(bytes[at] == b'b');
    let raw = bytes.get(at) == Some(&b'r');
    at += usize::from(raw);
    let hashes = bytes[at.min(bytes.len())..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') || (!raw && hashes > 0) {
        return start;
    }
    if !raw {
        return string_end(bytes, at + 1);
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = at + hashes + 1;
    bytes[body..].windows(close.len()).position(|w| w == close).map_or(bytes.len(), |n| body + n + close.len())
}

/// A lifetime is left as it is.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match &bytes[at + 1..] {
        [b'\\', b'u', rest @ ..] => rest.iter().position(|b| *b == b'\'').map_or(at, |n| at + 3 + n + 1),
        [b'\\', _, b'\'', ..] => at + 4,
        [b'\\', b'x', _, _, b'\'', ..] => at + 6,
        [first, rest @ ..] if *first != b'\'' => {
            let width = match first {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if rest.get(width - 1) == Some(&b'\'') { at + 1 + width + 1 } else { at }
        }
        _ => at,
    }
}

/// Identifiers with the number of their line, from 1.
pub fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(n, line)| {
        line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).map(move |w| (n + 1, w))
    })
}

/// The words of an identifier or a text, in small letters: `RecordBatch`, `record_batch` and `record-batch` are
/// `record`, `batch`.
pub fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Top-level modules of this crate that the code names, with lines: `crate::a::b`, `use crate::{a, b::c}`.
pub fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && continues_word(code.as_bytes(), at) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let line = |offset: usize| code[..at + "crate::".len() + offset].matches('\n').count() + 1;
        if !rest.trim_start().starts_with('{') {
            found.push((line(0), leading_word(rest)));
            continue;
        }
        let mut depth = 0;
        let mut expecting = false;
        for (offset, c) in rest.char_indices() {
            match c {
                '{' => {
                    depth += 1;
                    expecting = depth == 1;
                }
                '}' => depth -= 1,
                ',' => expecting = depth == 1,
                c if expecting && depth == 1 && !c.is_whitespace() => {
                    found.push((line(offset), leading_word(&rest[offset..])));
                    expecting = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn leading_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn comments_strings_and_characters_are_no_code() {
    let text =
        "a // crate::b\n/* c /* d */ e */ f \"g \\\" h\" 'i' '\\'' r#\"j \" k\"# l b\"m\" &'n o r\"p\" '\\u{1f}' 'é' q";
    let code = code_only(text);
    let left: Vec<&str> = identifiers(&code).map(|(_, word)| word).collect();
    assert_eq!(left, ["a", "f", "l", "n", "o", "q"]);
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn paths_into_the_crate_are_found_in_every_form() {
    let code = "use crate::core::cell;\nuse crate::{\n  ports::{Claim, Clock},\n  messages,\n};\nlet x = crate::config::y();\nmycrate::z";
    let paths = crate_paths(code);
    let expected = [(1, "core"), (3, "ports"), (4, "messages"), (6, "config")].map(|(n, m)| (n, m.to_owned()));
    assert_eq!(paths, expected);
}

#[test]
fn identifiers_fall_into_words() {
    assert_eq!(words("RecordBatch record_batch2 in-flight"), ["record", "batch", "record", "batch2", "in", "flight"]);
}
