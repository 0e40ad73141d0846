//! How fast rows go in; run by hand: `cargo test --release --lib sqlite::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::support::{Batch, Fixture, V, t};
use crate::core::target::{OnConflict, Rows};

const ROWS: i64 = 200_000;
const BATCH: i64 = 10_000;

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn rows_of_twenty_columns_a_second() {
    let columns: Vec<String> = (0..20).map(|c| format!("c{c}")).collect();
    let types = ["BIGINT", "VARCHAR(20)", "DOUBLE", "DATETIME(6)"];
    let declared: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{c} {}", types[i % 4])).collect();
    let fixture =
        Fixture::with_domain(&format!("CREATE TABLE wide ({}, PRIMARY KEY (c0, c1))", declared.join(", "))).await;
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut warehouse = fixture.warehouse().await;
    for (what, on_conflict, change) in [
        ("new rows", OnConflict::Update, 0),
        ("equal rows", OnConflict::Update, 0),
        ("changed rows", OnConflict::Update, 1),
        ("ignored rows", OnConflict::Ignore, 2),
    ] {
        let target = fixture.target("wide", &names, on_conflict).await;
        let all: Vec<usize> = (0..20).collect();
        let mut spent = std::time::Duration::ZERO;
        for start in (0..ROWS).step_by(BATCH as usize) {
            let rows: Vec<Vec<V>> = (start..start + BATCH)
                .map(|n| {
                    (0..20)
                        .map(|c| match c % 4 {
                            0 => V::I(if c == 0 { n } else { n + change }),
                            1 => t("some text"),
                            2 => V::F(n as f64 / 7.0),
                            _ => V::At(1_357_016_400_000_000 + n * 60_000_000),
                        })
                        .collect()
                })
                .collect();
            let batch = Batch::of(&rows);
            let began = Instant::now();
            warehouse.begin().await.unwrap();
            warehouse.savepoint().await.unwrap();
            let rows = Rows { target: &target, columns: &all, cells: &batch.cells, arena: &batch.arena };
            assert_eq!(warehouse.write(rows).await.unwrap().refused, []);
            warehouse.commit().await.unwrap();
            spent += began.elapsed();
        }
        println!("{what}: {:.0} rows/s", ROWS as f64 / spent.as_secs_f64());
    }
}
