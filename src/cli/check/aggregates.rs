//! What only the database knows of the aggregates: whether their times are part of their tables' keys, whether their
//! queries run and what they yield, and whether an index serves them. Changes nothing.

use crate::adapters::warehouse;
use crate::config::{Aggregate, Config, Diagnostic, Loaded, Severity};
use crate::core::schema::Table;
use crate::ports::marks::Examined;
use crate::ports::{AggregateQuery, AggregateSource, WarehouseError};
use crate::topology;

/// All that does not fit. What keeps the database from answering is told of the streams.
pub async fn findings(loaded: &Loaded) -> Vec<Diagnostic> {
    let config = &loaded.config;
    let mut found = Vec::new();
    if config.aggregates.is_empty() {
        return found;
    }
    let (Ok(tables), Ok(mut source)) = (tables(config).await, warehouse::open_aggregates(&config.warehouse)().await)
    else {
        return found;
    };
    for aggregate in &config.aggregates {
        // A table that is not there is told of its stream, a file that is no query is told without a database.
        let Some(table) = tables.iter().find(|t| t.name.eq_ignore_ascii_case(&aggregate.table)) else { continue };
        if let Some((problem, help)) = aggregate.source().misfit(table) {
            found.push(loaded.at(Severity::Error, aggregate.places.time, problem, help));
            continue;
        }
        let Ok(query) = topology::aggregate_query(config, aggregate) else { continue };
        match examine(loaded, aggregate, &query, source.as_mut()).await {
            Ok(findings) => found.extend(findings),
            Err(error) => {
                let problem = format!("the warehouse can't be asked: {error}");
                let help = "mend [warehouse], or start the server";
                found.push(loaded.at(Severity::Error, aggregate.places.query, problem, help));
                break;
            }
        }
    }
    found
}

async fn tables(config: &Config) -> Result<Vec<Table>, WarehouseError> {
    let mut names: Vec<&str> = config.aggregates.iter().map(|aggregate| aggregate.table.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    warehouse::catalog(&config.warehouse).await?.tables(&names).await
}

async fn examine(
    loaded: &Loaded,
    aggregate: &Aggregate,
    query: &AggregateQuery,
    source: &mut dyn AggregateSource,
) -> Result<Vec<Diagnostic>, WarehouseError> {
    let places = &aggregate.places;
    let Examined { columns, scanned } = match source.examine(query).await {
        Ok(examined) => examined,
        Err(WarehouseError::Fatal { what } | WarehouseError::SchemaChanged { what }) => {
            return Ok(vec![loaded.at(Severity::Error, places.query, what, "mend the query in that file")]);
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    if let Some((problem, help)) = query.misfit(&columns) {
        let of_key = aggregate.key.iter().any(|key| !columns.iter().any(|column| column.eq_ignore_ascii_case(key)));
        found.push(loaded.at(Severity::Error, if of_key { places.key } else { places.query }, problem, help));
    }
    let asked = loaded.config.forecasts.iter().flat_map(|forecast| &forecast.columns);
    for asked in asked.filter(|asked| asked.aggregate == aggregate.name) {
        if !columns.iter().any(|column| column.eq_ignore_ascii_case(&asked.column)) {
            let problem = format!("the query of `{}` yields no column `{}`", aggregate.name, asked.column);
            let help = format!("name one of {}", columns.join(", "));
            found.push(loaded.at(Severity::Error, asked.place, problem, help));
        }
    }
    for table in scanned {
        let problem = format!("for each bucket the query reads all of `{table}`: no index serves it");
        let help = format!(
            "compare the column itself with the bounds, and give the table an index that begins with it, such as \
             CREATE INDEX {table}_by_{time} ON {table} ({time})",
            table = aggregate.table,
            time = aggregate.time
        );
        found.push(loaded.at(Severity::Warning, places.query, problem, help));
    }
    Ok(found)
}
