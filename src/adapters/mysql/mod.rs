//! The warehouse in MySQL or MariaDB: one connection, one transaction at a time. Rows go the direct way while they are
//! all new (direct.rs) and the staged way otherwise (staged.rs, poison.rs); ways.rs says when. A connection whose last
//! statement did not end well is dropped, and never used again; dropping any future here does the same.

mod aggregate_queries;
mod aggregates;
mod answers;
mod catalog;
mod connection;
mod direct;
mod dropped;
mod errors;
mod grants;
mod infile;
mod letters;
mod marks;
mod params;
mod poison;
#[cfg(test)]
mod rogue_tests;
mod staged;
pub mod staging;
mod transaction;
pub mod tsv;
mod ways;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use self::aggregates::MySqlAggregates;
pub(super) use self::connection::LIMITS;
use self::connection::{Address, Session};
use self::direct::WentIn;
use self::errors::Failure;
use self::poison::UnknownTries;
use self::staged::Expected;
use self::ways::Way;
use crate::config::WarehouseConfig;
use crate::core::cell::Cell;
use crate::core::marks::Mark;
use crate::core::target::Rows;
use crate::messages::{DeadLetter, OffsetMove};
use crate::ports::{
    AggregateSource, Catalog, LetterWarehouse, OpenAggregateSource, OpenLetterWarehouse, OpenWarehouse,
    PartitionCounts, Warehouse, WarehouseError, Written,
};

/// The way to open a writer's warehouse on its own thread: connects, sets the session up, and fails as
/// [`Warehouse::begin`] does.
pub fn open(settings: &WarehouseConfig) -> OpenWarehouse {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move { Ok(Box::new(MySqlWarehouse::connect(&settings).await?) as Box<dyn Warehouse>) })
    })
}

/// The same for what takes dead letters away.
pub fn open_letters(settings: &WarehouseConfig) -> OpenLetterWarehouse {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move { Ok(Box::new(MySqlWarehouse::connect(&settings).await?) as Box<dyn LetterWarehouse>) })
    })
}

/// The same for what reads rows and marks for aggregates.
pub fn open_aggregates(settings: &WarehouseConfig) -> OpenAggregateSource {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move {
            let source = MySqlAggregates::connect(Address::of(&settings)?).await?;
            Ok(Box::new(source) as Box<dyn AggregateSource>)
        })
    })
}

/// Reads what tables there are; connects when first asked.
///
/// # Errors
/// Fatal where the URL is none.
pub fn catalog(settings: &WarehouseConfig) -> Result<Box<dyn Catalog>, WarehouseError> {
    Ok(Box::new(catalog::MySqlCatalog::new(Address::of(settings)?)))
}

struct MySqlWarehouse {
    address: Address,
    /// None after anything went wrong. Taken out while a statement runs, so that a dropped future takes it along.
    session: Option<Session>,
    in_transaction: bool,
    ways: HashMap<String, Way>,
    tries: UnknownTries,
    /// The text of a batch; lent to the connection and back.
    buffer: Vec<u8>,
}

impl MySqlWarehouse {
    async fn connect(settings: &WarehouseConfig) -> Result<Self, Failure> {
        let address = Address::of(settings)?;
        let session = address.connect().await?;
        Ok(Self {
            address,
            session: Some(session),
            in_transaction: false,
            ways: HashMap::new(),
            tries: UnknownTries::default(),
            buffer: Vec::new(),
        })
    }

    fn take(&mut self) -> Result<Session, Failure> {
        self.session
            .take()
            .ok_or_else(|| Failure::Transient("the connection to the database was lost within the transaction".into()))
    }

    /// The rows at these positions once more, the others being in: the staged way finds what is wrong with each.
    async fn write_dropped(
        &mut self,
        session: &mut Session,
        rows: &Rows<'_>,
        positions: &[usize],
    ) -> Result<Written, Failure> {
        let cells: Vec<Cell> = positions.iter().flat_map(|&position| rows.row(position)).copied().collect();
        let few = Rows { cells: &cells, ..*rows };
        let forms = tsv::forms(&few);
        let outcome =
            staged::write(session, &few, &forms, &mut self.buffer, Expected::default(), &mut self.tries).await?;
        let mut written = outcome.written;
        written.unchanged.iter_mut().for_each(|row| *row = positions[*row]);
        written.refused.iter_mut().for_each(|refusal| refusal.row = positions[refusal.row]);
        Ok(Written { others_in: true, ..written })
    }

    async fn run(&mut self, sql: &str) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        session.run(sql).await?;
        self.session = Some(session);
        Ok(())
    }
}

#[async_trait(?Send)]
impl Warehouse for MySqlWarehouse {
    async fn begin(&mut self) -> Result<(), WarehouseError> {
        if std::mem::replace(&mut self.in_transaction, true) {
            self.session = None;
        }
        // A connection that idled may be gone; only a new one tells whether the server is.
        if let Some(mut session) = self.session.take()
            && session.run("START TRANSACTION").await.is_ok()
        {
            self.session = Some(session);
            return Ok(());
        }
        let mut session = self.address.connect().await?;
        session.run("START TRANSACTION").await?;
        self.session = Some(session);
        Ok(())
    }

    async fn advance(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        transaction::advance(&mut session, topic, moves).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn hold(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        transaction::hold(&mut session, topic, moves).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), WarehouseError> {
        self.run("SAVEPOINT bief_rows").await
    }

    async fn rollback_rows(&mut self) -> Result<(), WarehouseError> {
        self.run("ROLLBACK TO SAVEPOINT bief_rows").await
    }

    async fn write(&mut self, rows: Rows<'_>) -> Result<Written, WarehouseError> {
        if rows.is_empty() {
            return Ok(Written::default());
        }
        let mut session = self.take()?;
        let forms = tsv::forms(&rows);
        let target = rows.target;
        let mut way = self
            .ways
            .get(&target.table.name)
            .copied()
            .unwrap_or_else(|| Way::starting(target.dimension, target.on_conflict));
        let mut written = None;
        if way.is_direct() {
            crate::failpoint!("rows-direct", |what| return Err(WarehouseError::Transient { what }));
            let went_in = direct::write(&mut session, &rows, &forms, &mut self.buffer).await?;
            way.direct(went_in != WentIn::Nothing);
            written = match went_in {
                WentIn::All => Some(Written::default()),
                WentIn::AllBut(positions) => Some(self.write_dropped(&mut session, &rows, &positions).await?),
                WentIn::Nothing => None,
            };
        }
        let written = match written {
            Some(written) => written,
            None => {
                crate::failpoint!("rows-staged", |what| return Err(WarehouseError::Transient { what }));
                let tries = &mut self.tries;
                let outcome =
                    staged::write(&mut session, &rows, &forms, &mut self.buffer, way.expected(), tries).await?;
                // Refused rows say nothing of the others, which come again without them.
                if outcome.written.refused.is_empty() {
                    way.staged(outcome.clean, outcome.expected);
                }
                outcome.written
            }
        };
        self.ways.insert(target.table.name.clone(), way);
        self.session = Some(session);
        Ok(written)
    }

    async fn set_aside(&mut self, letters: &[DeadLetter], now: DateTime<Utc>) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        transaction::set_aside(&mut session, letters, now).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn mark(&mut self, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        marks::mark(&mut session, lane, marks).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn count(
        &mut self,
        topic: &str,
        counts: &[PartitionCounts],
        now: DateTime<Utc>,
    ) -> Result<(), WarehouseError> {
        let mut session = self.take()?;
        transaction::count(&mut session, topic, counts, now).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), WarehouseError> {
        self.run("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), WarehouseError> {
        self.run("ROLLBACK").await?;
        self.in_transaction = false;
        Ok(())
    }

    fn abandon(&mut self) {
        self.session = None;
        self.in_transaction = false;
    }
}
