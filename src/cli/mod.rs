//! One file a command.

pub mod completions;
pub mod exit;
pub mod healthcheck;
pub mod http_client;
pub mod logging;
pub mod man;
pub mod printable;
pub mod status;
pub mod table;

#[cfg(test)]
mod tests;
