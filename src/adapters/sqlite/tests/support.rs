//! A database file with a small domain, and rows for it.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Row};
use tempfile::TempDir;

use crate::adapters::warehouse;
use crate::config::{Load, Secret, Tls, WarehouseConfig};
use crate::core::cell::{Cell, Span};
use crate::core::schema::Table;
use crate::core::target::{OnConflict, Rows, Target};
use crate::messages::OffsetMove;
use crate::ports::{Bookkeeping, Claim, Warehouse, Written};

/// Tables for all rules: a parent, a child with every kind of constraint, and a table that points at itself.
pub const DOMAIN: &str = "
CREATE TABLE maker (code VARCHAR(3) NOT NULL PRIMARY KEY, name VARCHAR(40), city VARCHAR(40));
CREATE TABLE item (
  maker VARCHAR(3) NOT NULL, number INTEGER NOT NULL,
  label VARCHAR(20), weight DOUBLE, price DECIMAL(8,2), made DATETIME(6), sold DATE, picture BLOB,
  stock INTEGER NOT NULL DEFAULT 1, serial VARCHAR(20), part_of INTEGER,
  PRIMARY KEY (maker, number),
  CONSTRAINT item_maker FOREIGN KEY (maker) REFERENCES maker (code),
  CONSTRAINT item_serial UNIQUE (serial),
  CONSTRAINT item_stock CHECK (stock >= 0));
CREATE TABLE review (id BIGINT NOT NULL PRIMARY KEY, maker VARCHAR(3), number INTEGER,
  CONSTRAINT review_item FOREIGN KEY (maker, number) REFERENCES item (maker, number) ON DELETE CASCADE);
CREATE TABLE node (id BIGINT NOT NULL PRIMARY KEY, parent BIGINT,
  CONSTRAINT node_parent FOREIGN KEY (parent) REFERENCES node (id));
";

pub struct Fixture {
    pub folder: TempDir,
    pub settings: WarehouseConfig,
}

impl Fixture {
    /// A fresh file with the bookkeeping and [`DOMAIN`].
    pub async fn new() -> Self {
        Self::with_domain(DOMAIN).await
    }

    pub async fn with_domain(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let migrations = folder.path().join("migrations");
        std::fs::create_dir(&migrations).unwrap();
        std::fs::write(migrations.join("0001_domain.sql"), sql).unwrap();
        let file = folder.path().join("var/deep/bief.db");
        let settings = WarehouseConfig {
            url: Secret::new(format!("sqlite://{}", file.display())),
            tls: Tls::Disable,
            ca: None,
            migrations: Some(PathBuf::from("migrations")),
            load: Load::Auto,
        };
        warehouse::prepare(&settings, folder.path()).await.unwrap();
        Self { folder, settings }
    }

    pub async fn warehouse(&self) -> Box<dyn Warehouse> {
        warehouse::open_warehouse(&self.settings)().await.unwrap()
    }

    pub async fn bookkeeping(&self) -> Box<dyn Bookkeeping> {
        warehouse::open_bookkeeping(&self.settings)().await.unwrap()
    }

    pub async fn table(&self, name: &str) -> Arc<Table> {
        let mut catalog = warehouse::catalog(&self.settings).await.unwrap();
        Arc::new(catalog.tables(&[name]).await.unwrap().remove(0))
    }

    /// A target with these columns.
    pub async fn target(&self, table: &str, columns: &[&str], on_conflict: OnConflict) -> Target {
        let table = self.table(table).await;
        let columns: Vec<usize> = columns.iter().map(|c| table.column(c).unwrap()).collect();
        let key = table.primary_key.iter().map(|k| columns.iter().position(|c| c == k).unwrap()).collect();
        Target { table, columns, key, on_conflict, dimension: false }
    }

    /// Runs statements as another client would.
    pub async fn sql(&self, sql: &str) {
        let mut connection = self.raw().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }

    /// Rows as text, columns joined by `|`.
    pub async fn query(&self, sql: &str) -> Vec<String> {
        let mut connection = self.raw().await;
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap();
        rows.iter()
            .map(|row| {
                let cells: Vec<String> = (0..row.len())
                    .map(|c| {
                        row.try_get_unchecked::<Option<String>, _>(c).unwrap().unwrap_or_else(|| "null".to_owned())
                    })
                    .collect();
                cells.join("|")
            })
            .collect()
    }

    async fn raw(&self) -> SqliteConnection {
        super::super::options(self.settings.url.expose()).unwrap().connect().await.unwrap()
    }
}

/// Values of a row, before they are cells of an arena.
#[derive(Debug, Clone)]
pub enum V {
    Null,
    I(i64),
    U(u64),
    F(f64),
    D(&'static str),
    T(String),
    B(Vec<u8>),
    At(i64),
    On(i32),
}

pub fn t(text: &str) -> V {
    V::T(text.to_owned())
}

/// Cells and their arena.
#[derive(Default)]
pub struct Batch {
    pub cells: Vec<Cell>,
    pub arena: Vec<u8>,
}

impl Batch {
    pub fn of(rows: &[Vec<V>]) -> Self {
        let mut batch = Self::default();
        for value in rows.iter().flatten() {
            batch.push(value);
        }
        batch
    }

    fn push(&mut self, value: &V) {
        let mut span = |bytes: &[u8]| {
            let span = Span::new(self.arena.len(), bytes.len());
            self.arena.extend_from_slice(bytes);
            span
        };
        let cell = match value {
            V::Null => Cell::Null,
            V::I(v) => Cell::Int(*v),
            V::U(v) => Cell::UInt(*v),
            V::F(v) => Cell::Float(*v),
            V::D(v) => Cell::Decimal(span(v.as_bytes())),
            V::T(v) => Cell::Text(span(v.as_bytes())),
            V::B(v) => Cell::Bytes(span(v)),
            V::At(v) => Cell::DateTime(*v),
            V::On(v) => Cell::Date(*v),
        };
        self.cells.push(cell);
    }
}

/// Writes rows with all of the target's columns, in the open transaction.
pub async fn write(warehouse: &mut dyn Warehouse, target: &Target, rows: &[Vec<V>]) -> Written {
    let columns: Vec<usize> = (0..target.columns.len()).collect();
    let batch = Batch::of(rows);
    warehouse.write(Rows { target, columns: &columns, cells: &batch.cells, arena: &batch.arena }).await.unwrap()
}

/// Writes rows in a transaction of their own; nothing may be refused. Answers which were unchanged.
pub async fn write_and_commit(warehouse: &mut dyn Warehouse, target: &Target, rows: &[Vec<V>]) -> Vec<usize> {
    warehouse.begin().await.unwrap();
    let written = write(warehouse, target, rows).await;
    assert_eq!(written.refused, []);
    warehouse.commit().await.unwrap();
    written.unchanged
}

pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_700_000_000_123_400).unwrap()
}

pub fn claim(partition: i32, start_offset: i64) -> Claim {
    Claim { partition, topic_id: "id".to_owned(), start_offset }
}

pub fn step(partition: i32, epoch: i64, from: i64, to: i64) -> OffsetMove {
    OffsetMove { partition, epoch, from, to, gaps: Vec::new() }
}
