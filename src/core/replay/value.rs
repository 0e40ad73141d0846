//! One cell of a file as a JSON value. A number keeps the digits it came with.

/// Whether these bytes are one number token of JSON: no leading zeros, no `+`, no bare point.
pub fn is_json_number(cell: &[u8]) -> bool {
    fn digits(cell: &[u8], from: usize) -> usize {
        cell[from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
    }
    let mut at = usize::from(cell.first() == Some(&b'-'));
    let whole = digits(cell, at);
    if whole == 0 || (whole > 1 && cell[at] == b'0') {
        return false;
    }
    at += whole;
    if cell.get(at) == Some(&b'.') {
        let fraction = digits(cell, at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(cell.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(cell.get(at), Some(b'+' | b'-')));
        let exponent = digits(cell, at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == cell.len()
}

/// What a column's values become in JSON. An empty cell is `null` in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Number,
    Text,
}

/// Decides the types of a file's columns from all its cells: a column is a number when every cell that is not
/// empty is one.
#[derive(Debug)]
pub struct Inference(Vec<ColumnType>);

impl Inference {
    pub fn new(columns: usize) -> Self {
        Self(vec![ColumnType::Number; columns])
    }

    pub fn observe(&mut self, column: usize, cell: &[u8]) {
        if self.0[column] == ColumnType::Number && !cell.is_empty() && !is_json_number(cell) {
            self.0[column] = ColumnType::Text;
        }
    }

    pub fn types(self) -> Vec<ColumnType> {
        self.0
    }
}

/// Writes a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// A cell that does not fit its column, in words for the reader of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    #[error("the bytes are not UTF-8; save the file as UTF-8")]
    NotUtf8,
    #[error("{0:?} is no RFC 3339 time; write it as 2013-01-31T17:05:00Z")]
    NotATime(String),
    #[error("{0:?} is no number, but the column held only numbers a moment ago: the file changed while it was read")]
    NotANumber(String),
    #[error("{0:?} moved by {1} days leaves the years 0 to 9999")]
    OutOfCalendar(String, i64),
}

/// A cell as messages show it.
pub(super) fn shortened(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// Writes one value: `null` for an empty cell.
pub fn write_value(out: &mut Vec<u8>, kind: ColumnType, cell: &[u8]) -> Result<(), CellError> {
    match kind {
        _ if cell.is_empty() => out.extend_from_slice(b"null"),
        ColumnType::Number if is_json_number(cell) => out.extend_from_slice(cell),
        ColumnType::Number => return Err(CellError::NotANumber(shortened(cell))),
        ColumnType::Text => write_string(out, std::str::from_utf8(cell).map_err(|_| CellError::NotUtf8)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_token_is_what_json_takes_for_one() {
        for good in ["0", "-0", "7", "-12", "10.5", "0.25", "1e5", "1E+10", "-2.5e-3", "1048.36058"] {
            assert!(is_json_number(good.as_bytes()), "{good}");
            assert!(serde_json::from_str::<serde_json::Number>(good).is_ok(), "{good}");
        }
        for bad in
            ["", "-", "+1", "01", "-01", "00", "1.", ".5", "1e", "1e+", "9E", "0x1", "1 ", " 1", "1,5", "NaN", "--1"]
        {
            assert!(!is_json_number(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_column_is_a_number_only_if_every_cell_is_one_or_empty() {
        let mut inference = Inference::new(3);
        for row in [["1", "9E", ""], ["", "5", ""], ["2.5", "6", ""]] {
            for (column, cell) in row.iter().enumerate() {
                inference.observe(column, cell.as_bytes());
            }
        }
        assert_eq!(inference.types(), [ColumnType::Number, ColumnType::Text, ColumnType::Number]);
    }

    #[test]
    fn one_leading_zero_makes_the_column_text() {
        let mut inference = Inference::new(1);
        inference.observe(0, b"10001");
        inference.observe(0, b"00501");
        assert_eq!(inference.types(), [ColumnType::Text]);
    }

    proptest::proptest! {
        #[test]
        fn every_text_is_read_back_as_it_was(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_token_is_a_number_exactly_when_json_says_so(text in "-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
            // arbitrary exponents overflow a float, so ask for the raw token
            let json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            proptest::prop_assert_eq!(is_json_number(text.as_bytes()), json);
        }
    }
}
