//! The bookkeeping tables: their shape, how they come into being, and everything that is read or claimed
//! outside a batch's own transaction. Must never write a domain table.

pub mod connect;
pub mod entities;
mod leases;
mod ledger;
mod letter_book;
mod letter_reader;
pub(crate) mod limits;
pub mod migrator;
mod models;
mod resets;
mod sql_bookkeeping;

use std::sync::Arc;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

use crate::adapters::sql_errors::from_db_err;
use crate::config::WarehouseConfig;
use crate::ports::{Bookkeeping, LetterBook, OpenBookkeeping, OpenLetterBook, WarehouseError};

pub use leases::open as open_leases;
pub use letter_reader::open as open_letter_reader;
use limits::Limited;
use migrator::Migrator;
pub use models::{open as open_models, open_if_there as open_models_if_there};
pub use sql_bookkeeping::SqlBookkeeping;

/// How an actor or a command opens the bookkeeping. The tables must be there: see [`migrate`].
pub fn open(settings: &WarehouseConfig) -> OpenBookkeeping {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move {
            let db = connect::connect(&settings, connect::Sessions::Few).await?;
            let sqlite = db.get_database_backend() == DbBackend::Sqlite;
            let books = SqlBookkeeping::new(db);
            // A file has its busy timeout, and no host that could vanish.
            Ok(if sqlite { Box::new(books) } else { Box::new(Limited(books)) as Box<dyn Bookkeeping> })
        })
    })
}

/// How an actor or a command opens what is read and marked of dead letters. One session: the right to publish belongs
/// to it.
pub fn open_letter_book(settings: &WarehouseConfig) -> OpenLetterBook {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move {
            let db = connect::connect(&settings, connect::Sessions::One).await?;
            let sqlite = db.get_database_backend() == DbBackend::Sqlite;
            let book = SqlBookkeeping::new(db);
            Ok(if sqlite { Box::new(book) } else { Box::new(Limited(book)) as Box<dyn LetterBook> })
        })
    })
}

const WHAT: &str = "creating the bookkeeping tables";

/// What a newer version made of the tables is not ours to write to.
async fn refuse_newer<C: ConnectionTrait>(db: &C) -> Result<(), WarehouseError> {
    let applied = Migrator::get_migration_models(db).await.map_err(|e| from_db_err(WHAT, &e))?;
    let known = Migrator::migrations();
    match applied.iter().find(|applied| known.iter().all(|migration| migration.name() != applied.version)) {
        None => Ok(()),
        Some(newer) => Err(WarehouseError::Fatal {
            what: format!(
                "the bookkeeping tables are those of a newer bief ({:?} in bief_schema): start that version, or put the \
                 backup from before the upgrade back",
                newer.version
            ),
        }),
    }
}

/// Brings the bookkeeping tables to this version's shape. `db` holds one session ([`connect::Sessions::One`]),
/// since the lock that keeps a second daemon out belongs to its session.
pub async fn migrate(db: &DatabaseConnection) -> Result<(), WarehouseError> {
    if db.get_database_backend() == DbBackend::Sqlite {
        let transaction = db.begin_with_options(immediate()).await.map_err(|e| from_db_err(WHAT, &e))?;
        refuse_newer(&transaction).await?;
        Migrator::up(&transaction, None).await.map_err(|e| from_db_err(WHAT, &e))?;
        return transaction.commit().await.map_err(|e| from_db_err(WHAT, &e));
    }
    connect::lock_schema(db).await?;
    let pending = async {
        refuse_newer(db).await?;
        Migrator::get_pending_migrations(db).await.map_err(|e| from_db_err(WHAT, &e))
    };
    let outcome = match limits::limited(WHAT, limits::ANSWER_LIMIT, pending).await {
        Ok(pending) if pending.is_empty() => Ok(()),
        // A table that is changed may be large: no limit.
        Ok(_) => Migrator::up(db, None).await.map_err(|e| from_db_err(WHAT, &e)),
        Err(error) => Err(error),
    };
    connect::unlock_schema(db).await;
    outcome
}

/// SQLite's write lock is taken at once, so that no transaction has to be promoted midway.
pub(crate) fn immediate() -> TransactionOptions {
    TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() }
}
