//! The unit that compares cached documents with the rows, where a cache is configured and its schedule is not off.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use uuid::Uuid;

use super::{prepare, refresh_plans};
use crate::actors::reconciler::{Reconciler, ReconcilerSettings};
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::Config;
use crate::messages::Replacements;
use crate::metrics::Metrics;
use crate::ports::Clock;
use crate::runtime::{Incarnation, RestartPolicy, UnitSpec};

pub(super) const UNIT: &str = "reconciler";
/// How long a pass waits for another daemon to take it over whose own was killed.
const LEASE: Duration = Duration::from_secs(30);

/// What the unit is given.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub config: Arc<Config>,
    /// Whether the tables are known to be there.
    pub prepared: Arc<Mutex<bool>>,
    pub clock: Arc<dyn Clock>,
    pub replacements: Replacements,
    pub metrics: Metrics,
}

impl Surroundings {
    /// None where there is nothing to compare, or never.
    pub fn unit(self) -> Result<Option<UnitSpec>, String> {
        let Some(cache) = self.config.cache.clone() else { return Ok(None) };
        let Some(schedule) = cache.reconcile.clone().filter(|_| !self.config.aggregates.is_empty()) else {
            return Ok(None);
        };
        // One for the daemon's life: built again, it holds its own lease still.
        let owner = format!("{}/{}", self.config.daemon.name, Uuid::new_v4());
        let plans: Vec<_> = refresh_plans(&self.config, &owner)?.into_iter().map(|(plan, _)| plan).collect();
        Ok(Some(UnitSpec::new(UNIT, RestartPolicy::default(), move |incarnation: Incarnation| {
            let (given, cache, schedule) = (self.clone(), cache.clone(), schedule.clone());
            let (owner, plans) = (owner.clone(), plans.clone());
            Box::pin(async move {
                prepare(&given.config, &given.prepared).await?;
                let names: Vec<&str> = given.config.aggregates.iter().map(|a| a.name.as_str()).collect();
                let guard = incarnation.guard(UNIT);
                let settings = ReconcilerSettings {
                    schedule,
                    share: cache.reconcile_sample,
                    plans,
                    owner,
                    lease: LEASE,
                    open_source: warehouse::open_aggregates(&given.config.warehouse),
                    open_cache: open_cache(&cache.url),
                    open_leases: warehouse::open_leases(&given.config.warehouse),
                    clock: given.clock,
                    replacements: given.replacements,
                    metrics: given.metrics.reconcile(&names),
                    seed: || Uuid::new_v4().as_u64_pair().0,
                };
                incarnation.placement().start(UNIT, move |_| Reconciler::new(settings, guard));
                Ok(())
            })
        })))
    }
}
