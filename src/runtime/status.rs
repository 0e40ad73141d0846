//! What each unit and actor is doing, readable at any time without asking anyone. Holds no history.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::watch;

use super::exit_guard::Exit;

/// Where a unit is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UnitState {
    Starting,
    Running,
    /// It failed, or could not be started; `attempt` counts from 1 since it was last healthy.
    BackingOff {
        attempt: u32,
        next_try_at: DateTime<Utc>,
    },
    /// Told to end; its actors finish what they have.
    Draining,
    /// Ended in order.
    Stopped,
    /// Given up: a fatal failure, or more restarts than allowed. Others go on.
    Failed,
}

impl UnitState {
    /// Nothing more will happen.
    pub fn has_ended(&self) -> bool {
        matches!(self, UnitState::Stopped | UnitState::Failed)
    }
}

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    Running,
    Finished,
    Failed,
    Panicked,
    /// Did not end when it was told to and was left behind; it may still run.
    Abandoned,
}

impl From<&Exit> for ActorState {
    fn from(exit: &Exit) -> Self {
        match exit {
            Exit::Finished => ActorState::Finished,
            Exit::Passing { .. } | Exit::Failed { .. } => ActorState::Failed,
            Exit::Panicked { .. } => ActorState::Panicked,
        }
    }
}

/// One actor, as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorStatus {
    pub name: String,
    pub state: ActorState,
    /// Restarts of its unit that this actor was the cause of.
    pub restarts: u64,
    /// What it said it is about, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(skip)]
    generation: u64,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitStatus {
    pub name: String,
    #[serde(flatten)]
    pub state: UnitState,
    /// How often it was built; the first is 1.
    pub generation: u64,
    /// How often it was built again after a failure; refused starts are not counted.
    pub restarts: u64,
    pub last_error: Option<String>,
    /// When it came into its present state.
    pub since: DateTime<Utc>,
    /// Since when it has not been well: it could not be started, or was built again. Over once it runs; where it failed
    /// again and again, once it has run for the policy's `healthy_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
    /// The actors of the present incarnation, or of the last one until the next runs.
    pub actors: Vec<ActorStatus>,
}

/// All units of a supervisor. Cheap to clone; all clones are one board.
#[derive(Debug, Clone)]
pub struct StatusBoard(Arc<watch::Sender<Vec<UnitStatus>>>);

impl StatusBoard {
    /// A board with these units, all about to start. Outside the runtime only tests make one.
    pub fn new<'a>(units: impl IntoIterator<Item = &'a str>) -> Self {
        let units = units.into_iter().map(|name| UnitStatus {
            name: name.to_owned(),
            state: UnitState::Starting,
            generation: 0,
            restarts: 0,
            last_error: None,
            since: Utc::now(),
            failing_since: None,
            actors: Vec::new(),
        });
        Self(Arc::new(watch::Sender::new(units.collect())))
    }

    /// Everything, as it is now.
    pub fn snapshot(&self) -> Vec<UnitStatus> {
        self.0.borrow().clone()
    }

    /// One unit, as it is now.
    pub fn unit(&self, name: &str) -> Option<UnitStatus> {
        self.0.borrow().iter().find(|unit| unit.name == name).cloned()
    }

    /// Wakes its holder at each change.
    pub fn changes(&self) -> watch::Receiver<Vec<UnitStatus>> {
        self.0.subscribe()
    }

    /// Waits until the units are as asked and returns them as they were then.
    pub async fn until(&self, mut holds: impl FnMut(&[UnitStatus]) -> bool) -> Vec<UnitStatus> {
        let mut changes = self.0.subscribe();
        match changes.wait_for(|units| holds(units)).await {
            Ok(units) => units.clone(),
            // The board outlives this call, so the channel can't close.
            Err(_) => self.snapshot(),
        }
    }

    /// Waits until every unit has ended, in order or not.
    pub async fn ended(&self) -> Vec<UnitStatus> {
        self.until(|units| units.iter().all(|unit| unit.state.has_ended())).await
    }

    pub(super) fn enter(&self, unit: &str, state: UnitState) {
        self.change(unit, |u| {
            if state == UnitState::Running {
                u.actors.retain(|a| a.generation == u.generation);
            }
            u.state = state;
            u.since = Utc::now();
            true
        });
    }

    pub(super) fn begin(&self, unit: &str, generation: u64) {
        self.change(unit, |u| {
            u.generation = generation;
            u.state = UnitState::Starting;
            u.since = Utc::now();
            true
        });
    }

    pub(super) fn failed(&self, unit: &str, error: String) {
        self.change(unit, |u| {
            u.last_error = Some(error);
            u.failing_since.get_or_insert_with(Utc::now);
            true
        });
    }

    pub(super) fn well(&self, unit: &str) {
        self.change(unit, |u| u.failing_since.take().is_some());
    }

    /// The unit is built again because of what this actor did.
    pub(super) fn restarting(&self, unit: &str, actor: &str) {
        self.change(unit, |u| {
            u.restarts += 1;
            match u.actors.iter_mut().find(|a| a.name == actor) {
                Some(a) => a.restarts += 1,
                None => u.actors.push(ActorStatus {
                    name: actor.to_owned(),
                    state: ActorState::Failed,
                    restarts: 1,
                    note: None,
                    generation: u.generation,
                }),
            }
            true
        });
    }

    pub(super) fn actor_started(&self, unit: &str, generation: u64, actor: &str) {
        self.change(unit, |u| {
            if u.generation != generation {
                return false;
            }
            match u.actors.iter_mut().find(|a| a.name == actor && a.generation < generation) {
                Some(a) => {
                    a.state = ActorState::Running;
                    a.note = None;
                    a.generation = generation;
                }
                None => u.actors.push(ActorStatus {
                    name: actor.to_owned(),
                    state: ActorState::Running,
                    restarts: 0,
                    note: None,
                    generation,
                }),
            }
            true
        });
    }

    pub(super) fn actor_ended(&self, unit: &str, generation: u64, actor: &str, state: ActorState) {
        self.change(unit, |u| {
            let running =
                |a: &&mut ActorStatus| a.name == actor && a.generation == generation && a.state == ActorState::Running;
            let Some(a) = u.actors.iter_mut().find(running) else { return false };
            a.state = state;
            true
        });
    }

    /// Words of an incarnation that is over are dropped.
    pub(super) fn note(&self, unit: &str, generation: u64, actor: &str, note: String) {
        self.change(unit, |u| match u.actors.iter_mut().find(|a| a.name == actor && a.generation == generation) {
            Some(a) if a.note.as_deref() != Some(&note) => {
                a.note = Some(note);
                true
            }
            _ => false,
        });
    }

    fn change(&self, unit: &str, change: impl FnOnce(&mut UnitStatus) -> bool) {
        self.0.send_if_modified(|units| units.iter_mut().find(|u| u.name == unit).is_some_and(change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_one_flat_object_in_json() {
        let board = StatusBoard::new(["pipeline"]);
        board.begin("pipeline", 3);
        board.actor_started("pipeline", 3, "writer");
        board.note("pipeline", 3, "writer", "the database does not answer".into());
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
        board.enter("pipeline", UnitState::BackingOff { attempt: 2, next_try_at: at });
        let mut json = serde_json::to_value(board.snapshot()).expect("plain data");
        json[0]["since"] = "…".into();
        assert_eq!(
            json,
            serde_json::json!([{
                "name": "pipeline", "state": "backing_off", "attempt": 2, "next_try_at": "2023-11-14T22:13:20Z",
                "generation": 3, "restarts": 0, "last_error": null, "since": "…",
                "actors": [{"name": "writer", "state": "running", "restarts": 0, "note": "the database does not answer"}],
            }])
        );
    }

    #[test]
    fn a_word_from_an_earlier_incarnation_is_not_shown() {
        let board = StatusBoard::new(["pipeline"]);
        board.begin("pipeline", 1);
        board.actor_started("pipeline", 1, "writer");
        board.begin("pipeline", 2);
        board.actor_started("pipeline", 2, "writer");
        board.note("pipeline", 1, "writer", "late".into());
        board.actor_ended("pipeline", 1, "writer", ActorState::Failed);
        let writer = &board.snapshot()[0].actors[0];
        assert_eq!((writer.note.as_deref(), writer.state), (None, ActorState::Running));
    }

    #[test]
    fn actors_that_the_next_incarnation_has_no_more_leave_the_board_and_counts_stay() {
        let board = StatusBoard::new(["pipeline"]);
        board.begin("pipeline", 1);
        board.actor_started("pipeline", 1, "writer-0");
        board.actor_started("pipeline", 1, "writer-1");
        board.restarting("pipeline", "writer-0");
        board.begin("pipeline", 2);
        board.actor_started("pipeline", 2, "writer-0");
        board.enter("pipeline", UnitState::Running);
        let unit = board.unit("pipeline").expect("declared");
        assert_eq!(unit.restarts, 1);
        assert_eq!(unit.actors.iter().map(|a| (a.name.as_str(), a.restarts)).collect::<Vec<_>>(), [("writer-0", 1)]);
    }
}
