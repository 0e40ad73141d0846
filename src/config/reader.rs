//! Reads a parsed file value by value and collects what is wrong with it instead of stopping at the first mistake.
//! Knows nothing of what the values mean. Whatever it reads it also notes, so that the file can be printed as understood.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Severity;
use super::print::{Line, Origin};
use super::schema::{ROOT, SectionSpec};
use super::secrets::{From, Part, substitute};
use super::source::{is_reference, quoted};

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
    env: &'a dyn Fn(&str) -> Option<String>,
    base: &'a Path,
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

    /// A text with its references resolved; `None` where it is absent or wrong (then told).
    pub fn text(&mut self, section: &Section<'_>, key: &'static str) -> Option<Text> {
        let spec = section.spec.key(key)?;
        let value = section.value(key)?;
        let text = self.text_of(&format!("`{key}`"), value, spec.secret, &mut |reader, found| {
            reader.wrong_type(value, section.spec, key, "a text in quotes", &found);
        })?;
        if !spec.secret {
            self.note(key, &text);
        }
        Some(text)
    }

    /// The text of a value; `name` is what messages call it. A secret's literal parts are hidden; what is no text is handed to `otherwise`.
    pub fn text_of(
        &mut self,
        name: &str,
        value: &Value<'_>,
        secret: bool,
        otherwise: &mut dyn FnMut(&mut Self, String),
    ) -> Option<Text> {
        let span = value.span();
        let DeValue::String(raw) = value.get_ref() else {
            if secret {
                self.hide(value);
            }
            otherwise(self, described(value.get_ref(), secret));
            return None;
        };
        if secret && !is_reference(raw) {
            self.masks.push(span.clone());
        }
        match substitute(raw, self.env, self.base) {
            Ok(parts) => {
                let value = parts.iter().map(Part::value).collect();
                Some(Text { value, raw: raw.to_string(), parts, span })
            }
            Err(faults) => {
                for fault in faults {
                    self.error(&span, format!("{name} {}", fault.what), fault.help);
                }
                None
            }
        }
    }

    /// A text that must be there.
    pub fn required(&mut self, section: &Section<'_>, key: &'static str) -> Option<Text> {
        if section.value(key).is_none() {
            self.missing(section, key);
            return None;
        }
        let text = self.text(section, key)?;
        if text.value.trim().is_empty() {
            let example = section.spec.key(key).map_or("", |k| k.example);
            self.error(&text.span, format!("`{key}` is empty"), format!("write for example `{example}`"));
            return None;
        }
        Some(text)
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

    /// A text that `parse` turns into a value, else the default, which is noted as such.
    pub fn parsed<T>(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        default: (T, &str),
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> T {
        if section.value(key).is_none() {
            self.default(key, toml_text(default.1));
            return default.0;
        }
        let Some(text) = self.text(section, key) else { return default.0 };
        match parse(&text.value) {
            Ok(value) => value,
            Err(fault) => {
                self.refuse(key, &text, fault);
                default.0
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        options: &[(&'static str, T)],
        default: T,
    ) -> T {
        let word = options.iter().find(|(_, value)| *value == default).map_or("", |(word, _)| word);
        self.parsed(section, key, (default, word), |text| one_of(text, options))
    }

    /// A whole number within a range.
    pub fn integer(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let Some(value) = section.value(key) else {
            self.default(key, default.to_string());
            return default;
        };
        let DeValue::Integer(given) = value.get_ref() else {
            let found = described(value.get_ref(), false);
            self.wrong_type(value, section.spec, key, "a whole number", &found);
            return default;
        };
        let number = u32::from_str_radix(given.as_str(), given.radix()).ok().filter(|n| range.contains(n));
        match number {
            Some(number) => {
                self.understood.push(Line::Entry { key: key.into(), value: number.to_string(), origin: Origin::File });
                number
            }
            None => {
                self.error(
                    &value.span(),
                    format!("`{key}` = {given} is out of range"),
                    format!("write a number from {} to {}", range.start(), range.end()),
                );
                default
            }
        }
    }

    pub fn boolean(&mut self, section: &Section<'_>, key: &'static str, default: bool) -> bool {
        let Some(value) = section.value(key) else {
            self.default(key, default.to_string());
            return default;
        };
        let DeValue::Boolean(given) = value.get_ref() else {
            let found = described(value.get_ref(), false);
            self.wrong_type(value, section.spec, key, "true or false", &found);
            return default;
        };
        self.understood.push(Line::Entry { key: key.into(), value: given.to_string(), origin: Origin::File });
        *given
    }

    /// A list of texts; `None` where it is absent or no list. Those that are wrong are told and left out.
    pub fn texts(&mut self, section: &Section<'_>, key: &'static str) -> Option<Vec<Text>> {
        let value = section.value(key)?;
        let DeValue::Array(list) = value.get_ref() else {
            let found = described(value.get_ref(), false);
            self.wrong_type(value, section.spec, key, "a list of texts", &found);
            return None;
        };
        let mut texts = Vec::with_capacity(list.len());
        for item in list.iter() {
            let text = self.text_of(&format!("`{key}`"), item, false, &mut |reader, found| {
                reader.wrong_type(item, section.spec, key, "a list of texts", &format!("one with {found}"));
            });
            texts.extend(text);
        }
        let origin = texts.iter().map(Text::origin).find(|o| *o != Origin::File).unwrap_or(Origin::File);
        let items: Vec<String> = texts.iter().map(|t| toml_text(&t.raw)).collect();
        self.understood.push(Line::Entry { key: key.into(), value: format!("[{}]", items.join(", ")), origin });
        Some(texts)
    }

    /// A file or folder that the file names, relative to the file's own folder.
    pub fn path(&mut self, text: &Text, key: &'static str, folder: bool, needed: bool) -> PathBuf {
        let path = self.base.join(&text.value);
        let named =
            NamedPath { key, raw: text.raw.clone(), path: path.clone(), folder, needed, span: text.span.clone() };
        self.paths.push(named);
        path
    }

    /// The file's own folder joined with a path.
    pub fn within_base(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Notes a text as it stands in the file.
    pub fn note(&mut self, key: &str, text: &Text) {
        self.understood.push(Line::Entry { key: key.into(), value: toml_text(&text.raw), origin: text.origin() });
    }

    /// Notes what an absent key means.
    pub fn default(&mut self, key: &str, value: impl Into<String>) {
        self.understood.push(Line::Entry { key: key.into(), value: value.into(), origin: Origin::Default });
    }

    /// A value of another type than the key takes.
    pub fn wrong_type(&mut self, value: &Value<'_>, spec: &SectionSpec, key: &str, expected: &str, found: &str) {
        let example = spec.key(key).map_or("", |k| k.example);
        self.error(
            &value.span(),
            format!("`{key}` must be {expected}, not {found}"),
            format!("write for example `{example}`"),
        );
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

/// One of a few words, with the nearest as the help.
pub(super) fn one_of<T: Copy>(text: &str, options: &[(&'static str, T)]) -> Result<T, Fault> {
    if let Some((_, value)) = options.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
    let list: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let list = list.join(", ");
    let help = match super::unknown::nearest(text, words.iter().copied()) {
        Some(word) => format!("did you mean \"{word}\"? It takes one of {list}"),
        None => format!("write one of {list}"),
    };
    Err(Fault::new("is not one of the values it takes", help))
}

/// A text as TOML writes it.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What a value is, with the value itself where it is short and no secret.
pub(super) fn described(value: &DeValue<'_>, secret: bool) -> String {
    let (what, shown) = match value {
        DeValue::String(text) => ("the text", quoted(text)),
        DeValue::Integer(number) => ("the whole number", number.to_string()),
        DeValue::Float(number) => ("the number", number.to_string()),
        DeValue::Boolean(value) => ("the boolean", value.to_string()),
        DeValue::Datetime(date) => ("the date", date.to_string()),
        DeValue::Array(_) => return "a list".into(),
        DeValue::Table(_) => return "a section".into(),
    };
    if secret { what.into() } else { format!("{what} {shown}") }
}

fn holds_sections(value: &DeValue<'_>) -> bool {
    value.is_table() || value.as_array().is_some_and(|list| list.first().is_some_and(|item| item.get_ref().is_table()))
}
