//! What the fuzz targets call: the pure parts of bief, compiled from their own files, and the checks that
//! `tests/fuzz_corpus.rs` runs over the corpus too. Nothing here is part of the product.
#![allow(dead_code)]

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/core/mod.rs"]
pub mod core;
#[path = "../../src/adapters/mysql/tsv.rs"]
pub mod tsv;

pub mod checks;
