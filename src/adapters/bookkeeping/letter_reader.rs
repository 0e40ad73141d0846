//! What is shown of dead letters and of what was done to them: read without their payloads, so that a page of a list
//! costs little whatever the records weigh. Reads only.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::connect::{Sessions, connect};
use super::entities::{audit, dead_letter};
use super::letter_book::BYTES;
use super::sql_bookkeeping::{SqlBookkeeping, filtered, named, stored_dead_letter};
use crate::adapters::sql_errors::from_db_err;
use crate::config::WarehouseConfig;
use crate::core::outcome::{Reason, Rejection};
use crate::ports::{
    AuditEntry, DeadLetterFilter, LetterGroup, LetterHead, LetterReader, OpenLetterReader, StoredDeadLetter,
    WarehouseError,
};

const LETTERS: &str = "reading bief_dead_letter";
/// Topics times reasons; more than a page can show.
const MOST_GROUPS: u64 = 1000;

/// How the HTTP side opens it. The caller limits each call, and opens another after one that it gave up.
pub fn open(settings: &WarehouseConfig) -> OpenLetterReader {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move {
            let db = connect(&settings, Sessions::Few).await?;
            Ok(Box::new(SqlBookkeeping::new(db)) as Box<dyn LetterReader>)
        })
    })
}

/// Columns of a letter without key and payload: id, topic, partition, offset, the broker's time, reason, field,
/// message, when it was stored, bytes.
type HeadRow = (i64, String, i32, i64, Option<NaiveDateTime>, String, Option<String>, String, NaiveDateTime, i64);

#[async_trait(?Send)]
impl LetterReader for SqlBookkeeping {
    async fn heads(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterHead>, WarehouseError> {
        use dead_letter::Column as C;
        let rows: Vec<HeadRow> = filtered(filter)
            .select_only()
            .columns([
                C::Id,
                C::Topic,
                C::PartitionId,
                C::RecordOffset,
                C::RecordTimestamp,
                C::Reason,
                C::Field,
                C::Message,
                C::StoredAt,
            ])
            .column_as(Expr::cust(BYTES), "bytes")
            .into_tuple()
            .all(&self.db)
            .await
            .map_err(|e| from_db_err(LETTERS, &e))?;
        Ok(rows.into_iter().map(head).collect())
    }

    async fn groups(&self, filter: &DeadLetterFilter) -> Result<Vec<LetterGroup>, WarehouseError> {
        use dead_letter::Column as C;
        let rows: Vec<(String, String, i64, NaiveDateTime, NaiveDateTime, i64)> = named(filter)
            .select_only()
            .columns([C::Topic, C::Reason])
            .column_as(C::Id.count(), "letters")
            .column_as(C::StoredAt.min(), "first_stored_at")
            .column_as(C::StoredAt.max(), "last_stored_at")
            .column_as(C::Id.max(), "newest")
            .group_by(C::Topic)
            .group_by(C::Reason)
            .order_by_desc(C::Id.count())
            .limit(MOST_GROUPS)
            .into_tuple()
            .all(&self.db)
            .await
            .map_err(|e| from_db_err("counting bief_dead_letter", &e))?;
        let group =
            |(topic, reason, letters, first, last, newest): (String, String, _, NaiveDateTime, NaiveDateTime, _)| {
                LetterGroup {
                    topic,
                    reason: Reason::stored(&reason),
                    letters,
                    first_stored_at: first.and_utc(),
                    last_stored_at: last.and_utc(),
                    newest,
                }
            };
        Ok(rows.into_iter().map(group).collect())
    }

    async fn letter(&self, id: i64) -> Result<Option<StoredDeadLetter>, WarehouseError> {
        let row = dead_letter::Entity::find_by_id(id).one(&self.db).await;
        Ok(row.map_err(|e| from_db_err(LETTERS, &e))?.map(stored_dead_letter))
    }

    async fn audit_entries(&self, before: Option<i64>, limit: u64) -> Result<Vec<AuditEntry>, WarehouseError> {
        use audit::Column as C;
        let mut find = audit::Entity::find().order_by_desc(C::Id).limit(limit);
        if let Some(before) = before {
            find = find.filter(C::Id.lt(before));
        }
        let rows = find.all(&self.db).await.map_err(|e| from_db_err("reading bief_audit", &e))?;
        Ok(rows.into_iter().map(entry).collect())
    }
}

fn head((id, topic, partition, offset, timestamp, reason, field, message, stored_at, bytes): HeadRow) -> LetterHead {
    let moment = |at: NaiveDateTime| -> DateTime<Utc> { at.and_utc() };
    LetterHead {
        id,
        topic,
        partition,
        offset,
        timestamp: timestamp.map(moment),
        rejection: Rejection { reason: Reason::stored(&reason), field, message },
        stored_at: moment(stored_at),
        bytes,
    }
}

fn entry(row: audit::Model) -> AuditEntry {
    // What is no JSON was not written by bief; it is shown as text.
    let json = |text: String| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
    AuditEntry {
        id: row.id,
        at: row.changed_at.and_utc(),
        daemon: row.daemon,
        peer: row.peer,
        action: row.action,
        letters: serde_json::from_str(&row.letters).unwrap_or_default(),
        request: json(row.request),
        payload: row.payload,
        outcome: json(row.outcome),
    }
}
