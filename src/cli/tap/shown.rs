//! The daemon's lines, and how they read on a terminal: raw, rows and reason of a record below each other. All of it
//! came from records, so all of it is made printable.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::printable::printable;
use crate::cli::table::{Align, Table, grouped};

/// One line of `/api/v1/tap`; of a later daemon's others nothing is shown.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    Sample(Sample),
    Counts(Counts),
    Summary(Summary),
    Error {
        message: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sample {
    topic: String,
    partition: i64,
    offset: i64,
    timestamp: Option<String>,
    key: Option<String>,
    size: u64,
    payload: Option<String>,
    rows: Map<String, Value>,
    reason: Option<String>,
    field: Option<String>,
    message: Option<String>,
    /// Only those that were asked for, instead of all the rest.
    fields: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Counts {
    counts: Vec<(String, u64)>,
    distinct: u64,
    others: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Summary {
    records: u64,
    sampled: u64,
    pub matched: u64,
    undecided: u64,
    cause: Option<String>,
    dropped: u64,
}

impl Sample {
    /// `asked`: the fields that were asked for, in the order in which they are shown.
    pub fn text(&self, asked: &[String]) -> String {
        let mut text = format!("{}[{}]@{}", printable(&self.topic), self.partition, self.offset);
        if let Some(fields) = &self.fields {
            let known = asked.iter().filter_map(|name| fields.get_key_value(name.trim()));
            let _ = writeln!(text, "{}", named(known));
            return text;
        }
        for said in [&self.timestamp, &self.key].into_iter().flatten() {
            let _ = write!(text, "  {}", printable(said));
        }
        text.push('\n');
        let payload = match &self.payload {
            Some(payload) if (payload.len() as u64) < self.size => {
                format!("{}… ({} bytes)", printable(payload), grouped(self.size as i64))
            }
            Some(payload) => printable(payload).into_owned(),
            None if self.size > 0 => format!("not kept ({} bytes)", grouped(self.size as i64)),
            None => "no payload".to_owned(),
        };
        let _ = writeln!(text, "  raw  {payload}");
        for (table, rows) in &self.rows {
            for row in rows.as_array().into_iter().flatten().filter_map(Value::as_object) {
                let _ = writeln!(text, "  row  {}:{}", printable(table), named(row));
            }
        }
        if let Some(reason) = &self.reason {
            let field = self.field.as_deref().map(|field| format!(" in {field}")).unwrap_or_default();
            let message = self.message.as_deref().unwrap_or_default();
            let _ = writeln!(text, "  why  {}{}: {}", printable(reason), printable(&field), printable(message));
        }
        text
    }
}

/// ` name=value` for each; texts within quotes, so that "1" and 1 can be told apart.
fn named<'v>(values: impl IntoIterator<Item = (&'v String, &'v Value)>) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => format!("'{}'", printable(text)),
        other => printable(&other.to_string()).into_owned(),
    };
    values.into_iter().fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, " {}={}", printable(name), shown(value));
        text
    })
}

impl Counts {
    pub fn text(&self) -> String {
        let all = self.counts.iter().map(|(_, count)| count).sum::<u64>() + self.others;
        let share = |count: u64| format!("{:.1} %", 100.0 * count as f64 / all.max(1) as f64);
        let columns = [("VALUE", Align::Left), ("RECORDS", Align::Right), ("SHARE", Align::Right)];
        let mut table = Table::new(&columns);
        for (value, count) in &self.counts {
            table.row([value.clone(), grouped(*count as i64), share(*count)]);
        }
        if self.others > 0 {
            let more = self.distinct.saturating_sub(self.counts.len() as u64);
            let name =
                if more > 0 { format!("(others, at least {})", grouped(more as i64)) } else { "(others)".into() };
            table.row([name, grouped(self.others as i64), share(self.others)]);
        }
        table.render()
    }
}

impl Summary {
    /// Where the tap stood at its end, and why some records were not shown.
    pub fn text(&self) -> String {
        let Summary { records, sampled, matched, undecided, cause, dropped } = self;
        let [records, sampled, matched, undecided, dropped] =
            [records, sampled, matched, undecided, dropped].map(|number| grouped(*number as i64));
        let mut text =
            format!("{records} records passed, {sampled} were looked at, {matched} fitted; {dropped} dropped\n");
        if let Some(cause) = cause {
            let _ = writeln!(text, "{undecided} could not be judged, the first because: {}", printable(cause));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::printable::is_dangerous;

    fn sample(line: &str) -> String {
        match serde_json::from_str(line).unwrap() {
            Line::Sample(sample) => sample.text(&["n".to_owned(), "city".to_owned(), "\u{1b}".to_owned()]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_its_rows_and_its_reason_stand_below_each_other() {
        let line = r#"{"type":"sample","stage":"dead-letters","stream":"orders","topic":"orders.v1","partition":3,
            "offset":1042,"timestamp":"2024-05-01T10:00:00Z","key":"a|7","size":17,"payload":"{\"id\":7,\"n\":\"x\"}",
            "record":{"id":7,"n":"x"},"rows":{"customer":[{"code":"a","name":null}],"orders":[{"id":7}]},
            "reason":"check","field":"n","message":"the row is refused","committed_at":"2024-05-01T10:00:01Z"}"#;
        insta::assert_snapshot!(sample(line), @r#"
        orders.v1[3]@1042  2024-05-01T10:00:00Z  a|7
          raw  {"id":7,"n":"x"}… (17 bytes)
          row  customer: code='a' name=null
          row  orders: id=7
          why  check in n: the row is refused
        "#);
    }

    #[test]
    fn fields_alone_are_one_line() {
        let line =
            r#"{"type":"sample","topic":"orders.v1","partition":0,"offset":5,"fields":{"city":"Bern","n":[1,"2"]}}"#;
        assert_eq!(sample(line), "orders.v1[0]@5 n=[1,\"2\"] city='Bern'\n");
    }

    #[test]
    fn a_record_without_payload_says_so() {
        let line = |size| format!(r#"{{"type":"sample","topic":"t","offset":1,"size":{size},"payload":null}}"#);
        assert!(sample(&line(0)).contains("raw  no payload"));
        assert!(sample(&line(2_000_000)).contains("raw  not kept (2,000,000 bytes)"));
    }

    #[test]
    fn counts_have_shares_and_say_what_is_left_out() {
        let counts = Counts { counts: vec![("a".into(), 3), ("b\n".into(), 1)], distinct: 7, others: 1 };
        insta::assert_snapshot!(counts.text(), @r"
        VALUE                 RECORDS   SHARE
        a                           3  60.0 %
        b\n                         1  20.0 %
        (others, at least 5)        1  20.0 %
        ");
    }

    #[test]
    fn the_end_says_what_was_not_shown() {
        let line = r#"{"type":"summary","records":52310,"sampled":1000,"matched":12,"undecided":3,"cause":"x\u001b","dropped":0}"#;
        let Line::Summary(summary) = serde_json::from_str(line).unwrap() else { panic!("a summary") };
        assert_eq!(
            summary.text(),
            "52,310 records passed, 1,000 were looked at, 12 fitted; 0 dropped\n\
             3 could not be judged, the first because: x\\u{1b}\n"
        );
        assert!(matches!(serde_json::from_str(r#"{"type":"of a later version","x":1}"#).unwrap(), Line::Other));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = serde_json::json!("\u{1b}[2J\u{9b}31m\n\r\u{202e}\u{200b}");
        let line = serde_json::json!({
            "type": "sample", "topic": hostile, "timestamp": hostile, "key": hostile, "payload": hostile,
            "rows": { "\u{1b}[2J": [{ "\u{9b}": hostile, "list": [hostile] }] },
            "reason": hostile, "field": hostile, "message": hostile,
        });
        let fields =
            serde_json::json!({ "type": "sample", "topic": hostile, "fields": { "\u{1b}": { "a": hostile } } });
        for line in [line, fields] {
            let text = sample(&line.to_string());
            assert!(!text.chars().any(|c| c != '\n' && is_dangerous(c)), "{text:?}");
        }
    }
}
