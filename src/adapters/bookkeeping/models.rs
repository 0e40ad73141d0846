//! Versions of forecasts' models, the same on MySQL, MariaDB and SQLite. Lists never read coefficients.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Select, SqlErr, TransactionTrait,
};
use sea_orm_migration::SchemaManager;

use super::connect::{Sessions, connect};
use super::entities::{audit, model};
use super::immediate;
use super::leases::text;
use super::limits::Limited;
use super::sql_bookkeeping::SqlBookkeeping;
use crate::adapters::sql_errors::from_db_err;
use crate::config::WarehouseConfig;
use crate::core::forecast::ModelVersion;
use crate::core::forecast::model::Range;
use crate::ports::WarehouseError;
use crate::ports::models::{ModelChange, ModelHead, Models, OpenModels, Promoted, StoredModel};

/// Two that put a version down at once want the same number: the later one takes the next.
const PUT_ROUNDS: u32 = 20;

const READING: &str = "reading bief_model";
const PUTTING: &str = "putting a version down in bief_model";
const PROMOTING: &str = "promoting a version in bief_model";

/// How an actor or a command opens it. The tables must be there: see [`super::migrate`].
pub fn open(settings: &WarehouseConfig) -> OpenModels {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move { Ok(models_of(connect(&settings, Sessions::Few).await?)) })
    })
}

/// The same for reading, where the table is there.
pub async fn open_if_there(settings: &WarehouseConfig) -> Result<Option<Box<dyn Models>>, WarehouseError> {
    let db = connect(settings, Sessions::Few).await?;
    let there = SchemaManager::new(&db).has_table("bief_model").await.map_err(|e| from_db_err(READING, &e))?;
    Ok(there.then(|| models_of(db)))
}

fn models_of(db: DatabaseConnection) -> Box<dyn Models> {
    let sqlite = db.get_database_backend() == DbBackend::Sqlite;
    let books = SqlBookkeeping::new(db);
    if sqlite { Box::new(books) } else { Box::new(Limited(books)) }
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn version(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Columns of a version without its coefficients, in the order of `HEAD`.
type HeadRow =
    (String, i64, NaiveDateTime, String, String, NaiveDateTime, NaiveDateTime, Option<NaiveDateTime>, String, String);

const HEAD: [model::Column; 10] = [
    model::Column::Forecast,
    model::Column::Version,
    model::Column::TrainedAt,
    model::Column::CodeVersion,
    model::Column::InputHash,
    model::Column::DataFrom,
    model::Column::DataTo,
    model::Column::PromotedAt,
    model::Column::Verdict,
    model::Column::Scores,
];

fn head(row: HeadRow, champion: Option<i64>) -> ModelHead {
    let (forecast, number, trained_at, code_version, input_hash, from, to, promoted_at, verdict, scores) = row;
    ModelHead {
        forecast,
        version: version(number),
        trained_at: trained_at.and_utc(),
        champion: champion == Some(number),
        promoted_at: promoted_at.map(|at| at.and_utc()),
        verdict,
        code_version,
        input_hash,
        data: Range { from: from.and_utc(), to: to.and_utc() },
        // Of another bief: the list goes on without them.
        horizons: serde_json::from_str(&scores).unwrap_or_default(),
    }
}

/// Those that were promoted, the last one first.
fn promoted(forecast: &str) -> Select<model::Entity> {
    use model::Column as C;
    model::Entity::find()
        .filter(C::Forecast.eq(forecast))
        .filter(C::PromotedAt.is_not_null())
        .order_by_desc(C::PromotedAt)
        .order_by_desc(C::Version)
}

async fn champions(db: &impl ConnectionTrait, forecast: &str, limit: u64) -> Result<Vec<(i64, NaiveDateTime)>, DbErr> {
    use model::Column as C;
    promoted(forecast).select_only().columns([C::Version, C::PromotedAt]).limit(limit).into_tuple().all(db).await
}

async fn audit(
    db: &impl ConnectionTrait,
    action: &str,
    forecast: &str,
    change: &ModelChange,
    to: Promoted,
) -> Result<(), DbErr> {
    use audit::Column as C;
    let request = serde_json::json!({ "forecast": forecast, "version": to.version, "reason": change.reason });
    let insert = Query::insert()
        .into_table(audit::Entity)
        .columns([C::ChangedAt, C::Daemon, C::Peer, C::Action, C::Letters, C::Request, C::Outcome])
        .values_panic([
            text(change.at).into(),
            change.daemon.as_str().into(),
            change.peer.chars().take(64).collect::<String>().into(),
            action.into(),
            "[]".into(),
            request.to_string().into(),
            serde_json::json!(to).to_string().into(),
        ])
        .to_owned();
    db.execute(&insert).await.map(drop)
}

async fn set_promoted(
    db: &impl ConnectionTrait,
    forecast: &str,
    version: i64,
    at: Option<DateTime<Utc>>,
) -> Result<(), DbErr> {
    use model::Column as C;
    model::Entity::update_many()
        .col_expr(C::PromotedAt, Expr::val(at.map(text)))
        .filter(C::Forecast.eq(forecast))
        .filter(C::Version.eq(version))
        .exec(db)
        .await
        .map(drop)
}

async fn promote_within(
    db: &DatabaseTransaction,
    forecast: &str,
    wanted: i64,
    change: &ModelChange,
) -> Result<Option<Promoted>, DbErr> {
    use model::Column as C;
    let row: Option<i64> = model::Entity::find_by_id((forecast.to_owned(), wanted))
        .select_only()
        .column(C::Version)
        .into_tuple()
        .one(db)
        .await?;
    if row.is_none() {
        return Ok(None);
    }
    let last = champions(db, forecast, 1).await?.pop();
    let promoted = Promoted { version: version(wanted), before: last.map(|(number, _)| version(number)) };
    if last.is_some_and(|(number, _)| number == wanted) {
        return Ok(Some(promoted));
    }
    // A clock that was set back must not leave the old champion in its place.
    let behind = last.map(|(_, at)| at.and_utc() + Duration::microseconds(1));
    set_promoted(db, forecast, wanted, Some(behind.map_or(change.at, |behind| behind.max(change.at)))).await?;
    audit(db, "promote", forecast, change, promoted).await?;
    Ok(Some(promoted))
}

async fn rollback_within(
    db: &DatabaseTransaction,
    forecast: &str,
    change: &ModelChange,
) -> Result<Option<Promoted>, DbErr> {
    let [(last, _), (before, _)] = champions(db, forecast, 2).await?[..] else { return Ok(None) };
    set_promoted(db, forecast, last, None).await?;
    let promoted = Promoted { version: version(before), before: Some(version(last)) };
    audit(db, "rollback", forecast, change, promoted).await?;
    Ok(Some(promoted))
}

impl SqlBookkeeping {
    async fn begin_change(&self) -> Result<DatabaseTransaction, DbErr> {
        match self.db.get_database_backend() {
            DbBackend::Sqlite => self.db.begin_with_options(immediate()).await,
            _ => self.db.begin().await,
        }
    }

    async fn put_once(&self, model: &ModelVersion, verdict: &str) -> Result<u64, DbErr> {
        use model::Column as C;
        let last: Option<i64> = model::Entity::find()
            .filter(C::Forecast.eq(model.forecast.as_str()))
            .order_by_desc(C::Version)
            .select_only()
            .column(C::Version)
            .into_tuple()
            .one(&self.db)
            .await?;
        let next = last.unwrap_or(0) + 1;
        let stored = ModelVersion { version: version(next), ..model.clone() };
        let json = |e: serde_json::Error| DbErr::Custom(e.to_string());
        let insert = Query::insert()
            .into_table(model::Entity)
            .columns([
                C::Forecast,
                C::Version,
                C::TrainedAt,
                C::CodeVersion,
                C::InputHash,
                C::DataFrom,
                C::DataTo,
                C::Verdict,
                C::Scores,
                C::Model,
            ])
            .values_panic([
                model.forecast.as_str().into(),
                next.into(),
                text(model.trained_at).into(),
                model.code_version.as_str().into(),
                model.input_hash.as_str().into(),
                text(model.data.from).into(),
                text(model.data.to).into(),
                verdict.into(),
                serde_json::to_string(&stored.scores()).map_err(json)?.into(),
                serde_json::to_string(&stored).map_err(json)?.into(),
            ])
            .to_owned();
        self.db.execute(&insert).await?;
        Ok(stored.version)
    }
}

#[async_trait(?Send)]
impl Models for SqlBookkeeping {
    async fn put(&self, model: &ModelVersion, verdict: &str) -> Result<u64, WarehouseError> {
        let mut round = 0;
        loop {
            round += 1;
            match self.put_once(model, verdict).await {
                Err(error)
                    if round < PUT_ROUNDS && matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {}
                other => return other.map_err(|e| from_db_err(PUTTING, &e)),
            }
        }
    }

    async fn list(&self, forecast: &str, below: Option<u64>, limit: u64) -> Result<Vec<ModelHead>, WarehouseError> {
        use model::Column as C;
        let mut find = model::Entity::find().filter(C::Forecast.eq(forecast));
        if let Some(below) = below {
            find = find.filter(C::Version.lt(number(below)));
        }
        let read = async {
            let champion = champions(&self.db, forecast, 1).await?.pop().map(|(number, _)| number);
            let page = find.order_by_desc(C::Version).limit(limit).select_only().columns(HEAD);
            let rows: Vec<HeadRow> = page.into_tuple().all(&self.db).await?;
            Ok(rows.into_iter().map(|row| head(row, champion)).collect())
        };
        read.await.map_err(|e: DbErr| from_db_err(READING, &e))
    }

    async fn get(&self, forecast: &str, version: u64) -> Result<Option<StoredModel>, WarehouseError> {
        let read = async {
            let champion = champions(&self.db, forecast, 1).await?.pop().map(|(number, _)| number);
            let row = model::Entity::find_by_id((forecast.to_owned(), number(version))).one(&self.db).await?;
            Ok(row.map(|row| (row, champion)))
        };
        let Some((row, champion)) = read.await.map_err(|e: DbErr| from_db_err(READING, &e))? else { return Ok(None) };
        let model = serde_json::from_str(&row.model).map_err(|error| WarehouseError::Fatal {
            what: format!(
                "bief_model holds version {version} of the forecast {forecast} in a form that this bief does not \
                 read ({error}): train a new one"
            ),
        })?;
        let row = (
            row.forecast,
            row.version,
            row.trained_at,
            row.code_version,
            row.input_hash,
            row.data_from,
            row.data_to,
            row.promoted_at,
            row.verdict,
            row.scores,
        );
        Ok(Some(StoredModel { head: head(row, champion), model }))
    }

    async fn champion(&self, forecast: &str) -> Result<Option<ModelHead>, WarehouseError> {
        let row: Option<HeadRow> = promoted(forecast)
            .select_only()
            .columns(HEAD)
            .into_tuple()
            .one(&self.db)
            .await
            .map_err(|e| from_db_err(READING, &e))?;
        Ok(row.map(|row| {
            let champion = Some(row.1);
            head(row, champion)
        }))
    }

    async fn promote(
        &self,
        forecast: &str,
        version: u64,
        change: &ModelChange,
    ) -> Result<Option<Promoted>, WarehouseError> {
        let told = |e: DbErr| from_db_err(PROMOTING, &e);
        let transaction = self.begin_change().await.map_err(told)?;
        // Dropped, it is rolled back.
        let promoted = promote_within(&transaction, forecast, number(version), change).await.map_err(told)?;
        transaction.commit().await.map_err(told)?;
        Ok(promoted)
    }

    async fn rollback(&self, forecast: &str, change: &ModelChange) -> Result<Option<Promoted>, WarehouseError> {
        let told = |e: DbErr| from_db_err(PROMOTING, &e);
        let transaction = self.begin_change().await.map_err(told)?;
        let promoted = rollback_within(&transaction, forecast, change).await.map_err(told)?;
        transaction.commit().await.map_err(told)?;
        Ok(promoted)
    }
}
