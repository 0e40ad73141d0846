//! What is read and marked of dead letters outside a batch's transaction: which there are, which were dropped, which
//! are still to be published. Must never delete one: that is done where their counts are moved.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value,
};

use super::entities::dead_letter;
use super::sql_bookkeeping::{SqlBookkeeping, filtered, of_topic, stored_dead_letter};
use crate::adapters::sql_errors::from_db_err;
use crate::core::time;
use crate::ports::{DeadLetterFilter, LetterBook, LetterKey, StoredDeadLetter, WarehouseError};

/// What a letter holds.
pub(super) const BYTES: &str = "COALESCE(LENGTH(record_key), 0) + COALESCE(LENGTH(payload), 0)";
/// Letters to publish at once; some thousand a second are possible, and a statement's list of ids stays short.
const AT_ONCE: u64 = 500;

#[async_trait(?Send)]
impl LetterBook for SqlBookkeeping {
    async fn letter_keys(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterKey>, WarehouseError> {
        use dead_letter::Column as C;
        let keys: Vec<(i64, String, i32, i64)> = filtered(filter)
            .select_only()
            .columns([C::Id, C::Topic, C::PartitionId])
            .column_as(Expr::cust(BYTES), "bytes")
            .into_tuple()
            .all(&self.db)
            .await
            .map_err(|e| from_db_err("reading bief_dead_letter", &e))?;
        Ok(keys.into_iter().map(|(id, topic, partition, bytes)| LetterKey { id, topic, partition, bytes }).collect())
    }

    async fn is_publisher(&self, topic: &str) -> Result<bool, WarehouseError> {
        const WHAT: &str = "asking for the right to publish dead letters";
        if self.db.get_database_backend() == DbBackend::Sqlite {
            // A file has one daemon.
            return Ok(true);
        }
        // A user lock is the whole server's and its name ends at 64 characters; it goes with the session.
        let sql = "SELECT COALESCE(IS_USED_LOCK(l.name) = CONNECTION_ID(), FALSE) OR GET_LOCK(l.name, 0) = 1 AS ours \
                   FROM (SELECT CONCAT('bief-outbox-', LEFT(SHA2(CONCAT(DATABASE(), '/', ?), 256), 40)) AS name) l";
        let statement = Statement::from_sql_and_values(DbBackend::MySql, sql, [Value::from(topic)]);
        let row = self.db.query_one_raw(statement).await.map_err(|e| from_db_err(WHAT, &e))?;
        let ours = row.map(|r| r.try_get::<Option<i64>>("", "ours")).transpose().map_err(|e| from_db_err(WHAT, &e))?;
        Ok(ours.flatten() == Some(1))
    }

    async fn unpublished(&self, topic: &str, after: i64, bytes: i64) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        use dead_letter::Column as C;
        const WHAT: &str = "reading bief_dead_letter";
        let sizes: Vec<(i64, i64)> = dead_letter::Entity::find()
            .select_only()
            .column(C::Id)
            .column_as(Expr::cust(BYTES), "bytes")
            .filter(of_topic(topic))
            .filter(C::PublishedAt.is_null())
            .filter(C::Id.gt(after))
            .order_by_asc(C::Id)
            .limit(AT_ONCE)
            .into_tuple()
            .all(&self.db)
            .await
            .map_err(|e| from_db_err(WHAT, &e))?;
        let mut sum = 0i64;
        let fits = sizes.iter().enumerate().take_while(|(position, (_, size))| {
            sum = sum.saturating_add(*size);
            *position == 0 || sum <= bytes
        });
        let ids: Vec<i64> = fits.map(|(_, (id, _))| *id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = dead_letter::Entity::find()
            .filter(C::Id.is_in(ids))
            .order_by_asc(C::Id)
            .all(&self.db)
            .await
            .map_err(|e| from_db_err(WHAT, &e))?;
        let topic: Arc<str> = Arc::from(topic);
        let mut letters: Vec<StoredDeadLetter> = rows.into_iter().map(stored_dead_letter).collect();
        letters.iter_mut().for_each(|stored| stored.letter.topic = Arc::clone(&topic));
        Ok(letters)
    }

    async fn mark_published(&self, ids: &[i64], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        use dead_letter::Column as C;
        dead_letter::Entity::update_many()
            .col_expr(C::PublishedAt, Expr::val(time::datetime_text(now.timestamp_micros())))
            .filter(C::Id.is_in(ids.iter().copied()))
            .exec(&self.db)
            .await
            .map(drop)
            .map_err(|e| from_db_err("marking bief_dead_letter as published", &e))
    }
}
