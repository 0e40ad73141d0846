//! Holds `openapi.json`, the routes and real answers to each other: a route that is not in the document fails, and so does
//! a path that no route serves, an answer that is not as its schema says, and a field that no schema names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::contract::DOCUMENT;
use super::routes::{Does, Needs, table};
use super::schema_for_tests::{Check, resolved};
use super::tests::{Answer, Daemon, daemon, daemon_with, next_line};
use super::*;
use crate::config::Secret;

const TOKEN: &str = "0123456789abcdef-token";

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Path, method and operation of all that is in the document.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn the_document_has_every_route_and_no_other_and_says_who_may_ask() {
    let document = document();
    let served: BTreeSet<(String, &str, String)> = table()
        .into_iter()
        .map(|route| {
            let method = if route.does == Does::Reads { "get" } else { "post" };
            let security = match route.needs {
                Needs::Nothing => serde_json::json!([]),
                Needs::Token => Value::Null,
                Needs::MetricsToken => serde_json::json!([{ "token": [] }, {}]),
            };
            (route.path.to_owned(), method, security.to_string())
        })
        .collect();
    let told: BTreeSet<(String, &str, String)> = operations(&document)
        .into_iter()
        .map(|(path, method, operation)| (path.to_owned(), method, operation["security"].to_string()))
        .collect();
    assert_eq!(told, served, "src/http/openapi.json on the left, src/http/routes.rs on the right");
    assert_eq!(document["security"], serde_json::json!([{ "token": [] }]));
}

#[test]
fn the_document_is_whole_and_its_examples_are_as_its_schemas_say() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} comes twice");
        assert!(operation["summary"].is_string() && operation["responses"]["default"].is_object(), "{method} {path}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let within: BTreeSet<&str> = parameters
            .map(|parameter| resolved(&document, parameter))
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let placeholders: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(within, placeholders, "{path}");
        let answers = operation["responses"].as_object().unwrap().values().map(|answer| resolved(&document, answer));
        for body in answers.chain([&operation["requestBody"]]) {
            let Some(media) = body["content"]["application/json"].as_object() else { continue };
            let Some(example) = media.get("example") else { continue };
            let wrong = Check::wrong(&document, &media["schema"], example);
            assert!(wrong.is_empty(), "{method} {path}:\n{}", wrong.join("\n"));
        }
    }
    all_refs_lead_somewhere(&document, &document);
}

fn all_refs_lead_somewhere(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if fields.contains_key("$ref") {
                resolved(document, part);
            }
            fields.values().for_each(|value| all_refs_lead_somewhere(document, value));
        }
        Value::Array(items) => items.iter().for_each(|item| all_refs_lead_somewhere(document, item)),
        _ => {}
    }
}

/// The schema of an answer to this operation, by status and content type; fails where it is not documented.
fn schema_of<'d>(document: &'d Value, operation: &'d Value, answer: &Answer) -> Option<&'d Value> {
    let status = answer.status.to_string();
    let responses = operation["responses"].as_object().unwrap();
    let response = resolved(document, responses.get(&status).unwrap_or(&responses["default"]));
    let content = response["content"].as_object()?;
    let sent = answer.header("content-type");
    let media = content.get(sent).or_else(|| content.get("*/*"));
    let media = media.unwrap_or_else(|| panic!("{sent} is not among {:?}", content.keys().collect::<Vec<_>>()));
    Some(&media["schema"])
}

fn must_fit(document: &Value, asked: &str, operation: &Value, answer: &Answer) {
    let Some(schema) = schema_of(document, operation, answer) else { return };
    if answer.header("content-type").contains("json") {
        let wrong = Check::wrong(document, schema, &answer.json());
        assert!(wrong.is_empty(), "{asked}:\n{}\n{}", wrong.join("\n"), answer.text());
    }
}

/// What is asked of each path that is read: rightly, and wrongly.
const READ: [(&str, &str, u16); 43] = [
    ("/", "/", 200),
    ("/static/{name}", "/static/app.js", 200),
    ("/static/{name}", "/static/nothing.js", 404),
    ("/livez", "/livez", 200),
    ("/healthz", "/healthz", 200),
    ("/readyz", "/readyz?verbose", 200),
    ("/metrics", "/metrics", 200),
    ("/status", "/status", 200),
    ("/api/v1/status", "/api/v1/status", 200),
    ("/api/v1/openapi.json", "/api/v1/openapi.json", 200),
    ("/api/v1/aggregates", "/api/v1/aggregates", 200),
    ("/api/v1/aggregates", "/api/v1/aggregates?limit=1", 400),
    ("/api/v1/aggregates/{name}", "/api/v1/aggregates/sums?limit=3&key.shop=north&from=2026-01-01T02:00:00Z", 200),
    ("/api/v1/aggregates/{name}", "/api/v1/aggregates/nothing", 404),
    ("/api/v1/aggregates/{name}", "/api/v1/aggregates/sums?key.colour=red", 400),
    ("/api/v1/aggregates/{name}", "/api/v1/aggregates/sums?limit=5001", 400),
    ("/api/v1/aggregates/{name}", "/api/v1/aggregates/sums?cursor=!", 400),
    ("/api/v1/forecasts", "/api/v1/forecasts", 200),
    ("/api/v1/forecasts", "/api/v1/forecasts?name=sales", 400),
    ("/api/v1/forecasts/{name}/documents", "/api/v1/forecasts/sales/documents?horizon=1h&key.shop=north", 200),
    ("/api/v1/forecasts/{name}/documents", "/api/v1/forecasts/sales/documents?horizon=7h", 400),
    ("/api/v1/forecasts/{name}/documents", "/api/v1/forecasts/nothing/documents?horizon=1h", 404),
    ("/api/v1/comparison", "/api/v1/comparison", 200),
    ("/api/v1/comparison", "/api/v1/comparison?newest=1", 400),
    ("/api/v1/models", "/api/v1/models?forecast=sales&limit=2", 200),
    ("/api/v1/models", "/api/v1/models?forecast=sales&after=x", 400),
    ("/api/v1/models", "/api/v1/models?forecast=nothing", 404),
    ("/api/v1/panels", "/api/v1/panels", 200),
    ("/api/v1/rows/{table}", "/api/v1/rows/sale?limit=2", 200),
    ("/api/v1/rows/{table}", "/api/v1/rows/bief_offset", 404),
    ("/api/v1/dead-letters", "/api/v1/dead-letters?limit=2&reason=wrong_type", 200),
    ("/api/v1/dead-letters", "/api/v1/dead-letters?reason=unheard_of", 400),
    ("/api/v1/dead-letters", "/api/v1/dead-letters?since=yesterday", 400),
    ("/api/v1/dead-letters/groups", "/api/v1/dead-letters/groups?topic=orders.v1", 200),
    ("/api/v1/dead-letters/{id}", "/api/v1/dead-letters/42", 200),
    ("/api/v1/dead-letters/{id}", "/api/v1/dead-letters/4711", 404),
    ("/api/v1/dead-letters/{id}", "/api/v1/dead-letters/x", 404),
    ("/api/v1/audit", "/api/v1/audit", 200),
    ("/api/v1/audit", "/api/v1/audit?cursor=x", 400),
    ("/api/v1/tap", "/api/v1/tap", 400),
    ("/api/v1/tap", "/api/v1/tap?stage=nothing", 400),
    ("/events", "/events?types=nothing", 400),
    ("/api/v1/status", "/api/v1/nothing", 404),
];

/// What has no end is read by tests of its own.
const STREAMS: [&str; 2] = ["/events", "/api/v1/tap"];

#[test]
fn every_path_answers_as_the_document_says() {
    let (document, daemon) = (document(), daemon());
    daemon.board.committed("orders", 3, 120, crate::core::outcome::Counts { applied: 10, ..Default::default() });
    for (path, asked, status) in READ {
        let answer = daemon.get(asked);
        assert_eq!(answer.status, status, "{asked}: {}", answer.text());
        must_fit(&document, asked, &document["paths"][path]["get"], &answer);
    }
    for (path, method, _) in operations(&document) {
        let is_asked = READ.iter().any(|(of, _, status)| *of == path && *status == 200);
        assert!(is_asked || method == "post" || STREAMS.contains(&path), "{path} is not asked here");
    }
}

#[test]
fn what_is_away_is_told_as_the_document_says() {
    let (document, daemon) = (document(), daemon());
    daemon.world.away.store(true, std::sync::atomic::Ordering::Relaxed);
    for (path, asked, _) in READ.into_iter().filter(|(path, _, status)| {
        *status == 200 && (path.starts_with("/api/v1/a") || path.starts_with("/api/v1/r") || path.contains("letters"))
    }) {
        let answer = daemon.get(asked);
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{asked}");
        must_fit(&document, asked, &document["paths"][path]["get"], &answer);
        assert!(answer.text().contains("is away"), "{}", answer.text());
    }
}

#[test]
fn changes_answer_as_the_document_says() {
    let document = document();
    let daemon = daemon_with(Access { token: Some(Secret::new(TOKEN)), ..Access::default() }, table());
    let post = |path: &str, body: &str, status: u16| {
        let answer = daemon.post(path, TOKEN, body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        must_fit(&document, path, &document["paths"][path]["post"], &answer);
        answer.json()
    };
    let (retry, drop_letters) = ("/api/v1/dead-letters/retry", "/api/v1/dead-letters/drop");
    let told = post(retry, r#"{"filter": {"reason": "wrong_type"}, "dry_run": true}"#, 200);
    assert_eq!((&told["applied"], &told["refused"], &told["dry_run"]), (&2.into(), &1.into(), &true.into()));
    let next = told["next"].as_str().unwrap();
    let again = format!(r#"{{"ids": [42], "payload": "{{}}", "overwrite": true, "cursor": "{next}"}}"#);
    post(retry, &again, 200);
    let retried = daemon.world.retried.lock().unwrap().clone();
    assert_eq!((retried[0].0.filter.reason.as_deref(), retried[0].1.dry_run), (Some("wrong_type"), true));
    assert_eq!((retried[1].0.cursor, retried[1].0.peer.as_str()), (Some(41), "127.0.0.1"));
    assert_eq!((retried[1].1.payload.as_deref(), retried[1].1.overwrite), (Some(&b"{}"[..]), true));
    assert_eq!(retried[1].0.asked, serde_json::json!({ "ids": [42], "overwrite": true, "edited": true }));

    assert_eq!(post(drop_letters, r#"{"ids": [42, 43]}"#, 200)["dropped"], 2);
    assert_eq!(daemon.world.dropped.lock().unwrap()[0].filter.ids, [42, 43]);
    for path in [retry, drop_letters] {
        post(path, "{}", 400);
        post(path, r#"{"ids": [1], "all": true}"#, 400);
    }
    daemon.world.away.store(true, std::sync::atomic::Ordering::Relaxed);
    post(retry, r#"{"ids": [42]}"#, 503);
}

#[test]
fn too_many_changes_are_refused_and_say_when_to_ask_again() {
    let document = document();
    let daemon = daemon_with(Access { token: Some(Secret::new(TOKEN)), ..Access::default() }, table());
    let path = "/api/v1/dead-letters/drop";
    let answers: Vec<Answer> = (0..21).map(|_| daemon.post(path, TOKEN, r#"{"ids": [1]}"#)).collect();
    let last = answers.last().unwrap();
    assert_eq!((answers[19].status, last.status), (200, 429));
    assert!(last.header("retry-after").parse::<u64>().unwrap() > 30);
    must_fit(&document, path, &document["paths"][path]["post"], last);
}

#[test]
fn every_event_is_as_its_schema_says() {
    let daemon = daemon();
    let mut reader = daemon.open_events();
    let mut seen = BTreeSet::new();
    next_line(&mut reader, "retry:");
    while seen.len() < 3 {
        super::events_tests::happen(&daemon);
        assert!(next_line(&mut reader, "id: ").starts_with("id: "));
        let kind = next_line(&mut reader, "event: ")["event: ".len()..].trim().to_owned();
        let data: Value = serde_json::from_str(&next_line(&mut reader, "data: ")["data: ".len()..]).unwrap();
        let name = kind[..1].to_uppercase() + &kind[1..];
        Check::must_fit(&name, &data);
        seen.insert(kind);
    }
    assert_eq!(seen, BTreeSet::from(["documents", "records", "status"].map(str::to_owned)));
}

#[test]
fn an_answer_that_is_not_as_its_schema_says_is_found() {
    let document = document();
    let letter =
        document["paths"]["/api/v1/dead-letters"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
            ["letters"][0]
            .clone();
    let schema = &document["components"]["schemas"]["Letter"];
    assert_eq!(Check::wrong(&document, schema, &letter), Vec::<String>::new());
    for (field, value) in [
        ("offset", Value::from("7")),
        ("reason", "unheard_of".into()),
        ("stored_at", "2026-01-31 14:00".into()),
        ("colour", "red".into()),
    ] {
        let mut wrong = letter.clone();
        wrong[field] = value;
        assert_eq!(Check::wrong(&document, schema, &wrong).len(), 1, "{field}");
    }
    let mut short = letter;
    short.as_object_mut().unwrap().remove("id");
    assert_eq!(Check::wrong(&document, schema, &short), ["it: has no id"]);
}

/// Pages of a list, one behind the other, are the list.
fn pages(daemon: &Daemon, path: &str, of: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = daemon.get(&format!("{path}{cursor}")).json();
        all.extend(answer[of].as_array().unwrap().iter().cloned());
        match answer["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[test]
fn a_list_can_be_paged_through_to_its_end() {
    let daemon = daemon();
    let documents = pages(&daemon, "/api/v1/aggregates/sums?limit=3", "documents");
    assert_eq!(documents.len() as i64, 2 * sources_for_tests::HOURS);
    let of_one_shop = pages(&daemon, "/api/v1/aggregates/sums?limit=5&key.SHOP=south&key.aisle=3", "documents");
    assert_eq!(of_one_shop.len() as i64, sources_for_tests::HOURS);
    assert!(of_one_shop.is_sorted_by_key(|document| document["bucket_start"].as_str().unwrap().to_owned()));
    let letters = pages(&daemon, "/api/v1/dead-letters?limit=100", "letters");
    let ids: Vec<i64> = letters.iter().map(|letter| letter["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=sources_for_tests::LETTERS).rev().collect::<Vec<_>>());
}

#[test]
fn an_unchanged_answer_is_not_sent_again_and_a_large_one_is_compressed() {
    let daemon = daemon();
    let host = daemon.address;
    for path in ["/api/v1/aggregates", "/api/v1/aggregates/sums", "/api/v1/panels", "/api/v1/openapi.json"] {
        let first = daemon.get(path);
        let tag = first.header("etag");
        assert!(tag.starts_with("W/\"") && first.header("cache-control").contains("no-cache"), "{path}");
        let again = daemon.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let packed = daemon.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n"));
        assert_eq!((packed.header("content-encoding"), packed.header("etag")), ("gzip", tag), "{path}");
    }
}

#[test]
fn many_who_ask_for_the_newest_rows_at_once_are_one_question_to_the_warehouse() {
    let daemon = daemon();
    for _ in 0..3 {
        let rows = daemon.get("/api/v1/rows/SALE?limit=2").json();
        assert_eq!(rows["rows"][0], serde_json::json!({ "number": 1, "note": "<b>" }));
    }
    assert!(daemon.world.rows_asked.load(std::sync::atomic::Ordering::Relaxed) < 3);
}

#[test]
fn many_who_ask_for_all_groups_of_letters_at_once_are_one_question_to_the_warehouse_until_a_change() {
    let daemon = daemon_with(Access { token: Some(Secret::new(TOKEN)), ..Access::default() }, table());
    let asked = || daemon.world.groups_asked.load(std::sync::atomic::Ordering::Relaxed);
    let (host, path) = (daemon.address, "/api/v1/dead-letters/groups");
    let groups = |query: &str| {
        let head = format!("GET {path}{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n");
        let answer = daemon.send(&head);
        assert_eq!((answer.status, &answer.json()["groups"][0]["letters"]), (200, &167.into()));
    };
    for _ in 0..4 {
        groups("");
    }
    let before = asked();
    assert!(before < 4);
    daemon.post("/api/v1/dead-letters/drop", TOKEN, r#"{"ids": [1]}"#);
    groups("");
    assert_eq!(asked(), before + 1);
    // A part of them is asked for by few.
    groups("?topic=orders.v1");
    groups("?topic=orders.v1");
    assert_eq!(asked(), before + 3);
}
