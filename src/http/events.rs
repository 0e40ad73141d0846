//! `/events`: the status document as server-sent events, once a second. It is made once for all readers, and a slow
//! reader misses documents rather than queueing them: each gets the newest when it can take one. A reader that
//! takes nothing is cut off (`connections`), so that neither memory nor a place is held for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::http::header::ContentEncoding;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::connections::Connection;
use super::problem::problem;
use super::{Shared, status};

/// Pages at once.
pub(super) const MAX_READERS: usize = 128;

/// How long a browser waits before it connects again: long enough not to storm a daemon that restarts.
const RETRY: &str = "retry: 2000\n\n";

/// Who reads, and what they read.
pub(super) struct Readers {
    newest: watch::Sender<Bytes>,
    open: AtomicUsize,
}

impl Default for Readers {
    fn default() -> Self {
        Self { newest: watch::Sender::new(Bytes::new()), open: AtomicUsize::new(0) }
    }
}

/// Samples the rates, hands the newest document to all readers and cuts off what has stalled, once a second, until
/// the server is dropped.
pub(super) async fn publish_every_second(shared: Weak<Shared>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let streams = shared.state.board.snapshot();
        let counts = streams.iter().map(|s| (s.stream.clone(), shared.state.metrics.stream(&s.stream).outcomes()));
        shared.rates.sample(Instant::now(), counts.collect());
        if shared.readers.newest.receiver_count() > 0 {
            shared.readers.newest.send_replace(event(&shared));
        }
        shared.connections.tick();
    }
}

fn event(shared: &Shared) -> Bytes {
    // The document has no line break of its own, so one data line holds it.
    Bytes::from(format!("event: status\ndata: {}\n\n", status::document(shared)))
}

/// A reader's place, given back when its answer ends.
struct Place {
    shared: web::Data<Shared>,
    connection: Option<Arc<Connection>>,
    documents: watch::Receiver<Bytes>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.readers.open.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn events(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if request.method() == Method::HEAD {
        return HttpResponse::Ok().content_type("text/event-stream").finish();
    }
    let readers = &shared.readers;
    if readers.open.fetch_add(1, Ordering::Relaxed) >= MAX_READERS {
        readers.open.fetch_sub(1, Ordering::Relaxed);
        return problem(StatusCode::SERVICE_UNAVAILABLE, "Too many pages are open. /status has the same document.");
    }
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let documents = readers.newest.subscribe();
    let first = Bytes::from([RETRY.as_bytes(), &event(&shared)].concat());
    let place = Place { connection, documents, shared };
    let body = stream::unfold((place, Some(first)), |(mut place, first)| async move {
        let document = match first {
            Some(first) => first,
            None => {
                place.documents.changed().await.ok()?;
                place.documents.borrow_and_update().clone()
            }
        };
        if let Some(connection) = &place.connection {
            place.shared.connections.took(connection);
        }
        Some((Ok::<_, actix_web::Error>(document), (place, None)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Compression would hold events back until its buffer is full.
        .insert_header(ContentEncoding::Identity)
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body)
}
