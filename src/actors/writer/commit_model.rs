//! A warehouse in memory with primary keys, foreign keys, a CHECK (`quantity` and `city` must not be negative) and a
//! unique index (`serial`).
//! Holds the committer to the port's rules: rows with distinct ascending keys, no missing cells, one transaction.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::core::cell::Cell;
use crate::core::marks::Mark;
use crate::core::outcome::{Counts, Reason, Rejection};
use crate::core::schema::Table;
use crate::core::target::{OnConflict, Rows};
use crate::core::testing::show;
use crate::messages::{DeadLetter, OffsetMove};
use crate::ports::{PartitionCounts, Refusal, Warehouse, WarehouseError, Written};

/// Column -> value; a column that is not there has its default, which is null.
pub type Row = BTreeMap<String, String>;
/// Table -> key -> row.
pub type Tables = BTreeMap<String, BTreeMap<Vec<String>, Row>>;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Database {
    pub tables: Tables,
    /// Next offset and epoch of a partition.
    pub offsets: BTreeMap<i32, (i64, i64)>,
    pub counts: BTreeMap<i32, Counts>,
    pub letters: Vec<DeadLetter>,
    /// How often a lane marked a bucket: source, start, lane.
    pub marks: BTreeMap<(String, i64, i32), i64>,
}

impl Database {
    /// Writes one row as a statement of its own would; `Ok(false)` where it was there already.
    fn put(&mut self, rows: &Rows<'_>, at: usize) -> Result<bool, Rejection> {
        let mut next = self.clone();
        let Some(key) = next.put_unchecked(rows, at) else { return Ok(false) };
        next.check(&rows.target.table, &key)?;
        *self = next;
        Ok(true)
    }

    /// The key of the row that was inserted or changed.
    pub fn put_unchecked(&mut self, rows: &Rows<'_>, at: usize) -> Option<Vec<String>> {
        let table = &rows.target.table;
        let values = rows.row(at).iter().map(|c| show(c, rows.arena));
        let cells: Row = rows.names().map(str::to_owned).zip(values).collect();
        let key: Vec<String> = table.primary_key.iter().map(|&k| cells[&table.columns[k].name].clone()).collect();
        let there = self.tables.get(&table.name).and_then(|t| t.get(&key));
        if there.is_some() && rows.target.on_conflict == OnConflict::Ignore {
            return None;
        }
        let mut row = there.cloned().unwrap_or_default();
        row.extend(cells.into_iter().filter(|(_, value)| value != "-"));
        row.retain(|_, value| value != "null");
        if there == Some(&row) {
            return None;
        }
        self.tables.entry(table.name.clone()).or_default().insert(key.clone(), row);
        Some(key)
    }

    /// Whether CHECK and foreign keys take the row that is there.
    pub fn check(&self, table: &Table, key: &[String]) -> Result<(), Rejection> {
        let row = &self.tables[&table.name][key];
        let refuse = |reason, message: String| Err(Rejection { reason, field: None, message });
        if let Some((name, value)) = row.iter().find(|(_, value)| value.starts_with('-')) {
            return refuse(Reason::Check, format!("{name} is {value}"));
        }
        if let Some(serial) = row.get("serial")
            && self.tables[&table.name].iter().any(|(other, row)| other != key && row.get("serial") == Some(serial))
        {
            return refuse(Reason::UniqueKey, format!("{serial} is another's"));
        }
        for foreign in &table.foreign_keys {
            let Some(value) = row.get(&table.columns[foreign.columns[0]].name) else { continue };
            if !self.tables.get(&foreign.parent).is_some_and(|t| t.contains_key(std::slice::from_ref(value))) {
                return refuse(Reason::ForeignKey, format!("{} has no {value}", foreign.parent));
            }
        }
        Ok(())
    }
}

/// What happened to a warehouse, and what shall.
#[derive(Default)]
pub struct Ledger {
    /// What is committed.
    pub database: Database,
    /// Happens once the next commit is in and before its answer is: what another lane does meanwhile.
    pub meanwhile: Option<Box<dyn FnOnce()>>,
    pub fail_commit: bool,
    /// The next commit goes in, and its answer is lost.
    pub lose_answer: bool,
    /// Rows handed to `write`, by table.
    pub handed: BTreeMap<String, usize>,
    pub rolled_back: usize,
    /// Beside refused rows of a table the others stay, as after a LOAD that dropped rows.
    pub others_stay: bool,
}

#[derive(Default)]
pub struct Model {
    pub ledger: Rc<RefCell<Ledger>>,
    open: Option<Database>,
    saved: Option<Database>,
    /// A call over several rows was refused: only going back is allowed.
    must_return: bool,
}

impl Model {
    fn open(&mut self) -> &mut Database {
        self.open.as_mut().expect("a transaction is open")
    }
}

#[async_trait(?Send)]
impl Warehouse for Model {
    async fn begin(&mut self) -> Result<(), WarehouseError> {
        assert!(self.open.is_none(), "one transaction at a time");
        self.open = Some(self.ledger.borrow().database.clone());
        (self.saved, self.must_return) = (None, false);
        Ok(())
    }

    async fn advance(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        assert!(moves.is_sorted_by_key(|m| m.partition));
        for m in moves {
            let at = self.open().offsets.entry(m.partition).or_insert((0, m.epoch));
            if *at != (m.from, m.epoch) {
                let (topic, detail) = (topic.to_owned(), format!("{at:?}"));
                return Err(WarehouseError::Fenced { topic, partition: m.partition, detail });
            }
            at.0 = m.to;
        }
        Ok(())
    }

    async fn hold(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        for m in moves {
            let at = *self.open().offsets.entry(m.partition).or_insert((0, m.epoch));
            if at != (m.from, m.epoch) {
                let (topic, detail) = (topic.to_owned(), format!("{at:?}"));
                return Err(WarehouseError::Fenced { topic, partition: m.partition, detail });
            }
        }
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), WarehouseError> {
        self.saved = self.open.clone();
        Ok(())
    }

    async fn rollback_rows(&mut self) -> Result<(), WarehouseError> {
        self.open = Some(self.saved.clone().expect("a savepoint"));
        self.must_return = false;
        self.ledger.borrow_mut().rolled_back += 1;
        Ok(())
    }

    async fn write(&mut self, rows: Rows<'_>) -> Result<Written, WarehouseError> {
        assert!(!rows.is_empty() && rows.cells.iter().all(|c| *c != Cell::Missing) && !self.must_return);
        let keys: Vec<Vec<String>> = rows.iter().map(|row| vec![show(&row[key_at(&rows)], rows.arena)]).collect();
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "keys are distinct");
        *self.ledger.borrow_mut().handed.entry(rows.target.table.name.clone()).or_default() += rows.len();
        let mut written = Written::default();
        // What is refused for what others hold is tried again, as long as one of them goes in.
        let mut turn: Vec<usize> = (0..rows.len()).collect();
        loop {
            let tried = turn.len();
            for at in turn {
                match self.open().put(&rows, at) {
                    Ok(true) => {}
                    Ok(false) => written.unchanged.push(at),
                    Err(rejection) => written.refused.push(Refusal { row: at, rejection }),
                }
            }
            if written.refused.is_empty() || written.refused.len() == tried {
                break;
            }
            turn = written.refused.drain(..).map(|refusal| refusal.row).collect();
        }
        written.unchanged.sort_unstable();
        written.others_in = self.ledger.borrow().others_stay && !written.refused.is_empty();
        self.must_return = !written.refused.is_empty() && rows.len() > 1 && !written.others_in;
        Ok(written)
    }

    async fn set_aside(&mut self, letters: &[DeadLetter], _: DateTime<Utc>) -> Result<(), WarehouseError> {
        self.open().letters.extend_from_slice(letters);
        Ok(())
    }

    async fn mark(&mut self, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError> {
        assert!(!marks.is_empty() && marks.is_sorted() && !self.must_return);
        for Mark { source, bucket } in marks {
            *self.open().marks.entry((source.to_string(), *bucket, lane)).or_default() += 1;
        }
        Ok(())
    }

    async fn count(&mut self, _: &str, counts: &[PartitionCounts], _: DateTime<Utc>) -> Result<(), WarehouseError> {
        assert!(counts.is_sorted_by_key(|c| c.partition));
        for PartitionCounts { partition, counts } in counts {
            let total = self.open().counts.entry(*partition).or_default();
            *total = total.plus(*counts);
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), WarehouseError> {
        assert!(!self.must_return, "a refused call is committed");
        let open = self.open.take().expect("a transaction is open");
        let mut ledger = self.ledger.borrow_mut();
        if std::mem::take(&mut ledger.fail_commit) {
            return Err(WarehouseError::Transient { what: "the connection is lost".to_owned() });
        }
        ledger.database = open;
        if std::mem::take(&mut ledger.lose_answer) {
            return Err(WarehouseError::Transient { what: "the connection is lost after COMMIT".to_owned() });
        }
        let meanwhile = ledger.meanwhile.take();
        drop(ledger);
        if let Some(happens) = meanwhile {
            happens();
        }
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), WarehouseError> {
        self.open = None;
        Ok(())
    }

    fn abandon(&mut self) {
        self.open = None;
    }
}

/// Where the key stands in a row's cells.
fn key_at(rows: &Rows<'_>) -> usize {
    rows.columns.iter().position(|c| *c == rows.target.key[0]).expect("the key is among the columns")
}
