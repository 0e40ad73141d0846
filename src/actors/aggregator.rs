//! Keeps the cached documents of one source's aggregates as fresh as the warehouse: claims dirty buckets, computes them,
//! replaces them in the cache and sets them clean. Apart from every stream, and must never delay one: while the cache
//! or the warehouse is away the marks wait in the warehouse. Any number of daemons may do it at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::refresh::{RefreshError, RefreshPlan, mark_all, refresh};
use crate::core::document::Bucket;
use crate::messages::{AggregateFreshness, Freshness, Replacements};
use crate::metrics::{AggregateMetrics, SourceMetrics};
use crate::ports::marks::Backlog;
use crate::ports::{AggregateSource, Cache, Clock, OpenAggregateSource, OpenCache};
use crate::runtime::{Backoff, ExitGuard, Lone, Work};

/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What an aggregator is made of.
pub struct AggregatorSettings {
    pub plan: RefreshPlan,
    /// How often dirty buckets are looked for.
    pub every: Duration,
    pub open_source: OpenAggregateSource,
    pub open_cache: OpenCache,
    pub clock: Arc<dyn Clock>,
    pub freshness: Freshness,
    pub replacements: Replacements,
    pub metrics: SourceMetrics,
    /// In the order of the plan's aggregates.
    pub of_aggregates: Vec<AggregateMetrics>,
}

pub type Aggregator = Lone<Desk>;

impl Aggregator {
    pub fn new(settings: AggregatorSettings, guard: ExitGuard) -> Self {
        Self::of(Desk::new(settings), guard)
    }
}

#[async_trait(?Send)]
impl Work for Desk {
    async fn work(&mut self) {
        self.keep_fresh().await;
    }

    async fn give_back(&mut self) {
        let _ = self.give_claims_back().await;
    }
}

pub struct Desk {
    settings: AggregatorSettings,
    /// What it is called where its trouble is told.
    name: String,
    source: Option<Box<dyn AggregateSource>>,
    cache: Option<Box<dyn Cache>>,
    /// Whether the cache is known to be ready for these aggregates, and those it holds nothing of to be marked.
    prepared: bool,
    claimed: Vec<Bucket>,
}

impl Desk {
    fn new(settings: AggregatorSettings) -> Self {
        let name = settings.plan.name();
        Self { settings, name, source: None, cache: None, prepared: false, claimed: Vec::new() }
    }

    /// For as long as the daemon lives.
    async fn keep_fresh(&mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
        let mut troubled = false;
        loop {
            let began = Instant::now();
            let wait = match self.round().await {
                Ok(buckets) => {
                    backoff.reset();
                    if std::mem::take(&mut troubled) {
                        self.settings.freshness.well(&self.name);
                        tracing::info!(source = self.settings.plan.source.id(), "buckets are refreshed again");
                    }
                    // More may wait than were claimed.
                    if buckets >= self.settings.plan.at_once {
                        continue;
                    }
                    self.settings.every.saturating_sub(began.elapsed())
                }
                Err(error) => {
                    troubled = true;
                    self.tell(&error);
                    let wait = backoff.next_delay();
                    tracing::warn!(
                        source = self.settings.plan.source.id(),
                        cause = %error,
                        wait_seconds = wait.as_secs_f64(),
                        "buckets are not refreshed; their marks wait in the warehouse, and the streams go on"
                    );
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn tell(&mut self, error: &RefreshError) {
        // What failed opens anew: a connection may hang where another does not.
        self.source = None;
        self.cache = None;
        self.prepared = false;
        self.settings.metrics.failures.inc();
        self.settings.freshness.troubled(&self.name, &error.to_string(), self.settings.clock.now());
    }

    /// How many buckets were refreshed.
    async fn round(&mut self) -> Result<usize, RefreshError> {
        let Self { settings, source, cache, prepared, claimed, .. } = self;
        let plan = &settings.plan;
        let source = match source {
            Some(source) => source,
            None => source.insert((settings.open_source)().await?),
        };
        let cache = match cache {
            Some(cache) => cache,
            None => cache.insert((settings.open_cache)().await?),
        };
        if !*prepared {
            prepare(plan, source.as_mut(), cache.as_mut()).await?;
            *prepared = true;
        }
        claimed.clear();
        claimed.extend(source.claim(&plan.source, &plan.owner, plan.lease, plan.at_once).await?);
        if !claimed.is_empty() {
            let began = Instant::now();
            let clock = Arc::clone(&settings.clock);
            let (replacements, of_aggregates) = (&settings.replacements, &settings.of_aggregates);
            refresh(plan, source.as_mut(), cache.as_mut(), claimed, &move || clock.now(), &mut |replaced, what| {
                replaced.iter().for_each(|replacement| replacements.tell(replacement));
                let of = replaced.first().map(|replacement| &replacement.aggregate);
                let named = plan.aggregates.iter().position(|a| Some(&a.query.name) == of);
                if let Some(metrics) = named.and_then(|at| of_aggregates.get(at)) {
                    metrics.replaced(what);
                }
            })
            .await?;
            settings.metrics.refresh_duration.observe(began.elapsed().as_secs_f64());
        }
        let refreshed = claimed.len();
        claimed.clear();
        let now = settings.clock.now();
        let backlog = source.backlog(&plan.source).await?;
        let fresh = freshness(backlog, now);
        for (aggregate, metrics) in plan.aggregates.iter().zip(&settings.of_aggregates) {
            settings.freshness.tell(&aggregate.query.name, fresh);
            metrics.fresh(backlog.buckets, fresh.fresh_as_of);
        }
        Ok(refreshed)
    }

    async fn give_claims_back(&mut self) {
        let plan = &self.settings.plan;
        if let (Some(source), false) = (&mut self.source, self.claimed.is_empty()) {
            let _ = source.release(&plan.source, &plan.owner, &self.claimed).await;
        }
    }
}

/// Makes the cache ready. Of an aggregate that the cache holds nothing of, be it new or the cache, all buckets are marked,
/// before any is computed: a marking that is cut off is begun again.
async fn prepare(
    plan: &RefreshPlan,
    source: &mut dyn AggregateSource,
    cache: &mut dyn Cache,
) -> Result<(), RefreshError> {
    cache.prepare(&plan.cached()).await?;
    for aggregate in &plan.aggregates {
        let name = &aggregate.query.name;
        if cache.newest(name).await?.is_some() {
            continue;
        }
        let marked = mark_all(plan, source).await?;
        if marked > 0 {
            tracing::info!(aggregate = name, buckets = marked, "the cache holds nothing of it; all is computed");
        }
        // One marking serves all of the source.
        break;
    }
    Ok(())
}

/// `now` was read before the backlog.
fn freshness(backlog: Backlog, now: DateTime<Utc>) -> AggregateFreshness {
    let behind = backlog.oldest.and_then(|oldest| chrono::Duration::from_std(oldest).ok()).unwrap_or_default();
    AggregateFreshness { fresh_as_of: Some(now - behind), pending_buckets: Some(backlog.buckets) }
}

#[cfg(test)]
mod tests;
