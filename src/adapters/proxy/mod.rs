//! A TCP proxy that slows, hangs, refuses and cuts the connections that go through it, and, where they speak MySQL's
//! protocol in clear, does so at a chosen statement. For drills and tests. Must never change a byte that it passes on.

mod connection;
mod packets;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What all connections suffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Added to each read, in both directions.
    pub latency: Duration,
    /// In each direction of each connection.
    pub bytes_per_second: Option<u64>,
    /// Nothing passes, and nothing is closed.
    pub hangs: bool,
    /// New connections are reset; open ones stay.
    pub refuses: bool,
}

/// What waits for a statement. Needs packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// The next COMMIT is kept back and its connection cut.
    CommitCut,
    /// The next COMMIT is passed on, its answer kept back and the connection cut.
    CommitAnswerCut,
    /// The connection is cut after so many bytes of the next LOAD DATA's rows.
    CutMidLoad { after: u64 },
    /// Until it is disarmed, each statement that changes rows is kept back and answered with this error.
    Refuse { code: u16, words: &'static str },
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    packets: bool,
    traffic: watch::Sender<Traffic>,
    /// Cuts the connections that were opened under it.
    cut: Mutex<CancellationToken>,
    trap: Mutex<Option<Trap>>,
    sprung: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Takes the trap away where it waits for this.
    fn spring(&self, caught: impl Fn(&Trap) -> bool) -> bool {
        let mut trap = lock(&self.trap);
        let caught = trap.as_ref().is_some_and(caught);
        if caught {
            *trap = None;
            self.sprung.fetch_add(1, Ordering::Relaxed);
        }
        caught
    }
}

/// A listening proxy; dropping it closes it and cuts what goes through.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
}

impl Proxy {
    /// Listens on a free port of the loopback address, on the present runtime. `upstream`: `host:port`. `packets`: what
    /// passes is MySQL's protocol in clear; else traps stay unsprung.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(upstream: &str, packets: bool) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            packets,
            traffic: watch::Sender::new(Traffic::default()),
            cut: Mutex::new(CancellationToken::new()),
            trap: Mutex::new(None),
            sprung: AtomicU64::new(0),
        });
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(accept(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, end })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for open connections too.
    pub fn traffic(&self, traffic: Traffic) {
        self.shared.traffic.send_replace(traffic);
    }

    /// Resets every open connection, once, at both ends.
    pub fn cut_all(&self) {
        let old = std::mem::take(&mut *lock(&self.shared.cut));
        old.cancel();
    }

    /// Sets the trap, in place of one that has not sprung.
    pub fn arm(&self, trap: Trap) {
        *lock(&self.shared.trap) = Some(trap);
    }

    /// Takes the trap away.
    pub fn disarm(&self) {
        *lock(&self.shared.trap) = None;
    }

    /// How often traps did their work: connections cut, statements refused.
    pub fn sprung(&self) -> u64 {
        self.shared.sprung.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
        self.cut_all();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: it may pass.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if shared.traffic.borrow().refuses {
            reset(&client);
            continue;
        }
        let cut = lock(&shared.cut).clone();
        tokio::spawn(connection::serve(client, Arc::clone(&shared), cut));
    }
}

/// Makes the close of a socket a reset, so that neither end takes what came for all there was.
fn reset(socket: &TcpStream) {
    // A socket that is closed already needs none.
    let _ = socket.set_zero_linger();
}

#[cfg(test)]
mod tests;
