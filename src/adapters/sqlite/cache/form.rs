//! Fields and offsets as JSON text within a row, in the order of the query. Numbers come back as they went in: a whole one
//! as a whole one, a float to its last bit, and what is no number in the form of MongoDB's extended JSON.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::core::document::{column_name, field_name};
use crate::ports::cache::{Fields, Offsets, Value};

/// Names what is no finite number.
const NO_NUMBER: &str = "$numberDouble";

struct Stored<'a>(&'a Value);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Float(n) if !n.is_finite() => {
                let text = if n.is_nan() {
                    "NaN"
                } else if *n > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(NO_NUMBER, text)?;
                map.end()
            }
            value => value.serialize(serializer),
        }
    }
}

struct StoredFields<'a>(&'a [(String, Value)]);

impl Serialize for StoredFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (field_name(name), Stored(value))))
    }
}

pub(super) fn fields(fields: &[(String, Value)]) -> String {
    // Text and numbers can always be written.
    serde_json::to_string(&StoredFields(fields)).unwrap_or_default()
}

pub(super) fn offsets(offsets: &Offsets) -> String {
    let named: BTreeMap<_, _> = offsets.iter().map(|(topic, partitions)| (field_name(topic), partitions)).collect();
    serde_json::to_string(&named).unwrap_or_default()
}

/// An object's members in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Reads what [`fields`] wrote.
pub(super) fn read_fields(text: &str) -> Option<Fields> {
    let Members(members) = serde_json::from_str(text).ok()?;
    members.into_iter().map(|(field, value)| Some((column_name(&field), read_value(value.get())?))).collect()
}

fn read_value(text: &str) -> Option<Value> {
    Some(match text.as_bytes().first()? {
        b'n' => Value::Null,
        b'"' => Value::Text(serde_json::from_str(text).ok()?),
        b'{' => match &serde_json::from_str::<BTreeMap<String, String>>(text).ok()?.into_iter().collect::<Vec<_>>()[..]
        {
            [(name, n)] if name == NO_NUMBER => Value::Float(n.parse().ok()?),
            _ => return None,
        },
        // The library's own reading of floats may miss the last bit.
        _ if text.contains(['.', 'e', 'E']) => Value::Float(text.parse().ok()?),
        _ => Value::Integer(text.parse().ok()?),
    })
}

/// Reads what [`offsets`] wrote.
pub(super) fn read_offsets(text: &str) -> Option<Offsets> {
    let named: BTreeMap<String, BTreeMap<i32, i64>> = serde_json::from_str(text).ok()?;
    Some(named.into_iter().map(|(topic, partitions)| (column_name(&topic), partitions)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            any::<i32>().prop_map(|n| Value::Float(f64::from(n))),
            any::<String>().prop_map(Value::Text),
        ]
    }

    proptest! {
        #[test]
        fn fields_come_back_as_they_went_in(fields in proptest::collection::vec((any::<String>(), value()), 0..5)) {
            let read = read_fields(&super::fields(&fields));
            prop_assert_eq!(read.as_ref(), Some(&fields));
        }
    }

    #[test]
    fn the_order_and_the_kind_of_numbers_are_kept() {
        let fields: Fields = vec![
            ("z".to_owned(), 1.into()),
            ("a".to_owned(), 1.0.into()),
            ("m".to_owned(), (-0.0).into()),
            ("n".to_owned(), f64::NAN.into()),
            ("i".to_owned(), f64::NEG_INFINITY.into()),
        ];
        let text = super::fields(&fields);
        assert_eq!(text, r#"{"z":1,"a":1.0,"m":-0.0,"n":{"$numberDouble":"NaN"},"i":{"$numberDouble":"-Infinity"}}"#);
        let read = read_fields(&text).unwrap();
        assert_eq!(read, fields);
        assert!(matches!(read[2].1, Value::Float(n) if n.is_sign_negative()));
    }

    #[test]
    fn offsets_come_back_and_what_is_none_of_ours_is_refused() {
        let given = BTreeMap::from([("orders.v1".to_owned(), BTreeMap::from([(0, 1), (12, i64::MAX)]))]);
        assert_eq!(offsets(&given), r#"{"orders%2Ev1":{"0":1,"12":9223372036854775807}}"#);
        assert_eq!(read_offsets(&offsets(&given)), Some(given));
        for text in ["", "[]", "{\"a\":[1]}", "{\"a\":true}", "{\"a\":{\"$numberDouble\":1}}", "{\"a\":{}}"] {
            assert_eq!(read_fields(text), None, "{text}");
        }
    }
}
