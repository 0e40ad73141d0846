//! The matrix that all frameworks fit, and larger ones of the same kind: the rows repeated, each repetition shaken a
//! little, so that no row is there twice and the columns stay as independent as they were. The same sample and size are
//! the same matrix, on every machine.

use ndarray::{Array2, ArrayView1, s};

use crate::core::forecast::gram::{Gram, gram};

/// A repetition's values differ from the original's by up to this share of the column's standard deviation: enough that
/// rounding does not see the rows as the same, little enough that the model stays the one of the sample.
const SHAKEN: f64 = 1e-2;

/// Below this share of its variance that the columns before it leave unexplained, a column is left out: with it least
/// squares would have no one answer, or one that doubles do not tell to the tolerance, and who is right could not be said.
const INDEPENDENT: f64 = 1e-6;

/// Features and target, the rows in the order of time; the last are held out.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Where it comes from, for people.
    pub source: String,
    /// One for each column.
    pub names: Vec<String>,
    /// Row by row; as many in a row as there are names.
    pub x: Vec<f64>,
    /// One for each row.
    pub y: Vec<f64>,
    /// Rows that are fitted; those behind are predicted.
    pub train_rows: usize,
    /// Features that are combinations of others, as far as the tolerance goes, and were left out.
    pub left_out: Vec<String>,
}

impl Sample {
    /// Columns.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        self.y.len()
    }

    /// Rows that are predicted.
    pub fn holdout_rows(&self) -> usize {
        self.rows() - self.train_rows
    }

    fn row(&self, at: usize) -> &[f64] {
        &self.x[at * self.width()..(at + 1) * self.width()]
    }

    /// Of a matrix (rows × features, none missing) those features that are independent of the ones before them.
    pub fn independent(source: String, names: Vec<String>, x: &Array2<f64>, y: Vec<f64>, train_rows: usize) -> Self {
        let kept = independent(&gram(x.slice(s![..train_rows, ..]), ArrayView1::from(&y[..train_rows]), 1));
        let named = |wanted: bool| {
            let chosen = names.iter().enumerate().filter(|(at, _)| kept.contains(at) == wanted);
            chosen.map(|(_, name)| name.clone()).collect::<Vec<_>>()
        };
        let (names, left_out) = (named(true), named(false));
        let x = x.rows().into_iter().flat_map(|row| kept.iter().map(move |column| row[*column])).collect();
        Self { source, names, x, y, train_rows, left_out }
    }

    /// Where there is no history to take features from: lagged values of a noisy daily and weekly wave in `series` series,
    /// of the shape that a real one has. The same arguments are the same sample.
    pub fn generated(rows: usize, width: usize, holdout_rows: usize) -> Self {
        let noise = |a: u64, b: u64| 2.0 * unit(mix(mix(a) ^ b)) - 1.0;
        let value = |at: u64| {
            let hours = at as f64;
            let (day, week) = (hours / 24.0, hours / 168.0);
            10.0 + 5.0 * (std::f64::consts::TAU * day).sin() + 3.0 * (std::f64::consts::TAU * week).cos()
        };
        let names = (0..width).map(|column| format!("x{column}")).collect();
        let mut x = Vec::with_capacity(rows * width);
        let mut y = Vec::with_capacity(rows);
        for row in 0..rows as u64 {
            let mut sum = 1.0;
            for column in 0..width as u64 {
                let scale = 1.0 + (column % 7) as f64;
                let of_column = value(row + 3 * column) + scale * 4.0 * noise(row, column);
                sum += of_column * (1.0 + (column % 5) as f64) / 20.0;
                x.push(of_column);
            }
            y.push(sum + 3.0 * noise(row, u64::MAX));
        }
        let source = format!("generated, {rows} rows of {width} features");
        Self { source, names, x, y, train_rows: rows.saturating_sub(holdout_rows), left_out: Vec::new() }
    }

    /// The sample `size` times as large; what is held out stays as it is.
    pub fn grown(&self, size: u32) -> Grown<'_> {
        let width = self.width();
        let count = self.train_rows.max(1) as f64;
        let (mut sum, mut squares) = (vec![0.0; width + 1], vec![0.0; width + 1]);
        let first = self.row_and_target(0).collect::<Vec<_>>();
        for row in 0..self.train_rows {
            for (column, value) in self.row_and_target(row).enumerate() {
                // From the first row on, so that large means do not drown small spreads.
                let from = value - first[column];
                sum[column] += from;
                squares[column] += from * from;
            }
        }
        let spread = sum.iter().zip(&squares);
        let spread = spread.map(|(sum, squares)| SHAKEN * (squares / count - (sum / count).powi(2)).max(0.0).sqrt());
        Grown { sample: self, size: size.max(1), spread: spread.collect() }
    }

    fn row_and_target(&self, row: usize) -> impl Iterator<Item = f64> {
        let target = self.y.get(row).copied().unwrap_or_default();
        let features = if row < self.rows() { self.row(row) } else { &[] };
        features.iter().copied().chain([target])
    }
}

/// Columns, by Cholesky's factor of the correlations, row by row.
fn independent(gram: &Gram) -> Vec<usize> {
    let p = gram.means.len() - 1;
    let scale = |column: usize| gram.sums[[column, column]].sqrt();
    let varies = |column: usize| scale(column) > 1e-9 * gram.means[column].abs().max(f64::MIN_POSITIVE);
    let (mut kept, mut factor): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for column in (0..p).filter(|column| varies(*column)) {
        let mut row = Vec::with_capacity(kept.len() + 1);
        for (other, before) in kept.iter().zip(&factor) {
            let known: f64 = row.iter().zip(before).map(|(a, b): (&f64, &f64)| a * b).sum();
            let correlation = gram.sums[[column, *other]] / (scale(column) * scale(*other));
            row.push((correlation - known) / before[before.len() - 1]);
        }
        let unexplained = 1.0 - row.iter().map(|value| value * value).sum::<f64>();
        if unexplained > INDEPENDENT {
            row.push(unexplained.sqrt());
            kept.push(column);
            factor.push(row);
        }
    }
    kept
}

/// A sample made larger; nothing of it is kept but the sample.
#[derive(Debug, Clone)]
pub struct Grown<'s> {
    sample: &'s Sample,
    size: u32,
    /// By how much a repetition may differ, for each column and the target.
    spread: Vec<f64>,
}

impl Grown<'_> {
    pub fn train_rows(&self) -> usize {
        self.sample.train_rows * self.size as usize
    }

    pub fn rows(&self) -> usize {
        self.train_rows() + self.sample.holdout_rows()
    }

    pub fn names(&self) -> &[String] {
        &self.sample.names
    }

    /// The value of a column in a row; the column behind the last is the target.
    pub fn value(&self, row: usize, column: usize) -> f64 {
        let sample = self.sample;
        let (at, repetition) = match row.checked_sub(self.train_rows()) {
            Some(held_out) => (sample.train_rows + held_out, 0),
            None => (row % sample.train_rows, row / sample.train_rows),
        };
        let original = if column < sample.width() { sample.row(at)[column] } else { sample.y[at] };
        if repetition == 0 {
            return original;
        }
        let drawn = unit(mix(mix(row as u64) ^ column as u64));
        original + self.spread[column] * (2.0 * drawn - 1.0)
    }
}

/// SplitMix64's output function (Steele, Lea, Flood 2014).
fn mix(of: u64) -> u64 {
    let mut z = of.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Even over 0 to 1.
fn unit(of: u64) -> f64 {
    (of >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_matrix_begins_with_the_sample_and_ends_with_what_is_held_out() {
        let sample = Sample::generated(50, 3, 10);
        let grown = sample.grown(4);
        assert_eq!((grown.train_rows(), grown.rows()), (160, 170));
        for row in 0..40 {
            for column in 0..3 {
                assert_eq!(grown.value(row, column).to_bits(), sample.x[row * 3 + column].to_bits());
            }
        }
        for held_out in 0..10 {
            assert_eq!(grown.value(160 + held_out, 3).to_bits(), sample.y[40 + held_out].to_bits());
        }
    }

    #[test]
    fn what_is_a_combination_of_others_or_constant_is_left_out() {
        let of = Sample::generated(300, 2, 0);
        let x = Array2::from_shape_fn((300, 5), |(row, column)| {
            let (a, b) = (of.x[row * 2], of.x[row * 2 + 1]);
            [a, 5.0, a + 2.0 * b, b, a * b][column]
        });
        let names = ["a", "constant", "both", "b", "product"].map(str::to_owned).to_vec();
        let sample = Sample::independent("test".to_owned(), names, &x, of.y.clone(), 300);
        assert_eq!(sample.names, ["a", "both", "product"]);
        assert_eq!(sample.left_out, ["constant", "b"]);
        assert_eq!(sample.x[3..6], [x[[1, 0]], x[[1, 2]], x[[1, 4]]]);
    }

    #[test]
    fn a_repetition_differs_from_the_sample_and_from_the_others_but_little() {
        let sample = Sample::generated(1000, 2, 0);
        let grown = sample.grown(3);
        for row in 0..1000 {
            let [first, second, third] = [0, 1000, 2000].map(|from| grown.value(from + row, 1));
            assert!(first != second && second != third && first != third);
            assert!((first - second).abs() < 1.0);
        }
    }

    #[test]
    fn a_column_that_does_not_vary_is_left_as_it_is() {
        let mut sample = Sample::generated(100, 2, 0);
        sample.x.iter_mut().step_by(2).for_each(|value| *value = 7.0);
        assert_eq!(sample.grown(2).value(150, 0).to_bits(), 7.0f64.to_bits());
    }
}
