//! bief: from Kafka to normalised MySQL tables, exactly once, in one supervised daemon.
//! ARCHITECTURE.md follows one record from poll to page.

pub mod actors;
pub mod adapters;
pub mod cli;
pub mod config;
pub mod core;
pub mod failpoints;
pub mod http;
pub mod messages;
pub mod metrics;
pub mod ports;
pub mod runtime;
pub mod topology;
