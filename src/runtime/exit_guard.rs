//! How an actor ended, told by a value that it holds: whatever ends the actor drops it.
//! A guard must never be handed to anything that outlives its actor: until it is dropped the actor counts as alive.

use std::fmt::{self, Display};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::panics;
use super::unit::Incarnation;

/// How an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It had nothing more to do, or was told to end.
    Finished,
    /// Something outside that passes by itself was in its way (a server that is away, work that another took over):
    /// built again for as long as it takes, at no cost to the restart budget.
    Passing { error: String },
    /// It could not go on, and nobody knows whether it will. `fatal`: building it again does not help.
    Failed { error: String, fatal: bool },
    /// The message and where, if the panic hook is installed ([`panics::install`]).
    Panicked { message: Option<String> },
}

impl Exit {
    /// Whether the unit is past help.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Exit::Failed { fatal: true, .. })
    }

    /// Panics and fatal failures are causes; a plain failure may be the echo of one, or of what passes.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Exit::Finished => 0,
            Exit::Failed { fatal: false, .. } => 1,
            Exit::Passing { .. } => 2,
            Exit::Failed { fatal: true, .. } | Exit::Panicked { .. } => 3,
        }
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Finished => f.write_str("finished"),
            Exit::Passing { error } | Exit::Failed { error, .. } => f.write_str(error),
            Exit::Panicked { message: Some(message) } => write!(f, "panicked: {message}"),
            Exit::Panicked { message: None } => f.write_str("panicked"),
        }
    }
}

/// One actor's end, as its supervisor hears of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) actor: Arc<str>,
    pub(super) exit: Exit,
    /// Where RUST_BACKTRACE asks for one.
    pub(super) backtrace: Option<String>,
}

/// Held by an actor for as long as it lives; its drop reports how the actor ended:
/// - a panic unwinds through it: panicked, whatever was said before;
/// - `finish`, `pass` or `fail` were called: that, the first word counting;
/// - neither: finished if its unit was cancelled, else failed, since nobody drops an actor that is at work.
///
/// A stage whose neighbour went away calls `fail`: should the neighbour have panicked, then that is taken for
/// the cause. A stage whose input ended calls `finish` in `StreamHandler::finished`, after its last write.
/// Declare the guard as the actor's last field, so that connections are closed when it reports.
#[derive(Debug)]
#[must_use = "dropping the guard reports the end of its actor"]
pub struct ExitGuard {
    incarnation: Incarnation,
    id: u64,
    actor: Arc<str>,
    said: OnceLock<Exit>,
}

impl ExitGuard {
    pub(super) fn new(incarnation: Incarnation, id: u64, actor: Arc<str>) -> Self {
        Self { incarnation, id, actor, said: OnceLock::new() }
    }

    /// The actor did all it had to; it stops itself now.
    pub fn finish(&self) {
        // A word said before stands.
        let _ = self.said.set(Exit::Finished);
    }

    /// The actor can't go on for a cause outside that passes by itself; it stops itself now. Its unit is built again
    /// with growing waits, however often, and none of it counts against the restart budget.
    pub fn pass(&self, error: impl Display) {
        let _ = self.said.set(Exit::Passing { error: error.to_string() });
    }

    /// The actor can't go on; it stops itself now. `fatal`: building it again does not help (wrong
    /// configuration, access denied).
    pub fn fail(&self, error: impl Display, fatal: bool) {
        let _ = self.said.set(Exit::Failed { error: error.to_string(), fatal });
    }

    /// Runs what has a thread of its own instead of an arbiter: a panic in it is reported by this guard and
    /// nowhere else, and its log lines carry unit, name and generation.
    pub fn run<T>(self, work: impl FnOnce(&ExitGuard) -> T) -> T {
        let span = self.incarnation.span(&self.actor);
        let _within = (panics::enter(), span.enter());
        work(&self)
    }

    /// The actor's name, as metrics and logs have it.
    pub fn name(&self) -> &str {
        &self.actor
    }

    /// Which life of the unit the actor belongs to; the first is 1.
    pub fn generation(&self) -> u64 {
        self.incarnation.generation()
    }

    /// Cancelled when the unit is taken down: every wait and every retry selects on it.
    pub fn cancelled(&self) -> &CancellationToken {
        self.incarnation.cancel_ref()
    }

    /// Cancelled when the daemon drains: sources stop polling.
    pub fn draining(&self) -> &CancellationToken {
        self.incarnation.drain_ref()
    }

    /// What the actor is about, for people: shown beside its state until the next word.
    pub fn report_state(&self, note: impl Into<String>) {
        self.incarnation.report_state(&self.actor, note);
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let mut backtrace = None;
        let exit = if std::thread::panicking() {
            let note = panics::take();
            backtrace = note.as_ref().and_then(|n| n.backtrace.clone());
            Exit::Panicked { message: note.map(|n| n.text) }
        } else if let Some(said) = self.said.take() {
            said
        } else if self.incarnation.cancel_ref().is_cancelled() {
            Exit::Finished
        } else {
            Exit::Failed { error: "dropped without saying why".to_owned(), fatal: false }
        };
        self.incarnation.exited(self.id, Report { actor: self.actor.clone(), exit, backtrace });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Harness;
    use super::*;

    #[actix::test]
    async fn the_first_word_counts() {
        let mut harness = Harness::new();
        let guard = harness.incarnation().guard("writer");
        guard.fail("disk full", true);
        guard.finish();
        drop(guard);
        assert_eq!(harness.exit("writer").await, Exit::Failed { error: "disk full".into(), fatal: true });
    }

    #[actix::test]
    async fn dropped_without_a_word_is_a_failure_unless_the_unit_was_cancelled() {
        let mut harness = Harness::new();
        drop(harness.incarnation().guard("writer"));
        let exit = harness.exit("writer").await;
        assert_eq!(exit, Exit::Failed { error: "dropped without saying why".into(), fatal: false });

        let guard = harness.incarnation().guard("decoder");
        harness.cancel();
        drop(guard);
        assert_eq!(harness.exit("decoder").await, Exit::Finished);
    }

    #[actix::test]
    async fn a_panic_on_a_thread_of_its_own_is_reported_by_the_guard_that_runs_it() {
        panics::install();
        let mut harness = Harness::new();
        let guard = harness.incarnation().guard("poll");
        let thread = std::thread::spawn(move || guard.run(|guard| panic!("{} hit a rock", guard.name())));
        let Exit::Panicked { message: Some(message) } = harness.exit("poll").await else { panic!("no panic told") };
        assert!(message.starts_with("poll hit a rock at src/runtime/exit_guard.rs:"), "{message}");
        assert!(thread.join().is_err());
    }

    #[actix::test]
    async fn a_panic_overrides_what_was_said() {
        panics::install();
        let mut harness = Harness::new();
        let guard = harness.incarnation().guard("writer");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            guard.finish();
            panic!("after the end");
        }));
        assert!(outcome.is_err());
        let Exit::Panicked { message: Some(message) } = harness.exit("writer").await else { panic!("no panic told") };
        assert!(message.starts_with("after the end at src/runtime/exit_guard.rs:"), "{message}");
    }
}
