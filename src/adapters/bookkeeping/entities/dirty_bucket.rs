//! `bief_dirty_bucket`: which buckets of time have rows that changed since they were computed. Rows are kept for ever, so
//! that no version falls.

use sea_orm::entity::prelude::*;

/// What one lane marked of one bucket.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_dirty_bucket")]
pub struct Model {
    /// Table, time and width that aggregates share: see `core::marks::BucketSource::id`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub source: String,
    /// UTC.
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket_start: DateTime,
    /// Tells writers apart that work at the same time; -1 is marked by commands.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lane: i32,
    /// How often it was marked.
    pub dirty_version: i64,
    /// The version that was computed last.
    pub clean_version: i64,
    /// UTC; when it was marked first since it was clean. None while it is clean.
    pub pending_since: Option<DateTime>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
