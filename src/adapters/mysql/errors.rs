//! What a failure of the database means, decided in one table: the server or the way to it (try again), the row
//! (set it aside), or the set-up (stop and say what to do). Must never call a failure the row's fault that an
//! outage could cause: an outage would drain the topic into the dead letters.

use mysql_async::{DriverError, Error, IoError, LocalInfileError, ServerError, UrlError};

use crate::core::outcome::{Reason, Rejection};
use crate::ports::WarehouseError;

/// Characters of a server's message that are kept.
const MAX_WORDS: usize = 500;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Trying the batch again can help.
    Transient,
    /// This row can't be written; others can.
    Row(Reason),
    /// Only an operator can help; the text says how.
    Fatal(&'static str),
    /// The server does not let clients send files.
    LocalInfileOff,
    /// Not known: a row's fault only where other rows of the same batch went in.
    Unknown,
}

/// What a statement failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Transient(String),
    Fatal(String),
    /// The partition is another daemon's now.
    Fenced {
        topic: String,
        partition: i32,
        detail: String,
    },
    LocalInfileOff(String),
    Row(RowFailure),
}

/// The server refused a row, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowFailure {
    pub code: u16,
    pub reason: Reason,
    /// The code is not in the table; see [`Class::Unknown`].
    pub unknown: bool,
    pub words: String,
}

const SCHEMA: &str = "the table is not as it was at start-up: compare it with the mapping (`bief check --connect`)";
const GRANT: &str =
    "grant the user SELECT, INSERT, UPDATE, DELETE and CREATE TEMPORARY TABLES on the warehouse's database";
const SERVER: &str = "this server does not understand bief: MySQL 8.0 or MariaDB 10.6 and newer are supported";
const LOGIN: &str = "check user and password in warehouse.url and the hosts that the account may come from";

/// The table of codes, of MySQL and MariaDB alike. `state` decides where the code is in neither list.
pub(super) fn classify(code: u16, state: &str, words: &str) -> Class {
    use Class::{Fatal, LocalInfileOff, Row, Transient, Unknown};
    match code {
        // Deadlock, lock wait, lock table full, NOWAIT, snapshot too old.
        1213 | 1205 | 1206 | 3572 | 1020 | 1032 | 3058 | 1613 | 1614 | 1637 => Transient,
        // Connections: too many, aborted, network, shutdown, killed, interrupted, timed out.
        1040 | 1042 | 1043 | 1053 | 1077 | 1079 | 1080 | 1129 | 1152 | 1153 | 1154..=1161 | 1184 | 1203 | 1226 => {
            Transient
        }
        1317 | 1927 | 1969 | 2002 | 2003 | 2006 | 2013 | 2055 | 3024 | 3168 | 3169 | 4031 => Transient,
        // Read-only after a failover; a cluster node that is not ready or asks to roll back.
        1290 | 1792 | 1836 | 1047 | 3100 | 3101 | 1180 => Transient,
        // Disk, memory, storage engine.
        1005 | 1021 | 1026 | 1030 | 1037 | 1038 | 1041 | 1114 | 1135 | 1197 | 1296 | 3675 => Transient,
        // Definitions changed under a statement: a new attempt prepares it anew.
        1243 | 1412 | 1461 | 1615 => Transient,

        1148 | 3948 | 4166 => LocalInfileOff,

        1048 | 1263 | 1566 => Row(Reason::NullNotAllowed),
        1062 | 1022 | 1169 | 1557 | 1586 | 1761 | 1762 => Row(Reason::UniqueKey),
        1216 | 1217 | 1451 | 1452 => Row(Reason::ForeignKey),
        1369 | 3819 | 4025 => Row(Reason::Check),
        1264 | 1416 | 1425 | 1426 | 1690 | 1526 | 1748 => Row(Reason::OutOfRange),
        1406 | 1301 | 1118 | 139 => Row(Reason::TooLong),
        1300 | 1977 | 3854 | 3988 => Row(Reason::NotEncodable),
        1366 if words.starts_with("Incorrect string value") => Row(Reason::NotEncodable),
        1292 | 1366 | 1411 if is_about_time(words) => Row(Reason::InvalidTime),
        1265 | 1292 | 1366 | 1367 | 1411 | 3140..=3158 => Row(Reason::WrongType),
        // A shape of the sent text, division by zero, a trigger's SIGNAL.
        1261 | 1262 | 1365 | 1644 | 1645 => Row(Reason::Refused),

        1044 | 1142 | 1143 | 1227 | 1370 => Fatal(GRANT),
        1045 | 1130 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 => Fatal(LOGIN),
        1049 => Fatal("create the database, or name another in warehouse.url"),
        1146 | 1051 => Fatal("create the table (`bief run` applies the migrations) or correct its name in the mapping"),
        1054 | 1109 | 1110 | 1136 | 1288 | 1347 | 1471 => Fatal(SCHEMA),
        1364 => Fatal("a column without a default is not mapped: map it to a field, or give it a default"),
        1906 | 3105 => Fatal("a column that the database computes is mapped: leave it out of the mapping"),
        1598 | 1665 => Fatal("set binlog_format = ROW on the server: bief writes under READ COMMITTED"),
        3159 => Fatal("the server demands TLS: set warehouse.tls = \"require\" or \"verify\""),
        1064 | 1137 | 1149 | 1193 | 1231 | 1235 => Fatal(SERVER),

        _ => match state.get(..2) {
            Some("22") => Row(Reason::Refused),
            Some("23") => Row(Reason::Refused),
            Some("45") => Row(Reason::Refused),
            Some("08" | "40" | "53" | "57") => Transient,
            Some("28") => Fatal(LOGIN),
            Some("42") => Fatal(SCHEMA),
            _ => Unknown,
        },
    }
}

fn is_about_time(words: &str) -> bool {
    ["Incorrect datetime", "Incorrect date ", "Incorrect time", "Incorrect TIMESTAMP", "Incorrect DATE"]
        .iter()
        .any(|start| words.starts_with(start))
}

impl Failure {
    /// A server's error, while a statement ran.
    pub fn of_server(error: &ServerError) -> Self {
        let ServerError { code, state, message } = error;
        let words = shortened(message);
        match classify(*code, state, message) {
            Class::Transient => Failure::Transient(format!("the database says: {words} (error {code})")),
            Class::Fatal(advice) => Failure::Fatal(format!("the database says: {words} (error {code}); {advice}")),
            Class::LocalInfileOff => Failure::LocalInfileOff(words),
            Class::Row(reason) => Failure::Row(RowFailure { code: *code, reason, unknown: false, words }),
            Class::Unknown => Failure::Row(RowFailure { code: *code, reason: Reason::Refused, unknown: true, words }),
        }
    }

    /// Where no row is written, a refused row has nobody to blame but the set-up.
    pub fn outside_rows(self) -> Self {
        match self {
            Failure::Row(row) if row.unknown => {
                Failure::Transient(format!("the database says: {} (error {})", row.words, row.code))
            }
            Failure::Row(row) => Failure::Fatal(format!(
                "the bookkeeping was refused: {} (error {}); compare the bief_ tables with the migrations",
                row.words, row.code
            )),
            Failure::LocalInfileOff(words) => Failure::Transient(words),
            other => other,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => Failure::of_server(&error),
            Error::Driver(error) => of_driver(error),
            Error::Io(IoError::Tls(error)) => Failure::Fatal(tls_refused(&error)),
            Error::Io(IoError::Io(error)) => Failure::Transient(format!("connection to the database lost: {error}")),
            Error::Url(error) => Failure::Fatal(of_url(&error)),
            Error::Other(error) => Failure::Transient(format!("connection to the database: {error}")),
        }
    }
}

fn of_driver(error: DriverError) -> Failure {
    match error {
        DriverError::LocalInfile(LocalInfileError::OtherError(refusal)) => Failure::Fatal(format!(
            "{refusal}; check that warehouse.url leads to your server, and use warehouse.tls = \"verify\""
        )),
        DriverError::NoClientSslFlagFromServer => Failure::Fatal(
            "the server offers no TLS: set it up there, or set warehouse.tls = \"disable\" where the network is trusted"
                .into(),
        ),
        // MySQL answers with any method to a user that it does not know, so as not to tell who exists.
        DriverError::UnknownAuthPlugin { name } => Failure::Fatal(format!(
            "the account does not exist, or logs in by {name}, which is not supported: {LOGIN}; accounts need \
             caching_sha2_password, ed25519 or mysql_native_password"
        )),
        error @ (DriverError::MysqlOldPasswordDisabled | DriverError::CleartextPluginDisabled) => {
            Failure::Fatal(format!(
                "the account logs in by a method that is not supported ({error}); accounts need \
                 caching_sha2_password, ed25519 or mysql_native_password"
            ))
        }
        DriverError::CantParseServerVersion { .. } | DriverError::UnexpectedPacket { .. } => Failure::Transient(
            "what answers is no MySQL or MariaDB server, or the connection is garbled".into(),
        ),
        error @ (DriverError::StmtParamsMismatch { .. }
        | DriverError::StmtParamsNumberExceedsLimit { .. }
        | DriverError::Params(_)
        | DriverError::MixedParams) => {
            Failure::Fatal(format!("a statement was built wrongly: {error}; please report this"))
        }
        DriverError::FromRow { .. } | DriverError::FromValue { .. } => {
            Failure::Fatal("the database answered with other types than asked for; please report this".into())
        }
        error => Failure::Transient(format!("connection to the database: {error}")),
    }
}

/// For a certificate or handshake that was not accepted.
pub(super) fn tls_refused(error: &dyn std::fmt::Display) -> String {
    format!(
        "TLS with the database: {error}; name the authority in warehouse.ca, or set warehouse.tls = \"require\" to \
         encrypt without checking"
    )
}

/// What is wrong with the URL, without a piece of it: it holds a password.
pub(super) fn of_url(error: &UrlError) -> String {
    let what = match error {
        UrlError::Parse(_) | UrlError::Invalid => {
            "cannot be read; escape special characters of the password as %40, %2F, …"
        }
        UrlError::UnsupportedScheme { .. } => "must start with mysql://",
        UrlError::UnknownParameter { .. } | UrlError::InvalidParamValue { .. } | UrlError::FeatureRequired { .. } => {
            "has a parameter that is not known or has a wrong value"
        }
        UrlError::InvalidPoolConstraints { .. } => "has pool limits that exclude each other",
    };
    format!("warehouse.url {what}; mysql://user:password@host:port/database is expected")
}

impl From<Failure> for WarehouseError {
    fn from(failure: Failure) -> Self {
        match failure.outside_rows() {
            Failure::Fenced { topic, partition, detail } => WarehouseError::Fenced { topic, partition, detail },
            Failure::Fatal(what) => WarehouseError::Fatal { what },
            Failure::Transient(what) | Failure::LocalInfileOff(what) => WarehouseError::Transient { what },
            Failure::Row(row) => WarehouseError::Transient { what: row.words },
        }
    }
}

impl RowFailure {
    /// The answer to the caller; `field` where the words name none.
    pub fn rejection(&self, field: Option<String>) -> Rejection {
        let field = column_in(&self.words).map(str::to_owned).or(field);
        // Which row of its statement it was, and a column's table, which may be a temporary one, mean nothing to the
        // reader.
        let mut words = self.words.rsplit_once(" at row ").map_or(self.words.as_str(), |(before, _)| before).to_owned();
        if let (Some(('`', rest)), Some(name)) = (column_quote(&words), &field) {
            words = format!("{}'{name}'", &words[..words.len() - rest.len() - 1]);
        }
        Rejection { reason: self.reason, field, message: format!("{words} (error {})", self.code) }
    }
}

/// The column that a message names: `column 'x'`, MariaDB's `` column `db`.`t`.`x` ``, JSON's `column 't.x'`,
/// and a foreign key's columns.
pub(super) fn column_in(words: &str) -> Option<&str> {
    if let Some(rest) = words.split_once("FOREIGN KEY (").map(|(_, rest)| rest) {
        // Several columns are printed as `a`, `b`: the caller joins them where it knows the key.
        let inner = rest.split_once(')')?.0;
        let one = inner.strip_prefix('`')?.strip_suffix('`')?;
        return (!one.contains('`')).then_some(one);
    }
    let (quote, rest) = column_quote(words)?;
    let name = match quote {
        '\'' => rest.split_once('\'')?.0,
        _ => rest[..rest.find(" at row").unwrap_or(rest.len())].trim_end_matches('`'),
    };
    name.rsplit(['.', '`']).next()
}

/// What follows the opening quote of a column's name. The last one counts: a value, which comes before, can say
/// anything.
fn column_quote(words: &str) -> Option<(char, &str)> {
    words.rmatch_indices("olumn ").find_map(|(at, word)| {
        let rest = &words[at + word.len()..];
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '`'))?;
        Some((quote, &rest[1..]))
    })
}

/// The row, from 1, that a message names at its end: `… at row 17`.
pub(super) fn row_in(words: &str) -> Option<usize> {
    let (_, rest) = words.rsplit_once("at row ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok().filter(|&row| row > 0)
}

/// The unique index that a message names: `… for key 't.name'`, without the table.
pub(super) fn index_in(words: &str) -> Option<&str> {
    let name = words.rsplit_once("for key '")?.1.split('\'').next()?;
    Some(name.rsplit('.').next().unwrap_or(name))
}

fn shortened(words: &str) -> String {
    match words.char_indices().nth(MAX_WORDS) {
        // The end names column and row: keep it.
        Some((cut, _)) => {
            let tail = words.char_indices().rev().nth(99).map_or(0, |(at, _)| at).max(cut);
            format!("{} … {}", &words[..cut], &words[tail..])
        }
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, state: &str, message: &str) -> Failure {
        Failure::of_server(&ServerError { code, state: state.into(), message: message.into() })
    }

    #[test]
    fn an_outage_is_never_a_rows_fault() {
        for code in [1213, 1205, 1040, 1053, 1290, 1836, 1114, 1021, 1030, 1158, 1161, 1317, 3024, 3100, 1047, 1927] {
            assert_eq!(classify(code, "HY000", ""), Class::Transient, "{code}");
        }
    }

    #[test]
    fn what_an_operator_must_mend_says_how() {
        for code in [1044, 1045, 1049, 1054, 1142, 1143, 1146, 1364] {
            let Failure::Fatal(text) = server(code, "42000", "no") else { panic!("{code} is fatal") };
            assert!(text.contains("; "), "{text}");
        }
    }

    #[test]
    fn each_reason_has_its_codes_on_both_servers() {
        for (code, words, reason) in [
            (1048, "Column 'x' cannot be null", Reason::NullNotAllowed),
            (1062, "Duplicate entry '1' for key 't.u'", Reason::UniqueKey),
            (1452, "Cannot add or update a child row", Reason::ForeignKey),
            (3819, "Check constraint 'c' is violated.", Reason::Check),
            (4025, "CONSTRAINT `c` failed for `d`.`t`", Reason::Check),
            (1264, "Out of range value for column 'x' at row 1", Reason::OutOfRange),
            (1406, "Data too long for column 'x' at row 1", Reason::TooLong),
            (1366, "Incorrect integer value: 'zzz' for column 'x' at row 1", Reason::WrongType),
            (1366, "Incorrect string value: '\\xF0' for column 'x' at row 1", Reason::NotEncodable),
            (1292, "Incorrect datetime value: 'x' for column 'x' at row 1", Reason::InvalidTime),
        ] {
            assert_eq!(classify(code, "HY000", words), Class::Row(reason), "{code} {words}");
        }
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_sqlstate() {
        assert_eq!(classify(9999, "23000", ""), Class::Row(Reason::Refused));
        assert_eq!(classify(9999, "22001", ""), Class::Row(Reason::Refused));
        assert_eq!(classify(9999, "40001", ""), Class::Transient);
        assert_eq!(classify(9999, "HY000", ""), Class::Unknown);
    }

    #[test]
    fn column_row_and_index_are_read_from_both_servers_words() {
        assert_eq!(column_in("Data too long for column 'name' at row 12"), Some("name"));
        assert_eq!(column_in("Incorrect integer value: 'z' for column `db`.`t`.`n` at row 3"), Some("n"));
        assert_eq!(column_in("Invalid JSON text: \"x\" at position 0 in value for column 't.doc'."), Some("doc"));
        assert_eq!(column_in("Column 'k' cannot be null"), Some("k"));
        assert_eq!(
            column_in(
                "… a foreign key constraint fails (`d`.`t`, CONSTRAINT `fk` FOREIGN KEY (`p`) REFERENCES `q` (`id`))"
            ),
            Some("p")
        );
        assert_eq!(row_in("Data too long for column 'name' at row 12"), Some(12));
        assert_eq!(row_in("Duplicate entry"), None);
        assert_eq!(index_in("Duplicate entry '1-2' for key 't.u_ab'"), Some("u_ab"));
        assert_eq!(index_in("Duplicate entry '1-2' for key 'u_ab'"), Some("u_ab"));
    }

    #[test]
    fn a_broken_url_is_reported_without_a_piece_of_it() {
        for url in ["mysql://u:s3cret/x@h/db", "mysql://u:p@h/db?s3cret=1", "postgres://u:s3cret@h/db", "s3cret"] {
            let error = mysql_async::Opts::from_url(url).expect_err(url);
            assert!(!of_url(&error).contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn long_words_keep_their_end() {
        let long = format!("Incorrect value: '{}' for column 'c' at row 7", "x".repeat(2000));
        let short = shortened(&long);
        assert!(short.len() < 700 && row_in(&short) == Some(7), "{short}");
    }
}
