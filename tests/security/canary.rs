//! A canary in every secret of a configuration is found nowhere: not in the whole log, in no answer of the daemon, in
//! nothing that a command prints. Broker and database are away, so that paths to errors are taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bief::config::schema::ROOT;

use super::daemon::{Daemon, PATIENCE, bief, printed};

const CANARY: &str = "c4n4ry-5e1f";

/// Keys of the schema whose values are never shown, each with a canary below.
const SECRET_KEYS: [&str; 3] = ["daemon.token", "warehouse.url", "cache.url"];

/// Fields of the configuration's types that hold a secret, each with a canary below.
const SECRET_FIELDS: [&str; 3] = ["properties", "token", "url"];

/// Secrets among librdkafka's properties. Those of OAUTHBEARER `check` refuses, since it is not built in.
const PROPERTIES: [&str; 4] = ["sasl.username", "sasl.password", "ssl.key.password", "ssl.keystore.password"];
/// One that no client is made with, since it is no key.
const KEY: &str = "ssl.key.pem";

fn sources() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn every_secret_of_the_configuration_has_its_canary() {
    let keys: Vec<String> = ROOT
        .all()
        .into_iter()
        .flat_map(|section| section.keys.iter().filter(|key| key.secret).map(move |key| (section.path, key.name)))
        .map(|(section, key)| format!("{section}.{key}"))
        .collect();
    assert_eq!(keys, SECRET_KEYS, "give a new secret its canary in tests/security/canary.rs");
    let sources = sources();
    let lines = sources.iter().flat_map(|text| text.lines()).map(str::trim);
    let fields: BTreeSet<&str> = lines
        .filter_map(|line| line.strip_prefix("pub ")?.strip_suffix(',')?.split_once(": "))
        .filter(|(name, kind)| kind.contains("Secret") && !name.contains(' '))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(fields, BTreeSet::from(SECRET_FIELDS), "give a new secret its canary in tests/security/canary.rs");
}

/// The variable that holds a secret, and its value.
fn secrets() -> Vec<(String, String)> {
    let names = ["TOKEN", "DB", "CACHE"].into_iter().map(str::to_owned);
    let properties = PROPERTIES.iter().chain([&KEY]).map(|name| name.to_uppercase().replace('.', "_"));
    names.chain(properties).map(|name| (format!("SECRET_{name}"), format!("{CANARY}-{name}"))).collect()
}

/// A configuration with a secret in each place, as `secret` writes the one of a variable. Nothing listens at port 1.
fn config(folder: &Path, properties: &[&str], secret: &dyn Fn(&str, &str) -> String) -> PathBuf {
    let value = |of: &str| {
        let (name, value) = secrets().into_iter().find(|(name, _)| name == &format!("SECRET_{of}")).unwrap();
        secret(&name, &value)
    };
    let properties: String = properties
        .iter()
        .map(|name| format!("\"{name}\" = \"{}\"\n", value(&name.to_uppercase().replace('.', "_"))))
        .collect();
    let text = format!(
        r#"
[daemon]
http = "127.0.0.1:0"
token = "{}"

[kafka]
brokers = "127.0.0.1:1"

[kafka.properties]
"security.protocol" = "sasl_ssl"
"sasl.mechanism" = "PLAIN"
{properties}
[warehouse]
url = "mysql://orders:{}@127.0.0.1:1/orders"

[cache]
url = "mongodb://orders:{}@127.0.0.1:1/orders"

[[stream]]
topic = "orders"

[[stream.table]]
name = "orders"
columns = {{ id = "id", at = "at" }}

[[aggregate]]
name = "orders_hourly"
table = "orders"
time = "at"
bucket = "1h"
query = "orders_hourly.sql"
key = []

[[forecast]]
name = "ahead"
aggregate = "orders_hourly"
target = "orders"
horizons = ["1h"]
lags = [0]
train_at = "off"
"#,
        value("TOKEN"),
        value("DB"),
        value("CACHE")
    );
    let query = "SELECT COUNT(*) AS orders FROM orders WHERE at >= :bucket_start AND at < :bucket_end";
    std::fs::write(folder.join("orders_hourly.sql"), query).unwrap();
    let path = folder.join("actors.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn assert_nowhere(shown: &[(String, String)]) {
    for (place, text) in shown {
        let line = text.lines().find(|line| line.contains(CANARY));
        assert!(line.is_none(), "{place} shows a secret: {}", line.unwrap_or_default());
    }
}

/// What is asked of a command, and how; the configuration's path comes last.
const ASKED: [&[&str]; 32] = [
    &["check", "-c"],
    &["check", "--print", "-c"],
    &["check", "--json", "-c"],
    &["check", "--connect", "-c"],
    &["check", "--connect", "--json", "-c"],
    &["compare", "--frameworks", "linfa", "-c"],
    &["dead-letters", "drop", "1", "--yes", "-c"],
    &["dead-letters", "export", "-c"],
    &["dead-letters", "list", "-c"],
    &["dead-letters", "retry", "1", "-c"],
    &["dead-letters", "show", "1", "-c"],
    &["drill", "--yes-this-is-staging", "--faults", "1", "-c"],
    &["healthcheck", "--ready", "-c"],
    &["models", "list", "-c"],
    &["models", "promote", "ahead", "1", "-c"],
    &["models", "rollback", "ahead", "-c"],
    &["models", "show", "ahead", "-c"],
    &["offsets", "reset", "--topic", "orders", "--to", "latest", "--yes", "-c"],
    &["offsets", "show", "-c"],
    &["rebuild", "orders_hourly", "-c"],
    &["reconcile", "-c"],
    &["replay", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--to", "orders", "--rows", "1", "-c"],
    &["run", "--dry-run", "1", "-c"],
    &["status", "-c"],
    &["status", "--json", "-c"],
    &["tap", "raw", "--for", "1", "-c"],
    &["test", "-c"],
    &["top", "--once", "-c"],
    &["top", "--once", "--json", "-c"],
    &["train", "-c"],
    &["verify", "-c"],
    &["verify", "--json", "-c"],
];

const NOT_ASKED: [(&str, &str); 5] = [
    ("child-exec", "reads no configuration"),
    ("completions", "reads no configuration"),
    ("demo", "takes the brokers and the database of its own in place of those that have secrets"),
    ("fit-exec", "reads no configuration"),
    ("man", "reads no configuration"),
];

/// Names of all commands, `offsets show` for those within others.
fn names(command: &clap::Command, within: &str) -> Vec<String> {
    let name = |c: &clap::Command| format!("{within} {}", c.get_name()).trim().to_owned();
    let nested = |c: &clap::Command| if c.has_subcommands() { names(c, &name(c)) } else { vec![name(c)] };
    command.get_subcommands().flat_map(nested).collect()
}

#[test]
fn every_command_is_asked_for_secrets() {
    for name in names(&bief::cli::command(), "") {
        let is_asked = ASKED.iter().any(|arguments| arguments.join(" ").starts_with(&format!("{name} ")));
        let reason = NOT_ASKED.iter().find(|(command, _)| *command == name);
        assert!(is_asked || reason.is_some(), "ask `bief {name}` in tests/security/canary.rs, or say why not");
    }
}

fn commands(config: &Path, environment: &[(&str, &str)]) -> Vec<(String, String)> {
    std::thread::scope(|scope| {
        let run = |arguments: &[&str]| {
            let mut command = bief(arguments);
            command.arg(config).envs(environment.iter().copied()).env("RUST_LOG", "trace");
            (format!("bief {arguments:?}"), printed(&mut command).0)
        };
        let running: Vec<_> = ASKED.map(|arguments| scope.spawn(move || run(arguments))).into();
        running.into_iter().map(|command| command.join().unwrap()).collect()
    })
}

/// All that the daemon says it can be asked, but for what has no end: that is asked apart, or by a command.
fn told_routes(daemon: &Daemon) -> Vec<String> {
    let (_, answer) = daemon.get("/api/v1/openapi.json", None);
    // Headers stand before it.
    let begins = answer.find("{\n").expect("a document");
    let document: serde_json::Value = serde_json::from_str(&answer[begins..]).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().filter(|(_, methods)| methods.get("get").is_some());
    let endless = ["/events", "/api/v1/tap"];
    let filled = |path: &str| {
        let of_aggregate = path.replace("/aggregates/{name}", "/aggregates/orders_hourly");
        let of_forecast = of_aggregate.replace("/forecasts/{name}/documents", "/forecasts/ahead/documents?horizon=1h");
        let of_models = of_forecast.replace("/api/v1/models", "/api/v1/models?forecast=ahead");
        of_models.replace("{name}", "app.js").replace("{table}", "orders").replace("{id}", "1")
    };
    let asked: Vec<String> =
        paths.filter(|(path, _)| !endless.contains(&path.as_str())).map(|(path, _)| filled(path)).collect();
    assert!(asked.iter().all(|path| !path.contains('{')), "fill what a new route asks for: {asked:?}");
    asked
}

fn daemon_shows(config: &Path, environment: &[(&str, &str)]) -> Vec<(String, String)> {
    let environment: Vec<_> = environment.iter().copied().chain([("RUST_LOG", "trace")]).collect();
    let daemon = Daemon::start(config, &environment);
    let token = format!("{CANARY}-TOKEN");
    let began = Instant::now();
    // Until the database's absence is told, which is the first of the errors.
    while !daemon.get("/readyz?verbose", Some(&token)).1.contains("failed since") {
        assert!(began.elapsed() < PATIENCE, "nothing is wrong: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut shown = Vec::new();
    for path in ["/", "/static/app.js", "/status", "/readyz?verbose", "/metrics", "/livez", "/healthz", "/nothing"] {
        for token in [None, Some(token.as_str()), Some("a-wrong-token-of-some-length")] {
            shown.push((format!("GET {path}"), daemon.get(path, token).1));
        }
    }
    let told = told_routes(&daemon);
    assert!(told.iter().any(|path| path == "/api/v1/rows/orders"), "{told:?}");
    for path in told {
        let (status, text) = daemon.get(&path, Some(&token));
        assert!([200, 503].contains(&status), "{path}: {status} {text}");
        shown.push((format!("GET {path}"), text));
    }
    for change in ["retry", "drop"] {
        shown.push((
            format!("POST {change}"),
            daemon.post(&format!("/api/v1/dead-letters/{change}"), &token, r#"{"ids":[1]}"#),
        ));
    }
    let event = daemon.first_event(&token);
    assert!(event.contains("\"checks\""), "{event}");
    shown.push(("GET /events".to_owned(), event));
    assert_eq!(daemon.get("/status", Some(&token)).0, 200);
    assert_eq!(daemon.get("/status", None).0, 401);
    // With the daemon's port instead of 0, the commands reach it.
    let text = std::fs::read_to_string(config).unwrap().replace("127.0.0.1:0", &daemon.address);
    std::fs::write(config, text).unwrap();
    let commands = commands(config, &environment);
    assert!(commands.iter().any(|(_, text)| text.contains("Connection refused")), "no broker was tried: {commands:#?}");
    shown.extend(commands);
    let log = daemon.log();
    assert!(log.contains("\"TRACE\"") || log.contains("\"DEBUG\""), "not the whole log: {log}");
    shown.push(("the log".to_owned(), log));
    shown
}

#[test]
fn secrets_of_the_environment_show_up_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &PROPERTIES, &|name, _| format!("${{{name}}}"));
    let secrets = secrets();
    let environment: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_nowhere(&daemon_shows(&config, &environment));
}

#[test]
fn secrets_in_the_file_show_up_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &PROPERTIES, &|_, value| value.to_owned());
    assert_nowhere(&daemon_shows(&config, &[]));
}

#[test]
fn a_key_that_librdkafka_cannot_read_shows_up_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let properties: Vec<&str> = PROPERTIES.into_iter().chain([KEY]).collect();
    let config = config(folder.path(), &properties, &|_, value| value.to_owned());
    let shown = commands(&config, &[]);
    assert!(shown.iter().any(|(_, text)| text.contains(KEY) && text.contains("failed")), "{shown:#?}");
    assert_nowhere(&shown);
}

#[test]
fn a_mistake_beside_a_secret_does_not_show_it() {
    for (sound, broken) in [
        ("[warehouse]", "[warehouse"),
        ("token = ", "tokne = "),
        ("token = \"", "token = \"\"\"\n\""),
        ("http = ", "http ="),
        ("\"sasl.password\"", "\"sasl.pasword\""),
        ("\"sasl.password\"", "\"sasl.oauthbearer.client.secret\""),
        ("url = ", "ulr = "),
        ("http = \"127.0.0.1:0\"", "http = \"0.0.0.0:0\"\nauth = \"none\""),
        ("[daemon]\n", "[daemon]\nunknown = "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &PROPERTIES, &|_, value| value.to_owned());
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(sound));
        std::fs::write(&config, text.replacen(sound, broken, 1)).unwrap();
        assert_nowhere(&commands(&config, &[]));
    }
}
