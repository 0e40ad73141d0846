//! The supervisor with real actors: a source, a relay that can be told to break, a sink.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use actix::{ActorContext, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::super::backoff::{Backoff, RestartPolicy};
use super::super::exit_guard::ExitGuard;
use super::super::panics;
use super::super::testing::{Harness, LIMIT, until};
use super::super::unit::{Incarnation, StartError};
use super::*;

/// What the relay does at its third item, or at the moment named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    PanicInMake,
    PanicInStarted,
    PanicInStreamHandler,
    PanicInWait,
    PanicInSpawned,
    Error,
    Fatal,
    StopWithoutAWord,
    /// Waits for what never comes, deaf to cancellation.
    Hang,
}

struct Source {
    tx: Option<mpsc::Sender<u64>>,
    guard: ExitGuard,
}

impl Actor for Source {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let tx = self.tx.take().expect("started once");
        let (drain, cancel) = (self.guard.draining().clone(), self.guard.cancelled().clone());
        let poll = async move {
            for n in 0.. {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Ok(()),
                    () = drain.cancelled() => return Ok(()),
                    sent = tx.send(n) => sent.map_err(|_| "downstream is gone")?,
                }
                sleep(Duration::from_micros(100)).await;
            }
            Ok(())
        };
        ctx.wait(poll.into_actor(self).map(|ended: Result<(), &str>, source, ctx| {
            match ended {
                Ok(()) => source.guard.finish(),
                Err(error) => source.guard.fail(error, false),
            }
            ctx.stop();
        }));
    }
}

struct Relay {
    rx: Option<mpsc::Receiver<u64>>,
    tx: mpsc::Sender<u64>,
    fault: Fault,
    guard: ExitGuard,
}

impl Actor for Relay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        assert_ne!(self.fault, Fault::PanicInStarted, "broken while starting");
        ctx.add_stream(ReceiverStream::new(self.rx.take().expect("started once")));
    }
}

impl StreamHandler<u64> for Relay {
    fn handle(&mut self, n: u64, ctx: &mut Context<Self>) {
        let tx = self.tx.clone();
        let send = async move { tx.send(n).await };
        if n == 3 {
            match self.fault {
                Fault::PanicInStreamHandler => panic!("item 3 is cursed"),
                Fault::PanicInWait => ctx.wait(async { panic!("item 3 is cursed") }.into_actor(self)),
                Fault::PanicInSpawned => drop(ctx.spawn(async { panic!("item 3 is cursed") }.into_actor(self))),
                Fault::Error | Fault::Fatal => {
                    self.guard.fail("item 3 is refused", self.fault == Fault::Fatal);
                    return ctx.stop();
                }
                Fault::StopWithoutAWord => return ctx.stop(),
                Fault::Hang => {
                    self.guard.report_state("hangs");
                    return ctx.wait(std::future::pending().into_actor(self));
                }
                Fault::None | Fault::PanicInMake | Fault::PanicInStarted => {}
            }
        }
        ctx.wait(send.into_actor(self).map(|sent, relay, ctx| {
            if sent.is_err() {
                relay.guard.fail("downstream is gone", false);
                ctx.stop();
            }
        }));
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        self.guard.finish();
        ctx.stop();
    }
}

struct Sink {
    rx: Option<mpsc::Receiver<u64>>,
    seen: Seen,
    guard: ExitGuard,
}

impl Actor for Sink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(ReceiverStream::new(self.rx.take().expect("started once")));
    }
}

impl StreamHandler<u64> for Sink {
    fn handle(&mut self, n: u64, _: &mut Context<Self>) {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(n);
        self.seen.1.notify_waiters();
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        self.guard.finish();
        ctx.stop();
    }
}

/// What came to the sink, over all incarnations.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u64>>>, Arc<tokio::sync::Notify>);

impl Seen {
    fn items(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for item `n` of the present incarnation.
    async fn reaches(&self, n: u64) {
        let wait = async {
            loop {
                let notified = self.1.notified();
                if self.items().last().is_some_and(|last| *last >= n) {
                    return;
                }
                notified.await;
            }
        };
        timeout(LIMIT, wait).await.expect("items arrive");
    }
}

fn pipeline(incarnation: &Incarnation, fault: Fault, seen: &Seen) {
    let (to_relay, from_source) = mpsc::channel(4);
    let (to_sink, from_relay) = mpsc::channel(4);
    let place = incarnation.placement();
    let guard = incarnation.guard("sink");
    let seen = seen.clone();
    place.start("sink", move |_| Sink { rx: Some(from_relay), seen, guard });
    let guard = incarnation.guard("relay");
    place.start("relay", move |_| {
        assert_ne!(fault, Fault::PanicInMake, "broken while being made");
        Relay { rx: Some(from_source), tx: to_sink, fault, guard }
    });
    let guard = incarnation.guard("source");
    place.start("source", move |_| Source { tx: Some(to_relay), guard });
}

/// A pipeline whose relay breaks as `fault` tells for each generation.
fn unit(name: &str, policy: RestartPolicy, seen: &Seen, fault: impl Fn(u64) -> Fault + 'static) -> UnitSpec {
    let seen = seen.clone();
    UnitSpec::new(name, policy, move |incarnation| {
        pipeline(&incarnation, fault(incarnation.generation()), &seen);
        Box::pin(async { Ok(()) })
    })
}

/// A unit whose only actor is the test's: it gets the guard of each generation.
fn lone(policy: RestartPolicy) -> (UnitSpec, mpsc::UnboundedReceiver<ExitGuard>) {
    let (tx, rx) = mpsc::unbounded_channel();
    let spec = UnitSpec::new("lone", policy, move |incarnation| {
        let _ = tx.send(incarnation.guard("actor"));
        Box::pin(async { Ok(()) })
    });
    (spec, rx)
}

fn policy() -> RestartPolicy {
    RestartPolicy {
        initial: Duration::from_millis(2),
        max: Duration::from_millis(20),
        healthy_after: Duration::from_secs(60),
        budget: 5,
        window: Duration::from_secs(600),
        abandon_after: Duration::from_secs(2),
    }
}

fn launch(units: Vec<UnitSpec>, placement: Placement) -> (SupervisorHandle, Arc<AtomicU64>) {
    panics::install();
    let restarts = Arc::new(AtomicU64::new(0));
    let counted = restarts.clone();
    let on_restart: OnRestart = Arc::new(move |_, _, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (Supervisor::launch(units, Options { placement, seed: Some(7), on_restart: Some(on_restart) }), restarts)
}

/// Runs a test with all actors on its own arbiter in paused time, then with a thread for each.
fn on_both_placements(test: impl AsyncFn(Placement)) {
    for placement in [Placement::Current, Placement::Threads] {
        actix::System::new().block_on(async {
            if placement == Placement::Current {
                tokio::time::pause();
            }
            test(placement).await;
        });
    }
}

fn hangs(unit: &UnitStatus) -> bool {
    unit.actors.iter().any(|a| a.note.as_deref() == Some("hangs"))
}

fn actor(unit: &UnitStatus, name: &str) -> (ActorState, u64) {
    let found = unit.actors.iter().find(|a| a.name == name).unwrap_or_else(|| panic!("no {name} in {unit:?}"));
    (found.state, found.restarts)
}

#[test]
fn a_relay_that_breaks_is_survived_counted_and_the_whole_unit_is_rebuilt() {
    let cursed = "relay: panicked: item 3 is cursed at src/runtime/supervisor_tests.rs:";
    for (fault, error) in [
        (Fault::PanicInMake, "relay: panicked: assertion `left != right` failed: broken while being made"),
        (Fault::PanicInStarted, "relay: panicked: assertion `left != right` failed: broken while starting"),
        (Fault::PanicInStreamHandler, cursed),
        (Fault::PanicInWait, cursed),
        (Fault::PanicInSpawned, cursed),
        (Fault::Error, "relay: item 3 is refused"),
        (Fault::StopWithoutAWord, "relay: dropped without saying why"),
    ] {
        on_both_placements(async |placement| {
            let seen = Seen::default();
            let breaks_once = move |generation| if generation == 1 { fault } else { Fault::None };
            let (supervisor, restarts) = launch(vec![unit("pipeline", policy(), &seen, breaks_once)], placement);
            let running = |u: &UnitStatus| u.generation == 2 && u.state == UnitState::Running;
            let now = until(supervisor.board(), "pipeline", running).await;
            let last_error = now.last_error.clone().unwrap_or_default();
            assert!(last_error.starts_with(error), "{fault:?} on {placement:?}: {last_error}");
            assert_eq!((now.restarts, restarts.load(Ordering::SeqCst)), (1, 1), "{fault:?} on {placement:?}");
            assert_eq!(actor(&now, "relay"), (ActorState::Running, 1));
            assert_eq!(
                (actor(&now, "source"), actor(&now, "sink")),
                ((ActorState::Running, 0), (ActorState::Running, 0))
            );
            seen.reaches(20).await;
            assert_eq!(supervisor.drain(LIMIT).await, Drained::default());
            let second = seen.items().iter().rposition(|n| *n == 0).expect("the second life begins at 0");
            let items = &seen.items()[second..];
            assert!(items.iter().copied().eq(0..items.len() as u64), "a gap in {items:?}");
        });
    }
}

#[test]
fn a_panic_is_logged_once_with_the_name_of_its_actor() {
    on_both_placements(async |placement| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let listening = tracing::subscriber::set_default(subscriber);
        let breaks_once = |generation| if generation == 1 { Fault::PanicInStreamHandler } else { Fault::None };
        let (supervisor, _) = launch(vec![unit("pipeline", policy(), &Seen::default(), breaks_once)], placement);
        until(supervisor.board(), "pipeline", |u| u.generation == 2 && u.state == UnitState::Running).await;
        supervisor.drain(LIMIT).await;
        drop(listening);
        let log = log.text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("item 3 is cursed")).collect();
        assert_eq!(lines.len(), 1, "{placement:?}: {log}");
        for part in ["ERROR", "unit=\"pipeline\"", "actor=\"relay\"", "generation=1", "supervisor_tests.rs:"] {
            assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
        }
    });
}

#[test]
fn a_drain_ends_the_source_first_and_everything_it_sent_arrives() {
    on_both_placements(async |placement| {
        let harness = Harness::placed(placement);
        let seen = Seen::default();
        pipeline(&harness.incarnation(), Fault::None, &seen);
        seen.reaches(50).await;
        harness.drain();
        let mut ended = harness.ended().await;
        if placement == Placement::Threads {
            // Its word and its last breath are two moments, and the next thread may be quicker.
            ended.sort_by_key(|(name, _)| std::cmp::Reverse(name.clone()));
            ended.swap(1, 2);
        }
        let finished = |name: &str| (name.to_owned(), Exit::Finished);
        assert_eq!(ended, [finished("source"), finished("relay"), finished("sink")]);
        let items = seen.items();
        assert!(items.len() > 50 && items.iter().copied().eq(0..items.len() as u64), "a gap in {items:?}");
    });
}

#[test]
fn a_fatal_failure_ends_its_unit_and_no_other() {
    on_both_placements(async |placement| {
        let seen = Seen::default();
        let units = vec![
            unit("broken", policy(), &Seen::default(), |_| Fault::Fatal),
            unit("sound", policy(), &seen, |_| Fault::None),
        ];
        let (supervisor, restarts) = launch(units, placement);
        let broken = until(supervisor.board(), "broken", |u| u.state == UnitState::Failed).await;
        assert_eq!(broken.last_error.as_deref(), Some("relay: item 3 is refused"));
        assert_eq!((broken.generation, restarts.load(Ordering::SeqCst)), (1, 0));
        seen.reaches(20).await;
        assert_eq!(supervisor.drain(LIMIT).await, Drained::default());
        let states = supervisor.status().into_iter().map(|u| u.state).collect::<Vec<_>>();
        assert_eq!(states, [UnitState::Failed, UnitState::Stopped]);
    });
}

#[test]
fn an_actor_that_is_deaf_to_cancellation_is_dropped_where_it_waits() {
    on_both_placements(async |placement| {
        let seen = Seen::default();
        let (others, mut other) = mpsc::unbounded_channel();
        let spec = UnitSpec::new("pipeline", RestartPolicy { abandon_after: Duration::from_millis(50), ..policy() }, {
            let seen = seen.clone();
            move |incarnation| {
                let fault = if incarnation.generation() == 1 { Fault::Hang } else { Fault::None };
                pipeline(&incarnation, fault, &seen);
                let _ = others.send(incarnation.guard("other"));
                Box::pin(async { Ok(()) })
            }
        });
        let (supervisor, restarts) = launch(vec![spec], placement);
        until(supervisor.board(), "pipeline", hangs).await;
        other.recv().await.expect("the first life").fail("breaks the unit", false);
        until(supervisor.board(), "pipeline", |u| u.generation == 2 && u.state == UnitState::Running).await;
        assert_eq!(restarts.load(Ordering::SeqCst), 1);
        seen.reaches(20).await;
        other.recv().await.expect("the second life").finish();
        assert_eq!(supervisor.drain(LIMIT).await, Drained::default());
    });
}

#[test]
fn a_drain_that_takes_too_long_cuts_the_actor_and_names_it_within_the_deadline() {
    on_both_placements(async |placement| {
        let (supervisor, _) = launch(vec![unit("pipeline", policy(), &Seen::default(), |_| Fault::Hang)], placement);
        until(supervisor.board(), "pipeline", hangs).await;
        let begun = Instant::now();
        let deadline = Duration::from_secs(if placement == Placement::Current { 60 } else { 4 });
        let drained = supervisor.drain(deadline).await;
        assert!(begun.elapsed() <= deadline, "{placement:?}: took {:?}", begun.elapsed());
        assert!(drained.cut.contains(&CutActor { unit: "pipeline".into(), actor: "relay".into() }), "{drained:?}");
        assert_eq!(drained.exit_code(), super::super::signals::EXIT_DRAIN_CUT);
        let ended = supervisor.board().unit("pipeline").expect("declared");
        assert_eq!(ended.state, UnitState::Stopped);
    });
}

#[test]
fn a_unit_has_stopped_only_when_its_threads_are_gone() {
    static CLOSED: AtomicBool = AtomicBool::new(false);
    struct SlowToClose;
    impl Drop for SlowToClose {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(100));
            CLOSED.store(true, Ordering::SeqCst);
        }
    }
    thread_local!(static ON_THREAD: std::cell::RefCell<Option<SlowToClose>> = const { std::cell::RefCell::new(None) });
    actix::System::new().block_on(async {
        let spec = UnitSpec::new("sinks", policy(), |incarnation| {
            let guard = incarnation.guard("sink");
            let (tx, rx) = mpsc::channel(1);
            drop(tx);
            incarnation.placement().start("sink", move |_| {
                ON_THREAD.set(Some(SlowToClose));
                Sink { rx: Some(rx), seen: Seen::default(), guard }
            });
            Box::pin(async { Ok(()) })
        });
        let (supervisor, _) = launch(vec![spec], Placement::Threads);
        until(supervisor.board(), "sinks", |u| u.state == UnitState::Stopped).await;
        assert!(CLOSED.load(Ordering::SeqCst));
    });
}

#[actix::test]
async fn a_unit_that_breaks_again_and_again_is_given_up_when_its_budget_is_spent_and_others_go_on() {
    tokio::time::pause();
    let seen = Seen::default();
    let units = vec![
        unit("broken", policy(), &Seen::default(), |_| Fault::Error),
        unit("sound", policy(), &seen, |_| Fault::None),
    ];
    let (supervisor, restarts) = launch(units, Placement::Current);
    let broken = until(supervisor.board(), "broken", |u| u.state == UnitState::Failed).await;
    assert_eq!((broken.generation, broken.restarts), (6, 5), "built once and five times again");
    assert_eq!(restarts.load(Ordering::SeqCst), 5);
    assert_eq!(supervisor.board().unit("sound").map(|u| (u.state, u.generation)), Some((UnitState::Running, 1)));
    supervisor.drain(LIMIT).await;
}

#[actix::test]
async fn waits_between_restarts_follow_the_backoff_and_begin_anew_after_a_healthy_stretch() {
    tokio::time::pause();
    let (initial, max) = (Duration::from_secs(1), Duration::from_secs(100));
    let (spec, mut guards) = lone(RestartPolicy { initial, max, ..policy() });
    let (supervisor, _) = launch(vec![spec], Placement::Current);
    let mut expected = Backoff::new(initial, max, Some(7));
    for ran in [0, 59, 59, 61, 0] {
        let guard = guards.recv().await.expect("the next life");
        sleep(Duration::from_secs(ran)).await;
        if ran >= 60 {
            expected.reset();
        }
        let failed_at = Instant::now();
        guard.fail("no", false);
        drop(guard);
        let wait = expected.next_delay();
        let backing_off = |u: &UnitStatus| matches!(u.state, UnitState::BackingOff { .. });
        let now = until(supervisor.board(), "lone", backing_off).await;
        let UnitState::BackingOff { attempt, .. } = now.state else { unreachable!() };
        assert_eq!(attempt, expected.attempt());
        until(supervisor.board(), "lone", |u| u.state == UnitState::Running).await;
        let waited = failed_at.elapsed();
        assert!(waited >= wait && waited < wait + Duration::from_millis(3), "{waited:?} instead of {wait:?}");
    }
    supervisor.drain(LIMIT / 2).await;
}

#[actix::test]
async fn an_actor_left_behind_that_fails_while_its_unit_backs_off_costs_no_second_restart() {
    tokio::time::pause();
    let (left_behind, mut kept) = mpsc::unbounded_channel();
    let policy = RestartPolicy { initial: Duration::from_secs(10), max: Duration::from_secs(10), ..policy() };
    let spec = UnitSpec::new("pipeline", policy, move |incarnation| {
        if incarnation.generation() == 1 {
            incarnation.guard("decoder").fail("breaks the unit", false);
        }
        let _ = left_behind.send(incarnation.guard("blocked"));
        Box::pin(async { Ok(()) })
    });
    let (supervisor, restarts) = launch(vec![spec], Placement::Current);
    let guard = kept.recv().await.expect("the first life");
    let begun = Instant::now();
    let backing_off = |u: &UnitStatus| matches!(u.state, UnitState::BackingOff { .. });
    let now = until(supervisor.board(), "pipeline", backing_off).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "only after `abandon_after`");
    assert_eq!(actor(&now, "blocked"), (ActorState::Abandoned, 0));
    assert!(guard.cancelled().is_cancelled());
    guard.fail("late", true);
    guard.report_state("late");
    drop(guard);
    let now = until(supervisor.board(), "pipeline", |u| u.state == UnitState::Running).await;
    assert_eq!((now.generation, now.restarts, restarts.load(Ordering::SeqCst)), (2, 1, 1));
    assert_eq!(now.last_error.as_deref(), Some("decoder: breaks the unit"));
    assert_eq!((actor(&now, "blocked"), now.actors.len()), ((ActorState::Running, 0), 1));
    kept.recv().await.expect("the second life").finish();
    until(supervisor.board(), "pipeline", |u| u.state == UnitState::Stopped).await;
}

#[actix::test]
async fn the_next_incarnation_begins_only_when_every_actor_of_the_last_has_ended() {
    tokio::time::pause();
    let (spec, mut guards) = lone(RestartPolicy { abandon_after: Duration::from_secs(3600), ..policy() });
    let start = spec.start;
    let spec = UnitSpec::new("lone", spec.policy, move |incarnation| {
        if incarnation.generation() == 1 {
            incarnation.guard("decoder").fail("breaks the unit", false);
        }
        start(incarnation)
    });
    let (supervisor, _) = launch(vec![spec], Placement::Current);
    let guard = guards.recv().await.expect("the first life");
    guard.cancelled().cancelled().await;
    sleep(Duration::from_secs(1800)).await;
    assert_eq!(supervisor.board().unit("lone").map(|u| u.generation), Some(1));
    drop(guard);
    until(supervisor.board(), "lone", |u| u.generation == 2 && u.state == UnitState::Running).await;
    guards.recv().await.expect("the second life").finish();
    until(supervisor.board(), "lone", |u| u.state == UnitState::Stopped).await;
}

#[actix::test]
async fn a_panic_that_comes_after_its_echo_is_still_the_cause() {
    tokio::time::pause();
    let spec = UnitSpec::new("pipeline", policy(), |incarnation| {
        if incarnation.generation() == 1 {
            let writer = incarnation.guard("writer");
            incarnation.guard("decoder").fail("downstream is gone", false);
            actix::spawn(async move {
                writer.cancelled().cancelled().await;
                let _held = writer;
                panic!("out of cheese");
            });
        } else {
            incarnation.guard("writer").finish();
        }
        Box::pin(async { Ok(()) })
    });
    let (supervisor, _) = launch(vec![spec], Placement::Current);
    let now = until(supervisor.board(), "pipeline", |u| u.state == UnitState::Stopped).await;
    assert!(now.last_error.as_deref().is_some_and(|e| e.starts_with("writer: panicked: out of cheese")), "{now:?}");
    assert_eq!(now.restarts, 1);
}

#[actix::test]
async fn a_start_that_is_refused_for_a_passing_reason_is_tried_for_ever_and_costs_no_restart() {
    tokio::time::pause();
    let spec = UnitSpec::new("pipeline", RestartPolicy { budget: 0, ..policy() }, |incarnation| {
        Box::pin(async move {
            if incarnation.generation() <= 100 {
                return Err(StartError::transient("the database does not answer"));
            }
            incarnation.guard("late").fail("breaks the unit", false);
            Ok(())
        })
    });
    let (supervisor, restarts) = launch(vec![spec], Placement::Current);
    let waiting = until(supervisor.board(), "pipeline", |u| u.generation == 50).await;
    assert_eq!(waiting.last_error.as_deref(), Some("the database does not answer"));
    let given_up = until(supervisor.board(), "pipeline", |u| u.state == UnitState::Failed).await;
    assert_eq!((given_up.generation, given_up.restarts, restarts.load(Ordering::SeqCst)), (101, 0, 0));
}

#[actix::test]
async fn a_unit_that_fails_again_and_again_is_not_well_before_it_has_gone_on() {
    tokio::time::pause();
    let policy = RestartPolicy { healthy_after: Duration::from_secs(8), ..policy() };
    let spec = UnitSpec::new("pipeline", policy, |incarnation| {
        Box::pin(async move {
            if incarnation.generation() == 1 {
                return Err(StartError::transient("the database does not answer"));
            }
            let guard = incarnation.guard("poll");
            let until = (incarnation.generation() < 6).then(|| Duration::from_secs(1));
            actix::spawn(async move {
                match until {
                    Some(until) => sleep(until).await,
                    None => guard.cancelled().cancelled().await,
                }
                guard.pass("the batch is damaged");
            });
            Ok(())
        })
    });
    let (supervisor, _) = launch(vec![spec], Placement::Current);
    let board = supervisor.board();
    // A refused start is over with the first that is not; two failures are not yet a row of them.
    let refused = until(board, "pipeline", |u| u.failing_since.is_some()).await;
    assert_eq!(refused.generation, 1);
    let running = |generation| move |u: &UnitStatus| u.generation == generation && u.state == UnitState::Running;
    for generation in [2, 3, 4] {
        until(board, "pipeline", |u| running(generation)(u) && u.failing_since.is_none()).await;
    }
    let again = until(board, "pipeline", |u| u.generation == 4 && u.failing_since.is_some()).await;
    assert!(again.failing_since > refused.failing_since);
    for generation in [5, 6] {
        let now = until(board, "pipeline", running(generation)).await;
        assert_eq!(now.failing_since, again.failing_since, "{generation}");
    }
    let before = Instant::now();
    let well = until(board, "pipeline", |u| u.failing_since.is_none()).await;
    assert_eq!(well.generation, 6);
    assert!(before.elapsed() >= Duration::from_secs(7), "{:?}", before.elapsed());
}

#[actix::test]
async fn a_start_that_fails_for_good_is_not_tried_again() {
    tokio::time::pause();
    let spec =
        UnitSpec::new("pipeline", policy(), |_| Box::pin(async { Err(StartError::fatal("table orders is missing")) }));
    let (supervisor, _) = launch(vec![spec], Placement::Current);
    let now = until(supervisor.board(), "pipeline", |u| u.state == UnitState::Failed).await;
    assert_eq!((now.generation, now.last_error.as_deref()), (1, Some("table orders is missing")));
}

#[actix::test]
async fn a_panic_in_the_start_function_is_a_failure_of_start_and_what_it_began_is_taken_down() {
    tokio::time::pause();
    let seen = Seen::default();
    let spec = UnitSpec::new("pipeline", policy(), {
        let seen = seen.clone();
        move |incarnation| {
            pipeline(&incarnation, Fault::None, &seen);
            assert!(incarnation.generation() > 1, "not ready");
            Box::pin(async { Ok(()) })
        }
    });
    let (supervisor, restarts) = launch(vec![spec], Placement::Current);
    let now = until(supervisor.board(), "pipeline", |u| u.state == UnitState::Running).await;
    assert!(now.last_error.as_deref().is_some_and(|e| e.starts_with("start: panicked: not ready")), "{now:?}");
    assert_eq!((now.generation, restarts.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(supervisor.drain(LIMIT).await, Drained::default());
}

#[actix::test]
async fn a_drain_ends_units_that_start_or_back_off_at_once() {
    tokio::time::pause();
    let hour = Duration::from_secs(3600);
    let starting = UnitSpec::new("starting", policy(), |incarnation| {
        Box::pin(async move {
            let _guard = incarnation.guard("half-built");
            std::future::pending().await
        })
    });
    let backing_off = UnitSpec::new("backing-off", RestartPolicy { initial: hour, max: hour, ..policy() }, |_| {
        Box::pin(async { Err(StartError::transient("no")) })
    });
    let (supervisor, _) = launch(vec![starting, backing_off], Placement::Current);
    until(supervisor.board(), "backing-off", |u| matches!(u.state, UnitState::BackingOff { .. })).await;
    let begun = Instant::now();
    assert_eq!(supervisor.drain(LIMIT).await, Drained::default());
    assert!(begun.elapsed() < Duration::from_millis(10), "took {:?}", begun.elapsed());
    assert!(supervisor.status().iter().all(|u| u.state == UnitState::Stopped), "{:?}", supervisor.status());
}

#[actix::test]
async fn a_unit_whose_actors_all_finish_has_stopped_and_is_not_built_again() {
    tokio::time::pause();
    let (spec, mut guards) = lone(policy());
    let (supervisor, restarts) = launch(vec![spec], Placement::Current);
    guards.recv().await.expect("the first life").finish();
    let now = until(supervisor.board(), "lone", |u| u.state == UnitState::Stopped).await;
    assert_eq!((now.generation, now.last_error, restarts.load(Ordering::SeqCst)), (1, None, 0));
}

#[actix::test]
async fn status_is_the_board_asked_or_read() {
    tokio::time::pause();
    let (spec, mut guards) = lone(policy());
    let (supervisor, _) = launch(vec![spec], Placement::Current);
    let guard = guards.recv().await.expect("the first life");
    guard.report_state("4 partitions");
    until(supervisor.board(), "lone", |u| u.state == UnitState::Running).await;
    let asked = supervisor.addr().send(Status).await.expect("the supervisor lives");
    assert_eq!(asked, supervisor.status());
    assert_eq!(asked[0].actors[0].note.as_deref(), Some("4 partitions"));
    drop(guard);
    supervisor.drain(LIMIT).await;
}

/// A log kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix::test]
async fn what_passes_by_itself_is_waited_out_with_growing_waits_and_spends_no_restart_but_panics_do() {
    tokio::time::pause();
    let (initial, max) = (Duration::from_secs(1), Duration::from_secs(30));
    let spec = UnitSpec::new("pipeline", RestartPolicy { budget: 2, initial, max, ..policy() }, |incarnation| {
        let writer = incarnation.guard("writer");
        match incarnation.generation() {
            // Each time its echo is heard first.
            1..=100 => {
                incarnation.guard("decoder").fail("the writer is gone", false);
                writer.pass("another has taken the partition over");
            }
            _ => writer.fail("breaks the unit", false),
        }
        Box::pin(async { Ok(()) })
    });
    let (supervisor, restarts) = launch(vec![spec], Placement::Current);
    let begun = Instant::now();
    let hours = Duration::from_secs(4 * 3600);
    let there = supervisor.board().until(|units| units[0].generation == 100);
    let passing = tokio::time::timeout(hours, there).await.expect("it is built a hundred times").remove(0);
    assert_eq!(passing.last_error.as_deref(), Some("writer: another has taken the partition over"));
    // A hundred waits below one second would be over by then.
    assert!(begun.elapsed() > Duration::from_secs(600), "waited for {:?} in all", begun.elapsed());
    let ended = supervisor.board().until(|units| units[0].state == UnitState::Failed);
    let given_up = tokio::time::timeout(hours, ended).await.expect("it is given up").remove(0);
    assert_eq!((given_up.generation, given_up.restarts), (103, 102), "two failures were borne, the third was not");
    assert_eq!(restarts.load(Ordering::SeqCst), 102, "each is counted all the same");
}
