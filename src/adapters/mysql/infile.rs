//! The guard of LOAD DATA LOCAL. A hostile server may answer any statement with a request for a file of this
//! machine. Nothing here ever opens a file: what is served is the one batch in memory, once, under the random name
//! of its own statement. Any other request gets no byte. Where the driver hands it on to here, the connection ends with an
//! error that names it; at a prepare and at the end of LOAD DATA it takes the request for something else, and the
//! connection is of no use afterwards or goes on without it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, StreamExt};
use mysql_async::prelude::GlobalHandler;
use mysql_async::{InfileData, LocalInfileError};

/// Bytes of one packet to the server: large enough that its header and flush do not count, small enough for any
/// `max_allowed_packet`.
const CHUNK: usize = 64 * 1024;

/// Holds at most one batch, armed for the statement that is about to be sent.
#[derive(Debug, Default, Clone)]
pub(super) struct InfileGuard {
    armed: Arc<Mutex<Option<(String, Bytes)>>>,
}

/// A request for something else than the armed batch.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database server asked for the file {0:?} of this machine in answer to a statement; nothing was sent and \
     the connection was closed"
)]
pub(super) struct UnexpectedRequest(pub String);

impl InfileGuard {
    /// Arms `data` for one statement and returns the name that this statement must carry.
    pub fn arm(&self, data: Bytes) -> String {
        let name = format!("bief-{}", uuid::Uuid::new_v4().simple());
        *self.slot() = Some((name.clone(), data));
        name
    }

    /// Nothing may be asked for any more.
    pub fn disarm(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<(String, Bytes)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, asked: &[u8]) -> Result<Bytes, UnexpectedRequest> {
        // Whatever was armed is spent, also by a wrong request.
        match self.slot().take() {
            Some((name, data)) if name.as_bytes() == asked => Ok(data),
            _ => Err(UnexpectedRequest(String::from_utf8_lossy(&asked[..asked.len().min(200)]).into_owned())),
        }
    }
}

impl GlobalHandler for InfileGuard {
    fn handle(&self, file_name: &[u8]) -> BoxFuture<'static, Result<InfileData, LocalInfileError>> {
        let answer = self.take(file_name).map(|data| chunks(data).boxed()).map_err(LocalInfileError::other);
        ready(answer).boxed()
    }
}

fn chunks(data: Bytes) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let count = data.len().div_ceil(CHUNK);
    stream::iter((0..count).map(move |i| Ok(data.slice(i * CHUNK..((i + 1) * CHUNK).min(data.len())))))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn served(guard: &InfileGuard, name: &str) -> Result<Vec<u8>, String> {
        let mut stream = guard.handle(name.as_bytes()).await.map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk.unwrap());
        }
        Ok(all)
    }

    #[tokio::test]
    async fn the_armed_batch_is_served_whole_and_once() {
        let guard = InfileGuard::default();
        let data: Vec<u8> = (0..3 * CHUNK + 17).map(|i| (i % 251) as u8).collect();
        let name = guard.arm(Bytes::from(data.clone()));
        assert_eq!(served(&guard, &name).await.unwrap(), data);
        assert!(served(&guard, &name).await.is_err());
    }

    #[tokio::test]
    async fn another_name_gets_nothing_and_spends_the_batch() {
        let guard = InfileGuard::default();
        let name = guard.arm(Bytes::from_static(b"1\n"));
        let error = served(&guard, "/etc/passwd").await.unwrap_err();
        assert!(error.contains("/etc/passwd"), "{error}");
        assert!(served(&guard, &name).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_served_when_nothing_is_armed() {
        let guard = InfileGuard::default();
        assert!(served(&guard, "").await.is_err());
        let name = guard.arm(Bytes::from_static(b"1\n"));
        guard.disarm();
        assert!(served(&guard, &name).await.is_err());
    }
}
