//! The port through which dead letters are sent through again or dropped by request. Whoever asks waits for the answer,
//! so a call ends after a bounded time and says where to go on.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;

use super::{DeadLetterFilter, WarehouseError};
use crate::core::outcome::Rejection;

/// Which letters, and who asks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LetterRequest {
    /// By ids, or by what they have in common; its order, bounds and limit do not count.
    pub filter: DeadLetterFilter,
    /// Where the call before stopped.
    pub cursor: Option<i64>,
    /// The address that asks.
    pub peer: String,
    /// What was asked, for the audit.
    pub asked: serde_json::Value,
}

/// How letters are sent through again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetryOptions {
    /// Where the mapping says `on_conflict = "update"`, rows that are there are set; they may be newer than the letter.
    pub overwrite: bool,
    /// Each transaction is rolled back.
    pub dry_run: bool,
    /// In place of the payload that was kept; for one letter.
    pub payload: Option<Vec<u8>>,
}

/// What became of letters that were sent through again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetriedLetters {
    pub applied: i64,
    /// Changed no row; their letters end too.
    pub duplicates: i64,
    /// Stay, each with its present reason.
    pub refused: Vec<(i64, Rejection)>,
    /// Stay: their payload was too large to be kept.
    pub without_payload: usize,
    /// Stay: no stream of the configuration reads their topic.
    pub without_stream: usize,
    /// Stay: of former logs, and counted by no ledger.
    pub read_again: usize,
    /// Ended in a COMMIT that was not answered, or another took them.
    pub unanswered: usize,
    /// Another took them meanwhile.
    pub gone: usize,
    /// Where to go on; `None` where nothing is left.
    pub next: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DroppedLetters {
    pub dropped: usize,
    /// Where to go on; `None` where nothing is left.
    pub next: Option<i64>,
}

#[async_trait(?Send)]
pub trait LetterChanges {
    /// Each portion of letters in a transaction of its own, with its line in the audit.
    async fn retry(&mut self, which: &LetterRequest, how: &RetryOptions) -> Result<RetriedLetters, WarehouseError>;

    /// The same for dropping them.
    async fn drop_letters(&mut self, which: &LetterRequest) -> Result<DroppedLetters, WarehouseError>;
}

/// How it is opened, on the thread that asks.
pub type OpenLetterChanges =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn LetterChanges>, WarehouseError>> + Send + Sync>;
