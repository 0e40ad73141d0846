//! What the catalog tells of real tables.

use super::support::Fixture;
use crate::adapters::warehouse;
use crate::core::schema::ColumnKind;

#[tokio::test]
async fn keys_defaults_nulls_and_generated_columns_are_told_as_they_are() {
    let fixture = Fixture::with_domain(
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, b BIGINT DEFAULT 7, c VARCHAR(7) NOT NULL,
           d INTEGER GENERATED ALWAYS AS (b * 2) STORED, e BOOLEAN);
         CREATE TABLE pair (b SMALLINT, a CHAR(2), PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE TABLE child (id BIGINT PRIMARY KEY, x CHAR(2), y SMALLINT, p INTEGER REFERENCES plain,
           CONSTRAINT c FOREIGN KEY (x, y) REFERENCES pair (a, b));
         CREATE VIEW seen AS SELECT * FROM plain",
    )
    .await;
    let mut catalog = warehouse::catalog(&fixture.settings).await.unwrap();
    let tables = catalog.tables(&["PLAIN", "pair", "child", "absent", "seen"]).await.unwrap();
    assert_eq!(tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["plain", "pair", "child"]);

    let plain = &tables[0];
    let flags: Vec<_> = plain
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.declared.as_str(), c.nullable, c.has_default, c.generated))
        .collect();
    assert_eq!(
        flags,
        [
            ("id", "integer", false, true, false),
            ("b", "bigint", true, true, false),
            ("c", "varchar(7)", false, false, false),
            ("d", "integer", true, false, true),
            ("e", "boolean", true, false, false),
        ]
    );
    assert_eq!(plain.columns[4].kind, ColumnKind::Integer { min: -128, max: 127 });
    assert_eq!(plain.primary_key, [0]);

    // In the key's order, and never null.
    assert_eq!(tables[1].primary_key, [1, 0]);
    assert!(tables[1].columns.iter().all(|c| !c.nullable && !c.has_default));

    let keys: Vec<_> = tables[2]
        .foreign_keys
        .iter()
        .map(|k| (k.columns.clone(), k.parent.as_str(), k.parent_columns.join(",")))
        .collect();
    assert_eq!(keys, [(vec![3], "plain", "id".to_owned()), (vec![1, 2], "pair", "a,b".to_owned())]);
    assert!(!tables[2].columns[0].has_default, "only INTEGER PRIMARY KEY is the row's id");
}
