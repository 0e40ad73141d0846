//! `bief_lease`: who does what only one may do at a time.

use sea_orm::entity::prelude::*;

/// One kind of work. Rows stay; a lease that ended is taken over.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_lease")]
pub struct Model {
    /// What is done.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The daemon or command.
    pub owner: String,
    /// UTC, by the database's clock; others may take it from then on.
    pub held_until: DateTime,
    /// UTC; the moment that its work was last done for.
    pub done_for: Option<DateTime>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
