//! The documents of a test's aggregates: as its records change rows, what the writers have marked is refreshed into a cache
//! of the test's own, by the aggregator's way. So a change that marks nothing leaves a document as it was, here as there.

use std::collections::BTreeMap;

use chrono::Utc;

use super::difference::{Compared, Difference, Place};
use super::file::{ExpectedDocument, Test};
use crate::actors::refresh::{RefreshPlan, Refreshable, mark_all, refresh};
use crate::adapters::sqlite::stored::literal;
use crate::adapters::{cache, warehouse};
use crate::config::{Secret, WarehouseConfig};
use crate::core::bucket::Width;
use crate::core::cell::Cell;
use crate::core::document::{Bucket, Fields, Value, value_of};
use crate::core::time;
use crate::core::value::Fit;
use crate::ports::cache::{CacheQuery, Document};
use crate::ports::{AggregateQuery, AggregateSource, Cache, WarehouseError};

/// Documents that are read at once.
const PAGE: usize = 1000;

pub struct Documents {
    source: Box<dyn AggregateSource>,
    cache: Box<dyn Cache>,
    /// Of the aggregates that the test names alone.
    plans: Vec<RefreshPlan>,
    /// By aggregate, what its query yields.
    columns: BTreeMap<String, Columns>,
    /// What can't be as the test or the domain has it.
    impossible: Vec<String>,
}

impl Documents {
    /// Makes the documents of the rows that are there already.
    ///
    /// # Errors
    /// What is no verdict on the test.
    pub async fn open(
        settings: &WarehouseConfig,
        cache_url: &Secret,
        plans: &[RefreshPlan],
        test: &Test,
    ) -> Result<Self, String> {
        let source = (warehouse::open_aggregates(settings))().await.map_err(|e| e.to_string())?;
        let cache = (cache::open_cache(cache_url))().await.map_err(|e| e.to_string())?;
        let mut documents =
            Self { source, cache, plans: Vec::new(), columns: BTreeMap::new(), impossible: unknown(plans, test) };
        for plan in plans {
            let mut named = RefreshPlan { aggregates: Vec::new(), ..plan.clone() };
            for aggregate in plan.aggregates.iter().filter(|a| test.documents.contains_key(&a.query.name)) {
                if let Some(columns) = documents.examine(&aggregate.query).await? {
                    documents.columns.insert(aggregate.query.name.clone(), columns);
                    let mut aggregate = aggregate.clone();
                    // Samples may be old.
                    aggregate.cached.keep = None;
                    named.aggregates.push(aggregate);
                }
            }
            if !named.aggregates.is_empty() {
                documents.cache.prepare(&named.cached()).await.map_err(|e| e.to_string())?;
                mark_all(&named, documents.source.as_mut(), None).await.map_err(|e| e.to_string())?;
                documents.plans.push(named);
            }
        }
        documents.refresh().await?;
        Ok(documents)
    }

    async fn examine(&mut self, query: &AggregateQuery) -> Result<Option<Columns>, String> {
        let examined = match self.source.examine(query).await {
            Ok(examined) => examined,
            Err(WarehouseError::Fatal { what }) => {
                self.impossible.push(what);
                return Ok(None);
            }
            Err(error) => return Err(error.to_string()),
        };
        if let Some((problem, help)) = query.misfit(&examined.columns) {
            self.impossible.push(format!("{}: {problem}; {help}", query.name));
            return Ok(None);
        }
        Ok(Some(Columns::of(query, &examined.columns)))
    }

    /// Computes what was marked since the last time. An aggregate that cannot be computed is given up, with all of its source.
    ///
    /// # Errors
    /// What is no verdict on the test.
    pub async fn refresh(&mut self) -> Result<(), String> {
        let mut at = 0;
        while let Some(plan) = self.plans.get(at) {
            let claimed = self.source.claim(&plan.source, &plan.owner, plan.lease, plan.at_once).await;
            let buckets = claimed.map_err(|e| e.to_string())?;
            if buckets.is_empty() {
                at += 1;
                continue;
            }
            let (source, cache) = (self.source.as_mut(), self.cache.as_mut());
            match refresh(plan, source, cache, &buckets, &Utc::now, &mut |_, _| {}).await {
                Ok(()) => {}
                Err(error) if error.is_fatal() => {
                    self.impossible.push(error.to_string());
                    self.plans.remove(at);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Compares what the cache holds with what the test expects.
    ///
    /// # Errors
    /// What is no verdict on the test.
    pub async fn differences(self, test: &Test) -> Result<Vec<Difference>, String> {
        let Self { mut cache, plans, columns, mut impossible, .. } = self;
        let mut differences = Vec::new();
        for Refreshable { query, .. } in all(&plans) {
            let (columns, expected) = (&columns[&query.name], &test.documents[&query.name]);
            let only_named = test.only_named_columns.contains(&query.name);
            let expected = match columns.expected(query, expected, only_named) {
                Ok(expected) => expected,
                Err(what) => {
                    impossible.push(what);
                    continue;
                }
            };
            let all = CacheQuery { aggregate: query.name.clone(), limit: PAGE, ..CacheQuery::default() };
            let stored = cache.read_all(all).await.map_err(|e| e.to_string())?;
            let compared = Compared {
                place: Place::Aggregate(query.name.clone()),
                columns: columns.names.iter().map(String::as_str).collect(),
                key: &(0..=query.key.len()).collect::<Vec<_>>(),
                expected,
                found: stored.iter().map(|document| columns.found(query, document)).collect(),
            };
            differences.extend(compared.differences());
        }
        differences.extend(impossible.into_iter().map(|what| Difference::Impossible { what }));
        Ok(differences)
    }
}

fn all(plans: &[RefreshPlan]) -> impl Iterator<Item = &Refreshable> {
    plans.iter().flat_map(|plan| &plan.aggregates)
}

/// What is to be said of names that no aggregate has.
fn unknown(plans: &[RefreshPlan], test: &Test) -> Vec<String> {
    let names: Vec<&str> = all(plans).map(|aggregate| aggregate.query.name.as_str()).collect();
    let unknown = test.documents.keys().filter(|name| !names.contains(&name.as_str()));
    unknown.map(|name| format!("there is no aggregate {name}; there are {}", listed(&names))).collect()
}

/// A document as a row: the bucket's start, the key, the values.
struct Columns {
    /// As a document has them: `bucket_start`, `key.shop`, `values.sales`.
    names: Vec<String>,
    values: Vec<String>,
}

/// Literals; `None` for one that is not looked at.
type ExpectedRow = Vec<Option<String>>;

impl Columns {
    fn of(query: &AggregateQuery, columns: &[String]) -> Self {
        let is_key = |column: &String| query.key.iter().any(|key| key.eq_ignore_ascii_case(column));
        let values: Vec<String> = columns.iter().filter(|column| !is_key(column)).cloned().collect();
        let names = std::iter::once("bucket_start".to_owned())
            .chain(query.key.iter().map(|name| format!("key.{name}")))
            .chain(values.iter().map(|name| format!("values.{name}")));
        Self { names: names.collect(), values }
    }

    fn found(&self, query: &AggregateQuery, document: &Document) -> Vec<String> {
        let key = query.key.iter().map(|name| shown(&document.key, name));
        let values = self.values.iter().map(|name| shown(&document.values, name));
        std::iter::once(start(&document.bucket)).chain(key).chain(values).collect()
    }

    /// What the test expects, or what is wrong with it.
    fn expected(
        &self,
        query: &AggregateQuery,
        documents: &[ExpectedDocument],
        only_named: bool,
    ) -> Result<Vec<ExpectedRow>, String> {
        let mut rows: Vec<ExpectedRow> = Vec::with_capacity(documents.len());
        for (nth, document) in (1..).zip(documents) {
            let wrong = |what: String| format!("documents.{}, document {nth}: {what}", query.name);
            let row = self.row(query, document, only_named).map_err(wrong)?;
            let keyed = 1 + query.key.len();
            if let Some(same) = rows.iter().position(|other| other[..keyed] == row[..keyed]) {
                return Err(wrong(format!("document {} has the same bucket_start and key", same + 1)));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn row(
        &self,
        query: &AggregateQuery,
        document: &ExpectedDocument,
        only_named: bool,
    ) -> Result<ExpectedRow, String> {
        for (part, fields, names) in [("key", &document.key, &query.key), ("values", &document.values, &self.values)] {
            if let Some((unknown, _)) = fields.iter().find(|(name, _)| !names.contains(name)) {
                return Err(format!("there is no {part}.{unknown}; there are {}", listed(names)));
            }
        }
        let start = start(&bucket_at(query.source.width, document.bucket_start)?);
        // A column of the key that is not named is null, which TOML cannot say.
        let key = query.key.iter().map(|name| Some(shown(&document.key, name)));
        let is_looked_at = |name: &str| !only_named || value_of(&document.values, name).is_some();
        let values = self.values.iter().map(|name| is_looked_at(name).then(|| shown(&document.values, name)));
        Ok(std::iter::once(Some(start)).chain(key).chain(values).collect())
    }
}

/// As values of rows are shown.
fn shown(fields: &Fields, name: &str) -> String {
    literal(&match value_of(fields, name) {
        None | Some(Value::Null) => Fit::Cell(Cell::Null),
        Some(Value::Integer(number)) => Fit::Cell(Cell::Int(*number)),
        Some(Value::Float(number)) => Fit::Cell(Cell::Float(*number)),
        Some(Value::Text(text)) => Fit::Text(text),
    })
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

fn listed(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
    }
}
