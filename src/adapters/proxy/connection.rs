//! One connection through the proxy: passes bytes both ways, does to them what the traffic says, and springs traps.
//! Client and server of MySQL take turns, so one task serves both directions.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::packets::{Framing, Request, prepared_id, refusal};
use super::{Shared, Trap, lock, reset};

/// Bytes read at once; small, so that a slow connection is slow evenly.
const READ: usize = 16 * 1024;

pub(super) async fn serve(mut client: TcpStream, shared: Arc<Shared>, cut: CancellationToken) {
    let Ok(mut server) = TcpStream::connect(&shared.upstream).await else {
        return reset(&client);
    };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let mut conversation = Conversation { shared, framing: Framing::default(), state: State::default() };
    let ended = cut.run_until_cancelled(conversation.pass(&mut client, &mut server)).await;
    // The end of one side in order is passed on as such; all else is a cut.
    if !matches!(ended, Some(Ok(()))) {
        reset(&client);
        reset(&server);
    }
}

/// What is known of the statement that is under way.
#[derive(Debug, Default)]
struct State {
    /// Prepared statements, by id: whether they change rows.
    prepared: HashMap<u32, bool>,
    /// The next answer is that to a statement being prepared, which changes rows or not.
    preparing: Option<bool>,
    /// The next answer is that to a COMMIT and must not pass.
    swallow: bool,
    /// The rest of this packet is kept back.
    dropping: bool,
    /// Bytes of rows that passed in this LOAD DATA.
    loaded: u64,
    loading: bool,
}

struct Conversation {
    shared: Arc<Shared>,
    framing: Framing,
    state: State,
}

fn was_cut() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Conversation {
    async fn pass(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let (mut asked, mut answered) = (vec![0; READ], vec![0; READ]);
        loop {
            tokio::select! {
                length = client.read(&mut asked) => match length? {
                    0 => return Ok(()),
                    length => {
                        self.suffer(length).await;
                        self.ask(&asked[..length], client, server).await?;
                    }
                },
                length = server.read(&mut answered) => match length? {
                    0 => return Ok(()),
                    length => {
                        self.suffer(length).await;
                        self.answer(&answered[..length], client).await?;
                    }
                },
            }
        }
    }

    /// Waits for as long as the traffic says.
    async fn suffer(&self, length: usize) {
        let mut changes = self.shared.traffic.subscribe();
        let traffic = *changes.borrow();
        if traffic.hangs {
            // The sender lives in what we hold.
            let _ = changes.wait_for(|traffic| !traffic.hangs).await;
        }
        let carried = traffic.bytes_per_second.map(|rate| Duration::from_secs_f64(length as f64 / rate.max(1) as f64));
        let wait = traffic.latency + carried.unwrap_or_default();
        if !wait.is_zero() {
            // A traffic that changes meanwhile ends the wait.
            let _ = tokio::time::timeout(wait, changes.changed()).await;
        }
    }

    async fn ask(&mut self, bytes: &[u8], client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        if !self.shared.packets {
            return server.write_all(bytes).await;
        }
        self.framing.push(bytes);
        while let Some(piece) = self.framing.next_piece() {
            if let Some(request) = &piece.begins {
                self.begin(request)?;
            }
            if self.state.dropping {
                if piece.ends {
                    self.state.dropping = false;
                    client.write_all(&self.refused()).await?;
                }
                continue;
            }
            server.write_all(&piece.bytes).await?;
            if self.state.loading {
                self.state.loaded += piece.bytes.len() as u64;
                let loaded = self.state.loaded;
                if self.shared.spring(|trap| matches!(trap, Trap::CutMidLoad { after } if loaded >= *after)) {
                    return Err(was_cut());
                }
            }
        }
        Ok(())
    }

    /// A packet begins: springs the trap that waits for it.
    fn begin(&mut self, request: &Request) -> io::Result<()> {
        let state = &mut self.state;
        state.preparing = None;
        state.loading = *request == Request::Rows;
        let writes = match request {
            Request::Commit => {
                if self.shared.spring(|trap| *trap == Trap::CommitCut) {
                    return Err(was_cut());
                }
                state.swallow = self.shared.spring(|trap| *trap == Trap::CommitAnswerCut);
                false
            }
            Request::Load => {
                state.loaded = 0;
                true
            }
            Request::Query { writes } => *writes,
            Request::Prepare { writes } => {
                state.preparing = Some(*writes);
                false
            }
            Request::Execute { statement } => state.prepared.get(statement).copied().unwrap_or(false),
            Request::Rows | Request::Other => false,
        };
        if writes && matches!(*lock(&self.shared.trap), Some(Trap::Refuse { .. })) {
            state.dropping = true;
        }
        Ok(())
    }

    fn refused(&self) -> Vec<u8> {
        self.shared.sprung.fetch_add(1, Ordering::Relaxed);
        match *lock(&self.shared.trap) {
            Some(Trap::Refuse { code, words }) => refusal(code, "HY000", words),
            // Disarmed since: the statement was kept back all the same.
            _ => refusal(1317, "70100", "Query execution was interrupted"),
        }
    }

    async fn answer(&mut self, bytes: &[u8], client: &mut TcpStream) -> io::Result<()> {
        if self.state.swallow {
            return Err(was_cut());
        }
        if let Some(writes) = self.state.preparing.take()
            && let Some(id) = prepared_id(bytes)
        {
            self.state.prepared.insert(id, writes);
        }
        client.write_all(bytes).await
    }
}
