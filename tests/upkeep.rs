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

#[test]
fn of_two_reconcilers_one_works_and_the_other_takes_over() {
    shop::of_two_reconcilers_one_works_and_the_other_takes_over(&in_files());
}

#[test]
fn a_pass_that_fails_is_tried_again_and_one_that_was_missed_is_not_made_up_for() {
    shop::a_pass_that_fails_is_tried_again_and_one_that_was_missed_is_not_made_up_for(&in_files());
}

/// What the port of leases promises.
macro_rules! leases {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let shop = in_files();
            shop::block_on(shop::leases::$name(&shop.settings()));
        }
    )*};
}

leases![
    a_lease_has_one_holder_until_it_is_given_back_or_ends,
    what_a_lease_was_held_for_is_known_to_the_next,
    of_many_that_ask_at_once_one_gets_the_lease,
    a_rebuild_is_put_down_and_forgotten,
];
