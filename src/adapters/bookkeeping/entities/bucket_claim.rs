//! `bief_bucket_claim`: who computes which bucket at the moment, so that no other does the same work.

use sea_orm::entity::prelude::*;

/// A claim on one bucket.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_bucket_claim")]
pub struct Model {
    /// As in `bief_dirty_bucket`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub source: String,
    /// UTC.
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket_start: DateTime,
    /// The daemon or command.
    pub owner: String,
    /// UTC, by the database's clock; others may claim it from then on.
    pub claimed_until: DateTime,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
