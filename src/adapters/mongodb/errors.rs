//! What a failure of the driver or the server means, by the table in `adapters/error_classes.rs`: try again, or say what
//! to do. Must never call an outage fatal, nor tell a URL, a password or a document.

use std::time::Duration;

use ::mongodb::error::{Error, ErrorKind};

use crate::adapters::error_classes::{self, CACHE_LOGIN, CACHE_SERVER, Class};
use crate::ports::CacheError;

/// The driver waits for ever on a server that takes a command and falls silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Characters of a server's message that are kept: one may repeat the whole command.
const MAX_WORDS: usize = 300;

const TLS: &str = "check tls and tlsCAFile in cache.url: tls=false where the server offers no TLS and the network is \
     trusted, tlsCAFile for an authority of your own";

/// A call that failed, with the server's code where it has one.
#[derive(Debug)]
pub(super) struct Failure {
    error: CacheError,
    code: Option<i32>,
}

impl Failure {
    pub fn code(&self) -> Option<i32> {
        self.code
    }
}

impl From<Failure> for CacheError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// What the server answers, within a limit.
pub(super) async fn answer<T>(what: &str, asked: impl IntoFuture<Output = Result<T, Error>>) -> Result<T, Failure> {
    answer_within(ANSWER_LIMIT, what, asked).await
}

/// The same for what may take long.
pub(super) async fn answer_within<T>(
    limit: Duration,
    what: &str,
    asked: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, asked.into_future()).await {
        Ok(told) => told.map_err(|error| {
            let code = match error.kind.as_ref() {
                ErrorKind::Command(error) => Some(error.code),
                _ => None,
            };
            Failure { error: failed(what, &error), code }
        }),
        Err(_) => {
            let what = format!("{what}: no answer within {} s", limit.as_secs());
            Err(Failure { error: CacheError::Transient { what }, code: None })
        }
    }
}

/// An error of the driver, where `what` says in a few words what was tried.
pub(super) fn failed(what: &str, error: &Error) -> CacheError {
    let (class, words) = judge(error);
    told(what, class, &words)
}

/// An error that the server told within an answer.
pub(super) fn refused(what: &str, code: i32, words: &str) -> CacheError {
    told(what, error_classes::mongodb(code), &format!("{} (error {code})", shortened(words)))
}

fn told(what: &str, class: Class, words: &str) -> CacheError {
    match class {
        Class::Fatal("") => CacheError::Fatal { what: format!("{what}: {words}") },
        Class::Fatal(advice) => CacheError::Fatal { what: format!("{what}: {words}; {advice}") },
        _ => CacheError::Transient { what: format!("{what}: {words}") },
    }
}

fn judge(error: &Error) -> (Class, String) {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => {
            (error_classes::mongodb(error.code), format!("{} (error {})", shortened(&error.message), error.code))
        }
        ErrorKind::Authentication { message, .. } => {
            let words = shortened(message);
            // A server that goes down within the log-in tells that in the same way.
            let class = if is_refused_login(&words) { Class::Fatal(CACHE_LOGIN) } else { Class::Transient };
            (class, words)
        }
        ErrorKind::ServerSelection { message, .. } => of_selection(message),
        ErrorKind::Io(error) => {
            let words = with_hint(error.to_string());
            (if is_tls(&words) { Class::Fatal(TLS) } else { Class::Transient }, format!("connection: {words}"))
        }
        ErrorKind::InvalidTlsConfig { message, .. } => (Class::Fatal(TLS), shortened(message)),
        ErrorKind::IncompatibleServer { message, .. } => (Class::Fatal(CACHE_SERVER), shortened(message)),
        ErrorKind::SessionsNotSupported => (Class::Fatal(CACHE_SERVER), error.kind.to_string()),
        ErrorKind::InvalidArgument { message, .. } => {
            (Class::Fatal("please report this"), format!("a command was built wrongly: {}", shortened(message)))
        }
        ErrorKind::Bson(error) => (Class::Fatal("please report this"), format!("no readable document: {error}")),
        other => (Class::Transient, shortened(&other.to_string())),
    }
}

/// No server could be used: why, out of the driver's picture of them all.
fn of_selection(message: &str) -> (Class, String) {
    if message.contains("wire version") {
        return (Class::Fatal(CACHE_SERVER), shortened(message));
    }
    let mut causes: Vec<&str> =
        message.split("I/O error: ").skip(1).map(|rest| rest.split(", labels:").next().unwrap_or(rest)).collect();
    causes.sort_unstable();
    causes.dedup();
    if causes.iter().any(|cause| is_tls(cause)) {
        return (Class::Fatal(TLS), shortened(&causes.join("; ")));
    }
    if !causes.is_empty() {
        return (Class::Transient, format!("no server answers: {}", with_hint(shortened(&causes.join("; ")))));
    }
    // A server that speaks no TLS may wait for ever for more of what it takes for a command.
    let words = if message.contains("suitable") {
        "no server is the primary"
    } else {
        "no server answers in time (where the server offers no TLS and the network is trusted, write tls=false)"
    };
    (Class::Transient, words.to_owned())
}

/// How rustls tells that it trusts a certificate not, or that what answers speaks no TLS.
fn is_tls(words: &str) -> bool {
    ["invalid peer certificate", "received corrupt message", "received fatal alert"].iter().any(|w| words.contains(w))
}

/// A connection that ends where the other side should have answered may be one that speaks TLS to one that does not.
fn with_hint(words: String) -> String {
    if words.contains("tls handshake eof") {
        return format!("{words} (where the server offers no TLS and the network is trusted, write tls=false)");
    }
    if words.contains("unexpected end of file") || words.contains("early eof") {
        return format!("{words} (where the server wants TLS, write tls=true)");
    }
    words
}

fn is_refused_login(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["authentication failed", "authenticationfailed", "bad auth", "user not found", "could not find user"]
        .iter()
        .any(|w| words.contains(w))
}

fn shortened(words: &str) -> String {
    match words.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_certificate_is_fatal_and_a_refused_connection_passes() {
        let topology = |cause: &str| {
            format!(
                "Server selection timeout: No available servers. Topology: {{ Type: Unknown, Servers: [ {{ Address: h:1, \
                 Type: Unknown, Error: Kind: I/O error: {cause}, labels: {{}}, source: None }}, {{ Address: h:2, Error: \
                 Kind: I/O error: {cause}, labels: {{}} }} ] }}"
            )
        };
        let (class, words) = of_selection(&topology("Connection refused (os error 111)"));
        assert_eq!((class, words.as_str()), (Class::Transient, "no server answers: Connection refused (os error 111)"));
        let (class, words) = of_selection(&topology("invalid peer certificate: UnknownIssuer"));
        assert_eq!((class, words.as_str()), (Class::Fatal(TLS), "invalid peer certificate: UnknownIssuer"));
        let none = "Server selection timeout: None of the available servers suitable for criteria Primary";
        assert_eq!(of_selection(none), (Class::Transient, "no server is the primary".to_owned()));
        let old = "Server at h:1 reports maximum wire version 8, but this driver requires at least 9";
        assert_eq!(of_selection(old).0, Class::Fatal(CACHE_SERVER));
    }

    #[test]
    fn a_login_that_is_refused_is_fatal_one_that_broke_off_passes() {
        assert!(is_refused_login("SCRAM failure: Authentication failed."));
        assert!(is_refused_login("SCRAM failure: bad auth : authentication failed"));
        assert!(!is_refused_login("SCRAM failure: interrupted at shutdown"));
    }

    #[test]
    fn a_server_that_repeats_the_command_is_cut_short() {
        let words = format!("not authorized to execute command {}", "ü".repeat(10_000));
        let CacheError::Fatal { what } = refused("replacing", 13, &words) else { panic!("13 is fatal") };
        assert!(what.len() < 1000 && what.contains("readWrite"), "{what}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_falls_silent_is_given_up() {
        let silent = std::future::pending::<Result<(), Error>>();
        let failure = answer("replacing", silent).await.expect_err("nothing was answered");
        assert_eq!(failure.code(), None);
        assert_eq!(
            CacheError::from(failure),
            CacheError::Transient { what: "replacing: no answer within 30 s".into() }
        );
    }
}
