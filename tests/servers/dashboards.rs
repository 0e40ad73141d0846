//! The queries of `grafana/dashboards/domain.json` on real servers: each is understood, finds rows, and reads flights
//! and observations by an index, never all of them.

use bief::core::sql_split::split;
use serde_json::Value;

use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("the_queries_of_the_dashboard_read_by_index_on_mysql", |s| queries_read_by_index(&s.mysql)),
        ("the_queries_of_the_dashboard_read_by_index_on_mariadb", |s| queries_read_by_index(&s.mariadb)),
    ]
}

/// 0 to 9,999.
const NUMBERS: &str = "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n FROM digit a, digit b, digit c, digit e) s";

/// Two days of the 138 that `fill` makes, as seconds since 1970.
const FROM: i64 = 1_709_251_200;
const TO: i64 = FROM + 2 * 86_400;

/// The domain's tables as its migrations make them.
fn migrate(database: &Database) {
    let mut files: Vec<_> =
        std::fs::read_dir(repository().join("migrations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let sql = std::fs::read_to_string(file).unwrap();
        split(&sql).unwrap().iter().for_each(|statement| database.execute(statement.text));
    }
}

/// Enough rows that reading all of them is not the shortest way: a flight each 20 minutes, an observation each hour.
fn fill(database: &Database) {
    let origin = "ELT(1 + n % 3, 'EWR', 'JFK', 'LGA')";
    for sql in [
        "CREATE TABLE digit (d INT NOT NULL PRIMARY KEY)".to_owned(),
        "INSERT INTO digit VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)".to_owned(),
        "INSERT INTO carrier VALUES ('AA', 'American Airlines Inc.'), ('UA', NULL)".to_owned(),
        "INSERT INTO airport (code, name) VALUES ('EWR', 'Newark Liberty Intl'), ('JFK', NULL), ('LGA', 'La Guardia'), \
         ('IAH', NULL)"
            .to_owned(),
        "INSERT INTO aircraft (tail_number, manufacturer, year_built) VALUES ('N14228', 'BOEING', 1999)".to_owned(),
        format!(
            "INSERT INTO flight SELECT TIMESTAMPADD(MINUTE, 20 * n, '2024-01-01'), ELT(1 + n % 2, 'AA', 'UA'), \
             n % 2000, {origin}, 'IAH', 'N14228', IF(n % 50 = 0, NULL, TIMESTAMPADD(MINUTE, 20 * n + 5, '2024-01-01')), \
             IF(n % 50 = 0, NULL, n % 60 - 10), 819, 830, IF(n % 50 < 2, NULL, n % 70 - 20), 227, 1400, \
             '2024-06-01' FROM {NUMBERS}"
        ),
        format!(
            "INSERT INTO weather (origin, observed_at, temp, wind_speed, precip, visib, ingested_at) SELECT {origin}, \
             TIMESTAMPADD(HOUR, n DIV 3, '2024-01-01'), 40 + n % 20, n % 40, 0, n % 11, '2024-06-01' FROM {NUMBERS}"
        ),
        "ANALYZE TABLE carrier, airport, aircraft, flight, weather".to_owned(),
    ] {
        database.execute(&sql);
    }
}

/// As Grafana puts its macros and variables in.
fn expand(query: &str) -> String {
    let mut expanded = String::new();
    let mut rest = query;
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        let (name, arguments) = match after.strip_prefix('{') {
            Some(variable) => variable.split_once('}').unwrap(),
            None => after.split_once('(').unwrap(),
        };
        rest = arguments;
        match name {
            "origin:sqlstring" => expanded += "'EWR','JFK','LGA'",
            "carrier:sqlstring" => expanded += "'AA','UA'",
            "__timeFilter" => {
                let (column, after) = arguments.split_once(')').unwrap();
                expanded += &format!("{column} BETWEEN FROM_UNIXTIME({FROM}) AND FROM_UNIXTIME({TO})");
                rest = after;
            }
            "__timeGroupAlias" => {
                let (column, after) = arguments.split_once(", $__interval)").unwrap();
                expanded += &format!("UNIX_TIMESTAMP({column}) DIV 3600 * 3600 AS \"time\"");
                rest = after;
            }
            other => panic!("{other} in {query}"),
        }
    }
    expanded + rest
}

/// Title and SQL of each panel's query, and of each variable's.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join("grafana/dashboards/domain.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let said = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().into_iter().flatten();
        found.extend(targets.map(|target| (said(&panel["title"]), said(&target["rawSql"]))));
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter().filter(|v| v["type"] == "query");
    found.extend(variables.map(|variable| (said(&variable["name"]), said(&variable["query"]))));
    found
}

fn queries_read_by_index(server: &str) {
    let database = Database::create(server);
    migrate(&database);
    fill(&database);
    let queries = queries();
    assert!(queries.len() > 15);
    for (title, query) in queries {
        let sql = expand(&query);
        let rows = database.rows(&sql);
        assert!(!rows.is_empty(), "{title} finds nothing: {sql}");
        if query.contains("$__timeGroupAlias") {
            let times: Vec<i64> = rows.iter().map(|row| row.get("time").unwrap()).collect();
            assert!(times.len() > 40 && times.is_sorted(), "{title}: {times:?}");
        }
        for step in database.rows(&format!("EXPLAIN FORMAT=TRADITIONAL {sql}")) {
            let cell = |name: &str| step.get::<Option<String>, _>(name).flatten().unwrap_or_default();
            let (table, way, key) = (cell("table"), cell("type"), cell("key"));
            if ["f", "w", "flight", "weather"].contains(&table.as_str()) {
                assert!(way != "ALL" && !key.is_empty(), "{title} reads all of {table} ({way}): {sql}");
                // One entry of the index for each origin, however many flights there are.
                let whole_index = way == "index" && table != "flight";
                assert!(!whole_index, "{title} reads all of {key}: {sql}");
            }
        }
    }
}
