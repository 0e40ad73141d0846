//! Every route of the table, and a path that is in no table, asked in every wrong way. A route without a case here
//! fails: whoever adds one says first who may ask for it and what asking does.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;

use super::routes::{Does, Needs, Served, table};
use super::tests::{Daemon, daemon, daemon_with};
use super::*;
use crate::config::Secret;

const TOKEN: &str = "0123456789abcdef-token";

/// Pattern, a path that it serves, who may ask, what asking does.
const CASES: [(&str, &str, Needs, Does); 25] = [
    ("/", "/", Needs::Nothing, Does::Reads),
    ("/static/{name}", "/static/app.js", Needs::Nothing, Does::Reads),
    ("/livez", "/livez", Needs::Nothing, Does::Reads),
    ("/healthz", "/healthz", Needs::Nothing, Does::Reads),
    ("/readyz", "/readyz", Needs::Nothing, Does::Reads),
    ("/status", "/status", Needs::Token, Does::Reads),
    ("/events", "/events", Needs::Token, Does::Reads),
    ("/api/v1/openapi.json", "/api/v1/openapi.json", Needs::Nothing, Does::Reads),
    ("/api/v1/status", "/api/v1/status", Needs::Token, Does::Reads),
    ("/api/v1/aggregates", "/api/v1/aggregates", Needs::Token, Does::Reads),
    ("/api/v1/aggregates/{name}", "/api/v1/aggregates/sums", Needs::Token, Does::Reads),
    ("/api/v1/forecasts", "/api/v1/forecasts", Needs::Token, Does::Reads),
    ("/api/v1/forecasts/{name}/documents", "/api/v1/forecasts/sales/documents?horizon=1h", Needs::Token, Does::Reads),
    ("/api/v1/comparison", "/api/v1/comparison", Needs::Token, Does::Reads),
    ("/api/v1/models", "/api/v1/models?forecast=sales", Needs::Token, Does::Reads),
    ("/api/v1/panels", "/api/v1/panels", Needs::Token, Does::Reads),
    ("/api/v1/rows/{table}", "/api/v1/rows/sale", Needs::Token, Does::Reads),
    ("/api/v1/dead-letters", "/api/v1/dead-letters", Needs::Token, Does::Reads),
    ("/api/v1/dead-letters/groups", "/api/v1/dead-letters/groups", Needs::Token, Does::Reads),
    ("/api/v1/dead-letters/retry", "/api/v1/dead-letters/retry", Needs::Token, Does::Changes),
    ("/api/v1/dead-letters/drop", "/api/v1/dead-letters/drop", Needs::Token, Does::Changes),
    ("/api/v1/dead-letters/{id}", "/api/v1/dead-letters/42", Needs::Token, Does::Reads),
    ("/api/v1/audit", "/api/v1/audit", Needs::Token, Does::Reads),
    ("/api/v1/tap", "/api/v1/tap", Needs::Token, Does::Reads),
    ("/metrics", "/metrics", Needs::MetricsToken, Does::Reads),
];

/// A route that changes something, and takes any body.
const CHANGE: &str = "/a-change";

fn with_change() -> Vec<Served> {
    let change = Served {
        path: CHANGE,
        needs: Needs::Token,
        does: Does::Changes,
        handler: || web::to(|| async { HttpResponse::NoContent().finish() }),
    };
    table().into_iter().chain([change]).collect()
}

fn guarded() -> Daemon {
    daemon_with(Access { token: Some(Secret::new(TOKEN)), ..Access::default() }, with_change())
}

/// How a route is asked rightly, but for the blank line: method, path, and the headers that it wants.
struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    host: String,
    token: Option<&'a str>,
    headers: String,
}

impl Ask<'_> {
    fn rightly<'a>(daemon: &Daemon, path: &'a str, does: Does) -> Ask<'a> {
        let (method, headers) = match does {
            // An event stream has no end that could be waited for.
            Does::Reads => ("HEAD", String::new()),
            Does::Changes => ("POST", "Content-Type: application/json\r\nContent-Length: 0\r\n".to_owned()),
        };
        Ask { method, path, host: daemon.address.to_string(), token: Some(TOKEN), headers }
    }

    fn with(mut self, header: &str) -> Self {
        self.headers += header;
        self.headers += "\r\n";
        self
    }

    fn status(&self, daemon: &Daemon) -> u16 {
        daemon.send(&self.head()).status
    }

    /// The status, without waiting for the connection's end.
    fn first_status(&self, daemon: &Daemon) -> u16 {
        first_status(daemon, &format!("{}Connection: close\r\n", self.head()))
    }

    fn head(&self) -> String {
        let authorization = self.token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
        let Ask { method, path, host, headers, .. } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}{headers}")
    }
}

/// All of the table, and what is in no table.
fn asked() -> Vec<(&'static str, Needs, Does)> {
    let mut all: Vec<_> = CASES.iter().map(|(_, path, needs, does)| (*path, *needs, *does)).collect();
    all.extend([(CHANGE, Needs::Token, Does::Changes), ("/nothing", Needs::Token, Does::Reads)]);
    all
}

/// What a route of a daemon without a token answers who asks rightly.
fn right_without_token(path: &str, does: Does) -> u16 {
    if does == Does::Changes { 403 } else { right(path, does) }
}

/// What a route answers who asks rightly.
fn right(path: &str, does: Does) -> u16 {
    match (path, does) {
        ("/nothing", _) => 404,
        (_, Does::Reads) => 200,
        (CHANGE, Does::Changes) => 204,
        // Let in, and told that a body is wanted.
        (_, Does::Changes) => 400,
    }
}

#[test]
fn every_route_has_its_case() {
    let served: Vec<_> = table().into_iter().map(|r| (r.path, r.needs, r.does)).collect();
    let cases: Vec<_> = CASES.iter().map(|(pattern, _, needs, does)| (*pattern, *needs, *does)).collect();
    assert_eq!(served, cases, "give each route of src/http/routes.rs its line in CASES: who may ask, what it does");
}

#[test]
fn without_the_right_token_only_what_tells_nothing_is_answered() {
    let daemon = guarded();
    for (path, needs, does) in asked() {
        let ask = || Ask::rightly(&daemon, path, does);
        assert_eq!(ask().status(&daemon), right(path, does), "{path}");
        let wanted = if needs == Needs::Nothing { right(path, does) } else { 401 };
        for token in [None, Some(""), Some("0123456789abcdef-tokem"), Some("0123456789abcdef"), Some("*")] {
            assert_eq!(Ask { token, ..ask() }.status(&daemon), wanted, "{path} with {token:?}");
        }
        let twice = ask().with("Authorization: Bearer x");
        assert_eq!(twice.status(&daemon), wanted, "{path} with two tokens");
        let elsewhere = format!("{path}?token={TOKEN}");
        let in_the_address = Ask { token: None, ..Ask::rightly(&daemon, &elsewhere, does) };
        assert_eq!(in_the_address.status(&daemon), wanted, "{path} with the token where logs would keep it");
    }
    let refused = daemon.get("/status");
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"bief\"");
    assert!(!refused.text().contains(TOKEN) && !refused.text().contains("orders"));
    for encoded in ["/%73tatus", "/status/", "//status", "/./status", "/static/../status", "/static/%2e%2e%2fstatus"] {
        assert!(!daemon.get(encoded).text().contains("orders"), "{encoded}");
    }
}

#[test]
fn a_route_that_is_spelled_otherwise_is_not_taken_for_another() {
    let daemon = daemon_with(Access::default(), with_change());
    let path = CHANGE.replacen('a', "%61", 1);
    for does in [Does::Reads, Does::Changes] {
        assert_eq!(Ask::rightly(&daemon, &path, does).status(&daemon), 400, "{path}");
    }
    for path in ["/api/v1/dead-letters/%72etry", "/api/v1/dead-letters/d%72op", "/api/v1/dead-letters/%72%45%74ry"] {
        let ask = Ask { method: "GET", token: None, ..Ask::rightly(&daemon, path, Does::Reads) };
        assert_eq!(ask.with("Connection: upgrade\r\nUpgrade: websocket").status(&daemon), 400, "{path}");
    }
    let sound = Ask::rightly(&daemon, "/api/v1/rows/a%20b", Does::Reads).status(&daemon);
    assert_ne!(sound, 400, "a blank has to be encoded");
}

#[test]
fn who_shows_no_token_learns_from_a_probe_the_verdict_alone() {
    let daemon = guarded();
    daemon.database_up.store(false, std::sync::atomic::Ordering::Relaxed);
    let host = daemon.address;
    let stranger = daemon.get("/readyz?verbose");
    assert_eq!((stranger.status, stranger.text().as_str()), (503, "not ready\n"));
    let ask = format!("GET /readyz?verbose HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert!(daemon.send(&ask).text().contains("connection refused"));
}

#[test]
fn metrics_can_be_left_open_and_nothing_else_with_them() {
    let access = Access { token: Some(Secret::new(TOKEN)), open_metrics: true, ..Access::default() };
    let daemon = daemon_with(access, with_change());
    for (path, needs, does) in asked() {
        let wanted = if needs == Needs::Token { 401 } else { 200 };
        assert_eq!(Ask { token: None, ..Ask::rightly(&daemon, path, does) }.status(&daemon), wanted, "{path}");
    }
}

#[test]
fn where_no_token_is_configured_nothing_can_be_changed() {
    for open_on_purpose in [false, true] {
        let daemon = daemon_with(Access { open_on_purpose, ..Access::default() }, with_change());
        for token in [None, Some(""), Some(TOKEN)] {
            for (path, _, does) in asked() {
                let ask = Ask { token, ..Ask::rightly(&daemon, path, does) };
                assert_eq!(ask.status(&daemon), right_without_token(path, does), "{path} with {token:?}");
            }
        }
        let change = "Content-Type: application/json\r\nContent-Length: 0\r\n";
        let refused = daemon.send(&format!("POST {CHANGE} HTTP/1.1\r\nHost: {}\r\n{change}", daemon.address));
        assert!(refused.text().contains("token = "), "says what to write: {}", refused.text());
    }
}

#[test]
fn a_page_of_another_site_gets_no_answer_from_any_route() {
    type Right = fn(&str, Does) -> u16;
    let open = (daemon_with(Access::default(), with_change()), right_without_token as Right);
    for (daemon, right) in [(guarded(), right as Right), open] {
        let port = daemon.address.port();
        for (path, _, does) in asked() {
            let ask = || Ask::rightly(&daemon, path, does);
            for header in [
                "Sec-Fetch-Site: cross-site".to_owned(),
                "Sec-Fetch-Site: same-site".to_owned(),
                "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe".to_owned(),
                "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image".to_owned(),
                "Sec-Fetch-Site: unheard-of".to_owned(),
                "Origin: null".to_owned(),
                "Origin: http://evil.example".to_owned(),
                format!("Origin: http://evil.example:{port}"),
                format!("Origin: http://127.0.0.1:{}", port ^ 1),
                format!("Origin: http://127.0.0.1:{port}.evil.example"),
                "Origin: http://127.0.0.1".to_owned(),
                "Origin: ".to_owned(),
            ] {
                assert_eq!(ask().with(&header).status(&daemon), 403, "{path} with {header}");
            }
            for header in [
                "Sec-Fetch-Site: same-origin".to_owned(),
                format!("Origin: http://127.0.0.1:{port}"),
                format!("Origin: http://localhost:{port}"),
                "Origin: https://bief.example".to_owned(),
            ] {
                assert_eq!(ask().with(&header).status(&daemon), right(path, does), "{path} with {header}");
            }
            let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document";
            for header in [link, "Sec-Fetch-Site: none"] {
                let wanted = if does == Does::Changes { 403 } else { right(path, does) };
                assert_eq!(ask().with(header).status(&daemon), wanted, "{path} with {header}");
            }
        }
    }
}

#[test]
fn under_another_name_no_route_answers() {
    for daemon in [guarded(), daemon_with(Access::default(), with_change())] {
        let port = daemon.address.port();
        for (path, _, does) in asked() {
            for host in [
                "evil.example".to_owned(),
                format!("evil.example:{port}"),
                "localhost".to_owned(),
                format!("127.0.0.1:{}", port ^ 1),
                format!("localhost:{port}.evil.example"),
            ] {
                let status = Ask { host: host.clone(), ..Ask::rightly(&daemon, path, does) }.status(&daemon);
                assert_eq!(status, 421, "{path} as {host}");
            }
        }
    }
}

#[test]
fn no_route_takes_another_method() {
    let daemon = guarded();
    for (path, _, does) in asked() {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
            if does.takes(&actix_web::http::Method::from_bytes(method.as_bytes()).unwrap()) {
                continue;
            }
            // After a CONNECT the daemon waits a while for what a tunnel would bring.
            let status = Ask { method, ..Ask::rightly(&daemon, path, does) }.first_status(&daemon);
            // CONNECT has another form of target, which is no request at all here.
            assert!(status == 405 || (method == "CONNECT" && status == 400), "{method} {path}: {status}");
        }
    }
}

#[test]
fn what_is_too_large_is_refused_by_every_route() {
    let daemon = guarded();
    for (path, _, does) in asked() {
        let long = format!("{path}?{}", "a".repeat(3000));
        assert_eq!(Ask::rightly(&daemon, &long, does).status(&daemon), 414, "{path}");
        let host = daemon.address;
        let method = if does == Does::Reads { "GET" } else { "POST" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        );
        for body in ["Content-Length: 65537\r\n", "Content-Length: 99999999999\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(first_status(&daemon, &format!("{head}{body}")), 413, "{path} {body}");
        }
    }
    let ask = Ask::rightly(&daemon, CHANGE, Does::Changes);
    let form = Ask { headers: "Content-Type: text/plain\r\nContent-Length: 0\r\n".into(), ..ask };
    assert_eq!(form.status(&daemon), 415, "no form of another site can send a change");
}

/// The status of an answer whose end is not waited for: the daemon lingers a while for the body that it refused.
fn first_status(daemon: &Daemon, head: &str) -> u16 {
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap_or_else(|| panic!("{head} is answered with {line:?}")).parse().unwrap()
}

/// What comes back until the daemon hangs up, within `limit`.
pub(super) fn until_closed(stream: &mut TcpStream, limit: Duration) -> Vec<u8> {
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the daemon kept the connection for {limit:?}: {error}"),
    }
    bytes
}

#[test]
fn a_head_without_end_is_not_gathered() {
    let daemon = daemon();
    let mut stream = TcpStream::connect(daemon.address).unwrap();
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n", daemon.address).as_bytes());
    for _ in 0..64 {
        // Refused by now or not: the daemon may have hung up.
        let _ = stream.write_all(format!("X-Filler: {}\r\n", "a".repeat(8000)).as_bytes());
    }
    let answer = until_closed(&mut stream, Duration::from_secs(30));
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(daemon.get("/livez").status, 200);
}

#[test]
fn a_client_that_never_ends_its_request_is_cut_off() {
    let daemon = daemon();
    let mut slow = TcpStream::connect(daemon.address).unwrap();
    write!(slow, "GET /status HTTP/1.1\r\nHost: {}\r\nX-Slow: ", daemon.address).unwrap();
    let mut without_body = TcpStream::connect(daemon.address).unwrap();
    write!(without_body, "POST /status HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\n{{", daemon.address)
        .unwrap();
    let began = Instant::now();
    for stream in [&mut slow, &mut without_body] {
        let answer = until_closed(stream, Duration::from_secs(60));
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn no_answer_lets_another_site_read_it() {
    let daemon = daemon();
    for (path, _, does) in asked().into_iter().filter(|(_, _, does)| *does == Does::Reads) {
        let ask = Ask::rightly(&daemon, path, does);
        let answer =
            daemon.send(&format!("HEAD {} HTTP/1.1\r\nHost: {}\r\nOrigin: http://{1}\r\n", ask.path, ask.host));
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
    }
}
