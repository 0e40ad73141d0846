//! What an error of sqlx or sea-orm means, by the table in `adapters/error_classes.rs`: tried again, a row's fault, or fatal.
//! Messages carry the database's own words and what the reader can do; never a URL or a password.

use std::error::Error as StdError;
use std::io;

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};
use sqlx::mysql::MySqlDatabaseError;

use super::error_classes;
use crate::ports::WarehouseError;

/// What an error of the database means for the work that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: locks, lost connections, a full disk that someone will clear.
    Transient,
    /// This row can't be written; others can.
    Row,
    /// Trying again does not help.
    Fatal,
}

/// The error of an operation outside rows, where `what` says in a few words what was tried.
pub fn warehouse_error(what: &str, error: &sqlx::Error) -> WarehouseError {
    let (class, words, advice) = judge(error);
    let what = match advice {
        Some(advice) => format!("{what}: {words}; {advice}"),
        None => format!("{what}: {words}"),
    };
    match class {
        Class::Transient => WarehouseError::Transient { what },
        // Outside `write` there is no row to blame.
        Class::Row | Class::Fatal => WarehouseError::Fatal { what },
    }
}

/// The same for sea-orm's errors.
pub fn from_db_err(what: &str, error: &DbErr) -> WarehouseError {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(e))
        | DbErr::Exec(RuntimeErr::SqlxError(e))
        | DbErr::Query(RuntimeErr::SqlxError(e)) => warehouse_error(what, e),
        DbErr::ConnectionAcquire(_) => {
            WarehouseError::Transient { what: format!("{what}: no connection to the database within the time limit") }
        }
        other => WarehouseError::Fatal { what: format!("{what}: {other}") },
    }
}

/// Whether the error says that another transaction was in the way, so that the same transaction can be tried at once.
pub fn is_contention(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(e))
    | DbErr::Exec(RuntimeErr::SqlxError(e))
    | DbErr::Query(RuntimeErr::SqlxError(e))) = error
    else {
        return false;
    };
    // Duplicate key, lock wait, deadlock, record changed since it was read.
    mysql_number(e).is_some_and(|n| matches!(n, 1062 | 1205 | 1213 | 1020))
}

/// MySQL's number of the error, where it is one of MySQL's.
pub fn mysql_number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// SQLite's extended result code and words, where the error is one of SQLite's.
pub fn sqlite_code(error: &sqlx::Error) -> Option<(i32, String)> {
    let error = error.as_database_error()?;
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
    Some((error.code()?.parse().ok()?, error.message().to_owned()))
}

/// Class of a SQLite error, by its extended result code and words.
pub fn sqlite_class(code: i32, words: &str) -> Class {
    match error_classes::sqlite(code, words) {
        error_classes::Class::Transient => Class::Transient,
        error_classes::Class::Row(_) => Class::Row,
        _ => Class::Fatal,
    }
}

fn judge(error: &sqlx::Error) -> (Class, String, Option<&'static str>) {
    if let Some((code, words)) = sqlite_code(error) {
        return (sqlite_class(code, &words), words.clone(), sqlite_advice(code, &words));
    }
    if let Some(number) = mysql_number(error) {
        let words = error.as_database_error().map(|e| e.message().to_owned()).unwrap_or_default();
        let state = error.as_database_error().and_then(|e| e.code()).unwrap_or_default();
        let (class, advice) = mysql_class(number, &state, &words);
        return (class, format!("{words} ({number})"), advice);
    }
    match error {
        sqlx::Error::Io(e) if tls_was_disturbed(e) => (Class::Transient, format!("no encrypted connection: {e}"), None),
        // How rustls tells that it does not trust the certificate.
        sqlx::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
            (Class::Fatal, format!("no encrypted connection: {e}"), Some(TLS_ADVICE))
        }
        sqlx::Error::Io(e) => (Class::Transient, e.to_string(), None),
        sqlx::Error::Tls(e) if broke_off(e.as_ref()) || tls_was_disturbed(e.as_ref()) => {
            (Class::Transient, format!("connection lost: {e}"), None)
        }
        sqlx::Error::Tls(e) => (Class::Fatal, format!("no encrypted connection: {e}"), Some(TLS_ADVICE)),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            (Class::Transient, error.to_string(), None)
        }
        sqlx::Error::Protocol(words) => (Class::Transient, format!("connection lost: {words}"), None),
        sqlx::Error::Configuration(e) if e.to_string().contains("RSA") => (
            Class::Fatal,
            "the server takes this user's password (caching_sha2_password) over an encrypted connection only"
                .to_owned(),
            Some("set tls = \"require\" or \"verify\" under [warehouse]"),
        ),
        other => (Class::Fatal, other.to_string(), None),
    }
}

const TLS_ADVICE: &str = "check warehouse.tls and warehouse.ca, and that the server offers TLS";

/// An error and what it comes of. What an I/O error holds is not its source, which is that of what it holds.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let next = |error: &'e (dyn StdError + 'static)| -> Option<&'e (dyn StdError + 'static)> {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(within) => Some(within),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), move |error| next(*error))
}

/// Whether what came in the handshake was no TLS, or the other side broke it off without a reason: so a server that starts
/// or a proxy without one behind it can answer, and another try may pass. What either side finds wrong with a certificate,
/// a name, a version or a cipher stays wrong.
pub fn tls_was_disturbed(error: &(dyn StdError + 'static)) -> bool {
    use rustls::AlertDescription::{CloseNotify, InternalError, UserCanceled};
    use rustls::Error::{
        AlertReceived, DecryptError, HandshakeNotComplete, InappropriateHandshakeMessage, InappropriateMessage,
        InvalidMessage, PeerMisbehaved, PeerSentOversizedRecord,
    };
    let of_tls = causes(error).find_map(|error| error.downcast_ref::<rustls::Error>());
    of_tls.is_some_and(|error| match error {
        AlertReceived(alert) => matches!(alert, CloseNotify | InternalError | UserCanceled),
        DecryptError
        | HandshakeNotComplete
        | InappropriateHandshakeMessage { .. }
        | InappropriateMessage { .. }
        | InvalidMessage(_)
        | PeerMisbehaved(_)
        | PeerSentOversizedRecord => true,
        _ => false,
    })
}

/// An end of the stream within the handshake is the network's fault, not the certificate's.
fn broke_off(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    let of_way = causes(error).find_map(|error| error.downcast_ref::<io::Error>());
    of_way.is_some_and(|io| {
        matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
    })
}

fn sqlite_advice(code: i32, words: &str) -> Option<&'static str> {
    Some(match code & 0xff {
        13 => "free space on the disk",
        14 => "check that the folder exists and may be written; `bief run` creates the file",
        3 | 8 => "the file, its folder and the -wal beside it must be writable for this user",
        11 => "restore the file from a copy, or move it away and let bief start afresh",
        26 => "warehouse.url points at a file that is no SQLite database",
        1 if words.contains("no such table: bief_") => "`bief run` creates the bookkeeping tables at start",
        1 if words.contains("no such table") || words.contains("column") => {
            "apply the migrations or correct the mapping, then restart"
        }
        _ => return None,
    })
}

fn mysql_class(number: u16, state: &str, words: &str) -> (Class, Option<&'static str>) {
    use error_classes::Class as C;
    match error_classes::mysql(number, state, words) {
        // Outside rows an error that is not known may well pass.
        C::Transient | C::Unknown | C::LocalInfileOff => (Class::Transient, None),
        C::Row(_) => (Class::Row, None),
        // They speak of bief's own statements, and this one may be the domain's.
        C::Fatal(error_classes::SERVER) | C::Schema(error_classes::SCHEMA) => (Class::Fatal, None),
        C::Fatal(advice) | C::Schema(advice) => (Class::Fatal, Some(advice)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_locks_and_full_disks_pass_constraints_are_a_rows_fault_the_rest_is_fatal() {
        for (code, words, class) in [
            (5, "database is locked", Class::Transient),
            (517, "database is locked", Class::Transient),
            (6, "database table is locked", Class::Transient),
            (778, "disk I/O error", Class::Transient),
            (13, "database or disk is full", Class::Transient),
            (275, "CHECK constraint failed: x", Class::Row),
            (787, "FOREIGN KEY constraint failed", Class::Row),
            (1299, "NOT NULL constraint failed: t.a", Class::Row),
            (3091, "cannot store TEXT value in INTEGER column t.a", Class::Row),
            (18, "string or blob too big", Class::Row),
            (1, "malformed JSON", Class::Row),
            (1, "no such table: t", Class::Fatal),
            (1, "table t has no column named x", Class::Fatal),
            (1, "near \"x\": syntax error", Class::Fatal),
            (14, "unable to open database file", Class::Fatal),
            (8, "attempt to write a readonly database", Class::Fatal),
            (11, "database disk image is malformed", Class::Fatal),
            (26, "file is not a database", Class::Fatal),
        ] {
            assert_eq!(sqlite_class(code, words), class, "{code} {words}");
        }
    }

    #[test]
    fn a_handshake_that_was_disturbed_passes_and_a_certificate_that_is_not_trusted_stays() {
        let invalid = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        let version = rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion);
        let plaintext = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        for (error, disturbed) in [(alert, true), (plaintext, true), (untrusted, false), (version, false)] {
            assert_eq!(tls_was_disturbed(&error), disturbed, "{error}");
            let class = if disturbed { Class::Transient } else { Class::Fatal };
            assert_eq!(judge(&sqlx::Error::Io(invalid(error.clone()))).0, class, "{error}");
            assert_eq!(judge(&sqlx::Error::Tls(Box::new(error.clone()))).0, class, "{error}");
        }
        assert!(!tls_was_disturbed(&io::Error::other("else")));
    }

    #[test]
    fn mysql_outages_pass_and_what_people_must_mend_is_fatal() {
        for number in [1040, 1053, 1205, 1213, 1290, 1317, 1836, 1927] {
            assert_eq!(mysql_class(number, "42000", "").0, Class::Transient, "{number}");
        }
        for number in [1044, 1045, 1049, 1054, 1064, 1142, 1146] {
            assert_eq!(mysql_class(number, "42000", "").0, Class::Fatal, "{number}");
        }
    }

    #[test]
    fn a_refused_connection_is_transient_and_a_password_hint_is_given_without_the_password() {
        let refused = sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(matches!(warehouse_error("connecting", &refused), WarehouseError::Transient { .. }));
        let rsa = sqlx::Error::Configuration("RSA auth backend disabled; enable feature".into());
        let text = warehouse_error("connecting", &rsa).to_string();
        assert!(text.contains("tls = \"require\""), "{text}");
    }
}
