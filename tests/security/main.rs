//! What hostile input must not do and secrets must not show, asked of the built commands. Needs no server: brokers
//! and databases are away, or files.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

mod canary;
mod daemon;
mod exposed;
mod identifiers;
#[cfg(target_os = "linux")]
mod pages;
mod terminal;
