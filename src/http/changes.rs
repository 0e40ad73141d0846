//! Retry and drop of dead letters over HTTP. One at a time and few a minute, each transaction with its line in the audit;
//! whoever asks goes on from where an answer stopped. The guard lets nobody in here without a token.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::answers::{self, Refusal, cursor_of_id, id_of_cursor, known_reason, refused};
use super::desks::Unanswered;
use super::problem::problem;
use crate::ports::DeadLetterFilter;
use crate::ports::letter_changes::{LetterRequest, RetriedLetters, RetryOptions};

/// Changes within [`WINDOW`]; a person makes fewer, and each holds locks of the writers'.
const MOST_CHANGES: usize = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Letters that a request may name.
const MOST_IDS: usize = 2000;
/// Refusals that are told one by one.
const REFUSALS_TOLD: usize = 100;

/// Lets one change in at a time, and so many a minute.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    busy: bool,
    recent: VecDeque<Instant>,
    /// Since the start.
    ended: u64,
}

/// The change that is under way.
struct Pass<'g>(&'g Gate);

impl Gate {
    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Or the seconds after which to try again.
    fn enter(&self) -> Result<Pass<'_>, u64> {
        let (mut passed, now) = (self.passed(), Instant::now());
        passed.recent.retain(|at| now - *at < WINDOW);
        if passed.busy {
            return Err(2);
        }
        if let Some(first) = passed.recent.front().filter(|_| passed.recent.len() >= MOST_CHANGES) {
            return Err((WINDOW - (now - *first)).as_secs() + 1);
        }
        passed.busy = true;
        passed.recent.push_back(now);
        Ok(Pass(self))
    }

    /// How many changes ended: what was read of letters before the last of them may be as it was before it.
    pub fn ended(&self) -> u64 {
        self.passed().ended
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut passed = self.0.passed();
        passed.busy = false;
        passed.ended += 1;
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    ids: Option<Vec<i64>>,
    filter: Option<FilterBody>,
    cursor: Option<String>,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    dry_run: bool,
    payload: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DropBody {
    ids: Option<Vec<i64>>,
    filter: Option<FilterBody>,
    cursor: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<DateTime<Utc>>,
}

fn body_of<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        refused(&format!("The body is not as /api/v1/openapi.json says, from line {line}, column {column} on."))
    })
}

/// Which letters a body names: by number or by filter, never all of them by accident.
fn which(
    request: &HttpRequest,
    (ids, filter, cursor): (Option<Vec<i64>>, Option<FilterBody>, Option<String>),
) -> Result<LetterRequest, Refusal> {
    let asked = match (&ids, &filter) {
        (Some(ids), None) => json!({ "ids": ids }),
        (None, Some(filter)) => json!({ "filter": filter }),
        _ => return Err(refused("Say which letters: either ids or filter.")),
    };
    let mut named = DeadLetterFilter::default();
    if let Some(ids) = ids {
        if ids.is_empty() || ids.len() > MOST_IDS {
            return Err(refused("ids has from 1 to 2000 numbers."));
        }
        named.ids = ids;
    }
    if let Some(FilterBody { topic, reason, since, until }) = filter {
        if topic.is_none() && reason.is_none() && since.is_none() && until.is_none() {
            return Err(refused("filter has at least one of topic, reason, since and until."));
        }
        let reason = reason.as_deref().map(known_reason).transpose()?;
        named = DeadLetterFilter { topic, reason, since, until, ..named };
    }
    Ok(LetterRequest {
        filter: named,
        cursor: cursor.as_deref().map(id_of_cursor).transpose()?,
        peer: request.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default(),
        asked,
    })
}

fn too_many(seconds: u64) -> HttpResponse {
    let detail = "Another change is under way, or there were too many in the last minute. Retry-After says when to \
                  ask again.";
    let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, detail);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// What to say where it is not known what was done.
fn unanswered(unanswered: &Unanswered) -> HttpResponse {
    match unanswered {
        Unanswered::Late => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "There was no answer in time; what was begun is done all the same. /api/v1/audit has what was done.",
        ),
        other => other.answer(),
    }
}

pub(super) async fn retry(request: HttpRequest, shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    let (mut which, how) = match retry_of(&request, &body) {
        Ok(asked) => asked,
        Err(refused) => return refused.into(),
    };
    let _pass = match shared.changes.enter() {
        Ok(pass) => pass,
        Err(seconds) => return too_many(seconds),
    };
    which.asked["overwrite"] = how.overwrite.into();
    which.asked["edited"] = how.payload.is_some().into();
    let (overwrite, dry_run) = (how.overwrite, how.dry_run);
    tracing::info!(peer = which.peer, asked = %which.asked, dry_run, "dead letters are sent through again by request");
    let asked =
        shared.desks.changes.ask(move |letters| Box::pin(async move { Ok(letters.retry(&which, &how).await?) }));
    match asked.await {
        Ok(retried) => answers::json(answers::bytes(&told(&retried, overwrite, dry_run))),
        Err(cause) => unanswered(&cause),
    }
}

fn retry_of(request: &HttpRequest, body: &[u8]) -> Result<(LetterRequest, RetryOptions), Refusal> {
    let RetryBody { ids, filter, cursor, overwrite, dry_run, payload } = body_of(body)?;
    if payload.is_some() && ids.as_ref().is_none_or(|ids| ids.len() != 1) {
        return Err(refused("A payload goes with one id: it takes the place of that letter's."));
    }
    let which = which(request, (ids, filter, cursor))?;
    Ok((which, RetryOptions { overwrite, dry_run, payload: payload.map(String::into_bytes) }))
}

fn told(retried: &RetriedLetters, overwrite: bool, dry_run: bool) -> Value {
    let refusals: Vec<Value> = retried
        .refused
        .iter()
        .take(REFUSALS_TOLD)
        .map(|(id, rejection)| {
            json!({
                "id": id,
                "reason": rejection.reason.as_str(),
                "field": rejection.field,
                "message": rejection.message,
            })
        })
        .collect();
    json!({
        "dry_run": dry_run,
        "overwrite": overwrite,
        "applied": retried.applied,
        "duplicates": retried.duplicates,
        "refused": retried.refused.len(),
        "refusals": refusals,
        "without_payload": retried.without_payload,
        "without_stream": retried.without_stream,
        "read_again": retried.read_again,
        "unanswered": retried.unanswered,
        "gone": retried.gone,
        "next": retried.next.map(cursor_of_id),
    })
}

pub(super) async fn drop_letters(request: HttpRequest, shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    let which = body_of(&body).and_then(|DropBody { ids, filter, cursor }| which(&request, (ids, filter, cursor)));
    let which = match which {
        Ok(which) => which,
        Err(refused) => return refused.into(),
    };
    let _pass = match shared.changes.enter() {
        Ok(pass) => pass,
        Err(seconds) => return too_many(seconds),
    };
    tracing::info!(peer = which.peer, asked = %which.asked, "dead letters are dropped by request");
    let asked =
        shared.desks.changes.ask(move |letters| Box::pin(async move { Ok(letters.drop_letters(&which).await?) }));
    match asked.await {
        Ok(dropped) => {
            let next = dropped.next.map(cursor_of_id);
            answers::json(answers::bytes(&json!({ "dropped": dropped.dropped, "next": next })))
        }
        Err(cause) => unanswered(&cause),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asked(body: &str) -> Result<(LetterRequest, RetryOptions), StatusCode> {
        let request = TestRequest::post().peer_addr("192.0.2.7:4711".parse().unwrap()).to_http_request();
        retry_of(&request, body.as_bytes()).map_err(|refused| HttpResponse::from(refused).status())
    }

    #[test]
    fn a_body_says_which_letters_and_how() {
        let (which, how) = asked(r#"{"ids": [42], "payload": "{}", "overwrite": true}"#).unwrap();
        assert_eq!((which.filter.ids.as_slice(), which.peer.as_str()), (&[42][..], "192.0.2.7"));
        assert_eq!(how, RetryOptions { overwrite: true, dry_run: false, payload: Some(b"{}".to_vec()) });
        let (which, how) = asked(r#"{"filter": {"reason": "check", "since": "2026-01-31T14:00:00Z"}}"#).unwrap();
        assert_eq!((which.filter.reason.as_deref(), how.payload), (Some("check"), None));
        assert_eq!(which.asked.to_string(), r#"{"filter":{"reason":"check","since":"2026-01-31T14:00:00Z"}}"#);
    }

    #[test]
    fn what_names_no_letters_or_too_much_is_refused() {
        let many = format!(r#"{{"ids": [{}0]}}"#, "1,".repeat(MOST_IDS));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"ids": []}"#,
            r#"{"filter": {}}"#,
            r#"{"filter": {"reason": "unheard_of"}}"#,
            r#"{"filter": {"colour": "red"}}"#,
            r#"{"ids": [1], "filter": {"topic": "orders"}}"#,
            r#"{"ids": [1], "all": true}"#,
            r#"{"ids": [1, 2], "payload": "x"}"#,
            r#"{"filter": {"topic": "orders"}, "payload": "x"}"#,
            r#"{"ids": ["1"]}"#,
            r#"{"ids": [1], "cursor": "1"}"#,
            &many,
        ] {
            assert_eq!(asked(body).err(), Some(StatusCode::BAD_REQUEST), "{body:.60}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_change_at_a_time_is_let_in_and_so_many_a_minute() {
        let gate = Gate::default();
        let first = gate.enter().unwrap();
        assert_eq!((gate.enter().err(), gate.ended()), (Some(2), 0));
        drop(first);
        for _ in 1..MOST_CHANGES {
            drop(gate.enter().unwrap());
        }
        assert_eq!((gate.enter().err(), gate.ended()), (Some(61), MOST_CHANGES as u64));
        tokio::time::advance(WINDOW).await;
        assert!(gate.enter().is_ok());
    }
}
