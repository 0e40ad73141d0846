//! `/api/v1/tap`: records at a stage as they pass, filtered, projected or counted, one JSON object a line. Conditions
//! are asked off the data path and off the server's own thread, and get a tenth of a core at most: what comes faster is
//! dropped and counted. Must never make the stream wait, and never keep more than a listener's queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::ContentEncoding;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use url::form_urlencoded;

use super::Shared;
use super::connections::Connection;
use super::problem::problem;
use crate::core::field_path::FieldPath;
use crate::core::filter::Filter;
use crate::messages::tap::{Listening, Passed, Sample, Stage};

/// Of a stage: more is neither read by people nor filtered in a tenth of a core.
const SAMPLES_PER_SECOND: usize = 1_000;
/// Samples that are looked at in one go.
const SAMPLES_AT_ONCE: usize = 32;
/// A condition that takes longer for one record ends the tap.
const SLOWEST: Duration = Duration::from_millis(20);
/// For each second of looking so many of rest.
const REST: u32 = 9;
/// Distinct values that are counted apart; more are counted together.
const VALUES_COUNTED: usize = 1_000;
/// Of those, the most frequent that are told.
const VALUES_TOLD: usize = 50;
/// Fields of a record that can be asked for.
const MOST_FIELDS: usize = 32;

/// What was asked for.
struct View {
    stage: Stage,
    condition: Option<Filter>,
    fields: Vec<FieldPath>,
    count_by: Option<FieldPath>,
    limit: u64,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    sampled: u64,
    matched: u64,
    /// Records of which the condition said neither yes nor no, and why the first did not.
    undecided: u64,
    cause: Option<String>,
    counts: HashMap<String, u64>,
    /// Beyond [`VALUES_COUNTED`].
    others: u64,
}

impl View {
    /// From a query, or what is wrong with it. No message repeats a part of the request.
    fn of(query: &str) -> Result<View, &'static str> {
        let (mut stage, mut condition, mut fields, mut count_by, mut limit) = (None, None, Vec::new(), None, u64::MAX);
        let path = |text: &str| {
            FieldPath::new(text, &Sample::NAMES).map_err(|_| "A field is a name, or names with points between them.")
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "stage" => stage = Stage::named(&value),
                "where" => {
                    condition = Some(Filter::new(&value, &Sample::NAMES).map_err(
                        |_| "`where` is no condition that can be asked; bief tap --where says what is wrong with it.",
                    )?);
                }
                "fields" => fields = value.split(',').map(path).collect::<Result<_, _>>()?,
                "count_by" => count_by = Some(path(&value)?),
                "limit" => limit = value.parse().map_err(|_| "`limit` is a number of records.")?,
                _ => return Err("There are stage, where, fields, count_by and limit."),
            }
        }
        if fields.len() > MOST_FIELDS {
            return Err("Ask for at most 32 fields.");
        }
        let stage = stage.ok_or("Write stage=raw, stage=rows or stage=dead-letters.")?;
        Ok(View { stage, condition, fields, count_by, limit: limit.max(1) })
    }

    /// Looks at samples until the limit is reached, and appends a line for each that is to be shown.
    fn look(&self, samples: &[Arc<Sample>], seen: &mut Seen, lines: &mut String) -> Result<(), &'static str> {
        for sample in samples {
            if seen.matched >= self.limit {
                break;
            }
            seen.sampled += 1;
            let document = sample.document();
            if let Some(condition) = &self.condition {
                let began = Instant::now();
                let holds = condition.matches(&document);
                if began.elapsed() > SLOWEST {
                    return Err("the condition took too long for a single record; ask for less");
                }
                match holds {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(cause) => {
                        seen.undecided += 1;
                        seen.cause.get_or_insert(cause);
                        continue;
                    }
                }
            }
            seen.matched += 1;
            match &self.count_by {
                Some(by) => seen.count(by.label(&document)),
                None => lines.push_str(&self.line(document)),
            }
        }
        Ok(())
    }

    fn line(&self, document: Map<String, Value>) -> String {
        let mut line = if self.fields.is_empty() {
            document
        } else {
            let fields = self.fields.iter().map(|path| (path.name().to_owned(), path.of(&document))).collect();
            let place = ["stream", "topic", "partition", "offset"];
            let mut line: Map<String, Value> =
                document.into_iter().filter(|(name, _)| place.contains(&name.as_str())).collect();
            line.insert("fields".to_owned(), Value::Object(fields));
            line
        };
        line.insert("type".to_owned(), "sample".into());
        // JSON writes a line break in a text as an escape, so that an object is a line.
        format!("{}\n", Value::Object(line))
    }
}

impl Seen {
    fn count(&mut self, label: String) {
        if let Some(count) = self.counts.get_mut(&label) {
            *count += 1;
        } else if self.counts.len() < VALUES_COUNTED {
            self.counts.insert(label, 1);
        } else {
            self.others += 1;
        }
    }

    /// The most frequent values first.
    fn counts_line(&self) -> String {
        let mut counts: Vec<(&String, &u64)> = self.counts.iter().collect();
        counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let untold: u64 = counts.iter().skip(VALUES_TOLD).map(|(_, count)| **count).sum();
        let told: Vec<_> = counts.iter().take(VALUES_TOLD).map(|(value, count)| json!([value, count])).collect();
        let (distinct, others) = (self.counts.len(), self.others + untold);
        format!("{}\n", json!({ "type": "counts", "counts": told, "distinct": distinct, "others": others }))
    }

    fn summary_line(&self, passed: Passed) -> String {
        let Seen { sampled, matched, undecided, cause, .. } = self;
        let Passed { records, dropped } = passed;
        let summary = json!({
            "type": "summary", "records": records, "sampled": sampled, "matched": matched,
            "undecided": undecided, "cause": cause, "dropped": dropped,
        });
        format!("{summary}\n")
    }
}

/// One reader.
struct Reading {
    shared: web::Data<Shared>,
    connection: Option<Arc<Connection>>,
    listening: Listening,
    view: Arc<View>,
    /// Away while samples are looked at.
    seen: Option<Seen>,
    ticks: Interval,
    ended: bool,
}

impl Reading {
    /// The next lines; `None` behind the last.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut samples = Vec::with_capacity(SAMPLES_AT_ONCE);
        loop {
            tokio::select! {
                biased;
                _ = self.ticks.tick() => {
                    let lines = self.told();
                    self.took();
                    return Some(lines.into());
                }
                () = self.listening.next(&mut samples, SAMPLES_AT_ONCE) => {
                    let lines = self.look(std::mem::take(&mut samples)).await;
                    if !lines.is_empty() {
                        self.took();
                        return Some(lines.into());
                    }
                }
            }
        }
    }

    async fn look(&mut self, samples: Vec<Arc<Sample>>) -> String {
        let (view, mut seen) = (Arc::clone(&self.view), self.seen.take().unwrap_or_default());
        let began = Instant::now();
        let looked = tokio::task::spawn_blocking(move || {
            let mut lines = String::new();
            let outcome = view.look(&samples, &mut seen, &mut lines);
            (seen, lines, outcome)
        });
        let Ok((seen, mut lines, outcome)) = looked.await else {
            self.ended = true;
            return error_line("the condition could not be asked; report it with the record that it was asked of");
        };
        let is_full = seen.matched >= self.view.limit;
        self.seen = Some(seen);
        if let Err(cause) = outcome {
            lines.push_str(&self.told());
            lines.push_str(&error_line(cause));
            self.ended = true;
        } else if is_full {
            lines.push_str(&self.told());
            self.ended = true;
        } else {
            sleep(began.elapsed() * REST).await;
        }
        lines
    }

    /// Where it stands.
    fn told(&self) -> String {
        let Some(seen) = &self.seen else { return String::new() };
        let counts = self.view.count_by.as_ref().map(|_| seen.counts_line()).unwrap_or_default();
        counts + &seen.summary_line(self.listening.passed())
    }

    fn took(&self) {
        if let Some(connection) = &self.connection {
            self.shared.connections.took(connection);
        }
    }
}

fn error_line(cause: &str) -> String {
    format!("{}\n", json!({ "type": "error", "message": cause }))
}

pub(super) async fn tap(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    const LINES: &str = "application/x-ndjson";
    if request.method() == Method::HEAD {
        return HttpResponse::Ok().content_type(LINES).finish();
    }
    let view = match View::of(request.query_string()) {
        Ok(view) => Arc::new(view),
        Err(wrong) => return problem(StatusCode::BAD_REQUEST, wrong),
    };
    let Ok(listening) = shared.state.tap.listen(view.stage, SAMPLES_PER_SECOND) else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many look at records already. Try again when one has gone.",
        );
    };
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let reading = Reading { shared, connection, listening, view, seen: Some(Seen::default()), ticks, ended: false };
    let body = stream::unfold(reading, |mut reading| async move {
        let lines = reading.next().await?;
        Some((Ok::<_, actix_web::Error>(lines), reading))
    });
    HttpResponse::Ok()
        .content_type(LINES)
        // Compression would hold lines back until its buffer is full.
        .insert_header(ContentEncoding::Identity)
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body)
}
