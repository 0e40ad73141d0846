//! What became of a record: the words of the ledger.

use std::fmt;

/// The field of a letter that is too large where its key was not kept either, so that no other payload makes it whole.
pub const LOST_KEY: &str = "@key";

/// Why a record was set aside. The text form is stable: it is stored, filtered by, and a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not JSON.
    InvalidJson,
    /// JSON, but not an object.
    NotAnObject,
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// No payload at all.
    Tombstone,
    /// A column that must have a value has no field in the record.
    MissingField,
    /// An explicit null for a column that must have a value.
    NullNotAllowed,
    /// The value is of another kind than the column: text for a number, an object for a text.
    WrongType,
    /// A number that the column cannot hold.
    OutOfRange,
    /// A text or byte string longer than the column.
    TooLong,
    /// A text with characters that the column's character set lacks.
    NotEncodable,
    /// A date or time that is none.
    InvalidTime,
    /// The record is larger than the stream's limit.
    RecordTooLarge,
    /// No row with that key in the table pointed at.
    ForeignKey,
    /// A CHECK constraint said no.
    Check,
    /// Another unique index than the primary key has the value already.
    UniqueKey,
    /// The database refused the row for another reason; its own words are in the message.
    Refused,
}

impl Reason {
    pub const ALL: [Reason; 16] = [
        Reason::InvalidJson,
        Reason::NotAnObject,
        Reason::InvalidUtf8,
        Reason::Tombstone,
        Reason::MissingField,
        Reason::NullNotAllowed,
        Reason::WrongType,
        Reason::OutOfRange,
        Reason::TooLong,
        Reason::NotEncodable,
        Reason::InvalidTime,
        Reason::RecordTooLarge,
        Reason::ForeignKey,
        Reason::Check,
        Reason::UniqueKey,
        Reason::Refused,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidJson => "invalid_json",
            Reason::NotAnObject => "not_an_object",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::Tombstone => "tombstone",
            Reason::MissingField => "missing_field",
            Reason::NullNotAllowed => "null_not_allowed",
            Reason::WrongType => "wrong_type",
            Reason::OutOfRange => "out_of_range",
            Reason::TooLong => "too_long",
            Reason::NotEncodable => "not_encodable",
            Reason::InvalidTime => "invalid_time",
            Reason::RecordTooLarge => "record_too_large",
            Reason::ForeignKey => "foreign_key",
            Reason::Check => "check",
            Reason::UniqueKey => "unique_key",
            Reason::Refused => "refused",
        }
    }

    /// The reason of a stored text. One that this version does not know was stored by a later one.
    pub fn stored(text: &str) -> Reason {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Reason::Refused)
    }

    /// The decoder found it, before any database was asked.
    pub fn is_of_decoding(self) -> bool {
        !matches!(self, Reason::ForeignKey | Reason::Check | Reason::UniqueKey | Reason::Refused)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a record cannot be written, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// The record's field, or the column where the field is not known.
    pub field: Option<String>,
    /// One sentence for people: the value (shortened), the column and its type.
    pub message: String,
}

/// How many records of one partition had which outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Changed a row, or were superseded by a later record of their batch.
    pub applied: i64,
    /// Changed no table: all their rows were there already.
    pub duplicates: i64,
    pub dead_letters: i64,
    /// Offsets that yielded no record.
    pub gaps: i64,
}

impl Counts {
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            applied: self.applied + other.applied,
            duplicates: self.duplicates + other.duplicates,
            dead_letters: self.dead_letters + other.dead_letters,
            gaps: self.gaps + other.gaps,
        }
    }

    /// Offsets that these outcomes account for.
    pub fn total(&self) -> i64 {
        self.applied + self.duplicates + self.dead_letters + self.gaps
    }
}
