//! Actors: one file each.
pub mod commit;
