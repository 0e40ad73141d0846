//! What the tests against real servers share: databases and topics of their own, the daemon as a child, rows as
//! the independent script wants them. Everything that a test makes goes with it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

pub use super::cache::CacheServer;
pub use super::shipped::*;

/// How long anything may take that ends by itself on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The servers that the environment names.
pub struct Servers {
    pub kafka: String,
    pub mysql: String,
    pub mariadb: String,
    /// The secure listener of the same Kafka, where it has one.
    pub secure: Option<SecureKafka>,
    pub caches: Caches,
}

/// What speaks MongoDB's protocol, where it is there.
#[derive(Clone, Default)]
pub struct Caches {
    pub mongodb: Option<CacheServer>,
    pub ferretdb: Option<CacheServer>,
}

/// A listener that wants TLS and a password.
pub struct SecureKafka {
    /// `host:port`
    pub address: String,
    /// The PEM file of the authority that signed its certificate.
    pub ca: String,
}

pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{what}_{:x}_{}", now % 0x1_0000_0000, NEXT.fetch_add(1, Ordering::SeqCst))
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A database of its own, dropped with the value.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// `server`: `mysql://user@host:port/`.
    pub fn create(server: &str) -> Self {
        let name = unique("bief_test");
        block_on(async {
            let mut conn = mysql_async::Conn::from_url(server).await.unwrap();
            conn.query_drop(format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await.unwrap();
            conn.disconnect().await.unwrap();
        });
        Self { server: server.to_owned(), name }
    }

    /// One of a server's, or a file in the folder where none is named; with its URL.
    pub fn create_or_file(server: Option<&str>, folder: &Path) -> (Option<Self>, String) {
        let database = server.map(Self::create);
        let file = || format!("sqlite://{}", folder.join("bief.db").display());
        let url = database.as_ref().map_or_else(file, Self::url);
        (database, url)
    }

    pub fn url(&self) -> String {
        format!("{}{}", self.server, self.name)
    }

    pub fn execute(&self, sql: &str) {
        block_on(async {
            let mut conn = mysql_async::Conn::from_url(self.url()).await.unwrap();
            conn.query_drop(sql).await.unwrap();
            conn.disconnect().await.unwrap();
        });
    }

    pub fn rows(&self, sql: &str) -> Vec<mysql_async::Row> {
        block_on(async {
            let mut conn = mysql_async::Conn::from_url(self.url()).await.unwrap();
            let rows = conn.query(sql).await.unwrap();
            conn.disconnect().await.unwrap();
            rows
        })
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.rows(sql).into_iter().next().and_then(|mut row| row.take(0)).unwrap_or(0)
    }

    /// A whole table as canonical text: tabs, `\N`, times with microseconds.
    pub fn export(&self, table: &str, to: &Path) {
        let rows = self.rows(&format!("SELECT * FROM `{table}`"));
        let mut out = std::io::BufWriter::new(std::fs::File::create(to).unwrap());
        if let Some(first) = rows.first() {
            let names: Vec<String> = first.columns_ref().iter().map(|c| c.name_str().into_owned()).collect();
            writeln!(out, "{}", names.join("\t")).unwrap();
        }
        for row in rows {
            let cells: Vec<String> = row.unwrap().into_iter().map(cell).collect();
            writeln!(out, "{}", cells.join("\t")).unwrap();
        }
    }
}

fn cell(value: mysql_async::Value) -> String {
    match value {
        mysql_async::Value::NULL => "\\N".to_owned(),
        mysql_async::Value::Bytes(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
        }
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        block_on(async {
            if let Ok(mut conn) = mysql_async::Conn::from_url(&self.server).await {
                let _ = conn.query_drop(format!("DROP DATABASE `{}`", self.name)).await;
            }
        });
    }
}

pub fn admin(kafka: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka).create().unwrap()
}

/// Makes a topic with these settings.
pub fn create_topic(kafka: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let made = block_on(admin(kafka).create_topics(&[new], &AdminOptions::new())).unwrap();
    made.into_iter().for_each(|outcome| drop(outcome.unwrap()));
}

/// Puts other text in place of some of a configuration's, which must be there.
pub fn replace_in(config: &Path, changes: &[(&str, &str)]) {
    let text = std::fs::read_to_string(config).unwrap();
    let changed = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from} in {text}");
        text.replace(from, to)
    });
    std::fs::write(config, changed).unwrap();
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn bief(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bief"));
    command.args(arguments).env_remove("FAILPOINTS").env_remove("RUST_LOG");
    command
}

/// Runs a command that prints JSON, and hands its answer and exit code over.
pub fn json_of(command: &mut Command) -> (Value, i32) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let value = serde_json::from_str(last)
        .unwrap_or_else(|e| panic!("{e}: {text:?}, stderr {}", String::from_utf8_lossy(&output.stderr)));
    (value, output.status.code().unwrap_or(-1))
}

/// `bief verify --json`.
pub fn verify(config: &Path) -> (Value, i32) {
    json_of(bief(&["verify", "--json", "-c"]).arg(config))
}

pub fn assert_clean(config: &Path) -> Value {
    let (proof, code) = verify(config);
    assert_eq!((proof["verify"].as_str(), code), (Some("clean"), 0), "{proof:#}");
    proof
}

/// A running daemon; killed with the value.
pub struct Daemon {
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub fn start(config: &Path) -> Self {
        Self::start_with(config, &[])
    }

    /// With environment variables, such as FAILPOINTS.
    pub fn start_with(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = bief(&["run", "-c"]);
        command.arg(config).envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (told, address) = std::sync::mpsc::channel();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(http) = parsed["http"].as_str() {
                    let _ = told.send(http.to_owned());
                }
                kept.lock().unwrap().push(line);
            }
        });
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the daemon did not tell its address: {:#?}", log.lock().unwrap())
        });
        Self { child, address, log }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// A page of the daemon; `None` while it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = agent.get(format!("http://{}{path}", self.address)).call().ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.body_mut().read_to_string().ok()?))
    }

    pub fn status(&self) -> Value {
        self.get("/status").and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    /// One metric's value, by its name with labels as it is printed.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until so many records have an outcome and all partitions are at their end.
    pub fn wait_caught_up(&self, records: i64) {
        self.wait("caught up", |status| {
            outcomes(status) >= records && partitions(status).iter().all(|p| p["caught_up"] == true)
        });
    }

    pub fn wait(&self, what: &str, met: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if met(&self.status()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = self.log();
        panic!("not {what} in {PATIENCE:?}: {:#}\n{:#?}", self.status(), &log[log.len().saturating_sub(20)..]);
    }

    /// Waits until `/readyz` is 503 and tells of this; answers what it says.
    pub fn wait_not_ready(&self, words: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let (status, told) = self.get("/readyz").unwrap_or_default();
            if status == 503 && words.iter().all(|word| told.contains(word)) {
                return told;
            }
            assert!(began.elapsed() < PATIENCE, "{status}: {told}\n{:#?}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Whether a signal has stopped the process for the time being.
    pub fn is_stopped(&self) -> bool {
        // The state stands behind the name, which is in parentheses.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// Most memory that the process ever had resident, in bytes.
    pub fn most_resident(&self) -> u64 {
        let told = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// SIGKILL, now.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the daemon did not end within {limit:?}: {:#?}", self.log());
    }

    /// SIGTERM, and an end in order.
    pub fn stop(mut self) {
        self.signal("-TERM");
        let status = self.wait_end(PATIENCE);
        assert_eq!(status.code(), Some(0), "{:#?}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn partitions(status: &Value) -> Vec<&Value> {
    status["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|s| s["partitions"].as_array().into_iter().flatten())
        .collect()
}

fn outcomes(status: &Value) -> i64 {
    let of = |p: &Value, name: &str| p[name].as_i64().unwrap_or(0);
    partitions(status).iter().map(|p| of(p, "applied") + of(p, "duplicates") + of(p, "dead_letters")).sum()
}

pub const TABLES: [&str; 5] = ["carrier", "airport", "aircraft", "flight", "weather"];

fn rowset(arguments: &[&str]) -> std::process::Output {
    Command::new("python3").arg(repository().join("tests/rowset/rowset.py")).args(arguments).output().unwrap()
}

/// What the tables must hold, computed once from the CSV files alone.
fn wanted_rows() -> &'static Path {
    static WANTED: OnceLock<tempfile::TempDir> = OnceLock::new();
    WANTED
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let output = rowset(&["--out", folder.path().to_str().unwrap()]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            folder
        })
        .path()
}

/// Tables whose rows are not those of the CSV files, with what the script says.
pub fn differing_tables(database: &Database) -> Vec<(String, String)> {
    let found = tempfile::tempdir().unwrap();
    let mut differing = Vec::new();
    for table in TABLES {
        let (wanted, exported) =
            (wanted_rows().join(format!("{table}.tsv")), found.path().join(format!("{table}.tsv")));
        database.export(table, &exported);
        let output = rowset(&["--compare", wanted.to_str().unwrap(), exported.to_str().unwrap()]);
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            differing.push((table.to_owned(), String::from_utf8_lossy(&said).into_owned()));
        }
    }
    differing
}

pub fn assert_whole_row_set(database: &Database) {
    let differing = differing_tables(database);
    assert!(differing.is_empty(), "{differing:#?}");
}
