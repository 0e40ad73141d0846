//! FerretDB 2 before PostgreSQL 18 with DocumentDB: MongoDB's protocol over a database that keeps what it is told.
//! PostgreSQL and the extension are Debian sid's packages, run from their own folder with their own C library; FerretDB is
//! built by the machine's Go. It wants a log-in, and has a second port that wants TLS.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Durability;
use super::debian::{self, Mirror};
use super::guard::{Guard, signal_group};
use super::mysql::{as_root, copy_data};
use crate::shell;

const SUITE: &str = "sid";
const PACKAGE: &str = "postgresql-18-documentdb";
const MODULE: &str = "github.com/FerretDB/FerretDB/v2";
const VERSION: &str = "v2.7.0";
/// Where the package has its programs; PostgreSQL finds the rest from there.
const PROGRAMS: &str = "usr/lib/postgresql/18/bin";
/// Extensions look for each other there.
const EXTENSIONS: &str = "usr/lib/postgresql/18/lib";

/// Who may log in. The password holds what URLs, JSON and SQL each take for their own.
const USER: &str = "bief";
const PASSWORD: &str = r#"Pa's "w$rd_1/@:%"#;

/// PostgreSQL answers within a second; this long even on a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(60);

const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
cron.database_name = 'postgres'
shared_buffers = 64MB
max_connections = 200
";
/// A crash of the machine may lose what was written.
const LEAN: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];
/// The jobs that build indexes and remove what is past its TTL run within the server. By connections, as they do otherwise,
/// they would go to the port of the server that made the data.
const JOBS: [&str; 2] = ["cron.use_background_workers=on", "max_worker_processes=32"];

/// Why it cannot be fetched or run here.
pub fn hindrance() -> Option<String> {
    if !shell::is_installed("go") {
        return Some("it is built with Go, and `go` is not installed".to_owned());
    }
    if !shell::is_installed("apt-get") {
        return Some("PostgreSQL comes from Debian's packages, and `apt-get` is missing".to_owned());
    }
    let mut other_user = as_other_user()?;
    let works = other_user.arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    (!works).then(|| "PostgreSQL does not run as root, and `unshare --user` is not allowed here".to_owned())
}

pub fn fetch(folder: &Path) -> Result<()> {
    if let Some(why) = hindrance() {
        bail!("FerretDB cannot be had: {why}. Name a running one in BIEF_TEST_FERRETDB instead");
    }
    let root = folder.join("root");
    fs::create_dir(&root)?;
    let version = debian::unpack(&Mirror::of_this_machine()?, SUITE, PACKAGE, &root)?;
    make_it_whole(&root)?;
    initialize(folder).context("cannot initialise PostgreSQL's data")?;
    build(folder).context("cannot build FerretDB")?;
    make_certificate(folder).context("cannot make FerretDB's certificate")?;
    fs::write(
        folder.join("version"),
        format!("FerretDB {} on DocumentDB {version}\n", VERSION.trim_start_matches('v')),
    )?;
    Ok(())
}

/// What the packages' own scripts would have done, and a `postgres` that other programs of the folder can call.
fn make_it_whole(root: &Path) -> Result<()> {
    let extensions = root.join("usr/share/postgresql/18/extension");
    std::os::unix::fs::symlink("postgis-3.control", extensions.join("postgis.control"))?;
    let programs = root.join(PROGRAMS);
    fs::rename(programs.join("postgres"), programs.join("postgres.real"))?;
    let real = own(root, "postgres.real");
    let words = [real.get_program()].into_iter().chain(real.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    let script = programs.join("postgres");
    fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn own(root: &Path, program: &str) -> Command {
    debian::command_with(root, &format!("{PROGRAMS}/{program}"), &[EXTENSIONS])
}

/// Runs what follows as another user (`daemon`, which every Linux has) within a namespace of its own, in which files of
/// ours are that user's; `None` where this is no root, which PostgreSQL refuses to run as.
fn as_other_user() -> Option<Command> {
    as_root()?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1", "--map-group=1", "--"]);
    Some(command)
}

/// A program of PostgreSQL's.
fn postgresql(root: &Path, program: &str) -> Command {
    let inner = own(root, program);
    let Some(mut command) = as_other_user() else { return inner };
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

fn postgres(folder: &Path, data: &Path, sockets: &Path, port: u16) -> Command {
    let mut command = postgresql(&folder.join("root"), "postgres.real");
    command.arg("-D").arg(data).arg("-k").arg(sockets).args(["-p", &port.to_string()]);
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// The data with the extension and one user, which each start copies. A server runs for as long as that takes.
fn initialize(folder: &Path) -> Result<()> {
    let (root, data) = (folder.join("root"), folder.join("data"));
    let mut initdb = postgresql(&root, "initdb");
    initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]);
    shell::run(initdb.env("LC_ALL", "C"))?;
    let settings = data.join("postgresql.conf");
    fs::write(&settings, fs::read_to_string(&settings)? + SETTINGS)?;

    let guard = Guard::new()?;
    let [port, ..] = super::free_ports()?;
    let mut command = postgres(folder, &data, guard.folder(), port);
    command.args(LEAN.iter().flat_map(|setting| ["-c", *setting]));
    let mut server = guard.start("postgres", &command)?;
    wait_for(&mut server, &guard, port)?;
    let user = serde_json::json!({
        "createUser": USER,
        "pwd": PASSWORD,
        "roles": [{ "role": "clusterAdmin", "db": "admin" }, { "role": "readWriteAnyDatabase", "db": "admin" }],
    });
    let user = user.to_string().replace('\'', "''");
    for sql in [
        "CREATE EXTENSION documentdb CASCADE".to_owned(),
        format!("SELECT documentdb_api.create_user('{user}'::documentdb_core.bson)"),
    ] {
        let mut psql = postgresql(&root, "psql");
        psql.arg("-h").arg(guard.folder()).args(["-p", &port.to_string(), "-U", "postgres", "-X", "-q"]);
        psql.args(["-v", "ON_ERROR_STOP=1", "-c", &sql]);
        shell::run(&mut psql)?;
    }
    // At once, and whole.
    signal_group("INT", server.id());
    server.wait()?;
    Ok(())
}

/// Waits until PostgreSQL takes connections.
fn wait_for(server: &mut Child, guard: &Guard, port: u16) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = server.try_wait()? {
            let log = fs::read_to_string(guard.folder().join("postgres.log")).unwrap_or_default();
            bail!("PostgreSQL ended while starting ({status}):\n{}", shell::tail(&log, 30));
        }
        if start.elapsed() > START_LIMIT {
            bail!("PostgreSQL does not answer after {} s", START_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The module carries no file of its version, without which the program does not start: it is built from a copy.
fn build(folder: &Path) -> Result<()> {
    let told = shell::output(Command::new("go").args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")]))?;
    let told: serde_json::Value = serde_json::from_str(&told).context("cannot read what go told")?;
    let module = told["Dir"].as_str().context("go told no folder of the module")?;
    let source = folder.join("source");
    shell::run(Command::new("cp").arg("-r").arg(module).arg(&source))?;
    // The module cache is read-only.
    shell::run(Command::new("chmod").args(["-R", "u+w"]).arg(&source))?;
    fs::write(source.join("build/version/version.txt"), format!("{VERSION}\n"))?;
    let mut build = Command::new("go");
    build.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(folder.join("ferretdb")).arg("./cmd/ferretdb");
    shell::run(build.current_dir(&source))?;
    fs::remove_dir_all(source)?;
    Ok(())
}

/// `cert.pem` and `key.pem`, by the program that Go's own library brings for that.
fn make_certificate(folder: &Path) -> Result<()> {
    let go_root = shell::output(Command::new("go").args(["env", "GOROOT"]))?;
    let mut generate = Command::new("go");
    generate.arg("run").arg(Path::new(go_root.trim()).join("src/crypto/tls/generate_cert.go"));
    generate.args(["--host", "127.0.0.1,localhost", "--ecdsa-curve", "P256", "--duration", "87600h"]);
    shell::run(generate.current_dir(folder))
}

/// The certificate of the port that wants TLS, as PEM, which is also its authority.
pub fn authority(folder: &Path) -> PathBuf {
    folder.join("cert.pem")
}

/// What a URL begins with: the log-in.
pub fn login() -> String {
    let encoded: String = PASSWORD
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    format!("{USER}:{encoded}")
}

pub fn start(
    folder: &Path,
    guard: &Guard,
    [port, tls_port, postgres_port]: [u16; 3],
    durability: Durability,
) -> Result<Child> {
    // Another try, for a port that was taken: PostgreSQL runs already.
    let known = guard.folder().join("postgres.port");
    let postgres_port = match fs::read_to_string(&known).ok().and_then(|text| text.parse().ok()) {
        Some(port) => port,
        None => {
            let data = copy_data(folder, guard, "postgres")?;
            let mut command = postgres(folder, &data, guard.folder(), postgres_port);
            command.args(JOBS.iter().flat_map(|setting| ["-c", *setting]));
            if durability == Durability::Lean {
                command.args(LEAN.iter().flat_map(|setting| ["-c", *setting]));
            }
            let mut server = guard.start("postgres", &command)?;
            wait_for(&mut server, guard, postgres_port)?;
            fs::write(&known, postgres_port.to_string())?;
            postgres_port
        }
    };
    let state = guard.folder().join("ferretdb");
    fs::create_dir_all(&state)?;
    let mut server = Command::new(folder.join("ferretdb"));
    server.args([
        format!("--postgresql-url=postgres://postgres@127.0.0.1:{postgres_port}/postgres"),
        format!("--listen-addr=127.0.0.1:{port}"),
        format!("--listen-tls=127.0.0.1:{tls_port}"),
        format!("--listen-tls-cert-file={}", folder.join("cert.pem").display()),
        format!("--listen-tls-key-file={}", folder.join("key.pem").display()),
        format!("--state-dir={}", state.display()),
        "--debug-addr=-".to_owned(),
        "--telemetry=disable".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    server.env("DO_NOT_TRACK", "1");
    guard.start("ferretdb", &server)
}
