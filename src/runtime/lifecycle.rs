//! The life of one unit: built, run, taken down, waited for, built again. It must never have two incarnations
//! at work, save for actors that would not end within the policy's limit.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Budget};
use super::exit_guard::{Exit, Report};
use super::panics;
use super::placement::Placement;
use super::status::{ActorState, StatusBoard, UnitState};
use super::supervisor::OnRestart;
use super::unit::{Conditions, Incarnation, StartError, UnitSpec};

/// The name under which the start function itself is reported.
const START: &str = "start";
/// How long actors get to hear a stop at once before they are dropped where they wait.
const STOP_GRACE: Duration = Duration::from_millis(300);
/// How long a dropped actor may take to unwind; only a thread that blocks takes longer.
const DROP_GRACE: Duration = Duration::from_millis(500);
/// How long a thread whose actors have ended may take to close its runtime.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

/// One unit with all that outlives its incarnations.
pub(super) struct Lifecycle {
    pub(super) spec: UnitSpec,
    pub(super) board: StatusBoard,
    pub(super) placement: Placement,
    /// Ends the unit in order.
    pub(super) drain: CancellationToken,
    /// Ends it at once.
    pub(super) stop: CancellationToken,
    pub(super) seed: Option<u64>,
    pub(super) on_restart: Option<OnRestart>,
}

/// How an incarnation came to its end. By then its actors are gone.
enum End {
    Finished,
    NotStarted(StartError),
    Down(Report),
}

impl Lifecycle {
    /// Runs until the unit has ended, in order or for good.
    pub(super) async fn run(self) {
        let policy = &self.spec.policy;
        let mut backoff = Backoff::new(policy.initial, policy.max, self.seed);
        let mut budget = Budget::new(policy);
        let mut generation = 0;
        // Failures in a row, none of which came after a time without one. Refused starts are none: they end where a
        // start is not refused.
        let mut relapses: u32 = 0;
        let last = loop {
            if self.ending() {
                break UnitState::Stopped;
            }
            generation += 1;
            let mut running_since = None;
            let delay = match self.incarnation(generation, relapses > 2, &mut running_since).await {
                End::Finished => break UnitState::Stopped,
                End::NotStarted(error) => {
                    self.board.failed(self.name(), error.message.clone());
                    if error.fatal {
                        tracing::error!(
                            unit = self.name(),
                            error = error.message,
                            "can't start and is given up; the others go on"
                        );
                        break UnitState::Failed;
                    }
                    let delay = backoff.next_delay();
                    tracing::warn!(
                        unit = self.name(),
                        error = error.message,
                        attempt = backoff.attempt(),
                        next_try_in = ?delay,
                        "can't start; will be tried again until it can"
                    );
                    delay
                }
                End::Down(report) => {
                    let Report { actor, exit, backtrace } = report;
                    self.board.failed(self.name(), format!("{actor}: {exit}"));
                    if running_since.is_some_and(|since: Instant| since.elapsed() >= policy.healthy_after) {
                        backoff.reset();
                        relapses = 0;
                    }
                    relapses += 1;
                    let passing = matches!(exit, Exit::Passing { .. });
                    let given_up = exit.is_fatal() || !(self.ending() || passing || budget.spend(Instant::now()));
                    if given_up || self.ending() {
                        let what_now = match () {
                            () if !given_up => "failed while it was ending; it is not built again",
                            () if exit.is_fatal() => "failed for good and is not built again; the others go on",
                            () => "failed more often than its restart budget allows and is given up; the others go on",
                        };
                        tracing::error!(unit = self.name(), actor = &*actor, generation, error = %exit, backtrace, "{what_now}");
                        break if given_up { UnitState::Failed } else { UnitState::Stopped };
                    }
                    let delay = backoff.next_delay();
                    if passing {
                        tracing::warn!(
                            unit = self.name(),
                            actor = &*actor,
                            generation,
                            error = %exit,
                            attempt = backoff.attempt(),
                            next_try_in = ?delay,
                            "can't go on for now; the unit is built again, however often it takes"
                        );
                    } else {
                        tracing::error!(
                            unit = self.name(),
                            actor = &*actor,
                            generation,
                            error = %exit,
                            backtrace,
                            attempt = backoff.attempt(),
                            next_try_in = ?delay,
                            "failed; the unit is built again"
                        );
                    }
                    self.board.restarting(self.name(), &actor);
                    if let Some(on_restart) = &self.on_restart {
                        on_restart(self.name(), &actor, &exit);
                    }
                    delay
                }
            };
            let next_try_at = Utc::now() + TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
            self.board.enter(self.name(), UnitState::BackingOff { attempt: backoff.attempt(), next_try_at });
            tokio::select! {
                biased;
                () = sleep(delay) => {}
                () = self.drain.cancelled() => {}
                () = self.stop.cancelled() => {}
            }
        };
        self.board.enter(self.name(), last);
    }

    /// `on_trial`: the last ones failed one after the other, so that running alone says little.
    async fn incarnation(&self, generation: u64, on_trial: bool, running_since: &mut Option<Instant>) -> End {
        self.board.begin(self.name(), generation);
        let (incarnation, mut reports) = Incarnation::new(Conditions {
            unit: self.name().into(),
            generation,
            cancel: self.stop.child_token(),
            drain: self.drain.child_token(),
            placement: self.placement,
            board: self.board.clone(),
        });
        let end = self.start_and_watch(&incarnation, &mut reports, on_trial, running_since).await;
        self.take_down(&incarnation, &mut reports, end).await
    }

    /// Until the incarnation ended by itself, or must be ended.
    async fn start_and_watch(
        &self,
        incarnation: &Incarnation,
        reports: &mut UnboundedReceiver<Report>,
        mut on_trial: bool,
        running_since: &mut Option<Instant>,
    ) -> End {
        let start = async { (self.spec.start)(incarnation.clone()).await };
        let start = AssertUnwindSafe(panics::in_actor(START.into(), start)).catch_unwind();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return End::Finished,
            () = self.drain.cancelled() => return End::Finished,
            down = self.first_failure(reports) => return End::Down(down),
            started = start => match started {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return End::NotStarted(error),
                Err(payload) => {
                    let exit = Exit::Panicked { message: panics::text_of(&*payload) };
                    return End::Down(Report { actor: START.into(), exit, backtrace: None });
                }
            },
        }
        let began = Instant::now();
        *running_since = Some(began);
        self.board.enter(self.name(), UnitState::Running);
        if !on_trial {
            self.board.well(self.name());
        }
        tracing::info!(unit = self.name(), generation = incarnation.generation(), "running");
        let mut draining = false;
        loop {
            if let Some(end) = self.all_ended(incarnation, reports) {
                return end;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Finished,
                Some(report) = reports.recv() => {
                    self.note_exit(incarnation, &report);
                    if report.exit != Exit::Finished {
                        return End::Down(report);
                    }
                }
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    self.board.enter(self.name(), UnitState::Draining);
                }
                () = sleep_until(began + self.spec.policy.healthy_after), if on_trial => {
                    on_trial = false;
                    self.board.well(self.name());
                }
            }
        }
    }

    /// Ends what still runs: told, then dropped where it waits, then left behind. Until then no other
    /// incarnation may begin.
    async fn take_down(&self, incarnation: &Incarnation, reports: &mut UnboundedReceiver<Report>, end: End) -> End {
        incarnation.cancel_ref().cancel();
        let mut end = end;
        let told_at_once = async {
            self.stop.cancelled().await;
            sleep(STOP_GRACE).await;
        };
        let gone = tokio::select! {
            biased;
            () = self.gather(incarnation, reports, &mut end) => true,
            () = told_at_once => false,
            () = sleep(self.spec.policy.abandon_after) => false,
        };
        if !gone {
            tracing::warn!(
                unit = self.name(),
                generation = incarnation.generation(),
                actors = %names(&incarnation.alive()),
                "did not end when told to; they are dropped where they wait"
            );
        }
        incarnation.placement().stop();
        let gone = gone || timeout(DROP_GRACE, self.gather(incarnation, reports, &mut end)).await.is_ok();
        if gone {
            if !incarnation.placement().join(JOIN_LIMIT).await {
                tracing::warn!(
                    unit = self.name(),
                    generation = incarnation.generation(),
                    "a thread did not close in time"
                );
            }
        } else {
            let left = incarnation.alive();
            tracing::error!(
                unit = self.name(),
                generation = incarnation.generation(),
                actors = %names(&left),
                "still blocked and left behind; only fencing in the database keeps them from writing"
            );
            for actor in left {
                self.board.actor_ended(self.name(), incarnation.generation(), &actor, ActorState::Abandoned);
            }
        }
        end
    }

    /// Takes reports until no actor is left, and keeps the weightiest failure as the cause.
    async fn gather(&self, incarnation: &Incarnation, reports: &mut UnboundedReceiver<Report>, end: &mut End) {
        loop {
            // Looked at before the channel: what ended before is in it.
            let none_left = incarnation.alive().is_empty();
            while let Ok(report) = reports.try_recv() {
                self.weigh(incarnation, report, end);
            }
            if none_left {
                return;
            }
            match reports.recv().await {
                Some(report) => self.weigh(incarnation, report, end),
                None => return,
            }
        }
    }

    fn weigh(&self, incarnation: &Incarnation, report: Report, end: &mut End) {
        self.note_exit(incarnation, &report);
        let present = match end {
            End::Finished => 0,
            // What made the start fail stands, unless an actor broke.
            End::NotStarted(_) => 1,
            End::Down(cause) => cause.exit.weight(),
        };
        let echo = if report.exit.weight() > present {
            match std::mem::replace(end, End::Down(report)) {
                End::Down(echo) => echo,
                _ => return,
            }
        } else {
            report
        };
        if echo.exit != Exit::Finished {
            tracing::debug!(unit = self.name(), actor = &*echo.actor, error = %echo.exit, "failed too");
        }
    }

    async fn first_failure(&self, reports: &mut UnboundedReceiver<Report>) -> Report {
        // While starting, an actor may well have finished already.
        loop {
            match reports.recv().await {
                Some(report) if report.exit != Exit::Finished => return report,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// `Some` when no actor is left.
    fn all_ended(&self, incarnation: &Incarnation, reports: &mut UnboundedReceiver<Report>) -> Option<End> {
        if !incarnation.alive().is_empty() {
            return None;
        }
        let mut end = End::Finished;
        while let Ok(report) = reports.try_recv() {
            self.weigh(incarnation, report, &mut end);
        }
        Some(end)
    }

    fn note_exit(&self, incarnation: &Incarnation, report: &Report) {
        let state = ActorState::from(&report.exit);
        self.board.actor_ended(self.name(), incarnation.generation(), &report.actor, state);
    }

    fn ending(&self) -> bool {
        self.drain.is_cancelled() || self.stop.is_cancelled()
    }

    fn name(&self) -> &str {
        &self.spec.name
    }
}

fn names(actors: &[Arc<str>]) -> String {
    actors.join(", ")
}
