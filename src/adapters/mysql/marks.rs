//! Marks buckets as dirty in `bief_dirty_bucket`, within the transaction of whoever changed their rows. A lane has rows of
//! its own, so that none waits for another; all are written in the order of their key.

use mysql_async::Value;

use super::connection::Session;
use super::errors::Failure;
use super::params::datetime_micros;
use crate::adapters::parts::powers_of_two;
use crate::core::marks::Mark;

/// Buckets of one statement. Numbers of rows are powers of two, so that few statements are prepared.
const MAX_MARKS: usize = 256;

pub(super) async fn mark(session: &mut Session, lane: i32, marks: &[Mark]) -> Result<(), Failure> {
    for part in powers_of_two(marks, MAX_MARKS) {
        let sql = format!(
            "INSERT INTO bief_dirty_bucket (source, bucket_start, lane, dirty_version, clean_version, pending_since) \
             VALUES {} ON DUPLICATE KEY UPDATE dirty_version = dirty_version + 1, \
             pending_since = COALESCE(pending_since, UTC_TIMESTAMP(6))",
            vec!["(?,?,?,1,0,UTC_TIMESTAMP(6))"; part.len()].join(",")
        );
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 3);
        for mark in part {
            values.extend([mark.source.as_ref().into(), datetime_micros(mark.bucket), lane.into()]);
        }
        session.execute(&sql, values).await.map_err(Failure::outside_rows)?;
    }
    Ok(())
}
