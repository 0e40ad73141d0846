//! A small shop for tests of the rules: tables, and records decoded into rows that can be read.

use std::sync::Arc;

use super::cell::Cell;
use super::decode::{Envelope, FieldOrder, RecordDecoder, TableRows};
use super::mapping::{Mapping, Plan, Source};
use super::outcome::Rejection;
use super::schema::{Charset, Column, ColumnKind, ForeignKey, Table};
use super::target::OnConflict;

pub fn bigint() -> ColumnKind {
    ColumnKind::Integer { min: i64::MIN as i128, max: i64::MAX as i128 }
}

pub fn varchar(max: u64) -> ColumnKind {
    ColumnKind::Text { max_chars: Some(max), max_bytes: None, charset: Charset::Utf8mb4, padded: false }
}

/// A column that may be null and has no default.
pub fn column(name: &str, kind: ColumnKind) -> Column {
    let declared = format!("{kind:?}");
    Column { name: name.into(), kind, nullable: true, has_default: false, generated: false, declared }
}

pub fn required(name: &str, kind: ColumnKind) -> Column {
    Column { nullable: false, ..column(name, kind) }
}

/// The first column is the key; `parents` are columns and the tables that they point at.
pub fn table(name: &str, columns: Vec<Column>, parents: &[(usize, &str, &str)]) -> Arc<Table> {
    let foreign_keys = parents
        .iter()
        .map(|(at, parent, key)| ForeignKey {
            name: format!("{name}_{parent}"),
            columns: vec![*at],
            parent: (*parent).into(),
            parent_columns: vec![(*key).into()],
        })
        .collect();
    Arc::new(Table { name: name.into(), columns, primary_key: vec![0], foreign_keys })
}

/// A mapping of columns to fields.
pub fn mapping(table: &str, on_conflict: OnConflict, columns: &[(&str, &str)]) -> Mapping {
    let columns = columns.iter().map(|(c, f)| ((*c).to_owned(), Source::Field((*f).to_owned()))).collect();
    Mapping { table: table.into(), on_conflict, optional: false, columns }
}

/// Customers and their orders: `orders.customer` points at `customers.code`.
pub fn shop(on_conflict: OnConflict) -> Plan {
    let customers = table(
        "customers",
        vec![required("code", varchar(3)), column("name", varchar(10)), column("city", bigint())],
        &[],
    );
    let orders = table(
        "orders",
        vec![required("id", bigint()), column("customer", varchar(3)), required("quantity", bigint())],
        &[(1, "customers", "code")],
    );
    let mappings = [
        mapping("orders", on_conflict, &[("id", "id"), ("customer", "customer"), ("quantity", "quantity")]),
        Mapping {
            optional: true,
            ..mapping("customers", on_conflict, &[("name", "name"), ("code", "customer"), ("city", "city")])
        },
    ];
    Plan::new("sales", &mappings, &[orders, customers]).unwrap()
}

/// Rows of all tables and what was rejected.
pub struct Decoded {
    pub tables: Vec<TableRows>,
    pub arena: Vec<u8>,
    pub rejected: Vec<(u32, Rejection)>,
}

/// Decodes payloads as one batch of partition 0.
pub fn decode(plan: &Plan, order: &mut FieldOrder, payloads: &[impl AsRef<[u8]>]) -> Decoded {
    let mut arena: Vec<u8> = Vec::new();
    let spans: Vec<_> = payloads
        .iter()
        .map(|payload| {
            let start = arena.len();
            arena.extend_from_slice(payload.as_ref());
            start..arena.len()
        })
        .collect();
    let numbered = spans.into_iter().zip(0..);
    let records: Vec<Envelope<'_>> =
        numbered.map(|(span, index)| Envelope { index, payload: Some(&arena[span]), ..envelope() }).collect();
    let (tables, extra, rejected) = decode_records(plan, order, &arena, &records);
    arena.extend_from_slice(&extra);
    Decoded { tables, arena, rejected }
}

/// Rows, the bytes behind the arena, and what was rejected.
pub fn decode_records<'a>(
    plan: &'a Plan,
    order: &'a mut FieldOrder,
    arena: &'a [u8],
    records: &[Envelope<'a>],
) -> (Vec<TableRows>, Vec<u8>, Vec<(u32, Rejection)>) {
    let mut tables = vec![TableRows::default(); plan.targets.len()];
    let mut rejected = Vec::new();
    let mut decoder = RecordDecoder::new(plan, order, arena);
    for record in records {
        if let Err(rejection) = decoder.decode(record, &mut tables) {
            rejected.push((record.index, rejection));
        }
    }
    (tables, decoder.into_extra(), rejected)
}

pub fn envelope<'a>() -> Envelope<'a> {
    Envelope { index: 0, partition: 0, offset: 0, timestamp: -1, key: None, payload: None, oversize: None }
}

impl Decoded {
    /// The rows of the table at `target`, a text for each cell.
    pub fn shown(&self, plan: &Plan, target: usize) -> Vec<Vec<String>> {
        let width = plan.targets[target].columns.len();
        self.tables[target].cells.chunks_exact(width).map(|row| show_all(row, &self.arena)).collect()
    }
}

pub fn show_all(cells: &[Cell], arena: &[u8]) -> Vec<String> {
    cells.iter().map(|cell| show(cell, arena)).collect()
}

/// A cell as text; `-` where it is missing.
pub fn show(cell: &Cell, arena: &[u8]) -> String {
    match cell {
        Cell::Missing => "-".to_owned(),
        Cell::Null => "null".to_owned(),
        Cell::Int(v) => v.to_string(),
        Cell::UInt(v) => v.to_string(),
        Cell::Float(v) => format!("{v:?}"),
        Cell::Decimal(s) | Cell::Text(s) | Cell::Bytes(s) => format!("{:?}", String::from_utf8_lossy(s.of(arena))),
        Cell::DateTime(v) => format!("at {v}"),
        Cell::Date(v) => format!("on {v}"),
        Cell::Time(v) => format!("time {v}"),
    }
}
