//! Text that came from elsewhere, made fit for a terminal: a record, a server's answer or a daemon's status can hold
//! control sequences that move the cursor, rewrite lines or the window's title, or reverse the reading direction.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every control character written as an escape: `\n`, `\t`, `\r`, else `\u{1b}`. Borrowed when there
/// is none.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            c if is_dangerous(c) => {
                // A String takes all that is written.
                let _ = write!(escaped, "\\u{{{:x}}}", c as u32);
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A JSON value in indented text with the same characters escaped as JSON does it: still the same value.
pub fn printable_json(value: &serde_json::Value) -> String {
    // A value has keys of text only, so it can always be written.
    json_escaped(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// The text of a JSON document with the same characters escaped as JSON does it, line ends apart; its own escapes
/// leave DEL, C1 controls and marks as they are.
pub fn json_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_dangerous(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes all that is written.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// C0, DEL and C1 controls; line and paragraph separators; marks that change the reading direction; characters
/// that show nothing at all.
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_become_escapes_and_the_rest_stays() {
        assert_eq!(printable("Zürich 東京 🚢"), "Zürich 東京 🚢");
        assert_eq!(printable("a\x1b[31mred\nb\r\t\u{7f}\u{9b}2J"), "a\\u{1b}[31mred\\nb\\r\\t\\u{7f}\\u{9b}2J");
        assert_eq!(printable("abc\u{202e}fed"), "abc\\u{202e}fed");
    }

    #[test]
    fn what_shows_nothing_becomes_an_escape() {
        let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{180e}\u{200b}\u{2060}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{fffb}\
                      \u{e0001}\u{e007f}\u{e0080}\u{e0100}\u{e0fff}";
        for c in unseen.chars() {
            assert_eq!(printable(&format!("a{c}b")), format!("a\\u{{{:x}}}b", c as u32));
        }
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{7f}", "\u{202e}", "\u{e0041}", "\n", "Zürich"] });
        let text = printable_json(&value);
        assert!(!text.chars().any(|c| c != '\n' && is_dangerous(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(text in "\\PC*[\\x00-\\x1f\\x7f-\\u{9f}\\u{202a}-\\u{202e}]*\\PC*") {
            prop_assert!(!printable(&text).chars().any(is_dangerous));
        }
    }
}
