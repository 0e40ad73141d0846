//! Reads single values: texts with their references resolved, numbers, words of a few, lists. What is absent gets its
//! default, what is wrong is told and gets it too, so that reading goes on.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::print::{Line, Origin};
use super::reader::{Fault, Reader, Section, Text, Value, toml_text};
use super::schema::SectionSpec;
use super::secrets::{Part, substitute};
use super::source::{is_reference, quoted};

impl Reader<'_> {
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

    /// A list of whole numbers within a range, at least one.
    pub fn integers(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        range: RangeInclusive<u32>,
        default: &[u32],
    ) -> Vec<u32> {
        let shown =
            |numbers: &[u32]| format!("[{}]", numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "));
        let Some(value) = section.value(key) else {
            self.default(key, shown(default));
            return default.to_vec();
        };
        let number = |item: &Value<'_>| match item.get_ref() {
            DeValue::Integer(given) => {
                u32::from_str_radix(given.as_str(), given.radix()).ok().filter(|n| range.contains(n))
            }
            _ => None,
        };
        let list = value.get_ref().as_array().filter(|list| !list.is_empty());
        let numbers = list.map(|list| list.iter().map(number).collect::<Option<Vec<u32>>>());
        match numbers {
            Some(Some(numbers)) => {
                let value = shown(&numbers);
                self.understood.push(Line::Entry { key: key.into(), value, origin: Origin::File });
                numbers
            }
            Some(None) => {
                let (least, most) = (range.start(), range.end());
                let message = format!("`{key}` must hold whole numbers from {least} to {most}");
                self.error(&value.span(), message, format!("write for example `{}`", self.example(section, key)));
                default.to_vec()
            }
            None => {
                let found = match value.get_ref() {
                    DeValue::Array(_) => "an empty one".to_owned(),
                    other => described(other, false),
                };
                self.wrong_type(value, section.spec, key, "a list of whole numbers", &found);
                default.to_vec()
            }
        }
    }

    fn example(&self, section: &Section<'_>, key: &str) -> &'static str {
        section.spec.key(key).map_or("", |k| k.example)
    }

    /// A number from 0 to 1.
    pub fn share(&mut self, section: &Section<'_>, key: &'static str, default: f64) -> f64 {
        let help = "write a number from 0.0 to 1.0, such as 0.05 for one in twenty";
        self.number(section, key, default, |number| (0.0..=1.0).contains(&number), help)
    }

    /// A number that is `right`; `help` says which are.
    pub fn number(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        default: f64,
        right: impl Fn(f64) -> bool,
        help: &'static str,
    ) -> f64 {
        let Some(value) = section.value(key) else {
            self.default(key, default.to_string());
            return default;
        };
        let (shown, number) = match value.get_ref() {
            DeValue::Float(given) => (given.to_string(), given.as_str().parse::<f64>().ok()),
            DeValue::Integer(given) => (given.to_string(), given.as_str().parse::<f64>().ok()),
            other => {
                let found = described(other, false);
                self.wrong_type(value, section.spec, key, "a number", &found);
                return default;
            }
        };
        match number.filter(|number| right(*number)) {
            Some(number) => {
                self.understood.push(Line::Entry { key: key.into(), value: shown, origin: Origin::File });
                number
            }
            None => {
                self.error(&value.span(), format!("`{key}` = {shown} is out of range"), help);
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
