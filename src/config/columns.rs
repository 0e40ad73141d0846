//! Reads the `columns` of a table: where each column's value comes from.

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

use super::names;
use super::print::{Line, Origin};
use super::reader::{Reader, Section, Span, Value, toml_text};
use super::schema::COLUMNS;
use super::source::quoted;
use super::values::one_of;
use super::{ColumnMapping, EpochUnit, Location, Source};

/// Reads the columns of one `[[stream.table]]`.
pub(super) fn read(r: &mut Reader<'_>, s: &Section<'_>, locate: &dyn Fn(&Span) -> Location) -> Vec<ColumnMapping> {
    const HELP: &str = "write `columns = { column = \"field\" }` with a column for each field to keep";
    if s.value(COLUMNS.name()).is_none() {
        r.missing_section(s, &COLUMNS, HELP);
        return Vec::new();
    }
    let Some(section) = r.section(s, &COLUMNS) else { return Vec::new() };
    let entries = section.entries();
    if entries.is_empty() {
        r.error(&section.span, "`columns` is empty", HELP);
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut columns = Vec::new();
    for (key, value) in entries {
        let column = key.get_ref().as_ref();
        if let Err(fault) = names::identifier(column) {
            r.error(&key.span(), format!("the column {} {}", quoted(column), fault.what), fault.help);
        }
        let location = locate(&key.span());
        if let Some(line) = seen.insert(column.to_ascii_lowercase(), location.line) {
            r.error(
                &key.span(),
                format!("the column {} is mapped on line {line} already: names of columns ignore case", quoted(column)),
                "remove one of the two",
            );
        }
        if let Some(source) = read_source(r, column, value) {
            columns.push(ColumnMapping { column: column.to_owned(), source, location });
        }
    }
    columns
}

fn read_source(r: &mut Reader<'_>, column: &str, value: &Value<'_>) -> Option<Source> {
    if let DeValue::Table(table) = value.get_ref() {
        return read_long_source(r, column, value, table);
    }
    let text = r.text_of(&format!("the column {}", quoted(column)), value, false, &mut |r, found| {
        r.error(
            &value.span(),
            format!("the column {} must come from a field's name, not {found}", quoted(column)),
            "write a field's name in quotes, `{ field = \"…\", epoch = \"ms\" }`, or one of \"@timestamp\", \"@key\", \"@topic\", \"@partition\", \"@offset\"",
        );
    })?;
    r.note(column, &text);
    if text.value.is_empty() {
        r.error(&text.span, format!("the column {} comes from no field", quoted(column)), "write a field's name");
        return None;
    }
    if !text.value.starts_with('@') {
        return Some(Source::Field(text.value));
    }
    let known = [
        ("@timestamp", Source::Timestamp),
        ("@key", Source::Key),
        ("@topic", Source::Topic),
        ("@partition", Source::Partition),
        ("@offset", Source::Offset),
    ];
    if let Some((_, source)) = known.iter().find(|(word, _)| *word == text.value) {
        return Some(source.clone());
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let field = quoted(&text.raw);
    let otherwise = format!("a field of that name is written `{{ field = {field} }}`");
    let help = match super::unknown::nearest(&text.value, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"? {otherwise}"),
        None => format!("write one of {}; {otherwise}", words.join(", ")),
    };
    r.error(&text.span, format!("{field} is nothing that a record has beside its fields"), help);
    None
}

/// `{ field = "ts", epoch = "ms" }`.
fn read_long_source(r: &mut Reader<'_>, column: &str, value: &Value<'_>, table: &DeTable<'_>) -> Option<Source> {
    const HELP: &str =
        "write `{ field = \"…\" }`, or `{ field = \"…\", epoch = \"ms\" }` for a number that counts time since 1970";
    let (mut field, mut epoch, mut notes) = (None, None, Vec::new());
    let mut sound = true;
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        if name != "field" && name != "epoch" {
            r.hide(value);
            r.error(
                &key.span(),
                format!("unknown key {} in the source of the column {}", quoted(name), quoted(column)),
                HELP,
            );
            sound = false;
            continue;
        }
        let text = r.text_of(&format!("`{name}`"), value, false, &mut |r, found| {
            r.error(&value.span(), format!("`{name}` must be a text in quotes, not {}", found), HELP);
        });
        let Some(text) = text else {
            sound = false;
            continue;
        };
        notes.push((name.to_owned(), toml_text(&text.raw), text.origin()));
        if name == "field" {
            field = Some(text);
        } else {
            let units = [("s", EpochUnit::Seconds), ("ms", EpochUnit::Millis), ("us", EpochUnit::Micros)];
            match one_of(&text.value, &units) {
                Ok(unit) => epoch = Some(unit),
                Err(fault) => {
                    r.refuse("epoch", &text, fault);
                    sound = false;
                }
            }
        }
    }
    if table.get("field").is_none() {
        r.error(&value.span(), format!("the source of the column {} has no `field`", quoted(column)), HELP);
    }
    let field = field.filter(|_| sound)?;
    if field.value.is_empty() {
        r.error(&field.span, "`field` is empty", "write a field's name");
        return None;
    }
    notes.sort_by(|a, b| b.0.cmp(&a.0));
    let origin = notes.iter().map(|note| note.2).find(|o| *o != Origin::File).unwrap_or(Origin::File);
    let items: Vec<String> = notes.iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
    let value = format!("{{ {} }}", items.join(", "));
    r.understood.push(Line::Entry { key: column.to_owned(), value, origin });
    Some(match epoch {
        Some(unit) => Source::Epoch { field: field.value, unit },
        None => Source::Field(field.value),
    })
}
