//! Conditions on records, in CEL: compiled once, asked of many. What is compiled is bounded before the parser sees it
//! (`shape`), so that neither a hostile expression nor a hostile record costs more than a bounded time and memory. It
//! must never do more than answer true or false: no function reaches outside the record.

mod shape;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cel::extractors::This;
use cel::{Context, ExecutionError, Program, Value};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json};

/// Bytes that a compiled pattern of `matches` may take, and patterns kept compiled.
const PATTERN_BYTES: usize = 64 << 10;
const PATTERNS_KEPT: usize = 16;

/// A compiled condition.
pub struct Filter {
    program: Program,
    functions: Context<'static, 'static>,
    /// Those of the document's names that the condition asks for.
    variables: Vec<String>,
}

impl Filter {
    /// Compiles `text`, which may ask for these names and no others.
    ///
    /// # Errors
    /// What is wrong with the text, in words for its author.
    pub fn new(text: &str, names: &[&str]) -> Result<Self, String> {
        let shape = shape::examine(text)?;
        let program = Program::compile(text).map_err(|errors| format!("the condition is no CEL: {errors}"))?;
        let references = program.references();
        let mut variables: Vec<String> = references.variables().into_iter().map(str::to_owned).collect();
        drop(references);
        variables.retain(|name| !shape.own_variables.contains(name));
        if let Some(unknown) = variables.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(format!(
                "there is nothing called `{unknown}`; there are {}, and a record's fields are `record.{unknown}`",
                names.join(", ")
            ));
        }
        let mut functions = Context::default();
        let patterns = Patterns::default();
        let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| patterns.is_match(&text, &pattern);
        functions.add_function("matches", matches).map_err(|error| error.to_string())?;
        Ok(Self { program, functions, variables })
    }

    /// Whether the condition holds for a document.
    ///
    /// # Errors
    /// Why it can't be said: a field that is not there, values of kinds that can't be compared, no true or false.
    pub fn matches(&self, document: &Map<String, Json>) -> Result<bool, String> {
        let mut context = self.functions.new_inner_scope();
        for name in &self.variables {
            context.add_variable_from_value(name.as_str(), document.get(name).map_or(Value::Null, value));
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("the condition is neither true nor false".to_owned()),
            Err(error) => Err(described(&error)),
        }
    }
}

/// Without the values, which are the record's and may be large.
fn described(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}`; ask with has(…) first"),
        ExecutionError::UndeclaredReference(name) => format!("there is no function `{name}`"),
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedBinaryOperator(..) => "values of these kinds can't be compared".to_owned(),
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than that".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero".to_owned(),
        _ => "the condition can't be asked of this record".to_owned(),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(holds) => Value::Bool(*holds),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(large)) => Value::UInt(large),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        Json::Object(fields) => {
            let fields: HashMap<String, Value> = fields.iter().map(|(name, of)| (name.clone(), value(of))).collect();
            Value::Map(fields.into())
        }
    }
}

/// Patterns that `matches` was asked for, compiled once.
#[derive(Default)]
struct Patterns(Mutex<HashMap<String, Option<Regex>>>);

impl Patterns {
    fn is_match(&self, text: &str, pattern: &str) -> Result<bool, ExecutionError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains_key(pattern) {
            // A pattern that comes from records is another each time.
            if kept.len() >= PATTERNS_KEPT {
                kept.clear();
            }
            let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build();
            kept.insert(pattern.to_owned(), compiled.ok());
        }
        match kept.get(pattern) {
            Some(Some(regex)) => Ok(regex.is_match(text)),
            _ => Err(ExecutionError::function_error("matches", "the pattern is no regular expression, or too large")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NAMES: [&str; 3] = ["partition", "record", "reason"];

    fn document() -> Map<String, Json> {
        let Json::Object(document) = json!({
            "partition": 3, "reason": null,
            "record": { "city": "Zürich", "late": 12, "ratio": 0.5, "tags": ["a", "b"], "none": null, "large": u64::MAX },
        }) else {
            panic!("an object")
        };
        document
    }

    fn ask(text: &str) -> Result<bool, String> {
        Filter::new(text, &NAMES).and_then(|filter| filter.matches(&document()))
    }

    #[test]
    fn conditions_are_asked_of_records() {
        for (text, expected) in [
            ("partition == 3", true),
            ("record.city == 'Zürich' && record.late > 10", true),
            ("record.late > 10.5", true),
            ("record.ratio < 1", true),
            ("record.late + 1 == 13", true),
            ("record.city.startsWith(\"Z\")", true),
            ("record.city.matches('^Z.*h$')", true),
            ("record.city.matches('^b')", false),
            ("record.city in ['Bern', 'Zürich']", true),
            ("has(record.nothing) && record.nothing > 1", false),
            ("record.none == null", true),
            ("reason == null", true),
            ("record.tags.exists(tag, tag == 'b')", true),
            ("record.tags.all(tag, tag == 'b')", false),
            ("size(record.tags) == 2 ? true : false", true),
        ] {
            assert_eq!(ask(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_answered_is_said_without_the_records_values() {
        for (text, told) in [
            ("record.nothing > 1", "there is no `nothing`; ask with has(…) first"),
            ("record.city > 1", "values of these kinds can't be compared"),
            ("record.late", "the condition is neither true nor false"),
            ("record.city.matches('(')", "matches: the pattern is no regular expression, or too large"),
            (
                "record.city.matches('((a{100}){100}){100}')",
                "matches: the pattern is no regular expression, or too large",
            ),
        ] {
            assert_eq!(ask(text), Err(told.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_refused_before_any_record_comes() {
        let told = ask("city == 'x'").unwrap_err();
        assert!(told.contains("there is nothing called `city`") && told.contains("`record.city`"), "{told}");
        assert!(ask("partition ==").unwrap_err().starts_with("the condition is no CEL"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[ a-z0-9!()\\[\\]{}.,'\"&|<>=+*/?:-]{0,120}") {
            let _ = ask(&text);
        }
    }
}
