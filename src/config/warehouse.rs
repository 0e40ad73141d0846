//! Reads `[warehouse]`. The URL may hold a password: neither it nor any part of a value that was put in for a
//! reference gets into a message.

use std::path::PathBuf;

use super::database_url::{self, Backend, Target};
use super::print::{Line, Origin};
use super::reader::{Reader, Section, Span, Text, toml_text};
use super::schema::WAREHOUSE;
use super::{Load, Secret, Tls, WarehouseConfig};

impl WarehouseConfig {
    pub fn backend(&self) -> Backend {
        if self.url.expose().starts_with("sqlite:") { Backend::Sqlite } else { Backend::MySql }
    }

    /// The database file of a `sqlite://` URL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        self.url.expose().strip_prefix("sqlite://").map(PathBuf::from)
    }
}

/// What reading found beside the values themselves.
pub(super) struct ReadWarehouse {
    pub warehouse: WarehouseConfig,
    /// `None` where the URL is missing or wrong.
    pub backend: Option<Backend>,
}

pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>) -> ReadWarehouse {
    if root.value(WAREHOUSE.name()).is_none() {
        r.missing_section(
            root,
            &WAREHOUSE,
            "add [warehouse] with `url = \"mysql://user:${PASSWORD}@host/database\"` or `url = \"sqlite://var/bief.db\"`",
        );
    }
    let s = r.section_or_empty(root, &WAREHOUSE);
    let text = r.required(&s, "url");
    if let Some(value) = s.value("url")
        && let Some(raw) = value.get_ref().as_str()
    {
        uncover(r, raw, &value.span());
    }
    let target = text.and_then(|text| read_url(r, &text));
    let backend = target.as_ref().map(|target| target.backend);
    let tls_options = [("disable", Tls::Disable), ("require", Tls::Require), ("verify", Tls::Verify)];
    let default_tls = if target.as_ref().is_some_and(|target| target.local) { Tls::Disable } else { Tls::Verify };
    let tls = r.choice(&s, "tls", &tls_options, default_tls);
    let ca = r.text(&s, "ca").map(|text| r.path(&text, "ca", false, true));
    let migrations = r.text(&s, "migrations").map(|text| r.path(&text, "migrations", true, true));
    let loads = [("auto", Load::Auto), ("load_data", Load::LoadData), ("insert", Load::Insert)];
    let load = r.choice(&s, "load", &loads, Load::Auto);
    if backend == Some(Backend::Sqlite) {
        for key in ["tls", "ca", "load"] {
            if s.value(key).is_some() {
                r.warning(&s.place(key), format!("`{key}` has no effect on SQLite"), "remove it");
            }
        }
    } else if ca.is_some() && tls != Tls::Verify && backend.is_some() {
        r.warning(
            &s.place("ca"),
            "`ca` has no effect: the server's certificate is not checked",
            "write `tls = \"verify\"`",
        );
    }
    let url = Secret::new(target.map(|target| target.url).unwrap_or_default());
    ReadWarehouse { warehouse: WarehouseConfig { url, tls, ca, migrations, load }, backend }
}

fn read_url(r: &mut Reader<'_>, text: &Text) -> Option<Target> {
    match database_url::check(text, r.base) {
        Ok(target) => {
            let shown = database_url::redacted(&text.raw);
            let origin = match text.origin() {
                Origin::File if shown != text.raw => Origin::Hidden,
                other => other,
            };
            r.understood.push(Line::Entry { key: "url".into(), value: toml_text(&shown), origin });
            Some(target)
        }
        Err(fault) => {
            r.error(&text.span, format!("`url` {}", fault.what), fault.help);
            None
        }
    }
}

/// Lets the URL be shown but for its password, where there is no doubt what its password is.
pub(super) fn uncover(r: &mut Reader<'_>, raw: &str, span: &Span) {
    // Without escapes and with single quotes, the text's bytes are the file's.
    if !database_url::is_clear(raw) || raw.len() + 2 != span.len() {
        return;
    }
    r.masks.retain(|mask| mask != span);
    let start = span.start + 1;
    r.masks.extend(database_url::password(raw).map(|range| start + range.start..start + range.end));
}
