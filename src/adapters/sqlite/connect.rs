//! How a database file is opened: the same way by everyone, since journal and durability are the file's matter.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::ports::WarehouseError;

/// How long a statement waits for another process's transaction before it is told to try again.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// Statements kept prepared on a connection: a handful of row counts for each of some tens of tables.
const STATEMENTS_KEPT: usize = 256;

/// Whether the URL names an SQLite file.
pub fn accepts(url: &str) -> bool {
    url.starts_with("sqlite:")
}

/// Options for the file of this URL, which must exist.
pub fn options(url: &str) -> Result<SqliteConnectOptions, WarehouseError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| WarehouseError::Fatal {
        what: "warehouse.url: no path of a database file; write sqlite://path/to/file.db".to_owned(),
    })?;
    let path = options.get_filename();
    if path.as_os_str().is_empty() || path.to_string_lossy().starts_with("file:sqlx-in-memory") {
        return Err(WarehouseError::Fatal {
            what: "warehouse.url: the database must be a file, since several connections share it; \
                   write sqlite://path/to/file.db"
                .to_owned(),
        });
    }
    Ok(options
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL would lose the last commits with the power, and the fsync that FULL adds is one a batch.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_LIMIT)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .pragma("cache_size", "-16384")
        .pragma("temp_store", "MEMORY")
        .create_if_missing(false)
        // Statements carry payloads, and payloads are not for the log.
        .disable_statement_logging())
}

/// Creates the folders above the file.
pub async fn create_folder(options: &SqliteConnectOptions) -> Result<(), WarehouseError> {
    let folder: PathBuf = options.get_filename().parent().map(PathBuf::from).unwrap_or_default();
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    tokio::fs::create_dir_all(&folder).await.map_err(|e| WarehouseError::Fatal {
        what: format!("creating the folder {} for the database file: {e}", folder.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_no_file_is_refused() {
        for url in ["sqlite::memory:", "sqlite:", "sqlite://", "sqlite://x.db?nonsense=1"] {
            assert!(matches!(options(url), Err(WarehouseError::Fatal { .. })), "{url}");
        }
        assert_eq!(options("sqlite://var/x.db").unwrap().get_filename().to_str(), Some("var/x.db"));
        assert_eq!(options("sqlite:///tmp/x.db").unwrap().get_filename().to_str(), Some("/tmp/x.db"));
    }
}
