//! In what portions dead letters are taken, so that a transaction stays short and memory small.

use std::collections::BTreeMap;

use crate::core::memory::LETTERS_AT_ONCE as PORTION_BYTES;
use crate::ports::LetterKey;

/// Letters of one transaction.
pub(super) const PORTION: usize = 500;

/// Letters of one topic that go into one transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Portion {
    pub ids: Vec<i64>,
    /// Ascending.
    pub partitions: Vec<i32>,
}

/// The keys by topic, each in portions; the order of the keys stays.
pub fn portions(keys: &[LetterKey]) -> BTreeMap<&str, Vec<Portion>> {
    let mut topics: BTreeMap<&str, Vec<Portion>> = BTreeMap::new();
    let mut sizes: BTreeMap<&str, i64> = BTreeMap::new();
    for key in keys {
        let of_topic = topics.entry(&key.topic).or_default();
        let size = sizes.entry(&key.topic).or_default();
        let full = of_topic
            .last()
            .is_none_or(|p| p.ids.len() >= PORTION || (!p.ids.is_empty() && *size + key.bytes > PORTION_BYTES));
        if full {
            of_topic.push(Portion::default());
            *size = 0;
        }
        if let Some(portion) = of_topic.last_mut() {
            portion.ids.push(key.id);
            *size += key.bytes;
            if let Err(at) = portion.partitions.binary_search(&key.partition) {
                portion.partitions.insert(at, key.partition);
            }
        }
    }
    topics
}

/// The numbers of the first letters, of any topic, that are taken at once; the rest of the keys.
pub fn first_portion(keys: &[LetterKey]) -> Option<(Vec<i64>, &[LetterKey])> {
    let mut size = 0;
    let fits = |key: &&LetterKey| {
        size += key.bytes;
        size <= PORTION_BYTES
    };
    // One that is too large goes alone.
    let count = keys.iter().take(PORTION).take_while(fits).count().max(1);
    let (first, rest) = keys.split_at_checked(count)?;
    Some((first.iter().map(|key| key.id).collect(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i64, topic: &str, partition: i32, bytes: i64) -> LetterKey {
        LetterKey { id, topic: topic.to_owned(), partition, bytes }
    }

    #[test]
    fn portions_keep_the_order_and_hold_one_topic_and_so_many_bytes() {
        let keys = [key(9, "a", 1, 10), key(7, "b", 0, 10), key(5, "a", 0, PORTION_BYTES - 10), key(3, "a", 1, 1)];
        let portions = portions(&keys);
        assert_eq!(
            portions["a"],
            [Portion { ids: vec![9, 5], partitions: vec![0, 1] }, Portion { ids: vec![3], partitions: vec![1] }]
        );
        assert_eq!(portions["b"], [Portion { ids: vec![7], partitions: vec![0] }]);
        let many: Vec<LetterKey> = (0..1_001).map(|id| key(id, "a", 0, 1)).collect();
        let sizes: Vec<usize> = super::portions(&many)["a"].iter().map(|p| p.ids.len()).collect();
        assert_eq!(sizes, [500, 500, 1]);
        let large = [key(1, "a", 0, 2 * PORTION_BYTES), key(2, "a", 0, 0)];
        assert_eq!(super::portions(&large)["a"].len(), 2, "one that is too large goes alone");
    }

    #[test]
    fn portions_of_any_topic_hold_so_many_letters_and_bytes() {
        let sizes = |mut keys: &[LetterKey]| {
            let mut sizes = Vec::new();
            while let Some((ids, rest)) = first_portion(keys) {
                sizes.push(ids.len());
                keys = rest;
            }
            sizes
        };
        let many: Vec<LetterKey> = (0..1_001).map(|id| key(id, if id % 2 == 0 { "a" } else { "b" }, 0, 1)).collect();
        assert_eq!(sizes(&many), [500, 500, 1]);
        let large = [
            key(1, "a", 0, 2 * PORTION_BYTES),
            key(2, "a", 0, PORTION_BYTES - 1),
            key(3, "b", 0, 1),
            key(4, "b", 0, 1),
        ];
        assert_eq!(sizes(&large), [1, 2, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
