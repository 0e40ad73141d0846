//! Which adapter serves a warehouse's URL: the only place that tells `mysql://` from `sqlite://`.

use std::path::Path;

use super::bookkeeping::connect::{Sessions, connect, connect_sqlite};
use super::migrations::Applied;
use super::{bookkeeping, migrations, mysql, newest_rows, sqlite};
use crate::config::WarehouseConfig;
use crate::ports::models::Models;
use crate::ports::{
    Catalog, OpenAggregateSource, OpenBookkeeping, OpenLeases, OpenLetterBook, OpenLetterReader, OpenLetterWarehouse,
    OpenModels, OpenRowReader, OpenWarehouse, WarehouseError,
};

/// How a writer opens its side of the warehouse.
pub fn open_warehouse(settings: &WarehouseConfig) -> OpenWarehouse {
    if sqlite::accepts(settings.url.expose()) { sqlite::open(settings) } else { mysql::open(settings) }
}

/// How a command opens the side of the warehouse that takes dead letters away.
pub fn open_letter_warehouse(settings: &WarehouseConfig) -> OpenLetterWarehouse {
    if sqlite::accepts(settings.url.expose()) { sqlite::open_letters(settings) } else { mysql::open_letters(settings) }
}

/// How an actor or a command opens what is read and marked of dead letters.
pub fn open_letter_book(settings: &WarehouseConfig) -> OpenLetterBook {
    bookkeeping::open_letter_book(settings)
}

/// How the HTTP side opens what is shown of dead letters.
pub fn open_letter_reader(settings: &WarehouseConfig) -> OpenLetterReader {
    bookkeeping::open_letter_reader(settings)
}

/// How the HTTP side opens what reads the newest rows.
pub fn open_row_reader(settings: &WarehouseConfig) -> OpenRowReader {
    newest_rows::open(settings)
}

/// How an actor or a command opens the bookkeeping tables.
pub fn open_bookkeeping(settings: &WarehouseConfig) -> OpenBookkeeping {
    bookkeeping::open(settings)
}

/// How an actor or a command opens what is agreed on in the database: leases, and how far a rebuild got.
pub fn open_leases(settings: &WarehouseConfig) -> OpenLeases {
    bookkeeping::open_leases(settings)
}

/// How an actor or a command opens the versions of forecasts' models.
pub fn open_models(settings: &WarehouseConfig) -> OpenModels {
    bookkeeping::open_models(settings)
}

/// Opens the versions of forecasts' models for reading; `None` where nobody has made their table yet. Makes nothing.
pub async fn open_models_if_there(settings: &WarehouseConfig) -> Result<Option<Box<dyn Models>>, WarehouseError> {
    let url = settings.url.expose();
    if sqlite::accepts(url) && !sqlite::options(url)?.get_filename().exists() {
        return Ok(None);
    }
    bookkeeping::open_models_if_there(settings).await
}

/// How an actor or a command opens what reads rows and marks for aggregates.
pub fn open_aggregates(settings: &WarehouseConfig) -> OpenAggregateSource {
    if sqlite::accepts(settings.url.expose()) {
        sqlite::open_aggregates(settings)
    } else {
        mysql::open_aggregates(settings)
    }
}

/// Makes the warehouse ready for this version and this domain: creates an SQLite file where there is none, brings
/// the bookkeeping tables up to date, then applies the domain's SQL files; answers those applied now. Safe when
/// several daemons start at once. `base`: the folder that `warehouse.migrations` is relative to.
pub async fn prepare(settings: &WarehouseConfig, base: &Path) -> Result<Vec<Applied>, WarehouseError> {
    let url = settings.url.expose();
    let db = if sqlite::accepts(url) {
        let options = sqlite::options(url)?;
        sqlite::create_folder(&options).await?;
        connect_sqlite(options.create_if_missing(true), Sessions::One).await?
    } else {
        connect(settings, Sessions::One).await?
    };
    bookkeeping::migrate(&db).await?;
    let applied = match &settings.migrations {
        Some(folder) => migrations::apply(&db, &base.join(folder)).await?,
        None => Vec::new(),
    };
    // What is prepared stays prepared, however the session ends.
    let _ = db.close().await;
    Ok(applied)
}

/// Opens what tells the real tables.
pub async fn catalog(settings: &WarehouseConfig) -> Result<Box<dyn Catalog>, WarehouseError> {
    if sqlite::accepts(settings.url.expose()) {
        return Ok(Box::new(sqlite::catalog::open(settings).await?));
    }
    mysql::catalog(settings)
}
