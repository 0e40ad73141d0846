//! What streams and aggregates come to once the real tables are known: plans, what writers mark, and what the warehouse is
//! asked for an aggregate.

use std::sync::Arc;
use std::time::Duration;

use super::warehouse_start;
use crate::actors::refresh::{RefreshPlan, Refreshable};
use crate::adapters::warehouse;
use crate::config::{Aggregate, Config, Stream, TableMapping, read_query};
use crate::core::mapping::{Mapping, Misfit, Plan};
use crate::core::marks::{self, Marking};
use crate::ports::cache::CachedAggregate;
use crate::ports::{AggregateQuery, WarehouseError};
use crate::runtime::StartError;

/// How long a claim of buckets lasts: how long those of a daemon that was killed wait for another.
const CLAIM_LEASE: Duration = Duration::from_secs(30);
/// Buckets that are claimed and computed together.
pub(super) const BUCKETS_AT_ONCE: usize = 64;

/// Reads the real tables and joins them with the stream's mappings.
pub async fn read_plan(config: &Config, stream: &Stream) -> Result<Plan, StartError> {
    match plan_or_misfits(config, stream).await {
        Ok(Ok(plan)) => Ok(plan),
        Ok(Err(misfits)) => {
            let told: Vec<String> = misfits.iter().map(|m| format!("{}: {}", m.problem, m.help)).collect();
            Err(StartError::fatal(format!("the mapping does not fit the tables: {}", told.join("; "))))
        }
        Err(error) => Err(warehouse_start(error)),
    }
}

/// The same with each misfit apart, for `bief check --connect`.
pub async fn plan_or_misfits(config: &Config, stream: &Stream) -> Result<Result<Plan, Vec<Misfit>>, WarehouseError> {
    let mut catalog = warehouse::catalog(&config.warehouse).await?;
    let mut names: Vec<&str> = stream.tables.iter().map(|t| t.table.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let tables: Vec<_> = catalog.tables(&names).await?.into_iter().map(Arc::new).collect();
    let mappings: Vec<Mapping> = stream.tables.iter().map(mapping).collect();
    Ok(Plan::new(&stream.topic, &mappings, &tables))
}

/// Whose buckets a stream's writers mark, in the order in which they do.
pub fn markings(config: &Config, plan: &Plan) -> Result<Arc<[Marking]>, StartError> {
    marks::markings(plan, &config.bucket_sources()).map(Arc::from).map_err(|misfits| {
        let told: Vec<String> = misfits.iter().map(|(problem, help)| format!("{problem}: {help}")).collect();
        StartError::fatal(format!("an aggregate does not fit its table: {}", told.join("; ")))
    })
}

/// What the warehouse is asked for an aggregate.
///
/// # Errors
/// Where the file of its query cannot be read, or is no query for one bucket.
pub fn aggregate_query(config: &Config, aggregate: &Aggregate) -> Result<AggregateQuery, String> {
    let query = read_query(&aggregate.query)
        .map_err(|fault| format!("the query {} of aggregate {}, {fault}", aggregate.query.display(), aggregate.name))?;
    Ok(AggregateQuery {
        name: aggregate.name.clone(),
        source: aggregate.source(),
        query,
        key: aggregate.key.clone(),
        topics: config.topics_feeding(&aggregate.table),
    })
}

/// What is refreshed together: the aggregates of each source, with how often their buckets are looked for.
///
/// # Errors
/// As [`aggregate_query`].
pub fn refresh_plans(config: &Config, owner: &str) -> Result<Vec<(RefreshPlan, Duration)>, String> {
    let mut plans = Vec::new();
    for source in config.bucket_sources() {
        let of_source = || config.aggregates.iter().filter(|a| a.source().id() == source.id());
        let every = of_source().map(|a| a.every).min().unwrap_or_default();
        let aggregates = of_source()
            .map(|a| Ok(Refreshable { query: aggregate_query(config, a)?, cached: cached(a) }))
            .collect::<Result<Vec<_>, String>>()?;
        let plan =
            RefreshPlan { source, aggregates, owner: owner.to_owned(), lease: CLAIM_LEASE, at_once: BUCKETS_AT_ONCE };
        plans.push((plan, every));
    }
    Ok(plans)
}

fn cached(aggregate: &Aggregate) -> CachedAggregate {
    CachedAggregate { name: aggregate.name.clone(), key: aggregate.key.clone(), keep: aggregate.keep }
}

fn mapping(configured: &TableMapping) -> Mapping {
    Mapping {
        table: configured.table.clone(),
        on_conflict: configured.on_conflict,
        optional: configured.optional,
        columns: configured.columns.iter().map(|c| (c.column.clone(), c.source.clone())).collect(),
    }
}
