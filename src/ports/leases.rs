//! The port of what daemons and commands agree on in the database: who does what only one may do at a time, and how far a
//! rebuild got. A lease ends by itself, by the database's clock, so that a holder that was killed holds nobody up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;

use super::WarehouseError;

/// What became of asking for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// It is the asker's, for as long as was asked.
    Ours {
        /// What the lease's work was last done for: see [`Leases::done`].
        done_for: Option<DateTime<Utc>>,
    },
    /// Another holds it, and may renew it.
    Of {
        owner: String,
        /// After so long it ends, unless it is renewed.
        left: Duration,
    },
}

/// How far a rebuild got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    pub started_at: DateTime<Utc>,
    /// Buckets that start before are done; none is where nothing is said.
    pub done_until: Option<DateTime<Utc>>,
    pub buckets: u64,
}

/// A connection to where leases and rebuilds are kept.
#[async_trait(?Send)]
pub trait Leases {
    /// Takes a lease that nobody holds, or renews one's own.
    async fn take(&self, name: &str, owner: &str, lasts: Duration) -> Result<Lease, WarehouseError>;

    /// Gives one's own lease back; another's stays.
    async fn give_back(&self, name: &str, owner: &str) -> Result<(), WarehouseError>;

    /// Gives one's own lease back and puts down that its work was done for this moment, so that whoever takes it next
    /// knows. Answers whether it still was one's own; else nothing is put down.
    async fn done(&self, name: &str, owner: &str, moment: DateTime<Utc>) -> Result<bool, WarehouseError>;

    /// The rebuild of this aggregate that has not ended.
    async fn rebuild(&self, aggregate: &str) -> Result<Option<Rebuild>, WarehouseError>;

    /// Puts down how far a rebuild got; the first time, that it has begun.
    async fn put_rebuild(&self, aggregate: &str, rebuild: &Rebuild) -> Result<(), WarehouseError>;

    /// A rebuild has ended, or begins anew.
    async fn end_rebuild(&self, aggregate: &str) -> Result<(), WarehouseError>;
}

/// How an actor or a command opens it, on its own thread.
pub type OpenLeases = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn Leases>, WarehouseError>> + Send + Sync>;
