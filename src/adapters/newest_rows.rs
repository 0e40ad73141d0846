//! The newest rows of a table, for people who look: the last ones by primary key, so that an index serves the query
//! whatever the table holds. The same on MySQL, MariaDB and SQLite, by asking for every value as text. Reads only, on a
//! connection of its own, and must never read more of a value than is shown.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::Value;

use super::bookkeeping::connect::{Sessions, connect};
use super::sql_errors::from_db_err;
use super::warehouse;
use crate::config::WarehouseConfig;
use crate::core::schema::{Column, ColumnKind, Table};
use crate::core::{shown, time};
use crate::ports::{NewestRows, OpenRowReader, RowReader, WarehouseError};

/// Characters of a value that are read.
const SHOWN: usize = 256;

/// How the HTTP side opens it. The caller limits each call, and opens another after one that it gave up.
pub fn open(settings: &WarehouseConfig) -> OpenRowReader {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move {
            let db = connect(&settings, Sessions::Few).await?;
            Ok(Box::new(SqlRowReader { settings, db, tables: HashMap::new() }) as Box<dyn RowReader>)
        })
    })
}

struct SqlRowReader {
    settings: WarehouseConfig,
    db: DatabaseConnection,
    /// As asked for, once it was found; forgotten when a query of it fails, since it may have been changed.
    tables: HashMap<String, Arc<Table>>,
}

impl SqlRowReader {
    async fn table(&mut self, asked: &str) -> Result<Option<Arc<Table>>, WarehouseError> {
        if let Some(known) = self.tables.get(asked) {
            return Ok(Some(Arc::clone(known)));
        }
        let mut catalog = warehouse::catalog(&self.settings).await?;
        let found = catalog.tables(&[asked]).await?.pop().map(Arc::new);
        if let Some(table) = &found {
            self.tables.insert(asked.to_owned(), Arc::clone(table));
        }
        Ok(found)
    }
}

#[async_trait(?Send)]
impl RowReader for SqlRowReader {
    async fn newest(&mut self, table: &str, limit: usize) -> Result<Option<NewestRows>, WarehouseError> {
        let asked = table;
        let Some(table) = self.table(asked).await?.filter(|table| !table.primary_key.is_empty()) else {
            return Ok(None);
        };
        let statement = Statement::from_string(self.db.get_database_backend(), sql(&table, limit));
        let read = match self.db.query_all_raw(statement).await {
            Ok(read) => read,
            Err(error) => {
                self.tables.remove(asked);
                return Err(from_db_err("reading the newest rows", &error));
            }
        };
        let mut rows = Vec::with_capacity(read.len());
        for row in &read {
            let mut values = Vec::with_capacity(table.columns.len());
            for (at, column) in table.columns.iter().enumerate() {
                let text: Option<String> =
                    row.try_get("", &alias(at)).map_err(|e| from_db_err("reading the newest rows", &e))?;
                values.push(text.map_or(Value::Null, |text| value(&column.kind, text)));
            }
            rows.push(values);
        }
        let name = |column: &Column| column.name.clone();
        Ok(Some(NewestRows {
            table: table.name.clone(),
            key: table.primary_key.iter().map(|at| name(&table.columns[*at])).collect(),
            columns: table.columns.iter().map(name).collect(),
            rows,
        }))
    }
}

/// Column names could clash with each other in a driver's eyes; these do not.
fn alias(at: usize) -> String {
    format!("c{at}")
}

/// Backticks quote on all three databases, and CHAR is text on all three; a name can't be bound. The hint is a comment
/// to all but MySQL: a look that takes longer is ended there too, not only here.
fn sql(table: &Table, limit: usize) -> String {
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let columns: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let name = quoted(&column.name);
            let shown = match column.kind {
                // To SQLite the digits of null are an empty text.
                ColumnKind::Binary { .. } => {
                    format!("CASE WHEN {name} IS NOT NULL THEN HEX(SUBSTR({name}, 1, {})) END", SHOWN / 2)
                }
                _ => format!("SUBSTR(CAST({name} AS CHAR), 1, {SHOWN})"),
            };
            format!("{shown} AS {}", alias(at))
        })
        .collect();
    let order: Vec<String> =
        table.primary_key.iter().map(|at| format!("{} DESC", quoted(&table.columns[*at].name))).collect();
    format!(
        "SELECT /*+ MAX_EXECUTION_TIME(2000) */ {} FROM {} ORDER BY {} LIMIT {limit}",
        columns.join(", "),
        quoted(&table.name),
        order.join(", ")
    )
}

/// As samples of records tell the same value. What is not as its column says is told as it is.
fn value(kind: &ColumnKind, text: String) -> Value {
    match kind {
        ColumnKind::Integer { .. } => match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(n), _) => n.into(),
            (_, Ok(n)) => n.into(),
            _ => text.into(),
        },
        ColumnKind::Float { .. } => match text.parse::<f64>() {
            Ok(n) if n.is_finite() => n.into(),
            _ => text.into(),
        },
        ColumnKind::DateTime { .. } => match time::parse_datetime(&text) {
            Some(micros) => shown::moment(micros).into(),
            None => text.into(),
        },
        ColumnKind::Time { .. } => without_empty_fraction(text).into(),
        _ => text.into(),
    }
}

fn without_empty_fraction(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Load, Secret, Tls};
    use crate::core::schema::Charset;

    fn settings(path: &std::path::Path) -> WarehouseConfig {
        let url = Secret::new(format!("sqlite://{}", path.display()));
        WarehouseConfig { url, tls: Tls::Disable, ca: None, migrations: None, load: Load::Auto }
    }

    async fn with_sales(folder: &tempfile::TempDir) -> Box<dyn RowReader> {
        let settings = settings(&folder.path().join("bief.db"));
        warehouse::prepare(&settings, folder.path()).await.unwrap();
        let db = connect(&settings, Sessions::Few).await.unwrap();
        for sql in [
            "CREATE TABLE sale (sold_at DATETIME(6) NOT NULL, number BIGINT NOT NULL, amount DECIMAL(9,2), \
             weight DOUBLE, note VARCHAR(500), digest VARBINARY(8), PRIMARY KEY (sold_at, number))",
            "INSERT INTO sale VALUES ('2024-05-01 10:00:00.000000', 1, '12.50', 0.5, NULL, x'00ff')",
            "INSERT INTO sale VALUES ('2024-05-01 10:00:00.250000', 2, NULL, NULL, 'a''b', NULL)",
            "INSERT INTO sale VALUES ('2024-04-30 23:59:59.000000', 3, '1.00', 2.0, 'old', NULL)",
            "CREATE TABLE heap (note VARCHAR(500))",
        ] {
            db.execute_unprepared(sql).await.unwrap();
        }
        open(&settings)().await.unwrap()
    }

    #[tokio::test]
    async fn the_last_rows_by_key_come_first_with_values_as_json() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = with_sales(&folder).await;
        let newest = reader.newest("SALE", 2).await.unwrap().unwrap();
        assert_eq!((newest.table.as_str(), newest.key), ("sale", vec!["sold_at".to_owned(), "number".to_owned()]));
        assert_eq!(newest.columns, ["sold_at", "number", "amount", "weight", "note", "digest"]);
        let rows = serde_json::to_string(&newest.rows).unwrap();
        assert_eq!(
            rows,
            "[[\"2024-05-01T10:00:00.25Z\",2,null,null,\"a'b\",null],\
             [\"2024-05-01T10:00:00Z\",1,\"12.5\",0.5,null,\"00FF\"]]"
        );
        assert_eq!(reader.newest("nothing", 2).await.unwrap(), None);
        assert_eq!(reader.newest("heap", 2).await.unwrap(), None, "without a key nothing is newest");
    }

    #[test]
    fn names_are_quoted_and_long_values_cut_by_the_database() {
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            kind,
            nullable: false,
            has_default: false,
            generated: false,
            declared: String::new(),
        };
        let text = ColumnKind::Text { max_chars: None, max_bytes: None, charset: Charset::Utf8mb4, padded: false };
        let table = Table {
            name: "a`b".to_owned(),
            columns: vec![column("x` y", text), column("z", ColumnKind::Binary { max_bytes: None, padded: false })],
            primary_key: vec![1, 0],
            foreign_keys: Vec::new(),
        };
        assert_eq!(
            sql(&table, 7),
            "SELECT /*+ MAX_EXECUTION_TIME(2000) */ SUBSTR(CAST(`x`` y` AS CHAR), 1, 256) AS c0, \
             CASE WHEN `z` IS NOT NULL THEN HEX(SUBSTR(`z`, 1, 128)) END AS c1 FROM `a``b` ORDER BY `z` DESC, `x`` y` DESC LIMIT 7"
        );
    }
}
