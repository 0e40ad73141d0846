//! How each peer is started on a topic and a table, with the settings that its users would choose for speed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::install::Installed;
use crate::bench::config::DATABASE;

const NAIVE: &str = include_str!("naive_consumer.py");

/// What users run today for this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Python,
    Debezium,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Python => "naive Python consumer",
            Peer::Debezium => "Debezium JDBC sink",
        }
    }
}

/// What a peer works on.
pub struct Work<'a> {
    pub installed: &'a Installed,
    /// For its files.
    pub folder: &'a Path,
    pub kafka: &'a str,
    pub mysql_port: u16,
    pub topic: &'a str,
    pub group: &'a str,
    pub table: &'a str,
    /// Names of fields, which are those of the columns, with whether they hold text.
    pub fields: &'a [(String, bool)],
    /// `127.0.0.1:port` of the worker's own API.
    pub rest: &'a str,
}

pub fn command(peer: Peer, work: &Work<'_>) -> Result<Command> {
    fs::create_dir_all(work.folder)?;
    match peer {
        Peer::Python => {
            let script = work.folder.join("naive_consumer.py");
            fs::write(&script, NAIVE)?;
            let fields: Vec<&str> = work.fields.iter().map(|(name, _)| name.as_str()).collect();
            let mut command = Command::new(&work.installed.python);
            command.arg(script).args([work.kafka, work.topic, work.group, "127.0.0.1"]);
            command.args([&work.mysql_port.to_string(), DATABASE, work.table, &fields.join(",")]);
            Ok(command)
        }
        Peer::Debezium => debezium(work),
    }
}

fn debezium(work: &Work<'_>) -> Result<Command> {
    let worker = work.folder.join("worker.properties");
    let offsets = work.folder.join("offsets");
    fs::write(
        &worker,
        format!(
            "bootstrap.servers={}\nlisteners=http://{}\nplugin.path={}\nplugin.discovery=service_load\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n\
             offset.storage.file.filename={}\noffset.flush.interval.ms=10000\n\
             consumer.max.poll.records=10000\nconsumer.fetch.min.bytes=1048576\n",
            work.kafka,
            work.rest,
            work.installed.plugins.display(),
            offsets.display(),
        ),
    )?;
    let fields: Vec<_> = work
        .fields
        .iter()
        .map(|(name, text)| json!({"field": name, "type": if *text { "string" } else { "int32" }, "optional": true}))
        .collect();
    let schema = json!({"type": "struct", "optional": false, "fields": fields});
    let sink = work.folder.join("sink.properties");
    fs::write(
        &sink,
        format!(
            "name={}\nconnector.class=io.debezium.connector.jdbc.JdbcSinkConnector\ntasks.max=1\ntopics={}\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=true\n\
             value.converter.schema.content={schema}\n\
             connection.url=jdbc:mysql://127.0.0.1:{}/{DATABASE}?rewriteBatchedStatements=true&useSSL=false&allowPublicKeyRetrieval=true\n\
             connection.username=root\nconnection.password=\ninsert.mode=insert\nprimary.key.mode=none\n\
             schema.evolution=none\nbatch.size=10000\nuse.reduction.buffer=false\ncollection.name.format={}\n\
             consumer.override.auto.offset.reset=earliest\n",
            work.group, work.topic, work.mysql_port, work.table,
        ),
    )
    .context("cannot write the sink's settings")?;
    let mut command = Command::new("java");
    command.args(["-Xms512m", "-Xmx1g", "-cp"]).arg(work.installed.connect.join("*"));
    command.arg("org.apache.kafka.connect.cli.ConnectStandalone").arg(worker).arg(sink);
    Ok(command)
}
