//! `bief_migration`: which of the domain's SQL files were applied, and how far.

use sea_orm::entity::prelude::*;

/// One SQL file.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_migration")]
pub struct Model {
    /// The file's name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Of the whole file once it is applied; before, of the statements applied or begun.
    pub sha256: String,
    pub statements_applied: i32,
    pub statements: i32,
    /// UTC.
    pub applied_at: DateTime,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
