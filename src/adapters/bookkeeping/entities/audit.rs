//! `bief_audit`: what was changed over HTTP, and who asked for it.

use sea_orm::entity::prelude::*;

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_audit")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    /// UTC.
    pub changed_at: DateTime,
    /// `daemon.name` of the daemon that did it.
    pub daemon: String,
    /// The address that asked.
    pub peer: String,
    /// `retry` or `drop`.
    pub action: String,
    /// Ids of the letters that ended, as a JSON array.
    #[sea_orm(column_type = "custom(\"LONGTEXT\")")]
    pub letters: String,
    /// What was asked, as JSON.
    #[sea_orm(column_type = "custom(\"LONGTEXT\")")]
    pub request: String,
    /// What was put in place of a letter's own payload.
    #[sea_orm(column_type = "custom(\"LONGBLOB\")", nullable)]
    pub payload: Option<Vec<u8>>,
    /// What it came to, as JSON.
    #[sea_orm(column_type = "custom(\"LONGTEXT\")")]
    pub outcome: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
