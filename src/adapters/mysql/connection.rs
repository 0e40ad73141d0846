//! One connection to the server: how it is opened, what its session is set to, and the three ways to send a
//! statement. A connection whose statement did not end is dropped by whoever holds it and never used again;
//! no message carries the URL, since it holds a password.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mysql_async::prelude::{FromRow, Protocol, Queryable};
use mysql_async::{Column, Conn, Error, IoError, Opts, OptsBuilder, QueryResult, Row, SslOpts, Value};

use super::dropped::USUALLY_LISTED;
use super::errors::{Failure, of_url, tls_refused};
use super::infile::InfileGuard;
use super::staged::Stage;
use crate::adapters::sql_errors::tls_was_disturbed;
use crate::config::{Load, Tls, WarehouseConfig};

/// Address, TLS and log-in together; a server that takes longer is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A statement that takes longer hangs: a batch takes well under a second, and the server's own wait for a lock ends
/// as [`LIMITS`] say.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Prepared statements kept: one for each table and number of rows, of which there are few. With all its placeholders each
/// takes some 200 bytes a cell, here and at the server.
const PREPARED: usize = 64;
/// The buffer of a batch larger than this is given back to the system.
const KEPT_BUFFER: usize = 1 << 20;

/// Of each session of bief's, in seconds. A daemon that is paused, or whose host is gone, must not hold its rows' locks
/// for the server's usual 8 hours: hence `wait_timeout`. Whoever takes the partitions over, when the group's
/// patience is over (6 s unless set), waits for what is left of it. A connection that idled away is opened again. A lock that is not
/// given up in time is waited for by asking again: of a row, or of a table (`lock_wait_timeout`, a year by default), that
/// an ALTER TABLE or LOCK TABLES keeps, since who waits keeps the offsets' rows.
pub const LIMITS: &str = "SET SESSION wait_timeout = 30, innodb_lock_wait_timeout = 10, lock_wait_timeout = 10";

/// `ESCAPED BY` needs backslash escapes, so NO_BACKSLASH_ESCAPES must be absent; so must ANSI_QUOTES. A 0 in a column with
/// AUTO_INCREMENT is that number, not the next one.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', foreign_key_checks = 1, \
     unique_checks = 1, autocommit = 1, sql_safe_updates = 0";

/// Where the server is and how to log in.
#[derive(Clone)]
pub(super) struct Address {
    opts: Opts,
    /// `host:port`, for messages.
    shown: String,
    load: Load,
}

/// What the server said of itself.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub mariadb: bool,
    /// Rows may go by LOAD DATA LOCAL.
    pub local_infile: bool,
    pub max_allowed_packet: usize,
}

/// What a statement without rows did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub affected: u64,
    pub warnings: u16,
    /// Rows that were there and were changed, as the server's info text tells, where it does.
    pub changed: Option<u64>,
    /// Of an UPDATE: rows that were found, changed or not.
    pub matched: Option<u64>,
}

/// An open connection with what is known of its temporary tables.
pub(super) struct Session {
    conn: Conn,
    guard: InfileGuard,
    pub server: Server,
    pub stages: HashMap<(String, Vec<usize>), Stage>,
    /// Column definitions of real tables, as the stages copy them.
    pub definitions: HashMap<String, Vec<(String, String)>>,
    /// Columns of the unique indexes of real tables, by index, read when a clash has to be named.
    pub indexes: HashMap<String, HashMap<String, Vec<String>>>,
}

impl Address {
    pub fn of(settings: &WarehouseConfig) -> Result<Self, Failure> {
        let opts = Opts::from_url(settings.url.expose()).map_err(|error| Failure::Fatal(of_url(&error)))?;
        if opts.db_name().is_none_or(str::is_empty) {
            return Err(Failure::Fatal(
                "warehouse.url names no database; mysql://user:password@host:port/database is expected".into(),
            ));
        }
        let shown = format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port());
        let opts = OptsBuilder::from_opts(opts)
            .ssl_opts(ssl(settings.tls, settings.ca.clone()))
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE))
            .stmt_cache_size(PREPARED)
            // Affected rows tell whether a row was changed, not whether it was found.
            .client_found_rows(false);
        Ok(Self { opts: opts.into(), shown, load: settings.load })
    }

    /// Connects and sets the session up.
    pub async fn connect(&self) -> Result<Session, Failure> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.log_in()).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(Failure::Transient(what))) => {
                Err(Failure::Transient(format!("cannot connect to the database at {}: {what}", self.shown)))
            }
            Ok(Err(other)) => Err(other),
            Err(_) => Err(Failure::Transient(format!(
                "the database at {} did not answer within {} s",
                self.shown,
                CONNECT_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn log_in(&self) -> Result<Session, Failure> {
        let guard = InfileGuard::default();
        let opts = OptsBuilder::from_opts(self.opts.clone()).local_infile_handler(Some(guard.clone()));
        let mut conn = Conn::new(opts).await.map_err(at_connect)?;
        conn.query_drop(SESSION).await?;
        conn.query_drop("SET NAMES utf8mb4").await?;
        conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        conn.query_drop(LIMITS).await?;
        let told: Option<(String, u64, u64)> =
            conn.query_first("SELECT VERSION(), @@GLOBAL.local_infile, @@GLOBAL.max_allowed_packet").await?;
        let (version, local_infile, packet) =
            told.ok_or_else(|| Failure::Transient("the server does not tell its version".into()))?;
        if self.load == Load::LoadData && local_infile == 0 {
            return Err(Failure::Fatal(
                "warehouse.load demands LOAD DATA LOCAL, but the server has local_infile off: \
                 SET GLOBAL local_infile = ON there, or set warehouse.load = \"auto\""
                    .into(),
            ));
        }
        let server = Server {
            mariadb: version.contains("MariaDB"),
            local_infile: local_infile != 0 && self.load != Load::Insert,
            max_allowed_packet: usize::try_from(packet).unwrap_or(usize::MAX),
        };
        let mut session = Session {
            conn,
            guard,
            server,
            stages: HashMap::new(),
            definitions: HashMap::new(),
            indexes: HashMap::new(),
        };
        if session.server.mariadb {
            session.list_warnings(USUALLY_LISTED).await?;
        }
        Ok(session)
    }
}

/// `rustls` with `ring`, the only provider that is compiled in. Without a named authority the roots are Mozilla's.
fn ssl(tls: Tls, ca: Option<PathBuf>) -> Option<SslOpts> {
    let named = ca.is_some();
    let roots = ca.into_iter().map(Into::into).collect();
    let opts = SslOpts::default().with_root_certs(roots).with_disable_built_in_roots(named);
    match tls {
        Tls::Disable => None,
        Tls::Require => Some(opts.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)),
        Tls::Verify => Some(opts),
    }
}

/// While connecting, what rustls refuses comes as invalid data; a file that is not there as an I/O error.
fn at_connect(error: Error) -> Failure {
    match error {
        Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            match tls_was_disturbed(&error) {
                true => Failure::Transient(format!("TLS with the database: {error}")),
                false => Failure::Fatal(tls_refused(&error)),
            }
        }
        Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Failure::Fatal(format!("the file that warehouse.ca names: {error}"))
        }
        other => other.into(),
    }
}

async fn limited<T>(statement: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    judged(statement, Failure::from).await
}

/// What the error of a statement means is for `judge` to say.
async fn judged<T>(
    statement: impl Future<Output = Result<T, Error>>,
    judge: fn(Error) -> Failure,
) -> Result<T, Failure> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(answer) => answer.map_err(judge),
        Err(_) => Err(Failure::Transient(format!(
            "the database did not answer a statement within {} s",
            STATEMENT_TIMEOUT.as_secs()
        ))),
    }
}

impl Session {
    /// Sends a statement as text. It must hold no value of a record.
    pub async fn run(&mut self, sql: &str) -> Result<Ack, Failure> {
        limited(async {
            let result = self.conn.query_iter(sql).await?;
            let ack = ack(&result);
            result.drop_result().await?;
            Ok(ack)
        })
        .await
    }

    /// Sends a query as text and reads its rows. It must hold no value of a record.
    pub async fn rows<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Vec<T>, Failure> {
        limited(self.conn.query(sql)).await
    }

    /// Lets SHOW WARNINGS list so many. MySQL lets only some accounts set it: without, its default holds.
    pub async fn list_warnings(&mut self, most: u16) -> Result<(), Failure> {
        match self.run(&format!("SET SESSION max_error_count = {most}")).await {
            Ok(_) | Err(Failure::Fatal(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Executes a prepared statement.
    pub async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<Ack, Failure> {
        limited(async {
            let result = self.conn.exec_iter(sql, values).await?;
            let ack = ack(&result);
            result.drop_result().await?;
            Ok(ack)
        })
        .await
    }

    /// Executes a prepared query and reads its rows.
    pub async fn ask<T: FromRow + Send + 'static>(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<T>, Failure> {
        limited(self.conn.exec(sql, values)).await
    }

    /// Executes a prepared query of the domain and reads its rows with their columns.
    pub async fn answer(&mut self, sql: &str, values: Vec<Value>) -> Result<(Arc<[Column]>, Vec<Row>), Failure> {
        judged(
            async {
                let result = self.conn.exec_iter(sql, values).await?;
                let columns = result.columns().unwrap_or_else(|| Arc::from([]));
                Ok((columns, result.collect_and_drop().await?))
            },
            Failure::of_query,
        )
        .await
    }

    /// `LOAD DATA LOCAL INFILE '…' {into}` with `text` as the file. The buffer is lent without copying and comes back
    /// empty.
    pub async fn load(&mut self, into: &str, text: &mut Vec<u8>) -> Result<Ack, Failure> {
        let data = Bytes::from(std::mem::take(text));
        let name = self.guard.arm(data.clone());
        let answer = self.run(&format!("LOAD DATA LOCAL INFILE '{name}' {into}")).await;
        self.guard.disarm();
        *text = Vec::from(data);
        text.clear();
        if text.capacity() > KEPT_BUFFER {
            text.shrink_to(KEPT_BUFFER);
        }
        if matches!(answer, Err(Failure::LocalInfileOff(_))) {
            self.server.local_infile = false;
        }
        answer
    }
}

fn ack<P: Protocol>(result: &QueryResult<'_, '_, P>) -> Ack {
    let info = result.info();
    Ack {
        affected: result.affected_rows(),
        warnings: result.warnings(),
        changed: counted(&info, "Duplicates: ").or_else(|| counted(&info, "Changed: ")),
        matched: counted(&info, "Rows matched: "),
    }
}

/// A number of `Records: 3  Duplicates: 1  Warnings: 0` or `Rows matched: 3  Changed: 1  Warnings: 0`.
fn counted(info: &str, label: &str) -> Option<u64> {
    info.split_once(label)?.1.split_ascii_whitespace().next()?.parse().ok()
}

/// A name between backticks. What no table or column can be called is refused.
pub(super) fn quoted(name: &str) -> Result<String, Failure> {
    if name.is_empty() || name.chars().count() > 64 || name.contains('\0') {
        return Err(Failure::Fatal(format!("{name:?} cannot be the name of a table or column: correct the mapping")));
    }
    Ok(format!("`{}`", name.replace('`', "``")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn settings(url: &str) -> WarehouseConfig {
        WarehouseConfig { url: Secret::new(url), tls: Tls::Disable, ca: None, migrations: None, load: Load::Auto }
    }

    #[test]
    fn names_are_quoted_and_cannot_end_the_quote() {
        assert_eq!(quoted("a`b").unwrap(), "`a``b`");
        for name in ["", "a\0b", &"x".repeat(65)] {
            assert!(matches!(quoted(name), Err(Failure::Fatal(_))), "{name:?}");
        }
    }

    proptest::proptest! {
        /// MySQL ends a quoted name at a backtick that is not doubled; a backslash means nothing within.
        #[test]
        fn no_name_ends_its_quote(name in "(\\PC|[`\"'\\\\;\n]){1,64}") {
            let quoted = quoted(&name).unwrap();
            let inner = quoted.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).unwrap();
            proptest::prop_assert!(!inner.replace("``", "").contains('`'));
            proptest::prop_assert_eq!(inner.replace("``", "`"), name);
        }
    }

    #[test]
    fn the_servers_counts_are_read_from_its_info_text() {
        assert_eq!(counted("Records: 3  Duplicates: 1  Warnings: 0", "Duplicates: "), Some(1));
        assert_eq!(counted("Rows matched: 12  Changed: 7  Warnings: 0", "Rows matched: "), Some(12));
        assert_eq!(counted("", "Changed: "), None);
    }

    #[test]
    fn a_url_without_a_database_is_refused_at_once() {
        let Err(Failure::Fatal(what)) = Address::of(&settings("mysql://root:s3cret@127.0.0.1:3306/")) else {
            panic!("refused")
        };
        assert!(what.contains("names no database") && !what.contains("s3cret"), "{what}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_transient_and_named_without_the_password() {
        let port = {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap().port()
        };
        let address = Address::of(&settings(&format!("mysql://root:s3cret@127.0.0.1:{port}/d"))).unwrap();
        let Err(Failure::Transient(what)) = address.connect().await else { panic!("transient") };
        assert!(what.contains(&port.to_string()) && !what.contains("s3cret"), "{what}");
    }
}
