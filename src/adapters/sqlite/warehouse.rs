//! A writer's side of an SQLite file: one connection, one transaction at a time, which takes the file's write lock
//! at once (BEGIN IMMEDIATE), so that it never has to be given up midway.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, ConnectOptions};

use super::marks;
use super::rows::RowWriter;
use super::shape::Shape;
use crate::adapters::sql_errors::warehouse_error;
use crate::core::gaps::format_ranges;
use crate::core::marks::Mark;
use crate::core::target::{OnConflict, Rows};
use crate::core::time;
use crate::messages::{DeadLetter, OffsetMove};
use crate::ports::{PartitionCounts, Warehouse, WarehouseError, Written};

/// Sets of columns kept with their statements; records with ever new sets of fields must not fill the memory.
const SHAPES_KEPT: usize = 64;
/// Width of `bief_dead_letter.field`, characters.
pub(super) const FIELD_CHARS: usize = 255;
/// Characters of a dead letter's message that fit MySQL's TEXT whatever they are.
pub(super) const MESSAGE_CHARS: usize = 16_000;

/// Table, columns (positions in the table), what happens on conflict.
type ShapeKey = (String, Vec<usize>, OnConflict);

/// One connection to one database file.
pub struct SqliteWarehouse {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    savepoint: bool,
    shapes: HashMap<ShapeKey, Shape>,
    /// Tables whose rows were met by rows already there, last time.
    meets_existing: HashMap<String, bool>,
}

impl SqliteWarehouse {
    /// Opens the file, creating it where it is missing; later connections expect it to be there.
    pub async fn connect(options: SqliteConnectOptions) -> Result<Self, WarehouseError> {
        let first = options.clone().create_if_missing(true).connect().await;
        let connection = first.map_err(|e| warehouse_error("opening the database file", &e))?;
        Ok(Self {
            options,
            connection: Some(connection),
            savepoint: false,
            shapes: HashMap::new(),
            meets_existing: HashMap::new(),
        })
    }

    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, WarehouseError> {
        self.connection.as_mut().ok_or_else(|| WarehouseError::Transient {
            what: "the connection to the database file was given up; the batch begins again".to_owned(),
        })
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), WarehouseError> {
        let connection = self.connection()?;
        sqlx::query(sql).execute(connection).await.map(drop).map_err(|e| warehouse_error(sql, &e))
    }

    async fn advance_one(&mut self, topic: &str, to: &OffsetMove) -> Result<(), WarehouseError> {
        let moved = sqlx::query(
            "UPDATE bief_offset SET next_offset = ? \
             WHERE topic = ? AND partition_id = ? AND next_offset = ? AND epoch = ?",
        )
        .bind(to.to)
        .bind(topic)
        .bind(to.partition)
        .bind(to.from)
        .bind(to.epoch)
        .execute(self.connection()?)
        .await
        .map_err(|e| warehouse_error("moving an offset in bief_offset", &e))?;
        if moved.rows_affected() != 1 {
            return Err(self.fenced(topic, to).await?);
        }
        let (Some(first), Some(last)) = (to.gaps.first(), to.gaps.last()) else { return Ok(()) };
        sqlx::query(
            "INSERT INTO bief_gap (topic, partition_id, first_offset, last_offset, offsets, ranges) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (topic, partition_id, first_offset) DO UPDATE \
             SET last_offset = excluded.last_offset, offsets = excluded.offsets, ranges = excluded.ranges",
        )
        .bind(topic)
        .bind(to.partition)
        .bind(first.start)
        .bind(last.end - 1)
        .bind(to.gap_count())
        .bind(format_ranges(&to.gaps))
        .execute(self.connection()?)
        .await
        .map(drop)
        .map_err(|e| warehouse_error("recording gaps in bief_gap", &e))
    }

    async fn fenced(&mut self, topic: &str, to: &OffsetMove) -> Result<WarehouseError, WarehouseError> {
        let found: Option<(i64, i64)> =
            sqlx::query_as("SELECT next_offset, epoch FROM bief_offset WHERE topic = ? AND partition_id = ?")
                .bind(topic)
                .bind(to.partition)
                .fetch_optional(self.connection()?)
                .await
                .map_err(|e| warehouse_error("reading bief_offset", &e))?;
        let detail = match found {
            Some((next, epoch)) => {
                format!("expected offset {} in epoch {}, found offset {next} in epoch {epoch}", to.from, to.epoch)
            }
            None => "its row in bief_offset is gone".to_owned(),
        };
        Ok(WarehouseError::Fenced { topic: topic.to_owned(), partition: to.partition, detail })
    }
}

#[async_trait(?Send)]
impl Warehouse for SqliteWarehouse {
    async fn begin(&mut self) -> Result<(), WarehouseError> {
        if self.connection.is_none() {
            let again = self.options.connect().await;
            self.connection = Some(again.map_err(|e| warehouse_error("opening the database file", &e))?);
        }
        self.savepoint = false;
        self.run("BEGIN IMMEDIATE").await
    }

    async fn advance(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        for to in moves {
            self.advance_one(topic, to).await?;
        }
        Ok(())
    }

    /// The transaction is the only one that writes: looking is enough.
    async fn hold(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        for to in moves {
            let held: Option<(i64, i64)> =
                sqlx::query_as("SELECT epoch, next_offset FROM bief_offset WHERE topic = ? AND partition_id = ?")
                    .bind(topic)
                    .bind(to.partition)
                    .fetch_optional(self.connection()?)
                    .await
                    .map_err(|e| warehouse_error("reading bief_offset", &e))?;
            if held != Some((to.epoch, to.from)) {
                return Err(self.fenced(topic, to).await?);
            }
        }
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), WarehouseError> {
        if std::mem::replace(&mut self.savepoint, true) {
            self.run("RELEASE bief_rows").await?;
        }
        self.run("SAVEPOINT bief_rows").await
    }

    async fn rollback_rows(&mut self) -> Result<(), WarehouseError> {
        self.run("ROLLBACK TO bief_rows").await
    }

    async fn write(&mut self, rows: Rows<'_>) -> Result<Written, WarehouseError> {
        if rows.is_empty() {
            return Ok(Written::default());
        }
        let table = &rows.target.table.name;
        let columns = rows.columns.iter().map(|&c| rows.target.columns[c]).collect();
        let key: ShapeKey = (table.clone(), columns, rows.target.on_conflict);
        if self.shapes.len() >= SHAPES_KEPT && !self.shapes.contains_key(&key) {
            self.shapes.clear();
        }
        let shape = self.shapes.entry(key).or_insert_with(|| Shape::of(&rows));
        let meets_existing = self.meets_existing.entry(table.clone()).or_default();
        let Some(connection) = self.connection.as_mut() else {
            return Err(WarehouseError::Transient { what: "no transaction is open".to_owned() });
        };
        RowWriter::new(connection, shape, rows, meets_existing).write().await
    }

    async fn set_aside(&mut self, letters: &[DeadLetter], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        let now = time::datetime_text(now.timestamp_micros());
        for letter in letters {
            let rejection = &letter.rejection;
            let kept = letter.timestamp >= 0 && time::DATETIME_MILLIS.contains(&letter.timestamp);
            // A record that is read again after a reset of its offset takes its letter's place.
            sqlx::query(
                "INSERT INTO bief_dead_letter (topic, partition_id, record_offset, record_timestamp, record_key, \
                 payload, reason, field, message, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (topic, partition_id, record_offset) DO UPDATE SET \
                 record_timestamp = excluded.record_timestamp, record_key = excluded.record_key, \
                 payload = excluded.payload, reason = excluded.reason, field = excluded.field, \
                 message = excluded.message, stored_at = excluded.stored_at, published_at = NULL",
            )
            .bind(&*letter.topic)
            .bind(letter.partition)
            .bind(letter.offset)
            .bind(kept.then(|| time::datetime_text(letter.timestamp * 1000)))
            .bind(letter.key.as_deref())
            .bind(letter.payload.as_deref())
            .bind(rejection.reason.as_str())
            .bind(rejection.field.as_ref().map(|f| f.chars().take(FIELD_CHARS).collect::<String>()))
            .bind(rejection.message.chars().take(MESSAGE_CHARS).collect::<String>())
            .bind(&now)
            .execute(self.connection()?)
            .await
            .map_err(|e| warehouse_error("storing a record in bief_dead_letter", &e))?;
        }
        Ok(())
    }

    async fn mark(&mut self, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError> {
        marks::mark(self.connection()?, lane, marks).await
    }

    async fn count(
        &mut self,
        topic: &str,
        counts: &[PartitionCounts],
        now: DateTime<Utc>,
    ) -> Result<(), WarehouseError> {
        let now = time::datetime_text(now.timestamp_micros());
        for PartitionCounts { partition, counts } in counts {
            let counted = sqlx::query(
                "UPDATE bief_offset SET applied = applied + ?, duplicates = duplicates + ?, \
                 dead_letters = dead_letters + ?, gaps = gaps + ?, updated_at = ? \
                 WHERE topic = ? AND partition_id = ?",
            )
            .bind(counts.applied)
            .bind(counts.duplicates)
            .bind(counts.dead_letters)
            .bind(counts.gaps)
            .bind(&now)
            .bind(topic)
            .bind(partition)
            .execute(self.connection()?)
            .await
            .map_err(|e| warehouse_error("counting in bief_offset", &e))?;
            if counted.rows_affected() != 1 && counts.total() != 0 {
                return Err(WarehouseError::Fenced {
                    topic: topic.to_owned(),
                    partition: *partition,
                    detail: "its row in bief_offset is gone".to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), WarehouseError> {
        self.run("COMMIT").await
    }

    async fn rollback(&mut self) -> Result<(), WarehouseError> {
        match self.run("ROLLBACK").await {
            // SQLite ends the transaction by itself after some errors.
            Err(WarehouseError::Fatal { what }) if what.contains("no transaction is active") => Ok(()),
            outcome => outcome,
        }
    }

    fn abandon(&mut self) {
        // The connection's own thread rolls back when it closes.
        self.connection = None;
    }
}
