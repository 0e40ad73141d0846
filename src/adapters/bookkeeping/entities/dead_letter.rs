//! `bief_dead_letter`: records that were set aside, with the reason.

use sea_orm::entity::prelude::*;

/// One record that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_dead_letter")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub topic: String,
    pub partition_id: i32,
    pub record_offset: i64,
    /// The record's time at the broker, UTC.
    pub record_timestamp: Option<DateTime>,
    #[sea_orm(column_type = "custom(\"LONGBLOB\")", nullable)]
    pub record_key: Option<Vec<u8>>,
    #[sea_orm(column_type = "custom(\"LONGBLOB\")", nullable)]
    pub payload: Option<Vec<u8>>,
    /// `core::outcome::Reason` as text.
    pub reason: String,
    pub field: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub message: String,
    /// UTC.
    pub stored_at: DateTime,
    /// When it was told to the dead letter topic, UTC.
    pub published_at: Option<DateTime>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
