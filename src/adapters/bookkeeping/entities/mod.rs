//! The bookkeeping tables as sea-orm entities. Shape only; the writers' statements are in the adapters.

pub mod audit;
pub mod bucket_claim;
pub mod dead_letter;
pub mod dirty_bucket;
pub mod dropped_letter;
pub mod gap;
pub mod lease;
pub mod migration;
pub mod model;
pub mod offset;
pub mod rebuild;
