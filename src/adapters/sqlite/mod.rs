//! SQLite: the warehouse of the demo and of tests.

mod connect;

pub use connect::{accepts, options};
