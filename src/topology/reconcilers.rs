//! The unit that compares cached documents with the rows, where a cache is configured and its schedule is not off.

use std::time::Duration;

use uuid::Uuid;

use super::aggregators::Surroundings;
use super::{prepare, refresh_plans};
use crate::actors::reconciler::{Reconciler, ReconcilerSettings};
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::runtime::{Incarnation, RestartPolicy, UnitSpec};

pub(super) const UNIT: &str = "reconciler";
/// How long a pass waits for another daemon to take it over whose own was killed.
const LEASE: Duration = Duration::from_secs(30);

/// None where there is nothing to compare, or never.
pub(super) fn unit(given: &Surroundings) -> Result<Option<UnitSpec>, String> {
    let given = given.clone();
    let Some(cache) = given.config.cache.clone() else { return Ok(None) };
    let Some(schedule) = cache.reconcile.clone().filter(|_| !given.config.aggregates.is_empty()) else {
        return Ok(None);
    };
    // One for the daemon's life: built again, it holds its own lease still.
    let owner = format!("{}/{}", given.config.daemon.name, Uuid::new_v4());
    let plans: Vec<_> = refresh_plans(&given.config, &owner)?.into_iter().map(|(plan, _)| plan).collect();
    Ok(Some(UnitSpec::new(UNIT, RestartPolicy::default(), move |incarnation: Incarnation| {
        let (given, cache, schedule) = (given.clone(), cache.clone(), schedule.clone());
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
