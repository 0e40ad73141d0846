//! The queries of aggregates on MySQL and MariaDB: run for buckets in one snapshot, and asked about. Must never write: their
//! transactions are read-only.

use mysql_async::Row;

use super::aggregates::{ask, micros};
use super::answers;
use super::connection::Session;
use super::errors::Failure;
use super::params::datetime_micros;
use crate::core::bucket_query::Bound;
use crate::core::document::Bucket;
use crate::ports::cache::{Entry, Offsets};
use crate::ports::marks::{AggregateQuery, Computed, Examined};

/// What the query says where it fails, so that nobody looks for the fault in the tables.
fn of_query(name: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Fatal(words) | Failure::Schema(words) => {
            Failure::Fatal(format!("the query of aggregate {name} fails: {words}"))
        }
        other => other,
    }
}

async fn entries(session: &mut Session, query: &AggregateQuery, bucket: &Bucket) -> Result<Vec<Entry>, Failure> {
    let bounds = query.query.bounds().iter().map(|bound| match bound {
        Bound::Start => micros(bucket.start()),
        Bound::End => micros(bucket.end()),
    });
    let (columns, rows) =
        session.answer(&query.query.sql(), bounds.collect()).await.map_err(|failure| of_query(&query.name, failure))?;
    let names: Vec<String> = columns.iter().map(|column| column.name_str().into_owned()).collect();
    let wrong = |what: String| Failure::Fatal(format!("the query of aggregate {}: {what}", query.name));
    if let Some((problem, help)) = query.misfit(&names) {
        return Err(wrong(format!("{problem}; {help}")));
    }
    rows.into_iter()
        .map(|row| answers::fields(row, &columns).map(|fields| query.entry(fields)).map_err(wrong))
        .collect()
}

async fn read_offsets(session: &mut Session, topics: &[String]) -> Result<Offsets, Failure> {
    let mut offsets = Offsets::new();
    for topic in topics {
        let sql = "SELECT partition_id, next_offset FROM bief_offset WHERE topic = ? ORDER BY partition_id";
        let found: Vec<(i32, i64)> = ask(session, sql, vec![topic.as_str().into()]).await?;
        if !found.is_empty() {
            offsets.insert(topic.clone(), found.into_iter().collect());
        }
    }
    Ok(offsets)
}

pub(super) async fn compute(
    session: &mut Session,
    query: &AggregateQuery,
    buckets: &[Bucket],
) -> Result<Computed, Failure> {
    // The session's own level gives each statement a snapshot of its own.
    session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
    let mut computed =
        Computed { offsets: read_offsets(session, &query.topics).await?, buckets: Vec::with_capacity(buckets.len()) };
    for bucket in buckets {
        computed.buckets.push(entries(session, query, bucket).await?);
    }
    session.run("COMMIT").await?;
    Ok(computed)
}

/// A bucket of any moment, for EXPLAIN; one that is empty would be seen through.
const SOME_BUCKET: [&str; 2] = ["'2013-01-01 00:00:00.000000'", "'2013-01-01 01:00:00.000000'"];

pub(super) async fn examine(session: &mut Session, query: &AggregateQuery) -> Result<Examined, Failure> {
    let failed = |failure| of_query(&query.name, failure);
    session.run("START TRANSACTION READ ONLY").await?;
    let nothing = vec![datetime_micros(0); query.query.bounds().len()];
    let (columns, _) = session.answer(&query.query.sql(), nothing).await.map_err(failed)?;
    let [start, end] = SOME_BUCKET;
    let explain = format!("EXPLAIN FORMAT=TRADITIONAL {}", query.query.with_literals(start, end));
    let steps: Vec<Row> = session.rows(&explain).await.map_err(failed)?;
    session.run("COMMIT").await?;
    let mut examined = Examined { columns: Vec::new(), scanned: Vec::new() };
    examined.columns.extend(columns.iter().map(|column| column.name_str().into_owned()));
    for step in steps {
        let told = |name: &str| step.get_opt::<Option<String>, _>(name).and_then(Result::ok).flatten();
        let whole = matches!(told("type").as_deref(), Some("ALL" | "index"));
        // A small table may be read whole though an index would serve; what stands in `<…>` is no table.
        if let Some(table) = told("table").filter(|table| !table.starts_with('<'))
            && whole
            && told("possible_keys").is_none()
        {
            examined.scanned.push(table);
        }
    }
    Ok(examined)
}
