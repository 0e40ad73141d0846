//! A unit for each source of aggregates: it fails and restarts without the streams, and without the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use uuid::Uuid;

use super::{prepare, refresh_plans};
use crate::actors::aggregator::{Aggregator, AggregatorSettings};
use crate::actors::refresh::RefreshPlan;
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::Config;
use crate::messages::{Freshness, Replacements};
use crate::metrics::Metrics;
use crate::ports::{Clock, OpenCache};
use crate::runtime::{Incarnation, RestartPolicy, UnitSpec};

/// Characters of the daemon's name in its claims, which have 128 with the id behind it. For people: the id tells them apart.
const NAME_IN_CLAIMS: usize = 64;

/// What all of them are given.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub config: Arc<Config>,
    /// Whether the tables are known to be there.
    pub prepared: Arc<Mutex<bool>>,
    pub clock: Arc<dyn Clock>,
    pub freshness: Freshness,
    pub replacements: Replacements,
    pub metrics: Metrics,
}

impl Surroundings {
    /// None where no cache is configured.
    pub fn units(&self) -> Result<Vec<UnitSpec>, String> {
        let Some(cache) = &self.config.cache else { return Ok(Vec::new()) };
        // One for the daemon's life: an aggregator that is built again takes its own claims up.
        let named: String = self.config.daemon.name.chars().take(NAME_IN_CLAIMS).collect();
        let owner = format!("{named}/{}", Uuid::new_v4());
        let plans = refresh_plans(&self.config, &owner)?;
        let open_cache = open_cache(&cache.url);
        Ok(plans.into_iter().map(|(plan, every)| self.unit(plan, every, Arc::clone(&open_cache))).collect())
    }

    fn unit(&self, plan: RefreshPlan, every: Duration, open_cache: OpenCache) -> UnitSpec {
        let given = self.clone();
        UnitSpec::new(plan.name(), RestartPolicy::default(), move |incarnation: Incarnation| {
            let (given, plan, open_cache) = (given.clone(), plan.clone(), Arc::clone(&open_cache));
            Box::pin(async move {
                prepare(&given.config, &given.prepared).await?;
                let guard = incarnation.guard("aggregator");
                let settings = AggregatorSettings {
                    every,
                    open_source: warehouse::open_aggregates(&given.config.warehouse),
                    open_cache,
                    clock: given.clock,
                    freshness: given.freshness,
                    replacements: given.replacements,
                    metrics: given.metrics.source(&plan.source.id()),
                    of_aggregates: plan.aggregates.iter().map(|a| given.metrics.aggregate(&a.query.name)).collect(),
                    plan,
                };
                incarnation.placement().start("aggregator", move |_| Aggregator::new(settings, guard));
                Ok(())
            })
        })
    }
}
