//! `ignore` and `update` to the letter.

use super::support::{Batch, Fixture, V, t, write, write_and_commit};
use crate::core::target::{OnConflict, Rows};
use crate::ports::Written;

const NONE: [usize; 0] = [];
const MAKER: [&str; 3] = ["code", "name", "city"];

#[tokio::test]
async fn ignore_keeps_the_row_that_is_there_and_says_so() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("maker", &MAKER, OnConflict::Ignore).await;
    let first = [vec![t("A"), t("one"), V::Null], vec![t("C"), t("two"), V::Null]];
    assert_eq!(write_and_commit(&mut *warehouse, &target, &first).await, NONE);
    let second = [vec![t("A"), t("other"), t("x")], vec![t("B"), t("new"), V::Null], vec![t("C"), t("two"), V::Null]];
    assert_eq!(write_and_commit(&mut *warehouse, &target, &second).await, [0, 2]);
    assert_eq!(fixture.query("SELECT * FROM maker ORDER BY code").await, ["A|one|null", "B|new|null", "C|two|null"]);
}

#[tokio::test]
async fn update_sets_given_columns_only_and_tells_rows_that_were_equal() {
    let fixture = Fixture::new().await;
    fixture.sql("INSERT INTO maker VALUES ('A', 'one', 'here'), ('B', 'two', NULL), ('C', NULL, NULL)").await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("maker", &["code", "name"], OnConflict::Update).await;
    let rows = [vec![t("A"), t("changed")], vec![t("B"), t("two")], vec![t("C"), V::Null], vec![t("D"), t("new")]];
    assert_eq!(write_and_commit(&mut *warehouse, &target, &rows).await, [1, 2]);
    assert_eq!(
        fixture.query("SELECT * FROM maker ORDER BY code").await,
        ["A|changed|here", "B|two|null", "C|null|null", "D|new|null"]
    );
    let to_null = [vec![t("A"), V::Null]];
    assert_eq!(write_and_commit(&mut *warehouse, &target, &to_null).await, NONE);
    assert_eq!(fixture.query("SELECT * FROM maker WHERE code = 'A'").await, ["A|null|here"]);
}

#[tokio::test]
async fn update_never_deletes_a_row_so_children_stay() {
    let fixture = Fixture::new().await;
    fixture.sql("INSERT INTO maker VALUES ('A', 'one', NULL); INSERT INTO item (maker, number) VALUES ('A', 1)").await;
    fixture.sql("INSERT INTO review VALUES (1, 'A', 1)").await;
    let mut warehouse = fixture.warehouse().await;
    let makers = fixture.target("maker", &MAKER, OnConflict::Update).await;
    assert_eq!(write_and_commit(&mut *warehouse, &makers, &[vec![t("A"), t("new"), t("x")]]).await, NONE);
    let items = fixture.target("item", &["maker", "number", "label"], OnConflict::Update).await;
    assert_eq!(write_and_commit(&mut *warehouse, &items, &[vec![t("A"), V::I(1), t("new")]]).await, NONE);
    assert_eq!(fixture.query("SELECT id, label FROM review JOIN item USING (maker, number)").await, ["1|new"]);
    assert_eq!(fixture.query("PRAGMA foreign_key_check").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_key_alone_is_inserted_once_and_then_unchanged() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    for on_conflict in [OnConflict::Ignore, OnConflict::Update] {
        let target = fixture.target("maker", &["code"], on_conflict).await;
        let expected: &[usize] = if on_conflict == OnConflict::Ignore { &[] } else { &[0] };
        assert_eq!(write_and_commit(&mut *warehouse, &target, &[vec![t("K")]]).await, expected);
        assert_eq!(write_and_commit(&mut *warehouse, &target, &[vec![t("K")]]).await, [0]);
    }
}

#[tokio::test]
async fn every_kind_of_value_reads_back_and_counts_as_equal_when_written_again() {
    let fixture = Fixture::new().await;
    fixture.sql("INSERT INTO maker (code) VALUES ('A')").await;
    let mut warehouse = fixture.warehouse().await;
    let columns = ["maker", "number", "label", "weight", "price", "made", "sold", "picture"];
    let target = fixture.target("item", &columns, OnConflict::Update).await;
    let row = vec![
        t("A"),
        V::I(7),
        t("näme \u{1F600}'\"\n"),
        V::F(0.1),
        V::D("12.50"),
        V::At(1_357_016_400_000_001),
        V::On(15_706),
        V::B(vec![0, 255, 39]),
    ];
    assert_eq!(write_and_commit(&mut *warehouse, &target, std::slice::from_ref(&row)).await, NONE);
    assert_eq!(write_and_commit(&mut *warehouse, &target, &[row]).await, [0]);
    assert_eq!(
        fixture
            .query("SELECT label = 'näme ' || char(128512) || '''\"' || char(10), weight = 0.1, price = 12.5, made, sold, hex(picture), datetime(made, '+1 hour') FROM item")
            .await,
        ["1|1|1|2013-01-01 05:00:00.000001|2013-01-01|00FF27|2013-01-01 06:00:00"]
    );
}

#[tokio::test]
async fn rows_are_told_by_their_position_across_many_statements() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("node", &["id", "parent"], OnConflict::Ignore).await;
    let old: Vec<Vec<V>> = (0..1000).step_by(7).map(|id| vec![V::I(id), V::Null]).collect();
    write_and_commit(&mut *warehouse, &target, &old).await;
    let all: Vec<Vec<V>> = (0..1000).map(|id| vec![V::I(id), V::Null]).collect();
    let unchanged = write_and_commit(&mut *warehouse, &target, &all).await;
    assert_eq!(unchanged, (0..1000).step_by(7).collect::<Vec<_>>());
    assert_eq!(fixture.query("SELECT COUNT(*) FROM node").await, ["1000"]);
}

#[tokio::test]
async fn rolling_rows_back_keeps_what_came_before_the_savepoint() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("maker", &["code"], OnConflict::Ignore).await;
    warehouse.begin().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("A")]]).await;
    warehouse.savepoint().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("B")]]).await;
    warehouse.rollback_rows().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("C")]]).await;
    warehouse.rollback_rows().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("D")]]).await;
    warehouse.savepoint().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("E")]]).await;
    warehouse.rollback_rows().await.unwrap();
    warehouse.commit().await.unwrap();
    assert_eq!(fixture.query("SELECT code FROM maker ORDER BY code").await, ["A", "D"]);
}

#[tokio::test]
async fn rollback_and_abandon_leave_no_trace_and_the_next_transaction_begins_afresh() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("maker", &["code"], OnConflict::Ignore).await;
    warehouse.begin().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("A")]]).await;
    warehouse.rollback().await.unwrap();
    warehouse.begin().await.unwrap();
    write(&mut *warehouse, &target, &[vec![t("B")]]).await;
    warehouse.abandon();
    assert_eq!(write_and_commit(&mut *warehouse, &target, &[vec![t("C")]]).await, NONE);
    assert_eq!(fixture.query("SELECT code FROM maker").await, ["C"]);
}

#[tokio::test]
async fn no_rows_are_nothing_to_do() {
    let fixture = Fixture::new().await;
    let mut warehouse = fixture.warehouse().await;
    let target = fixture.target("maker", &["code"], OnConflict::Ignore).await;
    let batch = Batch::default();
    warehouse.begin().await.unwrap();
    let rows = Rows { target: &target, columns: &[0], cells: &batch.cells, arena: &batch.arena };
    assert_eq!(warehouse.write(rows).await.unwrap(), Written::default());
    warehouse.commit().await.unwrap();
}
