//! What a drill makes on the servers and on this machine, and how it is removed again: topic, group, database, a folder
//! with the daemons' configuration and logs. No secret is written to a file: daemons get them by their environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::adapters::kafka::broker::KafkaBroker;
use crate::adapters::kafka::client::client_config;
use crate::adapters::kafka::own_topic;
use crate::adapters::mysql::staging::{Staging, TABLES};
use crate::adapters::proxy::Proxy;
use crate::cli::support::bootstrap;
use crate::config::{self, Backend, Config, Secret, Tls, WarehouseConfig};
use crate::ports::Broker;

/// More than daemons and lanes, so that each has some.
pub(super) const PARTITIONS: i32 = 6;
/// The least that brokers allow by default: a killed daemon's partitions wait for so long, unless the user's properties
/// name more.
const SESSION: Duration = Duration::from_secs(6);
const URL: &str = "BIEF_DRILL_WAREHOUSE_URL";
/// Properties that the drill sets itself; one member's identity would fence all of its daemons but one.
const OWN_PROPERTIES: [&str; 3] = ["session.timeout.ms", "heartbeat.interval.ms", "group.instance.id"];

/// The drill's own place.
pub(super) struct Ground {
    id: String,
    user: Config,
    bootstrap: String,
    folder: PathBuf,
    /// What daemons read.
    pub config: PathBuf,
    pub proxy: Proxy,
    /// The drill's database, by way of no proxy.
    pub direct: WarehouseConfig,
    /// The daemons' environment, secrets among it.
    pub environment: Vec<(String, String)>,
    /// After so long without a heartbeat the group gives a daemon's partitions to others.
    pub session: Duration,
    made: Made,
}

/// What is on the servers by this drill's doing; nothing else may be removed.
#[derive(Debug, Default)]
struct Made {
    database: bool,
    topic: bool,
}

/// Why a drill cannot be held with this configuration.
///
/// # Errors
/// What to write instead.
pub(super) fn refuse(user: &Config) -> Result<(), String> {
    if user.warehouse.backend() != Backend::MySql {
        return Err("a drill needs MySQL or MariaDB: write warehouse.url = \"mysql://…\"".to_owned());
    }
    // The proxy hands on the server's certificate under its own address.
    if user.warehouse.tls == Tls::Verify {
        return Err("warehouse.tls = \"verify\" cannot be kept in a drill: its daemons reach the database through a proxy \
                    on this machine, whose address is not in the server's certificate, and no check is dropped \
                    unasked. In the drill's configuration write tls = \"require\" (encrypted, whoever the server is) or \
                    \"disable\""
            .to_owned());
    }
    Ok(())
}

impl Ground {
    /// Makes topic, database, proxy, folder and configuration. Removes again what was made where the rest cannot be.
    ///
    /// # Errors
    /// What could not be made, and what to do.
    pub fn make(runtime: &Runtime, user: &Config) -> Result<Self, String> {
        refuse(user)?;
        let bootstrap = bootstrap(user)?.to_owned();
        let id = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let unreadable = || "warehouse.url cannot be read".to_owned();
        let direct_url = url::Url::parse(user.warehouse.url.expose()).map_err(|_| unreadable())?;
        let mut own = direct_url.clone();
        own.set_path(&database(&id));
        let upstream =
            format!("{}:{}", direct_url.host_str().ok_or_else(unreadable)?, direct_url.port().unwrap_or(3306));
        let packets = user.warehouse.tls == Tls::Disable;
        let proxy = runtime
            .block_on(Proxy::start(&upstream, packets))
            .map_err(|error| format!("no port can be had for the proxy: {error}"))?;
        let mut proxied = own.clone();
        proxied
            .set_ip_host(proxy.address().ip())
            .and_then(|()| proxied.set_port(Some(proxy.address().port())))
            .map_err(|()| unreadable())?;
        let folder = private_folder(&id)?;
        let mut environment = vec![(URL.to_owned(), proxied.to_string())];
        let mut properties = String::new();
        for (at, (name, value)) in user.kafka.properties.iter().enumerate() {
            if !OWN_PROPERTIES.contains(&name.as_str()) {
                let variable = format!("BIEF_DRILL_PROPERTY_{at}");
                properties += &format!("{} = \"${{{variable}}}\"\n", toml_text(name));
                environment.push((variable, value.expose().to_owned()));
            }
        }
        let mut direct = user.warehouse.clone();
        direct.url = Secret::new(own.to_string());
        let session =
            user.kafka.properties.get("session.timeout.ms").and_then(|text| text.expose().trim().parse().ok());
        let mut ground = Self {
            config: folder.join("actors.toml"),
            id,
            user: user.clone(),
            bootstrap,
            folder,
            proxy,
            direct,
            environment,
            session: session.map_or(SESSION, Duration::from_millis).max(SESSION),
            made: Made::default(),
        };
        if let Err(error) = ground.fill(runtime, packets, &properties) {
            let left = ground.remove(runtime, false);
            return Err([vec![error], left].concat().join("; "));
        }
        Ok(ground)
    }

    fn fill(&mut self, runtime: &Runtime, packets: bool, properties: &str) -> Result<(), String> {
        let written = |error: std::io::Error| format!("{} cannot be written to: {error}", self.folder.display());
        let migrations = self.folder.join("migrations");
        fs::create_dir(&migrations).map_err(written)?;
        fs::write(migrations.join("0001_drill.sql"), TABLES).map_err(written)?;
        let tls = if packets { "disable" } else { "require" };
        let (brokers, topic) = (toml_text(&self.bootstrap), self.topic());
        let load = match self.user.warehouse.load {
            config::Load::Auto => "auto",
            config::Load::LoadData => "load_data",
            config::Load::Insert => "insert",
        };
        let text = format!(
            r#"[daemon]
name = "drill"
http = "127.0.0.1:0"
on_fatal = "exit"
# The least there is, so that a slow database uses it up.
memory = "32MiB"
log = "json"

[kafka]
brokers = {brokers}
group = "{topic}"

[kafka.properties]
"session.timeout.ms" = "{}"
"heartbeat.interval.ms" = "1000"
{properties}
[warehouse]
url = "${{{URL}}}"
tls = "{tls}"
load = "{load}"
migrations = "migrations"

[[stream]]
name = "drill"
topic = "{topic}"
lanes = 2

[[stream.table]]
name = "drill_group"
on_conflict = "ignore"
columns = {{ code = "group" }}

[[stream.table]]
name = "drill_record"
on_conflict = "ignore"
columns = {{ number = "number", member_of = "group", amount = "amount", note = "note" }}
"#,
            self.session.as_millis()
        );
        fs::write(&self.config, text).map_err(written)?;
        let mut staging = Staging::new(&self.user.warehouse).map_err(|error| error.to_string())?;
        runtime.block_on(staging.create_database(&database(&self.id))).map_err(|error| {
            format!(
                "database {} cannot be made: {error}; the account needs ALL on `bief\\_drill\\_%`.*",
                database(&self.id)
            )
        })?;
        self.made.database = true;
        let client = client_config(&self.user.kafka, &self.bootstrap, "bief-drill");
        runtime.block_on(own_topic::create(&client, &self.topic(), PARTITIONS))?;
        self.made.topic = true;
        Ok(())
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn topic(&self) -> String {
        format!("bief-drill-{}", self.id)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn kafka(&self) -> &config::Kafka {
        &self.user.kafka
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn packets(&self) -> bool {
        self.user.warehouse.tls == Tls::Disable
    }

    pub fn broker(&self) -> Result<Arc<dyn Broker>, String> {
        let client = client_config(&self.user.kafka, &self.bootstrap, "bief-drill");
        let broker = KafkaBroker::new(client, &self.topic()).map_err(|error| error.to_string())?;
        Ok(Arc::new(broker))
    }

    /// The daemons' configuration, with the database by way of no proxy.
    pub fn direct_config(&self) -> Result<Config, String> {
        let url = self.direct.url.expose().to_owned();
        let environment = |name: &str| match name {
            URL => Some(url.clone()),
            _ => self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        };
        let loaded = config::load(&self.config, &environment)
            .map_err(|_| format!("{} is not a configuration any more", self.config.display()))?;
        let mut config = loaded.config;
        config.warehouse = self.direct.clone();
        config.warehouse.migrations = None;
        Ok(config)
    }

    pub fn describe(&self) -> String {
        format!("topic {}, database {}, folder {}", self.topic(), database(&self.id), self.folder.display())
    }

    /// The consumer group: each stream has one of its own.
    pub fn group(&self) -> String {
        format!("{}-drill", self.topic())
    }

    /// Removes all that was made; answers what could not be removed, or was kept.
    pub fn remove(&mut self, runtime: &Runtime, keep_folder: bool) -> Vec<String> {
        let mut left = Vec::new();
        if std::mem::take(&mut self.made.topic) {
            let client = client_config(&self.user.kafka, &self.bootstrap, "bief-drill");
            left.extend(runtime.block_on(own_topic::remove(&client, &self.topic(), &self.group())).err());
        }
        if std::mem::take(&mut self.made.database) {
            let name = database(&self.id);
            let dropped = match Staging::new(&self.user.warehouse) {
                Ok(mut staging) => runtime.block_on(staging.drop_database(&name)),
                Err(error) => Err(error),
            };
            left.extend(dropped.err().map(|error| format!("database {name} could not be removed: {error}")));
        }
        if keep_folder {
            left.push(format!("the daemons' logs are in {}", self.folder.display()));
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            left.push(format!("{} could not be removed: {error}", self.folder.display()));
        }
        left
    }
}

fn database(id: &str) -> String {
    format!("bief_drill_{id}")
}

/// JSON's strings are TOML's too.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

/// For this user alone: logs tell of records.
fn private_folder(id: &str) -> Result<PathBuf, String> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = std::env::temp_dir().join(format!("bief-drill-{id}"));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| format!("{} cannot be made: {error}; TMPDIR names another place", folder.display()))?;
    Ok(folder)
}
