//! The table that is fitted.

use chrono::{DateTime, Utc};
use ndarray::{Array1, Array2, ArrayView2, s};
use sha2::{Digest, Sha256};

/// Features and truth, a row for each bucket and key whose truth is known: ascending by bucket, then by key.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// One for each column of `x`.
    pub names: Vec<String>,
    /// Rows × features; NaN where a feature is missing.
    pub x: Array2<f64>,
    /// The truth of each row, in the target's unit; never NaN.
    pub y: Array1<f64>,
    /// Where the bucket starts that each row forecasts.
    pub at: Vec<DateTime<Utc>>,
    /// The series of each row, an index of `Panel::series`.
    pub key: Vec<usize>,
}

impl Matrix {
    pub fn rows(&self) -> usize {
        self.y.len()
    }

    /// How many rows forecast a bucket that starts before `moment`: the index of the first other.
    pub fn before(&self, moment: DateTime<Utc>) -> usize {
        self.at.partition_point(|at| *at < moment)
    }

    /// These rows alone.
    pub fn part(&self, rows: std::ops::Range<usize>) -> Matrix {
        Matrix {
            names: self.names.clone(),
            x: self.x.slice(s![rows.clone(), ..]).to_owned(),
            y: self.y.slice(s![rows.clone()]).to_owned(),
            at: self.at[rows.clone()].to_vec(),
            key: self.key[rows].to_vec(),
        }
    }

    /// The mean of each feature's known values: what stands for those that are missing. 0 where none is known.
    pub fn means(&self) -> Vec<f64> {
        means(self.x.view())
    }

    /// The features with these values in the place of those that are missing.
    pub fn filled(&self, fills: &[f64]) -> Array2<f64> {
        filled(self.x.view(), fills)
    }

    /// SHA-256 of names, features, truth, buckets and keys, in hexadecimal: two fits of one hash saw the same.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for name in &self.names {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        self.x.iter().chain(&self.y).for_each(|value| hash.update(canonical(*value).to_le_bytes()));
        self.at.iter().for_each(|at| hash.update(at.timestamp().to_le_bytes()));
        self.key.iter().for_each(|key| hash.update((*key as u64).to_le_bytes()));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One bit pattern for all that is not a number, and for both zeros.
fn canonical(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

pub(super) fn means(x: ArrayView2<'_, f64>) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); x.ncols()];
    for row in x.rows() {
        for ((sum, count), value) in sums.iter_mut().zip(row) {
            if !value.is_nan() {
                *sum += value;
                *count += 1.0;
            }
        }
    }
    sums.into_iter().map(|(sum, count)| if count > 0.0 { sum / count } else { 0.0 }).collect()
}

pub(super) fn filled(x: ArrayView2<'_, f64>, fills: &[f64]) -> Array2<f64> {
    let mut x = x.to_owned();
    for mut row in x.rows_mut() {
        for (value, fill) in row.iter_mut().zip(fills) {
            if value.is_nan() {
                *value = *fill;
            }
        }
    }
    x
}
