//! How a command asks a running daemon: which address, with which token, and one GET. Goes straight to the daemon,
//! through no proxy, follows no redirect and takes a bounded answer. The token gets into no message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{self, Secret};

/// The token to show where no configuration is named.
const TOKEN_VARIABLE: &str = "BIEF_TOKEN";

/// Where the daemon listens unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// Bytes of an answer that are read; a status document of thousands of partitions has a few hundred thousand.
const MAX_ANSWER_BYTES: u64 = 32 << 20;

/// Which daemon is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Daemon {
    /// Address of the daemon, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub url: Option<String>,

    /// Configuration of the daemon, for the address it listens on [without either: http://127.0.0.1:8080]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why a daemon was not asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// No answer, or none that is one.
    #[error("no answer from {url}: {what}; is the daemon running there?")]
    Unreachable { url: String, what: String },
}

/// What the daemon said.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    pub body: String,
}

impl Daemon {
    /// Asks for `path`, waiting at most `timeout` for the whole answer.
    ///
    /// # Errors
    /// When the address cannot be told or nothing answers; any HTTP status is an answer.
    pub fn get(&self, path: &str, timeout: Duration) -> Result<Answer, AskError> {
        let (base, token) = self.address_and_token(&|name| std::env::var(name).ok())?;
        let url = format!("{base}{path}");
        let unreachable = |what: String| AskError::Unreachable { url: url.clone(), what };
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("bief/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.get(&url);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {}", token.expose()));
        }
        let mut answer = request.call().map_err(|error| unreachable(error.to_string()))?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        Ok(Answer { status: answer.status().as_u16(), body: body.map_err(|error| unreachable(error.to_string()))? })
    }

    /// `http://host:port`, and what to show there. With a configuration its own token, else that of the environment.
    fn address_and_token(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<(String, Option<Secret>), AskError> {
        // What could not be sent in a header is no token that a daemon has.
        let sendable =
            |token: &Secret| token.expose().bytes().all(|b| b.is_ascii_graphic()) && !token.expose().is_empty();
        let from_environment = || env(TOKEN_VARIABLE).map(Secret::new).filter(sendable);
        if let Some(url) = &self.url {
            return Ok((parse_url(url)?, from_environment()));
        }
        let Some(path) = &self.config else { return Ok((format!("http://{DEFAULT_ADDRESS}"), from_environment())) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| AskError::Usage(format!("{} cannot be read: {error}", path.display())))?;
        let section = daemon_section(path, &text)?;
        // A variable that is not set here is no mistake: probes need no token, and the daemon says where one is needed.
        let base = path.parent().unwrap_or(Path::new(""));
        let token = section.token.as_deref().and_then(|token| config::resolve(token, base, env)).filter(sendable);
        Ok((format!("http://{}", address_of(path, section.http.as_deref())?), token))
    }
}

/// What a status of 401 means for whoever ran the command.
pub const TOKEN_NEEDED: &str = "the daemon wants its token: set BIEF_TOKEN, or name the daemon's configuration with \
     `-c` and set what its `token` refers to";

fn parse_url(url: &str) -> Result<String, AskError> {
    let wrong = |why: &str| AskError::Usage(format!("the URL {url:?} {why}; write it as http://127.0.0.1:8080"));
    let parsed = url::Url::parse(url).map_err(|_| wrong("is none"))?;
    if parsed.scheme() != "http" {
        return Err(wrong("does not start with http://"));
    }
    if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || !parsed.username().is_empty() {
        return Err(wrong("has more than host and port"));
    }
    let host = parsed.host_str().ok_or_else(|| wrong("has no host"))?;
    Ok(format!("http://{host}:{}", parsed.port().unwrap_or(80)))
}

/// What a command needs of `[daemon]`.
struct DaemonSection {
    http: Option<String>,
    token: Option<String>,
}

/// `daemon.http` and `daemon.token` of a configuration, and nothing else of it: a probe must not need the daemon's
/// other secrets, and a mistake elsewhere in the file is the daemon's to tell. What is no text counts as absent, since
/// a message about it would hold it.
fn daemon_section(path: &Path, text: &str) -> Result<DaemonSection, AskError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| AskError::Usage(format!("{} is not valid TOML: {}", path.display(), error.message())))?;
    let value = |key: &str| Some(table.get("daemon")?.get(key)?.as_str()?.to_owned());
    Ok(DaemonSection { http: value("http"), token: value("token") })
}

fn address_of(path: &Path, http: Option<&str>) -> Result<SocketAddr, AskError> {
    let written = http.unwrap_or(DEFAULT_ADDRESS);
    let numeric = written.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let mut address: SocketAddr = numeric.as_deref().unwrap_or(written).parse().map_err(|_| {
        AskError::Usage(format!("{}: daemon.http = {written:?} is not an address and port; use --url", path.display()))
    })?;
    if address.ip().is_unspecified() {
        // Listening on every address, so on loopback too.
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> String {
        let path = Path::new("actors.toml");
        let found = daemon_section(path, text).and_then(|section| address_of(path, section.http.as_deref()));
        found.map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    #[test]
    fn the_address_is_read_without_understanding_the_rest_of_the_file() {
        assert_eq!(
            address("[daemon]\nhttp = \"127.0.0.1:9000\"\nname = 7\n[kafka]\npassword = \"${NOT_SET}\"\n"),
            "127.0.0.1:9000"
        );
        assert_eq!(address("[[stream]]\ntopic = \"orders\"\n"), "127.0.0.1:8080");
        assert_eq!(address("[daemon]\nhttp = \"localhost:81\"\n"), "127.0.0.1:81");
    }

    #[test]
    fn the_token_is_the_files_own_or_else_the_environments_and_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("actors.toml");
        std::fs::write(folder.path().join("token"), "of-the-other-file\n").unwrap();
        let token = |line: Option<&str>, env: &dyn Fn(&str) -> Option<String>| {
            line.iter().for_each(|line| std::fs::write(&file, format!("[daemon]\n{line}\n")).unwrap());
            let daemon = Daemon { url: None, config: line.map(|_| file.clone()) };
            daemon.address_and_token(env).unwrap().1.map(|token| token.expose().to_owned())
        };
        let env = |name: &str| (name != "UNSET").then(|| format!("value-of-{name}"));
        assert_eq!(token(Some("token = \"${file:token}\""), &env).as_deref(), Some("of-the-other-file"));
        assert_eq!(token(Some("token = \"${MINE}\""), &env).as_deref(), Some("value-of-MINE"));
        assert_eq!(token(Some("token = \"${UNSET}\""), &env), None);
        assert_eq!(token(Some("token = \"x\\r\\nCookie: y\""), &env), None, "no header is smuggled in");
        assert_eq!(token(Some("name = \"orders\""), &env), None, "another daemon's token is not shown around");
        assert_eq!(token(None, &env).as_deref(), Some("value-of-BIEF_TOKEN"));
        assert_eq!(token(None, &|_| None), None);
    }

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        assert_eq!(address("[daemon]\nhttp = \"0.0.0.0:8080\"\n"), "127.0.0.1:8080");
        assert_eq!(address("[daemon]\nhttp = \"[::]:8080\"\n"), "[::1]:8080");
    }

    #[test]
    fn what_is_wrong_with_the_address_is_said_with_the_way_out() {
        assert_eq!(
            address("[daemon]\nhttp = \"${HTTP}\"\n"),
            "actors.toml: daemon.http = \"${HTTP}\" is not an address and port; use --url"
        );
        assert!(address("[daemon\n").starts_with("actors.toml is not valid TOML: "));
        for url in ["127.0.0.1:8080", "https://127.0.0.1", "http://127.0.0.1/path", "http://u:p@127.0.0.1", "x"] {
            assert!(matches!(parse_url(url), Err(AskError::Usage(_))), "{url}");
        }
        assert_eq!(parse_url("http://bief.example").unwrap(), "http://bief.example:80");
        assert_eq!(parse_url("http://[::1]:8080/").unwrap(), "http://[::1]:8080");
    }

    #[test]
    fn nothing_listening_is_an_answer_for_people() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let daemon = Daemon { url: Some(format!("http://127.0.0.1:{port}")), config: None };
        let error = daemon.get("/livez", Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("is the daemon running there?"), "{error}");
    }
}
