//! What a failure of the database means, by the table in `adapters/error_classes.rs`: the server or the way to it (try again), the row
//! (set it aside), or the set-up (stop and say what to do). Must never call a failure the row's fault that an
//! outage could cause: an outage would drain the topic into the dead letters.

use mysql_async::{DriverError, Error, IoError, LocalInfileError, ServerError, UrlError};

use crate::adapters::error_classes::SERVER;
pub(super) use crate::adapters::error_classes::{Class, LOGIN, mysql as classify};
use crate::core::outcome::{Reason, Rejection};
use crate::ports::WarehouseError;

/// Characters of a server's message that are kept.
const MAX_WORDS: usize = 500;

/// What a statement failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Transient(String),
    Fatal(String),
    /// The table is not as it was when it was read.
    Schema(String),
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

impl Failure {
    /// A server's error, while a statement ran.
    pub fn of_server(error: &ServerError) -> Self {
        let ServerError { code, state, message } = error;
        let words = shortened(message);
        match classify(*code, state, message) {
            Class::Transient => Failure::Transient(format!("the database says: {words} (error {code})")),
            Class::Fatal(advice) => Failure::Fatal(format!("the database says: {words} (error {code}); {advice}")),
            Class::Schema(advice) => Failure::Schema(format!(
                "the table is not as it was when it was read: {words} (error {code}); {advice}"
            )),
            Class::LocalInfileOff => Failure::LocalInfileOff(words),
            Class::Row(reason) => Failure::Row(RowFailure { code: *code, reason, unknown: false, words }),
            Class::Unknown => Failure::Row(RowFailure { code: *code, reason: Reason::Refused, unknown: true, words }),
        }
    }

    /// An error while a query of the domain ran: neither a row nor bief's own statements are at fault.
    pub fn of_query(error: Error) -> Self {
        let Error::Server(ServerError { code, state, message }) = &error else { return error.into() };
        let words = format!("the database says: {} (error {code})", shortened(message));
        match classify(*code, state, message) {
            Class::Transient | Class::Unknown | Class::LocalInfileOff => Failure::Transient(words),
            // Advice on bief's own statements is of no use to who wrote this one.
            Class::Fatal(advice) if advice != SERVER => Failure::Fatal(format!("{words}; {advice}")),
            Class::Fatal(_) | Class::Schema(_) | Class::Row(_) => Failure::Fatal(words),
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
            Failure::Schema(what) => WarehouseError::SchemaChanged { what },
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
        for code in [1044, 1045, 1049, 1142, 1143] {
            let Failure::Fatal(text) = server(code, "42000", "no") else { panic!("{code} is fatal") };
            assert!(text.contains("; "), "{text}");
        }
        for code in [1054, 1136, 1146, 1364] {
            let Failure::Schema(text) = server(code, "42000", "no") else { panic!("{code} is of the schema") };
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
