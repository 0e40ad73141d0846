//! What every write means, on real files.

mod bookkeeping;
mod catalog;
mod letters;
mod refusals;
mod speed;
mod support;
mod writes;
