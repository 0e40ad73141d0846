//! The outside world behind the ports: brokers and databases.

pub mod bookkeeping;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod kafka;
pub mod migrations;
pub mod mysql;
pub mod proxy;
pub mod replay;
pub mod sql_errors;
pub mod sqlite;
pub mod warehouse;
