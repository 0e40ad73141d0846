//! Two units for each forecast, where a cache is configured: who trains its model, and who forecasts by it. Each fails and
//! restarts without the other, and without any stream.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::aggregators::Surroundings;
use super::prepare;
use crate::actors::forecaster::{Forecaster, ForecasterSettings};
use crate::actors::trainer::{Trainer, TrainerSettings};
use crate::actors::training::FIT;
use crate::actors::turns::Turns;
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::{CacheConfig, Forecast};
use crate::messages::Forecasts;
use crate::runtime::{Incarnation, RestartPolicy, UnitSpec};

/// How long a training waits for another daemon to take it over whose own was killed.
const LEASE: Duration = Duration::from_secs(60);
/// How many times as long as a training took the next has to wait: a tenth of a daemon's time is for training.
const REST: u32 = 9;
/// A look at a bucket's version costs little; more often than documents are computed helps nobody.
const LEAST_EVERY: Duration = Duration::from_secs(5);

pub(super) fn units(given: &Surroundings, forecasts: &Forecasts) -> Vec<UnitSpec> {
    let Some(cache) = &given.config.cache else { return Vec::new() };
    // One for the daemon's life: built again, it holds its own lease still.
    let owner = format!("{}/{}", given.config.daemon.name, Uuid::new_v4());
    let turns = Arc::new(Turns::with_rest(REST));
    let of = |forecast: &Forecast| {
        [trainer(given, cache, forecast, (forecasts, &owner, &turns)), forecaster(given, cache, forecast, forecasts)]
    };
    given.config.forecasts.iter().flat_map(of).collect()
}

fn trainer(
    given: &Surroundings,
    cache: &CacheConfig,
    forecast: &Forecast,
    (forecasts, owner, turns): (&Forecasts, &str, &Arc<Turns>),
) -> UnitSpec {
    let (given, cache, forecast) = (given.clone(), cache.clone(), forecast.clone());
    let (forecasts, owner, turns) = (forecasts.clone(), owner.to_owned(), Arc::clone(turns));
    let name = format!("trainer-{}", forecast.spec.name);
    UnitSpec::new(name, RestartPolicy::default(), move |incarnation: Incarnation| {
        let (given, cache, forecast) = (given.clone(), cache.clone(), forecast.clone());
        let (forecasts, owner, turns) = (forecasts.clone(), owner.clone(), Arc::clone(&turns));
        Box::pin(async move {
            prepare(&given.config, &given.prepared).await?;
            let guard = incarnation.guard("trainer");
            let settings = TrainerSettings {
                metrics: given.metrics.forecast(&forecast.spec.name),
                spec: forecast.spec,
                schedule: forecast.train_at,
                daemon: given.config.daemon.name.clone(),
                owner,
                lease: LEASE,
                open_cache: open_cache(&cache.url),
                open_models: warehouse::open_models(&given.config.warehouse),
                open_leases: warehouse::open_leases(&given.config.warehouse),
                clock: given.clock,
                forecasts,
                freshness: given.freshness,
                fit: FIT,
                turns,
            };
            incarnation.placement().start_yielding("trainer", move |_| Trainer::new(settings, guard));
            Ok(())
        })
    })
}

fn forecaster(given: &Surroundings, cache: &CacheConfig, forecast: &Forecast, forecasts: &Forecasts) -> UnitSpec {
    let (given, cache, forecast, forecasts) = (given.clone(), cache.clone(), forecast.clone(), forecasts.clone());
    let name = format!("forecaster-{}", forecast.spec.name);
    let of = given.config.aggregates.iter().find(|aggregate| aggregate.name == forecast.spec.aggregate);
    let (every, keep) = of.map_or((LEAST_EVERY, None), |aggregate| (aggregate.every.max(LEAST_EVERY), aggregate.keep));
    UnitSpec::new(name, RestartPolicy::default(), move |incarnation: Incarnation| {
        let (given, cache, forecast) = (given.clone(), cache.clone(), forecast.clone());
        let forecasts = forecasts.clone();
        Box::pin(async move {
            prepare(&given.config, &given.prepared).await?;
            let guard = incarnation.guard("forecaster");
            let settings = ForecasterSettings {
                metrics: given.metrics.forecast(&forecast.spec.name),
                spec: forecast.spec,
                keep,
                every,
                open_cache: open_cache(&cache.url),
                open_models: warehouse::open_models(&given.config.warehouse),
                clock: Arc::clone(&given.clock),
                forecasts,
            };
            incarnation.placement().start("forecaster", move |_| Forecaster::new(settings, guard));
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests;
