//! How a command asks a running daemon: which address, with which token, and one GET. Goes straight to the daemon,
//! through no proxy, follows no redirect and takes a bounded answer, or one whose lines it takes as they come. The token gets into no message, and to no route
//! that answers without it: whoever else holds the port would have it too.

use std::io::{BufRead, BufReader};
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

/// An answer that comes line by line.
pub struct Lines {
    /// HTTP status.
    pub status: u16,
    pub reader: Box<dyn BufRead>,
}

impl Daemon {
    /// Asks for `path`, which needs no token, waiting at most `timeout` for the whole answer.
    ///
    /// # Errors
    /// When the address cannot be told or nothing answers; any HTTP status is an answer.
    pub fn probe(&self, path: &str, timeout: Duration) -> Result<Answer, AskError> {
        let (base, _) = self.address_and_token(&|name| std::env::var(name).ok())?;
        ask(&format!("{base}{path}"), None, timeout)
    }

    /// Asks for `path` with the token, where there is one, waiting at most `timeout` for the whole answer.
    ///
    /// # Errors
    /// When the address cannot be told or nothing answers; any HTTP status is an answer.
    pub fn get(&self, path: &str, timeout: Duration) -> Result<Answer, AskError> {
        let (base, token) = self.address_and_token(&|name| std::env::var(name).ok())?;
        ask(&format!("{base}{path}"), token.as_ref(), timeout)
    }

    /// Asks for `path` with the token, where there is one, and answers as soon as the answer begins. A daemon that then
    /// is silent for longer than `silence` is an error of the reader.
    ///
    /// # Errors
    /// When the address cannot be told or nothing answers; any HTTP status is an answer.
    pub fn lines(&self, path: &str, query: &[(&str, &str)], silence: Duration) -> Result<Lines, AskError> {
        let (base, token) = self.address_and_token(&|name| std::env::var(name).ok())?;
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let agent = agent(|config| config.timeout_connect(Some(silence)).timeout_per_read(Some(silence)));
        let answer = request(&agent, &format!("{base}{path}?{query}"), token.as_ref())
            .call()
            .map_err(|error| AskError::Unreachable { url: format!("{base}{path}"), what: error.to_string() })?;
        let status = answer.status().as_u16();
        Ok(Lines { status, reader: Box::new(BufReader::new(answer.into_body().into_reader())) })
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
        let base = path.parent().unwrap_or(Path::new(""));
        let address = address_of(path, section.http.as_deref(), &|text| config::resolve(text, base, env))?;
        // A variable that is not set here is no mistake: probes need no token, and the daemon says where one is needed.
        let token = section.token.as_deref().and_then(|token| config::resolve(token, base, env)).filter(sendable);
        Ok((format!("http://{address}"), token))
    }
}

fn ask(url: &str, token: Option<&Secret>, timeout: Duration) -> Result<Answer, AskError> {
    let unreachable = |what: String| AskError::Unreachable { url: url.to_owned(), what };
    let agent = agent(|config| config.timeout_global(Some(timeout)));
    let mut answer = request(&agent, url, token).call().map_err(|error| unreachable(error.to_string()))?;
    let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
    Ok(Answer { status: answer.status().as_u16(), body: body.map_err(|error| unreachable(error.to_string()))? })
}

type AgentConfig = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

fn agent(patience: impl FnOnce(AgentConfig) -> AgentConfig) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("bief/", env!("CARGO_PKG_VERSION")));
    patience(config).build().into()
}

fn request(
    agent: &ureq::Agent,
    url: &str,
    token: Option<&Secret>,
) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
    let request = agent.get(url);
    match token {
        Some(token) => request.header("Authorization", format!("Bearer {}", token.expose())),
        None => request,
    }
}

/// What a status of 401 means for whoever ran the command.
pub const TOKEN_NEEDED: &str = "the daemon wants its token: set BIEF_TOKEN, or name the daemon's configuration with \
     `-c` and set what its `token` refers to";

/// The URL is not repeated: it may hold what somebody took for the place of a password or a token.
fn parse_url(url: &str) -> Result<String, AskError> {
    let wrong = |why: &str| AskError::Usage(format!("the URL of --url {why}; write it as http://127.0.0.1:8080"));
    let parsed = url::Url::parse(url).map_err(|_| wrong("is none"))?;
    if parsed.scheme() != "http" {
        return Err(wrong("does not start with http://"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong(
            "holds a user or a password, which the daemon takes in no URL (the token goes in BIEF_TOKEN)",
        ));
    }
    if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || parsed.fragment().is_some() {
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

/// `resolve` puts references in; what it put in is in no message.
fn address_of(
    path: &Path,
    http: Option<&str>,
    resolve: &dyn Fn(&str) -> Option<Secret>,
) -> Result<SocketAddr, AskError> {
    let wrong = |why: &str| AskError::Usage(format!("{}: daemon.http {why}; use --url", path.display()));
    let raw = http.unwrap_or(DEFAULT_ADDRESS);
    let written = resolve(raw).ok_or_else(|| wrong(&format!("= {raw:?} refers to what is not set here")))?;
    let written = written.expose();
    let numeric = written.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let mut address: SocketAddr = numeric
        .as_deref()
        .unwrap_or(written)
        .parse()
        .map_err(|_| wrong(&format!("= {raw:?} is not an address and port")))?;
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
        let env = |name: &str| (name == "HTTP").then(|| "127.0.0.1:9001".to_owned());
        let resolve = |text: &str| config::resolve(text, Path::new(""), &env);
        let found = daemon_section(path, text).and_then(|section| address_of(path, section.http.as_deref(), &resolve));
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
        assert_eq!(address("[daemon]\nhttp = \"${HTTP}\"\n"), "127.0.0.1:9001");
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
            address("[daemon]\nhttp = \"${UNSET}\"\n"),
            "actors.toml: daemon.http = \"${UNSET}\" refers to what is not set here; use --url"
        );
        assert_eq!(
            address("[daemon]\nhttp = \"x${HTTP}\"\n"),
            "actors.toml: daemon.http = \"x${HTTP}\" is not an address and port; use --url"
        );
        assert!(address("[daemon\n").starts_with("actors.toml is not valid TOML: "));
        for url in ["127.0.0.1:8080", "https://127.0.0.1", "http://127.0.0.1/path", "http://u:p@127.0.0.1", "x"] {
            assert!(matches!(parse_url(url), Err(AskError::Usage(_))), "{url}");
        }
        for url in ["http://:h1dden@127.0.0.1", "http://h1dden@x", "http://u:h1dden@x:port", "http://x?token=h1dden"] {
            let told = parse_url(url).unwrap_err().to_string();
            assert!(!told.contains("h1dden") && told.contains("write it as"), "{url}: {told}");
        }
        assert_eq!(parse_url("http://bief.example").unwrap(), "http://bief.example:80");
        assert_eq!(parse_url("http://[::1]:8080/").unwrap(), "http://[::1]:8080");
    }

    #[test]
    fn a_probe_shows_no_token_to_whoever_holds_the_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("actors.toml");
        let http = listener.local_addr().unwrap();
        std::fs::write(&file, format!("[daemon]\nhttp = \"{http}\"\ntoken = \"of-some-length-h1dden\"\n")).unwrap();
        let asked = std::thread::spawn(move || {
            [(); 2].map(|()| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0; 1];
                    std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                    head.extend(byte);
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                std::io::Write::write_all(&mut stream, answer).unwrap();
                String::from_utf8(head).unwrap()
            })
        });
        let daemon = Daemon { url: None, config: Some(file) };
        daemon.probe("/readyz", Duration::from_secs(30)).unwrap();
        daemon.get("/status", Duration::from_secs(30)).unwrap();
        let [probe, status] = asked.join().unwrap();
        assert!(probe.starts_with("GET /readyz ") && !probe.contains("h1dden"), "{probe}");
        assert!(status.starts_with("GET /status ") && status.contains("h1dden"), "{status}");
    }

    #[test]
    fn nothing_listening_is_an_answer_for_people() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let daemon = Daemon { url: Some(format!("http://127.0.0.1:{port}")), config: None };
        let error = daemon.get("/livez", Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("is the daemon running there?"), "{error}");
    }
}
