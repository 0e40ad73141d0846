//! The SQL of an aggregate: one SELECT for one bucket, the same text for MySQL, MariaDB and SQLite, with `:bucket_start`
//! and `:bucket_end` where the bucket's bounds are put in. Turned into pieces around the bounds, so that these are bound
//! and never part of a statement's text. Must never guess: what the databases would read differently is told.

use super::sql_split::{SplitError, line_of, skip_comment, skip_quoted, split};

/// A query in pieces: the text before each bound, and what follows the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketQuery {
    pieces: Vec<String>,
    bounds: Vec<Bound>,
}

/// Which end of the bucket is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Start,
    End,
}

const NAMES: [(&str, Bound); 2] = [("bucket_start", Bound::Start), ("bucket_end", Bound::End)];

impl BucketQuery {
    /// Reads the text of a file: one statement, in which comments may stand anywhere.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and what to write.
    pub fn parse(text: &str) -> Result<Self, SplitError> {
        let statements = split(text)?;
        refuse_run_comments(text)?;
        let statement = match &statements[..] {
            [] => return Err(error(1, "there is no statement: write a SELECT")),
            [one] => one,
            [_, second, ..] => {
                return Err(error(second.line, "a second statement begins here: an aggregate is one SELECT"));
            }
        };
        let word: String = statement.text.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
        if !["SELECT", "WITH"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return Err(error(statement.line, "the statement is no query: begin it with SELECT, or WITH … SELECT"));
        }
        let query =
            cut(statement.text).map_err(|error| SplitError { line: error.line + statement.line - 1, ..error })?;
        let missing = NAMES.iter().filter(|(_, bound)| !query.bounds.contains(bound)).map(|(name, _)| *name);
        match missing.collect::<Vec<_>>()[..] {
            [] => Ok(query),
            [name] => Err(error(statement.line, &format!("the query does not use `:{name}`: {USAGE}"))),
            _ => Err(error(
                statement.line,
                &format!(
                    "the query uses neither `:bucket_start` nor `:bucket_end`, so it would read all of the table: {USAGE}"
                ),
            )),
        }
    }

    /// With a `?` for each bound.
    pub fn sql(&self) -> String {
        self.pieces.join("?")
    }

    /// What each `?` stands for, in order.
    pub fn bounds(&self) -> &[Bound] {
        &self.bounds
    }

    /// With literals for the bounds, for EXPLAIN. They must be quoted, and come from nobody's record.
    pub fn with_literals(&self, start: &str, end: &str) -> String {
        let mut sql = String::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            sql.push_str(piece);
            match self.bounds.get(at) {
                Some(Bound::Start) => sql.push_str(start),
                Some(Bound::End) => sql.push_str(end),
                None => {}
            }
        }
        sql
    }
}

const USAGE: &str = "write WHERE time_column >= :bucket_start AND time_column < :bucket_end";

fn error(line: usize, what: &str) -> SplitError {
    SplitError { line, what: what.to_owned() }
}

/// Comments that are none to some of the databases.
fn refuse_run_comments(text: &str) -> Result<(), SplitError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(end) = skip_comment(text, at)? {
            if ["/*!", "/*M!"].iter().any(|run| text[at..].starts_with(run)) {
                let what = "a comment that MySQL or MariaDB runs and SQLite does not: write what all of them read";
                return Err(error(line_of(text, at), what));
            }
            at = end;
        } else if matches!(bytes[at], b'\'' | b'"' | b'`') {
            at = skip_quoted(text, at)?;
        } else {
            at += 1;
        }
    }
    Ok(())
}

/// Cuts a statement at its parameters; comments become a space.
fn cut(sql: &str) -> Result<BucketQuery, SplitError> {
    let bytes = sql.as_bytes();
    let mut query = BucketQuery { pieces: Vec::new(), bounds: Vec::new() };
    let (mut piece, mut at) = (String::new(), 0);
    while at < bytes.len() {
        if let Some(end) = skip_comment(sql, at)? {
            // What stood on both sides stays apart.
            piece.push(if sql[at..end].ends_with('\n') { '\n' } else { ' ' });
            at = end;
            continue;
        }
        match bytes[at] {
            b'\'' | b'"' | b'`' => {
                let end = skip_quoted(sql, at)?;
                piece.push_str(&sql[at..end]);
                at = end;
            }
            b':' if sql[at + 1..].starts_with(is_name) => {
                let name = name_at(sql, at + 1);
                let Some((_, bound)) = NAMES.iter().find(|(known, _)| *known == name) else {
                    let what = format!("`:{name}` is no parameter: there are `:bucket_start` and `:bucket_end`");
                    return Err(error(line_of(sql, at), &what));
                };
                query.bounds.push(*bound);
                query.pieces.push(std::mem::take(&mut piece));
                at += 1 + name.len();
            }
            b'?' => {
                let what = "a `?`: write `:bucket_start` or `:bucket_end`, which are the only parameters";
                return Err(error(line_of(sql, at), what));
            }
            b'@' => {
                let what = "an `@`: a variable to MySQL and a parameter to SQLite; write the value itself";
                return Err(error(line_of(sql, at), what));
            }
            b'$' if !sql[..at].ends_with(is_name) => {
                let what = "a `$` that begins a name: a parameter to SQLite; put the name between backticks";
                return Err(error(line_of(sql, at), what));
            }
            _ => {
                let end = sql[at..].chars().next().map_or(bytes.len(), |c| at + c.len_utf8());
                piece.push_str(&sql[at..end]);
                at = end;
            }
        }
    }
    query.pieces.push(piece);
    Ok(query)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn name_at(sql: &str, at: usize) -> &str {
    let rest = &sql[at..];
    &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_become_places_in_their_order() {
        let text = "-- Sales: a line\nSELECT shop, COUNT(*) AS sales /* :bucket_end */\nFROM sale\n\
                    WHERE at>=:bucket_start AND at<:bucket_end\n  AND :bucket_end > 'it''s :bucket_start; ?'\nGROUP BY shop;\n";
        let query = BucketQuery::parse(text).unwrap();
        assert_eq!(
            query.sql(),
            "SELECT shop, COUNT(*) AS sales  \nFROM sale\nWHERE at>=? AND at<?\n  AND ? > 'it''s :bucket_start; ?'\n\
             GROUP BY shop"
        );
        assert_eq!(query.bounds(), [Bound::Start, Bound::End, Bound::End]);
        let literal = query.with_literals("'a'", "'b'");
        assert!(literal.contains("at>='a' AND at<'b'\n  AND 'b' > 'it''s :bucket_start; ?'"), "{literal}");
    }

    #[test]
    fn a_query_may_begin_with_common_tables_and_name_columns_with_dollars() {
        let text = "with d as (select 1) select a$1, `$b` from t where x between :bucket_start and :bucket_end";
        assert_eq!(BucketQuery::parse(text).unwrap().bounds().len(), 2);
    }

    #[test]
    fn what_is_no_query_for_a_bucket_is_told_with_its_line() {
        let bounds = "a >= :bucket_start AND a < :bucket_end";
        for (text, line, told) in [
            ("".to_owned(), 1, "no statement"),
            ("-- nothing\n".to_owned(), 1, "no statement"),
            (format!("SELECT 1 WHERE {bounds};\n\nSELECT 2;"), 3, "second statement"),
            ("\nDELETE FROM t".to_owned(), 2, "no query"),
            ("selected".to_owned(), 1, "no query"),
            ("SELECT 1".to_owned(), 1, "neither `:bucket_start` nor"),
            ("\nSELECT 1 FROM t\nWHERE a < :bucket_end".to_owned(), 2, "does not use `:bucket_start`"),
            ("SELECT ':bucket_start' WHERE a < :bucket_end".to_owned(), 1, "does not use `:bucket_start`"),
            (format!("-- x\nSELECT 1\nFROM t WHERE {bounds}\n AND b = :shop"), 4, "`:shop` is no parameter"),
            (format!("SELECT 1 WHERE {bounds} AND b = :BUCKET_START"), 1, "is no parameter"),
            (format!("SELECT 1 WHERE {bounds} AND b = :bucket_starts"), 1, "is no parameter"),
            (format!("SELECT 1 WHERE {bounds}\nAND b = ?"), 2, "a `?`"),
            (format!("SELECT @x\nWHERE {bounds}"), 1, "an `@`"),
            (format!("SELECT $x WHERE {bounds}"), 1, "begins a name"),
            (format!("SELECT 1\nWHERE {bounds} /*!80000 AND 1 */"), 2, "a comment that MySQL"),
            (format!("SELECT 'it\\'s' WHERE {bounds}"), 1, "double the quote"),
            (format!("SELECT 1\n--x\nWHERE {bounds}"), 2, "write `-- `"),
        ] {
            let error = BucketQuery::parse(&text).unwrap_err();
            assert!(error.line == line && error.what.contains(told), "{text:?}: line {}: {error}", error.line);
        }
    }

    #[test]
    fn a_colon_that_names_nothing_is_the_databases_matter() {
        let text = "SELECT 1 : 2 WHERE a >= :bucket_start AND a < :bucket_end";
        assert!(BucketQuery::parse(text).unwrap().sql().starts_with("SELECT 1 : 2 WHERE a >= ? AND"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(SELECT |WITH )?([a:;'\"`\\-#/* \n\\\\é?@$1]|:bucket_start|:bucket_end){0,30}") {
            if let Ok(query) = BucketQuery::parse(&text) {
                prop_assert!(query.sql().matches('?').count() >= query.bounds().len());
            }
        }

        /// Whatever stands in quotes and comments: the statement's own parameters are found, and no other.
        #[test]
        fn quotes_and_comments_hold_no_parameter(quoted in "[^'\\\\]{0,20}", comment in "[^*/\n!M]{0,20}") {
            let text = format!("SELECT ':bucket_end{quoted}' /* {comment} :bucket_start */ FROM t WHERE a >= :bucket_start\n\
                                -- {comment} :bucket_end\nAND a < :bucket_end");
            let query = BucketQuery::parse(&text).unwrap();
            prop_assert_eq!(query.bounds(), [Bound::Start, Bound::End]);
            let expected = format!("':bucket_end{quoted}'");
            prop_assert!(query.sql().contains(&expected));
        }
    }
}
