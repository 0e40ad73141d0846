//! A real server on a free port, asked by a plain client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;

use super::sources_for_tests::World;
use super::*;
use crate::core::outcome::Counts;
use crate::ports::{CountsView, PartitionOffset};
use crate::runtime::{UnitState, UnitStatus};

/// Pages that may be open at once.
pub(super) const READERS: usize = 128;

const HOSTILE: &str = "<script>alert(1)</script>\"'\n\u{1b}[31m";

pub(super) struct Daemon {
    pub address: SocketAddr,
    pub board: Board,
    pub tap: Tap,
    pub replacements: Replacements,
    pub world: Arc<World>,
    pub connections: Arc<connections::Connections>,
    pub database_up: Arc<AtomicBool>,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(super) struct Answer {
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

pub(super) fn daemon() -> Daemon {
    daemon_with(Access::default(), routes::table())
}

pub(super) fn daemon_with(access: Access, routes: Vec<routes::Served>) -> Daemon {
    daemon_that_waits(connections::STALLED_AFTER, access, routes)
}

/// `stalled_after`: how long a connection may get no further.
pub(super) fn daemon_that_waits(stalled_after: Duration, access: Access, routes: Vec<routes::Served>) -> Daemon {
    let connections = Arc::new(connections::Connections::new(stalled_after));
    let board = Board::default();
    board.declare("orders", "orders.v1");
    let claimed = PartitionOffset {
        topic: "orders.v1".into(),
        partition: 3,
        topic_id: "id".into(),
        epoch: 1,
        start_offset: 100,
        next_offset: 100,
        counts: CountsView::default(),
        updated_at: Utc::now(),
    };
    board.claimed("orders", &claimed, 1, 150);
    board.committed("orders", 3, 110, Counts { applied: 5, duplicates: 2, dead_letters: 1, gaps: 2 });
    let (tap, replacements) = (Tap::default(), Replacements::default());
    let metrics = Metrics::new("1.2.3", "abc");
    metrics.stream("orders");
    let standing = Forecasts::default();
    standing.tell("sales", sources_for_tests::standing());
    let database_up = Arc::new(AtomicBool::new(true));
    let up = database_up.clone();
    let state = HttpState {
        daemon: DaemonInfo { name: HOSTILE.into(), version: "1.2.3", revision: "abc", started_at: Utc::now() },
        metrics,
        board: board.clone(),
        tap: tap.clone(),
        units: Arc::new(|| {
            let unit = UnitStatus {
                name: "orders".into(),
                state: UnitState::Running,
                since: Utc::now(),
                failing_since: None,
                generation: 1,
                restarts: 0,
                last_error: None,
                actors: Vec::new(),
            };
            serde_json::to_value([unit]).unwrap()
        }),
        checks: Arc::new(move || {
            let ok = up.load(Ordering::Relaxed);
            let cause = (!ok).then(|| "connection refused".to_owned());
            vec![Check { name: "database".into(), ok, cause, since: Some("2024-05-01T10:00:00Z".parse().unwrap()) }]
        }),
        allowed_hosts: vec!["bief.example".into()],
        access,
        aggregates: sources_for_tests::aggregates(),
        forecasts: sources_for_tests::forecasts(),
        panels: sources_for_tests::panels(),
        tables: vec!["sale".into()],
        lanes: BTreeMap::from([("orders".into(), 2)]),
        database: "MySQL",
        freshness: Freshness::default(),
        replacements: replacements.clone(),
        standing,
        comparison: Arc::new(|| Ok(None)),
    };
    let world = Arc::new(World::default());
    let sources = sources_for_tests::sources(&world);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, receive) = mpsc::channel();
    let watched = connections.clone();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let places = Places { connections: 192, readers: READERS };
            let served = super::Served { routes, connections: watched, places };
            let server = serve_routes(listener, state, sources, served).unwrap();
            send.send(server.handle()).unwrap();
            server.await.unwrap();
        });
    });
    let (handle, thread) = (receive.recv().unwrap(), Some(thread));
    Daemon { address, board, tap, replacements, world, connections, database_up, handle, thread }
}

impl Daemon {
    /// Sends `head` (without the blank line) as it is, and reads the answer to its end.
    pub fn send(&self, head: &str) -> Answer {
        self.exchange(&format!("{head}Connection: close\r\n\r\n"))
    }

    fn exchange(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = head.lines().skip(1).filter_map(|l| l.split_once(": "));
        Answer {
            status,
            headers: headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.address))
    }

    pub fn open_events(&self) -> BufReader<TcpStream> {
        self.open_events_at("/events", "")
    }

    /// `headers`: whole lines.
    pub fn open_events_at(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let host = self.address;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// A change, with its token and body.
    pub fn post(&self, path: &str, token: &str, body: &str) -> Answer {
        let (host, length) = (self.address, body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n"
        );
        self.exchange(&format!("{head}Connection: close\r\n\r\n{body}"))
    }
}

pub(super) fn next_line(reader: &mut impl BufRead, start: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended before a line {start}");
        if line.starts_with(start) {
            return line;
        }
    }
}

const ROUTES: [&str; 10] = [
    "/",
    "/status",
    "/metrics",
    "/livez",
    "/healthz",
    "/readyz",
    "/static/app.js",
    "/static/style.css",
    "/static/icon.svg",
    "/static/index.html",
];

#[test]
fn every_answer_carries_the_security_headers() {
    let daemon = daemon();
    let mut answers: Vec<_> = ROUTES.iter().map(|path| (daemon.get(path), 200)).collect();
    answers.push((daemon.get("/nothing"), 404));
    answers.push((daemon.get("/static/nothing"), 404));
    answers.push((daemon.send("GET / HTTP/1.1\r\nHost: evil.example\r\n"), 421));
    answers.push((daemon.send(&format!("POST / HTTP/1.1\r\nHost: {}\r\n", daemon.address)), 405));
    for (answer, status) in answers {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(["no-store", "no-cache"].contains(&answer.header("cache-control")));
        assert_eq!(answer.header("access-control-allow-origin"), "");
        if status != 200 {
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.json()["status"], status);
        }
    }
}

#[test]
fn a_request_under_another_name_is_misdirected() {
    let daemon = daemon();
    let port = daemon.address.port();
    for path in ROUTES.iter().chain(&["/events", "/nothing"]) {
        for host in
            ["Host: evil.example\r\n", "Host: localhost\r\n", "", "Host: localhost:PORT\r\nHost: evil.example\r\n"]
        {
            let host = host.replace("PORT", &port.to_string());
            let status = daemon.send(&format!("GET {path} HTTP/1.1\r\n{host}")).status;
            assert!([400, 421].contains(&status), "{path} {host}: {status}");
        }
        let absolute = format!("GET http://evil.example{path} HTTP/1.1\r\nHost: {}\r\n", daemon.address);
        assert_eq!(daemon.send(&absolute).status, 421, "{absolute}");
    }
    for host in
        [format!("localhost:{port}"), format!("[::1]:{port}"), "bief.example".into(), format!("bief.example:{port}")]
    {
        assert_eq!(daemon.send(&format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n")).status, 200, "{host}");
    }
}

#[test]
fn nothing_can_be_written_and_no_body_is_taken() {
    let daemon = daemon();
    let host = daemon.address;
    for path in ROUTES.iter().chain(&["/events", "/nothing"]) {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = daemon.send(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n"));
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
    }
    assert_eq!(daemon.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n")).status, 413);
    assert_eq!(daemon.get(&format!("/?{}", "a".repeat(3000))).status, 414);
}

#[test]
fn a_head_request_has_no_body() {
    let daemon = daemon();
    for path in ROUTES.iter().chain(&["/events"]) {
        let answer = daemon.send(&format!("HEAD {path} HTTP/1.1\r\nHost: {}\r\n", daemon.address));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
}

#[test]
fn nothing_of_a_request_comes_back() {
    let daemon = daemon();
    for path in
        ["/<script>x", "/nothing?q=<script>x", "/static/<script>x", "/static/..%2fstyle.css", "/readyz?<script>x"]
    {
        let answer = daemon.get(path);
        assert!(!answer.text().contains("script>x"), "{path}: {}", answer.text());
        assert!(!answer.header("content-type").starts_with("text/html"), "{path}");
    }
}

#[test]
fn alive_stays_alive_while_a_dependency_is_down_and_ready_tells_why() {
    let daemon = daemon();
    let ready = daemon.get("/readyz?verbose");
    assert_eq!((ready.status, ready.text().as_str()), (200, "[+] database ok since 2024-05-01T10:00:00Z\nready\n"));
    assert!(daemon.get("/metrics").text().contains("\nbief_ready 1\n"));
    daemon.database_up.store(false, Ordering::Relaxed);
    let unready = daemon.get("/readyz?verbose");
    assert_eq!(unready.status, 503);
    assert_eq!(unready.text(), "[-] database failed since 2024-05-01T10:00:00Z: connection refused\nnot ready\n");
    assert!(daemon.get("/metrics").text().contains("\nbief_ready 0\n"));
    for path in ["/livez", "/healthz"] {
        assert_eq!((daemon.get(path).status, daemon.get(path).text().as_str()), (200, "ok\n"));
    }
}

#[test]
fn the_status_document_holds_the_ledger() {
    let daemon = daemon();
    let answer = daemon.get("/status");
    assert_eq!(answer.header("content-type"), "application/json");
    let status = answer.json();
    assert_eq!(status["name"], HOSTILE);
    assert_eq!(status["ready"], true);
    assert_eq!(status["units"][0]["name"], "orders");
    let partition = &status["streams"][0]["partitions"][0];
    let expected = serde_json::json!({
        "partition": 3, "lane": 1, "start_offset": 100, "next_offset": 110, "end_offset": 150, "caught_up": false,
        "applied": 5, "duplicates": 2, "dead_letters": 1, "gaps": 2, "lag": 40, "advanced": 10, "unaccounted": 0,
    });
    assert_eq!(*partition, expected);
    assert_eq!(status["totals"]["advanced"], 10);
    assert_eq!(status["totals"]["lag"], 40);
}

#[test]
fn metrics_are_fresh_and_in_the_text_format() {
    let daemon = daemon();
    daemon.board.read_to_end("orders", 3, 150);
    daemon.board.committed("orders", 3, 150, Counts { applied: 40, ..Counts::default() });
    let answer = daemon.get("/metrics");
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    assert!(text.contains("\nbief_lag_records{stream=\"orders\"} 0\n"), "{text}");
    assert!(text.contains("\nbief_partitions_caught_up{stream=\"orders\"} 1\n"), "{text}");
}

#[test]
fn an_asset_is_sent_once_and_compressed_for_who_takes_it() {
    let daemon = daemon();
    let plain = daemon.get("/static/app.js");
    let tag = plain.header("etag");
    let host = daemon.address;
    let again = daemon.send(&format!("GET /static/app.js HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!((again.status, again.body.len()), (304, 0));
    let packed = daemon.send(&format!("GET /static/app.js HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n"));
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() * 2 < plain.body.len());
}

#[test]
fn the_page_fetches_nothing_from_elsewhere_and_holds_no_inline_code() {
    let page = include_str!("../../web/index.html");
    let script = include_str!("../../web/app.js");
    let style = include_str!("../../web/style.css");
    for text in [page, style] {
        assert!(!text.contains("http:") && !text.contains("https:"), "the page names another server");
    }
    for forbidden in [" style=", " onclick=", " onload=", "javascript:", "<style"] {
        assert!(!page.contains(forbidden), "{forbidden} is refused by the policy");
    }
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", ".style."]
    {
        assert!(!script.contains(forbidden), "{forbidden} makes markup or code of text");
    }
    let weight = page.len() + script.len() + style.len();
    assert!(weight < 60_000, "{weight} bytes: the page is to stay light");
}
