//! What a cached document is made of, and the text that names it. The forms are stored, so they are stable. Pure; the
//! name must sort by bucket, then by key, wherever text is compared byte by byte.

use std::borrow::Cow;
use std::fmt::Write as _;

use chrono::{DateTime, Datelike, Duration, NaiveDate, Timelike, Utc};
use serde::{Serialize, Serializer};

/// Stands between the parts of a name.
const SEPARATOR: char = '|';
/// The character behind the separator: bounds all names that begin with the same parts.
const BEHIND_SEPARATOR: char = '}';

/// What a column of an aggregate's query can be.
#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Integer(i64),
    Float(f64),
    Text(String),
}

/// Two that are not a number are equal, so that documents can be compared.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Integer(a), Value::Integer(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Text(a), Value::Text(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// For people and programs that read JSON: what is no number there is null.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Integer(n) => serializer.serialize_i64(*n),
            Value::Float(n) if !n.is_finite() => serializer.serialize_unit(),
            Value::Float(n) => serializer.serialize_f64(*n),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Integer(n)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Value::Float(n)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

/// Columns with their values, in the query's order.
pub type Fields = Vec<(String, Value)>;

/// The value of the column that is named so.
pub fn value_of<'f>(fields: &'f Fields, name: &str) -> Option<&'f Value> {
    fields.iter().find(|(column, _)| column == name).map(|(_, value)| value)
}

/// A stretch of time, its end not included. Both are whole seconds of the years 0 to 9999, so that they can be told in
/// text of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Bucket {
    /// `None` where a second is not whole, a year has not four digits, or the end is not behind the start.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Option<Self> {
        let sound = |moment: DateTime<Utc>| moment.nanosecond() == 0 && (0..=9999).contains(&moment.year());
        (sound(start) && sound(end) && start < end).then_some(Self { start, end })
    }

    pub fn start(&self) -> DateTime<Utc> {
        self.start
    }

    pub fn end(&self) -> DateTime<Utc> {
        self.end
    }
}

/// `AGGREGATE|START`: the name of a bucket.
pub fn bucket_id(aggregate: &str, bucket: Bucket) -> String {
    named(aggregate, Some(bucket.start))
}

/// `AGGREGATE|START|VALUE|…`: the name of a document, with the values of its key. In text, `\` is `\\` and `|` is `\p`;
/// null is `\N`. Values of one column are of one type: a number is named like the text of its digits.
pub fn document_id(aggregate: &str, bucket: Bucket, key: &[(String, Value)]) -> String {
    let mut id = bucket_id(aggregate, bucket);
    if key.is_empty() {
        id.push(SEPARATOR);
    }
    for (_, value) in key {
        id.push(SEPARATOR);
        // Writing to a String cannot fail.
        let _ = match value {
            Value::Null => write!(id, "\\N"),
            Value::Integer(n) => write!(id, "{n}"),
            Value::Float(n) => write!(id, "{n:?}"),
            Value::Text(text) => write!(id, "{}", escaped_text(text)),
        };
    }
    id
}

/// The names of a bucket's documents: from the first, included, to the second, not included.
pub fn ids_of_bucket(aggregate: &str, bucket_start: DateTime<Utc>) -> (String, String) {
    between(&named(aggregate, Some(bucket_start)))
}

/// The names of all buckets, and of all documents, of an aggregate whose buckets start at `from` or later and before
/// `to`: from the first, included, to the second, not included.
pub fn ids_of_range(aggregate: &str, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> (String, String) {
    let (first, last) = between(&named(aggregate, None));
    let first = match from {
        Some(from) => named(aggregate, Some(whole_second(from))),
        None => first,
    };
    let last = match to {
        Some(to) if to <= latest() => named(aggregate, Some(whole_second(to))),
        _ => last,
    };
    (first, last)
}

/// What begins with this name and the separator.
fn between(name: &str) -> (String, String) {
    (format!("{name}{SEPARATOR}"), format!("{name}{BEHIND_SEPARATOR}"))
}

fn named(aggregate: &str, start: Option<DateTime<Utc>>) -> String {
    let mut name = escaped_text(aggregate).into_owned();
    if let Some(start) = start {
        name.push(SEPARATOR);
        let _ = write!(name, "{}", start.format("%Y-%m-%dT%H:%M:%SZ"));
    }
    name
}

/// This second or, within one, the next: buckets start at whole ones. Within the years that names can tell.
fn whole_second(moment: DateTime<Utc>) -> DateTime<Utc> {
    let moment = moment.clamp(earliest(), latest());
    match moment.with_nanosecond(0) {
        Some(whole) if whole < moment => whole + Duration::seconds(1),
        _ => moment,
    }
}

fn earliest() -> DateTime<Utc> {
    day(0, 1, 1)
}

/// The last whole second that a name can tell.
fn latest() -> DateTime<Utc> {
    day(9999, 12, 31) + Duration::seconds(86_399)
}

fn day(year: i32, month: u32, day: u32) -> DateTime<Utc> {
    let midnight = NaiveDate::from_ymd_opt(year, month, day).and_then(|date| date.and_hms_opt(0, 0, 0));
    midnight.unwrap_or_default().and_utc()
}

fn escaped_text(text: &str) -> Cow<'_, str> {
    if text.contains(['\\', SEPARATOR]) {
        Cow::Owned(text.replace('\\', "\\\\").replace(SEPARATOR, "\\p"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A column's or topic's name as a field's name within a document: what has a meaning of its own in field names and in
/// paths to them is written `%XX`.
pub fn field_name(name: &str) -> Cow<'_, str> {
    if !name.chars().any(is_special) {
        return Cow::Borrowed(name);
    }
    let mut field = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if is_special(c) {
            let _ = write!(field, "%{:02X}", u32::from(c));
        } else {
            field.push(c);
        }
    }
    Cow::Owned(field)
}

/// The name that [`field_name`] made a field's name of. What is no `%XX` stays as it is.
pub fn column_name(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('%') {
        name.push_str(before);
        let special = after.get(..2).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match special.and_then(char::from_u32).filter(|c| is_special(*c)) {
            Some(c) => {
                name.push(c);
                rest = &after[2..];
            }
            None => {
                name.push('%');
                rest = after;
            }
        }
    }
    name.push_str(rest);
    name
}

/// Dots and dollar signs lead paths of MongoDB astray, quotes and backslashes those of SQLite; the rest is no text.
fn is_special(c: char) -> bool {
    matches!(c, '%' | '.' | '$' | '"' | '\\') || c.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn hour(n: i64) -> Bucket {
        Bucket::new(at(n * 3600), at(n * 3600 + 3600)).unwrap()
    }

    fn key(values: &[Value]) -> Fields {
        values.iter().enumerate().map(|(n, value)| (format!("k{n}"), value.clone())).collect()
    }

    #[test]
    fn a_document_is_named_by_aggregate_bucket_and_key() {
        let named = |values: &[Value]| document_id("sums", hour(1), &key(values));
        assert_eq!(named(&["EWR".into(), 7.into()]), "sums|1970-01-01T01:00:00Z|EWR|7");
        assert_eq!(named(&[]), "sums|1970-01-01T01:00:00Z|");
        assert_eq!(named(&["a|b\\c".into(), Value::Null, "\\N".into()]), r"sums|1970-01-01T01:00:00Z|a\pb\\c|\N|\\N");
        assert_eq!(named(&[Value::Float(1.0), "ü😀".into()]), "sums|1970-01-01T01:00:00Z|1.0|ü😀");
    }

    #[test]
    fn a_bucket_has_whole_seconds_and_an_end_behind_its_start() {
        assert!(Bucket::new(at(5), at(5)).is_none());
        assert!(Bucket::new(at(5) + Duration::microseconds(1), at(9)).is_none());
        assert!(Bucket::new(at(5), at(300_000_000_000)).is_none());
        assert_eq!(Bucket::new(at(5), at(9)).unwrap().end(), at(9));
    }

    #[test]
    fn a_range_holds_the_buckets_that_start_in_it_and_no_others() {
        let holds = |range: &(String, String), n: i64| {
            let ids = [document_id("a", hour(n), &key(&["x".into()])), bucket_id("a", hour(n))];
            ids.map(|id| range.0 <= id && id < range.1)
        };
        let (from, to) = (Some(at(3600)), Some(at(7200)));
        for (range, within) in [
            (ids_of_range("a", from, to), [false, true, false]),
            (ids_of_range("a", None, to), [true, true, false]),
            (ids_of_range("a", from, None), [false, true, true]),
            (ids_of_range("a", None, None), [true, true, true]),
            (ids_of_range("a", from.map(|f| f + Duration::milliseconds(1)), None), [false, false, true]),
            (ids_of_range("a", None, to.map(|t| t + Duration::milliseconds(1))), [true, true, true]),
            (ids_of_range("a", Some(DateTime::<Utc>::MIN_UTC), Some(DateTime::<Utc>::MAX_UTC)), [true, true, true]),
            (ids_of_range("b", None, None), [false, false, false]),
            (ids_of_range("", None, None), [false, false, false]),
        ] {
            assert_eq!([0, 1, 2].map(|n| holds(&range, n)), within.map(|w| [w, w]), "{range:?}");
        }
    }

    #[test]
    fn a_buckets_names_hold_its_documents_alone() {
        let (first, last) = ids_of_bucket("a", at(3600));
        let holds = |id: &str| first.as_str() <= id && id < last.as_str();
        assert!(holds(&document_id("a", hour(1), &[])));
        assert!(holds(&document_id("a", hour(1), &key(&["\u{10ffff}".into()]))));
        assert!(!holds(&bucket_id("a", hour(1))));
        assert!(!holds(&document_id("a", hour(2), &[])));
        assert!(!holds(&document_id("ab", hour(1), &[])));
    }

    #[test]
    fn not_a_number_equals_itself_and_is_null_in_json() {
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_ne!(Value::Float(1.0), Value::Integer(1));
        let values = [Value::Float(f64::NAN), Value::Float(f64::INFINITY), Value::Float(1.0), 1.into(), "1".into()];
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"[null,null,1.0,1,"1"]"#);
    }

    #[test]
    fn a_fields_name_has_nothing_that_leads_a_path_astray() {
        assert_eq!(field_name("mean_delay"), "mean_delay");
        assert_eq!(field_name("orders.v1"), "orders%2Ev1");
        assert_eq!(field_name("$a\"b\\%\0ü"), "%24a%22b%5C%25%00ü");
        assert_eq!(column_name("%24a%22b%5C%25%00ü"), "$a\"b\\%\0ü");
        assert_eq!(column_name("100%"), "100%");
        assert_eq!(column_name("%zz%ü%41"), "%zz%ü%41");
    }

    proptest! {
        #[test]
        fn every_name_comes_back_from_its_field(name in "[a-z.$%\"\\\\\\x00-\\x1f ü😀0-9A-F]{0,12}") {
            let field = field_name(&name).into_owned();
            prop_assert!(!field.contains(['.', '$', '"', '\\', '\0']));
            prop_assert_eq!(column_name(&field), name);
        }

        #[test]
        fn different_keys_have_different_names(
            a in proptest::collection::vec(prop_oneof![Just(Value::Null), "[N|\\\\px]{0,4}".prop_map(Value::Text)], 2),
            b in proptest::collection::vec(prop_oneof![Just(Value::Null), "[N|\\\\px]{0,4}".prop_map(Value::Text)], 2),
        ) {
            let (a, b) = (key(&a), key(&b));
            prop_assert_eq!(document_id("a", hour(0), &a) == document_id("a", hour(0), &b), a == b);
        }

        #[test]
        fn names_sort_as_buckets_do(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000) {
            let (one, other) = (document_id("a", hour(a), &[]), document_id("a", hour(b), &[]));
            prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        }
    }
}
