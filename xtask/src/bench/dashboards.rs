//! What the page's panels ask: their documents by the daemon's HTTP API, which reads the cache, beside the aggregate's own
//! SQL for the same span on MySQL, in turns.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde_json::{Value, json};
use toml::Table;

use super::config::FACT;
use super::sink::median;
use super::{config, daemon, workspace};

/// How often each is asked; the first time is not counted.
const TIMES: usize = 31;

/// Each shipped panel of the fact table's aggregates, over its range up to this moment.
pub async fn compare(http: &str, conn: &mut Conn, until: DateTime<Utc>) -> Result<Vec<Value>> {
    let path = workspace().join(config::SHIPPED);
    let shipped: Table = toml::from_str(&fs::read_to_string(&path)?)?;
    let list = |name: &str| shipped.get(name).and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let text = |of: &toml::Value, name: &str| of.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let mut compared = Vec::new();
    for panel in list("panel") {
        let (title, source) = (text(&panel, "title"), text(&panel, "source"));
        let name = source.trim_start_matches("aggregate:");
        let aggregates = list("aggregate");
        let aggregate = aggregates.iter().find(|one| text(one, "name") == name).context("a panel of no aggregate")?;
        if text(aggregate, "table") != FACT {
            continue;
        }
        let query = fs::read_to_string(path.parent().context("no folder")?.join(text(aggregate, "query")))?;
        let (width, range) = (text(aggregate, "bucket"), text(&panel, "range"));
        let days: i64 = range.trim_end_matches('d').parse().with_context(|| format!("{title}: range {range}"))?;
        let from = until - TimeDelta::days(days);
        let sql = whole_span(&query, &width, from, until)?;
        let path = format!("/api/v1/aggregates/{name}?limit=5000&from={}", from.format("%Y-%m-%dT%H:%M:%SZ"));
        let (mut cache, mut mysql, mut counts) = (Vec::new(), Vec::new(), (0, 0));
        for time in 0..TIMES {
            let began = Instant::now();
            let answer = daemon::get(http, &path)?;
            let by_cache = began.elapsed();
            let began = Instant::now();
            let rows: Vec<Row> = conn.query(&sql).await.with_context(|| sql.clone())?;
            let by_mysql = began.elapsed();
            if time > 0 {
                cache.push(by_cache.as_secs_f64() * 1000.0);
                mysql.push(by_mysql.as_secs_f64() * 1000.0);
            }
            counts = (documents(&answer)?, rows.len());
        }
        // Of the first bucket MySQL counts what is in the span; the cache leaves out what began before.
        let (cache, mysql) = (median(cache), median(mysql));
        println!(
            "panel \"{title}\" ({range} of {name}): {} documents in {cache:.1} ms from the cache; {} rows in {mysql:.1} ms \
             by MySQL: {:.1} times",
            counts.0,
            counts.1,
            mysql / cache
        );
        compared.push(json!({ "panel": title, "range": range, "documents": counts.0, "rows": counts.1,
            "cache_ms": cache, "mysql_ms": mysql, "ratio": mysql / cache }));
    }
    ensure!(!compared.is_empty(), "no panel shows an aggregate of {FACT}");
    Ok(compared)
}

fn documents(answer: &str) -> Result<usize> {
    ensure!(answer.starts_with("HTTP/1.1 200"), "the daemon answers: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let (first, last) = (body.find('{').context("no JSON")?, body.rfind('}').context("no JSON")?);
    let body: Value = serde_json::from_str(&body[first..=last]).context("not JSON")?;
    Ok(body["documents"].as_array().context("no documents")?.len())
}

/// The aggregate's query over many buckets at once: the same columns, by bucket and key.
fn whole_span(query: &str, width: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<String> {
    let unit = if width == "1d" { "DAY" } else { "HOUR" };
    let bucket = format!("TIMESTAMPDIFF({unit}, '1970-01-01', scheduled_departure) AS bucket");
    let query: Vec<&str> = query.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let query = query.join("\n").replacen("SELECT", &format!("SELECT {bucket},"), 1);
    let moment = |at: DateTime<Utc>| format!("'{}'", at.format("%Y-%m-%d %H:%M:%S"));
    let query = query.replace(":bucket_start", &moment(from)).replace(":bucket_end", &moment(until));
    let grouped = match query.contains("GROUP BY") {
        true => query.replace("GROUP BY", "GROUP BY bucket,").replace("ORDER BY", "ORDER BY bucket,"),
        false => query.replace("HAVING", "GROUP BY bucket HAVING"),
    };
    ensure!(grouped.contains("GROUP BY bucket"), "this query cannot be asked for many buckets: {grouped}");
    Ok(grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_one_bucket_becomes_one_of_a_span() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let bounds = "WHERE at >= :bucket_start AND at < :bucket_end";
        let sql =
            whole_span(&format!("-- told\nSELECT\n  a\nFROM t {bounds}\nGROUP BY a\nORDER BY a;"), "1h", at(0), at(60));
        assert_eq!(
            sql.unwrap(),
            "SELECT TIMESTAMPDIFF(HOUR, '1970-01-01', scheduled_departure) AS bucket,\n  a\nFROM t WHERE at >= \
             '1970-01-01 00:00:00' AND at < '1970-01-01 00:01:00'\nGROUP BY bucket, a\nORDER BY bucket, a;"
        );
        let sql = whole_span(&format!("SELECT a FROM t {bounds} HAVING COUNT(*) > 0"), "1d", at(0), at(60)).unwrap();
        assert!(sql.ends_with("GROUP BY bucket HAVING COUNT(*) > 0"), "{sql}");
        assert!(whole_span("SELECT a FROM t", "1d", at(0), at(60)).is_err());
    }
}
