//! What a bucket's cached documents have other than what the warehouse's rows come to now, document by document and field
//! by field. Pure; values are equal only where they are the same to the last bit, since both come from the same query.

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::{Bucket, Fields, Value, document_id};

/// A document as it stands in the cache, or as it would be now.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown<'d> {
    pub bucket: Bucket,
    pub key: &'d Fields,
    pub values: &'d Fields,
    pub version: i64,
}

/// One document that is not as it would be now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// None for what the cache tells of the bucket as a whole.
    #[serde(serialize_with = "as_map")]
    pub key: Option<Fields>,
    #[serde(flatten)]
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The rows make it, the cache has it not.
    Missing,
    /// The cache has it, no row makes it.
    Surplus,
    Differs {
        fields: Vec<FieldDifference>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldDifference {
    /// A column of the query, or a field that every document has.
    pub field: String,
    /// None where there is no such field.
    pub cached: Option<Value>,
    pub computed: Option<Value>,
}

fn as_map<S: serde::Serializer>(fields: &Option<Fields>, serializer: S) -> Result<S::Ok, S::Error> {
    match fields {
        Some(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
        None => serializer.serialize_none(),
    }
}

impl Difference {
    /// What the cache tells of the bucket as a whole: its version. None on the cache's side where it tells nothing.
    pub fn of_bucket(cached: Option<i64>, computed: i64) -> Self {
        let field = FieldDifference {
            field: "version".to_owned(),
            cached: cached.map(Value::Integer),
            computed: Some(Value::Integer(computed)),
        };
        Self { key: None, kind: Kind::Differs { fields: vec![field] } }
    }
}

/// Both of one bucket of one aggregate, by its name. A document's version is compared where both have one that counts: the
/// computed one's is what it would be written under.
pub fn differences(aggregate: &str, cached: &[Shown<'_>], computed: &[Shown<'_>]) -> Vec<Difference> {
    // By name, which all that makes the same key shares.
    let named = |shown: &[Shown<'_>]| -> BTreeMap<String, usize> {
        shown.iter().enumerate().map(|(at, one)| (document_id(aggregate, one.bucket, one.key), at)).collect()
    };
    let (have, want) = (named(cached), named(computed));
    let mut found = Vec::new();
    for (name, at) in &want {
        let wanted = &computed[*at];
        let kind = match have.get(name) {
            None => Kind::Missing,
            Some(at) => match differing_fields(&cached[*at], wanted) {
                fields if fields.is_empty() => continue,
                fields => Kind::Differs { fields },
            },
        };
        found.push(Difference { key: Some(wanted.key.clone()), kind });
    }
    let surplus = have.iter().filter(|(name, _)| !want.contains_key(*name));
    found.extend(surplus.map(|(_, at)| Difference { key: Some(cached[*at].key.clone()), kind: Kind::Surplus }));
    found
}

fn differing_fields(cached: &Shown<'_>, computed: &Shown<'_>) -> Vec<FieldDifference> {
    let mut fields = Vec::new();
    let mut compare = |field: &str, cached: Option<&Value>, computed: Option<&Value>| {
        if cached != computed {
            let (cached, computed) = (cached.cloned(), computed.cloned());
            fields.push(FieldDifference { field: field.to_owned(), cached, computed });
        }
    };
    let value = |fields: &Fields, name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    for (name, wanted) in computed.values {
        compare(name, value(cached.values, name).as_ref(), Some(wanted));
    }
    for (name, had) in cached.values.iter().filter(|(name, _)| computed.values.iter().all(|(n, _)| n != name)) {
        compare(name, Some(had), None);
    }
    let moment = |bucket: &Bucket| Value::Text(bucket.end().to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    compare("bucket_end", Some(&moment(&cached.bucket)), Some(&moment(&computed.bucket)));
    compare("version", Some(&Value::Integer(cached.version)), Some(&Value::Integer(computed.version)));
    fields
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn bucket(hours: i64) -> Bucket {
        let at = |hour: i64| DateTime::from_timestamp(hour * 3600, 0).unwrap();
        Bucket::new(at(0), at(hours)).unwrap()
    }

    fn fields(of: &[(&str, Value)]) -> Fields {
        of.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn key(shop: &str) -> Fields {
        fields(&[("shop", shop.into())])
    }

    fn shown<'d>(key: &'d Fields, values: &'d Fields) -> Shown<'d> {
        Shown { bucket: bucket(1), key, values, version: 7 }
    }

    #[test]
    fn the_same_is_no_difference_whatever_the_order() {
        let (a, b) = (key("a"), key("b"));
        let values = fields(&[("n", 1.into()), ("mean", f64::NAN.into())]);
        let turned = fields(&[("mean", f64::NAN.into()), ("n", 1.into())]);
        let found =
            differences("sums", &[shown(&b, &values), shown(&a, &turned)], &[shown(&a, &values), shown(&b, &values)]);
        assert_eq!(found, []);
    }

    #[test]
    fn each_document_that_differs_is_told_with_its_fields() {
        let keys = ["a", "b", "c"].map(key);
        let (values, edited) =
            (fields(&[("n", 1.into()), ("mean", 0.5.into())]), fields(&[("n", 2.into()), ("x", 3.into())]));
        let cached = [shown(&keys[0], &edited), shown(&keys[1], &values)];
        let computed = [shown(&keys[0], &values), shown(&keys[2], &values)];
        let field = |name: &str, cached: Option<Value>, computed: Option<Value>| FieldDifference {
            field: name.to_owned(),
            cached,
            computed,
        };
        let differs = Kind::Differs {
            fields: vec![
                field("n", Some(2.into()), Some(1.into())),
                field("mean", None, Some(0.5.into())),
                field("x", Some(3.into()), None),
            ],
        };
        let wanted = [(0, differs), (2, Kind::Missing), (1, Kind::Surplus)]
            .map(|(key, kind)| Difference { key: Some(keys[key].clone()), kind });
        assert_eq!(differences("sums", &cached, &computed), wanted);
    }

    #[test]
    fn the_last_bit_an_end_and_a_version_count() {
        let (a, values, near) = (key("a"), fields(&[("x", 0.3.into())]), fields(&[("x", (0.1 + 0.2).into())]));
        let names = |cached: Shown<'_>| match &differences("sums", &[cached], &[shown(&a, &values)])[..] {
            [Difference { kind: Kind::Differs { fields }, .. }] => fields.iter().map(|f| f.field.clone()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(names(shown(&a, &near)), ["x"]);
        assert_eq!(names(Shown { version: 8, ..shown(&a, &values) }), ["version"]);
        assert_eq!(names(Shown { bucket: bucket(2), ..shown(&a, &values) }), ["bucket_end"]);
    }

    #[test]
    fn a_difference_is_told_in_json() {
        let missing = Difference { key: Some(key("a")), kind: Kind::Missing };
        assert_eq!(serde_json::to_string(&missing).unwrap(), r#"{"key":{"shop":"a"},"kind":"missing"}"#);
        assert_eq!(
            serde_json::to_string(&Difference::of_bucket(None, 4)).unwrap(),
            r#"{"key":null,"kind":"differs","fields":[{"field":"version","cached":null,"computed":4}]}"#
        );
    }
}
