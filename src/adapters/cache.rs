//! Which adapter serves a cache's URL, and what both ask of a replacement.

use std::collections::HashSet;

use super::{mongodb, sqlite};
use crate::config::Secret;
use crate::core::document;
use crate::ports::cache::Replacement;
use crate::ports::{CacheError, OpenCache};

/// How an actor or a command opens the cache of this URL: `mongodb://…` or `sqlite://PATH`.
pub fn open_cache(url: &Secret) -> OpenCache {
    if sqlite::accepts(url.expose()) { sqlite::open_cache(url) } else { mongodb::open(url) }
}

/// The names of a replacement's documents, in the order of its entries.
pub(super) fn document_ids(replacement: &Replacement) -> Result<Vec<String>, CacheError> {
    let Replacement { aggregate, bucket, entries, .. } = replacement;
    let ids: Vec<String> = entries.iter().map(|entry| document::document_id(aggregate, *bucket, &entry.key)).collect();
    let mut seen = HashSet::with_capacity(ids.len());
    match ids.iter().find(|id| !seen.insert(id.as_str())) {
        None => Ok(ids),
        Some(twice) => Err(CacheError::Fatal {
            what: format!(
                "the query of the aggregate {aggregate} gives the key {twice} twice: group by every column of its key"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::document::Bucket;
    use crate::ports::cache::Entry;
    use chrono::DateTime;

    #[test]
    fn a_key_that_comes_twice_is_told() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let entry = |key: &str| Entry { key: vec![("shop".to_owned(), key.into())], values: Vec::new() };
        let mut replacement = Replacement {
            aggregate: "sums".to_owned(),
            bucket: Bucket::new(at(0), at(60)).unwrap(),
            version: 1,
            computed_at: at(0),
            offsets: Default::default(),
            entries: vec![entry("a"), entry("b")],
        };
        assert_eq!(document_ids(&replacement).unwrap().len(), 2);
        replacement.entries.push(entry("a"));
        let Err(CacheError::Fatal { what }) = document_ids(&replacement) else { panic!("a key came twice") };
        assert!(what.contains("sums|1970-01-01T00:00:00Z|a twice"), "{what}");
    }
}
