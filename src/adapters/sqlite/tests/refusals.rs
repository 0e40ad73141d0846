//! Which rows are refused, why, and that all of them are found.

use super::support::{Fixture, V, t, write, write_and_commit};
use crate::core::outcome::Reason;
use crate::core::target::{OnConflict, Target};
use crate::ports::{Warehouse, WarehouseError, Written};

const ITEM: [&str; 5] = ["maker", "number", "label", "stock", "serial"];

fn item(maker: &str, number: i64, stock: V, serial: V) -> Vec<V> {
    vec![t(maker), V::I(number), t("x"), stock, serial]
}

async fn attempt(warehouse: &mut dyn Warehouse, target: &Target, rows: &[Vec<V>]) -> Vec<(usize, Reason, String)> {
    warehouse.begin().await.unwrap();
    warehouse.savepoint().await.unwrap();
    let Written { refused, .. } = write(warehouse, target, rows).await;
    warehouse.rollback().await.unwrap();
    refused.into_iter().map(|r| (r.row, r.rejection.reason, r.rejection.field.unwrap_or_default())).collect()
}

fn reasons(refused: &[(usize, Reason, String)]) -> Vec<(usize, Reason, &str)> {
    refused.iter().map(|(row, reason, field)| (*row, *reason, field.as_str())).collect()
}

async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.sql("INSERT INTO maker (code) VALUES ('A'), ('B')").await;
    fixture.sql("INSERT INTO item (maker, number, serial) VALUES ('A', 1, 'S1')").await;
    fixture
}

#[tokio::test]
async fn every_poison_row_of_a_mixed_batch_is_found_in_one_go_with_its_reason() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    for on_conflict in [OnConflict::Ignore, OnConflict::Update] {
        let target = fixture.target("item", &ITEM, on_conflict).await;
        let mut rows: Vec<Vec<V>> = (10..510).map(|n| item("A", n, V::I(0), V::Null)).collect();
        rows[3] = item("ZZ", 13, V::I(0), V::Null);
        rows[77] = item("A", 87, V::I(-1), V::Null);
        rows[200] = item("A", 210, V::Null, V::Null);
        rows[201] = item("A", 211, V::I(0), t("S1"));
        rows[499] = item("YY", 509, V::I(0), V::Null);
        let refused = attempt(&mut *warehouse, &target, &rows).await;
        assert_eq!(
            reasons(&refused),
            [
                (3, Reason::ForeignKey, "maker"),
                (77, Reason::Check, ""),
                (200, Reason::NullNotAllowed, "stock"),
                (201, Reason::UniqueKey, "serial"),
                (499, Reason::ForeignKey, "maker"),
            ],
            "{on_conflict:?}"
        );
    }
}

#[tokio::test]
async fn a_row_with_two_faults_is_refused_once() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("item", &ITEM, OnConflict::Update).await;
    let rows = [item("ZZ", 1, V::I(-1), t("S1")), item("B", 1, V::I(1), V::Null)];
    let refused = attempt(&mut *warehouse, &target, &rows).await;
    assert_eq!(refused.iter().map(|r| r.0).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn all_rows_poisoned_are_all_refused() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("item", &ITEM, OnConflict::Ignore).await;
    let checks: Vec<Vec<V>> = (0..300).map(|n| item("B", n, V::I(-1), V::Null)).collect();
    assert_eq!(attempt(&mut *warehouse, &target, &checks).await.len(), 300);
    let orphans: Vec<Vec<V>> = (0..300).map(|n| item("ZZ", n, V::I(1), V::Null)).collect();
    assert_eq!(attempt(&mut *warehouse, &target, &orphans).await.len(), 300);
}

#[tokio::test]
async fn a_clash_on_another_unique_index_refuses_the_row_and_touches_neither() {
    let fixture = fixture().await;
    fixture.sql("INSERT INTO item (maker, number, serial) VALUES ('B', 2, 'S2')").await;
    let mut warehouse = fixture.warehouse().await;
    for on_conflict in [OnConflict::Ignore, OnConflict::Update] {
        let target = fixture.target("item", &ITEM, on_conflict).await;
        // A new key with another row's serial.
        let refused = attempt(&mut *warehouse, &target, &[item("B", 9, V::I(1), t("S1"))]).await;
        assert_eq!(reasons(&refused), [(0, Reason::UniqueKey, "serial")], "{on_conflict:?}");
    }
    // A known key that would take another row's serial.
    let target = fixture.target("item", &ITEM, OnConflict::Update).await;
    let refused = attempt(&mut *warehouse, &target, &[item("B", 2, V::I(1), t("S1"))]).await;
    assert_eq!(reasons(&refused), [(0, Reason::UniqueKey, "serial")]);
    assert_eq!(fixture.query("SELECT number, serial FROM item ORDER BY 1").await, ["1|S1", "2|S2"]);
}

#[tokio::test]
async fn of_two_rows_of_a_batch_with_one_unique_value_the_first_is_written() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("item", &ITEM, OnConflict::Update).await;
    let rows = [item("B", 1, V::I(1), t("T")), item("B", 2, V::I(1), t("T")), item("B", 3, V::I(1), t("U"))];
    let refused = attempt(&mut *warehouse, &target, &rows).await;
    assert_eq!(reasons(&refused), [(1, Reason::UniqueKey, "serial")]);
}

#[tokio::test]
async fn a_row_that_ignore_leaves_alone_is_not_refused_for_what_it_would_have_set() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("item", &ITEM, OnConflict::Ignore).await;
    let rows = [item("A", 1, V::I(-1), V::Null)];
    assert_eq!(write_and_commit(&mut *warehouse, &target, &rows).await, [0]);
}

#[tokio::test]
async fn an_update_to_a_parent_that_is_not_there_is_refused() {
    let fixture = fixture().await;
    fixture.sql("INSERT INTO review VALUES (1, 'A', 1), (2, NULL, NULL)").await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("review", &["id", "maker", "number"], OnConflict::Update).await;
    let rows = [vec![V::I(1), t("A"), V::I(99)], vec![V::I(2), V::Null, V::I(99)], vec![V::I(3), t("A"), V::I(1)]];
    let refused = attempt(&mut *warehouse, &target, &rows).await;
    // A null in one of the key's columns points nowhere.
    assert_eq!(reasons(&refused), [(0, Reason::ForeignKey, "maker")]);
}

#[tokio::test]
async fn a_row_may_point_at_itself_or_at_an_earlier_row_of_its_table_but_not_at_a_refused_one() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("node", &["id", "parent"], OnConflict::Update).await;
    let rows: Vec<Vec<V>> = [(1, 1), (2, 1), (3, 77), (4, 3), (5, 2)].map(|(i, p)| vec![V::I(i), V::I(p)]).to_vec();
    let refused = attempt(&mut *warehouse, &target, &rows).await;
    assert_eq!(reasons(&refused), [(2, Reason::ForeignKey, "parent"), (3, Reason::ForeignKey, "parent")]);
}

#[tokio::test]
async fn a_row_may_lean_on_one_that_comes_after_it() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("node", &["id", "parent"], OnConflict::Update).await;
    // So many that they go in several statements; the last is the root of all, and one's parent is nowhere.
    let last = 700;
    let rows: Vec<Vec<V>> = (1..last)
        .map(|i| vec![V::I(i), V::I(if i == 350 { 999 } else { i + 1 })])
        .chain([vec![V::I(last), V::I(last)]])
        .collect();
    let refused = attempt(&mut *warehouse, &target, &rows).await;
    let wanted: Vec<_> = (0..350).map(|row| (row, Reason::ForeignKey, "parent")).collect();
    assert_eq!(reasons(&refused), wanted, "the one, and whatever points at it");

    let target = fixture.target("item", &ITEM, OnConflict::Update).await;
    let first = [item("B", 9, V::I(0), t("S7")), item("B", 3, V::I(0), t("S8"))];
    assert!(attempt(&mut *warehouse, &target, &first).await.is_empty());
    // Each serial goes to a row that comes before the one that gives it up.
    let handed_over = [
        item("B", 1, V::I(0), t("S8")),
        item("B", 3, V::I(0), t("S7")),
        item("B", 9, V::I(0), t("S9")),
        item("B", 10, V::I(0), t("S9")),
    ];
    let refused = attempt(&mut *warehouse, &target, &handed_over).await;
    assert_eq!(reasons(&refused), [(3, Reason::UniqueKey, "serial")]);
}

#[tokio::test]
async fn messages_name_the_value_and_the_other_table() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("item", &ITEM, OnConflict::Ignore).await;
    warehouse.begin().await.unwrap();
    let rows = [item("ZZ", 1, V::I(0), V::Null), item("B", 1, V::I(-4), V::Null), item("B", 2, V::I(0), t("S1"))];
    let written = write(&mut *warehouse, &target, &rows).await;
    let messages: Vec<&str> = written.refused.iter().map(|r| r.rejection.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "no row of maker has code = \"ZZ\" (maker of item)",
            "CHECK of item refuses the row: item_stock",
            "another row of item has serial = \"S1\" already",
        ]
    );
    warehouse.rollback().await.unwrap();
}

#[tokio::test]
async fn a_number_beyond_sqlite_is_refused_not_bent() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("node", &["id", "parent"], OnConflict::Ignore).await;
    let rows = [vec![V::U(7), V::Null], vec![V::U(u64::MAX), V::Null]];
    assert_eq!(reasons(&attempt(&mut *warehouse, &target, &rows).await), [(1, Reason::OutOfRange, "id")]);
}

#[tokio::test]
async fn a_missing_table_is_fatal_and_no_row_is_blamed() {
    let fixture = fixture().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("node", &["id", "parent"], OnConflict::Ignore).await;
    fixture.sql("DROP TABLE node").await;
    warehouse.begin().await.unwrap();
    let batch = super::support::Batch::of(&[vec![V::I(1), V::Null]]);
    let rows =
        crate::core::target::Rows { target: &target, columns: &[0, 1], cells: &batch.cells, arena: &batch.arena };
    let error = warehouse.write(rows).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Fatal { .. }), "{error:?}");
    assert!(error.to_string().contains("no such table: node") && error.to_string().contains("migrations"), "{error}");
}
