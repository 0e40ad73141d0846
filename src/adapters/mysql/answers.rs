//! What an aggregate's query answers, as values of documents: the same ones that SQLite gives for the same rows, as far as
//! the two compute alike. Must never alter a value in silence: what a document does not hold is told.

use mysql_async::consts::ColumnType;
use mysql_async::{Column, Row, Value as Sql};

use crate::core::document::Value;
use crate::core::time::{self, MICROS_PER_DAY, days_from_civil};

/// A row with the names of its columns; or what is wrong with which column.
pub(super) fn fields(row: Row, columns: &[Column]) -> Result<Vec<(String, Value)>, String> {
    let values = row.unwrap();
    let named = columns.iter().zip(values).map(|(column, sql)| {
        let name = column.name_str().into_owned();
        match value(sql, column.column_type()) {
            Ok(value) => Ok((name, value)),
            Err(what) => Err(format!("its column {name} {what}")),
        }
    });
    named.collect()
}

fn value(sql: Sql, kind: ColumnType) -> Result<Value, String> {
    Ok(match sql {
        Sql::NULL => Value::Null,
        Sql::Int(n) => Value::Integer(n),
        // Beyond the integers of documents: the nearest number.
        Sql::UInt(n) => i64::try_from(n).map_or(Value::Float(n as f64), Value::Integer),
        // By its digits: 0.1 stays 0.1.
        Sql::Float(n) => Value::Float(n.to_string().parse().unwrap_or(f64::from(n))),
        Sql::Double(n) => Value::Float(n),
        Sql::Date(year, month, day, ..) if kind == ColumnType::MYSQL_TYPE_DATE => {
            let days = days_from_civil(year.into(), month.into(), day.into());
            Value::Text(time::text(|out| time::write_date(out, days)))
        }
        Sql::Date(year, month, day, hour, minute, second, micros) => {
            let days = i64::from(days_from_civil(year.into(), month.into(), day.into()));
            let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
            Value::Text(time::datetime_text(days * MICROS_PER_DAY + seconds * 1_000_000 + i64::from(micros)))
        }
        Sql::Time(negative, days, hours, minutes, seconds, micros) => {
            let hours = i64::from(days) * 24 + i64::from(hours);
            let seconds = hours * 3600 + i64::from(minutes) * 60 + i64::from(seconds);
            let micros = seconds * 1_000_000 + i64::from(micros);
            Value::Text(time::text(|out| time::write_time(out, if negative { -micros } else { micros })))
        }
        Sql::Bytes(bytes) => return of_bytes(bytes, kind),
    })
}

fn of_bytes(bytes: Vec<u8>, kind: ColumnType) -> Result<Value, String> {
    if kind == ColumnType::MYSQL_TYPE_BIT {
        return match bytes.len() {
            0..=8 => value(Sql::UInt(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))), kind),
            _ => Err("has more than 64 bits".to_owned()),
        };
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| "holds bytes that are no text, which documents do not hold; write HEX(…) or leave it out")?;
    if !matches!(kind, ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL) {
        return Ok(Value::Text(text));
    }
    // SUM of integers is a decimal without a fraction.
    if let Ok(n) = text.parse::<i64>() {
        return Ok(Value::Integer(n));
    }
    text.parse::<f64>().map(Value::Float).map_err(|_| format!("has the value {text:?}, which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType as C;

    #[test]
    fn numbers_are_integers_where_they_are_whole_by_type() {
        for (sql, kind, expected) in [
            (Sql::Int(-3), C::MYSQL_TYPE_LONGLONG, Value::Integer(-3)),
            (Sql::UInt(u64::MAX), C::MYSQL_TYPE_LONGLONG, Value::Float(18_446_744_073_709_551_615.0)),
            (Sql::Float(0.1), C::MYSQL_TYPE_FLOAT, Value::Float(0.1)),
            (Sql::Double(1e300), C::MYSQL_TYPE_DOUBLE, Value::Float(1e300)),
            (Sql::Bytes(b"-12".to_vec()), C::MYSQL_TYPE_NEWDECIMAL, Value::Integer(-12)),
            (Sql::Bytes(b"12.50".to_vec()), C::MYSQL_TYPE_NEWDECIMAL, Value::Float(12.5)),
            (Sql::Bytes(b"99999999999999999999".to_vec()), C::MYSQL_TYPE_NEWDECIMAL, Value::Float(1e20)),
            (Sql::Bytes(vec![1, 2]), C::MYSQL_TYPE_BIT, Value::Integer(258)),
            (Sql::NULL, C::MYSQL_TYPE_NEWDECIMAL, Value::Null),
        ] {
            assert_eq!(value(sql.clone(), kind).unwrap(), expected, "{sql:?}");
        }
    }

    #[test]
    fn times_are_text_as_sqlite_stores_them() {
        for (sql, kind, expected) in [
            (Sql::Date(2013, 1, 2, 3, 4, 5, 6), C::MYSQL_TYPE_DATETIME, "2013-01-02 03:04:05.000006"),
            (Sql::Date(1582, 10, 15, 0, 0, 0, 0), C::MYSQL_TYPE_TIMESTAMP, "1582-10-15 00:00:00.000000"),
            (Sql::Date(2013, 1, 2, 0, 0, 0, 0), C::MYSQL_TYPE_DATE, "2013-01-02"),
            (Sql::Time(true, 1, 2, 3, 4, 5), C::MYSQL_TYPE_TIME, "-26:03:04.000005"),
            (Sql::Bytes("ü".into()), C::MYSQL_TYPE_VAR_STRING, "ü"),
            (Sql::Bytes(b"12".to_vec()), C::MYSQL_TYPE_VAR_STRING, "12"),
        ] {
            assert_eq!(value(sql.clone(), kind).unwrap(), Value::Text(expected.to_owned()), "{sql:?}");
        }
        assert!(value(Sql::Bytes(vec![0xff]), C::MYSQL_TYPE_BLOB).unwrap_err().contains("HEX"));
    }
}
