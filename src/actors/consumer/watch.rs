//! Looks now and then whether the topic at the broker is still the one that is read. Must never take an answer that
//! failed for a change: an outage of the broker puts nothing in doubt.

use std::sync::Arc;
use std::time::Duration;

use crate::core::doubt::{self, Doubt, Kind};
use crate::messages::Board;
use crate::ports::{Broker, Clock, SourceError};

/// A topic that is made anew is to be noticed within 5 s, the rebuilding of the pipeline included.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Partitions whose ends are asked for in one look: a topic can have thousands. Of the others librdkafka tells when it
/// asks for an offset that is not there.
const ENDS_ASKED: usize = 8;

pub(super) struct Watch {
    pub stream: String,
    pub topic: String,
    pub broker: Arc<dyn Broker>,
    pub board: Board,
    pub clock: Arc<dyn Clock>,
}

impl Watch {
    /// What is in doubt, in words; puts it on the board. Waits for the broker. `expected`: the id under which the
    /// partitions were taken over, empty where there is none.
    pub(super) fn look(&self, expected: &str) -> Result<Option<String>, SourceError> {
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

    fn doubts(&self, expected: &str, held: &[(i32, i64)]) -> Result<Vec<Doubt>, SourceError> {
        let judge = |(partition, next): &(i32, i64), id: &str, bounds| {
            doubt::judge(*partition, (expected, *next), (id, bounds))
        };
        let id = match self.broker.topic_id(&self.topic) {
            Ok(id) => id,
            // The answer to a topic that is gone, and to much else.
            Err(error) => match self.broker.partitions(&self.topic)?.is_empty() {
                true => return Ok(held.iter().filter_map(|p| judge(p, "", None)).collect()),
                false => return Err(error),
            },
        };
        if !expected.is_empty() && !id.is_empty() {
            // The id alone tells: as long as it is the same, the log can only have lost its end.
            let anew: Vec<Doubt> = held.iter().filter_map(|p| judge(p, &id, Some((p.1, p.1)))).collect();
            if !anew.is_empty() {
                return Ok(anew);
            }
        }
        let mut doubts = Vec::new();
        for (partition, next) in held.iter().take(ENDS_ASKED) {
            let bounds = self.broker.bounds(&self.topic, *partition)?;
            // What retention took may have been fetched before; librdkafka says when it was not.
            let low = bounds.low.min(*next);
            doubts.extend(judge(&(*partition, *next), &id, Some((low, bounds.high))));
        }
        doubts.retain(|d| d.kind != Kind::BeforeStart);
        Ok(doubts)
    }
}
