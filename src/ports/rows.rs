//! The port through which the newest rows of a table are looked at: one small query that an index serves.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;

use super::WarehouseError;

/// The last rows of a table by its primary key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewestRows {
    /// As the database spells it.
    pub table: String,
    /// Columns of the primary key, in its order.
    pub key: Vec<String>,
    pub columns: Vec<String>,
    /// The newest first; values in the order of `columns`, as JSON: moments in RFC 3339, decimals as text, long texts
    /// cut.
    pub rows: Vec<Vec<serde_json::Value>>,
}

#[async_trait(?Send)]
pub trait RowReader {
    /// At most `limit` rows, descending by primary key. `None` where there is no such table, or it has no primary key.
    async fn newest(&mut self, table: &str, limit: usize) -> Result<Option<NewestRows>, WarehouseError>;
}

/// How it is opened, on the thread that asks, with a connection of its own.
pub type OpenRowReader =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn RowReader>, WarehouseError>> + Send + Sync>;
