//! The real tables of the warehouse as read at start-up: what the decoder checks values against.
//! Must never hold a guess: what could not be read is [`ColumnKind::Other`], which nothing may be mapped to.

/// One table as the database describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// Positions in `columns`, in the key's order; empty where the table has no primary key.
    pub primary_key: Vec<usize>,
    pub foreign_keys: Vec<ForeignKey>,
}

/// One column as the database describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
    pub nullable: bool,
    /// A DEFAULT clause, auto-increment or the like gives a value when the column is left out.
    pub has_default: bool,
    /// Computed by the database; nothing can be written to it.
    pub generated: bool,
    /// The type as the database prints it, for messages: `varchar(7)`.
    pub declared: String,
}

/// `columns` of this table point at the same number of `parent_columns` of `parent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    pub name: String,
    pub columns: Vec<usize>,
    pub parent: String,
    pub parent_columns: Vec<String>,
}

/// What a column can hold. Lengths and ranges are what the database would refuse beyond.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// Inclusive bounds; `BOOLEAN` is the integer that the database makes of it.
    Integer {
        min: i128,
        max: i128,
    },
    /// `single`: a 4-byte float.
    Float {
        single: bool,
    },
    Decimal {
        precision: u32,
        scale: u32,
        unsigned: bool,
    },
    /// `max_chars` for CHAR and VARCHAR, `max_bytes` for the TEXT types. `padded`: a CHAR, which loses spaces at the end.
    Text {
        max_chars: Option<u64>,
        max_bytes: Option<u64>,
        charset: Charset,
        padded: bool,
    },
    /// `padded`: a BINARY, which fills up with zeros.
    Binary {
        max_bytes: Option<u64>,
        padded: bool,
    },
    /// `fraction`: digits of a second kept; `timestamp`: the narrower range 1970-01-01 00:00:01 to 2038-01-19 03:14:07 UTC.
    DateTime {
        fraction: u8,
        timestamp: bool,
    },
    Date,
    Time {
        fraction: u8,
    },
    Json,
    Enum {
        values: Vec<String>,
    },
    /// A type that bief does not write.
    Other,
}

/// What a text column can encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// All of Unicode.
    Utf8mb4,
    /// The basic plane only: MySQL's old `utf8`.
    Utf8mb3,
    Latin1,
    Ascii,
}

impl Table {
    /// Position of the column with this name (names compare without regard to ASCII case, as the databases do).
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// Whether a row may have its parent in the same table.
    pub fn points_at_itself(&self) -> bool {
        self.foreign_keys.iter().any(|key| key.parent.eq_ignore_ascii_case(&self.name))
    }
}
