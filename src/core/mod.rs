//! The rules: record mapping, rows, offsets. Pure: no async, no I/O, no clock.

pub mod bottleneck;
pub mod bucket;
pub mod bucket_query;
pub mod build;
pub mod cell;
pub mod commit_plan;
pub mod comparison;
pub mod connect_headers;
pub mod decode;
pub mod differences;
pub mod document;
pub mod doubt;
pub mod drill;
pub mod field_path;
pub mod filter;
pub mod forecast;
pub mod gaps;
pub mod ledger;
pub mod letter_share;
pub mod mapping;
pub mod marks;
pub mod memory;
pub mod outcome;
pub mod printable;
pub mod repeats;
pub mod replay;
pub mod reset;
pub mod schedule;
pub mod schema;
pub mod shown;
pub mod sql_split;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod value;
