//! `/api/v1/dead-letters` and the audit, as far as they are read: which letters there are, in groups and one by one, and
//! what was done to them over this API. Lists hold no payloads, so that a page costs little whatever records weigh.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Shared;
use super::answers::{Query, Refusal, bytes, cursor_of_id, json};
use super::problem::problem;
use crate::ports::{AuditEntry, DeadLetterFilter, LetterGroup, LetterHead, StoredDeadLetter};

const PAGE: usize = 100;
const LARGEST_PAGE: usize = 500;
const NO_LETTER: &str = "There is no such dead letter any more. /api/v1/dead-letters has those that there are.";

pub(super) async fn list(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let (filter, limit) = match asked(&request) {
        Ok(asked) => asked,
        Err(refused) => return refused.into(),
    };
    let asked = shared.desks.letters.ask(move |letters| {
        Box::pin(async move {
            let mut heads = letters.heads(&filter).await?;
            let next = next(&mut heads, limit, |head| head.id);
            let letters: Vec<Value> = heads.iter().map(head).collect();
            Ok(bytes(&json!({ "letters": letters, "next": next })))
        })
    });
    asked.await.map_or_else(|unanswered| unanswered.answer(), json)
}

/// One more than the page has, which tells whether another follows.
fn asked(request: &HttpRequest) -> Result<(DeadLetterFilter, usize), Refusal> {
    let query = Query::of(request, &["topic", "reason", "since", "until", "limit", "cursor"])?;
    let limit = query.limit(PAGE, LARGEST_PAGE)?;
    let filter = DeadLetterFilter { before_id: query.cursor()?, limit: limit as u64 + 1, ..query.letters()? };
    Ok((filter, limit))
}

/// Cuts a page to its length; answers the cursor behind it where there is more.
fn next<T>(page: &mut Vec<T>, limit: usize, id: impl Fn(&T) -> i64) -> Option<String> {
    let more = page.len() > limit;
    page.truncate(limit);
    page.last().filter(|_| more).map(|last| cursor_of_id(id(last)))
}

pub(super) async fn groups(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    grouped(&request, &shared).await.map_or_else(HttpResponse::from, json)
}

async fn grouped(request: &HttpRequest, shared: &Shared) -> Result<Bytes, Refusal> {
    let filter = Query::of(request, &["topic", "since", "until"])?.letters()?;
    // Counting reads all that there are, and every open page asks for just that. After a change it is another question,
    // so that whoever made one is not told what was before it.
    let is_of_all = request.query_string().is_empty();
    let question = is_of_all.then(|| format!("dead letters after {} changes", shared.changes.ended()));
    if let Some(known) = question.as_ref().and_then(|question| shared.recent_lists.get(question)) {
        return Ok(known);
    }
    let asked = shared.desks.letters.ask(move |letters| {
        Box::pin(async move {
            let groups: Vec<Value> = letters.groups(&filter).await?.iter().map(group).collect();
            Ok(bytes(&json!({ "groups": groups })))
        })
    });
    let body = asked.await.map_err(|unanswered| unanswered.answer())?;
    if let Some(question) = question {
        shared.recent_lists.keep(question, body.clone());
    }
    Ok(body)
}

pub(super) async fn one(request: HttpRequest, id: web::Path<String>, shared: web::Data<Shared>) -> HttpResponse {
    if let Err(refused) = Query::of(&request, &[]) {
        return refused.into();
    }
    let Ok(id) = id.parse::<i64>() else { return problem(StatusCode::NOT_FOUND, NO_LETTER) };
    let asked = shared.desks.letters.ask(move |letters| {
        Box::pin(async move { Ok(letters.letter(id).await?.as_ref().map(|letter| bytes(&whole(letter)))) })
    });
    match asked.await {
        Ok(Some(letter)) => json(letter),
        Ok(None) => problem(StatusCode::NOT_FOUND, NO_LETTER),
        Err(unanswered) => unanswered.answer(),
    }
}

pub(super) async fn audit(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let query = Query::of(&request, &["limit", "cursor"]);
    let asked = query.and_then(|query| Ok((query.limit(PAGE, LARGEST_PAGE)?, query.cursor()?)));
    let (limit, before) = match asked {
        Ok(asked) => asked,
        Err(refused) => return refused.into(),
    };
    let asked = shared.desks.letters.ask(move |letters| {
        Box::pin(async move {
            let mut entries = letters.audit_entries(before, limit as u64 + 1).await?;
            let next = next(&mut entries, limit, |entry| entry.id);
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            Ok(bytes(&json!({ "entries": entries, "next": next })))
        })
    });
    asked.await.map_or_else(|unanswered| unanswered.answer(), json)
}

fn head(head: &LetterHead) -> Value {
    json!({
        "id": head.id,
        "topic": head.topic,
        "partition": head.partition,
        "offset": head.offset,
        "timestamp": head.timestamp,
        "stored_at": head.stored_at,
        "reason": head.rejection.reason.as_str(),
        "field": head.rejection.field,
        "message": head.rejection.message,
        "bytes": head.bytes,
    })
}

fn whole(stored: &StoredDeadLetter) -> Value {
    let letter = &stored.letter;
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let mut whole = head(&LetterHead {
        id: stored.id,
        topic: letter.topic.to_string(),
        partition: letter.partition,
        offset: letter.offset,
        timestamp: letter.time(),
        rejection: letter.rejection.clone(),
        stored_at: stored.stored_at,
        bytes: i64::try_from(length(&letter.key) + length(&letter.payload)).unwrap_or(i64::MAX),
    });
    whole["key"] = shown(letter.key.as_deref());
    whole["payload"] = shown(letter.payload.as_deref());
    whole
}

fn group(group: &LetterGroup) -> Value {
    json!({
        "topic": group.topic,
        "reason": group.reason.as_str(),
        "letters": group.letters,
        "first_stored_at": group.first_stored_at,
        "last_stored_at": group.last_stored_at,
        "newest": group.newest,
    })
}

fn entry(entry: &AuditEntry) -> Value {
    json!({
        "id": entry.id,
        "at": entry.at,
        "daemon": entry.daemon,
        "peer": entry.peer,
        "action": entry.action,
        "letters": entry.letters,
        "request": entry.request,
        "payload": shown(entry.payload.as_deref()),
        "outcome": entry.outcome,
    })
}

/// Bytes of a record: as text where they are UTF-8, else whole in base64.
fn shown(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!({ "text": text }),
        Some((bytes, Err(_))) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}
