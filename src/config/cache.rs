//! Reads `[cache]`: where the documents of aggregates are kept. The URL may hold a password: neither it nor any part of a
//! value that was put in for a reference gets into a message.

use std::path::PathBuf;

use super::aggregates::HOW_TO_CACHE;
use super::database_url::{self, CacheTarget};
use super::print::{Line, Origin};
use super::reader::{Fault, Reader, Section, toml_text};
use super::schema::{AGGREGATE, CACHE};
use super::warehouse::{ReadWarehouse, uncover};
use super::{CacheConfig, Schedule, Secret};

/// At night for many, and not when everything else starts.
const DEFAULT_RECONCILE: &str = "30 3 * * *";
const DEFAULT_SAMPLE: f64 = 0.1;

/// What the URL's scheme tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheBackend {
    /// MongoDB, or a server that speaks its protocol.
    MongoDb,
    Sqlite,
}

impl CacheConfig {
    pub fn backend(&self) -> CacheBackend {
        if self.url.expose().starts_with("sqlite:") { CacheBackend::Sqlite } else { CacheBackend::MongoDb }
    }

    /// The database file of a `sqlite://` URL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        self.url.expose().strip_prefix("sqlite://").map(PathBuf::from)
    }
}

/// `None` where there is no such section, or its URL is missing or wrong; then that is told.
pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>, warehouse: &ReadWarehouse) -> Option<CacheConfig> {
    if root.value(CACHE.name()).is_none() {
        if root.value(AGGREGATE.name()).is_some() {
            r.missing_section(root, &CACHE, HOW_TO_CACHE);
        }
        return None;
    }
    let s = r.section(root, &CACHE)?;
    let url = read_url(r, &s, warehouse);
    let (reconcile, reconcile_sample) = read_reconcile(r, &s);
    Some(CacheConfig { url: Secret::new(url?), reconcile, reconcile_sample })
}

fn read_url(r: &mut Reader<'_>, s: &Section<'_>, warehouse: &ReadWarehouse) -> Option<String> {
    let text = r.required(s, "url");
    if let Some(value) = s.value("url")
        && let Some(raw) = value.get_ref().as_str()
    {
        uncover(r, raw, &value.span());
    }
    let text = text?;
    let CacheTarget { backend, url } = match database_url::check_cache(&text, r.base) {
        Ok(target) => target,
        Err(fault) => {
            r.error(&text.span, format!("`url` {}", fault.what), fault.help);
            return None;
        }
    };
    let shown = database_url::redacted(&text.raw);
    let origin = match text.origin() {
        Origin::File if shown != text.raw => Origin::Hidden,
        other => other,
    };
    r.understood.push(Line::Entry { key: "url".into(), value: toml_text(&shown), origin });
    if backend == CacheBackend::Sqlite && warehouse.warehouse.url.expose() == url {
        r.error(
            &text.span,
            "`url` is the file of the warehouse, which has one writer at a time",
            "write another file, such as \"sqlite://var/cache.db\"",
        );
    }
    Some(url)
}

/// When the documents are compared with the rows, and how many of them.
fn read_reconcile(r: &mut Reader<'_>, s: &Section<'_>) -> (Option<Schedule>, f64) {
    let daily = DEFAULT_RECONCILE.parse().ok();
    let schedule = r.parsed(s, "reconcile", (daily, DEFAULT_RECONCILE), |text| match text.trim() {
        "off" => Ok(None),
        text => match text.parse::<Schedule>() {
            Ok(schedule) => Ok(Some(schedule)),
            Err(error) => Err(Fault::new(error.what, format!("{}; or \"off\"", error.help))),
        },
    });
    (schedule, r.share(s, "reconcile_sample", DEFAULT_SAMPLE))
}
