//! What a table holds, as literals of SQLite's own, for whoever compares it with what it should hold. Reads only.

use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Row};

use super::connect;
use super::shape::quoted;
use crate::adapters::sql_errors::warehouse_error;
use crate::config::WarehouseConfig;
use crate::core::cell::Cell;
use crate::core::schema::Table;
use crate::core::time;
use crate::core::value::Fit;
use crate::ports::WarehouseError;

/// All rows in the order of the primary key, each column as a literal: `7`, `'a'`, `NULL`.
pub async fn stored_rows(settings: &WarehouseConfig, table: &Table) -> Result<Vec<Vec<String>>, WarehouseError> {
    let failed = |error: sqlx::Error| warehouse_error(&format!("reading {}", table.name), &error);
    let mut connection = connect::options(settings.url.expose())?.connect().await.map_err(failed)?;
    let columns: Vec<String> = table.columns.iter().map(|c| format!("quote({})", quoted(&c.name))).collect();
    let key: Vec<String> = table.primary_key.iter().map(|&c| quoted(&table.columns[c].name)).collect();
    let order = if key.is_empty() { String::new() } else { format!(" ORDER BY {}", key.join(", ")) };
    let sql = format!("SELECT {} FROM {}{order}", columns.join(", "), quoted(&table.name));
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.map_err(failed)?;
    rows.iter().map(|row| (0..columns.len()).map(|at| row.try_get(at).map_err(failed)).collect()).collect()
}

/// The literal under which a value that fits its column is found again. Numbers may be written otherwise there.
pub fn literal(fit: &Fit<'_>) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let bytes = |text: &str| {
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        format!("X'{hex}'")
    };
    match fit {
        Fit::Text(value) => text(value),
        Fit::Unescaped(value) => text(value),
        Fit::Decimal(number) => (*number).to_owned(),
        Fit::Bytes(value) => bytes(value),
        Fit::UnescapedBytes(value) => bytes(value),
        Fit::Cell(cell) => match cell {
            Cell::Int(value) => value.to_string(),
            Cell::UInt(value) => value.to_string(),
            Cell::Float(value) => value.to_string(),
            Cell::DateTime(micros) => text(&time::datetime_text(*micros)),
            Cell::Date(days) => text(&time::text(|out| time::write_date(out, *days))),
            Cell::Time(micros) => text(&time::text(|out| time::write_time(out, *micros))),
            // The others are spans of an arena, which no value of its own is.
            Cell::Missing | Cell::Null | Cell::Decimal(_) | Cell::Text(_) | Cell::Bytes(_) => "NULL".to_owned(),
        },
    }
}
