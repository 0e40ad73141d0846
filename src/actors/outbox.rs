//! Tells a stream's dead letters to a Kafka topic, from the table where they are stored: at least once, by one daemon
//! at a time, in passes, each from the oldest on, so that a letter that the topic refuses holds up no other. Apart from
//! the stream's pipeline, and must never delay it: while Kafka or the database is away the letters wait in the table.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::IntCounter;

use crate::ports::{Clock, LetterBook, LetterPublisher, OpenLetterBook, OpenLetterPublisher};
use crate::runtime::{Backoff, ExitGuard, Lone, Work};

/// How often the table is looked at for new letters.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Looks without a letter after which the client is let go: unused, it would keep what it complains of while Kafka is away.
const UNUSED: u32 = 60;

/// What an outbox is made of.
pub struct OutboxSettings {
    /// Whose letters.
    pub topic: String,
    /// What the letters of one round hold at most, unless it is one letter: it is in memory together.
    pub bytes_a_round: i64,
    pub open_book: OpenLetterBook,
    pub open_publisher: OpenLetterPublisher,
    pub clock: Arc<dyn Clock>,
    /// Letters that arrived, and tries that failed.
    pub published: IntCounter,
    pub failures: IntCounter,
}

pub type Outbox = Lone<OutboxSettings>;

impl Outbox {
    pub fn new(settings: OutboxSettings, guard: ExitGuard) -> Self {
        Self::of(settings, guard)
    }
}

#[async_trait(?Send)]
impl Work for OutboxSettings {
    async fn work(&mut self) {
        publish_on(self).await;
    }
}

/// For as long as the daemon lives.
async fn publish_on(settings: &OutboxSettings) {
    let mut desk = Desk::default();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
    loop {
        match desk.round(settings).await {
            Ok(0) => tokio::time::sleep(LOOK_EVERY).await,
            Ok(letters) => {
                backoff.reset();
                settings.published.inc_by(letters as u64);
                tracing::debug!(topic = settings.topic, letters, "dead letters published");
            }
            Err(cause) => {
                settings.failures.inc();
                let wait = backoff.next_delay();
                tracing::warn!(
                    topic = settings.topic,
                    cause,
                    wait_seconds = wait.as_secs_f64(),
                    "dead letters are not published; they wait in bief_dead_letter, and the stream goes on"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[derive(Default)]
struct Desk {
    book: Option<Box<dyn LetterBook>>,
    /// Away while it sends, and after a failure: a client that failed may never send again.
    publisher: Option<Box<dyn LetterPublisher>>,
    /// The last letter that was tried in this pass.
    tried: i64,
    /// Looks in a row that found nothing.
    unused: u32,
    /// Why a letter of this pass did not arrive; it is tried again in the next.
    failed: Option<String>,
}

impl Desk {
    /// How many letters were published; 0 also where another daemon publishes.
    async fn round(&mut self, settings: &OutboxSettings) -> Result<usize, String> {
        let outcome = self.publish(settings).await;
        match outcome {
            Ok(0) => {
                self.unused += 1;
                if self.unused >= UNUSED
                    && let Some(publisher) = self.publisher.take()
                {
                    // It may wait for its threads.
                    let _ = tokio::task::spawn_blocking(move || drop(publisher)).await;
                }
            }
            Ok(_) => self.unused = 0,
            Err(_) => self.book = None,
        }
        outcome
    }

    async fn publish(&mut self, settings: &OutboxSettings) -> Result<usize, String> {
        let book = match self.book.take() {
            Some(book) => book,
            None => (settings.open_book)().await.map_err(|e| e.to_string())?,
        };
        let book = self.book.insert(book);
        if !book.is_publisher(&settings.topic).await.map_err(|e| e.to_string())? {
            return Ok(0);
        }
        let letters =
            book.unpublished(&settings.topic, self.tried, settings.bytes_a_round).await.map_err(|e| e.to_string())?;
        let Some(last) = letters.last().map(|l| l.id) else {
            self.tried = 0;
            return self.failed.take().map_or(Ok(0), Err);
        };
        let mut publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => (settings.open_publisher)()?,
        };
        let sent = tokio::task::spawn_blocking(move || {
            let published = publisher.publish(&letters);
            // Where it is let go it may wait for its threads: here, not on the actor's.
            (published.failure.is_none().then_some(publisher), published)
        });
        let (publisher, published) = sent.await.map_err(|e| e.to_string())?;
        self.publisher = publisher;
        if !published.arrived.is_empty() {
            crate::failpoint!("before-mark-published", "failpoint before-mark-published".to_owned());
            book.mark_published(&published.arrived, settings.clock.now()).await.map_err(|e| e.to_string())?;
        }
        self.tried = last;
        match published.failure {
            // Kafka may be away: wait before the next are tried.
            Some(failure) if published.arrived.is_empty() => Err(failure),
            failure => {
                self.failed = failure.or(self.failed.take());
                Ok(published.arrived.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::ports::testing::stored_letter;
    use crate::ports::{DeadLetterFilter, LetterKey, Published, StoredDeadLetter, SystemClock, WarehouseError};

    /// Letters that wait; two fit into a round.
    struct Table(Rc<RefCell<BTreeSet<i64>>>);

    #[async_trait(?Send)]
    impl LetterBook for Table {
        async fn letter_keys(&self, _: &DeadLetterFilter) -> Result<Vec<LetterKey>, WarehouseError> {
            unreachable!("the outbox does not ask")
        }

        async fn is_publisher(&self, _: &str) -> Result<bool, WarehouseError> {
            Ok(true)
        }

        async fn unpublished(&self, _: &str, after: i64, _: i64) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
            let waiting = self.0.borrow();
            Ok(waiting.range(after + 1..).take(2).map(|id| stored_letter(*id)).collect())
        }

        async fn mark_published(&self, ids: &[i64], _: DateTime<Utc>) -> Result<(), WarehouseError> {
            self.0.borrow_mut().retain(|id| !ids.contains(id));
            Ok(())
        }
    }

    /// Refuses the first five letters for good, and everything once it has refused one.
    struct Fussy {
        broken: bool,
    }

    impl LetterPublisher for Fussy {
        fn publish(&mut self, letters: &[StoredDeadLetter]) -> Published {
            let (arrived, refused): (Vec<i64>, Vec<i64>) =
                letters.iter().map(|l| l.id).partition(|id| *id > 5 && !self.broken);
            self.broken |= !refused.is_empty();
            Published { arrived, failure: (!refused.is_empty()).then(|| "refused".to_owned()) }
        }
    }

    /// Each client that is opened is counted.
    fn settings(opened: &Arc<Mutex<usize>>) -> OutboxSettings {
        let counter = Arc::clone(opened);
        OutboxSettings {
            topic: "orders".to_owned(),
            bytes_a_round: 1,
            open_book: Arc::new(|| unreachable!("handed in")),
            open_publisher: Arc::new(move || {
                *counter.lock().unwrap() += 1;
                Ok(Box::new(Fussy { broken: false }))
            }),
            clock: Arc::new(SystemClock),
            published: IntCounter::new("published", "letters").unwrap(),
            failures: IntCounter::new("failures", "tries").unwrap(),
        }
    }

    #[tokio::test]
    async fn letters_that_are_refused_for_good_hold_up_no_other_and_are_tried_again() {
        let waiting = Rc::new(RefCell::new((1..=12).collect::<BTreeSet<i64>>()));
        let opened = Arc::new(Mutex::new(0));
        let settings = settings(&opened);
        let mut desk = Desk::default();
        let mut outcomes = Vec::new();
        for _ in 0..10 {
            desk.book.get_or_insert_with(|| Box::new(Table(Rc::clone(&waiting))));
            outcomes.push(desk.round(&settings).await.map_err(drop));
        }
        // 1 and 2, 3 and 4 alone, 6 to 12; the pass ends and tells; the next begins with 1.
        let wanted = [Err(()), Err(()), Ok(1), Ok(2), Ok(2), Ok(2), Err(()), Err(()), Err(()), Err(())];
        assert_eq!(outcomes, wanted);
        assert_eq!(waiting.borrow().iter().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(*opened.lock().unwrap() >= 5, "a client that failed is not used again");
    }

    #[tokio::test]
    async fn a_client_that_nothing_needs_for_a_while_is_let_go() {
        let waiting = Rc::new(RefCell::new(BTreeSet::from([6])));
        let opened = Arc::new(Mutex::new(0));
        let settings = settings(&opened);
        let mut desk = Desk { book: Some(Box::new(Table(Rc::clone(&waiting)))), ..Desk::default() };
        for round in 0..2 {
            assert_eq!(desk.round(&settings).await, Ok(1), "{round}");
            for look in 1..UNUSED {
                assert_eq!(desk.round(&settings).await, Ok(0));
                assert!(desk.publisher.is_some(), "{look}");
            }
            assert_eq!(desk.round(&settings).await, Ok(0));
            assert!(desk.publisher.is_none());
            waiting.borrow_mut().insert(7);
        }
        assert_eq!(*opened.lock().unwrap(), 2);
    }
}
