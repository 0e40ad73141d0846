//! Cells as SQLite stores them: times and dates as text that sorts and that SQLite's own functions read.

use std::str;

use sea_orm::sqlx::Arguments;
use sea_orm::sqlx::sqlite::SqliteArguments;

use crate::core::cell::Cell;
use crate::core::outcome::Reason;
use crate::core::time;

/// Why a cell can't be stored, though its column would take it on MySQL.
pub fn fault(cell: &Cell, arena: &[u8]) -> Option<(Reason, &'static str)> {
    match cell {
        Cell::UInt(value) if i64::try_from(*value).is_err() => {
            Some((Reason::OutOfRange, "SQLite holds integers up to 9223372036854775807"))
        }
        Cell::Text(span) | Cell::Decimal(span) if str::from_utf8(span.of(arena)).is_err() => {
            Some((Reason::InvalidUtf8, "the text is not UTF-8"))
        }
        _ => None,
    }
}

/// Binds one cell, which has no [`fault`].
pub fn bind(arguments: &mut SqliteArguments, cell: &Cell, arena: &[u8]) {
    let bound = match cell {
        Cell::Missing | Cell::Null => arguments.add(None::<i64>),
        Cell::Int(value) => arguments.add(*value),
        Cell::UInt(value) => arguments.add(i64::try_from(*value).ok()),
        Cell::Float(value) => arguments.add(*value),
        Cell::Decimal(span) | Cell::Text(span) => arguments.add(String::from_utf8_lossy(span.of(arena)).into_owned()),
        Cell::Bytes(span) => arguments.add(span.of(arena).to_vec()),
        Cell::DateTime(micros) => arguments.add(time::datetime_text(*micros)),
        Cell::Date(_) | Cell::Time(_) => arguments.add(text(cell, arena)),
    };
    // Encoding fails for none of these types; a null in its place would be refused or found out by the row's test.
    debug_assert!(bound.is_ok());
}

/// The cell for people, shortened.
pub fn text(cell: &Cell, arena: &[u8]) -> String {
    const SHOWN: usize = 40;
    match cell {
        Cell::Missing => "missing".to_owned(),
        Cell::Null => "null".to_owned(),
        Cell::Int(value) => value.to_string(),
        Cell::UInt(value) => value.to_string(),
        Cell::Float(value) => value.to_string(),
        Cell::Decimal(span) => String::from_utf8_lossy(span.of(arena)).into_owned(),
        Cell::Text(span) => {
            let text = String::from_utf8_lossy(span.of(arena));
            let mut shown: String = text.chars().take(SHOWN).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            format!("{shown:?}")
        }
        Cell::Bytes(span) => format!("{} bytes", span.len),
        Cell::DateTime(micros) => time::datetime_text(*micros),
        Cell::Date(days) => time::text(|out| time::write_date(out, *days)),
        Cell::Time(micros) => time::text(|out| time::write_time(out, *micros)),
    }
}
