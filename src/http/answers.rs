//! What the API's answers have in common: JSON, tags by which an unchanged answer is not sent again, and the reading of a
//! query. A refusal never repeats any part of the request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::form_urlencoded;

use super::problem::problem;
use crate::core::outcome::Reason;
use crate::ports::DeadLetterFilter;
use crate::ports::cache::Cursor;

const JSON: &str = "application/json";

/// As bytes; none of ours has a map whose keys are no text.
pub(super) fn bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Made anew each time.
pub(super) fn json(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type(JSON).body(body)
}

/// With its tag, or 304 to who has the same already.
pub(super) fn tagged(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let tag = format!("W/\"{:.32}\"", format!("{:x}", Sha256::digest(&body)));
    let known = is_known(request.headers(), &tag);
    let mut answer = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    answer.insert_header((header::CACHE_CONTROL, "private, no-cache")).insert_header((header::ETAG, tag));
    if known { answer.finish() } else { answer.content_type(JSON).body(body) }
}

/// Tags are compared weakly: whether an answer was compressed does not count.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let wanted = opaque(tag);
    headers
        .get_all(header::IF_NONE_MATCH)
        .filter_map(|sent| sent.to_str().ok())
        .flat_map(|sent| sent.split(','))
        .any(|sent| sent.trim() == "*" || opaque(sent) == wanted)
}

/// An answer in place of what was asked for.
#[derive(Debug)]
pub(super) struct Refusal(Box<HttpResponse>);

impl From<HttpResponse> for Refusal {
    fn from(answer: HttpResponse) -> Self {
        Self(Box::new(answer))
    }
}

impl From<Refusal> for HttpResponse {
    fn from(refusal: Refusal) -> Self {
        *refusal.0
    }
}

pub(super) fn refused(detail: &str) -> Refusal {
    problem(StatusCode::BAD_REQUEST, detail).into()
}

/// The parameters of a request, each once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Refuses names that are not `known` (one that ends with a point stands for all that begin so): a filter that is
    /// misspelt would be passed over in silence.
    pub fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, Refusal> {
        Self::parse(request.query_string(), known).map_err(refused)
    }

    fn parse(query: &str, known: &[&str]) -> Result<Self, &'static str> {
        let mut read: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_known = known.iter().any(|k| *k == name || (k.ends_with('.') && name.starts_with(k)));
            if !is_known {
                return Err("A parameter has a name that is not known here; /api/v1/openapi.json has their names.");
            }
            if read.iter().any(|(other, _)| *other == name) {
                return Err("A parameter comes twice.");
            }
            read.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(read))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Those whose name begins so, without that.
    pub fn beginning(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    pub fn limit(&self, default: usize, most: usize) -> Result<usize, Refusal> {
        let Some(text) = self.text("limit") else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| refused(&format!("limit is a whole number from 1 to {most}.")))
    }

    pub fn time(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // Who forgets to encode a plus sends a space.
        let text: Cow<'_, str> = if text.contains(' ') { text.replace(' ', "+").into() } else { text.into() };
        match text.parse::<DateTime<Utc>>() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(refused(&format!("{name} is a time as in RFC 3339, such as 2026-01-31T14:00:00Z."))),
        }
    }

    /// Where the page before ended, among ids.
    pub fn cursor(&self) -> Result<Option<i64>, Refusal> {
        self.text("cursor").map(id_of_cursor).transpose()
    }

    /// Which letters `topic`, `reason`, `since` and `until` name.
    pub fn letters(&self) -> Result<DeadLetterFilter, Refusal> {
        Ok(DeadLetterFilter {
            topic: self.text("topic").map(str::to_owned),
            reason: self.text("reason").map(known_reason).transpose()?,
            since: self.time("since")?,
            until: self.time("until")?,
            newest_first: true,
            ..DeadLetterFilter::default()
        })
    }
}

pub(super) fn known_reason(text: &str) -> Result<String, Refusal> {
    let known = Reason::ALL.iter().any(|reason| reason.as_str() == text);
    known.then(|| text.to_owned()).ok_or_else(|| refused("reason is none of those in /api/v1/openapi.json."))
}

/// An id as a page's end; opaque, so that what it is made of can change.
pub(super) fn cursor_of_id(id: i64) -> String {
    Cursor::behind(&id.to_string()).text()
}

pub(super) fn id_of_cursor(text: &str) -> Result<i64, Refusal> {
    let id = Cursor::parse(text).and_then(|cursor| cursor.id().parse().ok());
    id.ok_or_else(|| refused("cursor is not what an answer had as next."))
}

/// Answers that were given just now, to be given again: many pages ask the same within a moment.
#[derive(Debug)]
pub(super) struct Recent {
    kept_for: Duration,
    answers: Mutex<HashMap<String, (Instant, Bytes)>>,
}

/// Distinct questions within the time that answers are kept; beyond it they are asked each time.
const KEPT: usize = 64;

impl Recent {
    pub fn new(kept_for: Duration) -> Self {
        Self { kept_for, answers: Mutex::default() }
    }

    pub fn get(&self, question: &str) -> Option<Bytes> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = answers.get(question)?;
        (at.elapsed() < self.kept_for).then(|| answer.clone())
    }

    pub fn keep(&self, question: String, answer: Bytes) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (at, _)| at.elapsed() < self.kept_for);
        if answers.len() < KEPT {
            answers.insert(question, (Instant::now(), answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text, &["limit", "from", "cursor", "key."]).unwrap()
    }

    #[test]
    fn an_answer_that_is_known_is_not_sent_again() {
        let body = Bytes::from_static(b"{}");
        let tag = tagged(&TestRequest::get().to_http_request(), body.clone()).headers().get(header::ETAG).cloned();
        let tag = tag.unwrap().to_str().unwrap().to_owned();
        for (sent, status) in [
            (tag.as_str(), StatusCode::NOT_MODIFIED),
            (tag.trim_start_matches("W/"), StatusCode::NOT_MODIFIED),
            (format!("\"other\", {tag}").as_str(), StatusCode::NOT_MODIFIED),
            ("*", StatusCode::NOT_MODIFIED),
            ("\"other\"", StatusCode::OK),
            ("", StatusCode::OK),
        ] {
            let request = TestRequest::get().insert_header((header::IF_NONE_MATCH, sent)).to_http_request();
            assert_eq!(tagged(&request, body.clone()).status(), status, "{sent}");
        }
        let odd = HeaderValue::from_bytes(b"\xff").unwrap();
        let request = TestRequest::get().insert_header((header::IF_NONE_MATCH, odd)).to_http_request();
        assert_eq!(tagged(&request, body).status(), StatusCode::OK);
    }

    #[test]
    fn what_is_misspelt_or_comes_twice_is_refused() {
        assert!(Query::parse("limt=3", &["limit"]).is_err());
        assert!(Query::parse("limit=3&limit=4", &["limit"]).is_err());
        assert!(Query::parse("key=3", &["key."]).is_err());
        assert_eq!(query("key.shop=a%26b&limit=1").beginning("key.").collect::<Vec<_>>(), [("shop", "a&b")]);
    }

    #[test]
    fn limits_and_times_are_read_and_bounded() {
        assert_eq!(query("").limit(7, 9).unwrap(), 7);
        assert_eq!(query("limit=9").limit(7, 9).unwrap(), 9);
        for wrong in ["limit=0", "limit=10", "limit=", "limit=-1", "limit=x"] {
            assert!(query(wrong).limit(7, 9).is_err(), "{wrong}");
        }
        let at = "2026-01-31T13:00:00Z".parse().unwrap();
        for right in ["from=2026-01-31T13:00:00Z", "from=2026-01-31T14:00:00%2B01:00", "from=2026-01-31T14:00:00+01:00"]
        {
            assert_eq!(query(right).time("from").unwrap(), Some(at), "{right}");
        }
        assert!(query("from=yesterday").time("from").is_err());
    }

    #[test]
    fn a_cursor_comes_back_as_the_id_that_it_was() {
        assert_eq!(id_of_cursor(&cursor_of_id(42)).unwrap(), 42);
        assert!(id_of_cursor("42").is_err());
        assert_eq!(query(&format!("cursor={}", cursor_of_id(-1))).cursor().unwrap(), Some(-1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_again_for_a_moment() {
        let recent = Recent::new(Duration::from_secs(1));
        recent.keep("a".to_owned(), Bytes::from_static(b"1"));
        assert_eq!(recent.get("a"), Some(Bytes::from_static(b"1")));
        assert_eq!(recent.get("b"), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(recent.get("a"), None);
    }
}
