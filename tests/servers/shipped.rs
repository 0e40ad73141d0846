//! The shipped configurations against the tests' servers, and the shipped records in Kafka.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::support::{bief, repository, unique};

/// The demo's configuration against these servers, with topics and a group of its own. Its cache is a file.
pub fn shipped_config(folder: &Path, kafka: &str, database: &str, topics: &Topics, lanes: usize) -> PathBuf {
    adapted("actors.toml", folder, kafka, database, "sqlite://cache.db", topics, Some(lanes))
}

/// The configuration for real servers likewise, with a cache on a server.
pub fn example_config(folder: &Path, kafka: &str, database: &str, cache: &str, topics: &Topics) -> PathBuf {
    adapted("examples/mysql/actors.toml", folder, kafka, database, cache, topics, None)
}

fn adapted(
    file: &str,
    folder: &Path,
    kafka: &str,
    database: &str,
    cache: &str,
    topics: &Topics,
    lanes: Option<usize>,
) -> PathBuf {
    let file = repository().join(file);
    let root = file.parent().unwrap();
    let shipped = std::fs::read_to_string(&file).unwrap();
    let (mut text, mut section) = (String::new(), String::new());
    for line in shipped.lines() {
        let bare = line.split('#').next().unwrap_or_default().trim();
        if bare.starts_with('[') {
            section = bare.to_owned();
        }
        // Paths were relative to the shipped file's folder.
        let absolute = |line: &str| line.replacen(" = \"", &format!(" = \"{}/", root.display()), 1);
        let replaced = match bare {
            b if b.starts_with("url =") && section == "[cache]" => format!("url = \"{cache}\""),
            b if b.starts_with("http =") => "http = \"127.0.0.1:0\"".to_owned(),
            b if b.starts_with("brokers =") => format!("brokers = \"{kafka}\""),
            b if b.starts_with("group =") => format!("group = \"{}\"", topics.group),
            b if b.starts_with("url =") => format!("url = \"{database}\""),
            b if b.starts_with("tls =") => "tls = \"disable\"".to_owned(),
            b if b.starts_with("lanes =") => lanes.map_or(line.to_owned(), |lanes| format!("lanes = {lanes}")),
            b if ["query =", "migrations =", "file ="].iter().any(|key| b.starts_with(key)) => absolute(b),
            "topic = \"flights\"" => format!("topic = \"{}\"", topics.flights),
            "topic = \"weather\"" => format!("topic = \"{}\"", topics.weather),
            _ => line.to_owned(),
        };
        text += &replaced;
        text.push('\n');
    }
    let path = folder.join("actors.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Where a test's records are.
#[derive(Clone)]
pub struct Topics {
    pub flights: String,
    pub weather: String,
    pub group: String,
}

pub const FLIGHTS: i64 = 336_776;
pub const WEATHER: i64 = 26_115;

/// Topics that hold the whole data set, unshifted; loaded once for all tests, each with a group of its own.
pub fn whole_data_set(kafka: &str) -> Topics {
    static LOADED: OnceLock<(String, String)> = OnceLock::new();
    let (flights, weather) = LOADED.get_or_init(|| {
        let topics = Topics { flights: unique("flights"), weather: unique("weather"), group: "unused".to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let config = shipped_config(folder.path(), kafka, "sqlite://unused.db", &topics, 1);
        let output = bief(&["replay", "--no-shift", "--json", "-c"]).arg(config).output().unwrap();
        assert!(output.status.success(), "replay: {}", String::from_utf8_lossy(&output.stderr));
        (topics.flights, topics.weather)
    });
    Topics { flights: flights.clone(), weather: weather.clone(), group: unique("group") }
}
