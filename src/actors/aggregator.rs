//! Keeps the cached documents of one source's aggregates as fresh as the warehouse: claims dirty buckets, computes them,
//! replaces them in the cache and sets them clean. Apart from every stream, and must never delay one: while the cache
//! or the warehouse is away the marks wait in the warehouse. Any number of daemons may do it at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::refresh::{RefreshError, RefreshPlan, Refreshable, mark_all, refresh};
use crate::core::document::Bucket;
use crate::messages::{AggregateFreshness, Freshness, Replacements};
use crate::metrics::{AggregateMetrics, SourceMetrics};
use crate::ports::cache::{CachedAggregate, Replaced, Replacement};
use crate::ports::marks::Backlog;
use crate::ports::{AggregateSource, Cache, CacheError, Clock, OpenAggregateSource, OpenCache, WarehouseError};
use crate::runtime::{Backoff, ExitGuard, Lone, Work};

/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Buckets that are tried one by one, of a refresh that failed for good, before it is taken for all of them that fail.
const TRIED: usize = 8;

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
    /// Of which aggregates the cache held something when it was last looked at.
    held: BTreeSet<String>,
    claimed: Vec<Bucket>,
    /// Buckets that fail by themselves, why, and when they are tried again. They stay dirty and claimed; others go on.
    failing: BTreeMap<Bucket, (Instant, RefreshError)>,
}

/// What a look at dirty buckets came to.
#[derive(Debug)]
struct Round {
    refreshed: usize,
    /// Failed by themselves just now.
    failed: usize,
    /// As many wait still as are refreshed at once.
    more: bool,
}

impl Desk {
    fn new(settings: AggregatorSettings) -> Self {
        let name = settings.plan.name();
        let (held, claimed, failing) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
        Self { settings, name, source: None, cache: None, prepared: false, held, claimed, failing }
    }

    /// For as long as the daemon lives.
    async fn keep_fresh(&mut self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
        let mut troubled = false;
        loop {
            let began = Instant::now();
            let wait = match self.round().await {
                Ok(round) => {
                    backoff.reset();
                    self.tell_failing(&round, &mut troubled);
                    if round.refreshed > 0 && round.more {
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

    /// Whether all is well but for buckets that fail by themselves.
    fn tell_failing(&self, round: &Round, troubled: &mut bool) {
        let (settings, source) = (&self.settings, self.settings.plan.source.id());
        let Some((_, error)) = self.failing.values().next() else {
            // Also what an aggregator that panicked left.
            settings.freshness.well(&self.name);
            if std::mem::take(troubled) {
                tracing::info!(source, "buckets are refreshed again");
            }
            return;
        };
        *troubled = true;
        settings.metrics.failures.inc_by(round.failed as u64);
        settings.freshness.troubled(&self.name, &error.to_string(), settings.clock.now());
        if round.failed > 0 {
            tracing::warn!(
                source,
                cause = %error,
                buckets = self.failing.len(),
                "buckets fail by themselves; they stay dirty and are tried again, all others are refreshed"
            );
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

    async fn round(&mut self) -> Result<Round, RefreshError> {
        let Self { settings, source, cache, prepared, held, claimed, failing, .. } = self;
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
            cache.prepare(&plan.cached()).await?;
        }
        // Also where nothing is dirty: so a cache that is away or was emptied is found on a stream that is quiet.
        let holds = held_of(plan, cache.as_mut()).await?;
        let emptied = *prepared && held.iter().any(|name| !holds.contains(name));
        if emptied {
            cache.prepare(&plan.cached()).await?;
        }
        if emptied || !*prepared {
            mark_absent(plan, source.as_mut(), &holds, settings.clock.now()).await?;
        }
        (*held, *prepared) = (holds, true);
        failing.retain(|_, (again, _)| *again > Instant::now());
        claimed.clear();
        claimed.extend(source.claim(&plan.source, &plan.owner, plan.lease, plan.at_once + failing.len()).await?);
        claimed.retain(|bucket| !failing.contains_key(bucket));
        let mut failed = 0;
        if !claimed.is_empty() {
            let began = Instant::now();
            let mut ways = Ways { settings, source: source.as_mut(), cache: cache.as_mut() };
            match ways.refresh(claimed).await {
                Err(error) if error.is_fatal() => failed = ways.one_by_one(claimed, failing).await?,
                other => other?,
            }
            settings.metrics.refresh_duration.observe(began.elapsed().as_secs_f64());
        }
        let refreshed = claimed.len() - failed;
        claimed.clear();
        let now = settings.clock.now();
        let backlog = source.backlog(&plan.source).await?;
        let fresh = freshness(backlog, now);
        for (aggregate, metrics) in plan.aggregates.iter().zip(&settings.of_aggregates) {
            settings.freshness.tell(&aggregate.query.name, fresh);
            metrics.fresh(backlog.buckets, fresh.fresh_as_of);
        }
        Ok(Round { refreshed, failed, more: backlog.buckets >= plan.at_once as u64 })
    }

    async fn give_claims_back(&mut self) {
        let plan = &self.settings.plan;
        if let (Some(source), false) = (&mut self.source, self.claimed.is_empty()) {
            let _ = source.release(&plan.source, &plan.owner, &self.claimed).await;
        }
    }
}

/// Where rows come from and documents go.
struct Ways<'d> {
    settings: &'d AggregatorSettings,
    source: &'d mut dyn AggregateSource,
    cache: &'d mut dyn Cache,
}

impl Ways<'_> {
    async fn refresh(&mut self, buckets: &[Bucket]) -> Result<(), RefreshError> {
        let AggregatorSettings { plan, clock, replacements, of_aggregates, .. } = self.settings;
        let mut told = |replaced: &[Replacement], what: Replaced| {
            replaced.iter().for_each(|replacement| replacements.tell(replacement));
            let of = replaced.first().map(|replacement| &replacement.aggregate);
            let named = plan.aggregates.iter().position(|a| Some(&a.query.name) == of);
            if let Some(metrics) = named.and_then(|at| of_aggregates.get(at)) {
                metrics.replaced(replaced.len(), what);
            }
        };
        refresh(plan, self.source, self.cache, buckets, &|| clock.now(), &mut told).await
    }

    /// Of buckets that together fail for good, those that fail alone are put among the `failing`; answers how many.
    ///
    /// # Errors
    /// What passes by itself, and what all that were tried first fail by.
    async fn one_by_one(
        &mut self,
        buckets: &[Bucket],
        failing: &mut BTreeMap<Bucket, (Instant, RefreshError)>,
    ) -> Result<usize, RefreshError> {
        let mut failed = 0;
        for (tried, bucket) in buckets.iter().enumerate() {
            let Err(error) = self.refresh(std::slice::from_ref(bucket)).await else { continue };
            if !error.is_fatal() {
                return Err(error);
            }
            failed += 1;
            let error = RefreshError::Bucket { bucket: *bucket, error: Box::new(error) };
            if failed == TRIED && tried + 1 == TRIED {
                return Err(error);
            }
            failing.insert(*bucket, (Instant::now() + RETRY_LONGEST, error));
        }
        Ok(failed)
    }
}

/// Names of the plan's aggregates that the cache holds something of.
async fn held_of(plan: &RefreshPlan, cache: &mut dyn Cache) -> Result<BTreeSet<String>, CacheError> {
    let mut held = BTreeSet::new();
    for Refreshable { cached, .. } in &plan.aggregates {
        if cache.newest(&cached.name).await?.is_some() {
            held.insert(cached.name.clone());
        }
    }
    Ok(held)
}

/// Of an aggregate that the cache holds nothing of, be it new, the cache new or emptied, all buckets are marked that it
/// would keep, before any is computed: a marking that is cut off is begun again.
async fn mark_absent(
    plan: &RefreshPlan,
    source: &mut dyn AggregateSource,
    held: &BTreeSet<String>,
    now: DateTime<Utc>,
) -> Result<(), WarehouseError> {
    let cached = plan.aggregates.iter().map(|aggregate| &aggregate.cached);
    let absent: Vec<&CachedAggregate> = cached.filter(|cached| !held.contains(&cached.name)).collect();
    let Some(first) = absent.first() else { return Ok(()) };
    // One marking serves all of them: from where the first bucket starts that any of them keeps.
    let keep =
        absent.iter().map(|cached| cached.keep).collect::<Option<Vec<_>>>().and_then(|keeps| keeps.into_iter().max());
    let from = keep.and_then(|keep| now.checked_sub_signed(TimeDelta::from_std(keep).ok()?));
    let marked = mark_all(plan, source, from).await?;
    if marked > 0 {
        tracing::info!(aggregate = first.name, buckets = marked, "the cache holds nothing of it; all is computed");
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
