//! `bief_gap`: offsets that yielded no record; all gaps of one partition in one batch are one row.

use sea_orm::entity::prelude::*;

/// The gaps of one partition in one batch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_gap")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub topic: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub partition_id: i32,
    /// The lowest offset among them.
    #[sea_orm(primary_key, auto_increment = false)]
    pub first_offset: i64,
    /// The highest offset among them, itself a gap.
    pub last_offset: i64,
    /// How many offsets.
    pub offsets: i64,
    /// `3-7,9,12-13`: see `core::gaps`.
    #[sea_orm(column_type = "custom(\"LONGTEXT\")")]
    pub ranges: String,
    /// UTC; when an operator accepted these offsets as lost. None for offsets that yielded no record.
    pub accepted_at: Option<DateTime>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
