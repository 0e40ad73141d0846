//! `bief_model`: every version of every forecast's model, and which of them were promoted.

use sea_orm::entity::prelude::*;

/// One training.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bief_model")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub forecast: String,
    /// From 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    /// UTC, as all of them.
    pub trained_at: DateTime,
    /// Of bief.
    pub code_version: String,
    /// SHA-256 of all that the fits saw.
    pub input_hash: String,
    pub data_from: DateTime,
    pub data_to: DateTime,
    /// Of the versions of a forecast, the one that was promoted last is its champion.
    pub promoted_at: Option<DateTime>,
    /// What its contest came to, in a sentence.
    #[sea_orm(column_type = "Text")]
    pub verdict: String,
    /// Of each horizon, as JSON: what lists show.
    #[sea_orm(column_type = "custom(\"LONGTEXT\")")]
    pub scores: String,
    /// The whole version, as JSON.
    #[sea_orm(column_type = "custom(\"LONGTEXT\")")]
    pub model: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
