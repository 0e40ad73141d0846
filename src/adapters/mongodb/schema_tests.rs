//! Stored documents against docs/schemas/aggregate-document.schema.json: what is documented is what is written.

use std::collections::{BTreeMap, BTreeSet};

use ::mongodb::bson::{Bson, Document as Stored, doc};
use chrono::DateTime;
use serde_json::{Value as Json, json};

use super::documents;
use crate::core::document::{Bucket, document_id};
use crate::ports::cache::{Entry, Replacement};

fn schema() -> Json {
    serde_json::from_str(include_str!("../../../docs/schemas/aggregate-document.schema.json")).unwrap()
}

/// Relaxed extended JSON of the kinds of values that are stored.
fn extended(value: &Bson) -> Json {
    match value {
        Bson::Null => Json::Null,
        Bson::Int64(n) => json!(n),
        Bson::Double(n) if n.is_finite() => json!(n),
        Bson::Double(n) if n.is_nan() => json!({ "$numberDouble": "NaN" }),
        Bson::Double(n) => json!({ "$numberDouble": if *n > 0.0 { "Infinity" } else { "-Infinity" } }),
        Bson::String(text) => json!(text),
        Bson::DateTime(moment) => json!({ "$date": moment.try_to_rfc3339_string().unwrap() }),
        Bson::Document(inner) => inner.iter().map(|(name, value)| (name.clone(), extended(value))).collect(),
        other => panic!("{other:?} is not of a kind that is documented"),
    }
}

/// What does not fit, by the words of JSON Schema that ours uses; any other word is refused.
fn misfits(schema: &Json, value: &Json, root: &Json, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words = schema.as_object().unwrap();
    for (word, asked) in words {
        match word.as_str() {
            "$schema" | "title" | "description" | "$defs" | "properties" | "pattern" => {}
            "$ref" => {
                let pointer = asked.as_str().unwrap().trim_start_matches('#');
                found.extend(misfits(root.pointer(pointer).unwrap(), value, root, at));
            }
            "type" => {
                let fits = match asked.as_str().unwrap() {
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    "null" => value.is_null(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64(),
                    other => panic!("the type {other}"),
                };
                if !fits {
                    found.push(format!("{at}: {value} is no {asked}"));
                }
            }
            "minimum" => {
                if value.as_i64().is_some_and(|n| Some(n) < asked.as_i64()) {
                    found.push(format!("{at}: {value} is below {asked}"));
                }
            }
            "enum" => {
                if !asked.as_array().unwrap().contains(value) {
                    found.push(format!("{at}: {value} is none of {asked}"));
                }
            }
            "oneOf" => {
                let fit = |s: &&Json| misfits(s, value, root, at).is_empty();
                if asked.as_array().unwrap().iter().filter(fit).count() != 1 {
                    found.push(format!("{at}: {value} is not one of {asked}"));
                }
            }
            "required" => {
                for name in asked.as_array().unwrap() {
                    if value.as_object().is_some_and(|members| !members.contains_key(name.as_str().unwrap())) {
                        found.push(format!("{at}: no {name}"));
                    }
                }
            }
            "additionalProperties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    match (words.get("properties").and_then(|p| p.get(name)), asked) {
                        (Some(schema), _) => found.extend(misfits(schema, member, root, &at)),
                        (None, Json::Bool(false)) => found.push(format!("{at} is not in the schema")),
                        (None, schema) => found.extend(misfits(schema, member, root, &at)),
                    }
                }
            }
            other => panic!("the word {other} of JSON Schema is not known to this test"),
        }
    }
    found
}

fn stored() -> Stored {
    let at = |second| DateTime::from_timestamp(second, 0).unwrap();
    let entry = Entry {
        key: vec![("shop".to_owned(), "no|rth".into()), ("aisle".to_owned(), 3.into())],
        values: vec![
            ("orders".to_owned(), 12.into()),
            ("mean".to_owned(), 0.5.into()),
            ("a.b".to_owned(), f64::NAN.into()),
            ("none".to_owned(), crate::core::document::Value::Null),
        ],
    };
    let replacement = Replacement {
        aggregate: "sums".to_owned(),
        bucket: Bucket::new(at(0), at(3600)).unwrap(),
        version: 7,
        computed_at: at(4000),
        offsets: BTreeMap::from([("orders.v1".to_owned(), BTreeMap::from([(0, 12)]))]),
        entries: vec![entry],
    };
    let entry = &replacement.entries[0];
    let id = document_id("sums", replacement.bucket, &entry.key);
    documents::document(&replacement, &id, entry)
}

#[test]
fn a_stored_document_is_as_its_schema_says() {
    let schema = schema();
    let document = extended(&Bson::Document(stored()));
    assert_eq!(misfits(&schema, &document, &schema, "document"), Vec::<String>::new());
    let names: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let written: BTreeSet<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(names, written, "each of the schema's fields is written");
    assert_eq!(document["_id"], r"sums|1970-01-01T00:00:00Z|no\prth|3");
    assert_eq!(document["bucket_start"], json!({ "$date": "1970-01-01T00:00:00Z" }));
    assert_eq!(document["values"]["a%2Eb"], json!({ "$numberDouble": "NaN" }));
}

#[test]
fn what_is_not_as_the_schema_says_is_found() {
    let schema = schema();
    let document = stored();
    let changes: [(&str, Option<Bson>); 6] = [
        ("version", Some("7".into())),
        ("version", Some((-1_i64).into())),
        ("offsets", None),
        ("more", Some(Bson::Null)),
        ("bucket_start", Some("1970-01-01T00:00:00Z".into())),
        ("values", Some(doc! { "list": { "x": 1_i64 } }.into())),
    ];
    for (field, change) in changes {
        let mut changed = document.clone();
        match change {
            Some(value) => drop(changed.insert(field, value)),
            None => drop(changed.remove(field)),
        }
        assert_eq!(misfits(&schema, &extended(&changed.into()), &schema, "document").len(), 1, "{field}");
    }
}
