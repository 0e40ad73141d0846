//! Connections for the bookkeeping: TLS, time zone, time limits, and the lock around schema changes.
//! Must never log a statement or print a URL.

use std::time::Duration;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sea_orm::sqlx::sqlite::SqlitePoolOptions;
use sea_orm::sqlx::{ConnectOptions, Connection, Executor};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::limits::limited;
use crate::adapters::sql_errors::{from_db_err, warehouse_error};
use crate::adapters::{mysql, sqlite};
use crate::config::{Tls, WarehouseConfig};
use crate::ports::WarehouseError;

/// How many sessions a connection may spread over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// One that is never replaced in silence: for work that holds a lock of its session.
    One,
    /// Up to two, opened again where they were lost.
    Few,
}

/// A server that does not answer within this is as good as down.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longer than a commit takes, shorter than a caller's patience; the caller tries again.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(10);
/// Another daemon's schema changes may rebuild a table.
const SCHEMA_LOCK_SECONDS: u32 = 300;
/// Longer than the server lets it wait for the lock.
const SCHEMA_LOCK_LIMIT: Duration = Duration::from_secs(330);
/// The lock ends with the session, too.
const UNLOCK_LIMIT: Duration = Duration::from_secs(10);

/// Connects to the warehouse of these settings; an SQLite file must exist.
pub async fn connect(settings: &WarehouseConfig, sessions: Sessions) -> Result<DatabaseConnection, WarehouseError> {
    let url = settings.url.expose();
    if sqlite::accepts(url) {
        return connect_sqlite(sqlite::options(url)?, sessions).await;
    }
    let mut options = mysql_options(settings)?;
    // The pool would try a refused connection again until its limit and then forget why.
    let mut probe = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
    if let Ok(Err(sea_orm::sqlx::Error::Configuration(_))) = &probe
        && settings.tls == Tls::Disable
        && on_this_machine(url)
    {
        // The account's password goes over an encrypted connection only, and this driver knows no other way for it.
        // Within this machine that needs no setting.
        options = options.ssl_mode(MySqlSslMode::Preferred);
        probe = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
    }
    let first = probe
        .map_err(|_| WarehouseError::Transient {
            what: format!("connecting to the database: no answer within {} s", CONNECT_LIMIT.as_secs()),
        })?
        .map_err(|e| warehouse_error("connecting to the database", &e))?;
    // Best effort: the server drops it all the same.
    let _ = tokio::time::timeout(CONNECT_LIMIT, first.close()).await;
    let pool = MySqlPoolOptions::new()
        .max_connections(sessions.limit())
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(sessions == Sessions::Few)
        .after_connect(|session, _| Box::pin(async move { session.execute(mysql::LIMITS).await.map(drop) }))
        .connect_lazy_with(options);
    Ok(DatabaseConnection::from(pool))
}

fn on_this_machine(url: &str) -> bool {
    let url = url::Url::parse(url).ok();
    match url.as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Connects to an SQLite file with these options.
pub async fn connect_sqlite(
    options: sea_orm::sqlx::sqlite::SqliteConnectOptions,
    sessions: Sessions,
) -> Result<DatabaseConnection, WarehouseError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(sessions.limit())
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|e| warehouse_error("opening the database file", &e))?;
    Ok(DatabaseConnection::from(pool))
}

impl Sessions {
    fn limit(self) -> u32 {
        match self {
            Sessions::One => 1,
            Sessions::Few => 2,
        }
    }
}

fn mysql_options(settings: &WarehouseConfig) -> Result<MySqlConnectOptions, WarehouseError> {
    let url = url::Url::parse(settings.url.expose())
        .map_err(|e| WarehouseError::Fatal { what: format!("warehouse.url is no URL: {e}") })?;
    if url.path().trim_matches('/').is_empty() {
        return Err(WarehouseError::Fatal {
            what: "warehouse.url names no database: write mysql://user:password@host:port/database".to_owned(),
        });
    }
    // `||` and the like must mean here what they mean in a client by hand.
    let mut options = MySqlConnectOptions::from_url(&url)
        .map_err(|e| warehouse_error("reading warehouse.url", &e))?
        .pipes_as_concat(false)
        .charset("utf8mb4")
        .ssl_mode(match settings.tls {
            Tls::Disable => MySqlSslMode::Disabled,
            Tls::Require => MySqlSslMode::Required,
            Tls::Verify => MySqlSslMode::VerifyIdentity,
        });
    if let Some(ca) = &settings.ca {
        options = options.ssl_ca(ca);
    }
    // Statements carry payloads, and payloads are not for the log.
    Ok(options.disable_statement_logging())
}

/// Keeps another daemon from changing this schema until [`unlock_schema`] or the end of the session. Nothing to do on
/// SQLite, where the transaction of the change is the lock. Can be taken again by the session that holds it.
pub async fn lock_schema(db: &DatabaseConnection) -> Result<(), WarehouseError> {
    if db.get_database_backend() == DbBackend::Sqlite {
        return Ok(());
    }
    const WHAT: &str = "waiting for the lock on schema changes";
    // User locks are the whole server's, so the schema's name is part of theirs; names end at 64 characters. MySQL 9
    // has no MD5 any more.
    let sql = format!(
        "SELECT GET_LOCK(CONCAT('bief-schema-', LEFT(SHA2(DATABASE(), 256), 40)), {SCHEMA_LOCK_SECONDS}) AS locked"
    );
    let asked = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql));
    let row = limited(WHAT, SCHEMA_LOCK_LIMIT, async { asked.await.map_err(|e| from_db_err(WHAT, &e)) }).await?;
    let locked = row.map(|r| r.try_get::<Option<i64>>("", "locked")).transpose().map_err(|e| from_db_err(WHAT, &e))?;
    match locked.flatten() {
        Some(1) => Ok(()),
        _ => Err(WarehouseError::Transient {
            what: format!("another daemon has been changing the schema for {SCHEMA_LOCK_SECONDS} s"),
        }),
    }
}

/// Gives the lock back. An error is not worth telling: the lock ends with the session.
pub async fn unlock_schema(db: &DatabaseConnection) {
    if db.get_database_backend() == DbBackend::MySql {
        let sql = "SELECT RELEASE_LOCK(CONCAT('bief-schema-', LEFT(SHA2(DATABASE(), 256), 40)))";
        let asked = db.query_one_raw(Statement::from_string(DbBackend::MySql, sql));
        let _ = tokio::time::timeout(UNLOCK_LIMIT, asked).await;
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use crate::config::{Load, Secret};

    fn settings(url: &str, tls: Tls) -> WarehouseConfig {
        WarehouseConfig { url: Secret::new(url), tls, ca: None, migrations: None, load: Load::Auto }
    }

    #[test]
    fn a_url_without_a_database_is_refused_without_printing_it() {
        for url in ["mysql://u:hunter2@h:1", "mysql://u:hunter2@h:99999/x", "mysql//u:hunter2@h/x"] {
            let error = mysql_options(&settings(url, Tls::Verify)).unwrap_err().to_string();
            assert!(error.contains("warehouse.url") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_encryption_asked_for_is_the_encryption_used_whatever_the_url_says() {
        let url = "mysql://u:p@h/x?ssl-mode=DISABLED";
        let options = mysql_options(&settings(url, Tls::Verify)).unwrap();
        assert!(matches!(options.get_ssl_mode(), MySqlSslMode::VerifyIdentity));
        let plain = mysql_options(&settings("mysql://u:p@h/x", Tls::Disable)).unwrap();
        assert!(matches!(plain.get_ssl_mode(), MySqlSslMode::Disabled));
        assert!(MySqlConnectOptions::from_str("mysql://u:p@h/x").is_ok());
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_as_such_and_will_be_tried_again() {
        // A port that was free a moment ago and that nothing listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings(&format!("mysql://u:hunter2@127.0.0.1:{port}/x"), Tls::Disable);
        let error = connect(&settings, Sessions::Few).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Transient { .. }), "{error:?}");
        assert!(error.to_string().contains("refused") && !error.to_string().contains("hunter2"), "{error}");
    }
}
