//! The documents that the daemon would make of a test's rows, beside those that the test expects. Only the buckets that
//! the writers have marked are computed, as the aggregator does it: a mark that is missing shows as a missing document.

use super::difference::{Compared, Difference, Place};
use super::file::{ExpectedDocument, Test};
use crate::actors::refresh::{RefreshPlan, Refreshable};
use crate::adapters::warehouse;
use crate::config::WarehouseConfig;
use crate::core::bucket::Width;
use crate::core::document::{Bucket, Fields, Value};
use crate::core::time;
use crate::ports::cache::Entry;
use crate::ports::{AggregateQuery, AggregateSource};

/// Compares the documents of each aggregate that the test names; an error is no verdict.
pub async fn differences(
    settings: &WarehouseConfig,
    plans: &[RefreshPlan],
    test: &Test,
) -> Result<Vec<Difference>, String> {
    let mut differences = Vec::new();
    let mut source = (warehouse::open_aggregates(settings))().await.map_err(|e| e.to_string())?;
    for (name, expected) in &test.documents {
        let Some((plan, aggregate)) = found(plans, name) else {
            let names: Vec<&str> = all(plans).map(|(_, aggregate)| aggregate.query.name.as_str()).collect();
            let what = format!("there is no aggregate {name}; there are {}", names.join(", "));
            differences.push(Difference::Impossible { what });
            continue;
        };
        let only_named = test.only_named_columns.contains(name);
        match compared(source.as_mut(), plan, &aggregate.query, expected, only_named).await? {
            Ok(of_aggregate) => differences.extend(of_aggregate),
            Err(what) => differences.push(Difference::Impossible { what }),
        }
    }
    Ok(differences)
}

fn all(plans: &[RefreshPlan]) -> impl Iterator<Item = (&RefreshPlan, &Refreshable)> {
    plans.iter().flat_map(|plan| plan.aggregates.iter().map(move |aggregate| (plan, aggregate)))
}

fn found<'p>(plans: &'p [RefreshPlan], name: &str) -> Option<(&'p RefreshPlan, &'p Refreshable)> {
    all(plans).find(|(_, aggregate)| aggregate.query.name == name)
}

/// The inner error is what makes the expectation or the query impossible.
async fn compared(
    source: &mut dyn AggregateSource,
    plan: &RefreshPlan,
    query: &AggregateQuery,
    expected: &[ExpectedDocument],
    only_named: bool,
) -> Result<Result<Vec<Difference>, String>, String> {
    // An owner may claim again what it has claimed, so that each aggregate of a source sees all of its marks.
    let claimed = source.claim(&plan.source, &plan.owner, plan.lease, i32::MAX as usize).await;
    let buckets = claimed.map_err(|e| e.to_string())?;
    let examined = match source.examine(query).await {
        Ok(examined) => examined,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if let Some((problem, help)) = query.misfit(&examined.columns) {
        return Ok(Err(format!("{}: {problem}; {help}", query.name)));
    }
    let computed = match source.compute(query, &buckets).await {
        Ok(computed) => computed,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let columns = Columns::of(query, &examined.columns);
    let expected = match columns.expected(query, expected, only_named) {
        Ok(expected) => expected,
        Err(what) => return Ok(Err(what)),
    };
    let of_bucket = |(bucket, entries): (&Bucket, &Vec<Entry>)| {
        entries.iter().map(|entry| columns.found(bucket, entry)).collect::<Vec<_>>()
    };
    let compared = Compared {
        place: Place::Aggregate(query.name.clone()),
        columns: columns.names.iter().map(String::as_str).collect(),
        key: &(0..=query.key.len()).collect::<Vec<_>>(),
        expected,
        found: buckets.iter().zip(&computed.buckets).flat_map(of_bucket).collect(),
    };
    Ok(Ok(compared.differences()))
}

/// A document as a row: the bucket's start, the key, the values.
struct Columns {
    /// As a document has them: `bucket_start`, `key.shop`, `values.sales`.
    names: Vec<String>,
    values: Vec<String>,
}

impl Columns {
    fn of(query: &AggregateQuery, columns: &[String]) -> Self {
        let is_key = |column: &String| query.key.iter().any(|key| key.eq_ignore_ascii_case(column));
        let values: Vec<String> = columns.iter().filter(|column| !is_key(column)).cloned().collect();
        let names = std::iter::once("bucket_start".to_owned())
            .chain(query.key.iter().map(|name| format!("key.{name}")))
            .chain(values.iter().map(|name| format!("values.{name}")));
        Self { names: names.collect(), values }
    }

    fn found(&self, bucket: &Bucket, entry: &Entry) -> Vec<String> {
        let fields = entry.key.iter().chain(&entry.values).map(|(_, value)| literal(value));
        std::iter::once(start(bucket)).chain(fields).collect()
    }

    fn expected(
        &self,
        query: &AggregateQuery,
        documents: &[ExpectedDocument],
        only_named: bool,
    ) -> Result<Vec<Vec<Option<String>>>, String> {
        let not_named = (!only_named).then(|| "NULL".to_owned());
        let row = |document: &ExpectedDocument| -> Result<Vec<Option<String>>, String> {
            let mut row = vec![Some(start(&bucket_at(query.source.width, document.bucket_start)?))];
            for (part, fields, names) in
                [("key", &document.key, &query.key), ("values", &document.values, &self.values)]
            {
                if let Some((unknown, _)) = fields.iter().find(|(name, _)| !names.contains(name)) {
                    let there_are = match &names[..] {
                        [] => "none".to_owned(),
                        names => names.join(", "),
                    };
                    return Err(format!("there is no {part}.{unknown}; there are {there_are}"));
                }
            }
            // A key can be null, which TOML cannot say.
            row.extend(query.key.iter().map(|name| Some(of(&document.key, name).map_or("NULL".to_owned(), literal))));
            row.extend(self.values.iter().map(|name| of(&document.values, name).map(literal).or(not_named.clone())));
            Ok(row)
        };
        let told = |(nth, document): (usize, &ExpectedDocument)| {
            row(document).map_err(|wrong| format!("{}, document {nth}: {wrong}", query.name))
        };
        (1..).zip(documents).map(told).collect()
    }
}

fn of<'f>(fields: &'f Fields, name: &str) -> Option<&'f Value> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value)
}

fn bucket_at(width: Width, micros: i64) -> Result<Bucket, String> {
    let shown = || time::datetime_text(micros);
    let bucket = width.bucket_of(micros).ok_or_else(|| format!("no bucket starts at {}", shown()))?;
    if bucket.start().timestamp_micros() == micros {
        return Ok(bucket);
    }
    Err(format!("no bucket starts at {}; the one it lies in starts at {}", shown(), start(&bucket)))
}

fn start(bucket: &Bucket) -> String {
    bucket.start().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As values of rows are shown.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
    }
}
