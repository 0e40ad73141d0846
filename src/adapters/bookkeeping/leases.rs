//! Leases and the progress of rebuilds, the same on MySQL, MariaDB and SQLite but for who tells the time: the server, or
//! for a file this machine. Each change is one statement, so that no two ever hold a lease at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, Statement, Value};

use super::connect::{Sessions, connect};
use super::entities::{lease, rebuild};
use super::limits::Limited;
use super::sql_bookkeeping::SqlBookkeeping;
use crate::adapters::sql_errors::from_db_err;
use crate::config::WarehouseConfig;
use crate::core::time::datetime_text;
use crate::ports::WarehouseError;
use crate::ports::leases::{Lease, Leases, OpenLeases, Rebuild};

/// How an actor or a command opens it. The tables must be there: see [`super::migrate`].
pub fn open(settings: &WarehouseConfig) -> OpenLeases {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move {
            let db = connect(&settings, Sessions::Few).await?;
            let sqlite = db.get_database_backend() == DbBackend::Sqlite;
            let books = SqlBookkeeping::new(db);
            Ok(if sqlite { Box::new(books) } else { Box::new(Limited(books)) as Box<dyn Leases> })
        })
    })
}

const LEASING: &str = "taking a lease in bief_lease";
const REBUILDING: &str = "putting a rebuild down in bief_rebuild";

/// A moment as the tables of the bookkeeping have it.
pub(super) fn text(moment: DateTime<Utc>) -> String {
    datetime_text(moment.timestamp_micros())
}

impl SqlBookkeeping {
    /// Takes the lease where it is free or one's own.
    async fn put_lease(&self, name: &str, owner: &str, lasts: Duration) -> Result<(), DbErr> {
        let micros = i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX);
        let statement = match self.db.get_database_backend() {
            DbBackend::Sqlite => {
                let now = Utc::now();
                let until = now.checked_add_signed(chrono::Duration::microseconds(micros)).unwrap_or(now);
                Statement::from_sql_and_values(
                    DbBackend::Sqlite,
                    "INSERT INTO bief_lease (name, owner, held_until) VALUES (?, ?, ?) \
                     ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, held_until = excluded.held_until \
                     WHERE held_until <= ? OR owner = excluded.owner",
                    [name.into(), owner.into(), text(until).into(), text(now).into()],
                )
            }
            // Assigned from left to right: the second sees what the first came to.
            backend => Statement::from_sql_and_values(
                backend,
                "INSERT INTO bief_lease (name, owner, held_until) VALUES (?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND) \
                 ON DUPLICATE KEY UPDATE owner = IF(held_until <= UTC_TIMESTAMP(6), ?, owner), \
                 held_until = IF(owner = ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, held_until)",
                [name.into(), owner.into(), micros.into(), owner.into(), owner.into(), micros.into()],
            ),
        };
        self.db.execute_raw(statement).await.map(drop)
    }

    /// The lease's row, and for how many microseconds it is held.
    async fn read_lease(&self, name: &str) -> Result<Option<(lease::Model, i64)>, DbErr> {
        let Some(row) = lease::Entity::find_by_id(name.to_owned()).one(&self.db).await? else { return Ok(None) };
        let now = match self.db.get_database_backend() {
            DbBackend::Sqlite => Utc::now().naive_utc(),
            backend => {
                let asked =
                    self.db.query_one_raw(Statement::from_string(backend, "SELECT UTC_TIMESTAMP(6) AS now")).await?;
                asked.map(|row| row.try_get::<NaiveDateTime>("", "now")).transpose()?.unwrap_or_default()
            }
        };
        let left = (row.held_until - now).num_microseconds().unwrap_or(i64::MAX);
        Ok(Some((row, left)))
    }
}

#[async_trait(?Send)]
impl Leases for SqlBookkeeping {
    async fn take(&self, name: &str, owner: &str, lasts: Duration) -> Result<Lease, WarehouseError> {
        self.put_lease(name, owner, lasts).await.map_err(|e| from_db_err(LEASING, &e))?;
        let found = self.read_lease(name).await.map_err(|e| from_db_err(LEASING, &e))?;
        Ok(match found {
            Some((row, _)) if row.owner == owner => Lease::Ours { done_for: row.done_for.map(|at| at.and_utc()) },
            Some((row, left)) => {
                Lease::Of { owner: row.owner, left: Duration::from_micros(u64::try_from(left).unwrap_or_default()) }
            }
            None => Lease::Of { owner: "whoever removed its row".to_owned(), left: Duration::ZERO },
        })
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), WarehouseError> {
        use lease::Column as C;
        lease::Entity::update_many()
            .col_expr(C::HeldUntil, Expr::val(text(DateTime::UNIX_EPOCH)))
            .filter(C::Name.eq(name))
            .filter(C::Owner.eq(owner))
            .exec(&self.db)
            .await
            .map(drop)
            .map_err(|e| from_db_err("giving a lease back in bief_lease", &e))
    }

    async fn done(&self, name: &str, owner: &str, moment: DateTime<Utc>) -> Result<bool, WarehouseError> {
        use lease::Column as C;
        let put = lease::Entity::update_many()
            .col_expr(C::HeldUntil, Expr::val(text(DateTime::UNIX_EPOCH)))
            .col_expr(C::DoneFor, Expr::val(text(moment)))
            .filter(C::Name.eq(name))
            .filter(C::Owner.eq(owner))
            .exec(&self.db)
            .await
            .map_err(|e| from_db_err("giving a lease back in bief_lease", &e))?;
        Ok(put.rows_affected == 1)
    }

    async fn rebuild(&self, aggregate: &str) -> Result<Option<Rebuild>, WarehouseError> {
        let found = rebuild::Entity::find_by_id(aggregate.to_owned()).one(&self.db).await;
        let row = found.map_err(|e| from_db_err("reading bief_rebuild", &e))?;
        Ok(row.map(|row| Rebuild {
            started_at: row.started_at.and_utc(),
            done_until: row.done_until.map(|at| at.and_utc()),
            buckets: u64::try_from(row.buckets).unwrap_or_default(),
        }))
    }

    async fn put_rebuild(&self, aggregate: &str, rebuild: &Rebuild) -> Result<(), WarehouseError> {
        use rebuild::Column as C;
        let put = Query::insert()
            .into_table(rebuild::Entity)
            .columns([C::Aggregate, C::StartedAt, C::DoneUntil, C::Buckets])
            .values_panic([
                aggregate.into(),
                text(rebuild.started_at).into(),
                Value::from(rebuild.done_until.map(text)).into(),
                i64::try_from(rebuild.buckets).unwrap_or(i64::MAX).into(),
            ])
            .on_conflict(
                OnConflict::column(C::Aggregate).update_columns([C::StartedAt, C::DoneUntil, C::Buckets]).to_owned(),
            )
            .to_owned();
        self.db.execute(&put).await.map(drop).map_err(|e| from_db_err(REBUILDING, &e))
    }

    async fn end_rebuild(&self, aggregate: &str) -> Result<(), WarehouseError> {
        let removed = rebuild::Entity::delete_by_id(aggregate.to_owned()).exec(&self.db).await;
        removed.map(drop).map_err(|e| from_db_err(REBUILDING, &e))
    }
}
