//! `/api/v1/forecasts` and `/api/v1/models`: how each forecast stands, what was forecast beside what came, and the versions
//! of its models. From cache and bookkeeping; never asks for rows.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Shared;
use super::aggregates::{desk, key_of, typed};
use super::answers::{Query, Refusal, bytes, refused, tagged};
use super::problem::problem;
use crate::config::Forecast;
use crate::core::document::{Fields, Value, value_of};
use crate::core::forecast::{Horizon, HorizonScores};
use crate::messages::{ForecastStanding, LiveError};
use crate::ports::ModelHead;
use crate::ports::cache::{CacheQuery, Cursor, Document};

const NO_FORECAST: &str = "There is no such forecast. /api/v1/forecasts has their names.";
/// Documents of a page, unless more or fewer are asked for, and at most.
const PAGE: usize = 1000;
const LARGEST_PAGE: usize = 5000;
/// The same of versions.
const MODELS: usize = 50;
const MOST_MODELS: usize = 500;

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    aggregate: &'a str,
    target: &'a str,
    key: &'a [String],
    bucket_seconds: i64,
    /// Share of the truth that the interval shall hold.
    interval: f64,
    /// Cron, in UTC; none where it is off.
    train_at: Option<String>,
    /// The version that forecasts.
    champion: Option<u64>,
    trained_at: Option<DateTime<Utc>>,
    promoted_at: Option<DateTime<Utc>>,
    /// Where the last known bucket starts that this daemon forecast from.
    made_from: Option<DateTime<Utc>>,
    /// Why this daemon forecasts nothing, where that is so.
    trouble: Option<String>,
    horizons: Vec<ListedHorizon<'a>>,
}

#[derive(Serialize)]
struct ListedHorizon<'a> {
    horizon: &'a str,
    buckets: usize,
    /// Of the champion.
    holdout: Option<&'a HorizonScores>,
    live: Option<Live>,
}

#[derive(Serialize)]
struct Live {
    scored: usize,
    mae: Option<f64>,
    holdout_mae: f64,
    ratio: Option<f64>,
    drifted: bool,
}

impl From<&LiveError> for Live {
    fn from(of: &LiveError) -> Self {
        let LiveError { scored, mae, holdout_mae, ratio, drifted, .. } = of;
        Self { scored: *scored, mae: *mae, holdout_mae: *holdout_mae, ratio: *ratio, drifted: *drifted }
    }
}

pub(super) async fn list(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    match listed(&request, &shared).await {
        Ok(body) => tagged(&request, body),
        Err(refused) => refused.into(),
    }
}

async fn listed(request: &HttpRequest, shared: &Shared) -> Result<Bytes, Refusal> {
    const QUESTION: &str = "forecasts";
    Query::of(request, &[])?;
    if let Some(known) = shared.recent_lists.get(QUESTION) {
        return Ok(known);
    }
    let forecasts = &shared.state.forecasts;
    let mut champions = Vec::new();
    if !forecasts.is_empty() {
        let names: Vec<String> = forecasts.iter().map(|forecast| forecast.spec.name.clone()).collect();
        let asked = shared.desks.models.ask(move |models| {
            Box::pin(async move {
                let mut all = Vec::with_capacity(names.len());
                for name in &names {
                    all.push(models.champion(name).await?);
                }
                Ok(all)
            })
        });
        champions = asked.await.map_err(|unanswered| unanswered.answer())?;
    }
    let standings: Vec<ForecastStanding> = forecasts.iter().map(|f| shared.state.standing.of(&f.spec.name)).collect();
    let each = forecasts.iter().zip(&champions).zip(&standings);
    let listed: Vec<Listed<'_>> =
        each.map(|((forecast, head), standing)| one(forecast, head.as_ref(), standing)).collect();
    let body = bytes(&serde_json::json!({ "forecasts": listed }));
    shared.recent_lists.keep(QUESTION.to_owned(), body.clone());
    Ok(body)
}

fn one<'a>(forecast: &'a Forecast, head: Option<&'a ModelHead>, standing: &ForecastStanding) -> Listed<'a> {
    let spec = &forecast.spec;
    // What was judged is of another version for a moment after a promotion.
    let judged = head.is_some_and(|head| standing.champion == Some(head.version));
    let horizon = |horizon: &'a Horizon| ListedHorizon {
        horizon: &horizon.text,
        buckets: horizon.buckets,
        holdout: head.and_then(|head| head.horizons.iter().find(|scores| scores.horizon == horizon.text)),
        live: standing.horizons.iter().find(|live| judged && live.horizon == horizon.text).map(Live::from),
    };
    Listed {
        name: &spec.name,
        aggregate: &spec.aggregate,
        target: &spec.target,
        key: &spec.key,
        bucket_seconds: spec.seconds(),
        interval: spec.interval,
        train_at: forecast.train_at.as_ref().map(ToString::to_string),
        champion: head.map(|head| head.version),
        trained_at: head.map(|head| head.trained_at),
        promoted_at: head.and_then(|head| head.promoted_at),
        made_from: standing.made_from,
        trouble: standing.trouble.clone(),
        horizons: spec.horizons.iter().map(horizon).collect(),
    }
}

fn find<'s>(shared: &'s Shared, name: &str) -> Result<&'s Forecast, Refusal> {
    let forecast = shared.state.forecasts.iter().find(|forecast| forecast.spec.name == name);
    forecast.ok_or_else(|| problem(StatusCode::NOT_FOUND, NO_FORECAST).into())
}

/// What was forecast for a bucket and key, and what came.
#[derive(Serialize)]
struct Forecasted {
    /// Where the bucket starts that is forecast.
    at: DateTime<Utc>,
    key: serde_json::Map<String, serde_json::Value>,
    forecast: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    truth: Option<f64>,
    /// Forecast less truth.
    error: Option<f64>,
    made_at: Option<String>,
    model_version: Option<i64>,
}

impl Forecasted {
    fn of(document: &Document) -> Self {
        let value = |name: &str| value_of(&document.values, name);
        let number = |name: &str| match value(name)? {
            Value::Integer(n) => Some(*n as f64),
            Value::Float(n) => n.is_finite().then_some(*n),
            Value::Null | Value::Text(_) => None,
        };
        let told = |(name, value): &(String, Value)| (name.clone(), serde_json::json!(value));
        Self {
            at: document.bucket.start(),
            key: document.key.iter().map(told).collect(),
            forecast: number("forecast"),
            low: number("low"),
            high: number("high"),
            truth: number("truth"),
            error: number("error"),
            made_at: match value("made_at") {
                Some(Value::Text(text)) => Some(text.clone()),
                _ => None,
            },
            model_version: match value("model_version") {
                Some(Value::Integer(n)) => Some(*n),
                _ => None,
            },
        }
    }
}

pub(super) async fn documents(
    request: HttpRequest,
    name: web::Path<String>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    match read(&request, &name, &shared).await {
        Ok(body) => tagged(&request, body),
        Err(refused) => refused.into(),
    }
}

async fn read(request: &HttpRequest, name: &str, shared: &Shared) -> Result<Bytes, Refusal> {
    let query = Query::of(request, &["horizon", "from", "to", "limit", "cursor", "key."])?;
    let spec = &find(shared, name)?.spec;
    let horizon = query.text("horizon").and_then(|text| spec.horizons.iter().find(|horizon| horizon.text == text));
    let horizon = horizon.ok_or_else(|| refused("horizon is one of the forecast's; /api/v1/forecasts has them."))?;
    let after = query
        .text("cursor")
        .map(|text| Cursor::parse(text).ok_or_else(|| refused("cursor is not what an answer had as next.")));
    let mut asked = CacheQuery {
        aggregate: spec.cached_as(horizon),
        key: Fields::new(),
        from: query.time("from")?,
        to: query.time("to")?,
        limit: query.limit(PAGE, LARGEST_PAGE)?,
        after: after.transpose()?,
    };
    let key = key_of(&query, &spec.key)?;
    let (forecast, horizon) = (spec.name.clone(), horizon.text.clone());
    let answer = desk(shared)?.ask(move |cache| {
        Box::pin(async move {
            asked.key = typed(cache.as_mut(), &asked.aggregate, key).await?;
            let page = cache.read(&asked).await?;
            let documents: Vec<Forecasted> = page.documents.iter().map(Forecasted::of).collect();
            let next = page.next.as_ref().map(Cursor::text);
            Ok(bytes(&serde_json::json!({
                "forecast": forecast, "horizon": horizon, "documents": documents, "next": next,
            })))
        })
    });
    answer.await.map_err(|unanswered| unanswered.answer().into())
}

pub(super) async fn models(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    match versions(&request, &shared).await {
        Ok(body) => tagged(&request, body),
        Err(refused) => refused.into(),
    }
}

/// The newest comparison of frameworks as it was stored; null where none has been made.
pub(super) async fn comparison(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Err(refused) = Query::of(&request, &[]) {
        return refused.into();
    }
    let read = std::sync::Arc::clone(&shared.state.comparison);
    match web::block(move || read()).await {
        Ok(Ok(newest)) => tagged(&request, bytes(&newest)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the stored comparison of frameworks cannot be read");
            let detail = "The stored comparison cannot be read; the log tells why. `bief compare` makes a new one.";
            problem(StatusCode::INTERNAL_SERVER_ERROR, detail)
        }
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "The daemon is ending."),
    }
}

async fn versions(request: &HttpRequest, shared: &Shared) -> Result<Bytes, Refusal> {
    let query = Query::of(request, &["forecast", "limit", "after"])?;
    let name =
        query.text("forecast").ok_or_else(|| refused("forecast is wanted; /api/v1/forecasts has their names."))?;
    let name = find(shared, name)?.spec.name.clone();
    let limit = query.limit(MODELS, MOST_MODELS)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| refused("after is what an answer had as next."));
    let below = query.text("after").map(number).transpose()?;
    let asked = shared.desks.models.ask(move |models| {
        Box::pin(async move {
            // One more tells whether there is a next page.
            let mut heads = models.list(&name, below, limit as u64 + 1).await?;
            let more = heads.len() > limit;
            heads.truncate(limit);
            let next = heads.last().filter(|_| more).map(|head| head.version.to_string());
            Ok(bytes(&serde_json::json!({ "forecast": name, "models": heads, "next": next })))
        })
    });
    asked.await.map_err(|unanswered| unanswered.answer().into())
}
