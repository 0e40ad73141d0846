//! What a test expected and what came of it: rows and documents matched by their key, dead letters by their record. Values
//! are literals of SQL; nothing is asked here.

use std::fmt::Write as _;

use serde::Serialize;

use super::file::ExpectedLetter;
use crate::cli::printable::printable;
use crate::core::outcome::Rejection;

/// Where rows are: those of an aggregate are its documents, flat.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Table(String),
    Aggregate(String),
}

impl Place {
    /// As it is told to people.
    fn text(&self) -> String {
        match self {
            Place::Table(name) => name.clone(),
            Place::Aggregate(name) => format!("documents.{name}"),
        }
    }
}

/// A row as column and literal.
pub type NamedRow = Vec<(String, String)>;

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    RowMissing {
        #[serde(flatten)]
        place: Place,
        row: NamedRow,
    },
    RowUnexpected {
        #[serde(flatten)]
        place: Place,
        row: NamedRow,
    },
    RowDiffers {
        #[serde(flatten)]
        place: Place,
        key: NamedRow,
        columns: Vec<ColumnDiffers>,
    },
    LetterMissing {
        record: usize,
        expected: String,
    },
    LetterUnexpected {
        record: usize,
        found: String,
    },
    LetterDiffers {
        record: usize,
        expected: String,
        found: String,
    },
    CountDiffers {
        what: &'static str,
        expected: i64,
        found: i64,
    },
    /// What was expected can't be.
    Impossible {
        what: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnDiffers {
    pub column: String,
    pub expected: String,
    pub found: String,
}

/// A table's or an aggregate's expected and found rows.
#[derive(Debug)]
pub struct Compared<'a> {
    pub place: Place,
    pub columns: Vec<&'a str>,
    /// Positions of what tells a row from all others.
    pub key: &'a [usize],
    /// `None` for a column that is not looked at.
    pub expected: Vec<Vec<Option<String>>>,
    pub found: Vec<Vec<String>>,
}

impl Compared<'_> {
    pub fn differences(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut left: Vec<&Vec<String>> = self.found.iter().collect();
        for expected in &self.expected {
            let same_key = |found: &&Vec<String>| {
                !self.key.is_empty() && self.key.iter().all(|&at| is_same(expected[at].as_deref(), &found[at]))
            };
            let Some(at) = left.iter().position(same_key) else {
                let row = self.columns.iter().zip(expected);
                let row = row.filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
                let row = row.filter(|(_, value)| value != "NULL").collect();
                differences.push(Difference::RowMissing { place: self.place.clone(), row });
                continue;
            };
            let found = left.remove(at);
            let differing: Vec<ColumnDiffers> = (0..self.columns.len())
                .filter(|&at| !is_same_or_not_looked_at(expected[at].as_deref(), &found[at]))
                .map(|at| ColumnDiffers {
                    column: self.columns[at].to_owned(),
                    expected: expected[at].clone().unwrap_or_default(),
                    found: found[at].clone(),
                })
                .collect();
            if !differing.is_empty() {
                let key = self.key.iter().map(|&at| (self.columns[at].to_owned(), found[at].clone())).collect();
                differences.push(Difference::RowDiffers { place: self.place.clone(), key, columns: differing });
            }
        }
        differences.extend(left.into_iter().map(|found| {
            let row = self.columns.iter().zip(found).filter(|(_, value)| *value != "NULL");
            let row = row.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            Difference::RowUnexpected { place: self.place.clone(), row }
        }));
        differences
    }
}

/// `found`: position of the record from 1, and why it was set aside; ascending.
pub fn letters(expected: &[ExpectedLetter], found: &[(usize, Rejection)]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for letter in expected {
        let record = letter.record;
        match found.iter().find(|(at, _)| *at == record) {
            None => differences.push(Difference::LetterMissing { record, expected: told(letter) }),
            Some((_, rejection)) if !is_met(letter, rejection) => {
                let found = described(rejection);
                differences.push(Difference::LetterDiffers { record, expected: told(letter), found });
            }
            Some(_) => {}
        }
    }
    let unexpected = found.iter().filter(|(at, _)| expected.iter().all(|letter| letter.record != *at));
    differences.extend(
        unexpected
            .map(|(record, rejection)| Difference::LetterUnexpected { record: *record, found: described(rejection) }),
    );
    differences
}

fn is_met(letter: &ExpectedLetter, found: &Rejection) -> bool {
    letter.reason == found.reason.as_str()
        && letter.field.as_ref().is_none_or(|field| found.field.as_ref() == Some(field))
        && letter.message.as_ref().is_none_or(|part| found.message.contains(part))
}

fn told(letter: &ExpectedLetter) -> String {
    let field = letter.field.as_ref().map(|field| format!(" in {field}")).unwrap_or_default();
    let message = letter.message.as_ref().map(|part| format!(": … {part} …")).unwrap_or_default();
    format!("{}{field}{message}", letter.reason)
}

fn described(rejection: &Rejection) -> String {
    let field = rejection.field.as_ref().map(|field| format!(" in {field}")).unwrap_or_default();
    format!("{}{field}: {}", rejection.reason, rejection.message)
}

/// Numbers may be written otherwise: `1` and `1.0`, `12.50` and `12.5`. Whole ones are compared to the last digit.
fn is_same(expected: Option<&str>, found: &str) -> bool {
    let Some(expected) = expected else { return false };
    match (expected.parse::<i128>(), found.parse::<i128>()) {
        (Ok(expected), Ok(found)) => expected == found,
        _ => expected == found || matches!((expected.parse::<f64>(), found.parse::<f64>()), (Ok(a), Ok(b)) if a == b),
    }
}

fn is_same_or_not_looked_at(expected: Option<&str>, found: &str) -> bool {
    expected.is_none() || is_same(expected, found)
}

impl Difference {
    /// As lines for people: `-` is what was expected, `+` what is there.
    pub fn text(&self) -> String {
        let row =
            |row: &NamedRow| row.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let text = match self {
            Difference::RowMissing { place, row: missing } => format!("- {}: {}", place.text(), row(missing)),
            Difference::RowUnexpected { place, row: found } => format!("+ {}: {}", place.text(), row(found)),
            Difference::RowDiffers { place, key, columns } => {
                let mut text = format!("  {}: {}", place.text(), row(key));
                for ColumnDiffers { column, expected, found } in columns {
                    // A String takes all that is written.
                    let _ = write!(text, "\n-   {column}={expected}\n+   {column}={found}");
                }
                text
            }
            Difference::LetterMissing { record, expected } => format!("- dead letter of record {record}: {expected}"),
            Difference::LetterUnexpected { record, found } => format!("+ dead letter of record {record}: {found}"),
            Difference::LetterDiffers { record, expected, found } => {
                format!("- dead letter of record {record}: {expected}\n+ dead letter of record {record}: {found}")
            }
            Difference::CountDiffers { what, expected, found } => format!("- {what}: {expected}\n+ {what}: {found}"),
            Difference::Impossible { what } => format!("! {what}"),
        };
        text.lines().map(|line| format!("{}\n", printable(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outcome::Reason;

    fn compared(expected: &[[Option<&str>; 3]], found: &[[&str; 3]]) -> String {
        let compared = Compared {
            place: Place::Table("orders".into()),
            columns: vec!["id", "customer", "price"],
            key: &[0],
            expected: expected.iter().map(|row| row.map(|value| value.map(str::to_owned)).to_vec()).collect(),
            found: found.iter().map(|row| row.map(str::to_owned).to_vec()).collect(),
        };
        compared.differences().iter().map(Difference::text).collect()
    }

    #[test]
    fn rows_are_matched_by_key_in_whatever_order() {
        let expected = [[Some("2"), Some("'b'"), Some("NULL")], [Some("1"), Some("'a'"), Some("12.50")]];
        assert_eq!(compared(&expected, &[["1", "'a'", "12.5"], ["2", "'b'", "NULL"]]), "");
        assert_eq!(
            compared(&[[Some("1"), None, None]], &[["1", "'a'", "12.5"]]),
            "",
            "what is not named is not looked at"
        );
        let (large, next) = ("9007199254740992", "9007199254740993");
        assert_ne!(
            compared(&[[Some("1"), None, Some(large)]], &[["1", "'a'", next]]),
            "",
            "doubles cannot tell them apart"
        );
    }

    #[test]
    fn what_differs_is_told_by_row_and_column() {
        let expected = [[Some("1"), Some("'a'"), Some("NULL")], [Some("3"), Some("'c'"), Some("NULL")]];
        let found = [["1", "'b\u{1b}'", "7.5"], ["2", "NULL", "1.0"]];
        insta::assert_snapshot!(compared(&expected, &found), @r"
          orders: id=1
        -   customer='a'
        +   customer='b\u{1b}'
        -   price=NULL
        +   price=7.5
        - orders: id=3 customer='c'
        + orders: id=2 price=1.0
        ");
    }

    #[test]
    fn dead_letters_are_met_by_what_is_said_of_them() {
        let letter = |record, reason: &str, field: Option<&str>, message: Option<&str>| ExpectedLetter {
            record,
            reason: reason.into(),
            field: field.map(str::to_owned),
            message: message.map(str::to_owned),
        };
        let rejection =
            |reason, field: &str| Rejection { reason, field: Some(field.into()), message: "the value".into() };
        let found = [(1, rejection(Reason::WrongType, "id")), (2, rejection(Reason::Check, "price"))];
        let told =
            |expected: &[ExpectedLetter]| letters(expected, &found).iter().map(Difference::text).collect::<String>();
        let met = letter(1, "wrong_type", Some("id"), Some("value"));
        assert_eq!(told(&[met.clone(), letter(2, "check", None, None)]), "");
        insta::assert_snapshot!(told(&[met, letter(3, "too_long", Some("name"), None)]), @r"
        - dead letter of record 3: too_long in name
        + dead letter of record 2: check in price: the value
        ");
        insta::assert_snapshot!(told(&[letter(1, "wrong_type", Some("price"), Some("x")), letter(2, "check", None, None)]), @r"
        - dead letter of record 1: wrong_type in price: … x …
        + dead letter of record 1: wrong_type in id: the value
        ");
    }
}
