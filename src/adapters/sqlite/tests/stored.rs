//! What was written is found again, each value under its literal.

use super::support::{Fixture, V, t, write_and_commit};
use crate::adapters::sqlite::stored::{literal, stored_rows};
use crate::core::target::OnConflict;
use crate::core::value::fit_json;

#[tokio::test]
async fn what_was_written_is_found_under_the_literals_of_its_values() {
    let fixture = Fixture::new().await;
    fixture.sql("INSERT INTO maker VALUES ('A', 'it''s', NULL), ('B', NULL, NULL)").await;
    let mut warehouse = fixture.warehouse().await;
    let columns = ["maker", "number", "label", "weight", "price", "made", "sold", "picture"];
    let target = fixture.target("item", &columns, OnConflict::Update).await;
    let made = 1_357_035_300_250_000;
    let row = vec![
        t("A"),
        V::I(7),
        t("né 'x'"),
        V::F(1.5),
        V::D("12.50"),
        V::At(made),
        V::On(15_706),
        V::B(b"\x01a".to_vec()),
    ];
    write_and_commit(&mut *warehouse, &target, &[row]).await;
    let makers = fixture.table("maker").await;
    let found = stored_rows(&fixture.settings, &makers).await.unwrap();
    assert_eq!(found, [vec!["'A'", "'it''s'", "NULL"], vec!["'B'", "NULL", "NULL"]]);

    let items = fixture.table("item").await;
    let found = stored_rows(&fixture.settings, &items).await.unwrap();
    let given = [
        r#""A""#,
        "7",
        r#""né 'x'""#,
        "1.5",
        "12.5",
        r#""2013-01-01T10:15:00.25Z""#,
        r#""2013-01-01""#,
        r#""\u0001a""#,
    ];
    for (at, raw) in given.iter().enumerate() {
        let expected = literal(&fit_json(raw, &items.columns[at].kind).unwrap());
        assert_eq!(found[0][at], expected, "{}", items.columns[at].name);
    }
    assert_eq!(literal(&fit_json("null", &items.columns[2].kind).unwrap()), "NULL");
}
