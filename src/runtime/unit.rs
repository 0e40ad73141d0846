//! A unit of restart and its lives. What is in one incarnation must never be carried into the next: the
//! start function builds everything anew.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backoff::RestartPolicy;
use super::exit_guard::{ExitGuard, Report};
use super::placement::{Arbiters, Placement};
use super::status::StatusBoard;

/// Why a unit could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
    /// Trying again does not help. Others are tried again for as long as the daemon lives.
    pub fatal: bool,
}

impl StartError {
    /// It may pass: a server is down.
    pub fn transient(message: impl Display) -> Self {
        Self { message: message.to_string(), fatal: false }
    }

    /// It will not pass: a table is missing.
    pub fn fatal(message: impl Display) -> Self {
        Self { message: message.to_string(), fatal: true }
    }
}

/// Builds one incarnation of a unit: opens what must be open, takes a guard for each actor and starts it.
/// All guards are taken before it returns; a unit without any has ended. The future is dropped when the
/// daemon drains meanwhile, or when one of the actors fails before it is done.
pub type Start = Box<dyn Fn(Incarnation) -> LocalBoxFuture<'static, Result<(), StartError>>>;

/// What is rebuilt together: a pipeline, or a lone actor.
pub struct UnitSpec {
    /// Unique within a supervisor.
    pub name: String,
    pub policy: RestartPolicy,
    pub start: Start,
}

impl UnitSpec {
    /// `start`: see [`Start`].
    pub fn new(
        name: impl Into<String>,
        policy: RestartPolicy,
        start: impl Fn(Incarnation) -> LocalBoxFuture<'static, Result<(), StartError>> + 'static,
    ) -> Self {
        Self { name: name.into(), policy, start: Box::new(start) }
    }
}

/// One life of a unit. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Incarnation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    unit: Arc<str>,
    generation: u64,
    cancel: CancellationToken,
    drain: CancellationToken,
    arbiters: Arbiters,
    board: StatusBoard,
    living: Mutex<Living>,
}

#[derive(Debug)]
struct Living {
    guards: BTreeMap<u64, Arc<str>>,
    next_id: u64,
    reports: mpsc::UnboundedSender<Report>,
}

/// What an incarnation is made of.
pub(super) struct Conditions {
    pub(super) unit: Arc<str>,
    pub(super) generation: u64,
    /// Child of what stops the supervisor at once.
    pub(super) cancel: CancellationToken,
    pub(super) drain: CancellationToken,
    pub(super) placement: Placement,
    pub(super) board: StatusBoard,
}

impl Incarnation {
    pub(super) fn new(conditions: Conditions) -> (Self, mpsc::UnboundedReceiver<Report>) {
        let Conditions { unit, generation, cancel, drain, placement, board } = conditions;
        let (reports, receiver) = mpsc::unbounded_channel();
        let arbiters = Arbiters::new(placement, unit.clone(), generation);
        let living = Mutex::new(Living { guards: BTreeMap::new(), next_id: 0, reports });
        (Self(Arc::new(Inner { unit, generation, cancel, drain, arbiters, board, living })), receiver)
    }

    /// Announces an actor; it holds the guard until it ends. Names are unique within the unit.
    pub fn guard(&self, actor: &str) -> ExitGuard {
        let name: Arc<str> = actor.into();
        let mut living = self.living();
        let id = living.next_id;
        living.next_id += 1;
        living.guards.insert(id, name.clone());
        drop(living);
        self.0.board.actor_started(&self.0.unit, self.0.generation, actor);
        ExitGuard::new(self.clone(), id, name)
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.0.unit
    }

    /// Which life of the unit this is; the first is 1.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Cancelled when everything of this incarnation must end at once: waits and retries select on it.
    pub fn cancel(&self) -> CancellationToken {
        self.0.cancel.clone()
    }

    /// Cancelled when the daemon drains: sources stop polling and drop their senders; the rest ends when its
    /// input ends.
    pub fn drain(&self) -> CancellationToken {
        self.0.drain.clone()
    }

    /// Starts this incarnation's actors where they belong.
    pub fn placement(&self) -> Arbiters {
        self.0.arbiters.clone()
    }

    /// What an actor is about, for people: shown beside its state until its next word.
    pub fn report_state(&self, actor: &str, note: impl Into<String>) {
        self.0.board.note(&self.0.unit, self.0.generation, actor, note.into());
    }

    pub(super) fn span(&self, actor: &str) -> tracing::Span {
        self.0.arbiters.span(actor)
    }

    pub(super) fn cancel_ref(&self) -> &CancellationToken {
        &self.0.cancel
    }

    pub(super) fn drain_ref(&self) -> &CancellationToken {
        &self.0.drain
    }

    /// Called by a guard's drop.
    pub(super) fn exited(&self, id: u64, report: Report) {
        let mut living = self.living();
        // Sent under the lock: who sees no guard left finds all reports in the channel.
        if let Err(late) = living.reports.send(report) {
            tracing::info!(
                unit = &*self.0.unit,
                actor = &*late.0.actor,
                generation = self.0.generation,
                exit = %late.0.exit,
                "an actor that had been left behind ended"
            );
        }
        living.guards.remove(&id);
    }

    /// Names of the actors that have not ended.
    pub(super) fn alive(&self) -> Vec<Arc<str>> {
        self.living().guards.values().cloned().collect()
    }

    fn living(&self) -> MutexGuard<'_, Living> {
        self.0.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
