//! Every connection of the server, watched from outside it: one that gets no further is cut off, whatever it waits
//! for. The server itself times only a connection's first head; it sets no limit to the taking of an answer. Must
//! never cut a reader of `/events` that takes its documents.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::dev::Extensions;
use socket2::SockRef;

/// Far more than a request and its answer take; for a reader of `/events`, the time since it last took a document.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Bytes that the system keeps for a client that does not take them. What is in there counts as taken, so it must be
/// little: by default it grows to megabytes, hours of documents.
const SEND_BUFFER: usize = 64 << 10;

/// All connections that there are.
#[derive(Debug)]
pub(super) struct Connections {
    stalled_after: Duration,
    /// Goes up once a second.
    tick: AtomicU64,
    open: Mutex<Vec<Weak<Connection>>>,
}

/// One connection: a second handle on its socket, and the tick at which it was opened or, where it reads `/events`,
/// last took something. The server offers no other way to end an answer whose reader has stalled: its body is not
/// asked for more until the reader takes what is there.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    taken_at: AtomicU64,
}

impl Connections {
    pub fn new(stalled_after: Duration) -> Self {
        Self { stalled_after, tick: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Called by the server for each connection; keeps the watched one in the connection's own data.
    pub fn watch(&self, connection: &dyn Any, data: &mut Extensions) {
        let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
        let socket = SockRef::from(stream);
        // Without these limits the connection is cut off all the same, only later.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(self.stalled_after));
        match stream.as_fd().try_clone_to_owned() {
            Ok(handle) => {
                data.insert(self.add(TcpStream::from(handle)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of the page was closed: no file descriptor is left to watch it");
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    fn add(&self, socket: TcpStream) -> Arc<Connection> {
        let taken_at = AtomicU64::new(self.tick.load(Ordering::Relaxed));
        let connection = Arc::new(Connection { socket, taken_at });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        connection
    }

    /// The connection took a document.
    pub fn took(&self, connection: &Connection) {
        connection.taken_at.store(self.tick.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// To be called once a second: cuts off what has stalled and forgets what is gone.
    pub fn tick(&self) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let stalled =
                tick.saturating_sub(connection.taken_at.load(Ordering::Relaxed)) > self.stalled_after.as_secs();
            // Fails where the client has gone meanwhile. Who is cut off stays here until the server lets go of it.
            if stalled && connection.socket.shutdown(Shutdown::Both).is_ok() {
                let seconds = self.stalled_after.as_secs();
                tracing::debug!(seconds, "a connection of the page got no further and was cut off");
            }
            true
        });
    }

    /// How many the server still holds, cut off or not.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let open = self.open.lock().unwrap();
        open.iter().filter(|connection| connection.strong_count() > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn connection(connections: &Connections) -> (Arc<Connection>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (connections.add(listener.accept().unwrap().0), client)
    }

    #[test]
    fn a_connection_that_takes_nothing_is_cut_off_and_others_stay() {
        let connections = Connections::new(STALLED_AFTER);
        let (stalled, mut its_end) = connection(&connections);
        let (alive, mut other_end) = connection(&connections);
        (0..30).for_each(|_| connections.tick());
        assert_eq!(connections.held(), 2, "not yet");
        connections.took(&alive);
        connections.tick();
        its_end.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(its_end.read(&mut [0; 1]).unwrap(), 0, "the connection is shut");
        drop(stalled);
        assert_eq!(connections.held(), 1);
        other_end.set_nonblocking(true).unwrap();
        assert_eq!(other_end.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(alive);
        connections.tick();
        assert!(connections.open.lock().unwrap().is_empty(), "who left is forgotten");
    }
}
