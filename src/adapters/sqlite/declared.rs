//! Declared types of SQLite columns as what MySQL would hold under the same name, as far as SQLite can keep it: SQLite keeps
//! the words and checks nothing. A type that is not known is [`ColumnKind::Other`]; never a guess.

use crate::core::schema::{Charset, ColumnKind};

/// SQLite's own limit for a text or blob (`SQLITE_MAX_LENGTH`), bytes.
const MAX_LENGTH: u64 = 1_000_000_000;

/// SQLite keeps a decimal as a double, exact to so many digits; one with more would be bent in silence.
const EXACT_DIGITS: u32 = 15;

/// What a column of this declared type can hold.
pub fn kind(declared: &str) -> ColumnKind {
    let upper = declared.to_ascii_uppercase();
    let (name, arguments) = match (upper.find('('), upper.find(')')) {
        (Some(open), Some(close)) if open < close => {
            let name = format!("{} {}", &upper[..open], &upper[close + 1..]);
            let Some(arguments) = numbers(&upper[open + 1..close]) else { return ColumnKind::Other };
            (name, arguments)
        }
        (None, None) => (upper, Vec::new()),
        _ => return ColumnKind::Other,
    };
    let words: Vec<&str> = name.split_whitespace().collect();
    let unsigned = words.contains(&"UNSIGNED");
    let words: Vec<&str> = words.into_iter().filter(|w| !matches!(*w, "UNSIGNED" | "SIGNED" | "ZEROFILL")).collect();
    let first = arguments.first().copied();
    match words[..] {
        ["BOOLEAN" | "BOOL"] => integer(8, false),
        ["TINYINT" | "INT1"] => integer(8, unsigned),
        ["SMALLINT" | "INT2"] => integer(16, unsigned),
        ["MEDIUMINT" | "INT3"] => integer(24, unsigned),
        ["INT" | "INTEGER" | "INT4"] => integer(32, unsigned),
        ["BIGINT" | "INT8"] => integer(64, unsigned),
        ["YEAR"] => ColumnKind::Integer { min: 1901, max: 2155 },
        ["DECIMAL" | "NUMERIC" | "DEC" | "FIXED"] => ColumnKind::Decimal {
            precision: first.unwrap_or(10).min(EXACT_DIGITS),
            scale: arguments.get(1).copied().unwrap_or(0).min(EXACT_DIGITS),
            unsigned,
        },
        ["FLOAT"] => ColumnKind::Float { single: arguments.len() != 1 || first.is_none_or(|p| p <= 24) },
        ["DOUBLE" | "REAL"] | ["DOUBLE", "PRECISION"] => ColumnKind::Float { single: false },
        ["CHAR" | "CHARACTER" | "NCHAR"] => chars(first.unwrap_or(1), true),
        ["VARCHAR" | "NVARCHAR"] | ["CHARACTER" | "CHAR", "VARYING"] => match first {
            Some(length) => chars(length, false),
            None => text(MAX_LENGTH),
        },
        ["TINYTEXT"] => text(255),
        ["TEXT" | "CLOB"] => text(65_535),
        ["MEDIUMTEXT"] => text(16_777_215),
        ["LONGTEXT"] => text(MAX_LENGTH),
        ["BINARY"] => ColumnKind::Binary { max_bytes: Some(u64::from(first.unwrap_or(1))), padded: true },
        ["VARBINARY"] => binary(first.map_or(MAX_LENGTH, u64::from)),
        ["TINYBLOB"] => binary(255),
        ["BLOB"] => binary(65_535),
        ["MEDIUMBLOB"] => binary(16_777_215),
        ["LONGBLOB"] => binary(MAX_LENGTH),
        ["DATETIME"] => ColumnKind::DateTime { fraction: fraction(first), timestamp: false },
        ["TIMESTAMP"] => ColumnKind::DateTime { fraction: fraction(first), timestamp: true },
        ["DATE"] => ColumnKind::Date,
        ["TIME"] => ColumnKind::Time { fraction: fraction(first) },
        ["JSON"] => ColumnKind::Json,
        _ => ColumnKind::Other,
    }
}

fn numbers(arguments: &str) -> Option<Vec<u32>> {
    arguments.split(',').map(|a| a.trim().parse().ok()).collect()
}

/// SQLite holds no integer above `i64::MAX`, signed or not.
fn integer(bits: u32, unsigned: bool) -> ColumnKind {
    let (min, max) =
        if unsigned { (0, (1i128 << bits) - 1) } else { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) };
    ColumnKind::Integer { min, max: max.min(i128::from(i64::MAX)) }
}

fn chars(length: u32, padded: bool) -> ColumnKind {
    ColumnKind::Text { max_chars: Some(u64::from(length)), max_bytes: None, charset: Charset::Utf8mb4, padded }
}

fn text(max_bytes: u64) -> ColumnKind {
    ColumnKind::Text { max_chars: None, max_bytes: Some(max_bytes), charset: Charset::Utf8mb4, padded: false }
}

fn binary(max_bytes: u64) -> ColumnKind {
    ColumnKind::Binary { max_bytes: Some(max_bytes), padded: false }
}

fn fraction(digits: Option<u32>) -> u8 {
    digits.unwrap_or(0).min(6) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_the_limits_that_mysql_gives_them() {
        let int = |min, max| ColumnKind::Integer { min, max };
        for (declared, expected) in [
            ("BOOLEAN", int(-128, 127)),
            ("smallint", int(-32_768, 32_767)),
            ("INTEGER", int(-2_147_483_648, 2_147_483_647)),
            ("INT(11) UNSIGNED", int(0, 4_294_967_295)),
            ("MEDIUMINT", int(-8_388_608, 8_388_607)),
            ("BIGINT", int(i128::from(i64::MIN), i128::from(i64::MAX))),
            ("BIGINT UNSIGNED", int(0, i128::from(i64::MAX))),
            ("VARCHAR(7)", chars(7, false)),
            ("CHAR", chars(1, true)),
            ("TEXT", text(65_535)),
            ("BLOB", binary(65_535)),
            ("DECIMAL(8, 2)", ColumnKind::Decimal { precision: 8, scale: 2, unsigned: false }),
            ("DECIMAL(38, 20)", ColumnKind::Decimal { precision: 15, scale: 15, unsigned: false }),
            ("NUMERIC", ColumnKind::Decimal { precision: 10, scale: 0, unsigned: false }),
            ("DOUBLE PRECISION", ColumnKind::Float { single: false }),
            ("REAL", ColumnKind::Float { single: false }),
            ("FLOAT", ColumnKind::Float { single: true }),
            ("FLOAT(53)", ColumnKind::Float { single: false }),
            ("DATETIME(6)", ColumnKind::DateTime { fraction: 6, timestamp: false }),
            ("DATETIME", ColumnKind::DateTime { fraction: 0, timestamp: false }),
            ("TIMESTAMP(3)", ColumnKind::DateTime { fraction: 3, timestamp: true }),
            ("DATE", ColumnKind::Date),
            ("TIME(2)", ColumnKind::Time { fraction: 2 }),
            ("JSON", ColumnKind::Json),
            ("POINT", ColumnKind::Other),
            ("", ColumnKind::Other),
            ("VARCHAR(x)", ColumnKind::Other),
            ("VARCHAR)7(", ColumnKind::Other),
        ] {
            assert_eq!(kind(declared), expected, "{declared}");
        }
    }
}
