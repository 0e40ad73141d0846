//! What keeps documents right whatever happened to them, on SQLite: `bief reconcile`, `bief rebuild`, the daemon's pass, and
//! leases. The same cases run against servers in `tests/servers/upkeep.rs`.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

#[path = "upkeep/mod.rs"]
mod shop;

use shop::{Kept, Shop};

/// Nobody listens there, and nobody asks.
const NO_KAFKA: &str = "127.0.0.1:9";

fn in_files() -> Shop {
    Shop::new(None, Kept::Sqlite, NO_KAFKA, "sales")
}

#[test]
fn documents_changed_by_hand_are_found_and_mended() {
    shop::documents_changed_by_hand_are_found_and_mended(&in_files());
}

#[test]
fn names_and_shares_that_are_wrong_are_told() {
    shop::names_and_shares_that_are_wrong_are_told(&in_files());
}

#[cfg(feature = "failpoints")]
#[test]
fn a_rebuild_goes_on_after_a_kill() {
    shop::a_rebuild_goes_on_after_a_kill(&in_files());
}
