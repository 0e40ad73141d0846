//! The one table of what is served: the server is built from it, the guard judges by it, and the tests go through it.
//! A path that is not in it is treated like one that needs the token.

use actix_web::http::Method;
use actix_web::{Route, web};

use super::{events, health, page, status, tap};

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
    /// POST with a bounded JSON body, from our own page or a program, never from another site. None does yet.
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

/// All that is served.
pub(super) fn table() -> Vec<Served> {
    vec![
        reads("/", Needs::Nothing, || web::to(page::index)),
        reads("/static/{name}", Needs::Nothing, || web::to(page::asset)),
        reads("/livez", Needs::Nothing, || web::to(health::live)),
        reads("/healthz", Needs::Nothing, || web::to(health::live)),
        reads("/readyz", Needs::Nothing, || web::to(health::ready)),
        reads("/status", Needs::Token, || web::to(status::status)),
        reads("/events", Needs::Token, || web::to(events::events)),
        reads("/api/v1/tap", Needs::Token, || web::to(tap::tap)),
        reads("/metrics", Needs::MetricsToken, || web::to(health::metrics)),
    ]
}
