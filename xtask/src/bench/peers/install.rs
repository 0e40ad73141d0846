//! The peers' own programs, fetched into the cache: a Python environment, and Kafka Connect with Debezium's sink.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::servers::maven;
use crate::shell;

const PYTHON: [&str; 2] = ["confluent-kafka==2.16.1", "PyMySQL==1.2.4"];
const CONNECT: [&str; 2] = ["org.apache.kafka:connect-runtime:4.3.1", "org.apache.kafka:connect-json:4.3.1"];
const DEBEZIUM: [&str; 1] = ["io.debezium:debezium-connector-jdbc:3.5.0.Final"];

/// What Connect brings itself; a second copy beside the connector ends its task.
const IN_CONNECT: [&str; 9] = [
    "jackson-core",
    "jackson-annotations",
    "jackson-databind",
    "kafka-clients",
    "connect-api",
    "slf4j-api",
    "lz4-java",
    "snappy-java",
    "zstd-jni",
];

/// Where the peers' programs are.
pub struct Installed {
    /// The interpreter that has the clients.
    pub python: PathBuf,
    /// The jars of Connect.
    pub connect: PathBuf,
    /// The folder of plugins.
    pub plugins: PathBuf,
}

pub fn install(cache: &Cache) -> Result<Installed> {
    let python = cache.get_or_make("peer-python-1", |folder| {
        eprintln!("making a Python environment with {}", PYTHON.join(", "));
        let environment = folder.join("environment");
        shell::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        shell::run(Command::new(environment.join("bin/python")).args(["-m", "pip", "install", "-q"]).args(PYTHON))
    })?;
    let debezium = cache.get_or_make("peer-debezium-3.5.0-1", |folder| {
        eprintln!("fetching {} and {}", CONNECT.join(", "), DEBEZIUM.join(", "));
        maven::copy(&CONNECT, &folder.join("jars"))?;
        let plugin = folder.join("plugins/debezium");
        maven::copy(&DEBEZIUM, &plugin)?;
        leave_to_connect(&plugin)
    })?;
    Ok(Installed {
        python: python.join("environment/bin/python"),
        connect: debezium.join("jars"),
        plugins: debezium.join("plugins"),
    })
}

fn leave_to_connect(plugin: &Path) -> Result<()> {
    for entry in fs::read_dir(plugin).context("the connector's jars are not there")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A name, then a version.
        let is_jar = |jar: &str| {
            let version = name.strip_prefix(jar).and_then(|rest| rest.strip_prefix('-'));
            version.is_some_and(|version| version.starts_with(char::is_numeric))
        };
        if IN_CONNECT.iter().any(|jar| is_jar(jar)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
