//! The database side of a drill: a database of its own made and removed, what stands in it, and locks that get in the
//! writers' way. Must never touch another database than the drill's, nor change a setting of the server unasked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::{Address, Session, quoted};
use super::errors::Failure;
use crate::config::WarehouseConfig;
use crate::core::drill::records::Content;
use crate::ports::WarehouseError;

/// The tables of a drill, as `bief run` applies them.
pub const TABLES: &str = "\
CREATE TABLE drill_group (code VARCHAR(20) NOT NULL, PRIMARY KEY (code));
CREATE TABLE drill_record (
  number BIGINT NOT NULL,
  member_of VARCHAR(20) NOT NULL,
  amount BIGINT NOT NULL,
  note VARCHAR(60) NOT NULL,
  PRIMARY KEY (number),
  CONSTRAINT drill_record_group FOREIGN KEY (member_of) REFERENCES drill_group (code)
);
";

/// Rows read at once.
const PAGE: usize = 10_000;
/// Rows that make a transaction heavier than a writer's, so that the server takes the writer for its victim.
const BALLAST: usize = 4_000;
const BALLAST_STATEMENT: usize = 1_000;

/// What the bookkeeping says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The next offset, by partition.
    pub next_offsets: BTreeMap<i32, i64>,
    pub applied: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
}

/// A connection of the drill's own, opened again where it was lost.
pub struct Staging {
    address: Address,
    session: Option<Session>,
}

impl Staging {
    /// Connects when first asked.
    ///
    /// # Errors
    /// Where the URL is none.
    pub fn new(settings: &WarehouseConfig) -> Result<Self, WarehouseError> {
        Ok(Self { address: Address::of(settings)?, session: None })
    }

    async fn session(&mut self) -> Result<Session, Failure> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => self.address.connect().await,
        }
    }

    async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        let mut session = self.session().await?;
        session.run(sql).await?;
        self.session = Some(session);
        Ok(())
    }

    /// Whether the server takes LOAD DATA LOCAL.
    pub async fn takes_loads(&mut self) -> Result<bool, WarehouseError> {
        let session = self.session().await?;
        let takes = session.server.local_infile;
        self.session = Some(session);
        Ok(takes)
    }

    /// # Errors
    /// Where it is there already: it is somebody's.
    pub async fn create_database(&mut self, name: &str) -> Result<(), WarehouseError> {
        Ok(self.run(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", quoted(name)?)).await?)
    }

    pub async fn drop_database(&mut self, name: &str) -> Result<(), WarehouseError> {
        Ok(self.run(&format!("DROP DATABASE IF EXISTS {}", quoted(name)?)).await?)
    }

    /// What is committed of a topic.
    pub async fn standing(&mut self, topic: &str) -> Result<Standing, WarehouseError> {
        let mut session = self.session().await?;
        let sql =
            "SELECT partition_id, next_offset, applied, duplicates, dead_letters FROM bief_offset WHERE topic = ?";
        let rows: Vec<(i32, i64, i64, i64, i64)> = session.ask(sql, vec![topic.into()]).await?;
        self.session = Some(session);
        Ok(rows.into_iter().fold(Standing::default(), |mut all, (partition, next, applied, duplicates, dead)| {
            all.next_offsets.insert(partition, next);
            all.applied += applied;
            all.duplicates += duplicates;
            all.dead_letters += dead;
            all
        }))
    }

    /// Hands every row to `each`, in the order of their numbers.
    pub async fn rows(&mut self, each: &mut dyn FnMut(Content)) -> Result<(), WarehouseError> {
        let mut after: i64 = -1;
        loop {
            let mut session = self.session().await?;
            let sql = format!(
                "SELECT number, member_of, amount, note FROM drill_record WHERE number > ? ORDER BY number LIMIT {PAGE}"
            );
            let rows: Vec<(i64, String, i64, String)> = session.ask(&sql, vec![after.into()]).await?;
            self.session = Some(session);
            let Some((last, ..)) = rows.last() else { return Ok(()) };
            after = *last;
            for (number, group, amount, note) in rows {
                each(Content { number: number.try_into().unwrap_or(u64::MAX), group, amount, note });
            }
        }
    }

    /// Locks what writers write, for so long, and lets it go. False where the locks were not to be had.
    pub async fn lock_rows(&mut self, topic: &str, hold: Duration) -> Result<bool, WarehouseError> {
        let mut session = self.session().await?;
        session.run("START TRANSACTION").await?;
        let sql = "SELECT next_offset FROM bief_offset WHERE topic = ? FOR UPDATE";
        match session.ask::<i64>(sql, vec![topic.into()]).await {
            Ok(_) => {}
            Err(Failure::Transient(_)) => return Ok(false),
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(hold).await;
        session.run("ROLLBACK").await?;
        self.session = Some(session);
        Ok(true)
    }

    /// Locks the parents' rows, waits until writers that hold their offsets' rows want them, and then asks for the
    /// offsets' rows. True where the server told this connection that it was the victim.
    pub async fn lock_crosswise(&mut self, topic: &str, wait: Duration) -> Result<bool, WarehouseError> {
        self.run("CREATE TABLE IF NOT EXISTS drill_ballast (number INTEGER NOT NULL PRIMARY KEY)").await?;
        let mut session = self.session().await?;
        session.run("START TRANSACTION").await?;
        for start in (0..BALLAST).step_by(BALLAST_STATEMENT) {
            let values: Vec<_> = (start..start + BALLAST_STATEMENT).map(|number| format!("({number})")).collect();
            session.run(&format!("INSERT INTO drill_ballast VALUES {}", values.join(","))).await?;
        }
        // Each of the two can itself be what the server sacrifices, or wait in vain.
        match session.rows::<String>("SELECT code FROM drill_group FOR UPDATE").await {
            Ok(_) => {}
            Err(Failure::Transient(_)) => return Ok(true),
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(wait).await;
        let sql = "SELECT next_offset FROM bief_offset WHERE topic = ? FOR UPDATE";
        match session.ask::<i64>(sql, vec![topic.into()]).await {
            Ok(_) => {}
            Err(Failure::Transient(_)) => return Ok(true),
            Err(other) => return Err(other.into()),
        }
        session.run("ROLLBACK").await?;
        self.session = Some(session);
        Ok(false)
    }

    /// `super_read_only` of the whole server; MariaDB has none that binds an administrator.
    pub async fn set_read_only(&mut self, on: bool) -> Result<(), WarehouseError> {
        if on {
            return Ok(self.run("SET GLOBAL super_read_only = ON").await?);
        }
        // Each by its own: the first lifts the second only on some versions.
        self.run("SET GLOBAL super_read_only = OFF").await?;
        Ok(self.run("SET GLOBAL read_only = OFF").await?)
    }

    /// Whether [`Staging::set_read_only`] would be taken; changes nothing.
    ///
    /// # Errors
    /// Where the account lacks the right.
    pub async fn may_set_read_only(&mut self) -> Result<(), WarehouseError> {
        Ok(self.run("SET GLOBAL super_read_only = @@GLOBAL.super_read_only").await?)
    }

    pub async fn is_mariadb(&mut self) -> Result<bool, WarehouseError> {
        let session = self.session().await?;
        let mariadb = session.server.mariadb;
        self.session = Some(session);
        Ok(mariadb)
    }
}
