//! At the times of a schedule, compares a sample of the cached documents with the rows and mends what differs, and removes
//! what is past its `keep`. Of many daemons one does it, by a lease; where that one is killed, another does it. Apart from
//! streams and aggregators, and must never delay one: a pass that fails is told, and tried again until the next is due.

mod look;
pub mod pass;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use self::pass::{Became, Finding, Pass, Tally, reconcile};
use super::due::wait_until;
use super::lease::{Held, while_held};
use super::refresh::{RefreshError, RefreshPlan};
use crate::core::schedule::Schedule;
use crate::messages::Replacements;
use crate::metrics::ReconcileMetrics;
use crate::ports::cache::CachedAggregate;
use crate::ports::{Clock, Lease, Leases, OpenAggregateSource, OpenCache, OpenLeases, WarehouseError};
use crate::runtime::{Backoff, ExitGuard, Lone, Work};

/// What daemons agree on.
pub const LEASE: &str = "reconcile";
/// First and longest wait after a failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Differences of a pass and an aggregate that are logged one by one.
const MOST_LOGGED: u64 = 20;

/// What a reconciler is made of.
pub struct ReconcilerSettings {
    pub schedule: Schedule,
    /// Of the buckets, in a pass.
    pub share: f64,
    pub plans: Vec<RefreshPlan>,
    /// Tells this daemon from others.
    pub owner: String,
    /// How long the lease lasts without being renewed: how long a pass waits whose daemon was killed.
    pub lease: Duration,
    pub open_source: OpenAggregateSource,
    pub open_cache: OpenCache,
    pub open_leases: OpenLeases,
    pub clock: Arc<dyn Clock>,
    pub replacements: Replacements,
    pub metrics: ReconcileMetrics,
    /// Draws the sample of a pass.
    pub seed: fn() -> u64,
}

pub type Reconciler = Lone<ReconcilerSettings>;

impl Reconciler {
    pub fn new(settings: ReconcilerSettings, guard: ExitGuard) -> Self {
        Self::of(settings, guard)
    }
}

#[async_trait(?Send)]
impl Work for ReconcilerSettings {
    async fn work(&mut self) {
        keep_time(self).await;
    }

    async fn give_back(&mut self) {
        let _ = give_back(self).await;
    }
}

async fn give_back(settings: &ReconcilerSettings) -> Result<(), WarehouseError> {
    (settings.open_leases)().await?.give_back(LEASE, &settings.owner).await
}

/// What the actor does for as long as it lives: it waits for what is due, and sees to it. A time that passed while nobody was there is not made up for.
pub async fn keep_time(settings: &ReconcilerSettings) {
    loop {
        let Some(due) = settings.schedule.next_after(settings.clock.now()) else {
            return std::future::pending().await;
        };
        wait_until(&*settings.clock, due).await;
        see_to(settings, due).await;
    }
}

/// What became of asking for the pass that is due.
enum Turn {
    Done,
    /// Another daemon is at it, and may be for so long without a word.
    Another(Duration),
}

/// Until the pass that is due then is done, by whomever, or the next is due.
async fn see_to(settings: &ReconcilerSettings, due: DateTime<Utc>) {
    let next = settings.schedule.next_after(due);
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, None);
    while next.is_none_or(|next| settings.clock.now() < next) {
        match turn(settings, due).await {
            Ok(Turn::Done) => return,
            Ok(Turn::Another(left)) => {
                // It may end sooner than its lease.
                tokio::time::sleep(left.clamp(RETRY_FIRST, settings.lease / 3)).await;
            }
            Err(cause) => {
                let wait = backoff.next_delay();
                tracing::warn!(
                    cause,
                    wait_seconds = wait.as_secs_f64(),
                    "cached documents are not compared with the rows; it is tried again"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn turn(settings: &ReconcilerSettings, due: DateTime<Utc>) -> Result<Turn, String> {
    let told = |error: WarehouseError| error.to_string();
    let leases = (settings.open_leases)().await.map_err(told)?;
    match leases.take(LEASE, &settings.owner, settings.lease).await.map_err(told)? {
        Lease::Of { left, .. } => return Ok(Turn::Another(left)),
        Lease::Ours { done_for } if done_for >= Some(due) => {
            leases.give_back(LEASE, &settings.owner).await.map_err(told)?;
            return Ok(Turn::Done);
        }
        Lease::Ours { .. } => {}
    }
    let held = Held { name: LEASE, owner: &settings.owner, lasts: settings.lease };
    match while_held(&*leases, held, pass_over(settings, due)).await? {
        Ok(()) => settings.metrics.succeeded(settings.clock.now()),
        Err(error) if error.is_fatal() => {
            tracing::error!(cause = %error, "cached documents could not be compared with the rows; the next time is tried");
        }
        Err(error) => {
            give_up(&*leases, settings).await;
            return Err(error.to_string());
        }
    }
    // Where another has taken it over meanwhile, that one puts it down.
    leases.done(LEASE, &settings.owner, due).await.map_err(told)?;
    Ok(Turn::Done)
}

/// Another may have more luck.
async fn give_up(leases: &dyn Leases, settings: &ReconcilerSettings) {
    if let Err(error) = leases.give_back(LEASE, &settings.owner).await {
        tracing::debug!(cause = %error, "the lease ends by itself");
    }
}

/// The pass over all sources. One that cannot be compared for good does not keep the others from it.
async fn pass_over(settings: &ReconcilerSettings, due: DateTime<Utc>) -> Result<(), RefreshError> {
    let mut source = (settings.open_source)().await?;
    let mut cache = (settings.open_cache)().await?;
    let mut failed = None;
    let seed = (settings.seed)();
    tracing::info!(due = %due, share = settings.share, seed, "cached documents are compared with the rows");
    for plan in &settings.plans {
        let chosen: Vec<usize> = (0..plan.aggregates.len()).collect();
        let pass = Pass {
            plan,
            chosen: &chosen,
            share: settings.share,
            seed,
            mend: true,
            clock: &*settings.clock,
            replaced: &|replaced, _| replaced.iter().for_each(|replacement| settings.replacements.tell(replacement)),
        };
        let mut logged = vec![0; chosen.len()];
        let mut told = |finding: &Finding<'_>| {
            let at = plan.aggregates.iter().position(|a| a.query.name == finding.aggregate).unwrap_or_default();
            settings.metrics.differs(finding.aggregate);
            logged[at] += 1;
            if logged[at] <= MOST_LOGGED {
                log(finding);
            }
        };
        match reconcile(&pass, source.as_mut(), cache.as_mut(), &mut told).await {
            Ok(tallies) => plan.aggregates.iter().zip(&tallies).for_each(|(a, tally)| summarise(&a.query.name, tally)),
            Err(error) if error.is_fatal() => {
                tracing::error!(source = plan.source.id(), cause = %error, "a source's documents could not be compared");
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let cached: Vec<CachedAggregate> = settings.plans.iter().flat_map(RefreshPlan::cached).collect();
    let purged = cache.purge(&cached, settings.clock.now()).await?;
    tracing::info!(documents = purged, "documents past their keep were removed");
    failed.map_or(Ok(()), Err)
}

fn log(finding: &Finding<'_>) {
    let difference = serde_json::to_string(finding.difference).unwrap_or_default();
    let Finding { aggregate, bucket_start, became, .. } = finding;
    let became = match became {
        Became::Mended => "mended",
        Became::Remains => "remains",
        Became::Left => "left",
    };
    tracing::warn!(aggregate, bucket = %bucket_start, difference, became, "a cached document was not what the rows come to");
}

fn summarise(aggregate: &str, tally: &Tally) {
    let Tally { buckets, documents, differing, mended, remaining, pending, unsettled } = *tally;
    if differing == 0 {
        tracing::info!(aggregate, buckets, documents, pending, unsettled, "cached documents are what the rows come to");
        return;
    }
    tracing::warn!(
        aggregate,
        buckets,
        documents,
        differing,
        mended,
        remaining,
        pending,
        unsettled,
        "cached documents differed from what the rows come to; what remains wants `bief rebuild {aggregate}`"
    );
}
