//! Reads `[compare]`: which frameworks fit the forecasts' matrix beside each other, when, where they are, and what they may
//! take. What is absent has its default; the section as a whole may be too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemon::between;
use super::reader::{Fault, Reader, Section, toml_text};
use super::schema::COMPARE;
use super::source::quoted;
use super::{Schedule, units};
use crate::core::comparison::Framework;

const DEFAULT_TIME: Duration = Duration::from_secs(600);
const DEFAULT_MEMORY: u64 = 4 << 30;
/// Java does not start with less, nor do Dask's workers.
const LEAST_MEMORY: u64 = 1 << 30;
const ENVIRONMENT: &str = "var/ml";
const FOLDER: &str = "var/compare";
/// What the newest comparison is called in `folder`.
const NEWEST: &str = "newest.json";

/// How frameworks are compared.
#[derive(Debug, Clone)]
pub struct CompareConfig {
    /// When the daemon does it, in UTC; never where it is off.
    pub schedule: Option<Schedule>,
    /// In this order.
    pub frameworks: Vec<Framework>,
    /// How often the matrix is repeated.
    pub sizes: Vec<u32>,
    pub workers: Vec<u32>,
    /// Of one fit, start-up among it.
    pub time_limit: Duration,
    /// Bytes of one fit's whole process tree.
    pub memory: u64,
    /// Folder of the environments that `bief compare --setup` makes, joined with the configuration file's.
    pub environment: PathBuf,
    /// An interpreter that has all frameworks, in place of those.
    pub python: Option<PathBuf>,
    pub spark_master: Option<String>,
    pub dask_scheduler: Option<String>,
    /// For the matrix and the jobs' files while they are needed, and for the newest result; joined likewise.
    pub folder: PathBuf,
}

impl CompareConfig {
    /// That of a file without the section.
    pub fn of_folder(base: &Path) -> Self {
        Self {
            schedule: None,
            frameworks: Framework::ALL.to_vec(),
            sizes: vec![1],
            workers: vec![1],
            time_limit: DEFAULT_TIME,
            memory: DEFAULT_MEMORY,
            environment: base.join(ENVIRONMENT),
            python: None,
            spark_master: None,
            dask_scheduler: None,
            folder: base.join(FOLDER),
        }
    }

    /// Where the newest result is.
    pub fn newest(&self) -> PathBuf {
        self.folder.join(NEWEST)
    }
}

pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>) -> CompareConfig {
    let default = CompareConfig::of_folder(r.base);
    let Some(s) = r.section(root, &COMPARE) else { return default };
    let schedule = r.parsed(&s, "schedule", (None, "off"), |text| match text.trim() {
        "off" => Ok(None),
        text => match text.parse::<Schedule>() {
            Ok(schedule) => Ok(Some(schedule)),
            Err(error) => Err(Fault::new(error.what, format!("{}; or \"off\"", error.help))),
        },
    });
    let frameworks = read_frameworks(r, &s).unwrap_or(default.frameworks);
    let sizes = r.integers(&s, "sizes", 1..=10_000, &[1]);
    let workers = r.integers(&s, "workers", 1..=256, &[1]);
    let time_limit = r.parsed(&s, "time_limit", (DEFAULT_TIME, "10m"), |text| {
        between(text, Duration::from_secs(1), Duration::from_secs(86_400))
    });
    let memory = r.parsed(&s, "memory", (DEFAULT_MEMORY, &units::size_text(DEFAULT_MEMORY)), |text| {
        let bytes = units::size(text)?;
        if bytes < LEAST_MEMORY {
            return Err(Fault::new("is too little for a framework to start", "write \"1GiB\" or more"));
        }
        Ok(bytes)
    });
    let base = r.base;
    let folder = |text: &str| match text.trim() {
        "" => Err(Fault::new("is empty", "write a folder")),
        text => Ok(base.join(text)),
    };
    let environment = r.parsed(&s, "environment", (default.environment, ENVIRONMENT), folder);
    let into = r.parsed(&s, "folder", (default.folder, FOLDER), folder);
    let python = r.text(&s, "python").map(|text| match text.value.contains('/') {
        true => base.join(&text.value),
        // Found by the path.
        false => PathBuf::from(&text.value),
    });
    CompareConfig {
        schedule,
        frameworks,
        sizes,
        workers,
        time_limit,
        memory,
        environment,
        python,
        spark_master: read_address(r, &s, "spark_master", "spark://", "\"spark://host:7077\""),
        dask_scheduler: read_address(r, &s, "dask_scheduler", "tcp://", "\"tcp://host:8786\""),
        folder: into,
    }
}

/// Each once; `None` where the key is absent, or holds none.
fn read_frameworks(r: &mut Reader<'_>, s: &Section<'_>) -> Option<Vec<Framework>> {
    let Some(texts) = r.texts(s, "frameworks") else {
        if s.value("frameworks").is_none() {
            let all: Vec<String> = Framework::ALL.map(|framework| toml_text(framework.name())).to_vec();
            r.default("frameworks", format!("[{}]", all.join(", ")));
        }
        return None;
    };
    let mut found = Vec::new();
    for text in &texts {
        match text.value.parse::<Framework>() {
            Ok(framework) if found.contains(&framework) => {
                let message = format!("`frameworks` names {} twice", quoted(&text.raw));
                r.error(&text.span, message, "remove one of the two");
            }
            Ok(framework) => found.push(framework),
            Err(help) => r.refuse("frameworks", text, Fault::new("is no framework", help)),
        }
    }
    (!found.is_empty()).then_some(found)
}

fn read_address(r: &mut Reader<'_>, s: &Section<'_>, key: &'static str, scheme: &str, example: &str) -> Option<String> {
    let text = r.text(s, key)?;
    let (_, place) = text.value.split_once("://").unwrap_or_default();
    if text.value.starts_with(scheme) && place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Some(text.value);
    }
    // Spark has masters of other kinds, such as "yarn" and "k8s://https://host".
    if key == "spark_master" && !text.value.starts_with(scheme) && !text.value.trim().is_empty() {
        return Some(text.value);
    }
    let fault = Fault::new(format!("is no {scheme} address with a port"), format!("write for example {example}"));
    r.refuse(key, &text, fault);
    None
}
