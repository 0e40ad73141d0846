//! One typed value of a row, small and `Copy`: text and bytes are spans of the batch's arena, so that
//! decoding allocates nothing for a row.

/// A range of bytes in a batch's arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    pub fn of<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start as usize..(self.start + self.len) as usize]
    }
}

/// A value that was checked against its column: writing it can only fail for reasons that the database
/// alone knows (a foreign key, a CHECK, a unique index).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// The record says nothing of this column: an insert takes the column's default, an update keeps what is there.
    Missing,
    /// An explicit null.
    Null,
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    Float(f64),
    /// A decimal number in ASCII, as it came: digits, sign, point; no exponent.
    Decimal(Span),
    /// UTF-8.
    Text(Span),
    Bytes(Span),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    DateTime(i64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds of a signed duration.
    Time(i64),
}

impl Cell {
    pub fn is_absent(&self) -> bool {
        matches!(self, Cell::Missing | Cell::Null)
    }
}
