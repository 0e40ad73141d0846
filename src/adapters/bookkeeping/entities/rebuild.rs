//! `bief_rebuild`: how far each rebuild got that has not ended, so that one that was killed goes on.

use sea_orm::entity::prelude::*;

/// One aggregate.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_rebuild")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub aggregate: String,
    /// UTC.
    pub started_at: DateTime,
    /// UTC; buckets that start before are done. None before the first.
    pub done_until: Option<DateTime>,
    /// How many are done.
    pub buckets: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
