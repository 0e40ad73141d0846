//! What every write means, on real files.

mod bookkeeping;
mod catalog;
mod refusals;
mod speed;
mod support;
mod writes;
