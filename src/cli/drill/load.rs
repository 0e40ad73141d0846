//! Produces a drill's records at a steady rate, on a thread of its own, through whatever happens to the broker. Must
//! never give up a record that the broker may have taken: a record that is not acknowledged ends the drill.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::staging::{Ground, PARTITIONS};
use crate::adapters::kafka::producer::ReplayProducer;
use crate::adapters::replay::RecordSink;
use crate::core::drill::records::Content;

/// Bytes.
const PADDING: usize = 4_000;

#[derive(Debug, Default)]
struct Shared {
    acknowledged: AtomicU64,
    /// Records to be sent beside the rate.
    extra: AtomicU64,
    /// Records that are still to come with [`PADDING`] in them.
    padded: AtomicU64,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// The producing thread.
pub(super) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Makes the topic and begins.
    pub fn begin(ground: &Ground, seed: u64, rate: u64) -> Result<Self, String> {
        let told = |error: crate::adapters::replay::SinkError| error.to_string();
        let mut kafka = ground.kafka().clone();
        // A broker may be away for long; an order that is kept lets a sequence number tell a repeated record.
        kafka.properties.insert("message.timeout.ms".to_owned(), crate::config::Secret::new("600000"));
        let mut sink = ReplayProducer::new(&kafka, ground.bootstrap()).map_err(told)?;
        let topic = sink.open(&ground.topic(), PARTITIONS).map_err(told)?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            if let Err(error) = produce(&mut sink, topic, seed, rate, &of_thread) {
                *of_thread.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Records that the broker has for certain.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Sends so many at once.
    pub fn burst(&self, records: u64) {
        self.shared.extra.fetch_add(records, Ordering::Relaxed);
    }

    /// Sends so many at once that are large; what makes them so is in no column.
    pub fn padded_burst(&self, records: u64) {
        self.shared.padded.fetch_add(records, Ordering::Relaxed);
        self.burst(records);
    }

    /// No record comes any more.
    pub fn is_over(&self) -> bool {
        self.thread.is_none()
    }

    pub fn check(&self) -> Result<(), String> {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(error) => Err(format!("records cannot be produced: {error}")),
            // It goes on until `finish` takes it.
            None if self.thread.as_ref().is_some_and(JoinHandle::is_finished) => {
                Err("records are produced no more: the thread has ended, see above why".to_owned())
            }
            None => Ok(()),
        }
    }

    /// Ends it and waits until all is acknowledged; answers how many records there are.
    pub fn finish(&mut self) -> Result<u64, String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the producing thread panicked".to_owned())?;
        }
        self.check()?;
        Ok(self.acknowledged())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn produce(
    sink: &mut ReplayProducer,
    topic: usize,
    seed: u64,
    rate: u64,
    shared: &Shared,
) -> Result<(), crate::adapters::replay::SinkError> {
    let began = Instant::now();
    let padding = format!(r#","padding":"{}"}}"#, "x".repeat(PADDING));
    let (mut number, mut extra) = (0u64, 0u64);
    // A daemon that flushes for ever would hang the drill's end, too.
    let mut deadline: Option<Instant> = None;
    loop {
        let stopping = shared.stop.load(Ordering::Relaxed);
        extra += shared.extra.swap(0, Ordering::Relaxed);
        let due = began.elapsed().as_secs_f64() * rate as f64;
        while !stopping && number < due as u64 + extra {
            let mut payload = Content::of(seed, number).json();
            let padded = shared.padded.load(Ordering::Relaxed) > 0;
            if padded {
                payload.pop();
                payload += &padding;
            }
            if !sink.send(topic, Some(number.to_string().as_bytes()), payload.as_bytes())? {
                break;
            }
            if padded {
                shared.padded.fetch_sub(1, Ordering::Relaxed);
            }
            number += 1;
        }
        sink.serve(Duration::from_millis(5))?;
        shared.acknowledged.store(sink.delivered(topic).arrived, Ordering::Relaxed);
        if stopping {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_secs(120));
            if sink.pending() == 0 || Instant::now() > deadline {
                // What is given up comes back as failed, which is told.
                sink.give_up();
                let outcome = sink.serve(Duration::ZERO);
                shared.acknowledged.store(sink.delivered(topic).arrived, Ordering::Relaxed);
                return outcome;
            }
        }
    }
}
