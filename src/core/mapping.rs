//! From a stream's mappings and the real tables to a plan that the decoder follows for each record.
//! What can't be mapped is told for all mappings at once, never guessed.

use std::collections::HashMap;
use std::sync::Arc;

use super::commit_plan::MAX_COLUMNS;
use super::schema::{ColumnKind, Table};
use super::target::{OnConflict, Target};

/// Where a column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A field of the record's JSON object.
    Field(String),
    /// A field that counts time since 1970 in this unit, for a date or time column: `{ field = "ts", epoch = "ms" }`.
    Epoch { field: String, unit: EpochUnit },
    /// `@timestamp`: the record's time at the broker.
    Timestamp,
    /// `@key`: the record's key as text.
    Key,
    /// `@topic`
    Topic,
    /// `@partition`
    Partition,
    /// `@offset`
    Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpochUnit {
    Seconds,
    Millis,
    Micros,
}

impl EpochUnit {
    pub fn micros(self) -> i64 {
        match self {
            EpochUnit::Seconds => 1_000_000,
            EpochUnit::Millis => 1_000,
            EpochUnit::Micros => 1,
        }
    }
}

/// One mapping as it was configured: a record becomes one row of `table`.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub table: String,
    pub on_conflict: OnConflict,
    /// A key that is null or missing yields no row instead of a dead letter.
    pub optional: bool,
    /// Column name and where its value comes from.
    pub columns: Vec<(String, Source)>,
}

/// A mapping that doesn't fit the tables. Positions say where in the configuration it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    pub mapping: usize,
    /// `None` where the whole mapping is meant.
    pub column: Option<usize>,
    pub problem: String,
    /// What to write instead.
    pub help: String,
}

/// What the decoder does for each record of a stream.
#[derive(Debug, Clone)]
pub struct Plan {
    pub topic: Arc<str>,
    /// Distinct fields that the mappings read; a record's values are collected in this order.
    pub fields: Vec<String>,
    /// Tables in the order of writing: parents before the tables that point at them.
    pub targets: Vec<Target>,
    pub(super) mappings: Vec<PlannedMapping>,
    pub(super) slots: HashMap<Box<str>, usize, ahash::RandomState>,
}

#[derive(Debug, Clone)]
pub(super) struct PlannedMapping {
    pub target: usize,
    pub optional: bool,
    pub columns: Vec<PlannedColumn>,
}

#[derive(Debug, Clone)]
pub(super) struct PlannedColumn {
    /// Position in the target's columns.
    pub at: usize,
    pub source: PlannedSource,
    pub kind: ColumnKind,
    pub nullable: bool,
    /// Leaving the column out gives it a value.
    pub has_default: bool,
    /// Part of the primary key.
    pub key: bool,
    /// `customer.code varchar(2)`, for messages.
    pub described: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlannedSource {
    Field(usize),
    Epoch(usize, EpochUnit),
    Timestamp,
    Key,
    Topic,
    Partition,
    Offset,
}

impl Plan {
    /// Joins mappings and tables, or tells all that does not fit.
    pub fn new(topic: &str, mappings: &[Mapping], tables: &[Arc<Table>]) -> Result<Plan, Vec<Misfit>> {
        let mut misfits = Vec::new();
        let mut fields = Vec::new();
        let mut slots: HashMap<Box<str>, usize, ahash::RandomState> = HashMap::default();
        let mut targets: Vec<Target> = Vec::new();
        let mut planned = Vec::new();
        for (index, mapping) in mappings.iter().enumerate() {
            let Some(table) = tables.iter().find(|t| t.name.eq_ignore_ascii_case(&mapping.table)) else {
                misfits.push(Misfit {
                    mapping: index,
                    column: None,
                    problem: format!("there is no table `{}` in the warehouse", mapping.table),
                    help: "create it in the migrations folder, or name one that is there".to_owned(),
                });
                continue;
            };
            if table.primary_key.is_empty() {
                misfits.push(Misfit {
                    mapping: index,
                    column: None,
                    problem: format!("table `{}` has no primary key", table.name),
                    help: "give it one: without a key nothing tells a row from its repetition".to_owned(),
                });
                continue;
            }
            let target = targets.iter().position(|t| t.table.name == table.name).unwrap_or_else(|| {
                targets.push(Target {
                    table: Arc::clone(table),
                    columns: Vec::new(),
                    key: Vec::new(),
                    on_conflict: mapping.on_conflict,
                    dimension: false,
                });
                targets.len() - 1
            });
            let mut columns = Vec::new();
            for (at, (name, source)) in mapping.columns.iter().enumerate() {
                match plan_column(table, name, source) {
                    Ok(column) => {
                        let mut slot = |field: &str| {
                            *slots.entry(field.into()).or_insert_with(|| {
                                fields.push(field.to_owned());
                                fields.len() - 1
                            })
                        };
                        let source = match source {
                            Source::Field(f) => PlannedSource::Field(slot(f)),
                            Source::Epoch { field, unit } => PlannedSource::Epoch(slot(field), *unit),
                            Source::Timestamp => PlannedSource::Timestamp,
                            Source::Key => PlannedSource::Key,
                            Source::Topic => PlannedSource::Topic,
                            Source::Partition => PlannedSource::Partition,
                            Source::Offset => PlannedSource::Offset,
                        };
                        let of_target = &mut targets[target].columns;
                        let position = of_target.iter().position(|&c| c == column).unwrap_or_else(|| {
                            of_target.push(column);
                            of_target.len() - 1
                        });
                        let real = &table.columns[column];
                        columns.push(PlannedColumn {
                            at: position,
                            source,
                            kind: real.kind.clone(),
                            nullable: real.nullable,
                            has_default: real.has_default,
                            key: table.primary_key.contains(&column),
                            described: format!("{}.{} {}", table.name, real.name, real.declared),
                        });
                    }
                    Err((problem, help)) => misfits.push(Misfit { mapping: index, column: Some(at), problem, help }),
                }
            }
            for &needed in &table.primary_key {
                let column = &table.columns[needed];
                if !mapping.columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(&column.name)) {
                    misfits.push(Misfit {
                        mapping: index,
                        column: None,
                        problem: format!(
                            "column `{}` of the primary key of `{}` is not mapped",
                            column.name, table.name
                        ),
                        help: format!("add `{} = \"…\"` to columns", column.name),
                    });
                }
            }
            for column in table.columns.iter().filter(|c| !c.nullable && !c.has_default && !c.generated) {
                let keyed = table.primary_key.iter().any(|&k| table.columns[k].name == column.name);
                if !keyed && !mapping.columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(&column.name)) {
                    misfits.push(Misfit {
                        mapping: index,
                        column: None,
                        problem: format!(
                            "column `{}` of `{}` must have a value and is not mapped",
                            column.name, table.name
                        ),
                        help: format!("add `{} = \"…\"` to columns, or give the column a DEFAULT", column.name),
                    });
                }
            }
            // The key is asked first: without it an optional row is left out, whatever its other values are.
            columns.sort_by_key(|column| !column.key);
            planned.push(PlannedMapping { target, optional: mapping.optional, columns });
        }
        for (index, mapping) in planned.iter().enumerate() {
            let mapped = targets[mapping.target].columns.len();
            if mapped > MAX_COLUMNS {
                misfits.push(Misfit {
                    mapping: index,
                    column: None,
                    problem: format!("{mapped} columns of `{}` are mapped", targets[mapping.target].table.name),
                    help: format!("map at most {MAX_COLUMNS} columns of one table"),
                });
            }
        }
        if !misfits.is_empty() {
            return Err(misfits);
        }
        for target in &mut targets {
            target.key =
                target.table.primary_key.iter().filter_map(|k| target.columns.iter().position(|c| c == k)).collect();
        }
        order_by_parents(&mut targets, &mut planned);
        Ok(Plan { topic: topic.into(), fields, targets, mappings: planned, slots })
    }
}

/// The column's position, or what is wrong and what to write instead.
fn plan_column(table: &Table, name: &str, source: &Source) -> Result<usize, (String, String)> {
    let Some(position) = table.column(name) else {
        let nearest = table
            .columns
            .iter()
            .map(|c| (strsim::damerau_levenshtein(&c.name, name), &c.name))
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, near)| format!("write `{near}`"));
        let names = || table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err((
            format!("table `{}` has no column `{name}`", table.name),
            nearest.unwrap_or_else(|| format!("its columns are {}", names())),
        ));
    };
    let column = &table.columns[position];
    if column.generated {
        return Err((
            format!("column `{}` of `{}` is computed by the database", column.name, table.name),
            "leave it out of columns".to_owned(),
        ));
    }
    let timely = matches!(column.kind, ColumnKind::DateTime { .. } | ColumnKind::Date);
    let fits = match (&column.kind, source) {
        (ColumnKind::Other, _) => {
            return Err((
                format!(
                    "column `{}` of `{}` has type {}, which bief does not write",
                    column.name, table.name, column.declared
                ),
                "leave it out of columns, or change its type".to_owned(),
            ));
        }
        (_, Source::Field(_)) => true,
        (_, Source::Epoch { .. } | Source::Timestamp) => timely,
        (kind, Source::Key | Source::Topic) => matches!(kind, ColumnKind::Text { .. }),
        (kind, Source::Partition | Source::Offset) => matches!(kind, ColumnKind::Integer { .. }),
    };
    if fits {
        Ok(position)
    } else {
        Err((
            format!(
                "column `{}` of `{}` has type {}, which can't hold this source",
                column.name, table.name, column.declared
            ),
            "map a time to DATETIME or DATE, @key and @topic to a text, @partition and @offset to an integer"
                .to_owned(),
        ))
    }
}

/// Parents first; among equals the order of the configuration stays. A cycle keeps that order too.
fn order_by_parents(targets: &mut Vec<Target>, mappings: &mut [PlannedMapping]) {
    let points_at = |child: &Target, parent: &Target| {
        child.table.name != parent.table.name
            && child.table.foreign_keys.iter().any(|fk| fk.parent.eq_ignore_ascii_case(&parent.table.name))
    };
    let mut order: Vec<usize> = Vec::new();
    while order.len() < targets.len() {
        let waiting = || (0..targets.len()).filter(|i| !order.contains(i));
        let free = waiting().find(|&i| !waiting().any(|j| points_at(&targets[i], &targets[j])));
        let next = free.or_else(|| waiting().next()).unwrap_or(order.len());
        order.push(next);
    }
    let dimensions: Vec<bool> = targets.iter().map(|t| targets.iter().any(|child| points_at(child, t))).collect();
    let mut sorted = Vec::with_capacity(targets.len());
    for &old in &order {
        sorted.push(Target { dimension: dimensions[old], ..targets[old].clone() });
    }
    *targets = sorted;
    for mapping in mappings {
        mapping.target = order.iter().position(|&old| old == mapping.target).unwrap_or(mapping.target);
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
