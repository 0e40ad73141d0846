//! Documents as they are stored; docs/schemas/aggregate-document.schema.json describes the form. What is read back may
//! have been changed by hand: it is checked.

use ::mongodb::bson::{Bson, DateTime as BsonDate, Document as Stored, doc};
use chrono::{DateTime, Utc};

use crate::core::document::{Bucket, bucket_id, column_name, field_name};
use crate::ports::cache::{BucketState, CacheError, Document, Entry, Fields, Offsets, Replacement, Value};

pub(super) fn date(moment: DateTime<Utc>) -> BsonDate {
    BsonDate::from_millis(moment.timestamp_millis())
}

/// The document of one entry.
pub(super) fn document(replacement: &Replacement, id: &str, entry: &Entry) -> Stored {
    doc! {
        "_id": id,
        "aggregate": &replacement.aggregate,
        "key": fields(&entry.key),
        "bucket_start": date(replacement.bucket.start()),
        "bucket_end": date(replacement.bucket.end()),
        "values": fields(&entry.values),
        "version": replacement.version,
        "computed_at": date(replacement.computed_at),
        "offsets": offsets(&replacement.offsets),
    }
}

/// The document that says how far a bucket is.
pub(super) fn bucket(replacement: &Replacement) -> Stored {
    doc! {
        "_id": bucket_id(&replacement.aggregate, replacement.bucket),
        "aggregate": &replacement.aggregate,
        "bucket_start": date(replacement.bucket.start()),
        "bucket_end": date(replacement.bucket.end()),
        "version": replacement.version,
        "entries": i64::try_from(replacement.entries.len()).unwrap_or(i64::MAX),
        "computed_at": date(replacement.computed_at),
        "offsets": offsets(&replacement.offsets),
    }
}

fn fields(fields: &[(String, Value)]) -> Stored {
    fields.iter().map(|(name, value)| (field_name(name).into_owned(), bson(value))).collect()
}

pub(super) fn bson(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Integer(n) => Bson::Int64(*n),
        Value::Float(n) => Bson::Double(*n),
        Value::Text(text) => Bson::String(text.clone()),
    }
}

fn offsets(offsets: &Offsets) -> Stored {
    let partitions = |partitions: &std::collections::BTreeMap<i32, i64>| -> Stored {
        partitions.iter().map(|(partition, next)| (partition.to_string(), Bson::Int64(*next))).collect()
    };
    offsets.iter().map(|(topic, of)| (field_name(topic).into_owned(), Bson::Document(partitions(of)))).collect()
}

/// Reads what [`document`] made.
pub(super) fn read(stored: &Stored) -> Result<Document, CacheError> {
    let read = || {
        Some(Document {
            aggregate: stored.get_str("aggregate").ok()?.to_owned(),
            key: read_fields(stored.get_document("key").ok()?)?,
            bucket: read_bucket(stored)?,
            values: read_fields(stored.get_document("values").ok()?)?,
            version: whole(stored.get("version")?)?,
            computed_at: moment(stored, "computed_at")?,
            offsets: read_offsets(stored.get_document("offsets").ok()?)?,
        })
    };
    read().ok_or_else(|| unreadable(stored))
}

/// Reads what [`bucket`] made.
pub(super) fn read_state(stored: &Stored) -> Result<BucketState, CacheError> {
    let read = || {
        Some(BucketState {
            bucket: read_bucket(stored)?,
            version: whole(stored.get("version")?)?,
            entries: count(stored.get("entries")?)?,
            computed_at: moment(stored, "computed_at")?,
        })
    };
    read().ok_or_else(|| unreadable(stored))
}

/// Name and version of a document of either kind.
pub(super) fn read_version(stored: &Stored) -> Result<(String, i64), CacheError> {
    let read = || Some((stored.get_str("_id").ok()?.to_owned(), whole(stored.get("version")?)?));
    read().ok_or_else(|| unreadable(stored))
}

/// A sum that the server made, of whatever kind of number.
pub(super) fn count(number: &Bson) -> Option<u64> {
    u64::try_from(whole(number)?).ok()
}

fn read_bucket(stored: &Stored) -> Option<Bucket> {
    Bucket::new(moment(stored, "bucket_start")?, moment(stored, "bucket_end")?)
}

fn moment(stored: &Stored, field: &str) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(stored.get_datetime(field).ok()?.timestamp_millis())
}

fn read_fields(stored: &Stored) -> Option<Fields> {
    stored.iter().map(|(field, value)| Some((column_name(field), read_value(value)?))).collect()
}

fn read_value(value: &Bson) -> Option<Value> {
    Some(match value {
        Bson::Null => Value::Null,
        Bson::Int32(n) => Value::Integer(i64::from(*n)),
        Bson::Int64(n) => Value::Integer(*n),
        Bson::Double(n) => Value::Float(*n),
        Bson::String(text) => Value::Text(text.clone()),
        _ => return None,
    })
}

fn read_offsets(stored: &Stored) -> Option<Offsets> {
    let partitions = |stored: &Stored| {
        stored.iter().map(|(partition, next)| Some((partition.parse().ok()?, whole(next)?))).collect::<Option<_>>()
    };
    stored.iter().map(|(topic, of)| Some((column_name(topic), partitions(of.as_document()?)?))).collect()
}

/// A whole number, whatever a shell or another language made of it.
pub(super) fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        // Within these all whole numbers have a double of their own.
        Bson::Double(n) if n.fract() == 0.0 && n.abs() < 9.0e15 => Some(*n as i64),
        _ => None,
    }
}

fn unreadable(stored: &Stored) -> CacheError {
    let id = stored.get("_id").map_or_else(|| "without _id".to_owned(), ToString::to_string);
    CacheError::Fatal {
        what: format!(
            "the cached document {id} is not as bief writes it: it was changed by hand, or is somebody else's; remove it, \
             and have its bucket computed again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn replacement() -> Replacement {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        Replacement {
            aggregate: "sums".to_owned(),
            bucket: Bucket::new(at(3600), at(7200)).unwrap(),
            version: 3,
            computed_at: DateTime::from_timestamp_micros(7_200_123_456).unwrap(),
            offsets: BTreeMap::from([("orders.v1".to_owned(), BTreeMap::from([(0, 10), (11, i64::MAX)]))]),
            entries: vec![Entry {
                key: vec![("shop".to_owned(), "a".into()), ("aisle.$".to_owned(), Value::Null)],
                values: vec![
                    ("z".to_owned(), i64::MIN.into()),
                    ("a".to_owned(), f64::NAN.into()),
                    ("empty".to_owned(), Value::Null),
                ],
            }],
        }
    }

    #[test]
    fn a_document_comes_back_as_it_went_in_but_for_microseconds() {
        let replacement = replacement();
        let stored = document(&replacement, "id", &replacement.entries[0]);
        let read = read(&stored).unwrap();
        assert_eq!((&read.key, &read.values), (&replacement.entries[0].key, &replacement.entries[0].values));
        assert_eq!((read.bucket, read.version), (replacement.bucket, 3));
        assert_eq!(read.computed_at.timestamp_micros(), 7_200_123_000);
        assert_eq!(read.offsets, replacement.offsets);
        let state = read_state(&bucket(&replacement)).unwrap();
        assert_eq!((state.bucket, state.version, state.entries), (replacement.bucket, 3, 1));
        assert_eq!(read_version(&stored).unwrap(), ("id".to_owned(), 3));
    }

    #[test]
    fn numbers_that_a_shell_wrote_are_read_and_what_is_no_document_of_ours_is_named() {
        let replacement = replacement();
        let mut stored = document(&replacement, "id", &replacement.entries[0]);
        stored.insert("version", 4.0);
        stored.insert("values", doc! { "z": 5_i32 });
        let found = read(&stored).unwrap();
        assert_eq!((found.version, found.values), (4, vec![("z".to_owned(), 5.into())]));
        for (field, value) in [("version", Bson::from("x")), ("values", Bson::Null), ("bucket_end", 3.into())] {
            let mut stored = stored.clone();
            stored.insert(field, value);
            let error = read(&stored).unwrap_err().to_string();
            assert!(error.contains("\"id\""), "{error}");
        }
    }
}
