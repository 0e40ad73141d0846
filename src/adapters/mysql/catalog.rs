//! The warehouse's real tables, read from information_schema. What is not understood is [`ColumnKind::Other`]; never a
//! guess.

use async_trait::async_trait;
use mysql_async::prelude::FromValue;
use mysql_async::{Row, Value};

use super::connection::{Address, Session};
use super::errors::Failure;
use super::grants;
use crate::core::schema::{Charset, Column, ColumnKind, ForeignKey, Table};
use crate::ports::{Catalog, MissingGrants, WarehouseError};

/// Reads tables over a connection of its own.
pub(super) struct MySqlCatalog {
    address: Address,
    session: Option<Session>,
}

impl MySqlCatalog {
    pub fn new(address: Address) -> Self {
        Self { address, session: None }
    }

    async fn take(&mut self) -> Result<Session, Failure> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => self.address.connect().await,
        }
    }
}

#[async_trait(?Send)]
impl Catalog for MySqlCatalog {
    async fn tables(&mut self, names: &[&str]) -> Result<Vec<Table>, WarehouseError> {
        let mut session = self.take().await?;
        let tables = read(&mut session, names).await?;
        self.session = Some(session);
        Ok(tables)
    }

    async fn missing_grants(&mut self) -> Result<Option<MissingGrants>, WarehouseError> {
        let mut session = self.take().await?;
        let missing = grants::missing(&mut session).await?;
        self.session = Some(session);
        Ok(missing)
    }
}

async fn read(session: &mut Session, names: &[&str]) -> Result<Vec<Table>, Failure> {
    let mut tables: Vec<Table> = Vec::new();
    for name in names {
        if tables.iter().any(|table| table.name == *name) {
            continue;
        }
        if let Some(table) = read_one(session, name).await? {
            tables.push(table);
        }
    }
    Ok(tables)
}

async fn read_one(session: &mut Session, name: &str) -> Result<Option<Table>, Failure> {
    let named = || vec![Value::from(name)];
    let found: Vec<(String, Option<String>, Option<String>)> = session
        .ask(
            "SELECT t.TABLE_NAME, t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t \
             LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_NAME = ? \
             AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
            named(),
        )
        .await
        .map_err(Failure::outside_rows)?;
    let Some((table, engine, transactions)) = found.into_iter().next() else { return Ok(None) };
    if transactions.as_deref() != Some("YES") {
        return Err(Failure::Fatal(format!(
            "table {table} is stored by {}, which has no transactions, so records could not be written exactly once: \
             ALTER TABLE {table} ENGINE = InnoDB",
            engine.unwrap_or_else(|| "an unknown engine".into())
        )));
    }
    let checks: Vec<String> = if session.server.mariadb {
        session
            .ask(
                "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
                 WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ?",
                named(),
            )
            .await
            .map_err(Failure::outside_rows)?
    } else {
        Vec::new()
    };
    let described: Vec<Row> = session
        .ask(
            "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, \
             CHARACTER_MAXIMUM_LENGTH, CHARACTER_OCTET_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, \
             CHARACTER_SET_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? \
             ORDER BY ORDINAL_POSITION",
            named(),
        )
        .await
        .map_err(Failure::outside_rows)?;
    let mut columns = Vec::with_capacity(described.len());
    for row in described {
        columns.push(Described::of(row)?.column(session.server.mariadb, &checks));
    }
    let mut table = Table { name: table, columns, primary_key: Vec::new(), foreign_keys: Vec::new() };
    let keys: Vec<KeyColumn> = session
        .ask(
            "SELECT CONSTRAINT_NAME, COLUMN_NAME, \
             IF(REFERENCED_TABLE_SCHEMA = DATABASE(), NULL, REFERENCED_TABLE_SCHEMA), REFERENCED_TABLE_NAME, \
             REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION",
            named(),
        )
        .await
        .map_err(Failure::outside_rows)?;
    for (constraint, column, schema, parent, parent_column) in keys {
        let Some(position) = table.column(&column) else { continue };
        if let (Some(parent), Some(parent_column)) = (parent, parent_column) {
            let parent = schema.map_or(parent.clone(), |schema| format!("{schema}.{parent}"));
            match table.foreign_keys.last_mut().filter(|key| key.name == constraint) {
                Some(key) => {
                    key.columns.push(position);
                    key.parent_columns.push(parent_column);
                }
                None => table.foreign_keys.push(ForeignKey {
                    name: constraint,
                    columns: vec![position],
                    parent,
                    parent_columns: vec![parent_column],
                }),
            }
        } else if constraint == "PRIMARY" {
            table.primary_key.push(position);
        }
    }
    Ok(Some(table))
}

/// Constraint and column; database, where it is another, table and column that it points at.
type KeyColumn = (String, String, Option<String>, Option<String>, Option<String>);

/// A row of information_schema.COLUMNS.
#[derive(Debug, Default, Clone)]
struct Described {
    name: String,
    data_type: String,
    column_type: String,
    nullable: bool,
    default: Option<String>,
    extra: String,
    chars: Option<u64>,
    bytes: Option<u64>,
    precision: Option<u64>,
    scale: Option<u64>,
    fraction: Option<u64>,
    charset: Option<String>,
}

impl Described {
    fn of(mut row: Row) -> Result<Self, Failure> {
        Ok(Self {
            name: taken(&mut row, 0)?,
            data_type: taken::<String>(&mut row, 1)?.to_ascii_lowercase(),
            column_type: taken(&mut row, 2)?,
            nullable: taken::<String>(&mut row, 3)? == "YES",
            default: taken(&mut row, 4)?,
            extra: taken::<String>(&mut row, 5)?.to_ascii_lowercase(),
            chars: taken(&mut row, 6)?,
            bytes: taken(&mut row, 7)?,
            precision: taken(&mut row, 8)?,
            scale: taken(&mut row, 9)?,
            fraction: taken(&mut row, 10)?,
            charset: taken(&mut row, 11)?,
        })
    }

    fn column(self, mariadb: bool, checks: &[String]) -> Column {
        let json = mariadb
            && self.data_type == "longtext"
            && checks.iter().any(|check| check.eq_ignore_ascii_case(&format!("json_valid(`{}`)", self.name)));
        // MariaDB prints an absent default of a nullable column as the word NULL.
        let default = self.default.as_deref().is_some_and(|text| !(mariadb && text.eq_ignore_ascii_case("NULL")));
        Column {
            kind: if json { ColumnKind::Json } else { self.kind() },
            nullable: self.nullable,
            has_default: default || self.extra.contains("auto_increment") || self.extra.contains("default_generated"),
            generated: self.extra.contains("virtual")
                || self.extra.contains("stored")
                || self.extra.contains("persistent"),
            declared: if json { "json".into() } else { self.column_type },
            name: self.name,
        }
    }

    fn kind(&self) -> ColumnKind {
        let unsigned = self.column_type.to_ascii_lowercase().contains("unsigned");
        let integer = |bits: u32| match unsigned {
            true => ColumnKind::Integer { min: 0, max: (1_i128 << bits) - 1 },
            false => ColumnKind::Integer { min: -(1_i128 << (bits - 1)), max: (1_i128 << (bits - 1)) - 1 },
        };
        let text = |max_chars, max_bytes, padded| {
            let charset = match self.charset.as_deref() {
                Some("utf8mb4") => Charset::Utf8mb4,
                Some("utf8mb3" | "utf8") => Charset::Utf8mb3,
                Some("latin1") => Charset::Latin1,
                Some("ascii") => Charset::Ascii,
                _ => return ColumnKind::Other,
            };
            ColumnKind::Text { max_chars, max_bytes, charset, padded }
        };
        let fraction = self.fraction.unwrap_or(0).min(6) as u8;
        match self.data_type.as_str() {
            "tinyint" => integer(8),
            "smallint" => integer(16),
            "mediumint" => integer(24),
            "int" | "integer" => integer(32),
            "bigint" => integer(64),
            "year" => ColumnKind::Integer { min: 1901, max: 2155 },
            // FLOAT(M,D) and DOUBLE(M,D) round to D digits without a word.
            "float" | "double" | "real" if self.scale.is_some() => ColumnKind::Other,
            "float" => ColumnKind::Float { single: true },
            "double" | "real" => ColumnKind::Float { single: false },
            "decimal" | "numeric" => match (self.precision, self.scale) {
                (Some(precision), Some(scale)) => {
                    ColumnKind::Decimal { precision: precision as u32, scale: scale as u32, unsigned }
                }
                _ => ColumnKind::Other,
            },
            "char" | "varchar" => text(self.chars, None, self.data_type == "char"),
            "tinytext" | "text" | "mediumtext" | "longtext" => text(None, self.bytes, false),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                ColumnKind::Binary { max_bytes: self.bytes, padded: self.data_type == "binary" }
            }
            "datetime" => ColumnKind::DateTime { fraction, timestamp: false },
            "timestamp" => ColumnKind::DateTime { fraction, timestamp: true },
            "date" => ColumnKind::Date,
            "time" => ColumnKind::Time { fraction },
            "json" => ColumnKind::Json,
            "enum" => enum_values(&self.column_type).map_or(ColumnKind::Other, |values| ColumnKind::Enum { values }),
            _ => ColumnKind::Other,
        }
    }
}

fn taken<T: FromValue>(row: &mut Row, index: usize) -> Result<T, Failure> {
    match row.take_opt(index) {
        Some(Ok(value)) => Ok(value),
        _ => Err(Failure::Fatal("information_schema.COLUMNS is not as expected; please report this".into())),
    }
}

/// `enum('a','it''s')` as its values.
fn enum_values(column_type: &str) -> Option<Vec<String>> {
    let inner = column_type.get(5..)?.strip_suffix(')')?;
    let mut values = Vec::new();
    let mut chars = inner.chars().peekable();
    loop {
        (chars.next()? == '\'').then_some(())?;
        let mut value = String::new();
        loop {
            match chars.next()? {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    value.push('\'');
                }
                '\'' => break,
                other => value.push(other),
            }
        }
        values.push(value);
        match chars.next() {
            Some(',') => {}
            None => return Some(values),
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(data_type: &str, column_type: &str) -> Described {
        Described {
            name: "c".into(),
            data_type: data_type.into(),
            column_type: column_type.into(),
            ..Default::default()
        }
    }

    #[test]
    fn integers_have_the_bounds_of_their_size_and_sign() {
        assert_eq!(described("tinyint", "tinyint(1)").kind(), ColumnKind::Integer { min: -128, max: 127 });
        assert_eq!(described("smallint", "smallint unsigned").kind(), ColumnKind::Integer { min: 0, max: 65_535 });
        assert_eq!(
            described("bigint", "bigint(20) unsigned").kind(),
            ColumnKind::Integer { min: 0, max: i128::from(u64::MAX) }
        );
        assert_eq!(
            described("bigint", "bigint").kind(),
            ColumnKind::Integer { min: i128::from(i64::MIN), max: i128::from(i64::MAX) }
        );
    }

    #[test]
    fn enum_values_are_unescaped() {
        assert_eq!(enum_values("enum('a','it''s','x,y')"), Some(vec!["a".into(), "it's".into(), "x,y".into()]));
        assert_eq!(enum_values("enum('')"), Some(vec![String::new()]));
        assert_eq!(enum_values("enum(a)"), None);
    }

    #[test]
    fn a_column_that_rounds_is_not_written_to() {
        let mut column = described("double", "double(10,2)");
        assert_eq!(column.kind(), ColumnKind::Float { single: false });
        column.scale = Some(2);
        assert_eq!(column.kind(), ColumnKind::Other);
    }

    #[test]
    fn a_character_set_that_is_not_known_is_not_written_to() {
        let mut column = described("varchar", "varchar(7)");
        column.charset = Some("sjis".into());
        assert_eq!(column.kind(), ColumnKind::Other);
        column.charset = Some("latin1".into());
        column.chars = Some(7);
        assert_eq!(
            column.kind(),
            ColumnKind::Text { max_chars: Some(7), max_bytes: None, charset: Charset::Latin1, padded: false }
        );
    }

    #[test]
    fn mariadbs_json_is_a_longtext_with_a_check_and_its_word_null_no_default() {
        let mut column = described("longtext", "longtext");
        column.charset = Some("utf8mb4".into());
        column.default = Some("NULL".into());
        let read = column.clone().column(true, &["json_valid(`c`)".into()]);
        assert_eq!((read.kind, read.has_default), (ColumnKind::Json, false));
        let read = column.clone().column(true, &[]);
        assert!(matches!(read.kind, ColumnKind::Text { .. }));
        assert!(column.column(false, &[]).has_default);
    }
}
