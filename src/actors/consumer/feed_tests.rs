//! The feed against a source and a database that a test plays by hand: revocations and drains wait for claims that are
//! under way, and what passes by itself is told as such.

use std::sync::{Mutex, mpsc};

use super::super::pending::tests::claimed;
use super::*;
use crate::core::memory::RecordCost;
use crate::core::target::OnConflict;
use crate::core::testing;
use crate::metrics::Metrics;
use crate::ports::SystemClock;
use crate::runtime::Budget;
use crate::runtime::testing::Harness;

/// What the source was told, and what it tells next.
#[derive(Default)]
struct Told {
    events: Vec<SourceEvent>,
    /// Number and offset of each partition that is read.
    assigned: Vec<(i32, i64)>,
    released: Vec<i32>,
}

struct Script(Arc<Mutex<Told>>);

impl RecordSource for Script {
    fn serve(&mut self, events: &mut Vec<SourceEvent>) -> Result<(), SourceError> {
        events.append(&mut self.0.lock().unwrap().events);
        Ok(())
    }

    fn assign(&mut self, partitions: &[(i32, usize, i64)]) -> Result<(), SourceError> {
        self.0.lock().unwrap().assigned.extend(partitions.iter().map(|(p, _, offset)| (*p, *offset)));
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.0.lock().unwrap().released.extend(partitions);
        Ok(())
    }

    fn poll(&mut self, _: usize, _: usize, _: &mut dyn FnMut(Polled<'_>)) -> Result<usize, SourceError> {
        Ok(0)
    }

    fn wait(&mut self, _: Duration) {}

    fn known_end(&self, _: i32) -> Option<i64> {
        None
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn report_committed(&mut self, _: &[(i32, i64)]) {}
}

/// A feed with one lane, its turns taken by the test.
struct Stage {
    polling: Polling,
    told: Arc<Mutex<Told>>,
    asked: mpsc::Receiver<Vec<i32>>,
    answers: mpsc::Sender<Claims>,
    assignments: Assignments,
    guard: Option<ExitGuard>,
    harness: Harness,
    _lane: tokio::sync::mpsc::Receiver<RecordBatch>,
}

impl Stage {
    fn new() -> Self {
        let harness = Harness::new();
        let guard = Some(harness.incarnation().guard("poll"));
        let told = Arc::new(Mutex::new(Told::default()));
        let metrics = Metrics::new("0", "0").stream("orders");
        let (lane, kept) = tokio::sync::mpsc::channel(1);
        let (answers, claims) = mpsc::channel();
        let (ask, asked) = mpsc::channel();
        let assignments = Assignments::default();
        let board = Board::default();
        board.declare("orders", "orders");
        let polling = Feed {
            stream: "orders".to_owned(),
            source: Box::new(Script(Arc::clone(&told))),
            lanes: vec![lane],
            limits: BatchLimits { records: 10, bytes: 1000, record_bytes: 100 },
            memory: MemoryLimit {
                shares: vec![Budget::new(1 << 20, 1).share(0)],
                cost: RecordCost::of(&testing::shop(OnConflict::Update)),
            },
            assignments: assignments.clone(),
            board,
            blocked: metrics.blocked_seconds("consumer"),
            queue: metrics.queue("decoder", 1),
            metrics,
            claims,
            clock: Arc::new(SystemClock),
            claim: Box::new(move |partitions| drop(ask.send(partitions))),
        }
        .begin();
        Self { polling, told, asked, answers, assignments, guard, harness, _lane: kept }
    }

    /// The group says this; the feed takes a turn.
    fn group(&mut self, event: SourceEvent) {
        self.told.lock().unwrap().events.push(event);
        self.turn();
    }

    fn step(&mut self) -> Result<Duration, Ended> {
        self.polling.step(self.guard.as_ref().expect("until the end"))
    }

    fn turn(&mut self) {
        self.step().expect("nothing is wrong");
    }

    fn answer(&mut self, claims: &[(i32, i64, i64)]) {
        let claimed = claims.iter().map(|(partition, epoch, next)| claimed(*partition, *epoch, *next)).collect();
        self.answers.send(Ok(claimed)).unwrap();
    }

    fn released(&self) -> Vec<i32> {
        self.told.lock().unwrap().released.clone()
    }

    fn assigned(&self) -> Vec<(i32, i64)> {
        self.told.lock().unwrap().assigned.clone()
    }

    fn end(mut self) {
        self.guard.take().expect("ended once").finish();
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_not_given_back_before_its_claim_was_answered() {
    let mut stage = Stage::new();
    stage.group(SourceEvent::Assigned(vec![0, 1]));
    assert_eq!(stage.asked.try_recv().unwrap(), [0, 1]);
    stage.group(SourceEvent::Revoked(vec![1]));
    for _ in 0..10 {
        stage.turn();
    }
    assert!(stage.released().is_empty(), "the claim may land yet, above the epoch of whoever is next");
    stage.answer(&[(0, 3, 70), (1, 8, 20)]);
    stage.turn();
    assert_eq!((stage.assigned(), stage.released()), (vec![(0, 70)], vec![1]));
    assert!(!stage.assignments.is_current(1, 8));
    stage.end();
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_5_s_for_a_claim_and_then_the_pipeline_is_built_again_at_no_cost() {
    let mut stage = Stage::new();
    stage.group(SourceEvent::Assigned(vec![0]));
    stage.group(SourceEvent::Revoked(vec![0]));
    tokio::time::advance(REVOCATION_WAIT - Duration::from_millis(1)).await;
    stage.turn();
    tokio::time::advance(Duration::from_millis(1)).await;
    let Err(Ended::Passing { error }) = stage.step() else { panic!("it waits on") };
    assert_eq!(error, "a revoked partition's claim was not answered within 5s");
    stage.end();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_answered_is_told_as_trouble_until_it_is() {
    let mut stage = Stage::new();
    stage.group(SourceEvent::Assigned(vec![0]));
    let mut told = Vec::new();
    for _ in 0..8 {
        tokio::time::advance(REPORT_EVERY).await;
        stage.turn();
        told.push(!stage.polling.feed.board.snapshot()[0].troubles.is_empty());
    }
    assert_eq!(told, [false, false, false, false, false, true, true, true]);
    stage.answer(&[(0, 1, 0)]);
    tokio::time::advance(REPORT_EVERY).await;
    stage.turn();
    assert!(stage.polling.feed.board.snapshot()[0].troubles.is_empty());
    stage.end();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_slow_to_commit_and_a_database_that_is_away_pass_by_themselves() {
    let mut stage = Stage::new();
    stage.group(SourceEvent::Assigned(vec![0]));
    stage.answer(&[(0, 1, 0)]);
    stage.turn();
    let slow = stage.assignments.depart([0]);
    stage.group(SourceEvent::Revoked(vec![0]));
    tokio::time::advance(REVOCATION_WAIT).await;
    let Err(Ended::Passing { error }) = stage.step() else { panic!("it waits on") };
    assert_eq!(error, "a revoked partition's batch was not written within 5s");
    drop(slow);
    stage.end();

    let away = WarehouseError::Transient { what: "no answer".to_owned() };
    let denied = WarehouseError::Fatal { what: "access denied".to_owned() };
    for (error, passes) in [(away, true), (denied, false)] {
        let mut stage = Stage::new();
        stage.group(SourceEvent::Assigned(vec![0]));
        stage.answers.send(Err(error.into())).unwrap();
        let ended = stage.step().expect_err("nothing was taken over");
        assert_eq!(matches!(ended, Ended::Passing { .. }), passes, "{ended:?}");
        assert_eq!(matches!(ended, Ended::Failed { fatal: true, .. }), !passes, "{ended:?}");
        stage.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_the_group_only_when_claims_were_answered_or_5_s_are_over() {
    for answered in [true, false] {
        let mut stage = Stage::new();
        stage.group(SourceEvent::Assigned(vec![0]));
        stage.harness.drain();
        stage.turn();
        if answered {
            stage.answer(&[(0, 2, 9)]);
        } else {
            tokio::time::advance(REVOCATION_WAIT).await;
        }
        assert!(matches!(stage.step(), Err(Ended::Drained)));
        assert!(stage.assigned().is_empty());
        stage.end();
    }
}
