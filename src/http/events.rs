//! `/events`: the live stream of a page, as server-sent events of several types. Each event is made once for all readers
//! (`live`) and kept for a while (`ring`); a reader takes from there in its own time and holds nothing but the piece that
//! it is given. Who is slow misses events and is told so; who comes back goes on where it was. A reader that takes
//! nothing is cut off (`connections`), so that neither memory nor a place is held for it.

mod live;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::ContentEncoding;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded;

use self::ring::{Kind, Kinds, Next, Ring};
use super::connections::Connection;
use super::problem::problem;
use super::{Shared, answers, status};

pub(super) use self::live::tell;

/// How long a browser waits before it connects again: long enough not to storm a daemon that restarts.
const RETRY: &[u8] = b"retry: 2000\n\n";

/// How long a reader is told nothing at most, so that proxies keep the connection and it is seen that the reader takes what
/// it is given: well below the time after which one that does not is cut off.
const BEAT: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(10) };

/// Bytes that a reader is given at once, and that wait in its connection: what it costs while it stalls.
pub(super) const PIECE: usize = 8 << 10;

/// Who reads, and what they read.
pub(super) struct Readers {
    ring: Ring,
    most: usize,
    open: AtomicUsize,
    /// By kind.
    want: [AtomicUsize; 3],
}

impl Readers {
    /// `run` tells this run of the daemon from others.
    pub fn new(run: String, most: usize) -> Self {
        Self { ring: Ring::new(run), most, open: AtomicUsize::new(0), want: Default::default() }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether somebody wants events of this kind.
    fn want(&self, kind: Kind) -> bool {
        self.want[kind as usize].load(Ordering::Relaxed) > 0
    }

    fn enter(&self, kinds: Kinds) -> bool {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        for kind in Kind::ALL.into_iter().filter(|kind| kinds.has(*kind)) {
            self.want[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    fn leave(&self, kinds: Kinds) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        for kind in Kind::ALL.into_iter().filter(|kind| kinds.has(*kind)) {
            self.want[kind as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A reader's place, given back when its answer ends.
struct Place {
    shared: web::Data<Shared>,
    connection: Option<Arc<Connection>>,
    kinds: Kinds,
    newest: watch::Receiver<u64>,
    /// The number of the event that it took last.
    after: u64,
    /// What is left of it.
    rest: Bytes,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.readers.leave(self.kinds);
    }
}

impl Place {
    /// The next piece; `None` when the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        let beat_at = Instant::now() + BEAT;
        while self.rest.is_empty() {
            match self.shared.readers.ring.next(self.after, self.kinds) {
                Next::Nothing => match timeout_at(beat_at, self.newest.changed()).await {
                    Ok(changed) => changed.ok()?,
                    Err(_) => self.rest = Bytes::from_static(b": beat\n\n"),
                },
                Next::Event(number, event) | Next::Missed(number, event) => {
                    self.after = number;
                    self.rest = event;
                }
            }
        }
        if let Some(connection) = &self.connection {
            self.shared.connections.took(connection);
        }
        Some(self.rest.split_to(self.rest.len().min(PIECE)))
    }
}

pub(super) async fn events(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if request.method() == Method::HEAD {
        return HttpResponse::Ok().content_type("text/event-stream").finish();
    }
    let types = form_urlencoded::parse(request.query_string().as_bytes()).find(|(name, _)| name == "types");
    let Some(kinds) = types.map_or(Some(Kinds::EVERY), |(_, names)| Kinds::named(&names)) else {
        return answers::refused("types are status, records and documents, separated by commas.").into();
    };
    let readers = &shared.readers;
    if !readers.enter(kinds) {
        let detail = "Too many pages are open. /api/v1/status has what the stream tells once a second.";
        return problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    if kinds.has(Kind::Documents) {
        // At once, not at the next look: what is replaced from now on is told.
        shared.state.replacements.listen(true);
    }
    // Before what is there is looked at, so that nothing comes in between.
    let newest = readers.ring.subscribe();
    let (after, first) = begin(&request, &shared, kinds);
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let place = Place { shared, connection, kinds, newest, after, rest: first };
    let body = stream::unfold(place, |mut place| async move {
        let piece = place.next().await?;
        Some((Ok::<_, actix_web::Error>(piece), place))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Compression would hold events back until its buffer is full.
        .insert_header(ContentEncoding::Identity)
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body)
}

/// Behind which event a reader begins, and what it is given before that.
fn begin(request: &HttpRequest, shared: &Shared, kinds: Kinds) -> (u64, Bytes) {
    let ring = &shared.readers.ring;
    let last = request.headers().get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let mut first = RETRY.to_vec();
    let after = match last.filter(|id| !id.is_empty()) {
        Some(id) => ring.number_of(id).unwrap_or_else(|| {
            first.extend_from_slice(&ring.missed(ring.last(), true));
            ring.last()
        }),
        None => ring.last(),
    };
    if kinds.has(Kind::Status) {
        first.extend_from_slice(&ring.event(after, Kind::Status.name(), &status::document(shared)));
    }
    (after, first.into())
}
