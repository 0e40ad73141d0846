//! bief: from Kafka to normalised MySQL tables, exactly once, in one supervised daemon.
//! ARCHITECTURE.md follows one record from poll to page.

#![deny(clippy::print_stdout, clippy::print_stderr)]

// First, so that its macros are known in all that follow.
#[macro_use]
mod printing;

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
