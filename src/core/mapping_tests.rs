//! What can't be mapped is told, and parents come before the tables that point at them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::schema::Column;
use crate::core::testing::{bigint, column, mapping, required, table, varchar};
use OnConflict::{Ignore, Update};

fn sensors() -> Arc<Table> {
    table(
        "sensors",
        vec![
            required("id", bigint()),
            required("label", varchar(9)),
            Column { has_default: true, ..required("state", bigint()) },
            column("seen", ColumnKind::DateTime { fraction: 0, timestamp: false }),
            Column { generated: true, ..required("hash", bigint()) },
            column("shape", ColumnKind::Other),
        ],
        &[],
    )
}

fn misfits(mappings: &[Mapping]) -> Vec<(usize, Option<usize>, String, String)> {
    let keyless =
        Arc::new(Table { primary_key: vec![], ..(*table("notes", vec![column("id", bigint())], &[])).clone() });
    let found = Plan::new("t", mappings, &[sensors(), keyless]).unwrap_err();
    found.into_iter().map(|m| (m.mapping, m.column, m.problem, m.help)).collect()
}

/// Maps `id` and `label`, and this column besides.
fn with(name: &str, source: Source) -> Mapping {
    let mut mapping = mapping("sensors", Update, &[("id", "id"), ("label", "label")]);
    mapping.columns.push((name.to_owned(), source));
    mapping
}

#[test]
fn every_misfit_is_told_with_what_to_write_instead() {
    let field = || Source::Field("x".to_owned());
    let epoch = || Source::Epoch { field: "x".to_owned(), unit: EpochUnit::Millis };
    let cases = [
        (mapping("sensor", Update, &[("id", "id")]), None, "there is no table `sensor`", "create it"),
        (mapping("notes", Update, &[("id", "id")]), None, "`notes` has no primary key", "give it one"),
        (with("stat", field()), Some(2), "no column `stat`", "write `state`"),
        (with("quite_another", field()), Some(2), "no column `quite_another`", "its columns are id, label, state"),
        (with("hash", field()), Some(2), "`hash` of `sensors` is computed", "leave it out"),
        (with("shape", field()), Some(2), "which bief does not write", "change its type"),
        (with("state", Source::Timestamp), Some(2), "can't hold this source", "DATETIME"),
        (with("state", epoch()), Some(2), "can't hold this source", "DATETIME"),
        (with("state", Source::Key), Some(2), "can't hold this source", "@key"),
        (with("state", Source::Topic), Some(2), "can't hold this source", "@topic"),
        (with("seen", Source::Partition), Some(2), "can't hold this source", "@partition"),
        (with("seen", Source::Offset), Some(2), "can't hold this source", "@offset"),
        (mapping("sensors", Update, &[("label", "x")]), None, "`id` of the primary key", "add `id"),
        (mapping("sensors", Update, &[("id", "x")]), None, "`label` of `sensors` must have a value", "DEFAULT"),
    ];
    for (mapping, column, problem, help) in cases {
        let found = misfits(std::slice::from_ref(&mapping));
        assert_eq!(found.len(), 1, "{mapping:?}: {found:?}");
        assert_eq!((found[0].0, found[0].1), (0, column));
        assert!(found[0].2.contains(problem), "{problem:?} is not in {:?}", found[0].2);
        assert!(found[0].3.contains(help), "{help:?} is not in {:?}", found[0].3);
    }
}

#[test]
fn misfits_of_all_mappings_are_told_at_once() {
    let found = misfits(&[mapping("gone", Update, &[]), with("stat", Source::Key), mapping("SENSORS", Ignore, &[])]);
    let places: Vec<_> = found.iter().map(|m| (m.0, m.1)).collect();
    assert_eq!(places, [(0, None), (1, Some(2)), (2, None), (2, None)]);
}

#[test]
fn more_columns_than_a_plan_tells_apart_are_refused() {
    let wide = |count: usize| {
        let name = |i| format!("c{i}");
        let table = table("wide", (0..count).map(|i| column(&name(i), bigint())).collect(), &[]);
        let columns = (0..count).map(|i| (name(i), Source::Field(name(i)))).collect();
        Plan::new("t", &[Mapping { columns, ..mapping("wide", Update, &[]) }], &[table])
    };
    assert!(wide(MAX_COLUMNS).is_ok());
    assert_eq!(wide(MAX_COLUMNS + 1).unwrap_err().len(), 1);
}

#[test]
fn names_compare_without_case_and_every_source_finds_its_kind() {
    let mut all = with("SEEN", Source::Timestamp);
    all.table = "Sensors".to_owned();
    all.columns.push(("State".to_owned(), Source::Offset));
    let plan = Plan::new("t", &[all], &[sensors()]).unwrap();
    assert_eq!(plan.targets[0].columns, [0, 1, 3, 2]);
    assert_eq!(plan.targets[0].key, [0]);
    assert_eq!(plan.fields, ["id", "label"]);
}

#[test]
fn a_table_that_is_fed_twice_is_one_target_with_all_columns() {
    let twice = [with("state", Source::Field("id".into())), with("seen", Source::Timestamp)];
    let plan = Plan::new("t", &twice, &[sensors()]).unwrap();
    assert_eq!(plan.targets.len(), 1);
    assert_eq!(plan.targets[0].columns, [0, 1, 2, 3]);
    assert_eq!(plan.mappings.iter().map(|m| m.target).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(plan.fields, ["id", "label"], "a field that is read twice is kept once");
    assert!(!plan.targets[0].dimension);
}

#[test]
fn tables_that_point_at_each_other_keep_the_order_of_the_configuration() {
    let columns = || vec![required("id", bigint()), column("other", bigint())];
    let a = table("a", columns(), &[(1, "b", "id")]);
    let b = table("b", columns(), &[(1, "a", "id")]);
    let own = table("own", columns(), &[(1, "own", "id")]);
    let mappings = ["own", "b", "a"].map(|t| mapping(t, Update, &[("id", "id"), ("other", "other")]));
    let plan = Plan::new("t", &mappings, &[a, b, own]).unwrap();
    let order: Vec<_> = plan.targets.iter().map(|t| (t.table.name.as_str(), t.dimension)).collect();
    assert_eq!(order, [("own", false), ("b", true), ("a", true)]);
}

proptest! {
    /// Tables 0..6; one may point at any of a lower number, and the configuration names them in any order.
    #[test]
    fn parents_come_first_whatever_the_order_of_the_configuration(
        edges in prop::collection::btree_set((0usize..6, 0usize..6), 0..10),
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        again in prop::collection::vec(0usize..6, 0..3),
    ) {
        let edges: BTreeSet<(usize, usize)> = edges.into_iter().filter(|(child, parent)| parent < child).collect();
        let name = |i: usize| format!("table{i}");
        let tables: Vec<Arc<Table>> = (0..6).map(|i| {
            let parents: Vec<String> = edges.iter().filter(|(child, _)| *child == i).map(|(_, p)| name(*p).to_uppercase()).collect();
            let parents: Vec<(usize, &str, &str)> = parents.iter().map(|p| (1, p.as_str(), "id")).collect();
            table(&name(i), vec![required("id", bigint()), column("up", bigint())], &parents)
        }).collect();
        let mappings: Vec<Mapping> = order.iter().chain(&again)
            .map(|i| mapping(&name(*i), Update, &[("id", "id"), ("up", "up")])).collect();
        let plan = Plan::new("t", &mappings, &tables).unwrap();
        let place = |i: usize| plan.targets.iter().position(|t| t.table.name == name(i)).unwrap();
        for (child, parent) in &edges {
            prop_assert!(place(*parent) < place(*child), "{parent} before {child}");
        }
        for i in 0..6 {
            prop_assert_eq!(plan.targets[place(i)].dimension, edges.iter().any(|(_, parent)| *parent == i));
        }
        for (mapping, planned) in mappings.iter().zip(&plan.mappings) {
            prop_assert_eq!(&plan.targets[planned.target].table.name, &mapping.table);
        }
        prop_assert_eq!(plan.targets.len(), 6);
    }
}
