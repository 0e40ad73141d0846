//! Tells a stream's dead letters to a Kafka topic, from the table where they are stored: at least once, oldest first,
//! by one daemon at a time. Apart from the stream's pipeline, and must never delay it: while Kafka or the database is
//! away the letters wait in the table.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::ports::{Clock, LetterBook, LetterPublisher, OpenLetterBook, OpenLetterPublisher};
use crate::runtime::{Backoff, ExitGuard};

/// How often the table is looked at for new letters.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What an outbox is made of.
pub struct OutboxSettings {
    /// Whose letters.
    pub topic: String,
    /// Letters of one round: what they hold is in memory together.
    pub letters_a_round: u64,
    pub open_book: OpenLetterBook,
    pub open_publisher: OpenLetterPublisher,
    pub clock: Arc<dyn Clock>,
}

pub struct Outbox {
    settings: Option<OutboxSettings>,
    guard: ExitGuard,
}

impl Outbox {
    pub fn new(settings: OutboxSettings, guard: ExitGuard) -> Self {
        Self { settings: Some(settings), guard }
    }
}

impl Actor for Outbox {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(settings) = self.settings.take() else { return };
        let (cancelled, draining) = (self.guard.cancelled().clone(), self.guard.draining().clone());
        let work = async move {
            tokio::select! {
                () = publish_on(settings) => {}
                () = cancelled.cancelled() => {}
                () = draining.cancelled() => {}
            }
        };
        ctx.wait(work.into_actor(self).map(|(), actor, ctx| {
            actor.guard.finish();
            ctx.stop();
        }));
    }
}

/// For as long as the daemon lives.
async fn publish_on(settings: OutboxSettings) {
    let mut desk = Desk { book: None, publisher: None };
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
    loop {
        match desk.round(&settings).await {
            Ok(0) => tokio::time::sleep(LOOK_EVERY).await,
            Ok(letters) => {
                backoff.reset();
                tracing::debug!(topic = settings.topic, letters, "dead letters published");
            }
            Err(cause) => {
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

struct Desk {
    book: Option<Box<dyn LetterBook>>,
    /// Away while it sends.
    publisher: Option<Box<dyn LetterPublisher>>,
}

impl Desk {
    /// How many letters were published; 0 also where another daemon publishes.
    async fn round(&mut self, settings: &OutboxSettings) -> Result<usize, String> {
        let outcome = self.publish(settings).await;
        if outcome.is_err() {
            self.book = None;
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
        let letters = book.unpublished(&settings.topic, settings.letters_a_round).await.map_err(|e| e.to_string())?;
        if letters.is_empty() {
            return Ok(0);
        }
        let mut publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => (settings.open_publisher)()?,
        };
        let sent = tokio::task::spawn_blocking(move || {
            let published = publisher.publish(&letters);
            (publisher, published)
        });
        let (publisher, published) = sent.await.map_err(|e| e.to_string())?;
        self.publisher = Some(publisher);
        if !published.arrived.is_empty() {
            crate::failpoint!("before-mark-published", "failpoint before-mark-published".to_owned());
            book.mark_published(&published.arrived, settings.clock.now()).await.map_err(|e| e.to_string())?;
        }
        published.failure.map_or(Ok(published.arrived.len()), Err)
    }
}
