//! Which dead letters a command means: by number or by filter, never all of them by accident; and in what portions
//! they are taken, so that a transaction stays short and memory small.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::core::outcome::Reason;
use crate::ports::{DeadLetterFilter, LetterBook, LetterKey, WarehouseError};

/// Letters of one transaction.
const PORTION: usize = 500;
/// Bytes of keys and payloads of one transaction; one letter may have more.
const PORTION_BYTES: i64 = 8 << 20;

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only of this topic and its former logs (TOPIC@EPOCH)
    #[arg(long)]
    pub topic: Option<String>,
    /// Only with this reason
    #[arg(long, value_parser = reason)]
    pub reason: Option<String>,
    /// Only stored at or after this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub since: Option<DateTime<Utc>>,
    /// Only stored before this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub until: Option<DateTime<Utc>>,
}

fn reason(text: &str) -> Result<String, String> {
    match Reason::ALL.iter().any(|r| r.as_str() == text) {
        true => Ok(text.to_owned()),
        false => Err(format!("there is no such reason; they are {}", Reason::ALL.map(Reason::as_str).join(", "))),
    }
}

impl FilterArgs {
    /// Without a limit.
    pub fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            topic: self.topic.clone(),
            ids: Vec::new(),
            reason: self.reason.clone(),
            since: self.since,
            until: self.until,
            after_id: None,
            limit: i64::MAX as u64,
        }
    }

    fn is_empty(&self) -> bool {
        self.topic.is_none() && self.reason.is_none() && self.since.is_none() && self.until.is_none()
    }
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Selection {
    /// Their numbers, as `list` has them
    #[arg(value_name = "ID")]
    pub ids: Vec<i64>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// All there are
    #[arg(long)]
    pub all: bool,
    /// At most so many, the oldest
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

impl Selection {
    /// Refuses a command line that names none.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.ids.is_empty() && self.filter.is_empty() && !self.all {
            true => Err("say which: numbers, --topic, --reason, --since, --until, or --all"),
            false => Ok(()),
        }
    }

    /// The letters, ascending by number.
    pub async fn keys(&self, book: &dyn LetterBook) -> Result<Vec<LetterKey>, WarehouseError> {
        let mut filter = DeadLetterFilter { ids: self.ids.clone(), ..self.filter.filter() };
        if let Some(limit) = self.limit {
            filter.limit = limit;
        }
        book.letter_keys(&filter).await
    }
}

/// Letters of one topic that go into one transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Portion {
    pub ids: Vec<i64>,
    /// Ascending.
    pub partitions: Vec<i32>,
}

/// The keys by topic, each in portions; the order of the keys stays.
pub(super) fn portions(keys: &[LetterKey]) -> BTreeMap<&str, Vec<Portion>> {
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
    fn a_selection_must_name_something() {
        assert!(Selection::default().check().is_err());
        assert!(Selection { all: true, ..Selection::default() }.check().is_ok());
        assert!(Selection { ids: vec![1], ..Selection::default() }.check().is_ok());
        let filter = FilterArgs { reason: Some("check".to_owned()), ..FilterArgs::default() };
        assert!(Selection { filter, ..Selection::default() }.check().is_ok());
    }
}
