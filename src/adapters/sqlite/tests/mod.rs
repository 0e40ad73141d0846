//! What every write means, on real files.

mod aggregates;
mod bookkeeping;
mod catalog;
mod letters;
mod models;
mod refusals;
mod resets;
mod speed;
mod stored;
mod support;
mod writes;
