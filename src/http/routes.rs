//! The one table of what is served: the server is built from it, the guard judges by it, and the tests go through it.
//! A path that is not in it is treated like one that needs the token.

use actix_web::http::Method;
use actix_web::{Route, web};

use super::{aggregates, changes, contract, events, forecasts, health, letters, page, rows, status, tap};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: it tells nothing of the data, so that probes and the page's own files come without a token.
    Nothing,
    /// The token, where there is one.
    Token,
    /// The token, unless `metrics_auth` is `"none"`.
    MetricsToken,
}

/// What asking does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// GET and HEAD; nothing is changed and no body is taken.
    Reads,
    /// POST with a bounded JSON body, from our own page or a program, never from another site.
    Changes,
}

#[derive(Clone)]
pub(super) struct Served {
    /// As actix-web writes patterns.
    pub path: &'static str,
    pub needs: Needs,
    pub does: Does,
    pub handler: fn() -> Route,
}

impl Does {
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Does::Reads => *method == Method::GET || *method == Method::HEAD,
            Does::Changes => *method == Method::POST,
        }
    }

    /// As in an Allow header.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Does::Reads => "GET, HEAD",
            Does::Changes => "POST",
        }
    }
}

const fn reads(path: &'static str, needs: Needs, handler: fn() -> Route) -> Served {
    Served { path, needs, does: Does::Reads, handler }
}

const fn changes(path: &'static str, handler: fn() -> Route) -> Served {
    Served { path, needs: Needs::Token, does: Does::Changes, handler }
}

/// All that is served. Of two patterns that fit a path the first serves it.
pub(super) fn table() -> Vec<Served> {
    vec![
        reads("/", Needs::Nothing, || web::to(page::index)),
        reads("/static/{name}", Needs::Nothing, || web::to(page::asset)),
        reads("/livez", Needs::Nothing, || web::to(health::live)),
        reads("/healthz", Needs::Nothing, || web::to(health::live)),
        reads("/readyz", Needs::Nothing, || web::to(health::ready)),
        reads("/status", Needs::Token, || web::to(status::status)),
        reads("/events", Needs::Token, || web::to(events::events)),
        reads("/api/v1/openapi.json", Needs::Nothing, || web::to(contract::openapi)),
        reads("/api/v1/status", Needs::Token, || web::to(status::status)),
        reads("/api/v1/aggregates", Needs::Token, || web::to(aggregates::list)),
        reads("/api/v1/aggregates/{name}", Needs::Token, || web::to(aggregates::documents)),
        reads("/api/v1/forecasts", Needs::Token, || web::to(forecasts::list)),
        reads("/api/v1/forecasts/{name}/documents", Needs::Token, || web::to(forecasts::documents)),
        reads("/api/v1/comparison", Needs::Token, || web::to(forecasts::comparison)),
        reads("/api/v1/models", Needs::Token, || web::to(forecasts::models)),
        reads("/api/v1/panels", Needs::Token, || web::to(aggregates::panels)),
        reads("/api/v1/rows/{table}", Needs::Token, || web::to(rows::newest)),
        reads("/api/v1/dead-letters", Needs::Token, || web::to(letters::list)),
        reads("/api/v1/dead-letters/groups", Needs::Token, || web::to(letters::groups)),
        changes("/api/v1/dead-letters/retry", || web::to(changes::retry)),
        changes("/api/v1/dead-letters/drop", || web::to(changes::drop_letters)),
        reads("/api/v1/dead-letters/{id}", Needs::Token, || web::to(letters::one)),
        reads("/api/v1/audit", Needs::Token, || web::to(letters::audit)),
        reads("/api/v1/tap", Needs::Token, || web::to(tap::tap)),
        reads("/metrics", Needs::MetricsToken, || web::to(health::metrics)),
    ]
}
