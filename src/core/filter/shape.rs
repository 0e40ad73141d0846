//! What a condition may look like before it is parsed: parser and interpreter set no limits of their own, and some
//! short texts take either of them for ever (unary operators and brackets by the dozen, loops within loops).

/// Characters, and words and signs, of a condition.
const MOST_CHARS: usize = 1_000;
const MOST_TOKENS: usize = 150;
/// Brackets within brackets.
const MOST_DEPTH: usize = 12;
/// `!` and `-` in a row; more than two mean nothing.
const MOST_UNARY: usize = 2;
/// Loops side by side.
const MOST_LOOPS: usize = 4;

/// Macros of CEL that go through a list. `map` is not among them: it makes lists of whatever size.
const LOOPS: [&str; 4] = ["all", "exists", "exists_one", "filter"];

/// What was found on the way.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shape {
    /// Names that the condition gives to the items of a list.
    pub own_variables: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'t> {
    Word(&'t str),
    Text,
    Sign(u8),
}

/// An open bracket.
struct Open {
    closes_with: u8,
    is_loop: bool,
}

/// Looks a condition over.
pub(super) fn examine(text: &str) -> Result<Shape, String> {
    if text.trim().is_empty() {
        return Err("the condition is empty; write for example record.amount > 100".to_owned());
    }
    if text.chars().count() > MOST_CHARS {
        return Err(format!("the condition is longer than {MOST_CHARS} characters; look for less"));
    }
    let tokens = tokens(text)?;
    if tokens.len() > MOST_TOKENS {
        return Err(format!("the condition has more than {MOST_TOKENS} words and signs; look for less"));
    }
    let mut shape = Shape::default();
    let mut open: Vec<Open> = Vec::new();
    let (mut unary, mut loops) = (0, 0);
    for (at, token) in tokens.iter().enumerate() {
        unary = if matches!(token, Token::Sign(b'!' | b'-')) { unary + 1 } else { 0 };
        if unary > MOST_UNARY {
            return Err("three of `!` or `-` in a row say no more than one; leave two out".to_owned());
        }
        let Token::Sign(sign) = token else { continue };
        match sign {
            b'(' | b'[' | b'{' => {
                let called = if *sign == b'(' { method(&tokens[..at]) } else { None };
                if called == Some("map") {
                    return Err("`map` makes a list, and a condition needs none; write exists(…) or all(…)".to_owned());
                }
                let is_loop = called.is_some_and(|name| LOOPS.contains(&name));
                if is_loop {
                    loops += 1;
                    if open.iter().any(|o| o.is_loop) {
                        return Err("a loop within a loop may take too long; write them side by side".to_owned());
                    }
                    if loops > MOST_LOOPS {
                        return Err(format!("more than {MOST_LOOPS} loops may take too long; look for less"));
                    }
                    if let Some(Token::Word(variable)) = tokens.get(at + 1) {
                        shape.own_variables.push((*variable).to_owned());
                    }
                }
                let closes_with = match sign {
                    b'(' => b')',
                    b'[' => b']',
                    _ => b'}',
                };
                open.push(Open { closes_with, is_loop });
                if open.len() > MOST_DEPTH {
                    return Err(format!("more than {MOST_DEPTH} brackets within each other; look for less"));
                }
            }
            b')' | b']' | b'}' if open.pop().is_none_or(|o| o.closes_with != *sign) => {
                return Err(format!("a `{}` closes nothing", *sign as char));
            }
            _ => {}
        }
    }
    match open.pop() {
        Some(left) => Err(format!("a `{}` is missing", left.closes_with as char)),
        None => Ok(shape),
    }
}

/// The name of the method that the last of these tokens calls.
fn method<'t>(before: &[Token<'t>]) -> Option<&'t str> {
    match before {
        [.., Token::Sign(b'.'), Token::Word(name)] => Some(name),
        _ => None,
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let word = bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        if word > 0 {
            let name = &text[at..at + word];
            at += word;
            let is_prefix = matches!(bytes.get(at), Some(b'"' | b'\'')) && is_text_prefix(name);
            if !is_prefix {
                tokens.push(Token::Word(name));
                continue;
            }
            at = end_of_text(bytes, at, name.bytes().any(|b| b.eq_ignore_ascii_case(&b'r')))?;
            tokens.push(Token::Text);
            continue;
        }
        match bytes[at] {
            b'"' | b'\'' => {
                at = end_of_text(bytes, at, false)?;
                tokens.push(Token::Text);
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => return Err("a condition has no comments".to_owned()),
            blank if blank.is_ascii_whitespace() => at += 1,
            sign if sign.is_ascii_graphic() => {
                tokens.push(Token::Sign(sign));
                at += 1;
            }
            _ => return Err("outside of quotes a condition is plain ASCII".to_owned()),
        }
    }
    Ok(tokens)
}

/// `r`, `b` or both, before a quote.
fn is_text_prefix(word: &str) -> bool {
    ["r", "b", "rb", "br"].iter().any(|prefix| word.eq_ignore_ascii_case(prefix))
}

/// Where the text ends whose first quote is at `start`: behind its last quote.
fn end_of_text(bytes: &[u8], start: usize, raw: bool) -> Result<usize, String> {
    let quote = bytes[start];
    let is_long = bytes[start..].starts_with(&[quote; 3]);
    let close: &[u8] = if is_long { &[quote; 3] } else { &[quote] };
    let mut at = start + close.len();
    while at < bytes.len() {
        if bytes[at..].starts_with(close) {
            return Ok(at + close.len());
        }
        at += if bytes[at] == b'\\' && !raw { 2 } else { 1 };
    }
    Err(format!("a `{}` is missing at the end of a text", quote as char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        examine(text).expect_err(text)
    }

    #[test]
    fn ordinary_conditions_pass_and_their_own_names_are_known() {
        for text in [
            "record.code == \"AA\" && (record.delay > 60 || !has(record.gate))",
            "!!record.flag",
            "record.name in ['a)', \"b(\", r'c\\', '''d'e''']",
            "record.text.matches(r\"\\(x\")",
            "a.map == 1",
        ] {
            assert_eq!(examine(text), Ok(Shape::default()), "{text}");
        }
        let shape = examine("record.tags.exists(t, t == 'x') && record.list.all(n, n > 0)").unwrap();
        assert_eq!(shape.own_variables, ["t", "n"]);
    }

    #[test]
    fn what_could_take_for_ever_is_refused() {
        let motif = "!!(!!!!!!(!!!!(((((!!(!!(!!!!((";
        assert!(refused(&format!("{}1", motif.repeat(4))).contains("in a row"));
        assert!(refused(&format!("{}1{}", "(".repeat(13), ")".repeat(13))).contains("within each other"));
        assert!(refused("a.all(x, b.exists(y, x == y))").contains("loop within a loop"));
        assert!(refused("a.map(x, x + x)").contains("`map`"));
        assert!(refused(&["a.all(x, true)"; 5].join(" && ")).contains("loops"));
        assert!(refused(&["a"; 100].join(" && ")).contains("words and signs"));
        assert!(refused(&"a".repeat(1001)).contains("characters"));
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        assert_eq!(refused("(a"), "a `)` is missing");
        assert_eq!(refused("a)"), "a `)` closes nothing");
        assert_eq!(refused("a[1)"), "a `)` closes nothing");
        assert_eq!(refused("a == 'b"), "a `'` is missing at the end of a text");
        assert_eq!(refused("a == 'b\\'"), "a `'` is missing at the end of a text");
        assert_eq!(refused("  "), "the condition is empty; write for example record.amount > 100");
        assert_eq!(refused("a // b"), "a condition has no comments");
        assert_eq!(refused("a == ü"), "outside of quotes a condition is plain ASCII");
    }
}
