//! Refusals as RFC 9457 problem documents. Must never repeat any part of the request.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

/// A problem document; `detail` says what the client can do.
pub(super) fn problem(status: StatusCode, detail: &str) -> HttpResponse {
    HttpResponse::build(status).content_type("application/problem+json").body(
        serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Refused"),
            "status": status.as_u16(),
            "detail": detail,
        })
        .to_string(),
    )
}

pub(super) async fn not_found() -> HttpResponse {
    problem(StatusCode::NOT_FOUND, "There is nothing here. /api/v1/openapi.json says what there is; / is the page.")
}
