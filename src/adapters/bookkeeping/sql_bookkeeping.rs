//! The bookkeeping over sea-orm, the same on MySQL, MariaDB and SQLite. Reads, claims partitions, and sets offsets by
//! an operator's word; must never move an offset else: that is the writers' compare-and-set.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    IsolationLevel, Order, QueryFilter, QueryOrder, QuerySelect, Select, Statement, TransactionOptions,
    TransactionTrait,
};

use super::entities::{dead_letter, offset};
use super::{immediate, ledger, resets};
use crate::adapters::sql_errors::{from_db_err, is_contention};
use crate::core::doubt;
use crate::core::outcome::{Reason, Rejection};
use crate::core::reset::Step;
use crate::core::time;
use crate::messages::DeadLetter;
use crate::ports::{
    Bookkeeping, Claim, CountsView, DeadLetterFilter, Ledger, PartitionOffset, StoredDeadLetter, WarehouseError,
};

/// Claims that met another claim are repeated so often; each round, one of the rivals gets through.
const CLAIM_ROUNDS: u64 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(5);

/// The bookkeeping tables of one database.
#[derive(Debug)]
pub struct SqlBookkeeping {
    pub(super) db: DatabaseConnection,
}

impl SqlBookkeeping {
    /// The tables must be there: see [`super::migrate`].
    pub fn new(db: DatabaseConnection) -> Self {
        Self { db }
    }

    async fn claim_once(&self, topic: &str, claims: &[Claim], now: DateTime<Utc>) -> Result<Vec<offset::Model>, DbErr> {
        let transaction = self.db.begin_with_options(claiming(self.db.get_database_backend())).await?;
        let rows = claim_within(&transaction, topic, claims, now).await;
        settled(transaction, rows).await
    }
}

/// Under REPEATABLE READ, MySQL would lock the gaps between the rows too, which writers and other claims then wait for.
fn claiming(backend: DbBackend) -> TransactionOptions {
    match backend {
        DbBackend::Sqlite => immediate(),
        _ => TransactionOptions { isolation_level: Some(IsolationLevel::ReadCommitted), ..Default::default() },
    }
}

/// Locks rows ascending by partition, as the writers do, so that a claim and a writer never wait for each other.
async fn claim_within(
    transaction: &DatabaseTransaction,
    topic: &str,
    claims: &[Claim],
    now: DateTime<Utc>,
) -> Result<Vec<offset::Model>, DbErr> {
    use offset::Column as C;
    let mut claims: Vec<&Claim> = claims.iter().collect();
    claims.sort_by_key(|c| c.partition);
    let partitions = || claims.iter().map(|c| c.partition);
    let now = time::datetime_text(now.timestamp_micros());
    let of_topic = || offset::Entity::find().filter(C::Topic.eq(topic)).filter(C::PartitionId.is_in(partitions()));

    let known = of_topic().order_by_asc(C::PartitionId).lock_exclusive().all(transaction).await?;
    let nameless = known.iter().any(|row| row.topic_id.is_empty());
    let known: Vec<i32> = known.iter().map(|row| row.partition_id).collect();
    if let Some(claim) = claims.first().filter(|c| nameless && !c.topic_id.is_empty()) {
        // Written before the broker, or this bief, knew ids; the caller has compared the offsets.
        offset::Entity::update_many()
            .col_expr(C::TopicId, Expr::val(claim.topic_id.as_str()))
            .filter(C::Topic.eq(topic))
            .filter(C::PartitionId.is_in(known.iter().copied()))
            .filter(C::TopicId.eq(""))
            .exec(transaction)
            .await?;
    }
    if !known.is_empty() {
        offset::Entity::update_many()
            .col_expr(C::Epoch, Expr::col(C::Epoch).add(1))
            .col_expr(C::UpdatedAt, Expr::val(now.as_str()))
            .filter(C::Topic.eq(topic))
            .filter(C::PartitionId.is_in(known.iter().copied()))
            .exec(transaction)
            .await?;
    }
    let unknown: Vec<&Claim> = claims.iter().copied().filter(|c| !known.contains(&c.partition)).collect();
    // Another claim may have put a row there since: then this one's epoch is the higher.
    let mut conflict = OnConflict::columns([C::Topic, C::PartitionId]);
    conflict.value(C::Epoch, Expr::col((offset::Entity, C::Epoch)).add(1)).value(C::UpdatedAt, Expr::val(now.as_str()));
    first_rows(transaction, topic, &unknown, &now, &conflict).await?;
    of_topic().all(transaction).await
}

/// Ascending, as claims and writers lock.
async fn introduce_within(
    transaction: &DatabaseTransaction,
    topic: &str,
    claims: &[Claim],
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    use offset::Column as C;
    let mut claims: Vec<&Claim> = claims.iter().collect();
    claims.sort_by_key(|c| c.partition);
    let mut stays = OnConflict::columns([C::Topic, C::PartitionId]);
    stays.value(C::Epoch, Expr::col((offset::Entity, C::Epoch)));
    first_rows(transaction, topic, &claims, &time::datetime_text(now.timestamp_micros()), &stays).await
}

/// Rows for partitions that have none, each with an epoch above those of its former logs; `conflict` says what becomes of
/// one that is there after all.
async fn first_rows(
    transaction: &DatabaseTransaction,
    topic: &str,
    claims: &[&Claim],
    now: &str,
    conflict: &OnConflict,
) -> Result<(), DbErr> {
    use offset::Column as C;
    let partitions: Vec<i32> = claims.iter().map(|c| c.partition).collect();
    let given_out = resets::former_epochs(transaction, topic, &partitions).await?;
    for claim in claims {
        let epoch = given_out.get(&claim.partition).map_or(1, |last| last + 1);
        let insert = Query::insert()
            .into_table(offset::Entity)
            .columns([
                C::Topic,
                C::PartitionId,
                C::TopicId,
                C::Epoch,
                C::StartOffset,
                C::NextOffset,
                C::Applied,
                C::Duplicates,
                C::DeadLetters,
                C::Gaps,
                C::UpdatedAt,
            ])
            .values_panic([
                topic.into(),
                claim.partition.into(),
                claim.topic_id.as_str().into(),
                epoch.into(),
                claim.start_offset.into(),
                claim.start_offset.into(),
                0i64.into(),
                0i64.into(),
                0i64.into(),
                0i64.into(),
                now.into(),
            ])
            .on_conflict(conflict.clone())
            .take();
        transaction.execute(&insert).await?;
    }
    Ok(())
}

/// Commits what was done, or leaves nothing of it.
pub(super) async fn settled<T>(transaction: DatabaseTransaction, done: Result<T, DbErr>) -> Result<T, DbErr> {
    match done {
        Ok(answer) => transaction.commit().await.map(|()| answer),
        Err(e) => {
            // The first error is the one to tell.
            let _ = transaction.rollback().await;
            Err(e)
        }
    }
}

#[async_trait(?Send)]
impl Bookkeeping for SqlBookkeeping {
    async fn claim(
        &self,
        topic: &str,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<PartitionOffset>, WarehouseError> {
        const WHAT: &str = "taking partitions over";
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut round = 0;
        let rows = loop {
            match self.claim_once(topic, claims, now).await {
                Ok(rows) => break rows,
                Err(e) if is_contention(&e) && round < CLAIM_ROUNDS => {
                    round += 1;
                    tokio::time::sleep(CLAIM_PAUSE * round as u32).await;
                }
                Err(e) => return Err(from_db_err(WHAT, &e)),
            }
        };
        claims
            .iter()
            .map(|claim| rows.iter().find(|row| row.partition_id == claim.partition).map(partition_offset))
            .collect::<Option<_>>()
            .ok_or_else(|| WarehouseError::Transient {
                what: format!("{WHAT}: rows of bief_offset vanished meanwhile"),
            })
    }

    async fn offsets(&self, topic: Option<&str>) -> Result<Vec<PartitionOffset>, WarehouseError> {
        ledger::offsets(&self.db, topic).await.map_err(|e| from_db_err("reading bief_offset", &e))
    }

    async fn ledger(&self, topic: &str) -> Result<Ledger, WarehouseError> {
        ledger::read(&self.db, topic).await
    }

    async fn introduce(&self, topic: &str, claims: &[Claim], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        let told = |e: DbErr| from_db_err("putting the partitions of a topic down", &e);
        let options = claiming(self.db.get_database_backend());
        let transaction = self.db.begin_with_options(options).await.map_err(told)?;
        let introduced = introduce_within(&transaction, topic, claims, now).await;
        settled(transaction, introduced).await.map_err(told)
    }

    async fn reset(&self, topic: &str, steps: &[(Step, i64)], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        let told = |e: DbErr| from_db_err("setting offsets", &e);
        let options = claiming(self.db.get_database_backend());
        let transaction = self.db.begin_with_options(options).await.map_err(told)?;
        match resets::reset(&transaction, topic, steps, now).await {
            Ok(resets::Outcome::Done) => transaction.commit().await.map_err(told),
            Ok(resets::Outcome::Moved { partition, detail }) => {
                // Nothing was committed, whatever becomes of the session.
                let _ = transaction.rollback().await;
                Err(WarehouseError::Fenced { topic: topic.to_owned(), partition, detail })
            }
            Err(e) => {
                // The first error is the one to tell.
                let _ = transaction.rollback().await;
                Err(told(e))
            }
        }
    }

    async fn truncated(
        &self,
        topic: &str,
        partition: i32,
        judged: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<(), WarehouseError> {
        use offset::Column as C;
        let told = |e: DbErr| from_db_err("putting a truncated log down", &e);
        let row = offset::Entity::find_by_id((topic.to_owned(), partition)).one(&self.db).await.map_err(told)?;
        let stands = |row: &offset::Model| judged.is_none_or(|epoch| epoch == row.epoch);
        let Some(row) = row.filter(|row| stands(row) && !doubt::recorded_id(&row.topic_id).1) else { return Ok(()) };
        offset::Entity::update_many()
            .col_expr(C::TopicId, Expr::val(format!("{}{}", doubt::TRUNCATED, row.topic_id)))
            .col_expr(C::Epoch, Expr::col(C::Epoch).add(1))
            .col_expr(C::UpdatedAt, Expr::val(time::datetime_text(now.timestamp_micros())))
            .filter(C::Topic.eq(topic))
            .filter(C::PartitionId.eq(partition))
            .filter(C::TopicId.eq(row.topic_id))
            .filter(C::Epoch.eq(row.epoch))
            .exec(&self.db)
            .await
            .map(drop)
            .map_err(told)
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        let rows = filtered(filter).all(&self.db).await.map_err(|e| from_db_err("reading bief_dead_letter", &e))?;
        Ok(rows.into_iter().map(stored_dead_letter).collect())
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<StoredDeadLetter>, WarehouseError> {
        let row = dead_letter::Entity::find_by_id(id).one(&self.db).await;
        Ok(row.map_err(|e| from_db_err("reading bief_dead_letter", &e))?.map(stored_dead_letter))
    }

    async fn count_rows(&self, table: &str) -> Result<i64, WarehouseError> {
        let what = format!("counting the rows of {table}");
        // Backticks quote on all three databases; a name can't be bound.
        let sql = format!("SELECT COUNT(*) AS n FROM `{}`", table.replace('`', "``"));
        let statement = Statement::from_string(self.db.get_database_backend(), sql);
        let row = self.db.query_one_raw(statement).await.map_err(|e| from_db_err(&what, &e))?;
        match row {
            Some(row) => row.try_get("", "n").map_err(|e| from_db_err(&what, &e)),
            None => Err(WarehouseError::Transient { what: format!("{what}: no answer") }),
        }
    }
}

/// Letters of a topic and of its former logs (`orders`, `orders@7`). A range, since LIKE would read `_` as any character:
/// the column is compared byte by byte, and `A` follows `@`.
pub(super) fn of_topic(topic: &str) -> Condition {
    use dead_letter::Column as C;
    let former = Condition::all().add(C::Topic.gte(format!("{topic}@"))).add(C::Topic.lt(format!("{topic}A")));
    Condition::any().add(C::Topic.eq(topic)).add(former)
}

/// Letters that the filter names, in its order, at most as many as it says.
pub(super) fn filtered(filter: &DeadLetterFilter) -> Select<dead_letter::Entity> {
    use dead_letter::Column as C;
    let order = if filter.newest_first { Order::Desc } else { Order::Asc };
    named(filter).order_by(C::Id, order).limit(filter.limit)
}

/// Letters that the filter names, in no order and all of them.
pub(super) fn named(filter: &DeadLetterFilter) -> Select<dead_letter::Entity> {
    use dead_letter::Column as C;
    // As text: SQLite compares it with what the writer stored.
    let moment = |at: DateTime<Utc>| Expr::val(time::datetime_text(at.timestamp_micros()));
    let mut find = dead_letter::Entity::find();
    if let Some(topic) = &filter.topic {
        find = find.filter(of_topic(topic));
    }
    if !filter.ids.is_empty() {
        find = find.filter(C::Id.is_in(filter.ids.iter().copied()));
    }
    if let Some(reason) = &filter.reason {
        find = find.filter(C::Reason.eq(reason.as_str()));
    }
    if let Some(since) = filter.since {
        find = find.filter(Expr::col(C::StoredAt).gte(moment(since)));
    }
    if let Some(until) = filter.until {
        find = find.filter(Expr::col(C::StoredAt).lt(moment(until)));
    }
    if let Some(id) = filter.after_id {
        find = find.filter(C::Id.gt(id));
    }
    if let Some(id) = filter.before_id {
        find = find.filter(C::Id.lt(id));
    }
    find
}

pub(super) fn partition_offset(row: &offset::Model) -> PartitionOffset {
    PartitionOffset {
        topic: row.topic.clone(),
        partition: row.partition_id,
        topic_id: row.topic_id.clone(),
        epoch: row.epoch,
        start_offset: row.start_offset,
        next_offset: row.next_offset,
        counts: CountsView {
            applied: row.applied,
            duplicates: row.duplicates,
            dead_letters: row.dead_letters,
            gaps: row.gaps,
        },
        updated_at: row.updated_at.and_utc(),
    }
}

pub(super) fn stored_dead_letter(row: dead_letter::Model) -> StoredDeadLetter {
    let reason = Reason::stored(&row.reason);
    StoredDeadLetter {
        id: row.id,
        letter: DeadLetter {
            topic: Arc::from(row.topic),
            partition: row.partition_id,
            offset: row.record_offset,
            timestamp: row.record_timestamp.map_or(-1, |t: NaiveDateTime| t.and_utc().timestamp_millis()),
            key: row.record_key,
            payload: row.payload,
            rejection: Rejection { reason, field: row.field, message: row.message },
        },
        stored_at: row.stored_at.and_utc(),
    }
}
