//! The configuration that a benchmark gives to bief: the shipped one with the servers' addresses, one stream, and
//! what the benchmark changes about its tables. The mapping itself is the shipped one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use super::workspace;

/// The shipped configuration for real servers.
pub const SHIPPED: &str = "examples/mysql/actors.toml";
/// The stream that is measured.
pub const TOPIC: &str = "flights";
/// The table that gets one row of each of its records.
pub const FACT: &str = "flight";
/// Partitions of the topic.
pub const PARTITIONS: i64 = 4;
/// The database on the server.
pub const DATABASE: &str = "bench";

/// A configuration in the making.
pub struct Config {
    root: Table,
    /// Where it is written, with its migrations.
    folder: PathBuf,
    /// What the shipped configuration computes of the fact table.
    aggregates: Vec<Value>,
    /// What its page shows of those.
    panels: Vec<Value>,
    /// The first of what it forecasts, without covariates of streams that are not measured.
    forecast: Option<Value>,
}

impl Config {
    /// The shipped configuration, cut down to the measured stream.
    pub fn shipped(folder: &Path, kafka: &str, mysql: &str, http: &str) -> Result<Self> {
        let path = workspace().join(SHIPPED);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut root: Table = toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        for (section, key, value) in [
            ("daemon", "http", http.to_string()),
            ("kafka", "brokers", kafka.to_string()),
            ("warehouse", "url", format!("{mysql}{DATABASE}")),
            ("warehouse", "tls", "disable".to_string()),
            ("warehouse", "migrations", folder.join("migrations").display().to_string()),
        ] {
            section_of(&mut root, section)?.insert(key.into(), Value::String(value));
        }
        // What is measured is the way of the rows.
        root.remove("cache");
        let shipped = path.parent().context("a file without a folder")?;
        let mut aggregates = root.remove("aggregate").and_then(|all| all.as_array().cloned()).unwrap_or_default();
        aggregates.retain(|one| one.get("table").and_then(Value::as_str) == Some(FACT));
        aggregates.iter_mut().filter_map(Value::as_table_mut).for_each(|one| absolute(one, shipped));
        let named = |aggregate: &Value| Some(format!("aggregate:{}", aggregate.get("name")?.as_str()?));
        let sources: Vec<String> = aggregates.iter().filter_map(named).collect();
        // Forecasts would train beside what is measured.
        let mut forecast = root.remove("forecast").and_then(|all| all.as_array()?.first().cloned());
        if let Some(covariates) =
            forecast.as_mut().and_then(|one| one.get_mut("covariates")).and_then(Value::as_array_mut)
        {
            let of = |one: &Value| one.get("aggregate").and_then(Value::as_str).map(|name| format!("aggregate:{name}"));
            covariates.retain(|one| of(one).is_some_and(|source| sources.contains(&source)));
        }
        root.remove("compare");
        let mut panels = root.remove("panel").and_then(|all| all.as_array().cloned()).unwrap_or_default();
        panels.retain(|one| sources.iter().any(|s| one.get("source").and_then(Value::as_str) == Some(s)));
        keep_topic(&mut root, "stream")?;
        keep_topic(&mut root, "replay")?;
        let mut config = Self { root, folder: folder.to_path_buf(), aggregates, panels, forecast };
        config.stream()?.insert("start".into(), Value::String("earliest".into()));
        let replay = first(&mut config.root, "replay")?;
        replay.insert("partitions".into(), Value::Integer(PARTITIONS));
        absolute(replay, shipped);
        let migrations = folder.join("migrations");
        fs::create_dir_all(&migrations)?;
        for file in migration_files(&workspace().join("migrations"))? {
            fs::copy(&file, migrations.join(file.file_name().context("a file without a name")?))?;
        }
        Ok(config)
    }

    /// Keeps the fact table's aggregates in this cache.
    pub fn set_cache(&mut self, url: &str) -> Result<()> {
        section_of(&mut self.root, "cache")?.insert("url".into(), Value::String(url.into()));
        self.root.insert("aggregate".into(), Value::Array(self.aggregates.clone()));
        Ok(())
    }

    /// The tables are there already.
    pub fn without_migrations(&mut self) -> Result<()> {
        section_of(&mut self.root, "warehouse")?.remove("migrations");
        Ok(())
    }

    /// Cache, aggregates and panels too, as far as the measured stream feeds them.
    pub fn with_page(&mut self) -> Result<()> {
        let url = format!("sqlite://{}", self.folder.join("cache.db").display());
        self.set_cache(&url)?;
        self.root.insert("panel".into(), Value::Array(self.panels.clone()));
        Ok(())
    }

    /// So many models alike, each trained every minute.
    pub fn set_forecasts(&mut self, count: u32) -> Result<()> {
        let forecast = self.forecast.as_ref().and_then(Value::as_table).context("nothing is forecast")?;
        let one = |number| {
            let mut one = forecast.clone();
            one.insert("name".into(), Value::String(format!("model-{number}")));
            one.insert("train_at".into(), Value::String("* * * * *".into()));
            Value::Table(one)
        };
        self.root.insert("forecast".into(), Value::Array((0..count).map(one).collect()));
        Ok(())
    }

    /// Leaves only the fact table, as this statement makes it.
    pub fn only_fact_table(&mut self, create: &str) -> Result<()> {
        self.tables()?.retain(|table| name_of(table) == FACT);
        for file in migration_files(&self.migrations())? {
            fs::remove_file(file)?;
        }
        self.add_migration("0001_plain.sql", create)
    }

    pub fn add_migration(&self, name: &str, sql: &str) -> Result<()> {
        fs::write(self.migrations().join(name), format!("{sql};\n")).context("cannot write a migration")
    }

    /// Feeds one more column of the fact table.
    pub fn add_column(&mut self, column: &str, source: &str) -> Result<()> {
        let fact = self.fact()?;
        let columns = fact.get_mut("columns").and_then(Value::as_table_mut).context("the fact table has no columns")?;
        columns.insert(column.into(), Value::String(source.into()));
        Ok(())
    }

    /// What happens to a row of the fact table that is there already.
    pub fn set_on_conflict(&mut self, on_conflict: &str) -> Result<()> {
        self.fact()?.insert("on_conflict".into(), Value::String(on_conflict.into()));
        Ok(())
    }

    /// Columns of the fact table with what feeds each.
    pub fn fact_columns(&mut self) -> Result<Vec<(String, String)>> {
        let columns = self.fact()?.get("columns").and_then(Value::as_table).context("the fact table has no columns")?;
        let source = |value: &Value| value.as_str().map(str::to_owned).context("a column that is fed by no name");
        columns.iter().map(|(column, value)| Ok((column.clone(), source(value)?))).collect()
    }

    /// Reads another topic, as a group of its own.
    pub fn set_topic(&mut self, topic: &str) -> Result<()> {
        self.stream()?.insert("topic".into(), Value::String(topic.into()));
        section_of(&mut self.root, "kafka")?.insert("group".into(), Value::String(format!("bief-{topic}")));
        Ok(())
    }

    /// Replays another file into another topic.
    pub fn set_replay(&mut self, topic: &str, file: &Path) -> Result<()> {
        let replay = first(&mut self.root, "replay")?;
        replay.insert("topic".into(), Value::String(topic.into()));
        replay.insert("file".into(), Value::String(file.display().to_string()));
        Ok(())
    }

    /// The file that is replayed.
    pub fn replayed(&mut self) -> Result<PathBuf> {
        let file = first(&mut self.root, "replay")?.get("file").and_then(Value::as_str);
        Ok(file.context("[[replay]] names no file")?.into())
    }

    /// Tables of the stream, parents first, each once.
    pub fn table_names(&mut self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for table in self.tables()? {
            let name = name_of(table).to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Bytes that the daemon may hold, as the configuration says it.
    pub fn memory(&self) -> String {
        let memory = self.root.get("daemon").and_then(|daemon| daemon.get("memory")).and_then(Value::as_str);
        memory.unwrap_or("the default").to_string()
    }

    pub fn migrations(&self) -> PathBuf {
        self.folder.join("migrations")
    }

    /// Writes the file and says where.
    pub fn write(&self) -> Result<PathBuf> {
        let path = self.folder.join("actors.toml");
        fs::write(&path, toml::to_string(&self.root)?).context("cannot write the configuration")?;
        Ok(path)
    }

    fn stream(&mut self) -> Result<&mut Table> {
        first(&mut self.root, "stream")
    }

    fn tables(&mut self) -> Result<&mut Vec<Value>> {
        let tables = self.stream()?.get_mut("table").and_then(Value::as_array_mut);
        tables.context("the stream feeds no table")
    }

    fn fact(&mut self) -> Result<&mut Table> {
        let fact = self.tables()?.iter_mut().find(|table| name_of(table) == FACT).and_then(Value::as_table_mut);
        fact.with_context(|| format!("the stream does not feed {FACT}"))
    }
}

/// The SQL files of a folder in the order in which they are applied.
pub fn migration_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}

fn section_of<'a>(root: &'a mut Table, name: &str) -> Result<&'a mut Table> {
    let section = root.entry(name).or_insert_with(|| Value::Table(Table::new()));
    section.as_table_mut().with_context(|| format!("[{name}] is not a section"))
}

fn name_of(table: &Value) -> &str {
    table.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Keeps the one entry of an array of tables that is about the topic.
fn keep_topic(root: &mut Table, key: &str) -> Result<()> {
    let entries = root.get_mut(key).and_then(Value::as_array_mut).with_context(|| format!("no [[{key}]]"))?;
    entries.retain(|entry| entry.get("topic").and_then(Value::as_str) == Some(TOPIC));
    if entries.len() != 1 {
        bail!("expected one [[{key}]] of topic {TOPIC}, found {}", entries.len());
    }
    Ok(())
}

fn first<'a>(root: &'a mut Table, key: &str) -> Result<&'a mut Table> {
    let entry = root.get_mut(key).and_then(Value::as_array_mut).and_then(|entries| entries.first_mut());
    entry.and_then(Value::as_table_mut).with_context(|| format!("no [[{key}]]"))
}

/// Paths were relative to the shipped file's folder.
fn absolute(table: &mut Table, folder: &Path) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(path) if key == "file" || key == "query" => *path = folder.join(&*path).display().to_string(),
            Value::Table(inner) => absolute(inner, folder),
            Value::Array(entries) => {
                entries.iter_mut().filter_map(Value::as_table_mut).for_each(|entry| absolute(entry, folder));
            }
            _ => {}
        }
    }
}
