//! Sends what a plan holds: at its pace, waiting where the sink has no room, until all is delivered or the caller
//! has had enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::plan::{Feed, Plan};
use super::{Pace, Progress, RecordSink, ReplayError};
use crate::core::replay::Timetable;
use crate::ports::Clock;

/// How often the caller hears of progress.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// The longest wait without a look at `cancel`.
const NAP: Duration = Duration::from_millis(20);
/// After a cancel, how long what was already handed over may take to arrive before it is given up.
const LAST_CALL: Duration = Duration::from_secs(5);
/// Records between two looks at what came back and at the clock.
const RECORDS_PER_SERVE: u64 = 256;

/// A replay on its way.
pub(super) struct Run<'a> {
    sink: &'a mut dyn RecordSink,
    progress: &'a mut dyn FnMut(&Progress),
    cancel: &'a AtomicBool,
    clock: &'a dyn Clock,
    state: Progress,
    told: Instant,
    /// The sink's numbers of the topics.
    feeds: Vec<usize>,
}

impl<'a> Run<'a> {
    pub fn new(
        sink: &'a mut dyn RecordSink,
        progress: &'a mut dyn FnMut(&Progress),
        cancel: &'a AtomicBool,
        clock: &'a dyn Clock,
        plan: &Plan,
    ) -> Self {
        let state = Progress { total: plan.total, ..Progress::default() };
        let feeds = plan.feeds.iter().map(|feed| feed.number).collect();
        Self { sink, progress, cancel, clock, state, told: Instant::now(), feeds }
    }

    /// Sends every record; `false` when cancelled.
    pub fn send_all(&mut self, feeds: &mut [Feed], pace: Pace) -> Result<bool, ReplayError> {
        let mut live = Vec::new();
        for (index, feed) in feeds.iter_mut().enumerate() {
            if feed.advance()? {
                live.push(index);
            }
        }
        let started = Instant::now();
        let mut first_event = None;
        let mut timetable = match pace {
            Pace::UpToNow(speed) => Some(Timetable::up_to(self.now(), speed)),
            _ => None,
        };
        while let Some(&index) = live.iter().min_by_key(|&&index| feeds[index].event) {
            let feed = &mut feeds[index];
            let due = match pace {
                Pace::Unlimited | Pace::UpToNow(_) => None,
                Pace::Rate(rate) => Some(self.state.sent as f64 / rate),
                Pace::Speed(speed) => feed.event.map(|event| {
                    let passed = event - *first_event.get_or_insert(event);
                    passed.max(0) as f64 / 1e6 / speed
                }),
            };
            if let Some(due) = due.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                while let Some(left) = due.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
                    if !self.pause(left.min(NAP))? {
                        return Ok(false);
                    }
                }
            }
            if let (Some(timetable), Some(event)) = (&mut timetable, feed.event)
                && let Some(due) = timetable.due(event, self.now())
            {
                self.state.history.get_or_insert(self.state.sent);
                self.state.is_live = due == event;
                while let Some(left) = u64::try_from(due - self.now()).ok().filter(|left| *left > 0) {
                    if !self.pause(Duration::from_micros(left).min(NAP))? {
                        return Ok(false);
                    }
                }
            }
            while !self.sink.send(feed.number, feed.key(), &feed.payload)? {
                if !self.pause(NAP)? {
                    return Ok(false);
                }
            }
            self.state.sent += 1;
            if self.state.sent.is_multiple_of(RECORDS_PER_SERVE) && !self.pause(Duration::ZERO)? {
                return Ok(false);
            }
            if !feed.advance()? {
                live.retain(|&other| other != index);
            }
        }
        if timetable.is_some() {
            self.state.history.get_or_insert(self.state.sent);
        }
        Ok(!self.cancel.load(Ordering::Relaxed))
    }

    /// By the clock, in microseconds since 1970.
    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }

    /// Waits until all is delivered. Answers with the records given up, after a cancel.
    pub fn settle(&mut self) -> Result<u64, ReplayError> {
        let mut last_call: Option<Instant> = None;
        while self.sink.pending() > 0 {
            if self.cancel.load(Ordering::Relaxed) {
                let since = *last_call.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_CALL {
                    self.sink.give_up();
                    break;
                }
            }
            self.pause(NAP)?;
        }
        // The reports of what was just delivered may still wait to be taken in.
        self.sink.serve(Duration::ZERO).or_else(|error| if last_call.is_some() { Ok(()) } else { Err(error) })?;
        self.tell();
        Ok(self.state.sent - self.state.delivered.min(self.state.sent))
    }

    /// Serves the sink for so long, tells progress when it is time; `false` when cancelled.
    fn pause(&mut self, wait: Duration) -> Result<bool, ReplayError> {
        self.sink.serve(wait)?;
        if self.told.elapsed() >= TOLD_EVERY {
            self.tell();
        }
        Ok(!self.cancel.load(Ordering::Relaxed))
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        self.state.delivered = self.feeds.iter().map(|&number| self.sink.delivered(number).arrived).sum();
        self.state.trouble = self.sink.trouble();
        (self.progress)(&self.state);
    }
}
