//! Takes partitions over in the database. Must never raise the epoch of a partition that the group did not give: that
//! would fence whoever holds it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::StartAt;
use super::feed::{Claimed, Claims, Ended};
use crate::core::doubt;
use crate::ports::{Bounds, Broker, Claim, Clock, OpenBookkeeping, SourceError, TopicStanding, WarehouseError};

/// How long after a failure a truncated log is put down again.
const PUT_DOWN_AGAIN: Duration = Duration::from_secs(1);

/// Takes partitions over: broker and database are asked for each assignment anew.
pub(super) struct Claimer {
    pub topic: String,
    pub start: StartAt,
    pub open_bookkeeping: OpenBookkeeping,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    /// The topic's id as the first claim had it; this life of the pipeline reads no other.
    pub topic_id: OnceLock<String>,
}

impl Claimer {
    /// Puts down that the broker truncated a log, however long that takes: who reads on without would not notice. `waited`
    /// hears what it waits for.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub async fn put_down(&self, partition: i32, waited: &dyn Fn(&str)) -> Result<(), WarehouseError> {
        while let Err(error) = self.truncated(partition).await {
            if let WarehouseError::Fatal { what } = error {
                let what = format!(
                    "the broker truncated the log of partition {partition}, and that cannot be put down: {what}"
                );
                return Err(WarehouseError::Fatal { what });
            }
            waited(&error.to_string());
            tracing::warn!(%error, partition, "that the broker truncated the log could not be put down; tried again");
            tokio::time::sleep(PUT_DOWN_AGAIN).await;
        }
        Ok(())
    }

    async fn truncated(&self, partition: i32) -> Result<(), WarehouseError> {
        (self.open_bookkeeping)().await?.truncated(&self.topic, partition, None, self.clock.now()).await
    }

    pub async fn claim(&self, partitions: Vec<i32>) -> Claims {
        let passing = |error: String| Err(Ended::Passing { error });
        let bookkeeping = (self.open_bookkeeping)().await?;
        // Before the broker is asked: whoever commits meanwhile moves within what the broker has.
        let recorded = bookkeeping.offsets(Some(&self.topic)).await?;
        let (topic, broker) = (self.topic.clone(), Arc::clone(&self.broker));
        let mut asked = partitions.clone();
        // What is there when a topic is first read is left out of all its partitions, also of those that another daemon
        // takes over a moment later: to it they would be new.
        let whole = self.start == StartAt::Latest && recorded.is_empty();
        let standing = tokio::task::spawn_blocking(move || -> Result<TopicStanding, SourceError> {
            let topic_id = broker.topic_id(&topic)?;
            if whole {
                let others = broker.partitions(&topic)?.into_iter().filter(|p| !asked.contains(p));
                asked.extend(others.collect::<Vec<_>>());
            }
            let bounds = asked.iter().map(|p| broker.bounds(&topic, *p).map(|bounds| (*p, bounds)));
            Ok(TopicStanding { topic_id, partitions: bounds.collect::<Result<_, _>>()? })
        });
        let standing = match standing.await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => {
                return Err(Ended::Failed { error: format!("asking the broker failed: {error}"), fatal: false });
            }
        };
        let ours: Vec<_> = recorded.iter().filter(|o| partitions.contains(&o.partition)).cloned().collect();
        let doubts = standing.doubts(&ours);
        if !doubts.is_empty() {
            return passing(doubt::describe(&self.topic, &doubts));
        }
        if self.topic_id.get_or_init(|| standing.topic_id.clone()) != &standing.topic_id {
            return passing(format!("topic {} was made anew while it was read", self.topic));
        }
        let at = |partition: &i32| standing.partitions.get(partition).copied().unwrap_or(Bounds { low: 0, high: 0 });
        let mut claims = claims(self.start, recorded.is_empty(), &standing);
        crate::failpoint!("claim", |error| return passing(error));
        if whole {
            bookkeeping.introduce(&self.topic, &claims, self.clock.now()).await?;
            claims.retain(|claim| partitions.contains(&claim.partition));
        }
        let offsets = bookkeeping.claim(&self.topic, &claims, self.clock.now()).await?;
        let claimed = offsets.into_iter().map(|offset| {
            // The one who held it before may have gone on since the broker was asked.
            let high = at(&offset.partition).high.max(offset.next_offset);
            Claimed { offset, high }
        });
        Ok(claimed.collect())
    }
}

/// How the partitions that were asked for are claimed; `first` where nothing of the topic is recorded yet.
fn claims(start: StartAt, first: bool, standing: &TopicStanding) -> Vec<Claim> {
    let start_of = |bounds: &Bounds| match start {
        StartAt::Earliest => bounds.low,
        StartAt::Latest if first => bounds.high,
        // A partition added later begins at its first record: nobody was there to leave it out.
        StartAt::Latest => bounds.low,
    };
    let claim = |(partition, bounds): (&i32, &Bounds)| Claim {
        partition: *partition,
        topic_id: standing.topic_id.clone(),
        start_offset: start_of(bounds),
    };
    standing.partitions.iter().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::core::reset::Step;
    use crate::messages::RecordBatch;
    use crate::ports::{
        Bookkeeping, CountsView, DeadLetterFilter, Ledger, PartitionOffset, StoredDeadLetter, SystemClock,
    };

    /// A topic of three partitions.
    struct Topic;

    impl Broker for Topic {
        fn bounds(&self, _: &str, partition: i32) -> Result<Bounds, SourceError> {
            Ok(Bounds { low: 1, high: 10 + i64::from(partition) })
        }

        fn partitions(&self, _: &str) -> Result<Vec<i32>, SourceError> {
            Ok(vec![0, 1, 2])
        }

        fn topic_id(&self, _: &str) -> Result<String, SourceError> {
            Ok("id".to_owned())
        }

        fn group_members(&self, _: &str) -> Result<Vec<String>, SourceError> {
            unreachable!("nobody asks")
        }

        fn look(&self, _: &str, _: &[(i32, i64)], _: usize) -> Result<RecordBatch, SourceError> {
            unreachable!("nobody asks")
        }

        fn records_within(&self, _: &str, _: i32, _: &[Range<i64>]) -> Result<Vec<i64>, SourceError> {
            unreachable!("nobody asks")
        }
    }

    /// Partition, epoch and next offset of each row.
    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<Vec<(i32, i64, i64)>>>);

    fn offset((partition, epoch, next_offset): (i32, i64, i64)) -> PartitionOffset {
        PartitionOffset {
            topic: "orders".to_owned(),
            partition,
            topic_id: "id".to_owned(),
            epoch,
            start_offset: next_offset,
            next_offset,
            counts: CountsView::default(),
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    #[async_trait(?Send)]
    impl Bookkeeping for Book {
        async fn claim(
            &self,
            _: &str,
            claims: &[Claim],
            _: DateTime<Utc>,
        ) -> Result<Vec<PartitionOffset>, WarehouseError> {
            let mut rows = self.0.lock().unwrap();
            let mut claimed = Vec::new();
            for claim in claims {
                let at = rows.iter().position(|row| row.0 == claim.partition).unwrap_or_else(|| {
                    rows.push((claim.partition, 0, claim.start_offset));
                    rows.len() - 1
                });
                rows[at].1 += 1;
                claimed.push(offset(rows[at]));
            }
            Ok(claimed)
        }

        async fn introduce(&self, _: &str, claims: &[Claim], _: DateTime<Utc>) -> Result<(), WarehouseError> {
            let mut rows = self.0.lock().unwrap();
            for claim in claims {
                if rows.iter().all(|row| row.0 != claim.partition) {
                    rows.push((claim.partition, 1, claim.start_offset));
                }
            }
            Ok(())
        }

        async fn offsets(&self, _: Option<&str>) -> Result<Vec<PartitionOffset>, WarehouseError> {
            Ok(self.0.lock().unwrap().iter().copied().map(offset).collect())
        }

        async fn truncated(&self, _: &str, _: i32, _: Option<i64>, _: DateTime<Utc>) -> Result<(), WarehouseError> {
            Ok(())
        }

        async fn ledger(&self, _: &str) -> Result<Ledger, WarehouseError> {
            unreachable!("nobody asks")
        }

        async fn reset(&self, _: &str, _: &[(Step, i64)], _: DateTime<Utc>) -> Result<(), WarehouseError> {
            unreachable!("nobody asks")
        }

        async fn dead_letters(&self, _: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
            unreachable!("nobody asks")
        }

        async fn dead_letter(&self, _: i64) -> Result<Option<StoredDeadLetter>, WarehouseError> {
            unreachable!("nobody asks")
        }

        async fn count_rows(&self, _: &str) -> Result<i64, WarehouseError> {
            unreachable!("nobody asks")
        }
    }

    fn claimer(book: &Book, start: StartAt) -> Claimer {
        let book = book.clone();
        Claimer {
            topic: "orders".to_owned(),
            start,
            open_bookkeeping: Arc::new(move || {
                let book = book.clone();
                Box::pin(async move { Ok(Box::new(book) as Box<dyn Bookkeeping>) })
            }),
            broker: Arc::new(Topic),
            clock: Arc::new(SystemClock),
            topic_id: OnceLock::new(),
        }
    }

    async fn claimed(claimer: &Claimer, partitions: &[i32]) -> Vec<(i32, i64)> {
        let claimed = claimer.claim(partitions.to_vec()).await.unwrap();
        claimed.iter().map(|claimed| (claimed.offset.partition, claimed.offset.next_offset)).collect()
    }

    #[tokio::test]
    async fn what_is_there_is_left_out_by_all_daemons_and_none_fences_another() {
        let book = Book::default();
        let (first, second) = (claimer(&book, StartAt::Latest), claimer(&book, StartAt::Latest));
        assert_eq!(claimed(&first, &[0, 2]).await, [(0, 10), (2, 12)]);
        let epochs = |book: &Book| book.0.lock().unwrap().iter().map(|row| (row.0, row.1)).collect::<Vec<_>>();
        assert_eq!(epochs(&book), [(0, 2), (1, 1), (2, 2)]);
        assert_eq!(claimed(&second, &[1]).await, [(1, 11)], "though something was recorded before");
        assert_eq!(epochs(&book), [(0, 2), (1, 2), (2, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_truncation_is_put_down_once_the_database_is_there_and_told_meanwhile() {
        let away = || WarehouseError::Transient { what: "away".to_owned() };
        let denied = || WarehouseError::Fatal { what: "denied".to_owned() };
        for (errors, told, ends) in
            [(vec![], 0, Ok(())), (vec![away(), away()], 2, Ok(())), (vec![away(), denied()], 1, Err(()))]
        {
            let (errors, waited) = (Mutex::new(errors), Mutex::new(0));
            let mut claimer = claimer(&Book::default(), StartAt::Earliest);
            let open = Arc::clone(&claimer.open_bookkeeping);
            let errors = Arc::new(errors);
            claimer.open_bookkeeping = Arc::new(move || {
                let mut errors = errors.lock().unwrap();
                if errors.is_empty() {
                    return open();
                }
                let error = errors.remove(0);
                Box::pin(async move { Err(error) })
            });
            let outcome = claimer.put_down(3, &|_| *waited.lock().unwrap() += 1).await;
            assert_eq!(outcome.as_ref().map_err(drop), ends.as_ref().map_err(drop));
            assert_eq!(*waited.lock().unwrap(), told);
            if let Err(error) = outcome {
                assert!(
                    matches!(error, WarehouseError::Fatal { .. }) && error.to_string().contains("partition 3"),
                    "{error}"
                );
            }
        }
    }

    #[tokio::test]
    async fn partitions_that_come_later_are_read_from_their_beginning() {
        for start in [StartAt::Earliest, StartAt::Latest] {
            let book = Book::default();
            book.0.lock().unwrap().push((0, 1, 10));
            assert_eq!(claimed(&claimer(&book, start), &[0, 1]).await, [(0, 10), (1, 1)]);
            assert_eq!(book.0.lock().unwrap().len(), 2, "only what was asked for");
        }
        assert_eq!(claimed(&claimer(&Book::default(), StartAt::Earliest), &[1]).await, [(1, 1)]);
    }
}
