//! An aggregate computed anew from nothing: its documents are dropped, then each bucket that has rows is marked, computed and
//! put down as done, so that a rebuild that was killed goes on where it was. May run beside daemons; of one aggregate one
//! runs at a time, by a lease.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::refresh_plans;
use crate::actors::lease::{Held, while_held};
use crate::actors::persist::persist;
use crate::actors::refresh::{RefreshError, RefreshPlan, next_buckets, refresh};
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::Config;
use crate::core::document::Bucket;
use crate::ports::cache::{Replaced, Replacement};
use crate::ports::{AggregateSource, Cache, Lease, Leases, Rebuild};

/// How long the next rebuild waits after one was killed.
const LEASE: Duration = Duration::from_secs(20);
/// How often it asks meanwhile.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// What whoever waits may want to see.
#[derive(Debug)]
pub enum Progress<'p> {
    /// Another rebuild of this aggregate holds the lease; one that was killed does not renew it.
    Waits { owner: &'p str, left: Duration },
    /// An earlier rebuild did not end; it goes on.
    GoesOn(&'p Rebuild),
    /// From the first bucket that there is to do to the last that there is.
    Range { first: DateTime<Utc>, last: DateTime<Utc> },
    /// Buckets that start before are done.
    Done { until: DateTime<Utc>, buckets: u64 },
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    pub aggregate: String,
    /// In all, those before a kill too.
    pub buckets: u64,
    /// Written by this run.
    pub documents: u64,
    pub started_at: DateTime<Utc>,
    /// Whether an earlier run had begun it.
    pub went_on: bool,
}

/// Why it came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}; run the same command again, and it goes on where it was")]
    BrokenOff(String),
}

/// Rebuilds an aggregate of the configuration. `restart`: an earlier rebuild that did not end is forgotten.
pub async fn rebuild(
    config: &Config,
    (name, owner): (&str, &str),
    restart: bool,
    told: &mut dyn FnMut(&Progress<'_>),
) -> Result<Rebuilt, RebuildError> {
    let broken = |error: &dyn std::fmt::Display| RebuildError::BrokenOff(error.to_string());
    let (plan, at) = plan_of(config, name, owner).map_err(RebuildError::Refused)?;
    let Some(cache) = &config.cache else {
        return Err(RebuildError::Refused("the configuration has no [cache]".to_owned()));
    };
    warehouse::prepare(&config.warehouse, Path::new("")).await.map_err(|e| broken(&e))?;
    let leases = (warehouse::open_leases(&config.warehouse))().await.map_err(|e| broken(&e))?;
    let mut source = (warehouse::open_aggregates(&config.warehouse))().await.map_err(|e| broken(&e))?;
    let mut cache = (open_cache(&cache.url))().await.map_err(|e| broken(&e))?;
    let lease = format!("rebuild {name}");
    while let Lease::Of { owner, left } = leases.take(&lease, owner, LEASE).await.map_err(|e| broken(&e))? {
        told(&Progress::Waits { owner: &owner, left });
        tokio::time::sleep(ASKED_AGAIN.min(left.max(Duration::from_millis(50)))).await;
    }
    let held = Held { name: &lease, owner, lasts: LEASE };
    let mut run =
        Run { plan: &plan, at, leases: &*leases, source: source.as_mut(), cache: cache.as_mut(), told, documents: 0 };
    let done = match while_held(&*leases, held, run.work(restart)).await {
        Ok(done) => done.map_err(|error| broken(&error)),
        Err(lost) => Err(RebuildError::BrokenOff(lost)),
    };
    // It ends by itself too.
    if let Err(error) = leases.give_back(&lease, owner).await {
        tracing::debug!(cause = %error, "the lease ends by itself");
    }
    done
}

/// The plan that an aggregate belongs to, and its place there.
fn plan_of(config: &Config, name: &str, owner: &str) -> Result<(RefreshPlan, usize), String> {
    for (plan, _) in refresh_plans(config, owner)? {
        if let Some(at) = plan.aggregates.iter().position(|aggregate| aggregate.query.name == name) {
            return Ok((plan, at));
        }
    }
    let names: Vec<&str> = config.aggregates.iter().map(|a| a.name.as_str()).collect();
    Err(match names.is_empty() {
        true => format!("there is no aggregate `{name}`: the configuration has none"),
        false => format!("there is no aggregate `{name}`: there are {}", names.join(", ")),
    })
}

struct Run<'r> {
    plan: &'r RefreshPlan,
    /// Which of the plan's aggregates is rebuilt. The others share its marks, and are computed with it.
    at: usize,
    leases: &'r dyn Leases,
    source: &'r mut dyn AggregateSource,
    cache: &'r mut dyn Cache,
    told: &'r mut dyn FnMut(&Progress<'_>),
    documents: u64,
}

impl Run<'_> {
    async fn work(&mut self, restart: bool) -> Result<Rebuilt, RefreshError> {
        let aggregate = &self.plan.aggregates[self.at].cached;
        let name = aggregate.name.as_str();
        let earlier = self.leases.rebuild(name).await?.filter(|_| !restart);
        if let Some(earlier) = &earlier {
            (self.told)(&Progress::GoesOn(earlier));
        }
        let went_on = earlier.is_some();
        let mut state = earlier.unwrap_or_else(|| Rebuild { started_at: Utc::now(), done_until: None, buckets: 0 });
        if state.done_until.is_none() {
            // Put down first: whoever comes after a kill drops what is left.
            persist(async || Ok(self.leases.put_rebuild(name, &state).await?)).await?;
            persist(async || Ok(self.cache.drop_aggregate(name).await?)).await?;
        }
        // Indexes go with what is dropped.
        persist(async || Ok(self.cache.prepare(&self.plan.cached()).await?)).await?;
        let kept =
            aggregate.keep.and_then(|keep| Utc::now().checked_sub_signed(chrono::Duration::from_std(keep).ok()?));
        let mut from = state.done_until.or(kept);
        let ends = persist(async || {
            let first = self.source.next_bucket(&self.plan.source, from).await?;
            Ok((first, self.source.last_bucket(&self.plan.source).await?))
        });
        if let (Some(first), Some(last)) = ends.await? {
            (self.told)(&Progress::Range { first: first.start(), last: last.end() });
        }
        loop {
            let at_once = self.plan.at_once.max(1);
            let next = persist(async || Ok(next_buckets(&self.plan.source, self.source, from, at_once).await?));
            let buckets = next.await?;
            let Some(last) = buckets.last() else { break };
            persist(async || Ok(self.source.mark(&self.plan.source, &buckets).await?)).await?;
            self.refresh(&buckets).await?;
            from = Some(last.end());
            state.done_until = from;
            state.buckets += buckets.len() as u64;
            persist(async || Ok(self.leases.put_rebuild(name, &state).await?)).await?;
            (self.told)(&Progress::Done { until: last.end(), buckets: state.buckets });
        }
        persist(async || Ok(self.leases.end_rebuild(name).await?)).await?;
        Ok(Rebuilt {
            aggregate: name.to_owned(),
            buckets: state.buckets,
            documents: self.documents,
            started_at: state.started_at,
            went_on,
        })
    }

    async fn refresh(&mut self, buckets: &[Bucket]) -> Result<(), RefreshError> {
        let name = self.plan.aggregates[self.at].cached.name.clone();
        let written = persist(async || {
            let mut written = 0;
            let mut count = |replacements: &[Replacement], replaced: Replaced| {
                if replacements.first().is_some_and(|first| first.aggregate == name) {
                    written += replaced.written + replaced.unchanged;
                }
            };
            refresh(self.plan, &mut *self.source, &mut *self.cache, buckets, &Utc::now, &mut count).await?;
            Ok(written)
        });
        self.documents += written.await?;
        Ok(())
    }
}
