//! TLS to Kafka and MySQL, SASL to Kafka, by configuration alone; and where a password or a certificate is refused, a
//! cause that says what to do and never the password.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use mysql_async::prelude::Queryable;

use super::items::{self, flush, good, producer, send};
use super::support::*;

/// Who may use the secure listener that `cargo xtask` starts; xtask/src/servers/kafka.rs knows the same two.
const USER: &str = "bief";
const PASSWORD: &str = r#"pa ss"w$rd"#;
/// What no other text of a run holds, however the password around it is quoted.
const PASSWORD_MARK: &str = "w$rd";

/// A password that is refused, with a part that survives every way of quoting.
const CANARY: &str = r#"c "an%4\c4n4ry-5e1f$/@:'"#;
const CANARY_MARK: &str = "c4n4ry-5e1f";

/// An authority that signed nothing.
const STRANGER: &str = "\
-----BEGIN CERTIFICATE-----
MIIBgDCCASegAwIBAgIUFMwo23iAFi+4JFu0gyeUjCUxgwMwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKYSBzdHJhbmdlcjAgFw0yNjExMjQxMjMwMTJaGA8yMTI2MTAz
MTEyMzAxMlowFTETMBEGA1UEAwwKYSBzdHJhbmdlcjBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABM8qiudRo+/D/oXVIqD2jyBrZfSFWltlQQT9fLvlgCZS5gnjFk8v
oCuAIDNbNXblMWeSuWTU1V99M8ljRkcGrwqjUzBRMB0GA1UdDgQWBBSzjWRcjbGf
4nbTi0fFBM1mkrhPcDAfBgNVHSMEGDAWgBSzjWRcjbGf4nbTi0fFBM1mkrhPcDAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIBWtP7nCj7O+Jly4Wdbo
eDYulTKJGQWEt2O0DwjNU8bKAiBLEnG9gk+1LijM+OBHdbmQjDPrb8IKUfT5W0M6
/b1zgw==
-----END CERTIFICATE-----
";

const RECORDS: i64 = 300;
const SENT_BY_REPLAY: i64 = 50;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![("a_database_password_by_reference_logs_in_over_tls_and_shows_up_nowhere", database_password)]
}

/// Those that need the secure listener.
pub fn secure_tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("items_go_through_tls_and_scram_by_configuration_alone", |s| through_sasl(s, "SCRAM-SHA-256")),
        ("items_go_through_tls_and_plain_by_configuration_alone", |s| through_sasl(s, "PLAIN")),
        ("a_refused_kafka_password_is_waited_for_with_a_cause_and_shows_up_nowhere", refused_password),
        ("a_protocol_that_the_listener_does_not_speak_is_told_with_what_to_check", wrong_protocol),
        ("a_certificate_of_a_strange_authority_is_refused_with_a_cause", strange_authority),
    ]
}

/// The items' configuration for the secure listener; the password comes from the environment.
fn secured(folder: &Path, servers: &Servers, database: &Database, topic: &str, mechanism: &str, ca: &str) -> PathBuf {
    let address = &servers.secure.as_ref().unwrap().address;
    let config = items::config(folder, address, &database.url(), topic);
    let properties = format!(
        r#"[kafka.properties]
"security.protocol" = "sasl_ssl"
"sasl.mechanism" = "{mechanism}"
"sasl.username" = "{USER}"
"sasl.password" = "${{BIEF_KAFKA_PASSWORD}}"
"ssl.ca.location" = "{ca}"

[warehouse]"#
    );
    replace_in(&config, &[("[warehouse]", &properties)]);
    config
}

/// Runs a command to its end: all that it printed, and its exit code.
fn printed(command: &mut Command) -> (String, i32) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code().unwrap_or(-1))
}

/// Waits until the daemon is not ready with a cause that holds these words, and returns the answer.
fn not_ready(daemon: &Daemon, words: &[&str]) -> String {
    let began = Instant::now();
    let mut last = (0, String::new());
    while began.elapsed() < PATIENCE {
        last = daemon.get("/readyz?verbose").unwrap_or_default();
        if last.0 == 503 && words.iter().all(|word| last.1.contains(word)) {
            return last.1;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("no cause with {words:?} but {last:?}");
}

/// All that a daemon shows of itself, by name.
fn shown(daemon: &Daemon) -> Vec<(String, String)> {
    let pages = ["/", "/status", "/readyz?verbose", "/metrics"];
    let mut shown: Vec<_> = pages.map(|page| (page.to_owned(), daemon.get(page).unwrap().1)).into();
    shown.push(("the log".to_owned(), daemon.log().join("\n")));
    shown
}

fn assert_nowhere(mark: &str, shown: &[(String, String)]) {
    for (place, text) in shown {
        let line = text.lines().find(|line| line.contains(mark));
        assert!(line.is_none(), "{place} shows a password: {}", line.unwrap_or_default());
    }
}

/// Commands that meet a wrong password: each fails as it should, and their words are collected.
fn commands_that_fail(config: &Path, environment: [(&str, &str); 2], cause: &str) -> Vec<(String, String)> {
    let commands = [
        (&["check", "--print", "-c"][..], 0, false),
        (&["check", "--connect", "-c"], 3, true),
        (&["check", "--connect", "--json", "-c"], 3, true),
        (&["verify", "-c"], 1, true),
        (&["verify", "--json", "-c"], 1, true),
        (&["run", "--dry-run", "1", "-c"], 1, true),
    ];
    // Side by side: each waits for an answer that does not come.
    std::thread::scope(|scope| {
        let run = |(arguments, code, asks): (&[&str], i32, bool)| {
            let (text, found) = printed(bief(arguments).arg(config).envs(environment));
            assert_eq!(found, code, "{arguments:?}: {text}");
            assert!(!asks || text.replace("\\\"", "\"").contains(cause), "{arguments:?} does not say {cause}: {text}");
            (format!("{arguments:?}"), text)
        };
        let running: Vec<_> = commands.map(|command| scope.spawn(move || run(command))).into();
        running.into_iter().map(|command| command.join().unwrap()).collect()
    })
}

fn through_sasl(servers: &Servers, mechanism: &str) {
    let secure = servers.secure.as_ref().unwrap();
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let topic = unique("secure");
    create_topic(&servers.kafka, &topic, 2, &[]);
    let settings = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", USER),
        ("sasl.password", PASSWORD),
        ("ssl.ca.location", &secure.ca),
    ];
    let producer = producer(&secure.address, &settings);
    (0..RECORDS).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
    flush(&producer);
    let config = secured(folder.path(), servers, &database, &topic, mechanism, &secure.ca);
    let password = ("BIEF_KAFKA_PASSWORD", PASSWORD);

    let mut csv = String::from("id,name,amount,parent\n");
    (0..SENT_BY_REPLAY).for_each(|n| csv += &format!("{},replayed,{n},aaa\n", RECORDS + n));
    let file = folder.path().join("more.csv");
    std::fs::write(&file, csv).unwrap();
    let arguments = ["replay", "--no-shift", "--json", "--to", &topic, "--key", "id", "-c"];
    let (text, code) = printed(bief(&arguments).arg(&config).arg(&file).envs([password]));
    assert_eq!(code, 0, "{text}");

    let (text, code) = printed(bief(&["check", "-c"]).arg(&config).envs([password]));
    assert_eq!(code, 0, "{text}");
    let daemon = Daemon::start_with(&config, &[password, ("RUST_LOG", "trace")]);
    daemon.wait_caught_up(RECORDS + SENT_BY_REPLAY);
    let (status, ready) = daemon.get("/readyz").unwrap();
    assert_eq!(status, 200, "{ready}");
    assert_nowhere(PASSWORD_MARK, &shown(&daemon));
    daemon.stop();
    let (proof, code) = json_of(bief(&["verify", "--json", "-c"]).arg(&config).envs([password]));
    assert_eq!((proof["verify"].as_str(), code), (Some("clean"), 0), "{proof:#}");
    let (text, code) = printed(bief(&["check", "--connect", "-c"]).arg(&config).envs([password]));
    assert_eq!(code, 0, "{text}");
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), RECORDS + SENT_BY_REPLAY);
}

fn refused_password(servers: &Servers) {
    let ca = &servers.secure.as_ref().unwrap().ca;
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let topic = unique("refused");
    create_topic(&servers.kafka, &topic, 1, &[]);
    let config = secured(folder.path(), servers, &database, &topic, "SCRAM-SHA-256", ca);
    let environment = [("BIEF_KAFKA_PASSWORD", CANARY), ("RUST_LOG", "trace")];
    let daemon = Daemon::start_with(&config, &environment);
    let cause = "\"sasl.password\" in [kafka]";
    let told = not_ready(&daemon, &["SASL authentication error", cause]);
    // Waited for, not given up: the account may be made or mended at the broker meanwhile.
    daemon.wait("trying again", |status| {
        let unit = &status["units"][0];
        unit.to_string().contains("backing_off") || unit.to_string().contains("starting")
    });
    let mut places = shown(&daemon);
    assert!(daemon.log().iter().any(|line| line.contains("\"DEBUG\"") && line.contains("librdkafka")), "no whole log");
    daemon.stop();
    places.push(("/readyz".to_owned(), told));
    places.extend(commands_that_fail(&config, environment, cause));
    let file = folder.path().join("more.csv");
    std::fs::write(&file, "id\n1\n").unwrap();
    let (text, code) = printed(bief(&["replay", "--to", &topic, "-c"]).arg(&config).arg(&file).envs(environment));
    assert!(code == 1 && text.contains(cause), "{code}: {text}");
    places.push(("replay".to_owned(), text));
    assert_nowhere(CANARY_MARK, &places);
}

fn wrong_protocol(servers: &Servers) {
    let ca = &servers.secure.as_ref().unwrap().ca;
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let topic = unique("protocol");
    create_topic(&servers.kafka, &topic, 1, &[]);
    let config = secured(folder.path(), servers, &database, &topic, "PLAIN", ca);
    replace_in(&config, &[("\"sasl_ssl\"", "\"plaintext\"")]);
    let (text, code) = printed(bief(&["check", "--connect", "-c"]).arg(&config).env("BIEF_KAFKA_PASSWORD", PASSWORD));
    assert!(code == 3 && text.contains("are `brokers` and \"security.protocol\""), "{code}: {text}");
    // The offline check has a word for it, too.
    assert!(text.contains("warning: \"sasl.mechanism\" beside another \"security.protocol\""), "{text}");
}

fn strange_authority(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let topic = unique("strange");
    create_topic(&servers.kafka, &topic, 1, &[]);
    let ca = folder.path().join("stranger.pem");
    std::fs::write(&ca, STRANGER).unwrap();
    let config = secured(folder.path(), servers, &database, &topic, "PLAIN", ca.to_str().unwrap());
    let environment = [("BIEF_KAFKA_PASSWORD", PASSWORD)];
    let daemon = Daemon::start_with(&config, &environment);
    not_ready(&daemon, &["certificate", "\"ssl.ca.location\""]);
    daemon.stop();
    let (text, code) = printed(bief(&["check", "--connect", "-c"]).arg(&config).envs(environment));
    assert!(code == 3 && text.contains("certificate") && text.contains("ssl.ca.location"), "{code}: {text}");
}

/// A user of the database server that must use TLS; dropped with the value.
struct Account<'a> {
    server: &'a str,
    name: String,
}

impl<'a> Account<'a> {
    fn create(server: &'a str, password: &str) -> Self {
        let name = unique("u").chars().take(30).collect();
        let account = Self { server, name };
        // A literal takes both as they are in no other way.
        let literal = password.replace('\\', "\\\\").replace('\'', "\\'");
        account.execute(&format!("CREATE USER `{}`@'%' IDENTIFIED BY '{literal}' REQUIRE SSL", account.name));
        account
    }

    fn execute(&self, sql: &str) {
        block_on(async {
            let mut conn = mysql_async::Conn::from_url(self.server).await.unwrap();
            conn.query_drop(sql).await.unwrap();
            conn.disconnect().await.unwrap();
        });
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.execute(&format!("DROP USER `{}`@'%'", self.name));
    }
}

fn database_password(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let account = Account::create(&servers.mysql, CANARY);
    let (root, name) = (database.url(), database.url().rsplit('/').next().unwrap().to_owned());
    account.execute(&format!("GRANT ALL ON `{name}`.* TO `{}`@'%'", account.name));
    let host = root.split('@').nth(1).unwrap();
    let topic = unique("items");
    create_topic(&servers.kafka, &topic, 2, &[]);
    let producer = producer(&servers.kafka, &[]);
    (0..RECORDS).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
    flush(&producer);
    let url = format!("mysql://{}:${{BIEF_DB_PASSWORD}}@{host}\"\ntls = \"require", account.name);
    let config = items::config(folder.path(), &servers.kafka, &url, &topic);

    // The server takes this user over TLS alone, so that rows are proof of it.
    let environment = [("BIEF_DB_PASSWORD", CANARY), ("RUST_LOG", "trace")];
    // A panic tells no secret either.
    let panics = [environment[0], environment[1], ("FAILPOINTS", "before-write=1*panic(planted)->off")];
    let daemon = Daemon::start_with(&config, &panics);
    daemon.wait_caught_up(RECORDS);
    let mut places = shown(&daemon);
    daemon.stop();
    let (text, code) = printed(bief(&["verify", "-c"]).arg(&config).envs(environment));
    assert_eq!(code, 0, "{text}");
    places.push(("verify".to_owned(), text));
    let (text, code) = printed(bief(&["check", "--connect", "--print", "-c"]).arg(&config).envs(environment));
    assert_eq!(code, 0, "{text}");
    places.push(("check".to_owned(), text));
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), RECORDS);

    let wrong = format!("{CANARY}!");
    let environment = [("BIEF_DB_PASSWORD", wrong.as_str()), ("RUST_LOG", "trace")];
    let daemon = Daemon::start_with(&config, &environment);
    let told = not_ready(&daemon, &["Access denied", "warehouse"]);
    places.extend(shown(&daemon));
    places.push(("/readyz".to_owned(), told));
    daemon.stop();
    places.extend(commands_that_fail(&config, environment, "Access denied"));
    assert_nowhere(CANARY_MARK, &places);
}
