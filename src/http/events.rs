//! `/events`: the status document as server-sent events, once a second. It is made once for all readers, and a slow
//! reader misses documents rather than queueing them: each gets the newest when it can take one. A reader that
//! takes nothing is cut off, so that neither memory nor a place is held for it.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::http::header::ContentEncoding;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::problem::problem;
use super::{Shared, status};

/// Pages at once.
pub(super) const MAX_READERS: usize = 128;

/// A document a second is offered; who took none for so long is gone or stalled.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// How long a browser waits before it connects again: long enough not to storm a daemon that restarts.
const RETRY: &str = "retry: 2000\n\n";

/// Who reads, and what they read.
pub(super) struct Readers {
    newest: watch::Sender<Bytes>,
    open: AtomicUsize,
    /// Goes up once a second.
    tick: AtomicU64,
    /// For cutting stalled ones.
    connections: Mutex<Vec<Weak<Connection>>>,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(Bytes::new()),
            open: AtomicUsize::new(0),
            tick: AtomicU64::new(0),
            connections: Mutex::default(),
        }
    }
}

/// One reader's socket and the tick at which it last took something.
struct Connection {
    socket: Option<TcpStream>,
    taken_at: AtomicU64,
}

/// A second handle on a connection's socket, kept with the connection. The server offers no other way to end an
/// answer whose reader has stalled: its body is not asked for more until the reader takes what is there.
struct Socket(TcpStream);

pub(super) fn keep_socket(connection: &dyn Any, data: &mut Extensions) {
    let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
    if let Some(fd) = stream.and_then(|s| s.as_fd().try_clone_to_owned().ok()) {
        data.insert(Socket(TcpStream::from(fd)));
    }
}

/// Samples the rates and hands the newest document to all readers, once a second, until the server is dropped.
pub(super) async fn publish_every_second(shared: Weak<Shared>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let streams = shared.state.board.snapshot();
        let counts = streams.iter().map(|s| (s.stream.clone(), shared.state.metrics.stream(&s.stream).outcomes()));
        shared.rates.sample(Instant::now(), counts.collect());
        let tick = shared.readers.tick.fetch_add(1, Ordering::Relaxed) + 1;
        if shared.readers.newest.receiver_count() > 0 {
            shared.readers.newest.send_replace(event(&shared));
        }
        shared.readers.cut_stalled(tick);
    }
}

fn event(shared: &Shared) -> Bytes {
    // The document has no line break of its own, so one data line holds it.
    Bytes::from(format!("event: status\ndata: {}\n\n", status::document(shared)))
}

impl Readers {
    fn cut_stalled(&self, tick: u64) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let stalled = tick.saturating_sub(connection.taken_at.load(Ordering::Relaxed)) > STALLED_AFTER.as_secs();
            if stalled && let Some(socket) = &connection.socket {
                tracing::debug!("a reader of /events took nothing for 30 s and was cut off");
                let _ = socket.shutdown(Shutdown::Both);
            }
            !stalled
        });
    }
}

/// A reader's place, given back when its answer ends.
struct Place {
    shared: web::Data<Shared>,
    connection: Arc<Connection>,
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
    let connection = Arc::new(Connection {
        socket: request.conn_data::<Socket>().and_then(|socket| socket.0.try_clone().ok()),
        taken_at: AtomicU64::new(readers.tick.load(Ordering::Relaxed)),
    });
    readers.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
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
        let tick = place.shared.readers.tick.load(Ordering::Relaxed);
        place.connection.taken_at.store(tick, Ordering::Relaxed);
        Some((Ok::<_, actix_web::Error>(document), (place, None)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Compression would hold events back until its buffer is full.
        .insert_header(ContentEncoding::Identity)
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn connection(taken_at: u64) -> (Arc<Connection>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        (Arc::new(Connection { socket: Some(socket), taken_at: AtomicU64::new(taken_at) }), reader)
    }

    #[test]
    fn a_reader_that_takes_nothing_is_cut_off_and_others_stay() {
        let readers = Readers::default();
        let (stalled, mut its_end) = connection(0);
        let (alive, mut other_end) = connection(30);
        readers.connections.lock().unwrap().extend([Arc::downgrade(&stalled), Arc::downgrade(&alive)]);
        readers.cut_stalled(30);
        assert_eq!(readers.connections.lock().unwrap().len(), 2, "not yet");
        readers.cut_stalled(31);
        assert_eq!(its_end.read(&mut [0; 1]).unwrap(), 0, "the connection is shut");
        assert_eq!(readers.connections.lock().unwrap().len(), 1);
        other_end.set_nonblocking(true).unwrap();
        assert_eq!(other_end.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(alive);
        readers.cut_stalled(32);
        assert!(readers.connections.lock().unwrap().is_empty(), "who left is forgotten");
    }
}
