//! `/api/v1/rows/{table}`: the newest rows of a table that a stream feeds. The one question of the page to the warehouse:
//! bounded, served by the primary key, on a connection of its own, and asked once a second whoever looks.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::Shared;
use super::answers::{Query, Refusal, bytes, json};
use super::problem::problem;
use crate::ports::NewestRows;

const SHOWN: usize = 20;
const MOST: usize = 200;
const NO_TABLE: &str = "No stream feeds such a table, or it has no primary key.";

pub(super) async fn newest(request: HttpRequest, table: web::Path<String>, shared: web::Data<Shared>) -> HttpResponse {
    match read(&request, &table, &shared).await {
        Ok(body) => json(body),
        Err(refused) => refused.into(),
    }
}

async fn read(request: &HttpRequest, table: &str, shared: &Shared) -> Result<Bytes, Refusal> {
    let limit = Query::of(request, &["limit"])?.limit(SHOWN, MOST)?;
    let missing = || problem(StatusCode::NOT_FOUND, NO_TABLE);
    let known = shared.state.tables.iter().find(|known| known.eq_ignore_ascii_case(table));
    let known = known.ok_or_else(missing)?.clone();
    let question = format!("{limit} {known}");
    if let Some(answer) = shared.recent_rows.get(&question) {
        return Ok(answer);
    }
    let asked = shared.desks.rows.ask(move |rows| {
        Box::pin(async move { Ok(rows.newest(&known, limit).await?.as_ref().map(|rows| bytes(&document(rows)))) })
    });
    let answer = asked.await.map_err(|unanswered| unanswered.answer())?.ok_or_else(missing)?;
    shared.recent_rows.keep(question, answer.clone());
    Ok(answer)
}

fn document(newest: &NewestRows) -> Value {
    let row = |values: &Vec<Value>| -> Map<String, Value> {
        newest.columns.iter().cloned().zip(values.iter().cloned()).collect()
    };
    let rows: Vec<Map<String, Value>> = newest.rows.iter().map(row).collect();
    json!({ "table": newest.table, "key": newest.key, "columns": newest.columns, "rows": rows })
}
