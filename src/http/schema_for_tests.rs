//! Whether a JSON value is as a schema of the contract says, as far as the contract uses schemas. Stricter than JSON Schema in
//! one thing: a field that no schema names is wrong, unless nothing is said of an object at all.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// What is wrong with a value beside its schema, as `place: what`.
pub(super) struct Check<'d> {
    document: &'d Value,
    wrong: Vec<String>,
}

impl<'d> Check<'d> {
    pub fn wrong(document: &'d Value, schema: &'d Value, value: &Value) -> Vec<String> {
        let mut check = Check { document, wrong: Vec::new() };
        check.value(schema, value, "it");
        check.wrong
    }

    /// That a value is as the schema of this name says.
    pub fn must_fit(name: &str, value: &Value) {
        let document: Value = serde_json::from_str(super::contract::DOCUMENT).unwrap();
        let wrong = Check::wrong(&document, &document["components"]["schemas"][name], value);
        assert!(wrong.is_empty(), "{name}:\n{}\n{value}", wrong.join("\n"));
    }

    fn say(&mut self, place: &str, what: &str) {
        self.wrong.push(format!("{place}: {what}"));
    }

    fn value(&mut self, schema: &'d Value, value: &Value, place: &str) {
        let schema = resolved(self.document, schema);
        if let Some(any) = schema["oneOf"].as_array() {
            let fits = any.iter().filter(|one| Check::wrong(self.document, one, value).is_empty()).count();
            if fits != 1 {
                self.say(place, &format!("fits {fits} of the schemas that it may have: {value:.200}"));
            }
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            Value::String(one) => vec![one],
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|kind| is_of(value, kind)) {
            self.say(place, &format!("{value:.200} is not {types:?}"));
            return;
        }
        if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
            self.say(place, &format!("{value} is none of {allowed:?}"));
        }
        if let (Some(number), least, most) = (value.as_f64(), schema["minimum"].as_f64(), schema["maximum"].as_f64())
            && (least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most))
        {
            self.say(place, &format!("{number} is out of range"));
        }
        match value {
            Value::String(text)
                if schema["format"] == "date-time"
                    && (text.parse::<DateTime<Utc>>().is_err() || !text.ends_with('Z')) =>
            {
                self.say(place, &format!("{text} is no time in UTC"));
            }
            Value::Array(items) => {
                let bound = |name: &str| schema[name].as_u64().map(|n| n as usize);
                if bound("minItems").is_some_and(|n| items.len() < n)
                    || bound("maxItems").is_some_and(|n| items.len() > n)
                {
                    self.say(place, &format!("it has {} items", items.len()));
                }
                for (at, item) in items.iter().enumerate().filter(|_| !schema["items"].is_null()) {
                    self.value(&schema["items"], item, &format!("{place}[{at}]"));
                }
            }
            Value::Object(fields) => self.object(schema, fields, place),
            _ => {}
        }
    }

    fn object(&mut self, schema: &'d Value, fields: &Map<String, Value>, place: &str) {
        let (known, required) = properties(self.document, schema);
        for name in required.iter().filter(|name| !fields.contains_key(**name)) {
            self.say(place, &format!("has no {name}"));
        }
        for (name, value) in fields {
            let within = format!("{place}.{name}");
            let named = known.iter().copied().find(|(known, _)| known.as_str() == name.as_str());
            match (named, &schema["additionalProperties"]) {
                (Some((_, schema)), _) => self.value(schema, value, &within),
                (None, other @ Value::Object(_)) => self.value(other, value, &within),
                // An object of which nothing is said may hold anything.
                (None, Value::Null) if known.is_empty() => {}
                (None, _) => self.say(&within, "is not in the schema"),
            }
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{kind} is no type"),
    }
}

/// The schema that a `$ref` points at.
pub(super) fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        None => schema,
        Some(path) => {
            let pointer = path.strip_prefix('#').expect("a place in the same document");
            resolved(document, document.pointer(pointer).unwrap_or_else(|| panic!("{path} leads nowhere")))
        }
    }
}

/// Properties of a schema with those of its `allOf`, and which must be there.
fn properties<'d>(document: &'d Value, schema: &'d Value) -> (Vec<(&'d String, &'d Value)>, Vec<&'d str>) {
    let mut known: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    let mut required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (others, also) = properties(document, resolved(document, part));
        known.extend(others);
        required.extend(also);
    }
    (known, required)
}
