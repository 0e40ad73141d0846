//! SQLite: the warehouse of the demo and of tests, with the same meaning of every write as on MySQL. One file, one
//! writer; SQLite itself checks neither lengths nor types, so the catalog reads the declared ones.

mod aggregate_queries;
mod aggregates;
mod cache;
mod cells;
mod connect;
mod declared;
mod letters;
mod marks;
mod rows;
mod shape;
mod warehouse;

pub mod catalog;
pub mod stored;

use std::sync::Arc;

use crate::config::WarehouseConfig;
use crate::ports::{
    AggregateSource, LetterWarehouse, OpenAggregateSource, OpenLetterWarehouse, OpenWarehouse, Warehouse,
    WarehouseError,
};

use aggregates::SqliteAggregates;
pub use cache::open_cache;
pub use connect::{accepts, create_folder, options};
pub use warehouse::SqliteWarehouse;

/// How a writer opens the database file of these settings; folders and file are created where they are missing.
pub fn open(settings: &WarehouseConfig) -> OpenWarehouse {
    let url = settings.url.clone();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(async move {
            let options = options(url.expose())?;
            create_folder(&options).await?;
            let warehouse = SqliteWarehouse::connect(options).await?;
            Ok::<_, WarehouseError>(Box::new(warehouse) as Box<dyn Warehouse>)
        })
    })
}

/// How a command opens the same file to take dead letters away.
pub fn open_letters(settings: &WarehouseConfig) -> OpenLetterWarehouse {
    let url = settings.url.clone();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(async move {
            let warehouse = SqliteWarehouse::connect(options(url.expose())?).await?;
            Ok::<_, WarehouseError>(Box::new(warehouse) as Box<dyn LetterWarehouse>)
        })
    })
}

/// How an actor or a command opens the same file to read rows and marks for aggregates.
pub fn open_aggregates(settings: &WarehouseConfig) -> OpenAggregateSource {
    let url = settings.url.clone();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(async move {
            let source = SqliteAggregates::connect(options(url.expose())?).await?;
            Ok::<_, WarehouseError>(Box::new(source) as Box<dyn AggregateSource>)
        })
    })
}

#[cfg(test)]
mod tests;
