//! Rows of a batch joined by key, in key order, without what is known to be there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::decode::FieldOrder;
use crate::core::mapping::Plan;
use crate::core::schema::ColumnKind;
use crate::core::testing::{Decoded, bigint, column, decode, mapping, required, show_all, table, varchar};
use OnConflict::{Ignore, Update};

/// One table of sensors; remembered as if another table pointed at it.
fn sensors(on_conflict: OnConflict) -> Plan {
    let columns = vec![required("id", bigint()), column("label", varchar(9)), column("state", bigint())];
    let fields = [("id", "id"), ("label", "label"), ("state", "state")];
    Plan::new("t", &[mapping("sensors", on_conflict, &fields)], &[table("sensors", columns, &[])]).unwrap()
}

fn rows(plan: &Plan, payloads: &[&str]) -> Decoded {
    let decoded = decode(plan, &mut FieldOrder::default(), payloads);
    assert_eq!(decoded.rejected, []);
    decoded
}

fn prepared(plan: &Plan, decoded: &Decoded, known: Option<&mut Known>) -> PreparedTable {
    let none = vec![false; 100];
    prepare(0, &plan.targets[0], &decoded.tables[0], &decoded.arena, &none, &none, known)
}

/// For each group: its columns, and its rows joined by commas.
fn shown(table: &PreparedTable, arena: &[u8]) -> Vec<(Vec<usize>, Vec<String>)> {
    let rows = |p: &Prepared| p.cells.chunks_exact(p.columns.len()).map(|row| show_all(row, arena).join(",")).collect();
    table.groups.iter().map(|p| (p.columns.clone(), rows(p))).collect()
}

fn group_of(columns: &[usize], rows: &[&str]) -> (Vec<usize>, Vec<String>) {
    (columns.to_vec(), rows.iter().map(|r| (*r).to_owned()).collect())
}

#[test]
fn records_are_the_sole_authors_of_rows_only_where_they_made_no_other() {
    let plan = sensors(Update);
    let decoded = rows(&plan, &[r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3,"state":1}"#, r#"{"id":2}"#]);
    let table = prepared(&plan, &decoded, None);
    let [first, second] = &table.groups[..] else { panic!("two groups") };
    assert_eq!(first.sole_authors([0].into_iter(), [second].into_iter()), Some(vec![0]));
    assert_eq!(first.sole_authors([0, 1].into_iter(), [second].into_iter()), None, "row 1 was joined from two");
    assert_eq!(second.sole_authors([0].into_iter(), [first].into_iter()), Some(vec![2]));
    assert_eq!(second.sole_authors([0].into_iter(), [second].into_iter()), None, "it has a row elsewhere");
}

#[test]
fn update_lets_the_later_win_and_keeps_what_it_does_not_say() {
    let plan = sensors(Update);
    let decoded = rows(
        &plan,
        &[
            r#"{"id":1,"label":"a","state":1}"#,
            r#"{"id":1,"state":2}"#,
            r#"{"id":1,"label":null}"#,
            r#"{"id":2,"label":"x"}"#,
            r#"{"id":2,"state":0}"#,
        ],
    );
    let table = prepared(&plan, &decoded, None);
    assert_eq!(shown(&table, &decoded.arena), [group_of(&[0, 1, 2], &["1,null,2", "2,\"x\",0"])]);
    let group = &table.groups[0];
    assert_eq!(group.records_of(0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(group.author_of(0, Update), None, "three records have their part in it");
    assert!(group.is_joined(0));
}

#[test]
fn ignore_lets_the_first_win() {
    let plan = sensors(Ignore);
    let decoded = rows(&plan, &[r#"{"id":1,"state":1}"#, r#"{"id":1,"label":"b","state":2}"#]);
    let table = prepared(&plan, &decoded, None);
    assert_eq!(shown(&table, &decoded.arena), [group_of(&[0, 2], &["1,1"])]);
    assert_eq!(table.groups[0].author_of(0, Ignore), Some(0));
}

#[test]
fn the_last_whole_row_is_its_records_own() {
    let plan = sensors(Update);
    let decoded = rows(&plan, &[r#"{"id":1,"state":1}"#, r#"{"id":1,"label":"b","state":2}"#]);
    let table = prepared(&plan, &decoded, None);
    assert_eq!(table.groups[0].author_of(0, Update), Some(1));
}

#[test]
fn rows_are_in_key_order_and_grouped_by_their_columns() {
    let plan = sensors(Update);
    let decoded = rows(
        &plan,
        &[
            r#"{"id":9}"#,
            r#"{"id":-3,"state":1}"#,
            r#"{"id":4}"#,
            r#"{"id":0,"label":"a"}"#,
            r#"{"id":-5,"state":null}"#,
        ],
    );
    let table = prepared(&plan, &decoded, None);
    assert_eq!(
        shown(&table, &decoded.arena),
        [group_of(&[0, 2], &["-5,null", "-3,1"]), group_of(&[0, 1], &["0,\"a\""]), group_of(&[0], &["4", "9"])]
    );
    assert_eq!(table.groups[2].records_of(0).collect::<Vec<_>>(), [2]);
}

#[test]
fn texts_are_one_key_wherever_they_stand() {
    let columns = vec![required("code", varchar(3)), column("state", bigint())];
    let fields = [("code", "code"), ("state", "state")];
    let plan = Plan::new("t", &[mapping("c", Update, &fields)], &[table("c", columns, &[])]).unwrap();
    let decoded = rows(&plan, &[r#"{"code":"b","state":1}"#, r#"{"code":"a"}"#, r#"{"code":"\u0062","state":2}"#]);
    let table = prepared(&plan, &decoded, None);
    let all: Vec<_> = shown(&table, &decoded.arena).into_iter().flat_map(|(_, rows)| rows).collect();
    assert_eq!(all, ["\"a\"", "\"b\",2"]);
}

#[test]
fn decimals_are_one_key_however_they_are_written() {
    let price = ColumnKind::Decimal { precision: 6, scale: 2, unsigned: false };
    let columns = vec![required("price", price), column("state", bigint())];
    let fields = [("price", "price"), ("state", "state")];
    let plan = Plan::new("t", &[mapping("p", Update, &fields)], &[table("p", columns, &[])]).unwrap();
    let payloads = [
        r#"{"price":1.0,"state":1}"#,
        r#"{"price":"10","state":1}"#,
        r#"{"price":"9.5","state":1}"#,
        r#"{"price":1,"state":2}"#,
    ];
    let decoded = rows(&plan, &payloads);
    let mut known = Known::new(1);
    let table = prepared(&plan, &decoded, Some(&mut known));
    let all: Vec<_> = shown(&table, &decoded.arena).into_iter().flat_map(|(_, rows)| rows).collect();
    assert_eq!(all, ["\"1\",2", "\"9.5\",1", "\"10\",1"]);
}

#[test]
fn records_that_were_set_aside_have_no_part() {
    let plan = sensors(Update);
    let decoded = rows(&plan, &[r#"{"id":1,"state":1}"#, r#"{"id":1,"state":2}"#, r#"{"id":2,"state":1}"#]);
    let (excluded, apart) = ([false, true, true], [false; 3]);
    let table = prepare(0, &plan.targets[0], &decoded.tables[0], &decoded.arena, &excluded, &apart, None);
    assert_eq!(shown(&table, &decoded.arena), [group_of(&[0, 2], &["1,1"])]);
}

#[test]
fn keys_of_records_apart_are_not_joined_and_stay_in_order() {
    let plan = sensors(Update);
    let decoded = rows(
        &plan,
        &[
            r#"{"id":2,"state":1}"#,
            r#"{"id":1,"state":1}"#,
            r#"{"id":2,"state":2}"#,
            r#"{"id":1,"state":3}"#,
            r#"{"id":2}"#,
        ],
    );
    let (excluded, apart) = ([false; 5], [false, false, true, false, false]);
    let mut known = Known::new(1);
    let table = prepare(0, &plan.targets[0], &decoded.tables[0], &decoded.arena, &excluded, &apart, Some(&mut known));
    assert_eq!(
        shown(&table, &decoded.arena),
        [group_of(&[0, 2], &["1,3"]), group_of(&[0, 2], &["2,1"]), group_of(&[0, 2], &["2,2"]), group_of(&[0], &["2"])]
    );
    assert_eq!(table.groups[2].author_of(0, Update), Some(2));
    assert!(!table.groups[2].is_joined(0));
}

/// Remembers these rows as committed.
fn remembered(plan: &Plan, payloads: &[&str]) -> Known {
    let mut known = Known::new(1);
    let decoded = rows(plan, payloads);
    for group in &prepared(plan, &decoded, None).groups {
        known.remember(0, group, &plan.targets[0], &decoded.arena);
    }
    known
}

#[test]
fn a_known_row_is_left_out_and_any_other_is_written() {
    let plan = sensors(Update);
    let variants = [
        r#"{"id":1,"label":"a","state":0}"#,
        r#"{"id":1,"label":"a","state":null}"#,
        r#"{"id":1,"label":"a"}"#,
        r#"{"id":1,"label":"a","state":1}"#,
        r#"{"id":1,"label":null,"state":0}"#,
        r#"{"id":1,"label":"","state":0}"#,
        r#"{"id":1,"state":0}"#,
        r#"{"id":1}"#,
        r#"{"id":0,"label":"a","state":0}"#,
        r#"{"id":1,"label":"ab","state":0}"#,
    ];
    for (a, first) in variants.iter().enumerate() {
        for (b, second) in variants.iter().enumerate() {
            let mut known = remembered(&plan, &[first]);
            let decoded = rows(&plan, &[second]);
            let table = prepared(&plan, &decoded, Some(&mut known));
            assert_eq!(table.left_out, a == b, "{first}, then {second}");
            assert_eq!(table.groups.is_empty(), a == b, "{first}, then {second}");
        }
    }
}

#[test]
fn a_row_that_is_to_stay_is_left_out_by_its_key() {
    let plan = sensors(Ignore);
    let mut known = remembered(&plan, &[r#"{"id":1,"state":1}"#]);
    let decoded = rows(&plan, &[r#"{"id":1,"state":2}"#, r#"{"id":2,"state":2}"#]);
    let table = prepared(&plan, &decoded, Some(&mut known));
    assert!(table.left_out);
    assert_eq!(shown(&table, &decoded.arena), [group_of(&[0, 2], &["2,2"])]);
}

#[test]
fn a_known_row_is_written_again_behind_another_of_its_key() {
    let plan = sensors(Update);
    let mut known = remembered(&plan, &[r#"{"id":1,"state":1}"#]);
    let decoded = rows(&plan, &[r#"{"id":1,"state":2}"#, r#"{"id":1,"state":1}"#]);
    let table = prepared(&plan, &decoded, Some(&mut known));
    assert!(!table.left_out);
    assert_eq!(shown(&table, &decoded.arena), [group_of(&[0, 2], &["1,1"])]);
    known.forget();
    let decoded = rows(&plan, &[r#"{"id":1,"state":1}"#]);
    assert!(!prepared(&plan, &decoded, Some(&mut known)).left_out, "what is forgotten is written");
}

#[test]
fn records_that_changed_a_row_are_marked() {
    let marked = |on_conflict, unchanged: &[usize]| {
        let plan = sensors(on_conflict);
        let decoded = rows(&plan, &[r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":1}"#, r#"{"id":3}"#, r#"{"id":3}"#]);
        let table = prepared(&plan, &decoded, None);
        let mut changed = vec![false; 5];
        mark_changed(on_conflict, &table.groups[0], unchanged, &mut changed);
        (0..5).filter(|at| changed[*at]).collect::<Vec<usize>>()
    };
    assert_eq!(marked(Update, &[]), [0, 1, 2, 3, 4]);
    assert_eq!(marked(Update, &[0]), [1, 3, 4], "all records of an unchanged row are repetitions");
    assert_eq!(marked(Update, &[0, 1, 2]), [] as [usize; 0]);
    assert_eq!(marked(Ignore, &[]), [0, 1, 3], "only the first record of a key makes its row");
    assert_eq!(marked(Ignore, &[1, 2]), [0]);
}

proptest! {
    #[test]
    fn joined_rows_say_what_their_records_said_in_order(
        records in prop::collection::vec((0..4i64, prop::option::of(0..3i64), prop::option::of("[ab]")), 0..20),
        update: bool,
    ) {
        let on_conflict = if update { Update } else { Ignore };
        let plan = sensors(on_conflict);
        let mut expected: BTreeMap<i64, [String; 2]> = BTreeMap::new();
        let payloads: Vec<String> = records.iter().map(|(id, state, label)| {
            let new = [
                label.as_ref().map_or("-".to_owned(), |l| format!("{l:?}")),
                state.map_or("-".to_owned(), |s| s.to_string()),
            ];
            match expected.get_mut(id) {
                Some(row) if update => row.iter_mut().zip(new).filter(|(_, n)| n != "-").for_each(|(o, n)| *o = n),
                Some(_) => {}
                None => drop(expected.insert(*id, new)),
            }
            let label = label.as_ref().map_or(String::new(), |l| format!(",\"label\":\"{l}\""));
            let state = state.map_or(String::new(), |s| format!(",\"state\":{s}"));
            format!("{{\"id\":{id}{label}{state}}}")
        }).collect();
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        let decoded = rows(&plan, &payloads);
        let table = prepared(&plan, &decoded, None);
        let mut found: BTreeMap<i64, [String; 2]> = BTreeMap::new();
        let mut contributed = 0;
        for group in &table.groups {
            let mut last = i64::MIN;
            for (at, cells) in group.cells.chunks_exact(group.columns.len()).enumerate() {
                let Cell::Int(id) = cells[0] else { panic!("{cells:?}") };
                prop_assert!(id > last, "keys ascend");
                last = id;
                let mut row = ["-".to_owned(), "-".to_owned()];
                for (column, text) in group.columns.iter().zip(show_all(cells, &decoded.arena)).skip(1) {
                    row[*column - 1] = text;
                }
                prop_assert!(found.insert(id, row).is_none(), "a key is in one group");
                prop_assert!(group.records_of(at).all(|r| records[r as usize].0 == id));
                contributed += group.records_of(at).count();
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(contributed, records.len());
    }
}
