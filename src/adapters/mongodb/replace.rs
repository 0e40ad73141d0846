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

/// Several buckets of one aggregate take the three steps together.
pub(super) async fn replace_all(database: &Database, replacements: &[Replacement]) -> Result<Replaced, CacheError> {
    let Some(first) = replacements.first() else { return Ok(Replaced::default()) };
    let collection = collection_of(&first.aggregate);
    let ids: Vec<Vec<String>> = replacements.iter().map(document_ids).collect::<Result<_, _>>()?;
    let states: Vec<Stored> = replacements.iter().map(documents::bucket).collect();
    let mut stands = versions_of_buckets(database, &states).await?;
    let mut replaced = Replaced::default();
    let mut open = Vec::new();
    for (n, replacement) in replacements.iter().enumerate() {
        let entries = ids[n].len() as u64;
        match stands[n] {
            Some(version) if version > replacement.version => replaced.newer += entries,
            // Told as done once already; what was cut off then, if anything, is the last step.
            Some(version) if version == replacement.version => replaced.unchanged += entries,
            _ => open.push(n),
        }
    }
    let older = |n: &usize| stands[*n] <= Some(replacements[*n].version);
    let lowered: Vec<usize> = (0..replacements.len()).filter(older).collect();
    put_documents(database, &collection, replacements, &ids, &open, &mut replaced).await?;
    raise_buckets(database, replacements, &states, open, &mut stands).await?;
    let lower = |&n: &usize| {
        let (first, last) = ids_of_bucket(&replacements[n].aggregate, replacements[n].bucket.start());
        doc! { "_id": { "$gte": first, "$lt": last }, "version": { "$lt": stands[n] } }
    };
    let lower: Vec<Stored> = lowered.iter().map(lower).collect();
    replaced.gone = delete(database, &collection, &lower).await?;
    Ok(replaced)
}

/// The documents of the buckets that are `open`.
async fn put_documents(
    database: &Database,
    collection: &str,
    replacements: &[Replacement],
    ids: &[Vec<String>],
    open: &[usize],
    replaced: &mut Replaced,
) -> Result<(), CacheError> {
    let mut open: Vec<(usize, usize)> =
        open.iter().flat_map(|&bucket| (0..ids[bucket].len()).map(move |n| (bucket, n))).collect();
    for _ in 0..ROUNDS {
        let make = |n: usize| {
            let (bucket, entry) = open[n];
            let replacement = &replacements[bucket];
            (documents::document(replacement, &ids[bucket][entry], &replacement.entries[entry]), replacement.version)
        };
        let clashed = put(database, collection, open.len(), &make).await?;
        replaced.written += (open.len() - clashed.len()) as u64;
        let mut left: Vec<(usize, usize)> = clashed.into_iter().map(|n| open[n]).collect();
        let names: Vec<&str> = left.iter().map(|&(bucket, entry)| ids[bucket][entry].as_str()).collect();
        let versions = versions(database, collection, &names).await?;
        left.retain(|&(bucket, entry)| match versions.get(&ids[bucket][entry]) {
            Some(version) if *version > replacements[bucket].version => {
                replaced.newer += 1;
                false
            }
            Some(version) if *version == replacements[bucket].version => {
                replaced.unchanged += 1;
                false
            }
            // Inserted in the same moment by an older replacement, or removed again since.
            _ => true,
        });
        open = left;
        if open.is_empty() {
            return Ok(());
        }
    }
    Err(contended(&replacements[open[0].0].aggregate))
}

/// Puts into `stands` the version that each open bucket stands at then: that of its replacement, or a higher one.
async fn raise_buckets(
    database: &Database,
    replacements: &[Replacement],
    states: &[Stored],
    mut open: Vec<usize>,
    stands: &mut [Option<i64>],
) -> Result<(), CacheError> {
    for _ in 0..ROUNDS {
        let make = |n: usize| (states[open[n]].clone(), replacements[open[n]].version);
        let clashed: Vec<usize> =
            put(database, BUCKETS, open.len(), &make).await?.into_iter().map(|n| open[n]).collect();
        for &n in &open {
            stands[n] = Some(replacements[n].version);
        }
        if clashed.is_empty() {
            return Ok(());
        }
        let found =
            versions_of_buckets(database, &clashed.iter().map(|&n| states[n].clone()).collect::<Vec<_>>()).await?;
        open.clear();
        for (n, version) in clashed.into_iter().zip(found) {
            stands[n] = version;
            if version < Some(replacements[n].version) {
                open.push(n);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
    }
    Err(contended(&replacements[open[0]].aggregate))
}

fn contended(aggregate: &str) -> CacheError {
    CacheError::Transient {
        what: format!("replacing a bucket of the aggregate {aggregate}: others write the same documents without end"),
    }
}

/// Puts documents, made with their version by their number, where there is none or one of a lower version; answers the
/// numbers of those that were refused since one was there.
async fn put(
    database: &Database,
    collection: &str,
    count: usize,
    make: &dyn Fn(usize) -> (Stored, i64),
) -> Result<Vec<usize>, CacheError> {
    let what = format!("writing documents to the collection {collection}");
    let mut clashed = Vec::new();
    let mut sent = 0;
    while sent < count {
        let (mut updates, mut bytes) = (Vec::new(), 0);
        for number in (sent..count).take(MOST_UPDATES) {
            let (document, version) = make(number);
            bytes += weight(&document);
            if bytes > MOST_BYTES && !updates.is_empty() {
                break;
            }
            let lower = doc! { "_id": document.get("_id"), "version": { "$lt": version } };
            updates.push(doc! { "q": lower, "u": document, "upsert": true });
        }
        let (first, of_command) = (sent, updates.len());
        sent += of_command;
        let command = doc! {
            "update": collection,
            "updates": updates,
            "ordered": false,
            "writeConcern": on_most_members(),
        };
        let told = answer(&what, database.run_command(command)).await?;
        clashed.extend(duplicates(&what, &told)?.into_iter().filter(|n| *n < of_command).map(|n| first + n));
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

/// Removes what fits any of these; answers how many.
pub(super) async fn delete(database: &Database, collection: &str, filters: &[Stored]) -> Result<u64, CacheError> {
    let what = format!("removing documents from the collection {collection}");
    let mut removed = 0;
    for filters in filters.chunks(MOST_UPDATES) {
        let deletes: Vec<Stored> = filters.iter().map(|filter| doc! { "q": filter, "limit": 0 }).collect();
        let command = doc! { "delete": collection, "deletes": deletes, "writeConcern": on_most_members() };
        let told = answer(&what, database.run_command(command)).await?;
        duplicates(&what, &told)?;
        must_be_on_most_members(&what, &told)?;
        removed += told.get("n").and_then(documents::whole).and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    }
    Ok(removed)
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

/// The versions that these buckets' own documents stand at; `None` where there is none yet.
async fn versions_of_buckets(database: &Database, states: &[Stored]) -> Result<Vec<Option<i64>>, CacheError> {
    let ids: Vec<&str> = states.iter().map(|state| state.get_str("_id").unwrap_or_default()).collect();
    let found = versions(database, BUCKETS, &ids).await?;
    Ok(ids.into_iter().map(|id| found.get(id).copied()).collect())
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
