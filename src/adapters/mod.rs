//! The outside world behind the ports: brokers and databases.

pub mod allocator;
pub mod bookkeeping;
pub mod cache;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error_classes;
pub mod jobs;
pub mod kafka;
pub mod migrations;
pub mod mongodb;
pub mod mysql;
mod newest_rows;
mod parts;
pub mod proxy;
pub mod replay;
pub mod sql_errors;
pub mod sqlite;
pub mod warehouse;
