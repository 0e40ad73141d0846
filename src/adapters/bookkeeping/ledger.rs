//! All that is recorded of a topic's offsets, read as of one moment. Must never tell a sum of two moments: counters, gaps
//! and dead letters of one transaction are seen together or not at all.

use std::collections::BTreeMap;
use std::ops::Range;

use sea_orm::{
    AccessMode, ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    IsolationLevel, QueryFilter, QueryOrder, QuerySelect, Statement, TransactionOptions, TransactionTrait, Value,
};

use super::entities::{dead_letter, gap, offset};
use super::resets;
use super::sql_bookkeeping::{partition_offset, settled};
use crate::adapters::sql_errors::from_db_err;
use crate::core::gaps::parse_ranges;
use crate::ports::{Ledger, PartitionOffset, WarehouseError};

/// What the database's rows say, before gaps are read.
type Rows = (Vec<PartitionOffset>, Vec<gap::Model>, Vec<(i32, i64)>, Vec<(i32, i64)>, Vec<crate::ports::Loss>);

pub(super) async fn read(db: &DatabaseConnection, topic: &str) -> Result<Ledger, WarehouseError> {
    let told = |e: DbErr| from_db_err("reading the ledger", &e);
    let transaction = db.begin_with_options(one_moment(db.get_database_backend())).await.map_err(told)?;
    let rows = rows(&transaction, topic).await;
    let (offsets, gaps, dead_letters, dropped, losses) = settled(transaction, rows).await.map_err(told)?;
    Ok(Ledger {
        offsets,
        gaps: ranges(topic, gaps)?,
        dead_letters: dead_letters.into_iter().collect(),
        dropped: dropped.into_iter().collect(),
        losses,
    })
}

/// The first read takes the snapshot that all others see; a file's transaction has no other way.
fn one_moment(backend: DbBackend) -> TransactionOptions {
    match backend {
        DbBackend::Sqlite => TransactionOptions::default(),
        _ => TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..Default::default()
        },
    }
}

async fn rows(db: &DatabaseTransaction, topic: &str) -> Result<Rows, DbErr> {
    let gaps = gap::Entity::find()
        .filter(gap::Column::Topic.eq(topic))
        .order_by_asc(gap::Column::PartitionId)
        .order_by_asc(gap::Column::FirstOffset);
    Ok((
        offsets(db, Some(topic)).await?,
        gaps.all(db).await?,
        stored(db, topic).await?,
        dropped(db, topic).await?,
        resets::losses(db, topic).await?,
    ))
}

/// Ascending by topic and partition.
pub(super) async fn offsets(db: &impl ConnectionTrait, topic: Option<&str>) -> Result<Vec<PartitionOffset>, DbErr> {
    use offset::Column as C;
    let mut find = offset::Entity::find().order_by_asc(C::Topic).order_by_asc(C::PartitionId);
    if let Some(topic) = topic {
        find = find.filter(C::Topic.eq(topic));
    }
    Ok(find.all(db).await?.iter().map(partition_offset).collect())
}

/// Dead letters by partition.
async fn stored(db: &impl ConnectionTrait, topic: &str) -> Result<Vec<(i32, i64)>, DbErr> {
    use dead_letter::Column as C;
    dead_letter::Entity::find()
        .select_only()
        .column(C::PartitionId)
        .column_as(C::Id.count(), "letters")
        .filter(C::Topic.eq(topic))
        .group_by(C::PartitionId)
        .into_tuple()
        .all(db)
        .await
}

/// Dropped dead letters by partition.
async fn dropped(db: &impl ConnectionTrait, topic: &str) -> Result<Vec<(i32, i64)>, DbErr> {
    let sql = "SELECT partition_id AS part, COUNT(*) AS letters FROM bief_dropped_letter WHERE topic = ? \
               GROUP BY partition_id";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [Value::from(topic)]);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| Ok((row.try_get("", "part")?, row.try_get("", "letters")?))).collect()
}

fn ranges(topic: &str, rows: Vec<gap::Model>) -> Result<BTreeMap<i32, Vec<Range<i64>>>, WarehouseError> {
    let mut gaps: BTreeMap<i32, Vec<Range<i64>>> = BTreeMap::new();
    for row in rows {
        let (partition, first) = (row.partition_id, row.first_offset);
        let read = parse_ranges(&row.ranges).map_err(|e| WarehouseError::Fatal {
            what: format!(
                "bief_gap, topic {topic}, partition {partition}, first_offset {first}: {e}; the row was not written by bief"
            ),
        })?;
        gaps.entry(partition).or_default().extend(read);
    }
    Ok(gaps)
}
