//! The commit protocol by itself, checked exhaustively in a small scope: two daemons that both believe to hold a
//! partition, commits and claims that are lost, answered late or answered to nobody, crashes, retries. What bief does in
//! `src/actors/writer.rs` and the warehouses, reduced to compare-and-set of (offset, epoch); no code of it is called.

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
}

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Daemon {
    /// Its pipeline is (re)built.
    Down,
    /// It holds the partition, as it believes.
    Holding { epoch: u8, next: u8 },
    /// It waits for a commit's answer.
    Waiting { epoch: u8, from: u8, to: u8 },
    /// It heard that the connection was lost; the same batch is tried again.
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
                let answer = match (answered, holds) {
                    (true, true) => Daemon::Holding { epoch, next: to },
                    (true, false) => Daemon::Down,
                    (false, _) => Daemon::Retrying { epoch, from, to },
                };
                state.answer(commit, answer);
            }
            Step::Lose(commit) => {
                let commit = state.remove(commit);
                let Commit { epoch, from, to, .. } = commit;
                state.answer(commit, Daemon::Retrying { epoch, from, to });
            }
            Step::GiveUp(daemon) => {
                let Daemon::Waiting { epoch, from, to } = state.daemons[daemon] else { return None };
                state.daemons[daemon] = Daemon::Retrying { epoch, from, to };
            }
            Step::Crash(daemon) => state.daemons[daemon] = Daemon::Down,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXACTLY_ONCE, |_, state: &State| state.exactly_once()),
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

const EXACTLY_ONCE: &str = "each record before the stored offset has one outcome, each behind it none";

#[test]
fn in_a_small_scope_no_order_of_events_loses_or_doubles_a_record() {
    let checker = Protocol { compares: true, atomic: true }.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.unique_state_count() > 10_000, "too small a scope: {}", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn without_compare_and_set_a_record_is_doubled() {
    let checker = Protocol { compares: false, atomic: true }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let path = checker.assert_any_discovery(EXACTLY_ONCE);
    assert!(path.last_state().outcomes.iter().any(|n| *n > 1), "{path}");
}

#[test]
fn with_the_offset_stored_before_the_rows_a_record_is_lost() {
    let checker = Protocol { compares: true, atomic: false }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let path = checker.assert_any_discovery(EXACTLY_ONCE);
    let state = path.last_state();
    assert!((0..state.next).any(|at| state.outcomes[usize::from(at)] == 0), "{path}");
}
