//! Dead letters changed by request: some hundred at a time, for a bounded time, each transaction with its line in the
//! audit. Whoever asked goes on from where this stopped.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::portions::PORTION;
use super::{Redrive, discard};
use crate::actors::writer::Ended;
use crate::adapters::warehouse;
use crate::config::Config;
use crate::messages::Board;
use crate::ports::letter_changes::{
    DroppedLetters, LetterChanges, LetterRequest, OpenLetterChanges, RetriedLetters, RetryOptions,
};
use crate::ports::{AuditEntry, DeadLetterFilter, LetterBook, LetterKey, WarehouseError};

/// After this no further letters are begun with: an answer that takes long is one that a proxy gives up.
const PATIENCE: Duration = Duration::from_secs(15);
/// Letters of one request.
const AT_MOST: usize = 2000;

/// How the HTTP side opens it.
pub fn open_letter_changes(config: &Arc<Config>, board: &Board) -> OpenLetterChanges {
    let (config, board) = (Arc::clone(config), board.clone());
    Arc::new(move || {
        let (config, board) = (Arc::clone(&config), board.clone());
        Box::pin(async move { Ok(Box::new(Changes { config, board }) as Box<dyn LetterChanges>) })
    })
}

struct Changes {
    config: Arc<Config>,
    board: Board,
}

impl Changes {
    async fn book(&self) -> Result<Box<dyn LetterBook>, WarehouseError> {
        (warehouse::open_letter_book(&self.config.warehouse))().await
    }

    fn entry(&self, action: &str, which: &LetterRequest, ended: &Ended<'_>, outcome: Value) -> AuditEntry {
        AuditEntry {
            id: 0,
            at: Utc::now(),
            daemon: self.config.daemon.name.clone(),
            peer: which.peer.clone(),
            action: action.to_owned(),
            letters: ended.letters.to_vec(),
            request: which.asked.clone(),
            payload: None,
            outcome,
        }
    }
}

#[async_trait(?Send)]
impl LetterChanges for Changes {
    async fn retry(&mut self, which: &LetterRequest, how: &RetryOptions) -> Result<RetriedLetters, WarehouseError> {
        let audit = |ended: &Ended<'_>| {
            let Ended { counts, refused, .. } = ended;
            let outcome = json!({
                "applied": counts.applied, "duplicates": counts.duplicates, "refused": refused,
            });
            AuditEntry { payload: how.payload.clone(), ..self.entry("retry", which, ended, outcome) }
        };
        let mut redrive = Redrive::new(&self.config, how, Some(&audit)).telling(&self.board);
        let book = self.book().await?;
        // Where the row that is there stays, the latest of a key must come first; where it is set, last.
        let mut windows = Windows::new(which, !how.overwrite);
        let mut sum = RetriedLetters::default();
        while let Some(keys) = windows.next(book.as_ref()).await? {
            if let Err(error) = redrive.retry(keys, &mut sum).await {
                if sum == RetriedLetters::default() {
                    return Err(error);
                }
                tracing::warn!(%error, "a retry of dead letters stopped midway; what was done is done");
                windows.step_back();
                break;
            }
        }
        sum.next = windows.rest();
        Ok(sum)
    }

    async fn drop_letters(&mut self, which: &LetterRequest) -> Result<DroppedLetters, WarehouseError> {
        let audit = |ended: &Ended<'_>| self.entry("drop", which, ended, json!({ "dropped": ended.letters.len() }));
        let book = self.book().await?;
        let mut windows = Windows::new(which, true);
        let mut dropped = 0;
        while let Some(keys) = windows.next(book.as_ref()).await? {
            match discard(&self.config, &keys, Some(&audit), &mut dropped).await {
                Ok(()) => {}
                Err(error) if dropped == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "dropping dead letters stopped midway; what was done is done");
                    windows.step_back();
                    break;
                }
            }
        }
        Ok(DroppedLetters { dropped, next: windows.rest() })
    }
}

/// Letters in the order in which they are to be taken, a portion at a time, as long as the request may take.
struct Windows {
    filter: DeadLetterFilter,
    until: Instant,
    taken: usize,
    /// Where the present window began.
    before: Option<i64>,
    all: bool,
}

impl Windows {
    fn new(which: &LetterRequest, newest_first: bool) -> Self {
        let (before_id, after_id) = if newest_first { (which.cursor, None) } else { (None, which.cursor) };
        let filter =
            DeadLetterFilter { before_id, after_id, newest_first, limit: PORTION as u64, ..which.filter.clone() };
        Self { filter, until: Instant::now() + PATIENCE, taken: 0, before: which.cursor, all: false }
    }

    async fn next(&mut self, book: &dyn LetterBook) -> Result<Option<Vec<LetterKey>>, WarehouseError> {
        if self.all || self.taken >= AT_MOST || Instant::now() >= self.until {
            return Ok(None);
        }
        let keys = book.letter_keys(&self.filter).await?;
        self.all = keys.len() < PORTION;
        self.taken += keys.len();
        let Some(last) = keys.last().map(|key| key.id) else { return Ok(None) };
        self.before = self.cursor();
        self.move_to(Some(last));
        Ok(Some(keys))
    }

    fn cursor(&self) -> Option<i64> {
        if self.filter.newest_first { self.filter.before_id } else { self.filter.after_id }
    }

    fn move_to(&mut self, id: Option<i64>) {
        *(if self.filter.newest_first { &mut self.filter.before_id } else { &mut self.filter.after_id }) = id;
    }

    /// The present window was not done.
    fn step_back(&mut self) {
        self.all = false;
        let before = self.before;
        self.move_to(before);
    }

    /// Where to go on; `None` where nothing is left.
    fn rest(&self) -> Option<i64> {
        // At the very beginning, which has no id before it: beyond all that there are.
        let start = if self.filter.newest_first { i64::MAX } else { 0 };
        (!self.all).then(|| self.cursor().unwrap_or(start))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::ports::StoredDeadLetter;

    /// Letters with the ids from 1 on.
    struct Shelf(i64);

    #[async_trait(?Send)]
    impl LetterBook for Shelf {
        async fn letter_keys(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterKey>, WarehouseError> {
            let below = filter.before_id.unwrap_or(i64::MAX).min(self.0 + 1);
            let range = filter.after_id.unwrap_or(0) + 1..below;
            let ids: Vec<i64> = if filter.newest_first { range.rev().collect() } else { range.collect() };
            let key = |id| LetterKey { id, topic: "orders".to_owned(), partition: 0, bytes: 1 };
            Ok(ids.into_iter().take(filter.limit as usize).map(key).collect())
        }

        async fn is_publisher(&self, _: &str) -> Result<bool, WarehouseError> {
            unreachable!("nobody asks")
        }

        async fn unpublished(&self, _: &str, _: i64, _: i64) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
            unreachable!("nobody asks")
        }

        async fn mark_published(&self, _: &[i64], _: DateTime<Utc>) -> Result<(), WarehouseError> {
            unreachable!("nobody asks")
        }
    }

    async fn windows(newest_first: bool, cursor: Option<i64>, letters: i64) -> (Vec<i64>, Option<i64>) {
        let which = LetterRequest { cursor, ..LetterRequest::default() };
        let mut windows = Windows::new(&which, newest_first);
        let mut ids = Vec::new();
        while let Some(keys) = windows.next(&Shelf(letters)).await.unwrap() {
            ids.extend(keys.iter().map(|key| key.id));
        }
        (ids, windows.rest())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_takes_so_many_letters_and_the_next_goes_on_where_it_stopped() {
        for (newest_first, first, second) in [
            (true, (600..=2599).rev().collect::<Vec<i64>>(), (1..600).rev().collect::<Vec<i64>>()),
            (false, (1..=2000).collect(), (2001..=2599).collect()),
        ] {
            let (ids, next) = windows(newest_first, None, 2599).await;
            assert_eq!(ids, first);
            let (ids, next) = windows(newest_first, next, 2599).await;
            assert_eq!((ids, next), (second, None));
        }
        assert_eq!(windows(true, None, 0).await, (Vec::new(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_was_not_done_is_begun_with_again() {
        for newest_first in [true, false] {
            let mut first = Windows::new(&LetterRequest::default(), newest_first);
            let keys = first.next(&Shelf(3)).await.unwrap().unwrap();
            first.step_back();
            let (again, next) = windows(newest_first, first.rest(), 3).await;
            assert_eq!(again, keys.iter().map(|key| key.id).collect::<Vec<_>>());
            assert_eq!(next, None);
        }
    }
}
