//! Marks buckets as dirty in `bief_dirty_bucket`, within the transaction of whoever changed their rows.

use sea_orm::sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sea_orm::sqlx::{self, Arguments, AssertSqlSafe};

use crate::adapters::sql_errors::warehouse_error;
use crate::core::marks::Mark;
use crate::core::time;
use crate::ports::WarehouseError;

/// Buckets of one statement. Numbers of rows are powers of two, so that few statements are kept.
const MAX_MARKS: usize = 128;
/// Now, as bief stores times.
const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f000','now')";

pub(super) async fn mark(connection: &mut SqliteConnection, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError> {
    let mut rest = marks;
    while let Some(exponent) = rest.len().checked_ilog2() {
        let (part, after) = rest.split_at(MAX_MARKS.min(1 << exponent));
        rest = after;
        let sql = format!(
            "INSERT INTO bief_dirty_bucket (source, bucket_start, lane, dirty_version, clean_version, pending_since) \
             VALUES {} ON CONFLICT (source, bucket_start, lane) DO UPDATE SET dirty_version = dirty_version + 1, \
             pending_since = COALESCE(pending_since, excluded.pending_since)",
            vec![format!("(?,?,?,1,0,{NOW})"); part.len()].join(",")
        );
        let mut arguments = SqliteArguments::default();
        for mark in part {
            let bound = arguments
                .add(mark.source.to_string())
                .and_then(|()| arguments.add(time::datetime_text(mark.bucket)))
                .and_then(|()| arguments.add(lane));
            // Encoding fails for none of these types.
            debug_assert!(bound.is_ok());
        }
        sqlx::query_with(AssertSqlSafe(sql), arguments)
            .execute(&mut *connection)
            .await
            .map_err(|e| warehouse_error("marking buckets in bief_dirty_bucket", &e))?;
    }
    Ok(())
}
