//! A broker in memory: partitions with transactions, markers, aborted records, compaction and retention, and a group of
//! the cooperative kind, in which a member that is not heard of loses its partitions. And a member as the consumer sees
//! it, with what it had fetched before it lost a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bief::ports::{Bounds, Polled, RecordSource, SourceError, SourceEvent};
use tokio::time::Instant;

use crate::records::{self, Good, Sent};
use crate::world::{Gate, World, lock};

/// How long a member may be silent.
const SESSION: Duration = Duration::from_secs(6);

#[derive(Debug, Clone)]
pub enum Entry {
    Record(Sent),
    /// One that was compacted away: its offset yields nothing any more.
    Compacted(Sent),
    /// A transaction's marker, or an aborted record: its offset never yields anything.
    Nothing,
}

#[derive(Debug, Default)]
pub struct Log {
    pub low: i64,
    pub entries: Vec<Entry>,
    /// Where the transaction began that is open.
    open: Option<usize>,
}

impl Log {
    /// Behind the last offset that read_committed may see.
    pub fn high(&self) -> i64 {
        self.open.unwrap_or(self.entries.len()) as i64
    }

    pub fn record(&self, offset: i64) -> Option<&Sent> {
        match self.entries.get(usize::try_from(offset).ok()?) {
            Some(Entry::Record(sent)) => Some(sent),
            _ => None,
        }
    }

    /// The same, whether it is still there or was compacted away.
    pub fn sent(&self, offset: i64) -> Option<&Sent> {
        match self.entries.get(usize::try_from(offset).ok()?)? {
            Entry::Record(sent) | Entry::Compacted(sent) => Some(sent),
            Entry::Nothing => None,
        }
    }
}

#[derive(Debug, Default)]
struct Member {
    heard: Option<Instant>,
    events: Vec<SourceEvent>,
    /// Partitions that it was given and has not given back, as it knows.
    held: BTreeSet<i32>,
    /// It was put out, and has not joined again.
    evicted: bool,
    /// It was told so: it joins again when it has given back what it held.
    told: bool,
}

#[derive(Debug)]
pub struct Broker {
    pub logs: Vec<Log>,
    members: BTreeMap<u64, Member>,
    owners: Vec<Option<u64>>,
    asked_back: Vec<bool>,
    last_member: u64,
    rotation: usize,
    /// The highest offset told for each partition.
    pub told: BTreeMap<i32, i64>,
}

impl Broker {
    pub fn new(partitions: usize) -> Self {
        Self {
            logs: (0..partitions).map(|_| Log::default()).collect(),
            members: BTreeMap::new(),
            owners: vec![None; partitions],
            asked_back: vec![false; partitions],
            last_member: 0,
            rotation: 0,
            told: BTreeMap::new(),
        }
    }

    pub fn bounds(&self, partition: i32) -> Bounds {
        let log = &self.logs[partition as usize];
        Bounds { low: log.low, high: log.high() }
    }

    /// Deals the partitions anew.
    pub fn rebalance(&mut self, rotate: usize) {
        self.rotation += rotate;
        let alive: Vec<u64> = self.members.iter().filter(|(_, m)| !m.evicted).map(|(id, _)| *id).collect();
        for partition in 0..self.owners.len() {
            let target = (!alive.is_empty()).then(|| alive[(partition + self.rotation) % alive.len()]);
            let number = partition as i32;
            match (self.owners[partition], target) {
                (Some(owner), target) if Some(owner) != target => {
                    if !std::mem::replace(&mut self.asked_back[partition], true)
                        && let Some(member) = self.members.get_mut(&owner)
                    {
                        member.events.push(SourceEvent::Revoked(vec![number]));
                    }
                }
                (None, Some(target)) => {
                    self.owners[partition] = Some(target);
                    let member = self.members.entry(target).or_default();
                    member.held.insert(number);
                    match member.events.last_mut() {
                        Some(SourceEvent::Assigned(list)) => list.push(number),
                        _ => member.events.push(SourceEvent::Assigned(vec![number])),
                    }
                }
                _ => {}
            }
        }
    }

    fn join(&mut self) -> u64 {
        self.last_member += 1;
        self.members.insert(self.last_member, Member { heard: Some(Instant::now()), ..Member::default() });
        self.rebalance(0);
        self.last_member
    }

    fn free(&mut self, id: u64, partitions: &[i32]) {
        for &partition in partitions {
            let at = partition as usize;
            if self.owners[at] == Some(id) {
                self.owners[at] = None;
                self.asked_back[at] = false;
            }
        }
        self.rebalance(0);
    }

    fn leave(&mut self, id: u64) {
        self.members.remove(&id);
        let all: Vec<i32> = (0..self.owners.len() as i32).collect();
        self.free(id, &all);
    }

    /// Puts out who was not heard of; answers how many.
    pub fn expire(&mut self) -> usize {
        let late = |m: &Member| !m.evicted && m.heard.is_none_or(|at| at.elapsed() > SESSION);
        let gone: Vec<u64> = self.members.iter().filter(|(_, m)| late(m)).map(|(id, _)| *id).collect();
        for id in &gone {
            if let Some(member) = self.members.get_mut(id) {
                member.evicted = true;
                member.events.clear();
            }
            let all: Vec<i32> = (0..self.owners.len() as i32).collect();
            self.free(*id, &all);
        }
        gone.len()
    }

    /// Who is heard of is told what happened; who was put out loses all and joins again.
    fn hear(&mut self, id: u64, events: &mut Vec<SourceEvent>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.heard = Some(Instant::now());
        if member.evicted {
            if !std::mem::replace(&mut member.told, true) && !member.held.is_empty() {
                events.push(SourceEvent::Revoked(member.held.iter().copied().collect()));
            }
            self.rejoin(id);
            return;
        }
        events.append(&mut member.events);
    }

    fn rejoin(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id)
            && member.evicted
            && member.told
            && member.held.is_empty()
        {
            (member.evicted, member.told) = (false, false);
            self.rebalance(0);
        }
    }

    /// A member gives partitions back, whether they are its own still or not.
    fn give_back(&mut self, id: u64, partitions: &[i32]) {
        if let Some(member) = self.members.get_mut(&id) {
            partitions.iter().for_each(|p| _ = member.held.remove(p));
        }
        self.free(id, partitions);
        self.rejoin(id);
    }

    /// A producer's turn at one partition: records, in a transaction or not; a transaction's end; compaction.
    pub fn produce(&mut self, world: &World, partition: usize, transactional: bool) {
        let log = &mut self.logs[partition];
        if let Some(open) = log.open {
            if world.chance(600) {
                if world.chance(250) {
                    log.entries[open..].fill_with(|| Entry::Nothing);
                }
                log.entries.push(Entry::Nothing);
                log.open = None;
            }
            return;
        }
        if transactional {
            log.open = Some(log.entries.len());
        }
        for _ in 0..world.between(1, 7) {
            let offset = log.entries.len() as i64;
            log.entries.push(Entry::Record(records::make(world, partition as i32, offset)));
        }
    }

    /// The producers are done: what is open is committed.
    pub fn close(&mut self) {
        for log in &mut self.logs {
            if log.open.take().is_some() {
                log.entries.push(Entry::Nothing);
            }
        }
    }

    /// Takes records away of which the same key has a later one.
    pub fn compact(&mut self, partition: usize) {
        let log = &mut self.logs[partition];
        let high = log.high() as usize;
        let mut seen = BTreeSet::new();
        for entry in log.entries[..high].iter_mut().rev() {
            if let Entry::Record(sent) = entry
                && let Some(Good { id, .. }) = sent.good
                && !seen.insert(id)
            {
                *entry = Entry::Compacted(sent.clone());
            }
        }
    }

    /// Takes what was committed, up to there.
    pub fn retain_from(&mut self, partition: usize, offset: i64) {
        let log = &mut self.logs[partition];
        log.low = log.low.max(offset.min(log.high()));
    }
}

/// One member of the group, as the consumer's feed holds it.
pub struct Source {
    world: Arc<World>,
    gate: Arc<Gate>,
    member: u64,
    /// Lane, next offset, and the end that was told.
    assigned: BTreeMap<i32, (usize, i64, Option<i64>)>,
}

impl Source {
    pub fn open(world: Arc<World>, gate: Arc<Gate>) -> Self {
        let member = lock(&world.broker).join();
        world.tell(|| format!("member {member} joins"));
        Self { world, gate, member, assigned: BTreeMap::new() }
    }

    fn is_away(&self) -> bool {
        self.world.faults().broker_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Who was killed says nothing.
        if !self.gate.is_shut() {
            lock(&self.world.broker).leave(self.member);
        }
    }
}

impl RecordSource for Source {
    fn serve(&mut self, events: &mut Vec<SourceEvent>) -> Result<(), SourceError> {
        if self.is_away() {
            return Ok(());
        }
        if self.world.chance(self.world.faults().source) && self.world.chance(50) {
            self.world.saw("source failed");
            return Err(SourceError::Transient("the broker said something odd".to_owned()));
        }
        let before = events.len();
        lock(&self.world.broker).hear(self.member, events);
        for event in &events[before..] {
            self.world.tell(|| format!("member {}: {event:?}", self.member));
        }
        Ok(())
    }

    fn assign(&mut self, partitions: &[(i32, usize, i64)]) -> Result<(), SourceError> {
        for (partition, lane, offset) in partitions {
            self.world.tell(|| format!("member {} reads {partition} from {offset}", self.member));
            self.assigned.insert(*partition, (*lane, *offset, None));
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        partitions.iter().for_each(|p| _ = self.assigned.remove(p));
        lock(&self.world.broker).give_back(self.member, partitions);
        Ok(())
    }

    fn poll(&mut self, lane: usize, limit: usize, sink: &mut dyn FnMut(Polled<'_>)) -> Result<usize, SourceError> {
        if self.is_away() {
            return Ok(0);
        }
        let broker = lock(&self.world.broker);
        let mut count = 0;
        for (&partition, (_, next, end)) in self.assigned.iter_mut().filter(|(_, (of, _, _))| *of == lane) {
            let log = &broker.logs[partition as usize];
            if *next < log.low {
                return Err(SourceError::InDoubt(format!("offset {next} of partition {partition} is gone")));
            }
            // What was fetched so far.
            let mut fetched = self.world.between(1, 40);
            while count < limit && fetched > 0 && *next < log.high() {
                let offset = *next;
                *next += 1;
                if let Some(Sent { key, payload, .. }) = log.record(offset) {
                    sink(Polled::Record {
                        partition,
                        offset,
                        timestamp: offset,
                        key: Some(key.as_bytes()),
                        payload: payload.as_deref().map(str::as_bytes),
                    });
                    count += 1;
                    fetched -= 1;
                }
            }
            if count < limit && *next >= log.high() && *end != Some(log.high()) {
                *end = Some(log.high());
                sink(Polled::End { partition, offset: log.high() });
                count += 1;
            }
        }
        Ok(count)
    }

    fn wait(&mut self, _: Duration) {
        panic!("the simulation waits");
    }

    fn known_end(&self, partition: i32) -> Option<i64> {
        Some(lock(&self.world.broker).bounds(partition).high)
    }

    fn trouble(&self) -> Option<String> {
        self.is_away().then(|| "no broker answers".to_owned())
    }

    fn report_committed(&mut self, offsets: &[(i32, i64)]) {
        for (partition, offset) in offsets {
            let next = lock(&self.world.tables).next(*partition);
            if *offset > next {
                self.world.broke(format!("partition {partition}: {offset} is told to the broker, {next} is stored"));
            }
            lock(&self.world.broker).told.insert(*partition, *offset);
        }
    }
}
