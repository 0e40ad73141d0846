//! Which value of a document is meant: `partition`, `record.customer.city`, `rows.orders.id`, or a record's field by its
//! bare name.

use serde_json::{Map, Value};

/// Characters of a value that things are counted by.
const LABEL_CHARS: usize = 80;

/// A path into a document, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    /// As it was written.
    name: String,
    segments: Vec<String>,
}

impl FieldPath {
    /// Where the path's first segment is none of `names`, it is a field of `record`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str, names: &[&str]) -> Result<Self, String> {
        let name = text.trim();
        let mut segments: Vec<String> = name.split('.').map(str::to_owned).collect();
        if segments.iter().any(String::is_empty) {
            return Err("a field is empty; write names with points between them, as in record.customer.city".to_owned());
        }
        if !names.contains(&segments[0].as_str()) {
            segments.insert(0, "record".to_owned());
        }
        Ok(Self { name: name.to_owned(), segments })
    }

    /// As it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value; null where there is none. Of a list the values of all its items, unless the path counts into it; one
    /// that has a single item is that item's.
    pub fn of(&self, document: &Map<String, Value>) -> Value {
        document.get(&self.segments[0]).map_or(Value::Null, |value| pick(value, &self.segments[1..]))
    }

    /// The value as a short text, to count by.
    pub fn label(&self, document: &Map<String, Value>) -> String {
        let text = match self.of(document) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match text.char_indices().nth(LABEL_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

fn pick(value: &Value, segments: &[String]) -> Value {
    let Some((segment, rest)) = segments.split_first() else { return value.clone() };
    match value {
        Value::Object(fields) => fields.get(segment).map_or(Value::Null, |field| pick(field, rest)),
        Value::Array(items) => match segment.parse::<usize>() {
            Ok(at) => items.get(at).map_or(Value::Null, |item| pick(item, rest)),
            Err(_) => match items.as_slice() {
                [] => Value::Null,
                [only] => pick(only, segments),
                several => several.iter().map(|item| pick(item, segments)).collect(),
            },
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMES: [&str; 3] = ["partition", "record", "rows"];

    fn picked(path: &str) -> Value {
        let document = json!({
            "partition": 3,
            "record": { "city": "Bern", "partition": 9, "a": { "b": [{ "c": 1 }, { "c": 2 }] } },
            "rows": { "orders": [{ "id": 7 }], "cities": [{ "id": 1 }, { "id": 2 }], "none": [] },
        });
        let Value::Object(document) = document else { panic!("an object") };
        FieldPath::new(path, &NAMES).unwrap().of(&document)
    }

    #[test]
    fn a_bare_name_is_the_records_unless_the_document_has_it() {
        assert_eq!(picked("city"), "Bern");
        assert_eq!(picked("partition"), 3);
        assert_eq!(picked("record.partition"), 9);
        assert_eq!(picked("nothing.at.all"), Value::Null);
    }

    #[test]
    fn lists_are_gone_through_or_counted_into() {
        assert_eq!(picked("rows.orders.id"), 7);
        assert_eq!(picked("rows.cities.id"), json!([1, 2]));
        assert_eq!(picked("rows.cities.1.id"), 2);
        assert_eq!(picked("rows.cities.5.id"), Value::Null);
        assert_eq!(picked("rows.none.id"), Value::Null);
        assert_eq!(picked("a.b.c"), json!([1, 2]));
    }

    #[test]
    fn labels_are_short_and_texts_bare() {
        let Value::Object(document) = json!({ "record": { "a": "x".repeat(100), "b": 1.5, "c": null } }) else {
            panic!("an object")
        };
        let label = |path: &str| FieldPath::new(path, &NAMES).unwrap().label(&document);
        assert_eq!(label("a"), format!("{}…", "x".repeat(80)));
        assert_eq!([label("b"), label("c")], ["1.5", "null"]);
    }

    #[test]
    fn an_empty_segment_is_refused() {
        for path in ["", "a..b", ".a", "a."] {
            assert!(FieldPath::new(path, &NAMES).is_err(), "{path}");
        }
    }
}
