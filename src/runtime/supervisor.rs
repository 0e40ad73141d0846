//! Keeps all units alive and ends them in order. It must never wait for a unit in a way that holds up
//! another, and never be asked for what the board tells.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message, MessageResult, ResponseFuture};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exit_guard::Exit;
use super::lifecycle::Lifecycle;
use super::placement::Placement;
use super::status::{ActorState, StatusBoard, UnitState, UnitStatus};
use super::unit::UnitSpec;

/// Called with unit, actor and how it ended, once for each restart. An actor named `start` stands for the
/// start function. It must not block.
pub type OnRestart = Arc<dyn Fn(&str, &str, &Exit) + Send + Sync>;

/// What a supervisor may be told.
#[derive(Clone, Default)]
pub struct Options {
    pub placement: Placement,
    /// Makes the waits between restarts repeatable.
    pub seed: Option<u64>,
    pub on_restart: Option<OnRestart>,
}

/// Answers with the board's present state. [`SupervisorHandle::board`] tells the same without a question.
#[derive(Debug, Clone, Copy)]
pub struct Status;

impl Message for Status {
    type Result = Vec<UnitStatus>;
}

/// Ends all units in order, sources first. The answer comes when all have ended, within the deadline at
/// the latest: what has not ended by nine tenths of it is cut.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    pub deadline: Duration,
}

impl Message for Drain {
    type Result = Drained;
}

/// How a drain went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Empty when everything ended by itself.
    pub cut: Vec<CutActor>,
}

/// An actor that had not ended when the drain's time was up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CutActor {
    pub unit: String,
    pub actor: String,
}

/// The actor that keeps the units.
pub struct Supervisor {
    waiting: Vec<Lifecycle>,
    board: StatusBoard,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Supervisor {
    /// Starts a supervisor and all its units on the present thread's arbiter; the units' actors go where
    /// the placement says. Names of units are unique.
    pub fn launch(units: Vec<UnitSpec>, options: Options) -> SupervisorHandle {
        let board = StatusBoard::new(units.iter().map(|unit| unit.name.as_str()));
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let waiting = (0u64..)
            .zip(units)
            .map(|(n, spec)| Lifecycle {
                spec,
                board: board.clone(),
                placement: options.placement,
                drain: drain.clone(),
                stop: stop.clone(),
                seed: options.seed.map(|seed| seed.wrapping_add(n)),
                on_restart: options.on_restart.clone(),
            })
            .collect();
        let addr = Supervisor { waiting, board: board.clone(), drain, stop: stop.clone() }.start();
        SupervisorHandle { addr, board, stop }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        for unit in self.waiting.drain(..) {
            let (board, name) = (self.board.clone(), unit.spec.name.clone());
            let life = actix::spawn(unit.run());
            // A hook that panics must not leave its unit for dead while it is shown as running.
            actix::spawn(async move {
                if let Err(error) = life.await
                    && error.is_panic()
                {
                    tracing::error!(unit = name, %error, "its supervision panicked; it is given up");
                    board.failed(&name, format!("its supervision panicked: {error}"));
                    board.enter(&name, UnitState::Failed);
                }
            });
        }
    }
}

impl Handler<Status> for Supervisor {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.board.snapshot())
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ResponseFuture<Drained>;

    fn handle(&mut self, Drain { deadline }: Drain, _: &mut Context<Self>) -> Self::Result {
        self.drain.cancel();
        let (board, stop) = (self.board.clone(), self.stop.clone());
        Box::pin(async move {
            let for_the_cut = deadline / 10;
            if timeout(deadline - for_the_cut, board.ended()).await.is_ok() {
                return Drained::default();
            }
            let cut = running_actors(&board);
            tracing::error!(
                ?deadline,
                ?cut,
                "did not drain in time and is cut; what was not committed is read again at the next start"
            );
            stop.cancel();
            let _ = timeout(for_the_cut, board.ended()).await;
            Drained { cut }
        })
    }
}

fn running_actors(board: &StatusBoard) -> Vec<CutActor> {
    let unended = board.snapshot().into_iter().filter(|unit| !unit.state.has_ended());
    unended
        .flat_map(|unit| {
            let UnitStatus { name, actors, .. } = unit;
            let running = actors.into_iter().filter(|actor| actor.state == ActorState::Running);
            running.map(move |actor| CutActor { unit: name.clone(), actor: actor.name })
        })
        .collect()
}

/// How the rest of the program reaches the supervisor, from any thread.
#[derive(Clone)]
pub struct SupervisorHandle {
    addr: Addr<Supervisor>,
    board: StatusBoard,
    stop: CancellationToken,
}

impl SupervisorHandle {
    /// For messages.
    pub fn addr(&self) -> &Addr<Supervisor> {
        &self.addr
    }

    /// What everything is doing, without asking the supervisor.
    pub fn board(&self) -> &StatusBoard {
        &self.board
    }

    /// The same, once.
    pub fn status(&self) -> Vec<UnitStatus> {
        self.board.snapshot()
    }

    /// See [`Drain`]. Called twice, the earlier deadline counts.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        match self.addr.send(Drain { deadline }).await {
            Ok(drained) => drained,
            // The supervisor's arbiter is gone: what ran on other threads is told to stop.
            Err(_) => {
                self.stop.cancel();
                Drained { cut: running_actors(&self.board) }
            }
        }
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
