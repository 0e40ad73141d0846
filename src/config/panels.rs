//! Reads each `[[panel]]`: what the page shows of the aggregates. Which columns a query yields only the database knows; the
//! page says so where a panel names none of them.

use std::time::Duration;

use super::reader::{Fault, Reader, Section, Text};
use super::schema::PANEL;
use super::source::quoted;
use super::unknown::nearest;
use super::{Aggregate, Panel, PanelKind, daemon, names};

const KINDS: [(&str, PanelKind); 5] = [
    ("line", PanelKind::Line),
    ("bar", PanelKind::Bar),
    ("table", PanelKind::Table),
    ("histogram", PanelKind::Histogram),
    ("stat", PanelKind::Stat),
];
/// What a source begins with.
const AGGREGATE: &str = "aggregate:";
const DEFAULT_RANGE: (Duration, &str) = (Duration::from_secs(7 * 86_400), "7d");
const LEAST_RANGE: Duration = Duration::from_secs(60);
/// A hundred years.
const MOST_RANGE: Duration = Duration::from_secs(36_500 * 86_400);

pub(super) fn read(r: &mut Reader<'_>, root: &Section<'_>, aggregates: &[Aggregate]) -> Vec<Panel> {
    r.each(root, &PANEL, |r, s| read_panel(r, &s, aggregates))
}

fn read_panel(r: &mut Reader<'_>, s: &Section<'_>, aggregates: &[Aggregate]) -> Panel {
    let title = r.required(s, "title");
    let source = r.required(s, "source");
    let aggregate = source.as_ref().and_then(|source| find(r, source, aggregates));
    let kind = r.choice(s, "kind", &KINDS, PanelKind::Line);
    let values = read_values(r, s);
    let by = r.text(s, "by");
    let key = if s.value("values").is_some() { "values" } else { "value" };
    for (key, text) in values.iter().map(|value| (key, value)).chain(by.iter().map(|by| ("by", by))) {
        if let Err(fault) = names::identifier(&text.value) {
            r.refuse(key, text, fault);
        }
    }
    if let Some(aggregate) = aggregate {
        check_columns(r, aggregate, &values, by.as_ref());
    }
    let range = r.parsed(s, "range", DEFAULT_RANGE, |text| daemon::between(text, LEAST_RANGE, MOST_RANGE));
    let unit = r.text(s, "unit");
    Panel {
        title: title.map(|t| t.value).unwrap_or_default(),
        kind,
        aggregate: aggregate.map(|a| a.name.clone()).unwrap_or_default(),
        values: values.into_iter().map(|t| t.value).collect(),
        by: by.map(|t| t.value),
        range,
        unit: unit.map(|t| t.value),
    }
}

/// The aggregate that a source names; tells where there is none.
fn find<'a>(r: &mut Reader<'_>, source: &Text, aggregates: &'a [Aggregate]) -> Option<&'a Aggregate> {
    let Some(name) = source.value.strip_prefix(AGGREGATE) else {
        let help = "write \"aggregate:\" and the name of an [[aggregate]], such as \"aggregate:orders_hourly\"";
        r.refuse("source", source, Fault::new("is no source of a panel", help));
        return None;
    };
    let found = aggregates.iter().find(|aggregate| aggregate.name == name);
    if found.is_none() {
        let near = nearest(name, aggregates.iter().map(|aggregate| aggregate.name.as_str()));
        // By its place, since a name from the environment is not shown.
        let help = match aggregates.iter().find(|aggregate| near == Some(aggregate.name.as_str())) {
            Some(near) => format!("did you mean the [[aggregate]] on line {}?", near.places.name.line),
            None => "name an [[aggregate]] of this file, or add one".to_owned(),
        };
        r.refuse("source", source, Fault::new("names no aggregate", help));
    }
    found
}

/// `value`, or several as `values`.
fn read_values(r: &mut Reader<'_>, s: &Section<'_>) -> Vec<Text> {
    match (s.value("value"), s.value("values")) {
        (Some(_), Some(_)) => {
            r.error(&s.place("values"), "`value` and `values` exclude each other", "remove one of the two");
            Vec::new()
        }
        (Some(_), None) => r.required(s, "value").into_iter().collect(),
        (None, Some(_)) => {
            let values = r.texts(s, "values");
            if values.as_ref().is_some_and(Vec::is_empty) {
                r.error(&s.place("values"), "`values` names no column", "name a column that the query yields");
            }
            let values = values.unwrap_or_default();
            let twice = values
                .iter()
                .enumerate()
                .find(|(at, text)| values[..*at].iter().any(|other| other.value.eq_ignore_ascii_case(&text.value)));
            if let Some((_, text)) = twice {
                let message = format!("`values` names {} twice", quoted(&text.raw));
                r.error(&text.span, message, "remove one of the two");
            }
            values
        }
        (None, None) => {
            r.missing(s, "value");
            Vec::new()
        }
    }
}

/// A series each is for a column of the key, and a value is none of them.
fn check_columns(r: &mut Reader<'_>, aggregate: &Aggregate, values: &[Text], by: Option<&Text>) {
    let is_key = |text: &Text| aggregate.key.iter().any(|key| key.eq_ignore_ascii_case(&text.value));
    for value in values.iter().filter(|value| is_key(value)) {
        r.error(
            &value.span,
            format!("{} is part of the aggregate's key, not one of its values", quoted(&value.raw)),
            "name a column that the query computes; a column of the key goes into `by`",
        );
    }
    if let Some(by) = by.filter(|by| !is_key(by)) {
        let help = match aggregate.key.is_empty() {
            true => "remove `by`: the aggregate has no `key`".to_owned(),
            false => format!("name a column of `key` on line {}", aggregate.places.key.line),
        };
        r.error(&by.span, format!("the aggregate's key has no column {}", quoted(&by.raw)), help);
    }
}
