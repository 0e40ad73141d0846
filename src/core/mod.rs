//! The rules: record mapping, rows, offsets. Pure: no async, no I/O, no clock.

pub mod cell;
pub mod gaps;
pub mod outcome;
pub mod schema;
pub mod sql_split;
pub mod sql_time;
pub mod target;
