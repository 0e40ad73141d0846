//! Looks now and then whether the topic at the broker is still the one that is read. Must never take an answer that
//! failed for a change, nor a first word that the topic is not there: an outage of the broker puts nothing in doubt, and
//! neither does one that has just started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::feed;
use crate::core::doubt::{self, Doubt, Kind};
use crate::messages::Board;
use crate::ports::{Broker, Clock, NO_BROKER, SourceError};

/// A topic that is made anew is to be noticed within 5 s, the rebuilding of the pipeline included.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Partitions whose ends are asked for in one look, the next ones in the next look: a topic can have thousands. Of the
/// others librdkafka tells meanwhile, when it asks for an offset that is not there.
const ENDS_ASKED: usize = 8;

/// After so many seconds without a broker another client is tried. librdkafka tries again each second.
const CUT_OFF: i64 = 15;

pub(super) struct Watch {
    pub stream: String,
    pub topic: String,
    pub broker: Arc<dyn Broker>,
    pub board: Board,
    pub clock: Arc<dyn Clock>,
    /// The last look was told that there is no such topic.
    pub missing: AtomicBool,
    /// How many ends were asked for so far.
    pub asked: AtomicUsize,
}

impl Watch {
    /// What is in doubt, in words; puts it on the board. Waits for the broker. `expected`: the id under which the
    /// partitions were taken over, empty where there is none.
    pub(super) fn look(&self, expected: &str) -> Result<Option<String>, SourceError> {
        self.broker.listen();
        if let Some(cut_off) = self.cut_off() {
            return Ok(Some(cut_off));
        }
        // Before the broker is asked: what is committed now, the broker has.
        let held: Vec<(i32, i64)> = self
            .board
            .snapshot()
            .into_iter()
            .filter(|s| s.stream == self.stream)
            .flat_map(|s| s.partitions)
            .filter(|p| p.lane.is_some())
            .map(|p| (p.partition, p.next_offset))
            .collect();
        if held.is_empty() {
            return Ok(None);
        }
        let doubts = self.doubts(expected, &held)?;
        if doubts.is_empty() {
            return Ok(None);
        }
        self.board.in_doubt(&self.stream, &doubts, self.clock.now());
        Ok(Some(doubt::describe(&self.topic, &doubts)))
    }

    /// Why the consumer is to be made anew: it is connected to no broker, though another client is. A broker that was
    /// paused so long that its cluster gave it up answers at first that there are no brokers, and librdkafka (2.10 and
    /// newer) then forgets all of them, and those that it began with too.
    fn cut_off(&self) -> Option<String> {
        let streams = self.board.snapshot();
        let troubles = streams.iter().filter(|s| s.stream == self.stream).flat_map(|s| &s.troubles);
        let cut_off = troubles.into_iter().find(|t| t.actor == feed::ACTOR && t.cause.starts_with(NO_BROKER))?;
        let seconds = (self.clock.now() - cut_off.since).num_seconds();
        (seconds >= CUT_OFF && self.broker.answers_anew(&self.topic)).then(|| {
            format!(
                "the consumer has had no connection to a broker for {seconds} s, and a new client has: it is made anew"
            )
        })
    }

    fn doubts(&self, expected: &str, held: &[(i32, i64)]) -> Result<Vec<Doubt>, SourceError> {
        let judge = |(partition, next): &(i32, i64), id: &str, bounds| {
            doubt::judge(*partition, (expected, *next), (id, bounds))
        };
        let id = match self.broker.topic_id(&self.topic) {
            Ok(id) => id,
            // The answer to a topic that is gone, and to much else.
            Err(error) => {
                let partitions = self.broker.partitions(&self.topic);
                let missing = partitions.as_ref().is_ok_and(Vec::is_empty);
                let confirmed = self.missing.swap(missing, Ordering::SeqCst) && missing;
                return match partitions? {
                    _ if confirmed => Ok(held.iter().filter_map(|p| judge(p, "", None)).collect()),
                    _ if missing => Ok(Vec::new()),
                    _ => Err(error),
                };
            }
        };
        self.missing.store(false, Ordering::SeqCst);
        if !expected.is_empty() && !id.is_empty() {
            // The id alone tells: as long as it is the same, the log can only have lost its end.
            let anew: Vec<Doubt> = held.iter().filter_map(|p| judge(p, &id, Some((p.1, p.1)))).collect();
            if !anew.is_empty() {
                return Ok(anew);
            }
        }
        let mut doubts = Vec::new();
        let ends = held.len().min(ENDS_ASKED);
        let from = self.asked.fetch_add(ends, Ordering::SeqCst) % held.len();
        for (partition, next) in held.iter().cycle().skip(from).take(ends) {
            let bounds = self.broker.bounds(&self.topic, *partition)?;
            // What retention took may have been fetched before; librdkafka says when it was not.
            let low = bounds.low.min(*next);
            doubts.extend(judge(&(*partition, *next), &id, Some((low, bounds.high))));
        }
        doubts.retain(|d| d.kind != Kind::BeforeStart);
        Ok(doubts)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Mutex;

    use super::*;
    use crate::messages::RecordBatch;
    use crate::ports::testing::partition_offset;
    use crate::ports::{Bounds, PartitionOffset, SystemClock};

    /// What the broker says: the topic's partitions, or why it does not tell.
    #[derive(Debug, Clone, Copy)]
    enum Says {
        Topic,
        NoTopic,
        Denied,
    }

    struct Scripted {
        says: Mutex<Says>,
        /// Whose ends were asked for.
        asked: Mutex<Vec<i32>>,
        listened: AtomicUsize,
        /// Whether a new client is answered.
        answers: AtomicBool,
    }

    impl Broker for Scripted {
        fn listen(&self) {
            self.listened.fetch_add(1, Ordering::SeqCst);
        }

        fn answers_anew(&self, _: &str) -> bool {
            self.answers.load(Ordering::SeqCst)
        }

        fn bounds(&self, _: &str, partition: i32) -> Result<Bounds, SourceError> {
            self.asked.lock().unwrap().push(partition);
            // One partition has lost its end.
            Ok(Bounds { low: 0, high: if partition == 19 { 3 } else { 10 } })
        }

        fn partitions(&self, _: &str) -> Result<Vec<i32>, SourceError> {
            match *self.says.lock().unwrap() {
                Says::Topic => Ok(vec![0]),
                Says::NoTopic => Ok(Vec::new()),
                Says::Denied => Err(SourceError::Fatal("denied".to_owned())),
            }
        }

        fn topic_id(&self, _: &str) -> Result<String, SourceError> {
            match *self.says.lock().unwrap() {
                Says::Topic => Ok("id".to_owned()),
                _ => Err(SourceError::Transient("not described".to_owned())),
            }
        }

        fn group_members(&self, _: &str) -> Result<Vec<String>, SourceError> {
            Ok(Vec::new())
        }

        fn look(&self, _: &str, _: &[(i32, i64)], _: usize) -> Result<RecordBatch, SourceError> {
            Ok(RecordBatch::default())
        }

        fn records_within(&self, _: &str, _: i32, _: &[Range<i64>]) -> Result<Vec<i64>, SourceError> {
            Ok(Vec::new())
        }
    }

    fn watch(partitions: Range<i32>) -> (Watch, Arc<Scripted>) {
        let says = Mutex::new(Says::Topic);
        let broker = Arc::new(Scripted {
            says,
            asked: Mutex::default(),
            listened: AtomicUsize::default(),
            answers: AtomicBool::default(),
        });
        let board = Board::default();
        board.declare("orders", "orders");
        for partition in partitions {
            let offset = PartitionOffset { topic_id: "id".to_owned(), ..partition_offset(partition, 1, 5) };
            board.claimed("orders", &offset, 0, 10);
        }
        let watch = Watch {
            stream: "orders".to_owned(),
            topic: "orders".to_owned(),
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            board,
            clock: Arc::new(SystemClock),
            missing: AtomicBool::default(),
            asked: AtomicUsize::default(),
        };
        (watch, broker)
    }

    #[test]
    fn a_topic_is_gone_only_when_two_looks_in_a_row_are_told_so_and_a_refusal_tells_nothing() {
        let (watch, broker) = watch(0..3);
        let look = |says: Says| {
            *broker.says.lock().unwrap() = says;
            watch.look("id").map(|doubt| doubt.is_some()).map_err(drop)
        };
        assert_eq!(look(Says::Topic), Ok(false));
        assert_eq!(look(Says::NoTopic), Ok(false), "a broker that has just started says so too");
        assert_eq!(look(Says::Topic), Ok(false));
        assert_eq!(look(Says::NoTopic), Ok(false));
        assert_eq!(look(Says::Denied), Err(()));
        assert_eq!(look(Says::NoTopic), Ok(false));
        assert_eq!(look(Says::NoTopic), Ok(true));
    }

    #[test]
    fn the_client_is_listened_to_also_while_no_partition_is_held() {
        let (watch, broker) = watch(0..0);
        assert_eq!(watch.look("id").unwrap(), None);
        assert_eq!((broker.listened.load(Ordering::SeqCst), broker.asked.lock().unwrap().len()), (1, 0));
    }

    #[test]
    fn a_consumer_that_is_cut_off_while_others_are_answered_is_made_anew() {
        let (watch, broker) = watch(0..0);
        let ago = |seconds: i64| watch.clock.now() - chrono::TimeDelta::seconds(seconds);
        let cause = format!("{NO_BROKER}; librdkafka goes on trying: ");
        watch.board.troubled("orders", feed::ACTOR, &cause, ago(CUT_OFF + 5));
        assert_eq!(watch.look("id").unwrap(), None, "nobody is answered");
        broker.answers.store(true, Ordering::SeqCst);
        assert!(watch.look("id").unwrap().is_some_and(|told| told.contains("made anew")));
        watch.board.well("orders", feed::ACTOR);
        assert_eq!(watch.look("id").unwrap(), None);
        watch.board.troubled("orders", feed::ACTOR, &cause, ago(CUT_OFF - 5));
        assert_eq!(watch.look("id").unwrap(), None, "not yet");
        watch.board.troubled("orders", feed::ACTOR, "the consumer group gives no partitions", ago(0));
        assert_eq!(watch.look("id").unwrap(), None);
    }

    #[test]
    fn the_ends_of_all_partitions_are_asked_for_in_turn() {
        let (watch, broker) = watch(0..20);
        let looks: Vec<bool> = (0..3).map(|_| watch.look("id").unwrap().is_some()).collect();
        assert_eq!(looks, [false, false, true], "the last partition has lost its end");
        let asked = broker.asked.lock().unwrap();
        assert_eq!(asked[..20], (0..20).collect::<Vec<i32>>());
        assert_eq!(asked.len(), 24, "eight in each look");
    }
}
