//! Decimal numbers as their digits, told apart by what they are worth: `1`, `01` and `1.00` are one number, and one row
//! where they are a key. Must never become floating point.

use std::cmp::Ordering;

/// A decimal number; its order is that of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a [u8],
    /// Digits behind it, without trailing zeros.
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Of text that was found to be one: `-` or nothing, digits, and perhaps a point with digits.
    pub fn of(text: &'a [u8]) -> Self {
        let (negative, digits) = match text.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let point = digits.iter().position(|&c| c == b'.');
        let (mut whole, mut fraction) = point.map_or((digits, &[][..]), |at| (&digits[..at], &digits[at + 1..]));
        while let [b'0', rest @ ..] = whole {
            whole = rest;
        }
        while let [rest @ .., b'0'] = fraction {
            fraction = rest;
        }
        Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction }
    }

    /// Bytes that [`Decimal::write`] appends.
    pub fn text_len(&self) -> usize {
        let fraction = if self.fraction.is_empty() { 0 } else { self.fraction.len() + 1 };
        usize::from(self.negative) + self.whole.len() + fraction
    }

    /// Appends the shortest text of this number, the same for all texts of it.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(self.whole);
        if !self.fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(self.fraction);
        }
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |of: &Self| (of.whole.len(), of.whole, of.fraction);
        match (self.negative, other.negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_one_number_are_one_number() {
        for texts in [&["1", "01", "1.0", "1.00", "001.000"][..], &["0", "-0", "0.0", "-0.00"], &["-0.5", "-00.50"]] {
            for text in texts {
                assert_eq!(Decimal::of(text.as_bytes()), Decimal::of(texts[0].as_bytes()), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_numbers(
            a in -2000_i64..2000, b in -2000_i64..2000, zeros in 0_usize..3, more in 0_usize..3
        ) {
            // Hundredths, with zeros that say nothing.
            let text = |n: i64| {
                let sign = if n < 0 { "-" } else { "" };
                let (whole, fraction) = (n.abs() / 100, n.abs() % 100);
                format!("{sign}{}{whole}.{fraction:02}{}", "0".repeat(zeros), "0".repeat(more))
            };
            let (x, y) = (text(a), format!("{}.{:02}", b / 100, b.abs() % 100));
            let y = if b < 0 && b > -100 { format!("-{y}") } else { y };
            let (x, y) = (Decimal::of(x.as_bytes()), Decimal::of(y.as_bytes()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x == y, a == b);
            let mut text = Vec::new();
            x.write(&mut text);
            prop_assert_eq!(text.len(), x.text_len());
            prop_assert_eq!(Decimal::of(&text), x);
        }
    }
}
