//! Takes dead letters away within the transaction that gives their records another outcome. Locks the partitions'
//! offset rows first, as every writer does, so that neither waits for the other in a circle.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mysql_async::Value;

use super::MySqlWarehouse;
use super::connection::Session;
use super::errors::Failure;
use super::params::{datetime_micros, placeholders};
use super::transaction::{MAX_MESSAGE, truncate};
use crate::core::outcome::{Reason, Rejection};
use crate::messages::DeadLetter;
use crate::ports::{AuditEntry, LetterWarehouse, StoredDeadLetter, WarehouseError};

/// Topic, partition, offset, the broker's time and the storing in microseconds since 1970, key, payload, reason,
/// field, message, behind the id.
type LetterRow = (i64, i32, i64, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>, String, Option<String>, String, i64);

fn many(ids: &[i64]) -> (String, Vec<Value>) {
    (placeholders(1, ids.len()), ids.iter().map(|id| (*id).into()).collect())
}

async fn lock(
    session: &mut Session,
    topic: &str,
    partitions: &[i32],
    ids: &[i64],
) -> Result<Vec<StoredDeadLetter>, Failure> {
    for partition in partitions {
        let sql = "SELECT epoch FROM bief_offset WHERE topic = ? AND partition_id = ? FOR UPDATE";
        let _: Vec<i64> = session.ask(sql, vec![topic.into(), (*partition).into()]).await?;
    }
    let (marks, mut values) = many(ids);
    values.push(topic.into());
    let sql = format!(
        "SELECT id, partition_id, record_offset, \
         TIMESTAMPDIFF(MICROSECOND, '1970-01-01', record_timestamp), record_key, payload, reason, field, message, \
         TIMESTAMPDIFF(MICROSECOND, '1970-01-01', stored_at) \
         FROM bief_dead_letter WHERE id IN {marks} AND topic = ? ORDER BY id FOR UPDATE"
    );
    let rows: Vec<LetterRow> = session.ask(&sql, values).await?;
    Ok(rows
        .into_iter()
        .map(|(id, partition, offset, timestamp, key, payload, reason, field, message, stored)| StoredDeadLetter {
            id,
            letter: DeadLetter {
                topic: topic.into(),
                partition,
                offset,
                timestamp: timestamp.map_or(-1, |micros| micros.div_euclid(1000)),
                key,
                payload,
                rejection: Rejection { reason: Reason::stored(&reason), field, message },
            },
            stored_at: DateTime::from_timestamp_micros(stored).unwrap_or_default(),
        })
        .collect())
}

impl MySqlWarehouse {
    /// A statement that is no row's fault when it fails.
    async fn change(&mut self, sql: &str, values: Vec<Value>) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        session.execute(sql, values).await.map_err(Failure::outside_rows)?;
        self.session = Some(session);
        Ok(())
    }
}

#[async_trait(?Send)]
impl LetterWarehouse for MySqlWarehouse {
    async fn lock_letters(
        &mut self,
        topic: &str,
        partitions: &[i32],
        ids: &[i64],
    ) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        let mut session = self.take()?;
        let letters = lock(&mut session, topic, partitions, ids).await.map_err(Failure::outside_rows)?;
        self.session = Some(session);
        Ok(letters)
    }

    async fn delete_letters(&mut self, ids: &[i64]) -> Result<(), WarehouseError> {
        if ids.is_empty() {
            return Ok(());
        }
        let (marks, values) = many(ids);
        self.change(&format!("DELETE FROM bief_dead_letter WHERE id IN {marks}"), values).await
    }

    async fn restate_letters(&mut self, letters: &[(i64, Rejection)]) -> Result<(), WarehouseError> {
        for (id, rejection) in letters {
            let mut message = rejection.message.clone();
            truncate(&mut message, MAX_MESSAGE);
            let field: Option<String> = rejection.field.as_ref().map(|field| field.chars().take(255).collect());
            let values = vec![rejection.reason.as_str().into(), field.into(), message.into(), (*id).into()];
            let sql = "UPDATE bief_dead_letter SET reason = ?, field = ?, message = ? WHERE id = ?";
            self.change(sql, values).await?;
        }
        Ok(())
    }

    async fn drop_letters(&mut self, ids: &[i64], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        if ids.is_empty() {
            return Ok(());
        }
        let (marks, mut values) = many(ids);
        let at = datetime_micros(now.timestamp_micros());
        values.insert(0, at.clone());
        values.push(at);
        let sql = format!(
            "INSERT INTO bief_dropped_letter (topic, partition_id, record_offset, reason, dropped_at) \
             SELECT topic, partition_id, record_offset, reason, ? FROM bief_dead_letter WHERE id IN {marks} \
             ON DUPLICATE KEY UPDATE dropped_at = ?"
        );
        self.change(&sql, values).await?;
        self.delete_letters(ids).await
    }

    async fn audit(&mut self, entry: &AuditEntry) -> Result<(), WarehouseError> {
        let sql = "INSERT INTO bief_audit (changed_at, daemon, peer, action, letters, request, payload, outcome) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let values = vec![
            datetime_micros(entry.at.timestamp_micros()),
            entry.daemon.as_str().into(),
            entry.peer.as_str().into(),
            entry.action.as_str().into(),
            serde_json::json!(entry.letters).to_string().into(),
            entry.request.to_string().into(),
            entry.payload.clone().into(),
            entry.outcome.to_string().into(),
        ];
        self.change(sql, values).await
    }
}
