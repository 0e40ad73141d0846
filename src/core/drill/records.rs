//! The records of a drill: everything in them follows from the seed and the record's number, so that what the tables
//! must hold is known without the code that is under test. Must never use the decoder or the mapping.

use std::collections::HashSet;

use super::Dice;

/// How many groups there are; each record belongs to one, which is its parent row.
pub const GROUPS: u64 = 40;

/// What one record says, and what its row must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub number: u64,
    pub group: String,
    pub amount: i64,
    pub note: String,
}

impl Content {
    pub fn of(seed: u64, number: u64) -> Self {
        let mut dice = Dice::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let group = format!("group-{:02}", dice.within(0, GROUPS));
        let amount = dice.draw() as i64;
        // Quotes, backslashes, tabs and characters of several bytes go the whole way too.
        let note: String = (0..dice.within(0, 24)).map(|_| NOTE[dice.within(0, NOTE.len() as u64) as usize]).collect();
        Self { number, group, amount, note }
    }

    /// The payload of the record.
    pub fn json(&self) -> String {
        let Self { number, group, amount, note } = self;
        let note = serde_json::Value::from(note.as_str());
        format!(r#"{{"number":{number},"group":"{group}","amount":{amount},"note":{note}}}"#)
    }
}

const NOTE: [char; 16] = ['a', 'b', 'Z', '0', ' ', '\t', '\n', '\\', '\'', '"', '%', '/', 'é', 'ß', '水', '🦆'];

/// What was found to be wrong, by the records' numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// No row, or one with other values.
    pub lost: Vec<u64>,
    /// Rows that no record stands for, and rows that are there more than once.
    pub doubled: Vec<u64>,
}

/// Compares the rows of a drill with its records, row by row.
#[derive(Debug)]
pub struct RowSet {
    seed: u64,
    produced: u64,
    right: HashSet<u64>,
    difference: Difference,
}

impl RowSet {
    /// Records `0..produced` of a seed.
    pub fn new(seed: u64, produced: u64) -> Self {
        Self { seed, produced, right: HashSet::new(), difference: Difference::default() }
    }

    pub fn row(&mut self, row: &Content) {
        if row.number >= self.produced {
            self.difference.doubled.push(row.number);
        } else if *row == Content::of(self.seed, row.number) && !self.right.insert(row.number) {
            self.difference.doubled.push(row.number);
        }
    }

    pub fn finish(mut self) -> Difference {
        self.difference.lost = (0..self.produced).filter(|number| !self.right.contains(number)).collect();
        self.difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_json_that_says_the_same() {
        for number in 0..500 {
            let content = Content::of(9, number);
            let read: serde_json::Value = serde_json::from_str(&content.json()).unwrap();
            assert_eq!(read["number"], number);
            assert_eq!(read["group"], content.group);
            assert_eq!(read["amount"], content.amount);
            assert_eq!(read["note"], content.note);
        }
        assert_ne!(Content::of(9, 1).amount, Content::of(10, 1).amount);
    }

    #[test]
    fn a_missing_row_a_wrong_one_one_too_many_and_one_twice_are_found() {
        let difference = |change: &dyn Fn(&mut Vec<Content>)| {
            let mut rows: Vec<_> = (0..100).map(|number| Content::of(5, number)).collect();
            change(&mut rows);
            let mut set = RowSet::new(5, 100);
            rows.iter().for_each(|row| set.row(row));
            set.finish()
        };
        assert_eq!(difference(&|_| {}), Difference::default());
        assert_eq!(difference(&|rows| drop(rows.remove(17))).lost, [17]);
        assert_eq!(difference(&|rows| rows[3].note.push('x')).lost, [3]);
        assert_eq!(difference(&|rows| rows.push(Content::of(5, 100))).doubled, [100]);
        assert_eq!(difference(&|rows| rows.push(Content::of(5, 8))).doubled, [8]);
    }
}
