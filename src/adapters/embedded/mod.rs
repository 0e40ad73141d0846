//! A Kafka-compatible broker inside this process: one node, all in memory, for `bief demo` and for tests that need no
//! server. Any Kafka client can talk to it (librdkafka, kcat, the Java clients).
//!
//! Offered: Produce (also by idempotent producers), Fetch, ListOffsets, Metadata, classic consumer groups, CreateTopics,
//! DeleteTopics, and what clients need around them; `shape.rs` lists every API with its versions. Not offered, and so not
//! in ApiVersions: transactions, static group members (`group.instance.id`), the new group protocol of Kafka 4
//! (`group.protocol=consumer`), authentication, encryption, compaction, retention.
//!
//! Batches are kept as their producers packed them and are handed out as they are: nothing is decoded, decompressed or
//! checked for its checksum, so timestamps are looked up to the batch, not to the record. Nothing stored is ever dropped:
//! there is no retention, and past the memory limit Produce answers `NOT_ENOUGH_REPLICAS`, upon which producers keep
//! their records and try again.
//!
//! It must never bring the process down, whatever it is sent, and must never write to disk. It knows no passwords: it is
//! for this machine or a network that is trusted.

mod batch;
mod catalog;
mod connection;
mod group;
mod log;
mod member;
mod membership;
mod producers;
mod records;
mod reply;
mod shape;
mod state;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use state::State;

/// Bytes that all logs together may take unless told otherwise: 1 GiB.
pub const DEFAULT_MEMORY: u64 = 1 << 30;

/// How long to wait before accepting again when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the embedded broker can't listen on {address}; choose another address, or port 0 for any free one")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the embedded broker can't start its thread")]
    Thread(#[from] io::Error),
    #[error(
        "the embedded broker can't create topic {name:?} with {partitions} partitions: {why}; \
         a name is 1 to 249 letters, digits, '.', '_' or '-', and there are 1 to 10000 partitions"
    )]
    Topic { name: String, partitions: i32, why: ResponseError },
}

/// A running broker. It ends when this is dropped.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    /// Dropped to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker on a thread of its own with these topics (name, partitions) and [`DEFAULT_MEMORY`]. Port 0 takes any
    /// free port. When this returns, clients can connect.
    ///
    /// # Errors
    /// The address is taken, a topic is not possible, or there are no more threads.
    pub fn start(listen: SocketAddr, topics: &[(String, i32)]) -> Result<EmbeddedBroker, BrokerError> {
        Self::start_with_memory(listen, topics, DEFAULT_MEMORY)
    }

    /// As `start`, with `memory` bytes for all logs together.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with_memory(
        listen: SocketAddr,
        topics: &[(String, i32)],
        memory: u64,
    ) -> Result<EmbeddedBroker, BrokerError> {
        let state = State::new(memory);
        for (name, partitions) in topics {
            state.create_topic(name, *partitions).map_err(|why| BrokerError::Topic {
                name: name.clone(),
                partitions: *partitions,
                why,
            })?;
        }
        let refused = |source| BrokerError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("embedded-broker".to_owned()).spawn(move || {
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async {
                tokio::select! {
                    () = serve(listener, Rc::new(state)) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(EmbeddedBroker { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: what clients take as `bootstrap.servers`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and ends the thread; what is stored is gone. Dropping does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(address = %self.address, "the embedded broker's thread panicked");
        }
    }
}

/// Accepts clients, for ever.
async fn serve(listener: TcpListener, state: Rc<State>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(why) => {
            tracing::error!(%why, "the embedded broker can't watch its listener and ends");
            return;
        }
    };
    let expiry = state.clone();
    tokio::task::spawn_local(async move { expiry.expire_members().await });
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                tokio::task::spawn_local(connection::serve(stream, from, state.clone()));
            }
            Err(why) => {
                tracing::warn!(%why, "the embedded broker can't accept a client and tries again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
