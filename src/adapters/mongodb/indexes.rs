//! Indexes of an aggregate's collection, made and changed at start: one for each column of the key, and one that has the
//! server remove what is past its `keep`. Must touch no collection that is not ours.

use std::time::Duration;

use ::mongodb::Database;
use ::mongodb::bson::{Document as Stored, doc};

use super::errors::{answer, answer_within};
use super::{NO_COLLECTION, collection_of, documents, on_most_members};
use crate::core::document::field_name;
use crate::ports::cache::{CacheError, CachedAggregate};

/// Begins the names of our indexes; others are left alone.
const OURS: &str = "bief_";
/// The index by which the server removes documents.
const KEEP: &str = "bief_keep";
/// An index over millions of documents takes its time.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
/// What `expireAfterSeconds` may be at most.
const LONGEST_KEEP: u64 = i32::MAX as u64;

pub(super) async fn prepare(database: &Database, aggregate: &CachedAggregate) -> Result<(), CacheError> {
    let name = &aggregate.name;
    if name.is_empty() || name.starts_with(OURS) || name.starts_with("system.") {
        return Err(CacheError::Fatal {
            what: format!("the aggregate {name:?} cannot be cached: its collection's name is taken; give it another"),
        });
    }
    must_be_ours(database, name).await?;
    let collection = collection_of(name);
    let wanted = wanted(aggregate);
    let there = list(database, &collection).await?;
    let is_obsolete =
        |index: &&Stored| name_of(index).starts_with(OURS) && !wanted.iter().any(|wanted| same(wanted, index));
    let mut refused = None;
    for index in there.iter().filter(is_obsolete) {
        let what = format!("removing the index {} of the collection {collection}", name_of(index));
        let command = doc! { "dropIndexes": &collection, "index": name_of(index), "writeConcern": on_most_members() };
        refused = answer(&what, database.run_command(command)).await.err().or(refused);
    }
    let there = if there.iter().any(|index| is_obsolete(&index)) { list(database, &collection).await? } else { there };
    // What counts is that they are gone: another daemon may have been quicker, and FerretDB answers with an `ok` that is
    // no number, which the driver takes for a refusal.
    if let Some(refused) = refused
        && there.iter().any(|index| is_obsolete(&index))
    {
        return Err(refused.into());
    }
    let missing: Vec<Stored> = wanted.into_iter().filter(|w| !there.iter().any(|index| same(w, index))).collect();
    if !missing.is_empty() {
        let what = format!("making indexes of the collection {collection}");
        let command = doc! { "createIndexes": &collection, "indexes": missing, "writeConcern": on_most_members() };
        answer_within(BUILD_LIMIT, &what, database.run_command(command)).await?;
    }
    Ok(())
}

/// Refuses to work on a collection that holds something else; answers whether it holds anything.
pub(super) async fn must_be_ours(database: &Database, aggregate: &str) -> Result<bool, CacheError> {
    let collection = collection_of(aggregate);
    let what = format!("looking into the collection {collection}");
    let stored = database.collection::<Stored>(&collection);
    match answer(&what, stored.find_one(doc! {})).await? {
        Some(document) if document.get_str("aggregate").ok() != Some(aggregate) => Err(CacheError::Fatal {
            what: format!(
                "the collection {collection} holds documents that are not bief's: name a database of its own in cache.url, \
                 or give the aggregate another name"
            ),
        }),
        document => Ok(document.is_some()),
    }
}

fn wanted(aggregate: &CachedAggregate) -> Vec<Stored> {
    let by_column = aggregate.key.iter().map(|column| {
        let field = field_name(column);
        doc! { "name": format!("{OURS}key_{field}"), "key": { format!("key.{field}"): 1, "_id": 1 } }
    });
    let keep = aggregate.keep.map(|keep| {
        let seconds = i64::try_from(keep.as_secs().min(LONGEST_KEEP)).unwrap_or(i64::MAX);
        doc! { "name": KEEP, "key": { "bucket_end": 1 }, "expireAfterSeconds": seconds }
    });
    by_column.chain(keep).collect()
}

/// Whether an index is the one that is wanted, whatever else the server tells of it.
fn same(wanted: &Stored, index: &Stored) -> bool {
    let columns = |index: &Stored| -> Vec<(String, Option<i64>)> {
        let key = index.get_document("key").ok();
        key.into_iter().flatten().map(|(field, order)| (field.clone(), documents::whole(order))).collect()
    };
    let expires = |index: &Stored| index.get("expireAfterSeconds").and_then(documents::whole);
    name_of(wanted) == name_of(index) && columns(wanted) == columns(index) && expires(wanted) == expires(index)
}

fn name_of(index: &Stored) -> &str {
    index.get_str("name").unwrap_or_default()
}

async fn list(database: &Database, collection: &str) -> Result<Vec<Stored>, CacheError> {
    let what = format!("reading the indexes of the collection {collection}");
    let command = doc! { "listIndexes": collection, "cursor": { "batchSize": 1000 } };
    let told = match answer(&what, database.run_command(command)).await {
        Ok(told) => told,
        Err(error) if error.code() == Some(NO_COLLECTION) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let first = told.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let indexes = first.map(|batch| batch.iter().filter_map(|index| index.as_document().cloned()).collect());
    Ok(indexes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_known_again_whatever_the_server_adds_to_it() {
        let key = vec!["shop".to_owned(), "a.b".to_owned()];
        let wanted = wanted(&CachedAggregate { name: "sums".into(), key, keep: Some(Duration::from_secs(60)) });
        assert_eq!(wanted.len(), 3);
        let mut told = wanted[2].clone();
        told.insert("v", 2);
        told.insert("expireAfterSeconds", 60_i32);
        told.insert("key", doc! { "bucket_end": 1.0 });
        assert!(same(&wanted[2], &told) && !same(&wanted[1], &told));
        told.insert("expireAfterSeconds", 61);
        assert!(!same(&wanted[2], &told));
        assert_eq!(wanted[1].get_document("key").unwrap().keys().collect::<Vec<_>>(), ["key.a%2Eb", "_id"]);
    }
}
