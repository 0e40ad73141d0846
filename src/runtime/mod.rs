//! Actors under supervision: restarts, backoff, panics, placement on threads, drain.
//! Generic: it must never know a record, SQL or a topic; it depends on nothing else of this crate.
//!
//! The parts, from the outside in:
//! - [`Supervisor`] keeps [units](UnitSpec) alive. A unit is what is rebuilt together: a pipeline, or a lone actor.
//! - Each life of a unit is an [`Incarnation`] with a generation number. Its actors take an [`ExitGuard`] each and
//!   are started through [`Incarnation::placement`].
//! - An actor that nobody sends anything is a [`Lone`] one around its [`Work`].
//! - A guard that is dropped tells how its actor ended. The first that did not finish takes the whole unit down;
//!   when all are gone the unit waits ([`RestartPolicy`]) and is built anew.
//! - Units take memory for what is on its way from one [`Budget`] of bytes.
//! - A program that runs beside the daemon is a [`child`], within limits and never left behind.
//! - What goes on is on the [`StatusBoard`], readable without asking anyone.
//!
//! `docs/decisions/0003-supervision.md` says why it is like this.

mod backoff;
mod budget;
pub mod child;
mod exit_guard;
mod lifecycle;
mod lone;
pub mod panics;
mod placement;
pub mod signals;
#[cfg(test)]
mod simulation_tests;
mod status;
mod supervisor;
#[cfg(test)]
pub mod testing;
mod unit;

pub use backoff::{Backoff, RestartPolicy, seed_backoffs};
pub use budget::{Budget, Permit, Share};
pub use exit_guard::{Exit, ExitGuard};
pub use lone::{Lone, Work};
pub use placement::{Arbiters, Placement};
pub use status::{ActorState, ActorStatus, StatusBoard, UnitState, UnitStatus};
pub use supervisor::{CutActor, Drain, Drained, OnRestart, Options, Status, Supervisor, SupervisorHandle};
pub use unit::{Incarnation, StartError, UnitSpec};
