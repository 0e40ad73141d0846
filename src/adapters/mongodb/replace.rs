//! Replaces a bucket, with single documents written as a whole and nothing more to rely on.
//!
//! Three steps, each of which can be cut off, repeated, or overtaken by another's:
//!
//! 1. Each document is put in place of one of a lower version, or where there is none: an upsert that asks for `_id` and
//!    a lower version. A document of the same or a higher version does not fit, so that the upsert tries to insert and
//!    is refused with a duplicate key. A document that another inserted in the same moment refuses it just so, whatever
//!    its version, and servers do not try again where the filter has more than the key: what was refused is read back,
//!    and what is lower after all is tried again.
//! 2. The bucket's own document in `bief_bucket` is raised to the version, in the same way: from here on readers take no
//!    document of a lower version (`read.rs`). So one that arrives late, of a key that this version does not have, is
//!    never seen, though nothing was there to keep it out.
//! 3. Documents of lower versions are removed.

use std::collections::HashMap;

use ::mongodb::Database;
use ::mongodb::bson::{Bson, Document as Stored, doc};
use futures_util::TryStreamExt;

use super::errors::{answer, refused};
use super::{BUCKETS, collection_of, documents, on_most_members};
use crate::adapters::cache::document_ids;
use crate::core::document::ids_of_bucket;
use crate::ports::cache::{CacheError, Replaced, Replacement};

/// Documents of one command. Servers take 100,000; fewer keep a silent one from costing much.
const MOST_UPDATES: usize = 1000;
/// Bytes of one command, by estimate. Servers take 16 MiB, which is also what one document may have.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How often documents are tried again that others insert in the same moment. One round is rare.
const ROUNDS: usize = 10;
const DUPLICATE_KEY: i32 = 11_000;

pub(super) async fn replace(database: &Database, replacement: &Replacement) -> Result<Replaced, CacheError> {
    let ids = document_ids(replacement)?;
    let entries = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let state = documents::bucket(replacement);
    let stands = version_of_bucket(database, &state).await?;
    if stands > Some(replacement.version) {
        return Ok(Replaced { newer: entries, ..Replaced::default() });
    }
    let mut replaced = Replaced::default();
    let stands = if stands == Some(replacement.version) {
        // Told as done once already; what was cut off then, if anything, is the last step.
        replaced.unchanged = entries;
        replacement.version
    } else {
        put_documents(database, replacement, &ids, &mut replaced).await?;
        raise_bucket(database, replacement, &state).await?
    };
    let (first, last) = ids_of_bucket(&replacement.aggregate, replacement.bucket.start());
    let lower = doc! { "_id": { "$gte": first, "$lt": last }, "version": { "$lt": stands } };
    replaced.gone = delete(database, &collection_of(&replacement.aggregate), lower).await?;
    Ok(replaced)
}

async fn put_documents(
    database: &Database,
    replacement: &Replacement,
    ids: &[String],
    replaced: &mut Replaced,
) -> Result<(), CacheError> {
    let collection = collection_of(&replacement.aggregate);
    let make = |n: usize| documents::document(replacement, &ids[n], &replacement.entries[n]);
    let mut open: Vec<usize> = (0..ids.len()).collect();
    for _ in 0..ROUNDS {
        let clashed = put(database, &collection, replacement.version, &open, &make).await?;
        replaced.written += (open.len() - clashed.len()) as u64;
        let names: Vec<&str> = clashed.iter().map(|&n| ids[n].as_str()).collect();
        let versions = versions(database, &collection, &names).await?;
        open = clashed;
        open.retain(|&n| match versions.get(&ids[n]) {
            Some(version) if *version > replacement.version => {
                replaced.newer += 1;
                false
            }
            Some(version) if *version == replacement.version => {
                replaced.unchanged += 1;
                false
            }
            // Inserted in the same moment by an older replacement, or removed again since.
            _ => true,
        });
        if open.is_empty() {
            return Ok(());
        }
    }
    Err(contended(replacement))
}

/// Answers the version that the bucket stands at then: this one, or a higher one.
async fn raise_bucket(database: &Database, replacement: &Replacement, state: &Stored) -> Result<i64, CacheError> {
    for _ in 0..ROUNDS {
        if put(database, BUCKETS, replacement.version, &[0], &|_| state.clone()).await?.is_empty() {
            return Ok(replacement.version);
        }
        if let Some(version) = version_of_bucket(database, state).await?
            && version >= replacement.version
        {
            return Ok(version);
        }
    }
    Err(contended(replacement))
}

fn contended(replacement: &Replacement) -> CacheError {
    CacheError::Transient {
        what: format!(
            "replacing a bucket of the aggregate {}: others write the same documents without end",
            replacement.aggregate
        ),
    }
}

/// Puts documents, made by their number, where there is none or one of a lower version; answers the numbers of those
/// that were refused since one was there.
async fn put(
    database: &Database,
    collection: &str,
    version: i64,
    numbers: &[usize],
    make: &dyn Fn(usize) -> Stored,
) -> Result<Vec<usize>, CacheError> {
    let what = format!("writing documents to the collection {collection}");
    let mut clashed = Vec::new();
    let mut rest = numbers;
    while !rest.is_empty() {
        let (mut updates, mut bytes) = (Vec::new(), 0);
        for &number in rest.iter().take(MOST_UPDATES) {
            let document = make(number);
            bytes += weight(&document);
            if bytes > MOST_BYTES && !updates.is_empty() {
                break;
            }
            let lower = doc! { "_id": document.get("_id"), "version": { "$lt": version } };
            updates.push(doc! { "q": lower, "u": document, "upsert": true });
        }
        let (sent, left) = rest.split_at(updates.len());
        rest = left;
        let command = doc! {
            "update": collection,
            "updates": updates,
            "ordered": false,
            "writeConcern": on_most_members(),
        };
        let told = answer(&what, database.run_command(command)).await?;
        clashed.extend(duplicates(&what, &told)?.into_iter().filter_map(|n| sent.get(n).copied()));
        must_be_on_most_members(&what, &told)?;
    }
    Ok(clashed)
}

/// Positions, within the command, of what was refused since its key was there. Any other refusal is an error.
fn duplicates(what: &str, told: &Stored) -> Result<Vec<usize>, CacheError> {
    let Ok(errors) = told.get_array("writeErrors") else { return Ok(Vec::new()) };
    let mut positions = Vec::with_capacity(errors.len());
    for error in errors {
        let error = error.as_document();
        let number = |field: &str| error.and_then(|e| documents::whole(e.get(field)?));
        let code = number("code").and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
        match number("index").and_then(|index| usize::try_from(index).ok()) {
            Some(index) if code == DUPLICATE_KEY => positions.push(index),
            _ => {
                let words = error.and_then(|e| e.get_str("errmsg").ok()).unwrap_or("refused without a reason");
                return Err(refused(what, code, words));
            }
        }
    }
    Ok(positions)
}

/// What was written may be lost with a failover where most members of a replica set do not have it yet: it is written
/// again, which costs nothing but time.
pub(super) fn must_be_on_most_members(what: &str, told: &Stored) -> Result<(), CacheError> {
    match told.get_document("writeConcernError") {
        Ok(error) => {
            let words = error.get_str("errmsg").unwrap_or("no reason told");
            Err(CacheError::Transient { what: format!("{what}: not yet on most members of the replica set: {words}") })
        }
        Err(_) => Ok(()),
    }
}

/// Removes what fits; answers how many.
pub(super) async fn delete(database: &Database, collection: &str, filter: Stored) -> Result<u64, CacheError> {
    let what = format!("removing documents from the collection {collection}");
    let command = doc! {
        "delete": collection,
        "deletes": [{ "q": filter, "limit": 0 }],
        "writeConcern": on_most_members(),
    };
    let told = answer(&what, database.run_command(command)).await?;
    duplicates(&what, &told)?;
    must_be_on_most_members(&what, &told)?;
    Ok(told.get("n").and_then(documents::whole).and_then(|n| u64::try_from(n).ok()).unwrap_or_default())
}

/// The versions of documents by their names; those that are not there are left out.
pub(super) async fn versions(
    database: &Database,
    collection: &str,
    names: &[&str],
) -> Result<HashMap<String, i64>, CacheError> {
    let mut versions = HashMap::with_capacity(names.len());
    let what = format!("reading versions in the collection {collection}");
    for names in names.chunks(MOST_UPDATES) {
        let filter = doc! { "_id": { "$in": names.to_vec() } };
        let asked = async {
            let stored = database.collection::<Stored>(collection);
            stored.find(filter).projection(doc! { "version": 1 }).await?.try_collect::<Vec<_>>().await
        };
        for stored in answer(&what, asked).await? {
            let (id, version) = documents::read_version(&stored)?;
            versions.insert(id, version);
        }
    }
    Ok(versions)
}

async fn version_of_bucket(database: &Database, state: &Stored) -> Result<Option<i64>, CacheError> {
    let Ok(id) = state.get_str("_id") else { return Ok(None) };
    Ok(versions(database, BUCKETS, &[id]).await?.remove(id))
}

/// About how many bytes a document takes within a command.
fn weight(document: &Stored) -> usize {
    let of = |value: &Bson| match value {
        Bson::String(text) => text.len(),
        Bson::Document(inner) => weight(inner),
        _ => 8,
    };
    // Type, length, end of each name; the filter and the frame of an update.
    document.iter().map(|(name, value)| name.len() + 8 + of(value)).sum::<usize>() + 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_for_a_duplicate_key_are_positions_and_all_others_errors() {
        let duplicate = |index: i32| doc! { "index": index, "code": 11_000, "errmsg": "E11000 duplicate key" };
        let told = doc! { "n": 1, "writeErrors": [duplicate(0), duplicate(2)], "ok": 1.0 };
        assert_eq!(duplicates("writing", &told), Ok(vec![0, 2]));
        assert_eq!(duplicates("writing", &doc! { "n": 3, "ok": 1.0 }), Ok(vec![]));
        let too_large = doc! { "index": 1, "code": 10_334_i64, "errmsg": "too large" };
        let told = doc! { "writeErrors": [duplicate(0), too_large] };
        assert!(matches!(duplicates("writing", &told), Err(CacheError::Fatal { .. })));
        let unknown = doc! { "writeErrors": [{ "index": 1, "code": 999_999, "errmsg": "hm" }] };
        assert!(matches!(duplicates("writing", &unknown), Err(CacheError::Transient { .. })));
    }

    #[test]
    fn what_most_members_do_not_have_is_written_again() {
        assert_eq!(must_be_on_most_members("writing", &doc! { "n": 1 }), Ok(()));
        let told = doc! { "n": 1, "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
        let Err(CacheError::Transient { what }) = must_be_on_most_members("writing", &told) else {
            panic!("it passes")
        };
        assert!(what.contains("timed out"), "{what}");
    }
}
