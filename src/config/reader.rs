//! Walks the sections of a parsed file and collects what is wrong with it instead of stopping at the first mistake.
//! Knows nothing of what the values mean. Whatever it reads it also notes, so that the file can be printed as understood.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Severity;
use super::print::{Line, Origin};
use super::schema::{ROOT, SectionSpec};
use super::secrets::{From, Part};
use super::source::quoted;
use super::values::described;
use crate::core::printable::is_dangerous;

pub(super) type Span = Range<usize>;
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// Why a value is refused, to be said after its key and value; and what to write.
#[derive(Debug)]
pub(super) struct Fault {
    pub what: String,
    pub help: String,
}

impl Fault {
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// A diagnostic that does not know its line yet.
pub(super) struct Finding {
    pub severity: Severity,
    pub span: Span,
    pub message: String,
    pub help: String,
}

/// A text with its references resolved.
#[derive(Clone)]
pub(super) struct Text {
    pub value: String,
    /// As written in the file; what may be shown.
    pub raw: String,
    pub parts: Vec<Part>,
    pub span: Span,
}

impl Text {
    /// Whether and from where something was put in.
    pub fn origin(&self) -> Origin {
        let from = self.parts.iter().find_map(|part| match part {
            Part::Secret { from, .. } => Some(*from),
            Part::Literal(_) => None,
        });
        match from {
            None => Origin::File,
            Some(From::Environment) => Origin::Environment,
            Some(From::File) => Origin::OtherFile,
        }
    }
}

/// A table of the file that is being read.
#[derive(Clone)]
pub(super) struct Section<'t> {
    pub spec: &'static SectionSpec,
    /// Its header, or its value where it is written inline.
    pub span: Span,
    table: Option<&'t DeTable<'t>>,
}

/// A file that the configuration names.
#[derive(Debug, Clone)]
pub(super) struct NamedPath {
    pub key: &'static str,
    pub raw: String,
    pub path: PathBuf,
    pub folder: bool,
    /// bief does not start without it.
    pub needed: bool,
    pub span: Span,
}

pub(super) struct Reader<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub base: &'a Path,
    pub findings: Vec<Finding>,
    /// Ranges of the file that must not be shown.
    pub masks: Vec<Span>,
    pub understood: Vec<Line>,
    pub paths: Vec<NamedPath>,
    /// What unknown keys most likely meant, each with the place of its section: it need not be told as missing too.
    meant: HashSet<(usize, &'static str)>,
}

impl<'a> Reader<'a> {
    pub fn new(env: &'a dyn Fn(&str) -> Option<String>, base: &'a Path) -> Self {
        Self {
            env,
            base,
            findings: Vec::new(),
            masks: Vec::new(),
            understood: Vec::new(),
            paths: Vec::new(),
            meant: HashSet::new(),
        }
    }

    pub fn error(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.find(Severity::Error, span, message.into(), help.into());
    }

    pub fn warning(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.find(Severity::Warning, span, message.into(), help.into());
    }

    fn find(&mut self, severity: Severity, span: &Span, message: String, help: String) {
        self.findings.push(Finding { severity, span: span.clone(), message, help });
    }

    /// Hides a value and all within it.
    pub fn hide(&mut self, value: &Value<'_>) {
        match value.get_ref() {
            DeValue::Table(table) => table.values().for_each(|value| self.hide(value)),
            DeValue::Array(list) => list.iter().for_each(|value| self.hide(value)),
            _ => self.masks.push(value.span()),
        }
    }

    /// `key = value` and why it is refused.
    pub fn refuse(&mut self, key: &str, text: &Text, fault: Fault) {
        self.error(&text.span, format!("`{key}` = {} {}", quoted(&text.raw), fault.what), fault.help);
    }

    /// The table as a whole.
    pub fn root<'t>(&mut self, table: &'t DeTable<'t>) -> Section<'t> {
        let root = Section { spec: &ROOT, span: 0..0, table: Some(table) };
        self.unknown_keys(&root);
        root
    }

    /// The section with this spec; an empty one, and `None` as its table, where it is absent.
    pub fn section<'t>(&mut self, parent: &Section<'t>, spec: &'static SectionSpec) -> Option<Section<'t>> {
        let value = parent.value(spec.name())?;
        let table = match value.get_ref() {
            DeValue::Table(table) => table,
            DeValue::Array(list) if !list.is_empty() && list.iter().all(|v| v.get_ref().is_table()) => {
                self.error(
                    &value.span(),
                    format!("`[[{}]]` is a list, but there is one {} only", spec.path, spec.header()),
                    format!("write {} once, with single brackets", spec.header()),
                );
                list.first().and_then(|v| v.get_ref().as_table())?
            }
            other => {
                if spec.may_hold_secrets() {
                    self.hide(value);
                }
                self.error(
                    &value.span(),
                    format!("`{}` must be a section, not {}", spec.path, described(other, spec.may_hold_secrets())),
                    match spec.example {
                        "" => format!("write {} on a line of its own and its keys below it", spec.header()),
                        example => format!("write for example `{example}`"),
                    },
                );
                return None;
            }
        };
        Some(self.open(spec, value.span(), table))
    }

    /// The section, or an empty one in its place so that all its defaults are noted.
    pub fn section_or_empty<'t>(&mut self, parent: &Section<'t>, spec: &'static SectionSpec) -> Section<'t> {
        match self.section(parent, spec) {
            Some(section) => section,
            None => {
                self.understood.push(Line::Header(spec.header()));
                Section { spec, span: parent.span.clone(), table: None }
            }
        }
    }

    /// Reads each `[[…]]` of this spec with `read`.
    pub fn each<'t, T>(
        &mut self,
        parent: &Section<'t>,
        spec: &'static SectionSpec,
        mut read: impl FnMut(&mut Self, Section<'t>) -> T,
    ) -> Vec<T> {
        let Some(value) = parent.value(spec.name()) else { return Vec::new() };
        let help = format!("write {} with double brackets, once for each", spec.header());
        match value.get_ref() {
            DeValue::Array(list) => {
                let mut out = Vec::with_capacity(list.len());
                for item in list.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            let section = self.open(spec, item.span(), table);
                            out.push(read(self, section));
                        }
                        other => {
                            let found = described(other, true);
                            self.hide(item);
                            self.error(&item.span(), format!("`{}` must hold sections, not {found}", spec.path), &help);
                        }
                    }
                }
                out
            }
            DeValue::Table(table) => {
                self.error(&value.span(), format!("`[{}]` has single brackets, but it is a list", spec.path), help);
                let section = self.open(spec, value.span(), table);
                vec![read(self, section)]
            }
            other => {
                let found = described(other, true);
                self.hide(value);
                self.error(&value.span(), format!("`{}` must be a list of sections, not {found}", spec.path), help);
                Vec::new()
            }
        }
    }

    fn open<'t>(&mut self, spec: &'static SectionSpec, span: Span, table: &'t DeTable<'t>) -> Section<'t> {
        self.understood.push(Line::Header(spec.header()));
        let section = Section { spec, span, table: Some(table) };
        if !spec.free {
            self.unknown_keys(&section);
        }
        section
    }

    fn unknown_keys(&mut self, section: &Section<'_>) {
        for (key, value) in section.entries() {
            let name = key.get_ref().as_ref();
            if section.spec.key(name).is_some() || section.spec.section(name).is_some() {
                continue;
            }
            // The tables that a dotted key makes have the key's own place.
            let is_section =
                (value.span() != key.span() || section.spec.path.is_empty()) && holds_sections(value.get_ref());
            let unknown = super::unknown::describe(section.spec, name, is_section, value.get_ref().is_bool());
            if !unknown.showable {
                self.hide(value);
            }
            self.meant.extend(unknown.meant.map(|meant| (section.span.start, meant)));
            self.error(&key.span(), unknown.message, unknown.help);
        }
    }

    /// A key that must be there and is not; told at the section's header.
    pub fn missing(&mut self, section: &Section<'_>, key: &str) {
        let header = section.spec.header();
        if section.table.is_some() && !self.meant.contains(&(section.span.start, key)) {
            let example = section.spec.key(key).map_or("", |k| k.example);
            self.error(&section.span, format!("{header} has no `{key}`"), format!("add for example `{example}`"));
        }
    }

    /// A section that must be there and is not.
    pub fn missing_section(&mut self, parent: &Section<'_>, spec: &'static SectionSpec, help: &str) {
        if self.meant.contains(&(parent.span.start, spec.name())) {
            return;
        }
        let owner = if parent.spec.path.is_empty() { "the file".to_owned() } else { parent.spec.header() };
        let wanted = if spec.example.is_empty() { spec.header() } else { format!("`{}`", spec.name()) };
        self.error(&parent.span, format!("{owner} has no {wanted}"), help);
    }

    /// A file or folder that the file names, relative to the file's own folder.
    pub fn path(&mut self, text: &Text, key: &'static str, folder: bool, needed: bool) -> PathBuf {
        let path = self.base.join(&text.value);
        let named =
            NamedPath { key, raw: text.raw.clone(), path: path.clone(), folder, needed, span: text.span.clone() };
        self.paths.push(named);
        path
    }

    /// Notes a text as it stands in the file.
    pub fn note(&mut self, key: &str, text: &Text) {
        self.understood.push(Line::Entry { key: key.into(), value: toml_text(&text.raw), origin: text.origin() });
    }

    /// Notes what an absent key means.
    pub fn default(&mut self, key: &str, value: impl Into<String>) {
        self.understood.push(Line::Entry { key: key.into(), value: value.into(), origin: Origin::Default });
    }
}

impl<'t> Section<'t> {
    pub fn value(&self, key: &str) -> Option<&'t Value<'t>> {
        self.table?.get(key)
    }

    /// Where a key's value stands, else the section.
    pub fn place(&self, key: &str) -> Span {
        self.value(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// In the file's order.
    pub fn entries(&self) -> Vec<(&'t Spanned<Cow<'t, str>>, &'t Value<'t>)> {
        let mut entries: Vec<_> = self.table.into_iter().flat_map(|table| table.iter()).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }
}

/// A text as TOML writes it, in one line and without a character that a terminal would obey.
pub(super) fn toml_text(text: &str) -> String {
    if !text.chars().any(is_dangerous) {
        return toml::Value::String(text.to_owned()).to_string();
    }
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if is_dangerous(c) => format!("\\U{:08X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

fn holds_sections(value: &DeValue<'_>) -> bool {
    value.is_table() || value.as_array().is_some_and(|list| list.first().is_some_and(|item| item.get_ref().is_table()))
}
