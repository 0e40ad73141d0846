//! Apache Kafka, one node that is broker and controller, by plain `java`. Beside the plain listener it has one that
//! wants TLS and a password, with a certificate of a throw-away authority that lives as long as the server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::guard::Guard;
use super::maven;
use crate::shell;

/// The second brings topic and group tools for looking into a failing test, the third a log of the broker.
const ARTIFACTS: [&str; 3] = [
    "org.apache.kafka:kafka_2.13:4.3.1",
    "org.apache.kafka:kafka-tools:4.3.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
];

const LOGGING: &str = "\
status=error
rootLogger.level=warn
rootLogger.appenderRef.c.ref=c
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d %p %m (%c)%n
";

/// Who may use the secure listener. Tests know the same two by heart; the password holds what shells, JAAS, TOML and
/// URLs each take for their own.
const SECURE_USER: &str = "bief";
const SECURE_PASSWORD: &str = r#"pa ss"w$rd"#;

/// The key store holds nothing worth a secret; Java wants one of six characters at least.
const STORE_PASSWORD: &str = "throwaway";

pub fn fetch(folder: &Path) -> Result<()> {
    maven::copy(&ARTIFACTS, &folder.join("jars"))?;
    fs::write(folder.join("log4j2.properties"), LOGGING)?;
    fs::write(folder.join("version"), "Apache Kafka 4.3.1\n")?;
    Ok(())
}

pub fn start(folder: &Path, guard: &Guard, ports: [u16; 3]) -> Result<Child> {
    let data = data_folder(guard);
    let _ = fs::remove_dir_all(&data);
    fs::create_dir_all(&data).context("cannot make Kafka's folder")?;
    let properties = data.join("server.properties");
    fs::write(&properties, server_properties(&data, ports))?;
    make_certificate(&data).context("cannot make Kafka's certificate")?;
    let mut format = tool(folder, "kafka.tools.StorageTool");
    format.args(["format", "-t", "bief0000000000000000AA", "-c"]).arg(&properties);
    format.arg("--add-scram").arg(format!("SCRAM-SHA-256=[name={SECURE_USER},password={SECURE_PASSWORD}]"));
    shell::run(&mut format).context("cannot prepare Kafka's data")?;
    let mut broker = java(folder, &["-Xms384m", "-Xmx384m", "-XX:+UseSerialGC"]);
    broker.arg("kafka.Kafka").arg(&properties);
    guard.start("kafka", &broker)
}

fn data_folder(guard: &Guard) -> PathBuf {
    guard.folder().join("kafka")
}

/// The certificate, as PEM, of the authority that signed the secure listener's.
pub fn authority(guard: &Guard) -> PathBuf {
    data_folder(guard).join("ca.pem")
}

/// `server.p12` for the broker and `ca.pem` for its clients.
fn make_certificate(data: &Path) -> Result<()> {
    let pair = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"];
    let authority = ["-alias", "ca", "-dname", "CN=bief test authority", "-ext", "bc:c"];
    let server = ["-alias", "server", "-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost"];
    let steps: [&[&[&str]]; 4] = [
        &[&pair, &authority],
        &[&["-exportcert", "-rfc", "-alias", "ca", "-file", "ca.pem"]],
        &[&pair, &server, &["-signer", "ca"]],
        // The broker's key is the only one left, so that there is no choice.
        &[&["-delete", "-alias", "ca"]],
    ];
    for step in steps {
        let mut keytool = Command::new("keytool");
        keytool.current_dir(data).args(step.iter().copied().flatten());
        keytool.args(["-keystore", "server.p12", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD]);
        shell::run(&mut keytool)?;
    }
    Ok(())
}

/// A command that runs one of Kafka's own tools, named by its class.
pub fn tool(folder: &Path, class: &str) -> Command {
    let mut command = java(folder, &["-Xmx128m", "-XX:TieredStopAtLevel=1"]);
    command.arg(class);
    command
}

fn java(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("java");
    command
        .args(options)
        .arg(format!("-Dlog4j2.configurationFile=file:{}", folder.join("log4j2.properties").display()))
        .arg("-cp")
        .arg(folder.join("jars/*"));
    command
}

/// Records of 10 MiB pass; nothing is deleted by age (tests and replays write records with times long past); the
/// compactor runs often enough for a test to wait for it.
fn server_properties(data: &Path, [port, secure_port, controller_port]: [u16; 3]) -> String {
    // Once for JAAS, and once more for the properties file.
    let quoted = format!("\"{}\"", SECURE_PASSWORD.replace('\\', r"\\").replace('"', r#"\""#));
    let password = quoted.replace('\\', r"\\");
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.sasl_ssl.ssl.keystore.location={data}/server.p12
listener.name.sasl_ssl.ssl.keystore.type=PKCS12
listener.name.sasl_ssl.ssl.keystore.password={STORE_PASSWORD}
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{SECURE_USER}={password};
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs={data}/log
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
log.retention.ms=-1
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=8388608
",
        data = data.display()
    )
}

/// Whether a broker answers on the port: it is asked for the versions of the protocol that it speaks (API key 18,
/// version 0, correlation id 1, no client id).
pub fn answers(port: u16) -> bool {
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let ask = || -> std::io::Result<[u8; 10]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&REQUEST)?;
        let mut head = [0; 10];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    // Length, correlation id, error code.
    ask().is_ok_and(|head| head[4..] == [0, 0, 0, 1, 0, 0])
}
