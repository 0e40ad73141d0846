//! Actors: one file each.
