//! `bief_offset`: where each partition stands and what became of its offsets.

use sea_orm::entity::prelude::*;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_offset")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub topic: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub partition_id: i32,
    /// The broker's id of the topic; empty where it gives none.
    pub topic_id: String,
    /// Rises at every assignment; the writers' compare-and-set compares it.
    pub epoch: i64,
    /// The first offset that the ledger counts.
    pub start_offset: i64,
    /// The next offset to read.
    pub next_offset: i64,
    pub applied: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
    pub gaps: i64,
    /// UTC.
    pub updated_at: DateTime,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
