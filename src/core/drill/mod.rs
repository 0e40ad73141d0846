//! What a chaos drill does and how it is judged: kinds of faults, the sequence that a seed stands for, records that can
//! be told from their number alone, and the tally. Must never read a clock or a random source: a seed replays a drill.

pub mod records;
pub mod tally;

/// Faults of a drill that is not told how many: each kind comes at least once.
pub const FAULTS: usize = 20;

/// What a fault needs beside the drill's own daemons, topic, database and proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// The MySQL protocol in clear between daemon and proxy.
    Packets,
    /// A build with the feature `failpoints`.
    Failpoints,
    /// A command of the caller's that kills and starts the broker.
    BrokerRestart,
    /// A command of the caller's that kills and starts the database.
    DatabaseRestart,
}

macro_rules! kinds {
    ($($(#[doc = $what:literal])+ $kind:ident = $name:literal, $need:ident;)+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $what])+ $kind,)+
        }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// As commands and reports name it.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)+ }
            }

            pub fn need(self) -> Need {
                match self { $(Kind::$kind => Need::$need,)+ }
            }

            /// One line for people.
            pub fn describe(self) -> &'static str {
                match self { $(Kind::$kind => concat!($($what),+).trim_ascii_start(),)+ }
            }
        }
    };
}

kinds! {
    /// SIGKILL of a daemon; another is started at once
    DaemonKill = "daemon-kill", Nothing;
    /// SIGSTOP of a daemon past its session's timeout, then SIGCONT
    DaemonPause = "daemon-pause", Nothing;
    /// one more daemon joins the group
    DaemonJoin = "daemon-join", Nothing;
    /// SIGTERM: a daemon drains and leaves the group
    DaemonLeave = "daemon-leave", Nothing;
    /// the broker is killed and started again
    BrokerRestart = "broker-restart", BrokerRestart;
    /// the database is killed and started again
    DatabaseRestart = "database-restart", DatabaseRestart;
    /// all connections to the database are reset at once
    ConnectionsReset = "connections-reset", Nothing;
    /// the database is out of reach for a while: connections are reset, new ones refused
    DatabaseUnreachable = "database-unreachable", Nothing;
    /// the database hangs for a while: connections stay open, nothing passes
    DatabaseHangs = "database-hangs", Nothing;
    /// the database is slow while large records come, until the budget of memory is used up
    DatabaseSlow = "database-slow", Nothing;
    /// a connection is cut in the midst of a LOAD DATA's rows
    CutMidLoad = "cut-mid-load", Packets;
    /// a COMMIT never reaches the server
    CommitCut = "commit-cut", Packets;
    /// a COMMIT is applied, its answer is swallowed and the connection cut
    CommitAnswerCut = "commit-answer-cut", Packets;
    /// statements that write are answered "read-only" (error 1290) for a while, as after a failover
    ReadOnly = "read-only", Packets;
    /// statements that write are answered "table is full" or "disk full" (errors 1114, 1021) for a while
    DiskFull = "disk-full", Packets;
    /// another connection locks the rows that are written for longer than writers wait
    LockWait = "lock-wait-timeout", Nothing;
    /// another connection locks rows crosswise with a writer
    Deadlock = "deadlock", Nothing;
    /// the consumer panics: where it takes partitions over, polls, or hands a batch on
    PanicConsumer = "panic-consumer", Failpoints;
    /// a decoder panics
    PanicDecoder = "panic-decoder", Failpoints;
    /// a writer panics at one of the steps of its transaction
    PanicWriter = "panic-writer", Failpoints;
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            format!("not a kind of fault; there are {}", names.join(", "))
        })
    }
}

/// Numbers that a seed stands for: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..high`; `low` where the range is empty.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % high.saturating_sub(low).max(1)
    }
}

/// One fault of a drill.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    /// Draws what is left open: which daemon, how long, where the cut is.
    pub dice: Dice,
}

/// The faults that a seed stands for: every one of `kinds` once in each round, shuffled anew.
pub fn sequence(seed: u64, faults: usize, kinds: &[Kind]) -> Vec<Fault> {
    let mut dice = Dice::new(seed);
    let mut sequence = Vec::with_capacity(faults);
    while sequence.len() < faults && !kinds.is_empty() {
        let mut round = kinds.to_vec();
        for last in (1..round.len()).rev() {
            round.swap(last, dice.within(0, last as u64 + 1) as usize);
        }
        round.truncate(faults - sequence.len());
        sequence.extend(round.into_iter().map(|kind| Fault { kind, dice: Dice::new(dice.draw()) }));
    }
    sequence
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(seed: u64, faults: usize) -> Vec<&'static str> {
        sequence(seed, faults, Kind::ALL).iter().map(|fault| fault.kind.name()).collect()
    }

    #[test]
    fn a_seed_stands_for_one_sequence() {
        assert_eq!(names(7, 60), names(7, 60));
        assert_ne!(names(7, 60), names(8, 60));
        let drawn = |seed| sequence(seed, 40, Kind::ALL).into_iter().map(|mut f| f.dice.draw()).collect::<Vec<_>>();
        assert_eq!(drawn(3), drawn(3));
    }

    #[test]
    fn every_kind_comes_once_before_one_comes_twice() {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        names(1, Kind::ALL.len() * 3).into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
        assert!(counts.len() == Kind::ALL.len() && counts.values().all(|n| *n == 3), "{counts:?}");
        assert!(Kind::ALL.len() >= 12 && Kind::ALL.len() <= FAULTS);
    }

    #[test]
    fn nothing_to_choose_from_is_no_fault() {
        assert!(sequence(1, 20, &[]).is_empty());
    }

    #[test]
    fn kinds_are_known_by_their_names() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
            assert!(!kind.describe().starts_with(' ') && !kind.describe().is_empty());
        }
        assert!("earthquake".parse::<Kind>().unwrap_err().contains("daemon-kill"));
    }
}
