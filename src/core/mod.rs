//! The rules: record mapping, rows, offsets. Pure: no async, no I/O, no clock.

pub mod cell;
pub mod outcome;
pub mod replay;
pub mod schema;
pub mod target;
