//! `bief_dropped_letter`: dead letters that an operator threw away; the ledger still counts them.

use sea_orm::entity::prelude::*;

/// One record whose letter was dropped.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_dropped_letter")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub topic: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub partition_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_offset: i64,
    /// `core::outcome::Reason` as text.
    pub reason: String,
    /// UTC.
    pub dropped_at: DateTime,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
