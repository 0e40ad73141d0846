//! A lane's queue of fetched messages, straight from librdkafka, and the offset of a partition's end: neither does the
//! safe wrapper give. One of two files with `unsafe`: every pointer that librdkafka hands out here is destroyed here, and
//! a queue never outlives its client.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka_sys as sys;

use crate::ports::{Polled, SourceError};

/// How librdkafka begins its error where a broker's answer for a leader's epoch ends below what was read.
const TRUNCATION: &str = "log truncation detected";

/// Partitions of one lane, forwarded into one queue.
pub struct LaneQueue<C: ConsumerContext + 'static> {
    queue: *mut sys::rd_kafka_queue_t,
    /// Woken when the queue is no longer empty; the callback's argument, freed in `drop`.
    waker: *mut Thread,
    consumer: Arc<BaseConsumer<C>>,
}

unsafe extern "C" fn wake(_client: *mut sys::rd_kafka_t, thread: *mut c_void) {
    // SAFETY: `thread` is what the queue keeps until it has taken this callback away.
    let thread = unsafe { &*thread.cast::<Thread>() };
    thread.unpark();
}

impl<C: ConsumerContext + 'static> LaneQueue<C> {
    /// Wakes `waker` when messages come.
    pub fn new(consumer: Arc<BaseConsumer<C>>, waker: Thread) -> Self {
        let waker = Box::into_raw(Box::new(waker));
        // SAFETY: the client is alive as long as `consumer`, which this value holds.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        // SAFETY: `waker` is freed in `drop` alone, after the callback was taken away.
        unsafe { sys::rd_kafka_queue_cb_event_enable(queue, Some(wake), waker.cast::<c_void>()) };
        Self { queue, waker, consumer }
    }

    /// Makes this queue receive what is fetched of the partition from now on.
    pub fn take_partition(&self, topic: &str, partition: i32) -> Result<(), SourceError> {
        let name =
            CString::new(topic).map_err(|_| SourceError::Fatal(format!("topic name {topic:?} has a NUL byte")))?;
        // SAFETY: client and name are alive during the call; the answer is a reference that is given back below.
        let source =
            unsafe { sys::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), name.as_ptr(), partition) };
        if source.is_null() {
            return Err(SourceError::Transient(format!(
                "librdkafka has no queue for partition {partition} of topic {topic}"
            )));
        }
        // SAFETY: both queues are alive.
        unsafe {
            sys::rd_kafka_queue_forward(source, self.queue);
            sys::rd_kafka_queue_destroy(source);
        }
        Ok(())
    }

    /// Hands at most `limit` messages to `sink`, without waiting; answers how many there were.
    ///
    /// One by one: `rd_kafka_consume_batch_queue` takes the end of a partition, at offset n, for a record that was
    /// consumed, and puts the position at n + 1. When a rebalance pauses and resumes the partition, fetching goes on
    /// from there, and the record that came to stand at n is skipped.
    pub fn poll(&mut self, limit: usize, sink: &mut dyn FnMut(Polled<'_>)) -> Result<usize, SourceError> {
        for taken in 0..limit {
            // SAFETY: the queue is alive; the message is ours from here on.
            let message = unsafe { sys::rd_kafka_consume_queue(self.queue, 0) };
            if message.is_null() {
                return Ok(taken);
            }
            let message = OwnMessage(message);
            // SAFETY: the message is alive until `message` is dropped.
            unsafe { hand_over(message.0, sink) }?;
        }
        Ok(limit)
    }
}

/// A message that is ours: destroyed when it is done with, by a panic too.
struct OwnMessage(*mut sys::rd_kafka_message_t);

impl Drop for OwnMessage {
    fn drop(&mut self) {
        // SAFETY: librdkafka gave the message to us, and it is destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}

/// SAFETY: `message` must be a live message.
unsafe fn hand_over(
    message: *const sys::rd_kafka_message_t,
    sink: &mut dyn FnMut(Polled<'_>),
) -> Result<(), SourceError> {
    // SAFETY: the caller's promise; payload and key live as long as the message.
    let m = unsafe { &*message };
    match m.err {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
            // SAFETY: the message is alive.
            let timestamp = unsafe { sys::rd_kafka_message_timestamp(message, ptr::null_mut()) };
            // SAFETY: pointer and length come from librdkafka for this message.
            let bytes = |data: *mut c_void, len: usize| {
                (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
            };
            sink(Polled::Record {
                partition: m.partition,
                offset: m.offset,
                timestamp,
                key: bytes(m.key, m.key_len),
                payload: bytes(m.payload, m.len),
            });
            Ok(())
        }
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
            sink(Polled::End { partition: m.partition, offset: m.offset });
            Ok(())
        }
        error => {
            // SAFETY: librdkafka's texts are static or live as long as the message.
            let text = unsafe {
                let detail = sys::rd_kafka_message_errstr(message);
                let text = if detail.is_null() { sys::rd_kafka_err2str(error) } else { detail };
                CStr::from_ptr(text).to_string_lossy().into_owned()
            };
            let what = format!("partition {}: {text}", m.partition);
            // It comes as any offset that is not there, and only its words tell.
            if error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && text.contains(TRUNCATION) {
                return Err(SourceError::Truncated { partition: m.partition, what });
            }
            Err(super::client::classify(error.into(), what))
        }
    }
}

impl<C: ConsumerContext + 'static> Drop for LaneQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the callback is taken away before its argument is freed; the queue is not used afterwards.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
            drop(Box::from_raw(self.waker));
        }
    }
}

/// The broker's id of a topic, which the safe wrapper's metadata lacks; empty where the broker gives none.
pub fn topic_id<C: ConsumerContext + 'static>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    timeout_ms: i32,
) -> Result<String, SourceError> {
    let name = CString::new(topic).map_err(|_| SourceError::Fatal(format!("topic name {topic:?} has a NUL byte")))?;
    let client = consumer.client().native_ptr();
    // SAFETY: the client outlives the calls; collection, options, queue and event are destroyed at the end of the block;
    // the id's text is copied before its event goes.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let queue = sys::rd_kafka_queue_new(client);
        let options =
            sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        // Else it would go on for a minute after nobody waits for it.
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        let mut id = Err(SourceError::Transient(format!("the broker did not describe topic {topic} in time")));
        if !event.is_null() {
            let error = sys::rd_kafka_event_error(event);
            let described = sys::rd_kafka_event_DescribeTopics_result(event);
            if error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && !described.is_null() {
                let mut count = 0;
                let list = sys::rd_kafka_DescribeTopics_result_topics(described, &mut count);
                id = Ok(String::new());
                if count > 0 && !sys::rd_kafka_TopicDescription_error(*list).is_null() {
                    let denied = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(*list));
                    if denied != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                        let text = CStr::from_ptr(sys::rd_kafka_err2str(denied)).to_string_lossy();
                        id = Err(super::client::classify(
                            denied.into(),
                            format!("topic {topic} was not described: {text}"),
                        ));
                    }
                }
                if count > 0 && id.is_ok() {
                    let uuid = sys::rd_kafka_TopicDescription_topic_id(*list);
                    if !uuid.is_null() && !is_zero(uuid) {
                        id = Ok(CStr::from_ptr(sys::rd_kafka_Uuid_base64str(uuid)).to_string_lossy().into_owned());
                    }
                }
            } else {
                let text = CStr::from_ptr(sys::rd_kafka_err2str(error)).to_string_lossy().into_owned();
                id = Err(SourceError::Transient(format!("topic {topic} was not described: {text}")));
            }
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// SAFETY: `uuid` must be live.
unsafe fn is_zero(uuid: *const sys::rd_kafka_Uuid_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        sys::rd_kafka_Uuid_least_significant_bits(uuid) == 0 && sys::rd_kafka_Uuid_most_significant_bits(uuid) == 0
    }
}

/// The end of a partition as the last fetch told it; `None` before the first.
pub fn known_end<C: ConsumerContext + 'static>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Option<i64> {
    let name = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1_i64, -1_i64);
    // SAFETY: client and name are alive during the call; librdkafka only fills the two numbers.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            name.as_ptr(),
            partition,
            &mut low,
            &mut high,
        )
    };
    (code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
