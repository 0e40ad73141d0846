//! What a forecast's history and its fit take of memory, told before it is taken: who trains shares a process with streams,
//! and an allocation that fails would end them all. The estimates are of what is large, and rather too high than too low.

use super::series::Panel;
use super::spec::Spec;

/// The matrix; its copy without holes; and where QR takes over, its standardised copy and QR's own.
const COPIES: u64 = 4;
/// A row beside its features: truth, bucket, key, index, and forecasts of the fit and the baselines.
const ROW: u64 = 128;
/// The Gram matrix, its correlations, their factor, and a thread's part.
const SQUARES: u64 = 4;
const DOUBLE: u64 = 8;
/// A document's bucket and its part of a tree's nodes, which are two thirds full on average, while it waits for the grid.
const DOCUMENT: u64 = 24;
/// A covariate's values are a vector of their own: its head in the tree, and what the allocator adds.
const VECTOR: u64 = 56;
/// A key's name and its tree.
const KEY: u64 = 512;

/// More than the configuration allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} take about {} MiB of memory, and `memory` of the forecast allows {} MiB: allow more, or have fewer features \
     (`lags`, `seasons`, `rolling`, `calendar`, `covariates`), an aggregate of fewer keys, or one that keeps a shorter \
     history (`keep`)",
    .bytes.div_ceil(1 << 20),
    .limit >> 20
)]
pub struct TooLarge {
    /// In words, in the plural.
    pub what: String,
    /// About how many it would be.
    pub bytes: u64,
    pub limit: u64,
}

/// Whether a fit to so many rows and features, beside the panel that they are made from, stays below the limit.
///
/// # Errors
/// It does not.
pub fn check_fit(spec: &Spec, panel: &Panel, rows: usize, features: usize) -> Result<(), TooLarge> {
    let (n, p) = (rows as u64, features as u64 + 1);
    let matrix = n.saturating_mul(p.saturating_mul(COPIES * DOUBLE).saturating_add(ROW));
    let squares = p.saturating_mul(p).saturating_mul(SQUARES * DOUBLE);
    let bytes = matrix.saturating_add(squares).saturating_add(of_panel(spec, panel));
    let what = || format!("{rows} rows of {features} features");
    below(spec.memory, bytes, what)
}

fn of_panel(spec: &Spec, panel: &Panel) -> u64 {
    let values = values_of_a_bucket(spec, panel.series().len());
    values.saturating_mul(panel.buckets() as u64).saturating_mul(DOUBLE)
}

/// Of a panel: the target and the covariates of each key, and the totals.
fn values_of_a_bucket(spec: &Spec, keys: usize) -> u64 {
    let columns = 1 + spec.covariates.iter().map(|covariate| covariate.fields.len() as u64).sum::<u64>();
    columns.saturating_mul(keys as u64).saturating_add(2)
}

/// Buckets that a panel of so many keys may have, at least one: half of the limit. The other half is for the documents that it
/// is made of, and for the fit when those are gone.
pub fn most_buckets(spec: &Spec, keys: usize) -> i64 {
    let values = spec.memory / 2 / DOUBLE;
    i64::try_from(values / values_of_a_bucket(spec, keys)).unwrap_or(i64::MAX).max(1)
}

/// What a document of the target takes while a panel is made.
pub fn of_target() -> u64 {
    DOCUMENT + DOUBLE
}

/// The same of a covariate's, with so many values.
pub fn of_covariate(values: usize) -> u64 {
    DOCUMENT + VECTOR + DOUBLE * values as u64
}

/// What a key takes beside its documents.
pub fn of_key(label: &str) -> u64 {
    KEY + 2 * label.len() as u64
}

/// Whether documents that take so much may wait for their panel: half of the limit.
///
/// # Errors
/// They may not.
pub fn check_documents(spec: &Spec, documents: u64, bytes: u64) -> Result<(), TooLarge> {
    // With the grid that they are put into.
    below(spec.memory, bytes.saturating_mul(2), || format!("{documents} documents of the history, or more,"))
}

fn below(limit: u64, bytes: u64, what: impl FnOnce() -> String) -> Result<(), TooLarge> {
    if bytes <= limit { Ok(()) } else { Err(TooLarge { what: what(), bytes, limit }) }
}
