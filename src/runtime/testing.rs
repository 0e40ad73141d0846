//! For tests of actors: an incarnation without a supervisor. A test must not end with actors that still run:
//! the harness's drop fails it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exit_guard::{Exit, Report};
use super::placement::Placement;
use super::status::{StatusBoard, UnitStatus};
use super::unit::{Conditions, Incarnation};

/// How long anything may take in a test; in paused time it passes at once when nothing else is due before.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Stands where a supervisor would: hands out an incarnation, takes the reports of its guards.
pub struct Harness {
    incarnation: Incarnation,
    reports: UnboundedReceiver<Report>,
    heard: Vec<(Arc<str>, Exit)>,
    board: StatusBoard,
}

impl Harness {
    /// All actors on the test's own arbiter; `tokio::time::pause()` works.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self::placed(Placement::Current)
    }

    /// Actors where the placement says.
    pub fn placed(placement: Placement) -> Self {
        let board = StatusBoard::new(["test"]);
        board.begin("test", 1);
        let (incarnation, reports) = Incarnation::new(Conditions {
            unit: "test".into(),
            generation: 1,
            cancel: CancellationToken::new(),
            drain: CancellationToken::new(),
            placement,
            board: board.clone(),
        });
        Self { incarnation, reports, heard: Vec::new(), board }
    }

    /// What a unit's start function gets.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation.clone()
    }

    /// The unit as the status page has it: actors and their notes.
    pub fn unit(&self) -> UnitStatus {
        self.board.unit("test").expect("the harness declared it")
    }

    /// Tells sources to stop.
    pub fn drain(&self) {
        self.incarnation.drain_ref().cancel();
    }

    /// Tells everything to end at once.
    pub fn cancel(&self) {
        self.incarnation.cancel_ref().cancel();
    }

    /// Waits until the actor ended.
    pub async fn exit(&mut self, actor: &str) -> Exit {
        loop {
            if let Some(at) = self.heard.iter().position(|(name, _)| &**name == actor) {
                return self.heard.remove(at).1;
            }
            let alive = self.incarnation.alive();
            match timeout(LIMIT, self.reports.recv()).await {
                Ok(Some(report)) => self.heard.push((report.actor, report.exit)),
                _ => panic!("{actor} did not end within {LIMIT:?}; alive: {alive:?}"),
            }
        }
    }

    /// Waits until all actors ended; returns them in the order in which they did, those already asked for left out.
    pub async fn ended(mut self) -> Vec<(String, Exit)> {
        loop {
            // Asked before the reports are taken, an actor might end between the two: its report would be taken, and
            // another one waited for that never comes.
            self.take_reports();
            let alive = self.incarnation.alive();
            if alive.is_empty() {
                self.take_reports();
                break;
            }
            match timeout(LIMIT, self.reports.recv()).await {
                Ok(Some(report)) => self.heard.push((report.actor, report.exit)),
                _ => panic!("did not end within {LIMIT:?}: {alive:?}"),
            }
        }
        self.incarnation.placement().stop();
        assert!(self.incarnation.placement().join(LIMIT).await, "a thread did not end within {LIMIT:?}");
        self.heard.drain(..).map(|(name, exit)| (name.to_string(), exit)).collect()
    }

    fn take_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.heard.push((report.actor, report.exit));
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let alive = self.incarnation.alive();
        self.incarnation.placement().stop();
        if !alive.is_empty() && !std::thread::panicking() {
            panic!("the test ended while actors still run: {alive:?}; end them, then `ended().await`");
        }
    }
}

/// Waits, with a limit, until one unit is as asked.
pub async fn until(board: &StatusBoard, unit: &str, mut holds: impl FnMut(&UnitStatus) -> bool) -> UnitStatus {
    let wanted = board.until(|units| units.iter().any(|u| u.name == unit && holds(u)));
    match timeout(LIMIT, wanted).await {
        Ok(units) => units.into_iter().find(|u| u.name == unit).expect("it was there just now"),
        Err(_) => panic!("not within {LIMIT:?}; it is {:?}", board.unit(unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    #[should_panic(expected = "actors still run: [\"source\"]")]
    async fn a_test_that_leaves_an_actor_running_fails() {
        let harness = Harness::new();
        let _guard = harness.incarnation().guard("source");
        drop(harness);
    }

    #[actix::test]
    async fn the_harness_tells_in_which_order_actors_ended() {
        let harness = Harness::new();
        let (first, second) = (harness.incarnation().guard("first"), harness.incarnation().guard("second"));
        second.finish();
        drop(second);
        first.fail("no more disk", false);
        drop(first);
        let failed = Exit::Failed { error: "no more disk".into(), fatal: false };
        assert_eq!(harness.ended().await, [("second".into(), Exit::Finished), ("first".into(), failed)]);
    }
}
