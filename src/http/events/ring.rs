//! The last events of the live stream, made once for all readers. A reader has no queue, only the number of the event that
//! it took last: one that is slow, or that comes back, goes on from there as long as the ring goes back that far, and is
//! told where it does not. So a thousand readers cost no more memory than one, and nobody waits for any of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::web::Bytes;
use tokio::sync::watch;

/// Bytes of events that are kept: most of a minute's at the highest pace.
const KEPT_BYTES: usize = 4 << 20;

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// Only the newest counts: it is never sent late.
    Status,
    Records,
    Documents,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Status, Kind::Records, Kind::Documents];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Status => "status",
            Kind::Records => "records",
            Kind::Documents => "documents",
        }
    }
}

/// Which events a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Kinds([bool; 3]);

impl Kinds {
    pub const EVERY: Kinds = Kinds([true; 3]);

    /// Names separated by commas; `None` where none of them is known here.
    pub fn named(names: &str) -> Option<Self> {
        let has = Kind::ALL.map(|kind| names.split(',').any(|name| name == kind.name()));
        has.contains(&true).then_some(Self(has))
    }

    pub fn has(self, kind: Kind) -> bool {
        self.0[kind as usize]
    }
}

/// What comes next for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Next {
    Nothing,
    /// The event of this number.
    Event(u64, Bytes),
    /// Events were passed over; it goes on behind this number.
    Missed(u64, Bytes),
}

pub(in crate::http) struct Ring {
    /// Tells this run of the daemon from others, in ids.
    run: String,
    events: Mutex<Events>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Events {
    /// Of the last event; the first is 1.
    number: u64,
    /// Without those that tell the status, ascending.
    kept: VecDeque<(u64, Kind, Bytes)>,
    bytes: usize,
    status: Option<(u64, Bytes)>,
    /// By kind: the last event that is no longer kept.
    gone: [u64; 3],
}

impl Ring {
    pub fn new(run: String) -> Self {
        Self { run, events: Mutex::default(), newest: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands events to all readers, in this order; each is one line of JSON.
    pub fn publish(&self, events: &[(Kind, String)]) {
        let mut ring = self.lock();
        for (kind, json) in events {
            ring.number += 1;
            let number = ring.number;
            let bytes = self.event(number, kind.name(), json);
            if *kind == Kind::Status {
                ring.status = Some((number, bytes));
                continue;
            }
            ring.bytes += bytes.len();
            ring.kept.push_back((number, *kind, bytes));
            while ring.bytes > KEPT_BYTES
                && let Some((number, kind, bytes)) = ring.kept.pop_front()
            {
                ring.bytes -= bytes.len();
                ring.gone[kind as usize] = number;
            }
        }
        let newest = ring.number;
        drop(ring);
        self.newest.send_replace(newest);
    }

    /// Events of this kind were not gathered: who goes on from before is told that some are missing.
    pub fn pass_over(&self, kind: Kind) {
        let mut ring = self.lock();
        ring.number += 1;
        ring.gone[kind as usize] = ring.number;
        let newest = ring.number;
        drop(ring);
        self.newest.send_replace(newest);
    }

    /// As it is sent.
    pub fn event(&self, number: u64, name: &str, json: &str) -> Bytes {
        Bytes::from(format!("id: {}-{number}\nevent: {name}\ndata: {json}\n\n", self.run))
    }

    /// Is told of each [`Ring::publish`].
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.lock().number
    }

    /// The number in an id that this run gave out.
    pub fn number_of(&self, id: &str) -> Option<u64> {
        let number = id.strip_prefix(&self.run)?.strip_prefix('-')?.parse().ok()?;
        (number <= self.last()).then_some(number)
    }

    /// What comes behind the event of this number.
    pub fn next(&self, after: u64, kinds: Kinds) -> Next {
        let ring = self.lock();
        let gone = Kind::ALL.into_iter().filter(|kind| kinds.has(*kind)).map(|kind| ring.gone[kind as usize]).max();
        if let Some(gone) = gone.filter(|gone| *gone > after) {
            return Next::Missed(gone, self.missed(gone, false));
        }
        let first = ring.kept.partition_point(|(number, ..)| *number <= after);
        let kept = ring.kept.range(first..).find(|(_, kind, _)| kinds.has(*kind));
        let status = ring.status.as_ref().filter(|(number, _)| *number > after && kinds.has(Kind::Status));
        match (kept, status) {
            (Some((number, ..)), Some((status, bytes))) if status < number => Next::Event(*status, bytes.clone()),
            (Some((number, _, bytes)), _) => Next::Event(*number, bytes.clone()),
            (None, Some((number, bytes))) => Next::Event(*number, bytes.clone()),
            (None, None) => Next::Nothing,
        }
    }

    /// Tells a reader that events behind this number are the next ones that it gets.
    pub fn missed(&self, number: u64, restarted: bool) -> Bytes {
        self.event(number, "missed", &format!("{{\"restarted\":{restarted}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(next: Next) -> String {
        match next {
            Next::Nothing => "nothing".to_owned(),
            Next::Event(_, bytes) | Next::Missed(_, bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// All that a reader takes from there on, and where it stands then.
    fn read(ring: &Ring, mut after: u64, kinds: Kinds) -> (Vec<String>, u64) {
        let mut taken = Vec::new();
        loop {
            match ring.next(after, kinds) {
                Next::Nothing => return (taken, after),
                Next::Event(number, bytes) | Next::Missed(number, bytes) => {
                    assert!(number > after);
                    after = number;
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    taken.push(text.lines().nth(1).unwrap()["event: ".len()..].to_owned());
                }
            }
        }
    }

    #[test]
    fn each_reader_gets_every_event_of_its_kinds_once_and_in_order() {
        let ring = Ring::new("a".to_owned());
        assert_eq!(ring.next(0, Kinds::EVERY), Next::Nothing);
        ring.publish(&[(Kind::Records, "1".to_owned()), (Kind::Status, "2".to_owned())]);
        ring.publish(&[(Kind::Documents, "3".to_owned())]);
        let (taken, after) = read(&ring, 0, Kinds::EVERY);
        assert_eq!((taken, after), (vec!["records".to_owned(), "status".to_owned(), "documents".to_owned()], 3));
        assert_eq!(read(&ring, 0, Kinds::named("documents,unheard-of").unwrap()).0, ["documents"]);
        assert_eq!(text(ring.next(2, Kinds::EVERY)), "id: a-3\nevent: documents\ndata: 3\n\n");
        assert_eq!(Kinds::named("unheard-of"), None);
    }

    #[test]
    fn only_the_newest_status_is_sent() {
        let ring = Ring::new("a".to_owned());
        (0..9).for_each(|_| ring.publish(&[(Kind::Status, "{}".to_owned())]));
        assert_eq!(read(&ring, 0, Kinds::EVERY), (vec!["status".to_owned()], 9));
    }

    #[test]
    fn what_is_kept_is_bounded_and_who_is_too_late_is_told() {
        let ring = Ring::new("a".to_owned());
        let large = "x".repeat(KEPT_BYTES / 4);
        (0..6).for_each(|_| ring.publish(&[(Kind::Records, large.clone())]));
        assert!(ring.lock().bytes <= KEPT_BYTES);
        let (taken, after) = read(&ring, 1, Kinds::EVERY);
        assert_eq!((taken[0].as_str(), taken.len(), after), ("missed", 4, 6));
        assert_eq!(read(&ring, 3, Kinds::EVERY).0.len(), 3, "who is late, but not too late, misses nothing");
        let others = Kinds::named("status,documents").unwrap();
        assert_eq!(ring.next(0, others), Next::Nothing, "what it did not want it did not miss");
    }

    #[test]
    fn an_id_of_this_run_is_known_and_no_other() {
        let ring = Ring::new("a".to_owned());
        ring.publish(&[(Kind::Records, "1".to_owned()), (Kind::Records, "2".to_owned())]);
        assert_eq!((ring.number_of("a-1"), ring.number_of("a-2"), ring.last()), (Some(1), Some(2), 2));
        for strange in ["a-3", "b-1", "a1", "a-", "a--1", "", "ab-1"] {
            assert_eq!(ring.number_of(strange), None, "{strange}");
        }
    }
}
