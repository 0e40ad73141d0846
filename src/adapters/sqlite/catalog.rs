//! The tables of an SQLite file as the decoder needs to know them. Reads only.

use async_trait::async_trait;
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::sqlx::{self, ConnectOptions};

use super::{connect, declared};
use crate::adapters::sql_errors::warehouse_error;
use crate::config::WarehouseConfig;
use crate::core::schema::{Column, ForeignKey, Table};
use crate::ports::{Catalog, WarehouseError};

/// One connection that reads the schema.
pub struct SqliteCatalog {
    connection: SqliteConnection,
}

/// Opens the file of these settings, which must exist.
pub async fn open(settings: &WarehouseConfig) -> Result<SqliteCatalog, WarehouseError> {
    let connection = connect::options(settings.url.expose())?.connect().await;
    Ok(SqliteCatalog { connection: connection.map_err(|e| warehouse_error("opening the database file", &e))? })
}

/// `pragma_table_xinfo`: name, type, notnull, dflt_value, pk (position in the key from 1), hidden.
type ColumnRow = (String, String, bool, Option<String>, i64, i64);
/// `pragma_foreign_key_list`: id, parent, column, column of the parent (none where its primary key is meant).
type KeyRow = (i64, String, String, Option<String>);

impl SqliteCatalog {
    async fn table(&mut self, asked: &str) -> Result<Option<Table>, WarehouseError> {
        let found: Option<(String, String)> =
            sqlx::query_as("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE")
                .bind(asked)
                .fetch_optional(&mut self.connection)
                .await
                .map_err(failed)?;
        let Some((name, sql)) = found else { return Ok(None) };
        let rows = self.columns(&name).await?;
        let key = key_of(&rows);
        let single_key = key.len() == 1;
        let columns: Vec<Column> = rows
            .iter()
            .map(|(name, declared, not_null, default, in_key, hidden)| {
                // An INTEGER PRIMARY KEY is the row's id, which SQLite gives by itself.
                let row_id =
                    single_key && *in_key > 0 && declared.eq_ignore_ascii_case("INTEGER") && !without_rowid(&sql);
                Column {
                    name: name.clone(),
                    kind: declared::kind(declared),
                    // SQLite lets nulls into the primary key of a plain table; MySQL does not, and bief writes none.
                    nullable: !not_null && *in_key == 0,
                    has_default: default.is_some() || row_id,
                    generated: *hidden != 0,
                    declared: declared.to_ascii_lowercase(),
                }
            })
            .collect();
        let foreign_keys = self.foreign_keys(&name, &columns).await?;
        Ok(Some(Table { name, columns, primary_key: key, foreign_keys }))
    }

    async fn columns(&mut self, table: &str) -> Result<Vec<ColumnRow>, WarehouseError> {
        sqlx::query_as("SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid")
            .bind(table)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)
    }

    async fn foreign_keys(&mut self, table: &str, columns: &[Column]) -> Result<Vec<ForeignKey>, WarehouseError> {
        let rows: Vec<KeyRow> = sqlx::query_as(
            "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq",
        )
        .bind(table)
        .fetch_all(&mut self.connection)
        .await
        .map_err(failed)?;
        let mut keys = Vec::new();
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            let parent = &group[0].1;
            let names: Vec<&str> = group.iter().map(|row| row.2.as_str()).collect();
            let parent_columns = match group.iter().map(|row| row.3.clone()).collect::<Option<Vec<String>>>() {
                Some(named) => named,
                None => {
                    let rows = self.columns(parent).await?;
                    key_of(&rows).into_iter().map(|c| rows[c].0.clone()).collect()
                }
            };
            keys.push(ForeignKey {
                // SQLite does not tell the constraint's own name.
                name: format!("{table} ({}) -> {parent}", names.join(", ")),
                columns: names
                    .iter()
                    .filter_map(|name| columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
                    .collect(),
                parent: parent.clone(),
                parent_columns,
            });
        }
        Ok(keys)
    }
}

#[async_trait(?Send)]
impl Catalog for SqliteCatalog {
    async fn tables(&mut self, names: &[&str]) -> Result<Vec<Table>, WarehouseError> {
        let mut tables: Vec<Table> = Vec::new();
        for name in names {
            if let Some(table) = self.table(name).await?
                && tables.iter().all(|t| t.name != table.name)
            {
                tables.push(table);
            }
        }
        Ok(tables)
    }
}

/// Positions of the primary key's columns, in the key's order.
fn key_of(rows: &[ColumnRow]) -> Vec<usize> {
    let mut key: Vec<usize> = (0..rows.len()).filter(|&c| rows[c].4 > 0).collect();
    key.sort_by_key(|&c| rows[c].4);
    key
}

/// Whether the table's own key is its storage order: the words stand after the last parenthesis.
fn without_rowid(sql: &str) -> bool {
    let options = sql.rsplit(')').next().unwrap_or_default().to_ascii_uppercase();
    options.split_whitespace().collect::<Vec<_>>().join(" ").contains("WITHOUT ROWID")
}

fn failed(error: sqlx::Error) -> WarehouseError {
    warehouse_error("reading the schema of the database file", &error)
}
