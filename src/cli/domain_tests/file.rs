//! The format of a file of tests. What it lacks for later (alerts) becomes a further list of a test; a key that is not
//! known is refused, so that no expectation is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::core::document;
use crate::core::outcome::Reason;
use crate::core::time;

/// Of a record that says nothing of it: 2000-01-01T00:00:00Z.
const TIMESTAMP: i64 = 946_684_800_000;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// Of every record that names none.
    stream: Option<String>,
    /// Records that others are made of.
    #[serde(default)]
    sample: BTreeMap<String, WrittenRecord>,
    #[serde(default)]
    test: Vec<WrittenTest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTest {
    name: String,
    #[serde(default)]
    commit: Commit,
    #[serde(default)]
    record: Vec<WrittenRecord>,
    #[serde(default)]
    rows: BTreeMap<String, Vec<toml::Table>>,
    #[serde(default)]
    documents: BTreeMap<String, Vec<WrittenDocument>>,
    #[serde(default)]
    only_named_columns: Vec<String>,
    #[serde(default)]
    dead_letter: Vec<ExpectedLetter>,
    applied: Option<i64>,
    duplicates: Option<i64>,
}

/// How records reach the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Commit {
    /// Neighbours of one stream in one transaction.
    #[default]
    Together,
    /// Each in a transaction of its own.
    Each,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRecord {
    /// The sample whose place it takes, but for what is said here.
    sample: Option<String>,
    stream: Option<String>,
    value: Option<toml::Table>,
    /// Fields of the sample that it does not have.
    #[serde(default)]
    without: Vec<String>,
    /// Fields that are null, which TOML can't say.
    #[serde(default)]
    null: Vec<String>,
    payload: Option<String>,
    #[serde(default)]
    tombstone: bool,
    key: Option<String>,
    timestamp: Option<toml::value::Datetime>,
    partition: Option<i32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDocument {
    bucket_start: toml::value::Datetime,
    #[serde(default)]
    key: toml::Table,
    #[serde(default)]
    values: toml::Table,
}

/// One test, ready to be run.
#[derive(Debug)]
pub struct Test {
    pub name: String,
    pub commit: Commit,
    pub records: Vec<TestRecord>,
    /// By table; a column that a row does not name is null, or not looked at.
    pub rows: BTreeMap<String, Vec<Map<String, Value>>>,
    /// By aggregate; a value that a document does not name is null, or not looked at.
    pub documents: BTreeMap<String, Vec<ExpectedDocument>>,
    /// Tables and aggregates of which only the columns and values are looked at that are named.
    pub only_named_columns: Vec<String>,
    pub dead_letters: Vec<ExpectedLetter>,
    pub applied: Option<i64>,
    pub duplicates: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TestRecord {
    pub stream: String,
    pub partition: i32,
    pub key: Option<String>,
    /// `None` for a tombstone.
    pub payload: Option<String>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedDocument {
    /// Microseconds since 1970.
    pub bucket_start: i64,
    pub key: document::Fields,
    pub values: document::Fields,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedLetter {
    /// Position among the test's records, from 1.
    pub record: usize,
    pub reason: String,
    pub field: Option<String>,
    /// Part of the message.
    pub message: Option<String>,
}

/// Reads a file's text.
///
/// # Errors
/// What is wrong with it, with the place.
pub fn parse(text: &str) -> Result<Vec<Test>, String> {
    let file: TestFile = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    if file.test.is_empty() {
        return Err("there is no [[test]] in it".to_owned());
    }
    let mut tests: Vec<Test> = Vec::with_capacity(file.test.len());
    for written in &file.test {
        let test = file.test(written).map_err(|wrong| format!("test \"{}\": {wrong}", written.name))?;
        if tests.iter().any(|other| other.name == test.name) {
            return Err(format!("two tests are named \"{}\"", test.name));
        }
        tests.push(test);
    }
    Ok(tests)
}

impl TestFile {
    fn test(&self, written: &WrittenTest) -> Result<Test, String> {
        let WrittenTest { name, commit, record, rows, documents, only_named_columns, dead_letter, applied, duplicates } =
            written;
        if record.is_empty() {
            return Err("it has no [[test.record]]".to_owned());
        }
        let records =
            (1..).zip(record).map(|(nth, r)| self.record(r).map_err(|wrong| format!("record {nth}: {wrong}")));
        for letter in dead_letter {
            if letter.record == 0 || letter.record > record.len() {
                return Err(format!("there is no record {}; they are counted from 1", letter.record));
            }
            if !Reason::ALL.iter().any(|reason| reason.as_str() == letter.reason) {
                let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                return Err(format!(
                    "no dead letter has the reason {}; there are {}",
                    letter.reason,
                    reasons.join(", ")
                ));
            }
        }
        let is_expected = |name: &String| rows.contains_key(name) || documents.contains_key(name);
        if let Some(name) = only_named_columns.iter().find(|name| !is_expected(name)) {
            return Err(format!("only_named_columns names {name}, and neither rows nor documents does"));
        }
        let json = |rows: &Vec<toml::Table>| rows.iter().map(object).collect();
        let expected = |(aggregate, written): (&String, &Vec<WrittenDocument>)| {
            let one = |(nth, of): (usize, &WrittenDocument)| {
                of.expected().map_err(|wrong| format!("documents.{aggregate}, document {nth}: {wrong}"))
            };
            Ok((aggregate.clone(), (1..).zip(written).map(one).collect::<Result<_, String>>()?))
        };
        Ok(Test {
            name: name.clone(),
            commit: *commit,
            records: records.collect::<Result<_, _>>()?,
            rows: rows.iter().map(|(table, rows)| (table.clone(), json(rows))).collect(),
            documents: documents.iter().map(expected).collect::<Result<_, String>>()?,
            only_named_columns: only_named_columns.clone(),
            dead_letters: dead_letter.clone(),
            applied: *applied,
            duplicates: *duplicates,
        })
    }

    fn record(&self, written: &WrittenRecord) -> Result<TestRecord, String> {
        let nothing = WrittenRecord::default();
        let sample = match &written.sample {
            Some(name) => self.sample.get(name).ok_or_else(|| format!("there is no [sample.{name}]"))?,
            None => &nothing,
        };
        if sample.sample.is_some() {
            return Err("a sample is not made of another one".to_owned());
        }
        let stream = written.stream.as_ref().or(sample.stream.as_ref()).or(self.stream.as_ref());
        let fields = || -> Result<Map<String, Value>, String> {
            let mut fields = sample.value.as_ref().map(object).unwrap_or_default();
            sample.null.iter().for_each(|name| drop(fields.insert(name.clone(), Value::Null)));
            for name in &written.without {
                fields.remove(name).ok_or_else(|| format!("the sample has no field {name} to be without"))?;
            }
            fields.extend(written.value.as_ref().map(object).unwrap_or_default());
            written.null.iter().for_each(|name| drop(fields.insert(name.clone(), Value::Null)));
            Ok(fields)
        };
        let says_fields = |r: &WrittenRecord| r.value.is_some() || !r.null.is_empty() || !r.without.is_empty();
        let payload = match (&written.payload, written.tombstone) {
            (Some(_), true) => return Err("a tombstone has no payload".to_owned()),
            (None, true) if says_fields(written) => return Err("a tombstone has no fields".to_owned()),
            (None, true) => None,
            (Some(_), false) if says_fields(written) => {
                return Err("payload is the whole text; leave value, without and null out".to_owned());
            }
            (Some(text), false) => Some(text.clone()),
            (None, false) if says_fields(written) || says_fields(sample) => Some(Value::Object(fields()?).to_string()),
            (None, false) if sample.tombstone => None,
            (None, false) => {
                Some(sample.payload.clone().ok_or("write value = { … }, payload = '…' or tombstone = true")?)
            }
        };
        let timestamp = match written.timestamp.as_ref().or(sample.timestamp.as_ref()) {
            Some(moment) => micros("timestamp", moment)?.div_euclid(1000),
            None => TIMESTAMP,
        };
        Ok(TestRecord {
            stream: stream.ok_or("it names no stream, and neither does the file")?.clone(),
            partition: written.partition.or(sample.partition).unwrap_or(0),
            key: written.key.clone().or_else(|| sample.key.clone()),
            payload,
            timestamp,
        })
    }
}

impl WrittenDocument {
    fn expected(&self) -> Result<ExpectedDocument, String> {
        let fields = |what: &str, table: &toml::Table| {
            let field = |(name, of): (&String, &toml::Value)| match document_value(of) {
                Some(value) => Ok((name.clone(), value)),
                None => Err(format!(
                    "{what}.{name} = {of}: a document holds numbers and texts; write what the query yields: a time as \
                     \"2013-01-01 10:15:00.000000\", a date as \"2013-01-01\", true as 1"
                )),
            };
            table.iter().map(field).collect::<Result<document::Fields, String>>()
        };
        Ok(ExpectedDocument {
            bucket_start: micros("bucket_start", &self.bucket_start)?,
            key: fields("key", &self.key)?,
            values: fields("values", &self.values)?,
        })
    }
}

fn micros(what: &str, moment: &toml::value::Datetime) -> Result<i64, String> {
    let micros = time::parse_datetime(&moment.to_string());
    micros.ok_or_else(|| format!("{what} is a date with a time, as in 2013-01-01T00:00:00Z"))
}

fn document_value(of: &toml::Value) -> Option<document::Value> {
    match of {
        toml::Value::String(text) => Some(document::Value::Text(text.clone())),
        toml::Value::Integer(number) => Some(document::Value::Integer(*number)),
        toml::Value::Float(number) => Some(document::Value::Float(*number)),
        toml::Value::Boolean(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

fn object(table: &toml::Table) -> Map<String, Value> {
    table.iter().map(|(name, of)| (name.clone(), value(of))).collect()
}

/// Moments and dates become the texts that they are in JSON.
fn value(of: &toml::Value) -> Value {
    match of {
        toml::Value::String(text) => text.clone().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(holds) => (*holds).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => items.iter().map(value).collect(),
        toml::Value::Table(fields) => Value::Object(object(fields)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
stream = "orders"

[sample.order]
key = "k"
value = { id = 1, at = 2013-01-01T10:15:00Z, customer = "a", tags = ["x"] }

[[test]]
name = "all kinds of records"
[[test.record]]
sample = "order"
[[test.record]]
sample = "order"
partition = 3
without = ["tags"]
null = ["customer"]
value = { id = 2.5 }
timestamp = 2013-01-01T00:00:01Z
[[test.record]]
stream = "others"
payload = "no JSON"
[[test.record]]
sample = "order"
tombstone = true
[test.rows]
orders = [{ id = 1, at = 2013-01-01T10:15:00Z }]
customer = []
[[test.documents.sales_hourly]]
bucket_start = 2013-01-01T10:00:00Z
key.customer = "a"
values = { sales = 1, mean = 2.5 }
[[test.dead_letter]]
record = 3
reason = "invalid_json"
"#;

    #[test]
    fn records_are_made_of_samples_and_what_differs() {
        let tests = parse(FILE).unwrap();
        let test = &tests[0];
        let shown: Vec<_> = test
            .records
            .iter()
            .map(|r| {
                (r.stream.as_str(), r.partition, r.key.as_deref(), r.payload.as_deref().unwrap_or("-"), r.timestamp)
            })
            .collect();
        let whole = r#"{"at":"2013-01-01T10:15:00Z","customer":"a","id":1,"tags":["x"]}"#;
        let changed = r#"{"at":"2013-01-01T10:15:00Z","customer":null,"id":2.5}"#;
        assert_eq!(
            shown,
            [
                ("orders", 0, Some("k"), whole, TIMESTAMP),
                ("orders", 3, Some("k"), changed, 1_356_998_401_000),
                ("others", 0, None, "no JSON", TIMESTAMP),
                ("orders", 0, Some("k"), "-", TIMESTAMP),
            ]
        );
        assert_eq!(test.rows["orders"][0]["at"], "2013-01-01T10:15:00Z");
        assert!(test.rows["customer"].is_empty());
        let document = ExpectedDocument {
            bucket_start: 1_357_034_400_000_000,
            key: vec![("customer".into(), "a".into())],
            values: vec![("mean".into(), 2.5.into()), ("sales".into(), 1.into())],
        };
        assert_eq!(test.documents["sales_hourly"], [document]);
        assert_eq!((test.commit, test.dead_letters.len()), (Commit::Together, 1));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let test = |more: &str| format!("stream = \"s\"\n[[test]]\nname = \"t\"\n{more}");
        let record = "[[test.record]]\nvalue = { a = 1 }\n";
        for (text, told) in [
            (String::new(), "there is no [[test]] in it"),
            ("[[test]]\nname = 1".into(), "line 2: invalid type: integer `1`, expected a string"),
            (test("recrods = []"), "line 4: unknown field `recrods`"),
            (test(""), "test \"t\": it has no [[test.record]]"),
            (test("[[test.record]]\n"), "record 1: write value = { … }, payload = '…' or tombstone = true"),
            (test("[[test.record]]\nsample = \"x\"\n"), "record 1: there is no [sample.x]"),
            (test("[[test.record]]\nvalue = { }\npayload = \"x\"\n"), "record 1: payload is the whole text"),
            (test("[[test.record]]\ntombstone = true\npayload = \"x\"\n"), "a tombstone has no payload"),
            (test("[[test.record]]\nvalue = { }\nwithout = [\"x\"]\n"), "the sample has no field x to be without"),
            (test(&format!("only_named_columns = [\"x\"]\n{record}")), "names x, and neither rows nor documents does"),
            (
                test(&format!("{record}[[test.documents.d]]\nbucket_start = 2013-01-01\n")),
                "documents.d, document 1: bucket_start is a date with a time",
            ),
            (
                test(&format!("{record}[[test.documents.d]]\nbucket_start = 2013-01-01T00:00:00Z\nvalues.x = true\n")),
                "documents.d, document 1: values.x = true: a document holds numbers and texts",
            ),
            (test(&format!("{record}[[test.documents.d]]\nkey.x = 1\n")), "missing field `bucket_start`"),
            (test(&format!("{record}[[test.dead_letter]]\nrecord = 2\nreason = \"check\"\n")), "there is no record 2"),
            (
                test(&format!("{record}[[test.dead_letter]]\nrecord = 1\nreason = \"x\"\n")),
                "no dead letter has the reason x",
            ),
            (test(&format!("{record}[[test]]\nname = \"t\"\n{record}")), "two tests are named \"t\""),
            (format!("[[test]]\nname = \"t\"\n{record}"), "record 1: it names no stream, and neither does the file"),
        ] {
            let wrong = parse(&text).expect_err(&text);
            assert!(wrong.contains(told), "{text}: {wrong}");
        }
    }
}
