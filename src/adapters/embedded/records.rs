//! Records in and out: Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, InitProducerId. Batches pass through whole;
//! no record is ever unpacked.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
    TopicName,
};
use tokio::time::Instant;

use super::batch::Batch;
use super::log::{Appended, LEADER_EPOCH};
use super::reply::{EncodeError, Reply};
use super::state::{State, code};

/// No fetch waits longer, whatever it asks for: a client that is gone holds its place for no longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// As Kafka's `fetch.max.bytes`: an answer holds no more than this and one batch, whatever was asked for.
const LARGEST_FETCH: usize = 55 * 1024 * 1024;

/// Special timestamps of ListOffsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// A batch that makes up less than this share of its frame is copied out of it, so that a log never holds more than
/// about twice its own bytes.
const KEEP_FRAME_ABOVE: usize = 2;

impl State {
    /// Stores batches. No answer is due when the producer asked for none (`acks = 0`).
    pub fn produce(&self, request: ProduceRequest, frame_bytes: usize) -> Option<ProduceResponse> {
        let acks = request.acks;
        let refused = match (acks, &request.transactional_id) {
            (-1..=1, None) => None,
            (-1..=1, Some(_)) => Some(ResponseError::TransactionalIdAuthorizationFailed),
            _ => Some(ResponseError::InvalidRequiredAcks),
        };
        let mut responses = Vec::with_capacity(request.topic_data.len());
        for topic in request.topic_data {
            let mut partitions = Vec::with_capacity(topic.partition_data.len());
            for data in topic.partition_data {
                let stored = match refused {
                    Some(error) => Err(error),
                    None => self.store(&topic.name, data.index, data.records.unwrap_or_default(), frame_bytes),
                };
                partitions.push(
                    PartitionProduceResponse::default()
                        .with_index(data.index)
                        .with_error_code(code(&stored))
                        .with_base_offset(stored.unwrap_or(-1))
                        .with_log_append_time_ms(-1)
                        .with_log_start_offset(0),
                );
            }
            responses.push(TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions));
        }
        self.appended.notify_waiters();
        (acks != 0).then(|| ProduceResponse::default().with_responses(responses))
    }

    fn store(&self, topic: &str, partition: i32, bytes: Bytes, frame_bytes: usize) -> Result<i64, ResponseError> {
        let mut batch = Batch::parse(bytes)?;
        if batch.bytes.len() < frame_bytes / KEEP_FRAME_ABOVE {
            batch.bytes = Bytes::copy_from_slice(&batch.bytes);
        }
        let room = self.room();
        match self.partition(topic, partition, |log| log.append(&batch, room)) {
            Ok(Appended::Stored { base_offset, cost }) => {
                self.take(cost);
                Ok(base_offset)
            }
            Ok(Appended::Duplicate { base_offset }) => Ok(base_offset),
            Err(error) => {
                if error == ResponseError::NotEnoughReplicas {
                    self.set_full();
                }
                Err(error)
            }
        }
    }

    /// Reads batches, waiting for `min_bytes` of them for at most `max_wait_ms`. Each partition gets at least one batch,
    /// however large, while the whole answer has room. Sessions are not kept: the answer names session 0, upon which
    /// clients go on with full requests.
    pub async fn fetch(&self, request: &FetchRequest, correlation_id: i32, version: i16) -> Result<Reply, EncodeError> {
        let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(LONGEST_WAIT);
        let deadline = Instant::now() + wait;
        loop {
            let (reply, satisfied) = self.read(request, correlation_id, version)?;
            if satisfied || tokio::time::timeout_at(deadline, self.appended.notified()).await.is_err() {
                return Ok(reply);
            }
        }
    }

    /// What there is now, and whether it is reason enough to answer.
    fn read(&self, request: &FetchRequest, correlation_id: i32, version: i16) -> Result<(Reply, bool), EncodeError> {
        let mut room = usize::try_from(request.max_bytes).unwrap_or(0).min(LARGEST_FETCH);
        let (mut bytes, mut failed) = (0, false);
        let mut reply = Reply::to::<FetchResponse>(correlation_id, version)?;
        reply.put(&FetchResponse::default())?;
        reply.set_last_length(request.topics.len());
        for topic in &request.topics {
            reply.put(&FetchableTopicResponse::default().with_topic(topic.topic.clone()))?;
            reply.set_last_length(topic.partitions.len());
            for wanted in &topic.partitions {
                let read = self.partition(&topic.topic, wanted.partition, |log| {
                    let most = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(room);
                    let chunks = check_epoch(wanted.current_leader_epoch)
                        .and_then(|()| log.read(wanted.fetch_offset, most, room > 0 || bytes == 0));
                    Ok((log.start_offset(), log.end_offset(), chunks))
                });
                let (start, end, chunks) = read.unwrap_or_else(|error| (-1, -1, Err(error)));
                failed |= chunks.is_err();
                let head = PartitionData::default()
                    .with_partition_index(wanted.partition)
                    .with_error_code(code(&chunks))
                    .with_high_watermark(end)
                    .with_last_stable_offset(end)
                    .with_log_start_offset(start)
                    .with_aborted_transactions(None);
                reply.put(&head)?;
                let chunks = chunks.unwrap_or_default();
                let size: usize = chunks.iter().map(Bytes::len).sum();
                reply.set_last_length(size);
                chunks.into_iter().for_each(|chunk| reply.chunk(chunk));
                bytes += size;
                room = room.saturating_sub(size);
            }
        }
        let enough = usize::try_from(request.min_bytes).unwrap_or(0).min(LARGEST_FETCH);
        Ok((reply, failed || bytes >= enough))
    }

    /// First offsets, next offsets, offsets by time. Without transactions the last stable offset is the end.
    pub fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let found = self.partition(&topic.name, asked.partition_index, |log| {
                    check_epoch(asked.current_leader_epoch)?;
                    match asked.timestamp {
                        LATEST => Ok((-1, log.end_offset())),
                        EARLIEST => Ok((-1, log.start_offset())),
                        timestamp if timestamp >= 0 => Ok(log.at_time(timestamp).unwrap_or((-1, -1))),
                        _ => Err(ResponseError::InvalidRequest),
                    }
                });
                let answer = ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code(&found));
                let (timestamp, offset) = found.unwrap_or((-1, -1));
                answer.with_timestamp(timestamp).with_offset(offset)
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    /// Where a leader's epoch ended: there has been one epoch, and it has not ended.
    pub fn epoch_ends(&self, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let name: TopicName = topic.topic;
            let partitions = topic.partitions.iter().map(|asked| {
                let end = self.partition(&name, asked.partition, |log| {
                    check_epoch(asked.current_leader_epoch)?;
                    Ok(if asked.leader_epoch == LEADER_EPOCH { log.end_offset() } else { -1 })
                });
                let answer = EpochEndOffset::default().with_partition(asked.partition).with_error_code(code(&end));
                let end = end.unwrap_or(-1);
                answer.with_end_offset(end).with_leader_epoch(if end < 0 { -1 } else { LEADER_EPOCH })
            });
            let partitions = partitions.collect();
            OffsetForLeaderTopicResult::default().with_topic(name).with_partitions(partitions)
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    /// An id for an idempotent producer; a transactional one is turned away.
    pub fn init_producer(&self, request: &InitProducerIdRequest) -> InitProducerIdResponse {
        if request.transactional_id.is_some() {
            return InitProducerIdResponse::default()
                .with_error_code(ResponseError::TransactionalIdAuthorizationFailed.code())
                .with_producer_id((-1).into())
                .with_producer_epoch(-1);
        }
        InitProducerIdResponse::default().with_producer_id(self.new_producer().into()).with_producer_epoch(0)
    }
}

/// A client that knows a later epoch than this broker ever had is talking to another broker's successor.
fn check_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    use super::super::batch::sample;
    use super::*;

    /// Partition 0 holds a small and a large batch, partition 1 is empty.
    fn state() -> State {
        let state = State::new(1 << 20);
        state.create_topic("events", 2).unwrap();
        for payload in [40, 5_000] {
            let data = PartitionProduceData::default().with_records(Some(sample::batch(3, 0, payload, None)));
            let topic = TopicProduceData::default()
                .with_name(TopicName("events".into()))
                .with_partition_data(vec![data.with_index(0)]);
            let answer = state.produce(ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]), 6_000);
            assert_eq!(answer.unwrap().responses[0].partition_responses[0].error_code, 0);
        }
        state
    }

    fn request(partitions: &[(i32, i64)]) -> FetchRequest {
        let partitions = partitions.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        });
        let topic = FetchTopic::default().with_topic(TopicName("events".into())).with_partitions(partitions.collect());
        FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_topics(vec![topic])
    }

    #[test]
    fn a_fetch_answer_is_what_the_encoder_would_write() {
        let state = state();
        for version in 4..=11 {
            let asked = request(&[(0, 0), (1, 0), (7, 0), (0, 99)]);
            let (reply, satisfied) = state.read(&asked, 5, version).unwrap();
            assert!(satisfied);
            let stored = state.partition("events", 0, |log| log.read(0, usize::MAX, true)).unwrap().concat();
            let partition = |index: i32, error: i16, end: i64, start: i64, records: Bytes| {
                PartitionData::default()
                    .with_partition_index(index)
                    .with_error_code(error)
                    .with_high_watermark(end)
                    .with_last_stable_offset(end)
                    .with_log_start_offset(start)
                    .with_aborted_transactions(None)
                    .with_records(Some(records))
            };
            let partitions = vec![
                partition(0, 0, 6, 0, stored.into()),
                partition(1, 0, 0, 0, Bytes::new()),
                partition(7, 3, -1, -1, Bytes::new()),
                partition(0, 1, 6, 0, Bytes::new()),
            ];
            let topic =
                FetchableTopicResponse::default().with_topic(TopicName("events".into())).with_partitions(partitions);
            let body = FetchResponse::default().with_responses(vec![topic]);
            let (mut ours, mut theirs) = (reply.into_frame(), Reply::whole(5, version, &body).unwrap().into_frame());
            let (ours, theirs) = (ours.copy_to_bytes(ours.remaining()), theirs.copy_to_bytes(theirs.remaining()));
            assert_eq!(ours, theirs, "version {version}");
        }
    }

    #[test]
    fn a_fetch_takes_no_more_than_it_asked_for_but_always_a_batch() {
        let state = state();
        let size = |max_bytes: usize| {
            let asked = request(&[(0, 3), (0, 0)]).with_max_bytes(max_bytes as i32);
            let (reply, _) = state.read(&asked, 5, 11).unwrap();
            reply.into_frame().remaining()
        };
        let empty = {
            let (reply, satisfied) = state.read(&request(&[(1, 0), (1, 0)]), 5, 11).unwrap();
            assert!(!satisfied, "there is nothing to answer yet");
            reply.into_frame().remaining()
        };
        let (small, large) = (40 + 61, 5_000 + 61);
        assert_eq!(size(0) - empty, large, "the first batch, though it is too large");
        assert_eq!(size(large) - empty, large);
        assert_eq!(size(large + small) - empty, large + small);
    }

    #[test]
    fn a_fetch_waits_for_records_and_not_longer_than_it_may() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let state = state();
            let asked = request(&[(1, 0)]).with_max_wait_ms(500);
            let started = Instant::now();
            state.fetch(&asked, 5, 11).await.unwrap();
            assert_eq!(started.elapsed(), Duration::from_millis(500));
            let started = Instant::now();
            let later = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                state.store("events", 1, sample::batch(1, 0, 10, None), 0).unwrap();
                state.appended.notify_waiters();
            };
            tokio::join!(async { state.fetch(&asked, 5, 11).await.unwrap() }, later);
            assert_eq!(started.elapsed(), Duration::from_millis(100));
        });
    }
}
