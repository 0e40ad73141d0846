//! The commit protocol by itself, checked exhaustively in a small scope: two daemons that both believe to hold a
//! partition, commits and claims that are lost, answered late or answered to nobody, crashes, retries. What bief does in
//! `src/actors/writer/commit.rs` and the warehouses, reduced to compare-and-set of (offset, epoch), and to the look at them
//! that follows an unanswered commit; no code of it is called.

use stateright::{Checker, HasDiscoveries, Model, Property};

/// Records of the partition.
const RECORDS: u8 = 3;
const DAEMONS: usize = 2;
/// Assignments, lost ones included: bounds the search.
const EPOCHS: u8 = 4;
/// Transactions on their way at once.
const ON_THE_WAY: usize = 3;

/// Which parts of the protocol are kept.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    /// A transaction moves the offset only from the value and the epoch that its daemon read.
    compares: bool,
    /// Rows and offset are one transaction.
    atomic: bool,
    /// Who looks whether its unanswered commit is in waits until that transaction has ended: it holds the offset's row.
    waits: bool,
}

const BIEF: Protocol = Protocol { compares: true, atomic: true, waits: true };

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// The database: next offset, epoch, how many outcomes each record has.
    next: u8,
    epoch: u8,
    outcomes: [u8; RECORDS as usize],
    daemons: [Daemon; DAEMONS],
    /// Sorted, so that order makes no difference.
    on_the_way: Vec<Commit>,
    fenced: bool,
    /// A commit was refused though nobody had claimed the partition meanwhile: an earlier one of the same daemon was in.
    fenced_by_itself: bool,
    /// A look found the commit that was not answered.
    found: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Daemon {
    /// Its pipeline is (re)built.
    Down,
    /// It holds the partition, as it believes.
    Holding { epoch: u8, next: u8 },
    /// It waits for a commit's answer.
    Waiting { epoch: u8, from: u8, to: u8 },
    /// It heard that the connection was lost, and does not know whether its commit is in.
    InDoubt { epoch: u8, from: u8, to: u8 },
    /// It looked, and its commit was not in; the same batch is tried again.
    Retrying { epoch: u8, from: u8, to: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Commit {
    daemon: usize,
    epoch: u8,
    from: u8,
    to: u8,
    /// The offset is stored, the rows are not: only where the two are not one transaction.
    half: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The group gives the partition to a daemon, whoever else holds it.
    Claim {
        daemon: usize,
        answered: bool,
    },
    Send {
        daemon: usize,
        records: u8,
    },
    /// A daemon in doubt reads offset and epoch, locking their row.
    Look(usize),
    SendAgain(usize),
    /// The database takes a commit; its answer arrives or does not.
    Take {
        commit: usize,
        answered: bool,
    },
    /// A commit never arrives.
    Lose(usize),
    /// A daemon takes the connection for lost while its commit is still on its way.
    GiveUp(usize),
    Crash(usize),
}

impl State {
    fn remove(&mut self, commit: usize) -> Commit {
        self.on_the_way.remove(commit)
    }

    fn send(&mut self, daemon: usize, epoch: u8, from: u8, to: u8) {
        self.on_the_way.push(Commit { daemon, epoch, from, to, half: false });
        self.on_the_way.sort_unstable();
        self.daemons[daemon] = Daemon::Waiting { epoch, from, to };
    }

    /// Tells the sender, if it still waits for this very commit.
    fn answer(&mut self, commit: Commit, answer: Daemon) {
        let Commit { daemon, epoch, from, to, .. } = commit;
        if self.daemons[daemon] == (Daemon::Waiting { epoch, from, to }) {
            self.daemons[daemon] = answer;
        }
    }

    /// Whether a transaction of this daemon still holds the row.
    fn has_on_the_way(&self, daemon: usize) -> bool {
        self.on_the_way.iter().any(|commit| commit.daemon == daemon)
    }

    fn exactly_once(&self) -> bool {
        // While a half-done commit is on its way nothing can be said of its records.
        let open = |at: u8| self.on_the_way.iter().any(|c| c.half && (c.from..c.to).contains(&at));
        (0..RECORDS).all(|at| {
            let outcomes = self.outcomes[usize::from(at)];
            open(at) && outcomes == 0 || outcomes == u8::from(at < self.next)
        })
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            next: 0,
            epoch: 0,
            outcomes: [0; RECORDS as usize],
            daemons: [Daemon::Down; DAEMONS],
            on_the_way: Vec::new(),
            fenced: false,
            fenced_by_itself: false,
            found: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let room = state.on_the_way.len() < ON_THE_WAY;
        for daemon in 0..DAEMONS {
            match state.daemons[daemon] {
                Daemon::Down if state.epoch < EPOCHS => {
                    steps.extend([true, false].map(|answered| Step::Claim { daemon, answered }));
                }
                Daemon::Down => {}
                Daemon::Holding { next, .. } => {
                    let records = 1..=(RECORDS - next).min(2);
                    steps.extend(records.filter(|_| room).map(|records| Step::Send { daemon, records }));
                    steps.push(Step::Crash(daemon));
                }
                Daemon::Waiting { .. } => steps.extend([Step::GiveUp(daemon), Step::Crash(daemon)]),
                Daemon::InDoubt { .. } => {
                    let free = !self.waits || !state.has_on_the_way(daemon);
                    steps.extend(free.then_some(Step::Look(daemon)));
                    steps.push(Step::Crash(daemon));
                }
                Daemon::Retrying { .. } => {
                    steps.extend(room.then_some(Step::SendAgain(daemon)));
                    steps.push(Step::Crash(daemon));
                }
            }
        }
        for commit in 0..state.on_the_way.len() {
            steps.extend([true, false].map(|answered| Step::Take { commit, answered }));
            steps.push(Step::Lose(commit));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Claim { daemon, answered } => {
                state.epoch += 1;
                if answered {
                    state.daemons[daemon] = Daemon::Holding { epoch: state.epoch, next: state.next };
                }
            }
            Step::Send { daemon, records } => {
                let Daemon::Holding { epoch, next } = state.daemons[daemon] else { return None };
                state.send(daemon, epoch, next, next + records);
            }
            Step::Look(daemon) => {
                let Daemon::InDoubt { epoch, from, to } = state.daemons[daemon] else { return None };
                let found = (state.next, state.epoch) == (to, epoch);
                state.found |= found;
                state.daemons[daemon] = match found {
                    true => Daemon::Holding { epoch, next: to },
                    false => Daemon::Retrying { epoch, from, to },
                };
            }
            Step::SendAgain(daemon) => {
                let Daemon::Retrying { epoch, from, to } = state.daemons[daemon] else { return None };
                state.send(daemon, epoch, from, to);
            }
            Step::Take { commit, answered } => {
                let commit = state.remove(commit);
                let Commit { epoch, from, to, half, .. } = commit;
                let holds = half || !self.compares || (state.next, state.epoch) == (from, epoch);
                if holds && !half {
                    state.next = to;
                }
                if holds && !half && !self.atomic {
                    state.on_the_way.push(Commit { half: true, ..commit });
                    state.on_the_way.sort_unstable();
                    return Some(state);
                }
                if holds {
                    (from..to).for_each(|at| state.outcomes[usize::from(at)] += 1);
                }
                state.fenced |= !holds;
                state.fenced_by_itself |= !holds && state.epoch == epoch;
                let answer = match (answered, holds) {
                    (true, true) => Daemon::Holding { epoch, next: to },
                    (true, false) => Daemon::Down,
                    (false, _) => Daemon::InDoubt { epoch, from, to },
                };
                state.answer(commit, answer);
            }
            Step::Lose(commit) => {
                let commit = state.remove(commit);
                let Commit { epoch, from, to, .. } = commit;
                state.answer(commit, Daemon::InDoubt { epoch, from, to });
            }
            Step::GiveUp(daemon) => {
                let Daemon::Waiting { epoch, from, to } = state.daemons[daemon] else { return None };
                state.daemons[daemon] = Daemon::InDoubt { epoch, from, to };
            }
            Step::Crash(daemon) => state.daemons[daemon] = Daemon::Down,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXACTLY_ONCE, |_, state: &State| state.exactly_once()),
            Property::always(NOT_BY_ITSELF, |_, state: &State| !state.fenced_by_itself),
            Property::sometimes("a commit without an answer is found", |_, state: &State| state.found),
            Property::sometimes("all is stored", |_, state: &State| state.next == RECORDS),
            Property::sometimes("a commit is fenced", |_, state: &State| state.fenced),
            Property::sometimes("both believe to hold the partition", |_, state: &State| {
                state.daemons.iter().all(|daemon| *daemon != Daemon::Down)
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        // Counts that only a broken protocol reaches.
        state.outcomes.iter().all(|n| *n <= 2)
    }
}

const NOT_BY_ITSELF: &str = "a daemon is fenced by another's claim, never by a commit of its own";
const EXACTLY_ONCE: &str = "each record before the stored offset has one outcome, each behind it none";

#[test]
fn in_a_small_scope_no_order_of_events_loses_or_doubles_a_record() {
    let checker = BIEF.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.unique_state_count() > 10_000, "too small a scope: {}", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn without_compare_and_set_a_record_is_doubled() {
    let checker =
        Protocol { compares: false, ..BIEF }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.assert_any_discovery(EXACTLY_ONCE);
    assert!(path.last_state().outcomes.iter().any(|n| *n > 1), "{path}");
}

#[test]
fn with_the_offset_stored_before_the_rows_a_record_is_lost() {
    let checker =
        Protocol { atomic: false, ..BIEF }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.assert_any_discovery(EXACTLY_ONCE);
    let state = path.last_state();
    assert!((0..state.next).any(|at| state.outcomes[usize::from(at)] == 0), "{path}");
}

/// Nothing is doubled, since the offset is compared; but the stream is rebuilt for nothing.
#[test]
fn with_a_look_that_does_not_wait_a_daemon_is_fenced_by_its_own_commit() {
    let checker =
        Protocol { waits: false, ..BIEF }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.assert_any_discovery(NOT_BY_ITSELF);
    assert!(path.last_state().exactly_once(), "{path}");
}
