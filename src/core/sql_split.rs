//! Cuts a SQL file into its statements, for files in the subset that MySQL, MariaDB and SQLite all take. Pure.
//! Must never guess: where the databases would read the text differently, it says so instead of choosing.

/// One statement of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlStatement<'a> {
    /// Without the semicolon, and without comments before and space around it.
    pub text: &'a str,
    /// Line of its first word, from 1.
    pub line: usize,
}

/// Text that can't be cut, or that the databases would read differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SplitError {
    /// Line where the trouble begins, from 1.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub what: String,
}

/// The statements of `sql`, in order; empty ones and mere comments are left out.
pub fn split(sql: &str) -> Result<Vec<SqlStatement<'_>>, SplitError> {
    let bytes = sql.as_bytes();
    let mut statements = Vec::new();
    let mut at = 0;
    // Where the statement's first and last words are; none while only space and comments were seen.
    let mut words: Option<(usize, usize)> = None;
    while at < bytes.len() {
        if let Some(end) = skip_comment(sql, at)? {
            at = end;
            continue;
        }
        let end = match bytes[at] {
            b';' => {
                statements.extend(words.take().map(|w| statement(sql, w)));
                at += 1;
                continue;
            }
            b'\'' | b'"' | b'`' => skip_quoted(sql, at)?,
            _ => at + 1,
        };
        if !bytes[at].is_ascii_whitespace() {
            words = Some((words.map_or(at, |(first, _)| first), end));
        }
        at = end;
    }
    statements.extend(words.map(|w| statement(sql, w)));
    Ok(statements)
}

fn statement(sql: &str, (first, end): (usize, usize)) -> SqlStatement<'_> {
    SqlStatement { text: &sql[first..end], line: line_of(sql, first) }
}

/// The end of the comment that begins at `at`, if one does.
pub(super) fn skip_comment(sql: &str, at: usize) -> Result<Option<usize>, SplitError> {
    let rest = &sql.as_bytes()[at..];
    let to_end_of_line = || sql[at..].find('\n').map_or(sql.len(), |n| at + n + 1);
    match rest {
        [b'#', ..] => Ok(Some(to_end_of_line())),
        [b'-', b'-'] => Ok(Some(sql.len())),
        [b'-', b'-', next, ..] if next.is_ascii_whitespace() => Ok(Some(to_end_of_line())),
        [b'-', b'-', ..] => Err(SplitError {
            line: line_of(sql, at),
            what: "`--` without a space after it: a comment to SQLite, two minus signs to MySQL; write `-- `"
                .to_owned(),
        }),
        [b'/', b'*', ..] => match sql[at + 2..].find("*/") {
            Some(n) => Ok(Some(at + 2 + n + 2)),
            None => Err(SplitError { line: line_of(sql, at), what: "a comment `/*` that never ends".to_owned() }),
        },
        _ => Ok(None),
    }
}

/// The end of the quoted text that begins at `at`. A doubled quote stands for one.
pub(super) fn skip_quoted(sql: &str, start: usize) -> Result<usize, SplitError> {
    let bytes = sql.as_bytes();
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() {
        if bytes[at] != quote {
            at += 1;
            continue;
        }
        let backslashes = bytes[start + 1..at].iter().rev().take_while(|&&b| b == b'\\').count();
        if quote != b'`' && backslashes % 2 == 1 {
            return Err(SplitError {
                line: line_of(sql, at),
                what:
                    "a backslash before a quote: MySQL reads on, SQLite ends the text there; double the quote instead"
                        .to_owned(),
            });
        }
        if bytes.get(at + 1) != Some(&quote) {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(SplitError { line: line_of(sql, start), what: format!("a quote {} that never ends", char::from(quote)) })
}

pub(super) fn line_of(sql: &str, at: usize) -> usize {
    1 + sql.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).unwrap().iter().map(|s| s.text).collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_quotes_and_comments() {
        let sql = "-- first; not a statement\nCREATE TABLE `a;b` (x TEXT DEFAULT 'y;''z');\n\n/* ; */ INSERT INTO t\n  \
                   VALUES (\";\") -- ; end\n;;# nothing; here\n";
        assert_eq!(
            split(sql).unwrap(),
            [
                SqlStatement { text: "CREATE TABLE `a;b` (x TEXT DEFAULT 'y;''z')", line: 2 },
                SqlStatement { text: "INSERT INTO t\n  VALUES (\";\")", line: 4 },
            ]
        );
    }

    #[test]
    fn the_last_statement_needs_no_semicolon_and_comments_alone_are_none() {
        assert_eq!(texts("SELECT 1"), ["SELECT 1"]);
        assert_eq!(texts("SELECT 1 -- end"), ["SELECT 1"]);
        assert!(texts("").is_empty());
        assert!(texts(" ; ;\n-- x\n/* y; */ --").is_empty());
        assert_eq!(texts("SELECT 1 - -1; SELECT 4/2"), ["SELECT 1 - -1", "SELECT 4/2"]);
    }

    #[test]
    fn comments_within_a_statement_belong_to_it() {
        assert_eq!(texts("SELECT /* a; */ 1, -- b;\n 2;"), ["SELECT /* a; */ 1, -- b;\n 2"]);
    }

    #[test]
    fn text_that_the_databases_read_differently_is_refused_with_its_line() {
        for (sql, line, word) in [
            ("SELECT 1;\nSELECT 'it\\'s';", 2, "double the quote"),
            ("\n\nSELECT 5--3", 3, "write `-- `"),
            ("SELECT 1;\n/* open", 2, "never ends"),
            ("SELECT\n'open", 2, "never ends"),
        ] {
            let error = split(sql).unwrap_err();
            assert_eq!(error.line, line, "{sql}");
            assert!(error.what.contains(word), "{error}");
        }
        assert_eq!(texts("SELECT 'C:\\\\'; SELECT 2"), ["SELECT 'C:\\\\'", "SELECT 2"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_pieces_come_from_the_text(sql in "[a;'\"`\\-#/* \n\\\\é]{0,60}") {
            if let Ok(statements) = split(&sql) {
                for s in statements {
                    prop_assert!(sql.contains(s.text) && !s.text.trim().is_empty());
                }
            }
        }

        #[test]
        fn quoted_values_survive_any_content(values in prop::collection::vec("[^\\\\]{0,20}", 1..5)) {
            let sql: String = values.iter().map(|v| format!("INSERT INTO t VALUES ('{}');\n", v.replace('\'', "''"))).collect();
            prop_assert_eq!(split(&sql).unwrap().len(), values.len());
        }
    }
}
