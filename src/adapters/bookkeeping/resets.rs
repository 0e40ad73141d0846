//! Sets offsets by an operator's word, and tells what was given up. A ledger that can't go on is put away whole, under
//! the topic's name and the epoch (`orders@7`; no topic of Kafka has an `@`): nothing that it says is deleted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entities::{dead_letter, dropped_letter, gap, offset};
use crate::core::gaps::{format_ranges, parse_ranges, split_ranges};
use crate::core::outcome::Counts;
use crate::core::reset::{Change, Step, start_after_rewind};
use crate::core::time;
use crate::ports::Loss;

/// Characters that the column `topic` takes.
const TOPIC_LIMIT: usize = 249;

/// What became of a reset.
pub(super) enum Outcome {
    Done,
    /// This partition is not where the operator saw it.
    Moved {
        partition: i32,
        detail: String,
    },
}

/// The name under which what is put away stands.
fn put_away(topic: &str, epoch: i64) -> String {
    let suffix = format!("@{epoch}");
    let kept: String = topic.chars().take(TOPIC_LIMIT - suffix.len()).collect();
    kept + &suffix
}

/// Whether `stored` is a former log of `topic`.
fn is_former(stored: &str, topic: &str) -> bool {
    stored.rsplit_once('@').is_some_and(|(name, epoch)| {
        let whole = name == topic || (stored.chars().count() == TOPIC_LIMIT && topic.starts_with(name));
        whole && !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The highest epoch that a former log of each of these partitions has: a partition that appears again goes on from
/// there, so that an epoch is given out once and no second log is put away under a name that is taken.
pub(super) async fn former_epochs(
    db: &impl ConnectionTrait,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>, DbErr> {
    use offset::Column as C;
    let mut epochs = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(epochs);
    }
    let rows = offset::Entity::find()
        .filter(C::PartitionId.is_in(partitions.iter().copied()))
        .filter(C::Topic.contains("@"))
        .all(db)
        .await?;
    for row in rows.iter().filter(|row| is_former(&row.topic, topic)) {
        let last = epochs.entry(row.partition_id).or_insert(row.epoch);
        *last = std::cmp::Ord::max(*last, row.epoch);
    }
    Ok(epochs)
}

/// Rows are locked ascending by partition, as claims and writers do.
pub(super) async fn reset(
    transaction: &DatabaseTransaction,
    topic: &str,
    steps: &[(Step, i64)],
    now: DateTime<Utc>,
) -> Result<Outcome, DbErr> {
    use offset::Column as C;
    let mut steps: Vec<&(Step, i64)> = steps.iter().collect();
    steps.sort_by_key(|(step, _)| step.partition);
    let now = time::datetime_text(now.timestamp_micros());
    for (step, epoch) in steps {
        let of_partition = || Condition::all().add(C::Topic.eq(topic)).add(C::PartitionId.eq(step.partition));
        let row = offset::Entity::find().filter(of_partition()).lock_exclusive().one(transaction).await?;
        let Some(row) = row.filter(|r| r.epoch == *epoch && r.next_offset == step.from) else {
            let detail = format!("expected offset {} in epoch {epoch}", step.from);
            return Ok(Outcome::Moved { partition: step.partition, detail });
        };
        let archive = put_away(topic, row.epoch);
        match step.change {
            Change::Skip => {
                insert_gap(transaction, topic, step.partition, &[step.from..step.to], Some(&now)).await?;
                let change = offset::Entity::update_many()
                    .col_expr(C::Gaps, Expr::col(C::Gaps).add(step.to - step.from))
                    .col_expr(C::NextOffset, Expr::val(step.to));
                raise(change, step, &now).filter(of_partition()).exec(transaction).await?;
            }
            Change::Rewind => {
                let gaps = put_gaps_away(transaction, topic, &archive, step).await?;
                let letters = put_letters_away(transaction, topic, &archive, step.partition, step.to).await?;
                let left = Counts {
                    applied: row.applied,
                    duplicates: row.duplicates,
                    dead_letters: row.dead_letters - letters,
                    gaps: row.gaps - gaps,
                };
                let change = offset::Entity::update_many()
                    .col_expr(C::DeadLetters, Expr::val(left.dead_letters))
                    .col_expr(C::Gaps, Expr::val(left.gaps))
                    .col_expr(C::StartOffset, Expr::val(start_after_rewind(step.to, left)))
                    .col_expr(C::NextOffset, Expr::val(step.to));
                raise(change, step, &now).filter(of_partition()).exec(transaction).await?;
            }
            Change::Anew | Change::Forget => {
                put_letters_away(transaction, topic, &archive, step.partition, i64::MIN).await?;
                gap::Entity::update_many()
                    .col_expr(gap::Column::Topic, Expr::val(archive.as_str()))
                    .filter(gap::Column::Topic.eq(topic))
                    .filter(gap::Column::PartitionId.eq(step.partition))
                    .exec(transaction)
                    .await?;
                offset::Entity::update_many()
                    .col_expr(C::Topic, Expr::val(archive.as_str()))
                    .col_expr(C::UpdatedAt, Expr::val(now.as_str()))
                    .filter(of_partition())
                    .exec(transaction)
                    .await?;
                if step.change == Change::Anew {
                    begin_anew(transaction, topic, step, row.epoch + 1, &now).await?;
                }
            }
        }
    }
    Ok(Outcome::Done)
}

type Update = sea_orm::UpdateMany<offset::Entity>;

/// What every change of a row has in common.
fn raise(update: Update, step: &Step, now: &str) -> Update {
    use offset::Column as C;
    update
        .col_expr(C::Epoch, Expr::col(C::Epoch).add(1))
        .col_expr(C::TopicId, Expr::val(step.topic_id.as_str()))
        .col_expr(C::UpdatedAt, Expr::val(now))
}

/// The new ledger begins where the log does: what the operator passes over of it is an accepted gap.
async fn begin_anew(
    transaction: &DatabaseTransaction,
    topic: &str,
    step: &Step,
    epoch: i64,
    now: &str,
) -> Result<(), DbErr> {
    use offset::Column as C;
    let passed = step.to - step.begins_at;
    if passed > 0 {
        insert_gap(transaction, topic, step.partition, &[step.begins_at..step.to], Some(now)).await?;
    }
    let numbers = [(C::Applied, 0), (C::Duplicates, 0), (C::DeadLetters, 0), (C::Gaps, passed)];
    let columns = [C::Topic, C::PartitionId, C::TopicId, C::Epoch, C::StartOffset, C::NextOffset, C::UpdatedAt];
    let values = [
        Expr::val(topic),
        Expr::val(step.partition),
        Expr::val(step.topic_id.as_str()),
        Expr::val(epoch),
        Expr::val(step.begins_at),
        Expr::val(step.to),
        Expr::val(now),
    ];
    let insert = Query::insert()
        .into_table(offset::Entity)
        .columns(columns.into_iter().chain(numbers.map(|(column, _)| column)))
        .values_panic(values.into_iter().chain(numbers.map(|(_, count)| Expr::val(count))))
        .take();
    transaction.execute(&insert).await.map(drop)
}

async fn insert_gap(
    transaction: &DatabaseTransaction,
    topic: &str,
    partition: i32,
    ranges: &[std::ops::Range<i64>],
    accepted_at: Option<&str>,
) -> Result<(), DbErr> {
    use gap::Column as C;
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(()) };
    let insert = Query::insert()
        .into_table(gap::Entity)
        .columns([C::Topic, C::PartitionId, C::FirstOffset, C::LastOffset, C::Offsets, C::Ranges, C::AcceptedAt])
        .values_panic([
            Expr::val(topic),
            Expr::val(partition),
            Expr::val(first.start),
            Expr::val(last.end - 1),
            Expr::val(ranges.iter().map(|r| r.end - r.start).sum::<i64>()),
            Expr::val(format_ranges(ranges)),
            Expr::val(accepted_at.map(str::to_owned)),
        ])
        .take();
    transaction.execute(&insert).await.map(drop)
}

/// Gaps from `step.to` on are put away, a row that reaches over it is cut in two. Answers how many offsets.
async fn put_gaps_away(
    transaction: &DatabaseTransaction,
    topic: &str,
    archive: &str,
    step: &Step,
) -> Result<i64, DbErr> {
    use gap::Column as C;
    let rows = gap::Entity::find()
        .filter(C::Topic.eq(topic))
        .filter(C::PartitionId.eq(step.partition))
        .filter(C::LastOffset.gte(step.to))
        .all(transaction)
        .await?;
    let mut offsets = 0;
    for row in rows {
        let ranges = parse_ranges(&row.ranges).map_err(|e| DbErr::Custom(format!("a row of bief_gap: {e}")))?;
        let (before, behind) = split_ranges(&ranges, step.to);
        offsets += behind.iter().map(|r| r.end - r.start).sum::<i64>();
        let accepted_at = row.accepted_at.map(|t| time::datetime_text(t.and_utc().timestamp_micros()));
        gap::Entity::delete_by_id((row.topic, row.partition_id, row.first_offset)).exec(transaction).await?;
        insert_gap(transaction, topic, step.partition, &before, accepted_at.as_deref()).await?;
        insert_gap(transaction, archive, step.partition, &behind, accepted_at.as_deref()).await?;
    }
    Ok(offsets)
}

/// Stored letters and those that were dropped: the ledger counts both. Answers how many.
async fn put_letters_away(
    transaction: &DatabaseTransaction,
    topic: &str,
    archive: &str,
    partition: i32,
    from: i64,
) -> Result<i64, DbErr> {
    use dead_letter::Column as C;
    let moved = dead_letter::Entity::update_many()
        .col_expr(C::Topic, Expr::val(archive))
        .filter(C::Topic.eq(topic))
        .filter(C::PartitionId.eq(partition))
        .filter(C::RecordOffset.gte(from))
        .exec(transaction)
        .await?;
    let dropped = dropped_letter::Entity::update_many()
        .col_expr(dropped_letter::Column::Topic, Expr::val(archive))
        .filter(dropped_letter::Column::Topic.eq(topic))
        .filter(dropped_letter::Column::PartitionId.eq(partition))
        .filter(dropped_letter::Column::RecordOffset.gte(from))
        .exec(transaction)
        .await?;
    Ok(i64::try_from(moved.rows_affected + dropped.rows_affected).unwrap_or(i64::MAX))
}

/// Gaps that were accepted as a loss, and logs that were put away.
pub(super) async fn losses(db: &impl ConnectionTrait, topic: &str) -> Result<Vec<Loss>, DbErr> {
    let gaps = gap::Entity::find().filter(gap::Column::AcceptedAt.is_not_null()).all(db).await?;
    let gaps = gaps.into_iter().filter_map(|row| {
        let of_former_log = is_former(&row.topic, topic);
        (row.topic == topic || of_former_log).then_some(Loss {
            partition: row.partition_id,
            first_offset: row.first_offset,
            offsets: Some(row.offsets),
            of_former_log,
            accepted_at: row.accepted_at?.and_utc(),
        })
    });
    let logs = offset::Entity::find().order_by_asc(offset::Column::Epoch).all(db).await?;
    let logs = logs.into_iter().filter(|row| is_former(&row.topic, topic)).map(|row| Loss {
        partition: row.partition_id,
        first_offset: row.next_offset,
        offsets: None,
        of_former_log: true,
        accepted_at: row.updated_at.and_utc(),
    });
    let mut losses: Vec<Loss> = gaps.chain(logs).collect();
    losses.sort_by_key(|l| (l.partition, l.of_former_log, l.first_offset));
    Ok(losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_log_is_known_by_its_name_however_long() {
        for topic in ["orders", &"x".repeat(249), &"y".repeat(246)] {
            let name = put_away(topic, 12);
            assert!(name.len() <= TOPIC_LIMIT && is_former(&name, topic), "{name}");
        }
        assert!(
            !is_former("orders", "orders") && !is_former("orders.v2@3", "orders") && !is_former("orders@x", "orders")
        );
    }
}
