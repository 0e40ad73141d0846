//! Dead letters once more: rows, the letters' end and their counts in one transaction, so that a retry that dies
//! midway neither loses nor doubles. What is refused again stays a letter, with the new reason.

use chrono::{DateTime, Utc};

use super::{Committer, Early, Purpose};
use crate::core::cell::Span;
use crate::core::outcome::{Counts, LOST_KEY, Reason, Rejection};
use crate::messages::{DeadLetter, Record, RecordBatch, RowBatch};
use crate::ports::{AuditEntry, LetterWarehouse, PartitionCounts, StoredDeadLetter, WarehouseError};

/// Which letters, and how.
pub struct RetryRequest<'r> {
    /// Under which the letters stand: the plan's topic, or a former log of it whose ledger counts them (`orders@7`).
    pub topic: &'r str,
    pub ids: &'r [i64],
    /// Partitions that the letters may belong to, ascending.
    pub partitions: &'r [i32],
    /// The latest first: where rows stay as they are, the first of a key makes the row.
    pub latest_first: bool,
    /// All is rolled back.
    pub rehearse: bool,
    /// In place of the letters' payloads. A letter that is refused with it stays as it was.
    pub edited: Option<&'r [u8]>,
    /// What to put down in the audit; nothing where it is not asked for, or all is rolled back.
    pub audit: Option<&'r dyn Fn(&Ended<'_>) -> AuditEntry>,
    /// Set when the COMMIT is sent: where the answer is an error afterwards, the letters may have ended nonetheless.
    pub commit_sent: &'r mut bool,
    /// The present decoder.
    pub decode: &'r mut dyn FnMut(RecordBatch) -> RowBatch,
}

/// What a transaction comes to, before it is committed.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'e> {
    /// Letters that end with it, ascending.
    pub letters: &'e [i64],
    /// Applied and duplicates among them.
    pub counts: Counts,
    pub refused: usize,
}

/// What became of letters.
#[derive(Debug, Default, PartialEq)]
pub struct Retried {
    /// By partition, ascending: letters that now are applied or duplicates; `dead_letters` is what they make fewer.
    pub counts: Vec<PartitionCounts>,
    /// Rows that were inserted or changed, by target.
    pub rows: Vec<u64>,
    /// Letters that were refused again: id and why.
    pub refused: Vec<(i64, Rejection)>,
    /// Letters whose payload was not kept; they stay.
    pub without_payload: Vec<i64>,
    /// Letters that another took meanwhile.
    pub gone: usize,
}

impl Retried {
    /// Over all partitions.
    pub fn total(&self) -> Counts {
        self.counts.iter().fold(Counts::default(), |sum, c| sum.plus(c.counts))
    }
}

impl Committer {
    /// Writes letters of this plan's topic, or of a former log of it, and ends them, or leaves no trace of it.
    pub async fn retry(
        &mut self,
        warehouse: &mut dyn LetterWarehouse,
        request: RetryRequest<'_>,
        now: DateTime<Utc>,
    ) -> Result<Retried, WarehouseError> {
        let RetryRequest { topic, ids, partitions, latest_first, rehearse, edited, audit, commit_sent, decode } =
            request;
        warehouse.begin().await?;
        let mut found = warehouse.lock_letters(topic, partitions, ids).await?;
        let gone = ids.len() - found.len();
        if let Some(payload) = edited {
            found.iter_mut().for_each(|stored| stored.letter.payload = Some(payload.to_vec()));
        }
        let (mut letters, bare): (Vec<_>, Vec<_>) = found.into_iter().partition(is_whole);
        if latest_first {
            letters.reverse();
        }
        let batch = decode(records_of(&letters));
        let written = self.write_batch(warehouse, &batch, &[], Early::default(), Purpose::Retry, now).await?;
        let refused: Vec<(i64, Rejection)> = letters
            .iter()
            .filter_map(|stored| {
                let same = |l: &&DeadLetter| (l.partition, l.offset) == (stored.letter.partition, stored.letter.offset);
                written.letters.iter().find(same).map(|l| (stored.id, l.rejection.clone()))
            })
            .collect();
        let stays: std::collections::HashSet<i64> = refused.iter().map(|(id, _)| *id).collect();
        let mut ended: Vec<i64> = letters.iter().map(|l| l.id).filter(|id| !stays.contains(id)).collect();
        ended.sort_unstable();
        let counts: Vec<PartitionCounts> = written.committed.counts.iter().map(moved).collect();
        warehouse.delete_letters(&ended).await?;
        if edited.is_none() {
            warehouse.restate_letters(&refused).await?;
        }
        warehouse.count(topic, &counts, now).await?;
        if let Some(entry) = audit.filter(|_| !rehearse) {
            let counts = counts.iter().fold(Counts::default(), |sum, c| sum.plus(c.counts));
            warehouse.audit(&entry(&Ended { letters: &ended, counts, refused: refused.len() })).await?;
        }
        crate::failpoint!(
            "retry-after-rows",
            WarehouseError::Transient { what: "failpoint retry-after-rows".to_owned() }
        );
        match rehearse {
            true => warehouse.rollback().await?,
            false => {
                *commit_sent = true;
                warehouse.commit().await?;
            }
        }
        crate::failpoint!(
            "retry-after-commit",
            WarehouseError::Transient { what: "failpoint retry-after-commit".to_owned() }
        );
        let without_payload = bare.iter().map(|l| l.id).collect();
        Ok(Retried { counts, rows: written.committed.rows, refused, without_payload, gone })
    }
}

/// Whether all of the record was kept: a letter without payload is a tombstone, or lost it for its size. One that lost its
/// key is not made whole by another payload.
fn is_whole(stored: &StoredDeadLetter) -> bool {
    let rejection = &stored.letter.rejection;
    match rejection.reason {
        Reason::Tombstone => true,
        Reason::RecordTooLarge if rejection.field.as_deref() == Some(LOST_KEY) => false,
        _ => stored.letter.payload.is_some(),
    }
}

/// Whether the record was refused for a time that no database can keep: then it has one, and is not to be taken for a
/// record without.
fn lost_its_time(letter: &DeadLetter) -> bool {
    let DeadLetter { timestamp, rejection, .. } = letter;
    *timestamp < 0 && rejection.reason == Reason::OutOfRange && rejection.field.as_deref() == Some("@timestamp")
}

/// The outcomes that letters have got, taken from where they were counted.
fn moved(written: &PartitionCounts) -> PartitionCounts {
    let Counts { applied, duplicates, .. } = written.counts;
    let counts = Counts { applied, duplicates, dead_letters: -(applied + duplicates), gaps: 0 };
    PartitionCounts { partition: written.partition, counts }
}

fn records_of(letters: &[StoredDeadLetter]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    for StoredDeadLetter { letter, .. } in letters {
        let mut keep = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map(|bytes| {
                let span = Span::new(batch.bytes.len(), bytes.len());
                batch.bytes.extend_from_slice(bytes);
                span
            })
        };
        let (key, payload) = (keep(&letter.key), keep(&letter.payload));
        batch.records.push(Record {
            partition: letter.partition,
            offset: letter.offset,
            timestamp: if lost_its_time(letter) { i64::MAX } else { letter.timestamp },
            key,
            payload,
            oversize: None,
        });
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::stored_letter;

    #[test]
    fn a_letter_that_lost_its_key_is_not_made_whole_by_a_payload() {
        let mut stored = stored_letter(1);
        stored.letter.payload = Some(b"{}".to_vec());
        stored.letter.rejection.reason = Reason::RecordTooLarge;
        stored.letter.rejection.field = None;
        assert!(is_whole(&stored));
        stored.letter.rejection.field = Some("@key".to_owned());
        assert!(!is_whole(&stored));
    }

    #[test]
    fn a_time_that_could_not_be_kept_is_not_taken_for_none() {
        let refused = |reason, field: &str| {
            let mut stored = stored_letter(1);
            let rejection = Rejection { reason, field: Some(field.to_owned()), message: String::new() };
            stored.letter = DeadLetter { timestamp: -1, rejection, ..stored.letter };
            stored
        };
        let letters = [
            refused(Reason::OutOfRange, "@timestamp"),
            refused(Reason::OutOfRange, "amount"),
            refused(Reason::NullNotAllowed, "@timestamp"),
        ];
        let times: Vec<i64> = records_of(&letters).records.iter().map(|record| record.timestamp).collect();
        assert_eq!(times, [i64::MAX, -1, -1]);
    }
}
