//! The ports of dead letters once they are stored: sending them through again, and telling them to Kafka.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;

use super::{DeadLetterFilter, StoredDeadLetter, Warehouse, WarehouseError};
use crate::core::outcome::{Reason, Rejection};

/// A writer's connection that can take dead letters away too, in the transaction that writes their rows.
#[async_trait(?Send)]
pub trait LetterWarehouse: Warehouse {
    /// Locks the offset rows of these partitions, in ascending order as every writer does, then those of the letters
    /// that are still there; answers them ascending by id. Until the transaction ends no other can take them.
    async fn lock_letters(
        &mut self,
        topic: &str,
        partitions: &[i32],
        ids: &[i64],
    ) -> Result<Vec<StoredDeadLetter>, WarehouseError>;

    /// Deletes letters that got another outcome; the caller moves their counts.
    async fn delete_letters(&mut self, ids: &[i64]) -> Result<(), WarehouseError>;

    /// Gives letters another reason; number, payload and when they were stored stay.
    async fn restate_letters(&mut self, letters: &[(i64, Rejection)]) -> Result<(), WarehouseError>;

    /// Deletes letters for good and puts down in `bief_dropped_letter` which they were, so that the ledger still
    /// closes: their counts stay.
    async fn drop_letters(&mut self, ids: &[i64], now: DateTime<Utc>) -> Result<(), WarehouseError>;

    /// Puts down in `bief_audit` what this transaction does and who asked for it; the entry's id is not looked at.
    async fn audit(&mut self, entry: &AuditEntry) -> Result<(), WarehouseError>;
}

/// How a command opens it.
pub type OpenLetterWarehouse =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn LetterWarehouse>, WarehouseError>> + Send + Sync>;

/// A letter without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterKey {
    pub id: i64,
    pub topic: String,
    pub partition: i32,
    /// Of key and payload together.
    pub bytes: i64,
}

/// A letter without its key and payload, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterHead {
    pub id: i64,
    /// With `@EPOCH` where it is a former log.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The record's time at the broker; `None` where it gave none.
    pub timestamp: Option<DateTime<Utc>>,
    pub rejection: Rejection,
    pub stored_at: DateTime<Utc>,
    /// Of key and payload together.
    pub bytes: i64,
}

/// Letters of one topic with the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterGroup {
    pub topic: String,
    pub reason: Reason,
    pub letters: i64,
    pub first_stored_at: DateTime<Utc>,
    pub last_stored_at: DateTime<Utc>,
    /// The highest id among them.
    pub newest: i64,
}

/// A change to dead letters that was asked for over HTTP, as `bief_audit` keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    pub id: i64,
    pub at: DateTime<Utc>,
    /// `daemon.name` of the daemon that did it.
    pub daemon: String,
    /// The address that asked.
    pub peer: String,
    /// `retry` or `drop`.
    pub action: String,
    /// Letters that ended, ascending.
    pub letters: Vec<i64>,
    /// What was asked, as JSON, without the payload.
    pub request: serde_json::Value,
    /// What was put in place of the letter's own.
    pub payload: Option<Vec<u8>>,
    /// What it came to, as JSON.
    pub outcome: serde_json::Value,
}

/// What is shown of dead letters while they wait for someone to decide. Reads only.
#[async_trait(?Send)]
pub trait LetterReader {
    /// In the filter's order.
    async fn heads(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterHead>, WarehouseError>;

    /// How many letters each topic and reason has, the largest group first. The filter's ids, order and limit do not
    /// count.
    async fn groups(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterGroup>, WarehouseError>;

    async fn letter(&self, id: i64) -> Result<Option<StoredDeadLetter>, WarehouseError>;

    /// Entries with ids below `before`, the newest first, at most `limit`.
    async fn audit_entries(&self, before: Option<i64>, limit: u64) -> Result<Vec<AuditEntry>, WarehouseError>;
}

/// How it is opened, on the thread that asks.
pub type OpenLetterReader =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn LetterReader>, WarehouseError>> + Send + Sync>;

/// What is read of dead letters, and marked on them, outside a batch's transaction.
#[async_trait(?Send)]
pub trait LetterBook {
    /// Which letters there are, in the filter's order.
    async fn letter_keys(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterKey>, WarehouseError>;

    /// Whether this connection is the one that publishes the topic's letters: one at a time among all daemons of the
    /// database, until it ends.
    async fn is_publisher(&self, topic: &str) -> Result<bool, WarehouseError>;

    /// The oldest letters of the topic, and of its former logs, that were not yet published and have ids above `after`;
    /// ascending by id, under the topic's own name. As many as hold at most `bytes`, but one where there is one.
    async fn unpublished(&self, topic: &str, after: i64, bytes: i64) -> Result<Vec<StoredDeadLetter>, WarehouseError>;

    /// Marks letters as published.
    async fn mark_published(&self, ids: &[i64], now: DateTime<Utc>) -> Result<(), WarehouseError>;
}

/// How an actor or a command opens it, on its own thread, with a connection of its own.
pub type OpenLetterBook =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn LetterBook>, WarehouseError>> + Send + Sync>;

/// What became of letters on their way to Kafka.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Ids of those that the broker has, in no order.
    pub arrived: Vec<i64>,
    /// Why others did not arrive.
    pub failure: Option<String>,
}

/// Sends letters to a topic. Blocks its thread until the broker answered for each, or its time is over.
pub trait LetterPublisher: Send {
    fn publish(&mut self, letters: &[StoredDeadLetter]) -> Published;
}

/// How the outbox opens its publisher; the error says what to do.
pub type OpenLetterPublisher = Arc<dyn Fn() -> Result<Box<dyn LetterPublisher>, String> + Send + Sync>;
