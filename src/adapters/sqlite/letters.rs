//! Takes dead letters away within the transaction that gives their records another outcome. The transaction is the
//! only one that writes: nothing has to be locked.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::sqlx;

use super::warehouse::{FIELD_CHARS, MESSAGE_CHARS, SqliteWarehouse};
use crate::adapters::sql_errors::warehouse_error;
use crate::core::outcome::{Reason, Rejection};
use crate::core::time;
use crate::messages::DeadLetter;
use crate::ports::{AuditEntry, LetterWarehouse, StoredDeadLetter, WarehouseError};

/// Partition, offset, the broker's time, key, payload, reason, field, message, when it was stored.
type LetterRow =
    (i32, i64, Option<NaiveDateTime>, Option<Vec<u8>>, Option<Vec<u8>>, String, Option<String>, String, NaiveDateTime);

#[async_trait(?Send)]
impl LetterWarehouse for SqliteWarehouse {
    async fn lock_letters(
        &mut self,
        topic: &str,
        _: &[i32],
        ids: &[i64],
    ) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            let row: Option<LetterRow> = sqlx::query_as(
                "SELECT partition_id, record_offset, record_timestamp, record_key, payload, reason, field, message, \
                 stored_at FROM bief_dead_letter WHERE id = ? AND topic = ?",
            )
            .bind(id)
            .bind(topic)
            .fetch_optional(self.connection()?)
            .await
            .map_err(|e| warehouse_error("reading bief_dead_letter", &e))?;
            let Some((partition, offset, timestamp, key, payload, reason, field, message, stored_at)) = row else {
                continue;
            };
            letters.push(StoredDeadLetter {
                id,
                letter: DeadLetter {
                    topic: topic.into(),
                    partition,
                    offset,
                    timestamp: timestamp.map_or(-1, |t| t.and_utc().timestamp_millis()),
                    key,
                    payload,
                    rejection: Rejection { reason: Reason::stored(&reason), field, message },
                },
                stored_at: stored_at.and_utc(),
            });
        }
        Ok(letters)
    }

    async fn delete_letters(&mut self, ids: &[i64]) -> Result<(), WarehouseError> {
        for id in ids {
            sqlx::query("DELETE FROM bief_dead_letter WHERE id = ?")
                .bind(id)
                .execute(self.connection()?)
                .await
                .map_err(|e| warehouse_error("deleting from bief_dead_letter", &e))?;
        }
        Ok(())
    }

    async fn restate_letters(&mut self, letters: &[(i64, Rejection)]) -> Result<(), WarehouseError> {
        for (id, rejection) in letters {
            sqlx::query("UPDATE bief_dead_letter SET reason = ?, field = ?, message = ? WHERE id = ?")
                .bind(rejection.reason.as_str())
                .bind(rejection.field.as_ref().map(|f| f.chars().take(FIELD_CHARS).collect::<String>()))
                .bind(rejection.message.chars().take(MESSAGE_CHARS).collect::<String>())
                .bind(id)
                .execute(self.connection()?)
                .await
                .map_err(|e| warehouse_error("changing bief_dead_letter", &e))?;
        }
        Ok(())
    }

    async fn drop_letters(&mut self, ids: &[i64], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        let now = time::datetime_text(now.timestamp_micros());
        for id in ids {
            sqlx::query(
                "INSERT OR REPLACE INTO bief_dropped_letter (topic, partition_id, record_offset, reason, dropped_at) \
                 SELECT topic, partition_id, record_offset, reason, ? FROM bief_dead_letter WHERE id = ?",
            )
            .bind(&now)
            .bind(id)
            .execute(self.connection()?)
            .await
            .map_err(|e| warehouse_error("writing bief_dropped_letter", &e))?;
        }
        self.delete_letters(ids).await
    }

    async fn audit(&mut self, entry: &AuditEntry) -> Result<(), WarehouseError> {
        sqlx::query(
            "INSERT INTO bief_audit (changed_at, daemon, peer, action, letters, request, payload, outcome) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(time::datetime_text(entry.at.timestamp_micros()))
        .bind(entry.daemon.as_str())
        .bind(entry.peer.as_str())
        .bind(entry.action.as_str())
        .bind(serde_json::json!(entry.letters).to_string())
        .bind(entry.request.to_string())
        .bind(entry.payload.as_deref())
        .bind(entry.outcome.to_string())
        .execute(self.connection()?)
        .await
        .map(drop)
        .map_err(|e| warehouse_error("writing bief_audit", &e))
    }
}
