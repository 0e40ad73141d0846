//! A database in memory behind the ports of warehouse and bookkeeping: transactions whose writes nobody sees before the
//! commit, row locks that are waited for, deadlocks, lock wait timeouts, primary and foreign keys, a CHECK, and answers
//! that are lost. It must never forgive a caller what a real database would not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bief::core::cell::Cell;
use bief::core::marks::Mark;
use bief::core::outcome::{Counts, Reason, Rejection};
use bief::core::reset;
use bief::core::target::{OnConflict, Rows};
use bief::messages::{DeadLetter, OffsetMove};
use bief::ports::{
    Bookkeeping, Claim, CountsView, DeadLetterFilter, Ledger, PartitionCounts, PartitionOffset, Refusal,
    StoredDeadLetter, Warehouse, WarehouseError, Written,
};
use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::records::width;
use crate::world::{Bug, Gate, World, lock, takes};

const LOCK_WAIT: Duration = Duration::from_secs(4);

/// Column -> value; null is not there.
pub type Row = BTreeMap<String, String>;
type Place = (String, String);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetRow {
    pub epoch: i64,
    pub start: i64,
    pub next: i64,
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Offset(i32),
    Row(Place),
    /// Lane and start of a bucket.
    Mark(i32, i64),
}

#[derive(Debug, Default)]
struct Holders {
    exclusive: Option<u64>,
    shared: BTreeSet<u64>,
}

/// What one transaction has written and nobody else sees.
#[derive(Debug, Default)]
struct Transaction {
    rows: BTreeMap<Place, Row>,
    saved: Option<BTreeMap<Place, Row>>,
    offsets: BTreeMap<i32, OffsetRow>,
    gaps: Vec<(i32, Range<i64>)>,
    letters: Vec<(i32, i64)>,
    /// Lane and start of each bucket that was marked.
    marks: BTreeSet<(i32, i64)>,
}

/// All that is committed, and the transactions that are open.
#[derive(Debug)]
pub struct Tables {
    pub rows: BTreeMap<Place, Row>,
    pub offsets: BTreeMap<i32, OffsetRow>,
    pub gaps: Vec<(i32, Range<i64>)>,
    /// Partition and offset of each dead letter.
    pub letters: Vec<(i32, i64)>,
    /// How often each lane marked a bucket.
    pub marks: BTreeMap<(i32, i64), i64>,
    /// Rows that were changed in a transaction that did not mark their bucket.
    pub unmarked: Vec<String>,
    open: BTreeMap<u64, Transaction>,
    locks: BTreeMap<Resource, Holders>,
    waits: BTreeMap<u64, BTreeSet<u64>>,
    last_id: u64,
}

impl Tables {
    pub fn new() -> Self {
        let regions = ["1", "2"].map(|id| (("regions".to_owned(), id.to_owned()), Row::new()));
        Self {
            rows: regions.into(),
            offsets: BTreeMap::new(),
            gaps: Vec::new(),
            letters: Vec::new(),
            marks: BTreeMap::new(),
            unmarked: Vec::new(),
            open: BTreeMap::new(),
            locks: BTreeMap::new(),
            waits: BTreeMap::new(),
            last_id: 0,
        }
    }

    pub fn next(&self, partition: i32) -> i64 {
        self.offsets.get(&partition).map_or(0, |o| o.next)
    }

    /// Whether a transaction is still open.
    pub fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    fn begin(&mut self) -> u64 {
        self.last_id += 1;
        self.open.insert(self.last_id, Transaction::default());
        self.last_id
    }

    fn transaction(&mut self, id: u64) -> Result<&mut Transaction, WarehouseError> {
        self.open.get_mut(&id).ok_or_else(|| transient("the connection was lost"))
    }

    fn row(&self, id: u64, place: &Place) -> Option<&Row> {
        self.open.get(&id).and_then(|t| t.rows.get(place)).or_else(|| self.rows.get(place))
    }

    fn offset(&self, id: u64, partition: i32) -> Option<OffsetRow> {
        let own = self.open.get(&id).and_then(|t| t.offsets.get(&partition));
        own.or_else(|| self.offsets.get(&partition)).cloned()
    }

    /// Who stands in the way; nobody once the lock is held.
    fn try_lock(&mut self, id: u64, resource: &Resource, exclusive: bool) -> BTreeSet<u64> {
        let holders = self.locks.entry(resource.clone()).or_default();
        let mut others: BTreeSet<u64> = holders.exclusive.into_iter().filter(|o| *o != id).collect();
        if exclusive {
            others.extend(holders.shared.iter().filter(|o| **o != id));
        }
        if others.is_empty() {
            match exclusive {
                true => holders.exclusive = Some(id),
                false => _ = holders.shared.insert(id),
            }
        }
        others
    }

    /// Whether waiting for these would be for ever.
    fn is_deadlock(&self, id: u64, blockers: &BTreeSet<u64>) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), blockers.iter().copied().collect::<Vec<_>>());
        while let Some(one) = next.pop() {
            if one == id {
                return true;
            }
            if seen.insert(one) {
                next.extend(self.waits.get(&one).into_iter().flatten());
            }
        }
        false
    }

    fn end(&mut self, id: u64) -> Option<Transaction> {
        self.waits.remove(&id);
        self.locks.retain(|_, holders| {
            holders.shared.remove(&id);
            holders.exclusive = holders.exclusive.filter(|o| *o != id);
            holders.exclusive.is_some() || !holders.shared.is_empty()
        });
        self.open.remove(&id)
    }

    fn apply(&mut self, id: u64) -> bool {
        let Some(Transaction { rows, offsets, gaps, letters, marks, .. }) = self.end(id) else { return false };
        for (_, at) in rows.keys().filter(|(table, _)| table == "readings") {
            let start = at.parse().map_or(-1, |micros| width().start_of(micros));
            if !marks.iter().any(|(_, bucket)| *bucket == start) {
                self.unmarked.push(at.clone());
            }
        }
        marks.into_iter().for_each(|mark| *self.marks.entry(mark).or_default() += 1);
        self.rows.extend(rows);
        self.offsets.extend(offsets);
        self.gaps.extend(gaps);
        self.letters.extend(letters);
        true
    }
}

fn transient(what: &str) -> WarehouseError {
    WarehouseError::Transient { what: what.to_owned() }
}

fn fenced(topic: &str, partition: i32, is: Option<&OffsetRow>, expected: (i64, i64)) -> WarehouseError {
    let detail = format!("it is {:?}, not {expected:?}", is.map(|o| (o.next, o.epoch)));
    WarehouseError::Fenced { topic: topic.to_owned(), partition, detail }
}

/// One connection of one daemon.
pub struct Connection {
    world: Arc<World>,
    gate: Arc<Gate>,
    transaction: Option<u64>,
    /// Its holder may panic.
    frail: bool,
}

impl Connection {
    /// Connects, unless the database is away.
    pub async fn open(world: Arc<World>, gate: Arc<Gate>) -> Result<Self, WarehouseError> {
        let connection = Self { world, gate, transaction: None, frail: true };
        connection.reach().await?;
        Ok(connection)
    }

    /// The way to the server and back, and what can happen on it.
    async fn reach(&self) -> Result<(), WarehouseError> {
        self.gate.pass().await;
        let faults = self.world.faults();
        let slow = self.world.chance(faults.slow);
        takes(if slow { self.world.millis(500, 9_000) } else { self.world.millis(0, 3) }).await;
        self.gate.pass().await;
        let faults = self.world.faults();
        let now = Instant::now();
        if faults.outage_until.is_some_and(|until| now < until) {
            self.world.saw("outage");
            return Err(transient("the server is gone"));
        }
        if self.world.chance(faults.cut) {
            self.world.saw("connection cut");
            return Err(transient("the connection was cut"));
        }
        if self.transaction.is_some() && self.world.chance(faults.deadlock) {
            self.world.saw("deadlock");
            return Err(transient("deadlock"));
        }
        if self.frail && self.transaction.is_some() && self.world.chance(faults.panic) {
            self.world.saw("panic");
            panic!("a simulated panic");
        }
        if self.transaction.is_some() && faults.read_only_until.is_some_and(|until| now < until) {
            self.world.saw("read-only");
            return Err(transient("the server is read-only"));
        }
        Ok(())
    }

    fn id(&self) -> u64 {
        self.transaction.expect("a transaction is open")
    }

    async fn lock(&self, id: u64, resource: Resource, exclusive: bool) -> Result<(), WarehouseError> {
        let until = Instant::now() + LOCK_WAIT;
        loop {
            let released = self.world.released.notified();
            {
                let mut tables = lock(&self.world.tables);
                tables.transaction(id)?;
                let blockers = tables.try_lock(id, &resource, exclusive);
                if blockers.is_empty() {
                    tables.waits.remove(&id);
                    return Ok(());
                }
                if tables.is_deadlock(id, &blockers) {
                    tables.waits.remove(&id);
                    self.world.saw("real deadlock");
                    return Err(transient("deadlock found when trying to get a lock"));
                }
                tables.waits.insert(id, blockers);
            }
            self.world.saw("lock wait");
            if timeout_at(until, released).await.is_err() {
                lock(&self.world.tables).waits.remove(&id);
                self.world.saw("lock wait timeout");
                return Err(transient("lock wait timeout exceeded"));
            }
        }
    }

    /// COMMIT, and what can become of it and of its answer.
    async fn commit(&mut self, what: &'static str) -> Result<(), WarehouseError> {
        self.reach().await?;
        let id = self.id();
        let world = &self.world;
        match if world.chance(world.faults().lost_commit) { world.below(3) } else { 3 } {
            0 => {
                world.saw("commit lost before it was done");
                Err(transient("the connection was lost at COMMIT"))
            }
            1 => {
                world.saw("commit done and its answer lost");
                self.apply(id, what)?;
                Err(transient("the connection was lost at COMMIT"))
            }
            2 => {
                world.saw("commit done late and its answer lost");
                self.transaction = None;
                let (late, after) = (Arc::clone(world), world.millis(1, 9_000));
                actix::spawn(async move {
                    sleep(after).await;
                    late.tell(|| format!("a late {what} of transaction {id}"));
                    lock(&late.tables).apply(id);
                    late.released.notify_waiters();
                });
                Err(transient("the connection was lost at COMMIT"))
            }
            _ => {
                self.apply(id, what)?;
                takes(self.world.millis(0, 2)).await;
                self.gate.pass().await;
                Ok(())
            }
        }
    }

    fn apply(&mut self, id: u64, what: &str) -> Result<(), WarehouseError> {
        self.transaction = None;
        let done = lock(&self.world.tables).apply(id);
        self.world.tell(|| format!("{what} of transaction {id}: {done}"));
        self.world.released.notify_waiters();
        if done { Ok(()) } else { Err(transient("the connection was lost")) }
    }

    /// The server notices that the client is gone: at once, or some time later.
    fn lose(&mut self) {
        let Some(id) = self.transaction.take() else { return };
        let world = Arc::clone(&self.world);
        let end = move |world: &World| {
            lock(&world.tables).end(id);
            world.released.notify_waiters();
        };
        if world.faults().cut > 0 && world.chance(200) {
            world.saw("connection noticed late as lost");
            let after = world.millis(100, 7_000);
            actix::spawn(async move {
                sleep(after).await;
                end(&world);
            });
        } else {
            end(&world);
        }
    }

    async fn locked_offset(&self, id: u64, partition: i32) -> Result<Option<OffsetRow>, WarehouseError> {
        self.lock(id, Resource::Offset(partition), true).await?;
        Ok(lock(&self.world.tables).offset(id, partition))
    }

    /// Compare-and-set of one transaction's moves; without `set` only the comparison.
    async fn compare(&self, id: u64, topic: &str, moves: &[OffsetMove], set: bool) -> Result<(), WarehouseError> {
        assert!(moves.is_sorted_by_key(|m| m.partition) && !moves.is_empty());
        for m in moves {
            let is = self.locked_offset(id, m.partition).await?;
            let right = is.as_ref().is_some_and(|o| (o.next, o.epoch) == (m.from, m.epoch));
            if !right && self.world.bug != Bug::NoCompareAndSet {
                self.world.saw("fenced");
                return Err(fenced(topic, m.partition, is.as_ref(), (m.from, m.epoch)));
            }
            if set {
                let mut tables = lock(&self.world.tables);
                let open = tables.transaction(id)?;
                open.offsets.insert(m.partition, OffsetRow { next: m.to, ..is.unwrap_or_default() });
                open.gaps.extend(m.gaps.iter().map(|gap| (m.partition, gap.clone())));
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.lose();
    }
}

#[async_trait(?Send)]
impl Warehouse for Connection {
    async fn begin(&mut self) -> Result<(), WarehouseError> {
        assert!(self.transaction.is_none(), "one transaction at a time");
        self.reach().await?;
        self.transaction = Some(lock(&self.world.tables).begin());
        Ok(())
    }

    async fn advance(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        self.reach().await?;
        if self.world.bug != Bug::OffsetBeforeRows {
            return self.compare(self.id(), topic, moves, true).await;
        }
        let mut other = Connection {
            world: Arc::clone(&self.world),
            gate: Arc::clone(&self.gate),
            transaction: Some(lock(&self.world.tables).begin()),
            frail: false,
        };
        other.compare(other.id(), topic, moves, true).await?;
        other.apply(other.id(), "offset")
    }

    async fn hold(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        self.reach().await?;
        self.compare(self.id(), topic, moves, false).await
    }

    async fn savepoint(&mut self) -> Result<(), WarehouseError> {
        self.reach().await?;
        let mut tables = lock(&self.world.tables);
        let open = tables.transaction(self.id())?;
        open.saved = Some(open.rows.clone());
        Ok(())
    }

    async fn rollback_rows(&mut self) -> Result<(), WarehouseError> {
        self.reach().await?;
        let mut tables = lock(&self.world.tables);
        let open = tables.transaction(self.id())?;
        open.rows = open.saved.clone().expect("a savepoint");
        Ok(())
    }

    async fn write(&mut self, rows: Rows<'_>) -> Result<Written, WarehouseError> {
        self.reach().await?;
        let id = self.id();
        let table = &rows.target.table;
        let names: Vec<&str> = rows.names().collect();
        let mut written = Written::default();
        for (at, cells) in rows.iter().enumerate() {
            assert!(cells.iter().all(|c| *c != Cell::Missing));
            let given: Vec<Option<String>> = cells.iter().map(|c| shown(c, rows.arena)).collect();
            let value = |name: &str| names.iter().position(|n| *n == name).and_then(|at| given[at].clone());
            let key = value(&table.columns[table.primary_key[0]].name).expect("a key that is not null");
            let place = (table.name.clone(), key);
            self.lock(id, Resource::Row(place.clone()), true).await?;
            let there = lock(&self.world.tables).row(id, &place).cloned();
            if there.is_some() && rows.target.on_conflict == OnConflict::Ignore {
                written.unchanged.push(at);
                continue;
            }
            let mut row = there.clone().unwrap_or_default();
            for (name, value) in names.iter().zip(&given) {
                match value {
                    Some(value) => _ = row.insert((*name).to_owned(), value.clone()),
                    None => _ = row.remove(*name),
                }
            }
            if there.as_ref() == Some(&row) {
                written.unchanged.push(at);
                continue;
            }
            let mut refused = None;
            if row.get("quantity").is_some_and(|q| q.starts_with('-')) {
                refused = Some((Reason::Check, "quantity is negative".to_owned()));
            }
            for foreign in &table.foreign_keys {
                let Some(key) = row.get(&table.columns[foreign.columns[0]].name) else { continue };
                let parent = (foreign.parent.clone(), key.clone());
                self.lock(id, Resource::Row(parent.clone()), false).await?;
                if lock(&self.world.tables).row(id, &parent).is_none() {
                    refused.get_or_insert((Reason::ForeignKey, format!("{} has no {key}", foreign.parent)));
                }
            }
            match refused {
                Some((reason, message)) => {
                    let rejection = Rejection { reason, field: None, message };
                    written.refused.push(Refusal { row: at, rejection });
                }
                None => _ = lock(&self.world.tables).transaction(id)?.rows.insert(place, row),
            }
        }
        Ok(written)
    }

    async fn set_aside(&mut self, letters: &[DeadLetter], _: DateTime<Utc>) -> Result<(), WarehouseError> {
        self.reach().await?;
        let mut tables = lock(&self.world.tables);
        tables.transaction(self.id())?.letters.extend(letters.iter().map(|l| (l.partition, l.offset)));
        Ok(())
    }

    async fn mark(&mut self, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError> {
        assert!(!marks.is_empty() && marks.is_sorted());
        self.reach().await?;
        let id = self.id();
        for mark in marks {
            self.lock(id, Resource::Mark(lane, mark.bucket), true).await?;
            lock(&self.world.tables).transaction(id)?.marks.insert((lane, mark.bucket));
        }
        Ok(())
    }

    async fn count(&mut self, _: &str, counts: &[PartitionCounts], _: DateTime<Utc>) -> Result<(), WarehouseError> {
        self.reach().await?;
        let id = self.id();
        for PartitionCounts { partition, counts } in counts {
            let mut is = self.locked_offset(id, *partition).await?.unwrap_or_default();
            is.counts = is.counts.plus(*counts);
            lock(&self.world.tables).transaction(id)?.offsets.insert(*partition, is);
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), WarehouseError> {
        Connection::commit(self, "commit").await
    }

    async fn rollback(&mut self) -> Result<(), WarehouseError> {
        self.reach().await?;
        if let Some(id) = self.transaction.take() {
            lock(&self.world.tables).end(id);
            self.world.released.notify_waiters();
        }
        Ok(())
    }

    fn abandon(&mut self) {
        self.lose();
    }
}

/// The value as text; null is not there.
fn shown(cell: &Cell, arena: &[u8]) -> Option<String> {
    match cell {
        Cell::Missing | Cell::Null => None,
        Cell::Int(v) | Cell::DateTime(v) => Some(v.to_string()),
        Cell::Text(s) => Some(String::from_utf8_lossy(s.of(arena)).into_owned()),
        other => panic!("{other:?} is not in this plan"),
    }
}

/// The bookkeeping of one daemon; each call has a connection of its own.
pub struct Book {
    pub world: Arc<World>,
    pub gate: Arc<Gate>,
}

fn standing(topic: &str, partition: i32, row: &OffsetRow) -> PartitionOffset {
    let Counts { applied, duplicates, dead_letters, gaps } = row.counts;
    PartitionOffset {
        topic: topic.to_owned(),
        partition,
        topic_id: "t".to_owned(),
        epoch: row.epoch,
        start_offset: row.start,
        next_offset: row.next,
        counts: CountsView { applied, duplicates, dead_letters, gaps },
        updated_at: DateTime::UNIX_EPOCH,
    }
}

#[async_trait(?Send)]
impl Bookkeeping for Book {
    async fn claim(
        &self,
        topic: &str,
        claims: &[Claim],
        _: DateTime<Utc>,
    ) -> Result<Vec<PartitionOffset>, WarehouseError> {
        let mut connection = Connection::open(Arc::clone(&self.world), Arc::clone(&self.gate)).await?;
        connection.frail = false;
        connection.begin().await?;
        let id = connection.id();
        let mut ascending: Vec<&Claim> = claims.iter().collect();
        ascending.sort_by_key(|c| c.partition);
        let mut taken = BTreeMap::new();
        for claim in ascending {
            connection.reach().await?;
            let is = connection.locked_offset(id, claim.partition).await?;
            let first = OffsetRow { start: claim.start_offset, next: claim.start_offset, ..OffsetRow::default() };
            let mut row = is.unwrap_or(first);
            row.epoch += 1;
            taken.insert(claim.partition, standing(topic, claim.partition, &row));
            lock(&self.world.tables).transaction(id)?.offsets.insert(claim.partition, row);
        }
        Connection::commit(&mut connection, "claim").await?;
        Ok(claims.iter().filter_map(|c| taken.remove(&c.partition)).collect())
    }

    async fn introduce(&self, _: &str, _: &[Claim], _: DateTime<Utc>) -> Result<(), WarehouseError> {
        panic!("no stream here begins at the latest record")
    }

    async fn offsets(&self, topic: Option<&str>) -> Result<Vec<PartitionOffset>, WarehouseError> {
        Connection::open(Arc::clone(&self.world), Arc::clone(&self.gate)).await?;
        let tables = lock(&self.world.tables);
        Ok(tables.offsets.iter().map(|(p, row)| standing(topic.unwrap_or_default(), *p, row)).collect())
    }

    async fn ledger(&self, _: &str) -> Result<Ledger, WarehouseError> {
        panic!("no actor asks for it")
    }

    async fn reset(&self, _: &str, _: &[(reset::Step, i64)], _: DateTime<Utc>) -> Result<(), WarehouseError> {
        panic!("no actor asks for it")
    }

    async fn truncated(&self, _: &str, _: i32, _: Option<i64>, _: DateTime<Utc>) -> Result<(), WarehouseError> {
        panic!("no broker here truncates a log")
    }

    async fn dead_letters(&self, _: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>, WarehouseError> {
        panic!("no actor asks for it")
    }

    async fn dead_letter(&self, _: i64) -> Result<Option<StoredDeadLetter>, WarehouseError> {
        panic!("no actor asks for it")
    }

    async fn count_rows(&self, _: &str) -> Result<i64, WarehouseError> {
        panic!("no actor asks for it")
    }
}
