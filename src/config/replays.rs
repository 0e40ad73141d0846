//! Reads each `[[replay]]` with its lookups.

use std::collections::{BTreeMap, HashSet};

use super::names;
use super::reader::{Reader, Section, Text};
use super::schema::{LOOKUP, REPLAY, TAKE};
use super::source::quoted;
use super::{Lookup, Replay};

/// Partitions of a topic that a replay creates: more than one broker's worth is a slip.
const MOST_PARTITIONS: u32 = 1000;

pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>, topics: &[Text]) -> Vec<Replay> {
    r.each(root, &REPLAY, |r, s| read_replay(r, &s, topics))
}

fn read_replay(r: &mut Reader<'_>, s: &Section<'_>, topics: &[Text]) -> Replay {
    let topic = r.required(s, "topic");
    if let Some(topic) = &topic {
        if let Err(fault) = names::topic(&topic.value) {
            r.refuse("topic", topic, fault);
        } else if !topics.iter().any(|t| t.value == topic.value) {
            let near = super::unknown::nearest(&topic.value, topics.iter().map(|t| t.value.as_str()));
            // By its text in the file, since a name from the environment is not shown.
            let help = match topics.iter().find(|t| near == Some(t.value.as_str())) {
                Some(near) => format!("did you mean {}?", quoted(&near.raw)),
                None => "name the topic of a [[stream]], or add one".to_owned(),
            };
            r.warning(&topic.span, format!("no stream reads the topic {}", quoted(&topic.raw)), help);
        }
    }
    let file = r.required(s, "file").map(|text| r.path(&text, "file", false, false));
    let key = match s.value("key") {
        None => {
            r.missing(s, "key");
            Vec::new()
        }
        Some(value) => {
            let keys = r.texts(s, "key");
            if keys.as_ref().is_some_and(|_| value.get_ref().as_array().is_some_and(|a| a.is_empty())) {
                r.error(&value.span(), "`key` names no column", "name the columns that tell one record from another");
            }
            columns(r, "key", keys.unwrap_or_default())
        }
    };
    let event_time = r.text(s, "event_time");
    let times = r.texts(s, "times");
    match (&event_time, &times) {
        (None, Some(times)) if !times.is_empty() && s.value("event_time").is_none() => r.error(
            &s.place("times"),
            "`times` are shifted with `event_time`, which is not there",
            "add `event_time` with the column that decides by how many weeks",
        ),
        (Some(event), Some(times)) if !times.iter().any(|time| time.value == event.value) => r.warning(
            &event.span,
            format!(
                "`event_time` = {} is not among `times`, so it stays as it is while they are shifted",
                quoted(&event.raw)
            ),
            "add it to `times`",
        ),
        _ => {}
    }
    if times.is_none() && s.value("times").is_none() {
        r.default("times", "[]");
    }
    let times = columns(r, "times", times.unwrap_or_default());
    let partitions = r.integer(s, "partitions", 1..=MOST_PARTITIONS, 4);
    let mut taken = HashSet::new();
    let lookups = r.each(s, &LOOKUP, |r, s| read_lookup(r, &s, &mut taken));
    Replay {
        topic: topic.map(|t| t.value).unwrap_or_default(),
        file: file.unwrap_or_default(),
        key,
        event_time: event_time.map(|t| t.value),
        times,
        partitions: i32::try_from(partitions).unwrap_or(1),
        lookups,
    }
}

/// Names of columns, each once and none empty.
fn columns(r: &mut Reader<'_>, key: &str, texts: Vec<Text>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(texts.len());
    let mut seen = HashSet::new();
    for text in texts {
        if text.value.is_empty() {
            r.error(&text.span, format!("`{key}` has an empty name in it"), "write a column's name or remove it");
        } else if !seen.insert(text.value.clone()) {
            r.error(&text.span, format!("`{key}` names {} twice", quoted(&text.raw)), "remove one of the two");
        }
        names.push(text.value);
    }
    names
}

fn read_lookup(r: &mut Reader<'_>, s: &Section<'_>, taken: &mut HashSet<String>) -> Lookup {
    const HELP: &str = "write `take = { field = \"column\" }` with a field for each column to add";
    let file = r.required(s, "file").map(|text| r.path(&text, "file", false, false));
    let field = r.required(s, "field");
    let key = r.required(s, "key");
    let mut take = BTreeMap::new();
    if s.value(TAKE.name()).is_none() {
        r.missing_section(s, &TAKE, HELP);
    } else if let Some(section) = r.section(s, &TAKE) {
        let entries = section.entries();
        if entries.is_empty() {
            r.error(&section.span, "`take` is empty", HELP);
        }
        for (name, value) in entries {
            let field = name.get_ref().to_string();
            let text = r.text_of(&format!("the field {}", quoted(&field)), value, false, &mut |r, found| {
                let message = format!("the field {} must come from a column's name, not {found}", quoted(&field));
                r.error(&value.span(), message, HELP);
            });
            let Some(text) = text else { continue };
            r.note(&field, &text);
            if text.value.is_empty() {
                r.error(&text.span, format!("the field {} comes from no column", quoted(&field)), HELP);
            }
            if !taken.insert(field.clone()) {
                r.error(
                    &name.span(),
                    format!("another lookup of this replay adds the field {} already", quoted(&field)),
                    "give one of the two another name",
                );
            }
            take.insert(field, text.value);
        }
    }
    Lookup {
        file: file.unwrap_or_default(),
        field: field.map(|t| t.value).unwrap_or_default(),
        key: key.map(|t| t.value).unwrap_or_default(),
        take,
    }
}
