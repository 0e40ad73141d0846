//! What a panic said, handed from the panic hook to the guard of the actor that it ended, so that it is
//! reported once and with the actor's name. Must never panic itself: that would abort the process.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::PanicHookInfo;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

thread_local! {
    /// An actor is being polled on this thread: its guard reports what happens.
    static IN_ACTOR: Cell<bool> = const { Cell::new(false) };
    /// The last panic of this thread that nobody has reported yet.
    static NOTE: RefCell<Option<PanicNote>> = const { RefCell::new(None) };
}

/// What a panic said.
#[derive(Debug, Clone)]
pub(super) struct PanicNote {
    /// Message and place.
    pub(super) text: String,
    pub(super) backtrace: Option<String>,
}

/// Replaces the panic hook, once per process: a panic within an actor is kept for the actor's guard; any
/// other becomes one log line, or goes to the hook before this one where nobody listens to the log.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let note = note_of(info);
            let in_actor = IN_ACTOR.try_with(Cell::get).unwrap_or(false);
            if !in_actor {
                if tracing::enabled!(tracing::Level::ERROR) {
                    log(std::thread::current().name().unwrap_or("unnamed thread"), &note);
                } else {
                    previous(info);
                }
            }
            let _ = NOTE.try_with(|cell| cell.try_borrow_mut().map(|mut slot| *slot = Some(note)));
        }));
    });
}

/// The last panic's note, unless somebody took it.
pub(super) fn take() -> Option<PanicNote> {
    NOTE.try_with(|cell| cell.try_borrow_mut().ok().and_then(|mut slot| slot.take())).ok().flatten()
}

/// The text of a caught panic, from the hook's note or else from its payload.
pub(super) fn text_of(payload: &(dyn Any + Send)) -> Option<String> {
    take().map(|note| note.text).or_else(|| message_of(payload).map(str::to_owned))
}

fn note_of(info: &PanicHookInfo<'_>) -> PanicNote {
    let mut text = message_of(info.payload()).unwrap_or("(no message)").to_owned();
    if let Some(place) = info.location() {
        text.push_str(&format!(" at {place}"));
    }
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    PanicNote { text, backtrace }
}

fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&'static str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

fn log(place: &str, note: &PanicNote) {
    tracing::error!(thread = place, panic = note.text, backtrace = note.backtrace, "panicked outside any actor");
}

/// While it lives a panic of this thread is an actor's.
pub(super) struct Within {
    outer: bool,
}

/// From here on an actor's guard reports panics.
pub(super) fn enter() -> Within {
    Within { outer: IN_ACTOR.replace(true) }
}

impl Drop for Within {
    fn drop(&mut self) {
        let _ = IN_ACTOR.try_with(|flag| flag.set(self.outer));
    }
}

/// A future within which a panic is the actor's, and all log lines are within the actor's span.
pub(super) struct InActor<F> {
    future: Pin<Box<F>>,
    // Dropped after the future, and with it after the actor's guard.
    _unreported: Unreported,
}

/// Wraps an actor's whole future.
pub(super) fn in_actor<F: Future>(name: Arc<str>, future: F) -> InActor<F> {
    InActor { future: Box::pin(future), _unreported: Unreported(name) }
}

impl<F: Future> Future for InActor<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _within = enter();
        self.future.as_mut().poll(cx)
    }
}

/// Logs a panic that ended an actor which held no guard.
struct Unreported(Arc<str>);

impl Drop for Unreported {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(note) = take()
        {
            tracing::error!(
                actor = &*self.0,
                panic = note.text,
                backtrace = note.backtrace,
                "an actor without a guard panicked; nothing is rebuilt"
            );
        }
    }
}
