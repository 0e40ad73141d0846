//! `/api/v1/aggregates`: which aggregates there are and how fresh, and their documents by key and time. From the cache
//! alone; never asks the warehouse.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Shared;
use super::answers::{self, Query, Refusal, bytes, refused, tagged};
use super::desks::{Desk, Unanswered};
use super::problem::problem;
use crate::core::document::{Fields, Value};
use crate::messages::AggregateFreshness;
use crate::ports::Cache;
use crate::ports::cache::{CacheQuery, Cursor, Document};

const NO_CACHE: &str = "No cache is configured: add [cache] and an [[aggregate]] to the configuration.";
const NO_AGGREGATE: &str = "There is no such aggregate. /api/v1/aggregates has their names.";
/// Documents of a page, unless more or fewer are asked for, and at most.
const PAGE: usize = 1000;
const LARGEST_PAGE: usize = 5000;

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    table: &'a str,
    time: &'a str,
    bucket: String,
    bucket_seconds: i64,
    key: &'a [String],
    #[serde(flatten)]
    stored: Stored,
    #[serde(flatten)]
    fresh: AggregateFreshness,
}

/// What the cache holds of an aggregate.
#[derive(Debug, Default, Serialize)]
struct Stored {
    /// Columns, as the last document has them.
    values: Vec<String>,
    buckets: u64,
    documents: u64,
    first_bucket: Option<DateTime<Utc>>,
    last_bucket: Option<DateTime<Utc>>,
    computed_at: Option<DateTime<Utc>>,
}

pub(super) async fn list(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    match listed(&request, &shared).await {
        Ok(body) => tagged(&request, body),
        Err(refused) => refused.into(),
    }
}

async fn listed(request: &HttpRequest, shared: &Shared) -> Result<Bytes, Refusal> {
    const QUESTION: &str = "aggregates";
    Query::of(request, &[])?;
    if let Some(known) = shared.recent_lists.get(QUESTION) {
        return Ok(known);
    }
    let aggregates = &shared.state.aggregates;
    let mut stored = Vec::new();
    if !aggregates.is_empty() {
        let names: Vec<String> = aggregates.iter().map(|aggregate| aggregate.name.clone()).collect();
        let asked = desk(shared)?.ask(move |cache| {
            Box::pin(async move {
                let mut all = Vec::with_capacity(names.len());
                for name in &names {
                    all.push(look(cache.as_mut(), name).await?);
                }
                Ok(all)
            })
        });
        stored = asked.await.map_err(|unanswered| unanswered.answer())?;
    }
    let listed: Vec<Listed<'_>> = aggregates
        .iter()
        .zip(stored)
        .map(|(aggregate, stored)| Listed {
            name: &aggregate.name,
            table: &aggregate.table,
            time: &aggregate.time,
            bucket: aggregate.bucket.to_string(),
            bucket_seconds: aggregate.bucket.micros() / 1_000_000,
            key: &aggregate.key,
            stored,
            fresh: shared.state.freshness.of(&aggregate.name),
        })
        .collect();
    let body = bytes(&serde_json::json!({ "aggregates": listed }));
    shared.recent_lists.keep(QUESTION.to_owned(), body.clone());
    Ok(body)
}

async fn look(cache: &mut dyn Cache, name: &str) -> Result<Stored, Unanswered> {
    let counts = cache.count(name).await?;
    let first = cache.buckets(name, None, None, 1).await?.pop();
    let last = cache.newest(name).await?;
    let sample = sample(cache, name).await?;
    Ok(Stored {
        values: sample.map(|document| names(&document.values)).unwrap_or_default(),
        buckets: counts.buckets,
        documents: counts.documents,
        first_bucket: first.map(|state| state.bucket.start()),
        last_bucket: last.as_ref().map(|state| state.bucket.start()),
        computed_at: last.map(|state| state.computed_at),
    })
}

/// A document of the last bucket or, where that is empty, the first of all.
async fn sample(cache: &mut dyn Cache, name: &str) -> Result<Option<Document>, Unanswered> {
    let newest = cache.newest(name).await?;
    let last = newest.filter(|state| state.entries > 0).map(|state| state.bucket.start());
    let query = CacheQuery { aggregate: name.to_owned(), from: last, limit: 1, ..CacheQuery::default() };
    Ok(cache.read(&query).await?.documents.pop())
}

fn names(fields: &Fields) -> Vec<String> {
    fields.iter().map(|(name, _)| name.clone()).collect()
}

pub(super) fn desk(shared: &Shared) -> Result<&Desk<Box<dyn Cache>>, Refusal> {
    shared.desks.cache.as_ref().ok_or_else(|| Unanswered::NotConfigured(NO_CACHE).answer().into())
}

/// A page of documents, as it is sent.
#[derive(Serialize)]
struct DocumentPage {
    aggregate: String,
    documents: Vec<Document>,
    next: Option<String>,
}

pub(super) async fn documents(
    request: HttpRequest,
    name: web::Path<String>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let read = match asked(&request, &name, &shared) {
        Ok((query, key)) => read(&shared, query, key).await,
        Err(refused) => Err(refused),
    };
    match read {
        Ok(body) => tagged(&request, body),
        Err(refused) => refused.into(),
    }
}

/// What a request asks for, the values of the key still as text.
fn asked(request: &HttpRequest, name: &str, shared: &Shared) -> Result<(CacheQuery, Vec<(String, String)>), Refusal> {
    let query = Query::of(request, &["from", "to", "limit", "cursor", "key."])?;
    let aggregate = shared.state.aggregates.iter().find(|aggregate| aggregate.name == name);
    let aggregate = aggregate.ok_or_else(|| Refusal::from(problem(StatusCode::NOT_FOUND, NO_AGGREGATE)))?;
    let after = query
        .text("cursor")
        .map(|text| Cursor::parse(text).ok_or_else(|| refused("cursor is not what an answer had as next.")));
    let asked = CacheQuery {
        aggregate: aggregate.name.clone(),
        key: Fields::new(),
        from: query.time("from")?,
        to: query.time("to")?,
        limit: query.limit(PAGE, LARGEST_PAGE)?,
        after: after.transpose()?,
    };
    Ok((asked, key_of(&query, &aggregate.key)?))
}

/// Values by column, spelt as configured.
pub(super) fn key_of(query: &Query, columns: &[String]) -> Result<Vec<(String, String)>, Refusal> {
    let column = |(name, value): (&str, &str)| {
        let column = columns.iter().find(|column| column.eq_ignore_ascii_case(name));
        column
            .map(|column| (column.clone(), value.to_owned()))
            .ok_or_else(|| refused("A key.COLUMN names no column of the aggregate's key; /api/v1/aggregates has them."))
    };
    query.beginning("key.").map(column).collect()
}

async fn read(shared: &Shared, mut query: CacheQuery, key: Vec<(String, String)>) -> Result<Bytes, Refusal> {
    let asked = desk(shared)?.ask(move |cache| {
        Box::pin(async move {
            query.key = typed(cache.as_mut(), &query.aggregate, key).await?;
            let page = cache.read(&query).await?;
            let next = page.next.as_ref().map(Cursor::text);
            Ok(bytes(&DocumentPage { aggregate: query.aggregate, documents: page.documents, next }))
        })
    });
    asked.await.map_err(|unanswered| unanswered.answer().into())
}

/// In an address a number is written like a text of its digits: what the column holds decides.
pub(super) async fn typed(cache: &mut dyn Cache, name: &str, key: Vec<(String, String)>) -> Result<Fields, Unanswered> {
    let may_be_number = key.iter().any(|(_, text)| text.parse::<f64>().is_ok());
    let sample = if may_be_number { sample(cache, name).await? } else { None };
    let held = sample.map(|document| document.key).unwrap_or_default();
    let value = |(column, text): (String, String)| {
        let like = held.iter().find(|(name, _)| *name == column).map(|(_, value)| value);
        let value = match (like, text.parse::<i64>(), text.parse::<f64>()) {
            (Some(Value::Integer(_)), Ok(n), _) => Value::Integer(n),
            (Some(Value::Float(_)), _, Ok(n)) => Value::Float(n),
            _ => Value::Text(text),
        };
        (column, value)
    };
    Ok(key.into_iter().map(value).collect())
}

/// `/api/v1/panels`: as configured, with what a page must know of their aggregates.
pub(super) async fn panels(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Err(refused) = Query::of(&request, &[]) {
        return refused.into();
    }
    let panels: Vec<serde_json::Value> = shared
        .state
        .panels
        .iter()
        .map(|panel| {
            let aggregate = shared.state.aggregates.iter().find(|aggregate| aggregate.name == panel.aggregate);
            serde_json::json!({
                "title": panel.title,
                "kind": panel.kind.as_str(),
                "aggregate": panel.aggregate,
                "values": panel.values,
                "by": panel.by,
                "range_seconds": panel.range.as_secs(),
                "unit": panel.unit,
                "bucket_seconds": aggregate.map_or(0, |a| a.bucket.micros() / 1_000_000),
                "key": aggregate.map(|a| a.key.as_slice()).unwrap_or_default(),
            })
        })
        .collect();
    answers::tagged(&request, bytes(&serde_json::json!({ "panels": panels })))
}
