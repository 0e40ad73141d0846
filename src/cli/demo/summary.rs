//! What the demo came to: rows, ledger and proof, once all that was sent at once is committed.

use std::collections::BTreeMap;

use crate::adapters::warehouse;
use crate::cli::exit;
use crate::cli::support::print_json;
use crate::cli::verify::Proof;
use crate::config::Config;

/// Rows of each table that a stream feeds.
pub async fn count_rows(config: &Config) -> Result<BTreeMap<String, i64>, String> {
    let bookkeeping = (warehouse::open_bookkeeping(&config.warehouse))().await.map_err(|e| e.to_string())?;
    let mut rows = BTreeMap::new();
    for table in config.streams.iter().flat_map(|s| &s.tables) {
        if !rows.contains_key(&table.table) {
            let count = bookkeeping.count_rows(&table.table).await.map_err(|e| e.to_string())?;
            rows.insert(table.table.clone(), count);
        }
    }
    Ok(rows)
}

/// What the demo came to.
pub struct Summary {
    pub rows: BTreeMap<String, i64>,
    pub proof: Proof,
    pub seconds: f64,
}

impl Summary {
    /// Tells it on stdout; the exit code of what verify found.
    pub fn tell(&self, json: bool) -> u8 {
        let records: BTreeMap<&str, i64> = self
            .proof
            .streams
            .iter()
            .map(|s| {
                let recorded = s.partitions.iter().filter_map(|p| p.recorded.as_ref());
                let read = recorded.map(|r| r.counts.applied + r.counts.duplicates + r.counts.dead_letters).sum();
                (s.stream.as_str(), read)
            })
            .collect();
        let totals = self.proof.totals();
        if json {
            print_json(&serde_json::json!({
                "records": records,
                "rows": self.rows,
                "dead_letters": totals.dead_letters,
                "duplicates": totals.duplicates,
                "gaps": totals.gaps,
                "seconds": (self.seconds * 1000.0).round() / 1000.0,
                "verify": self.proof.verify,
            }));
        } else {
            outln!("caught up in {:.1} s", self.seconds);
            for (table, rows) in &self.rows {
                outln!("  {}: {rows} rows", crate::cli::printable::printable(table));
            }
            out!("{}", self.proof.text(crate::cli::support::colour()));
        }
        if self.proof.is_clean() { exit::OK } else { exit::FOUND }
    }
}
