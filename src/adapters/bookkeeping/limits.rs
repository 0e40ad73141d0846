//! The bookkeeping of a server, with an end to every wait: a host that vanished without a word answers nothing and
//! closes nothing, and a call without a limit would wait for it for ever. Must never take a call that ran out of time for
//! one that did nothing: it may still be done.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::SqlBookkeeping;
use crate::core::forecast::ModelVersion;
use crate::core::reset::Step;
use crate::ports::{
    Bookkeeping, Claim, DeadLetterFilter, Lease, Leases, Ledger, LetterBook, LetterKey, ModelChange, ModelHead, Models,
    PartitionOffset, Promoted, Rebuild, StoredDeadLetter, StoredModel, WarehouseError,
};

/// A claim waits for whoever writes under the partitions' rows. After 30 s without a word the server has given up a
/// daemon that was stopped there, so that the claim gets through by itself.
pub const CLAIM_LIMIT: Duration = Duration::from_secs(75);
/// A statement that takes longer hangs; as long as the writers give theirs.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Shorter than leases last, so that who cannot renew one learns of it in time.
const LEASE_LIMIT: Duration = Duration::from_secs(10);
/// Counting reads the whole table.
const COUNT_LIMIT: Duration = Duration::from_secs(3600);

/// What has a limit for each call; what runs into it is transient.
pub struct Limited(pub SqlBookkeeping);

/// What a call answers, or that the database did not.
pub(crate) async fn limited<T, E: From<WarehouseError>>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let what = format!("{what}: the database did not answer within {} s", limit.as_secs());
        Err(WarehouseError::Transient { what }.into())
    })
}

const READING: &str = "reading the bookkeeping tables";
const LETTERS: &str = "reading dead letters";

#[async_trait(?Send)]
impl Bookkeeping for Limited {
    async fn claim(
        &self,
        topic: &str,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<PartitionOffset>, WarehouseError> {
        limited("taking partitions over", CLAIM_LIMIT, self.0.claim(topic, claims, now)).await
    }

    async fn introduce(&self, topic: &str, claims: &[Claim], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        limited("putting the partitions of a topic down", CLAIM_LIMIT, self.0.introduce(topic, claims, now)).await
    }

    async fn offsets(&self, topic: Option<&str>) -> Result<Vec<PartitionOffset>, WarehouseError> {
        limited(READING, ANSWER_LIMIT, self.0.offsets(topic)).await
    }

    async fn ledger(&self, topic: &str) -> Result<Ledger, WarehouseError> {
        limited("reading the ledger", COUNT_LIMIT, self.0.ledger(topic)).await
    }

    async fn reset(&self, topic: &str, steps: &[(Step, i64)], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        limited("setting offsets", ANSWER_LIMIT, self.0.reset(topic, steps, now)).await
    }

    async fn truncated(
        &self,
        topic: &str,
        partition: i32,
        judged: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<(), WarehouseError> {
        limited("putting a truncated log down", ANSWER_LIMIT, self.0.truncated(topic, partition, judged, now)).await
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        limited(LETTERS, ANSWER_LIMIT, self.0.dead_letters(filter)).await
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<StoredDeadLetter>, WarehouseError> {
        limited(LETTERS, ANSWER_LIMIT, self.0.dead_letter(id)).await
    }

    async fn count_rows(&self, table: &str) -> Result<i64, WarehouseError> {
        limited(&format!("counting the rows of {table}"), COUNT_LIMIT, self.0.count_rows(table)).await
    }
}

#[async_trait(?Send)]
impl LetterBook for Limited {
    async fn letter_keys(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterKey>, WarehouseError> {
        limited(LETTERS, ANSWER_LIMIT, self.0.letter_keys(filter)).await
    }

    async fn is_publisher(&self, topic: &str) -> Result<bool, WarehouseError> {
        limited("asking for the right to publish dead letters", ANSWER_LIMIT, self.0.is_publisher(topic)).await
    }

    async fn unpublished(&self, topic: &str, after: i64, bytes: i64) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        limited(LETTERS, ANSWER_LIMIT, self.0.unpublished(topic, after, bytes)).await
    }

    async fn mark_published(&self, ids: &[i64], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        limited("marking dead letters as published", ANSWER_LIMIT, self.0.mark_published(ids, now)).await
    }
}

const LEASES: &str = "asking for a lease";
const REBUILDS: &str = "putting down how far a rebuild got";

#[async_trait(?Send)]
impl Leases for Limited {
    async fn take(&self, name: &str, owner: &str, lasts: Duration) -> Result<Lease, WarehouseError> {
        limited(LEASES, LEASE_LIMIT, self.0.take(name, owner, lasts)).await
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), WarehouseError> {
        limited(LEASES, LEASE_LIMIT, self.0.give_back(name, owner)).await
    }

    async fn done(&self, name: &str, owner: &str, moment: DateTime<Utc>) -> Result<bool, WarehouseError> {
        limited(LEASES, LEASE_LIMIT, self.0.done(name, owner, moment)).await
    }

    async fn rebuild(&self, aggregate: &str) -> Result<Option<Rebuild>, WarehouseError> {
        limited(REBUILDS, ANSWER_LIMIT, self.0.rebuild(aggregate)).await
    }

    async fn put_rebuild(&self, aggregate: &str, rebuild: &Rebuild) -> Result<(), WarehouseError> {
        limited(REBUILDS, ANSWER_LIMIT, self.0.put_rebuild(aggregate, rebuild)).await
    }

    async fn end_rebuild(&self, aggregate: &str) -> Result<(), WarehouseError> {
        limited(REBUILDS, ANSWER_LIMIT, self.0.end_rebuild(aggregate)).await
    }
}

const READING_MODELS: &str = "reading versions of models";
const MODELS: &str = "putting a version of a model down";

#[async_trait(?Send)]
impl Models for Limited {
    async fn put(&self, model: &ModelVersion, verdict: &str) -> Result<u64, WarehouseError> {
        limited(MODELS, ANSWER_LIMIT, self.0.put(model, verdict)).await
    }

    async fn list(&self, forecast: &str, below: Option<u64>, limit: u64) -> Result<Vec<ModelHead>, WarehouseError> {
        limited(READING_MODELS, ANSWER_LIMIT, self.0.list(forecast, below, limit)).await
    }

    async fn get(&self, forecast: &str, version: u64) -> Result<Option<StoredModel>, WarehouseError> {
        limited(READING_MODELS, ANSWER_LIMIT, self.0.get(forecast, version)).await
    }

    async fn champion(&self, forecast: &str) -> Result<Option<ModelHead>, WarehouseError> {
        limited(READING_MODELS, ANSWER_LIMIT, self.0.champion(forecast)).await
    }

    async fn promote(
        &self,
        forecast: &str,
        version: u64,
        change: &ModelChange,
    ) -> Result<Option<Promoted>, WarehouseError> {
        limited(MODELS, ANSWER_LIMIT, self.0.promote(forecast, version, change)).await
    }

    async fn rollback(&self, forecast: &str, change: &ModelChange) -> Result<Option<Promoted>, WarehouseError> {
        limited(MODELS, ANSWER_LIMIT, self.0.rollback(forecast, change)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_ends_at_its_limit_and_is_transient() {
        let never = std::future::pending::<Result<(), WarehouseError>>();
        let error = limited("taking partitions over", CLAIM_LIMIT, never).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Transient { .. }), "{error:?}");
        assert!(error.to_string().contains("taking partitions over: the database did not answer within 75 s"));
        assert_eq!(limited("", CLAIM_LIMIT, async { Ok::<_, WarehouseError>(7) }).await.unwrap(), 7);
    }
}
