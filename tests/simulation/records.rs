//! Records of the simulated topic, what each must come to, and the tables that they go into. A key belongs to one
//! partition and a record that must be set aside has a key of its own, so that what is right does not depend on how
//! batches are cut or who wins a race.

use std::sync::Arc;

use bief::core::bucket::Width;
use bief::core::mapping::{EpochUnit, Mapping, Plan, Source};
use bief::core::marks::{self, BucketSource, Marking};
use bief::core::schema::{Charset, Column, ColumnKind, ForeignKey, Table};
use bief::core::target::OnConflict;

use crate::world::World;

pub const TOPIC: &str = "orders";
/// Bytes of the largest payload that is kept.
pub const LARGEST: usize = 300;

/// A record that must be applied, with what it says.
#[derive(Debug, Clone)]
pub struct Good {
    pub id: i64,
    /// Tells each record from all others.
    pub quantity: i64,
    pub customer: String,
    pub region: u64,
    /// `None` where the record says nothing of it; null where it says so.
    pub note: Option<Option<String>>,
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub key: String,
    pub payload: Option<String>,
    /// `None`: it must become a dead letter.
    pub good: Option<Good>,
}

pub fn make(world: &World, partition: i32, offset: i64) -> Sent {
    let base = i64::from(partition) * 100_000;
    if world.chance(60) {
        let (id, key) = (base + 50_000 + offset, format!("bad-{offset}"));
        let payload = match world.below(7) {
            0 => Some("{".to_owned()),
            1 => None,
            2 => Some(format!(r#"{{"id":{id},"quantity":-1,"customer":"c1","name":"n-c1"}}"#)),
            3 => Some(format!(r#"{{"id":{id},"quantity":1,"customer":"c2","name":"n-c2","region":9}}"#)),
            4 => Some(format!(r#"{{"id":{id},"quantity":"many"}}"#)),
            5 => Some(format!(r#"{{"id":{id},"quantity":1,"note":"{}"}}"#, "x".repeat(LARGEST))),
            _ => Some(format!(r#"{{"id":{id},"customer":"too long a code","quantity":1}}"#)),
        };
        return Sent { key, payload, good: None };
    }
    let id = base + world.below(25) as i64;
    let customer = format!("c{}", world.below(6));
    let note = match world.below(4) {
        0 => None,
        1 => Some(None),
        _ => Some(Some(format!("s{offset}"))),
    };
    let noted = match &note {
        None => String::new(),
        Some(None) => r#","note":null"#.to_owned(),
        Some(Some(text)) => format!(r#","note":"{text}""#),
    };
    let region = 1 + world.below(2);
    let payload = format!(
        r#"{{"id":{id},"quantity":{offset},"customer":"{customer}","name":"n-{customer}","region":{region}{noted}}}"#
    );
    Sent {
        key: id.to_string(),
        payload: Some(payload),
        good: Some(Good { id, quantity: offset, customer, region, note }),
    }
}

/// The buckets of `readings`: a handful of its rows each.
pub fn width() -> Width {
    "5s".parse().expect("a width")
}

/// What the writers mark.
pub fn markings(plan: &Plan) -> Arc<[Marking]> {
    let source = BucketSource { table: "readings".to_owned(), time: "at".to_owned(), width: width() };
    marks::markings(plan, &[source]).expect("a time in the key").into()
}

/// Orders that are updated, what was ordered first, readings by time whose buckets are marked, and customers that each
/// order brings along.
pub fn plan() -> Plan {
    let bigint = || ColumnKind::Integer { min: i64::MIN.into(), max: i64::MAX.into() };
    let varchar =
        |max| ColumnKind::Text { max_chars: Some(max), max_bytes: None, charset: Charset::Utf8mb4, padded: false };
    let column = |name: &str, kind: ColumnKind, nullable| Column {
        name: name.into(),
        declared: format!("{kind:?}"),
        kind,
        nullable,
        has_default: false,
        generated: false,
    };
    let table = |name: &str, columns: Vec<Column>, parents: &[(usize, &str, &str)]| {
        let foreign_keys = parents.iter().map(|(at, parent, key)| ForeignKey {
            name: format!("{name}_{parent}"),
            columns: vec![*at],
            parent: (*parent).into(),
            parent_columns: vec![(*key).into()],
        });
        let foreign_keys = foreign_keys.collect();
        Arc::new(Table { name: name.into(), columns, primary_key: vec![0], foreign_keys })
    };
    let tables = [
        table(
            "orders",
            vec![
                column("id", bigint(), false),
                column("quantity", bigint(), false),
                column("customer", varchar(3), true),
                column("region", bigint(), true),
                column("note", varchar(20), true),
            ],
            &[(2, "customers", "code"), (3, "regions", "id")],
        ),
        table("firsts", vec![column("id", bigint(), false), column("quantity", bigint(), true)], &[]),
        table(
            "readings",
            vec![
                column("at", ColumnKind::DateTime { fraction: 6, timestamp: false }, false),
                column("quantity", bigint(), true),
            ],
            &[],
        ),
        table("customers", vec![column("code", varchar(3), false), column("name", varchar(9), true)], &[]),
    ];
    let mapping = |table: &str, on_conflict, optional, columns: &[(&str, &str)]| Mapping {
        table: table.into(),
        on_conflict,
        optional,
        columns: columns.iter().map(|(c, f)| ((*c).to_owned(), Source::Field((*f).to_owned()))).collect(),
    };
    let order =
        [("id", "id"), ("quantity", "quantity"), ("customer", "customer"), ("region", "region"), ("note", "note")];
    // The order's number is its second.
    let at = Source::Epoch { field: "id".to_owned(), unit: EpochUnit::Seconds };
    let mut readings = mapping("readings", OnConflict::Update, false, &[("quantity", "quantity")]);
    readings.columns.push(("at".to_owned(), at));
    let mappings = [
        readings,
        mapping("orders", OnConflict::Update, false, &order),
        mapping("firsts", OnConflict::Ignore, false, &[("id", "id"), ("quantity", "quantity")]),
        mapping("customers", OnConflict::Update, true, &[("code", "customer"), ("name", "name")]),
    ];
    Plan::new(TOPIC, &mappings, &tables).expect("a sound plan")
}
