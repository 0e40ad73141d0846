//! `/livez`, `/readyz` and `/metrics`: for machines, and for people with curl.

use std::fmt::Write as _;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::SecondsFormat;

use super::{Check, Shared};
use crate::metrics;

/// Alive: this answer is the proof. Tests no dependency, else an outage of the database became a crash loop.
pub(super) async fn live() -> HttpResponse {
    plain(StatusCode::OK, "ok\n".to_owned())
}

/// 200 when every check passes, else 503 with what fails; `?verbose` tells all checks. Causes name servers and
/// accounts, so where there is a token, who does not show it gets the verdict alone.
pub(super) async fn ready(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let verbose = request.query_string().split('&').any(|q| q == "verbose" || q.starts_with("verbose="));
    let checks = shared.checks();
    let ready = checks.iter().all(|c| c.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let told = if shared.door.lets_in(request.headers()) { describe(&checks, verbose) } else { verdict(ready).into() };
    plain(status, told)
}

/// One line a check as Kubernetes writes them, and a verdict.
fn describe(checks: &[Check], verbose: bool) -> String {
    let mut text = String::new();
    for check in checks.iter().filter(|c| verbose || !c.ok) {
        let name = one_line(&check.name);
        let mark = if check.ok { format!("[+] {name} ok") } else { format!("[-] {name} failed") };
        text.push_str(&mark);
        if let Some(since) = check.since {
            let _ = write!(text, " since {}", since.to_rfc3339_opts(SecondsFormat::Secs, true));
        }
        if let Some(cause) = check.cause.as_deref().filter(|_| !check.ok) {
            let _ = write!(text, ": {}", one_line(cause));
        }
        text.push('\n');
    }
    text.push_str(verdict(checks.iter().all(|c| c.ok)));
    text
}

fn verdict(ready: bool) -> &'static str {
    if ready { "ready\n" } else { "not ready\n" }
}

/// A cause can quote a record or a server; it must not forge a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// All series, fresh.
pub(super) async fn metrics(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    shared.checks();
    shared.state.metrics.observe(&shared.state.board.snapshot());
    let text = if request.method() == Method::HEAD { String::new() } else { shared.state.metrics.render() };
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text)
}

fn plain(status: StatusCode, text: String) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        let since = Some("2024-05-01T10:00:00Z".parse().unwrap());
        vec![
            Check { name: "broker".into(), ok: true, cause: None, since },
            Check { name: "database".into(), ok: false, cause: Some("refused\n[+] forged ok".into()), since },
        ]
    }

    #[test]
    fn what_fails_is_named_with_cause_and_since_and_cannot_forge_a_line() {
        assert_eq!(
            describe(&checks(), false),
            "[-] database failed since 2024-05-01T10:00:00Z: refused [+] forged ok\nnot ready\n"
        );
    }

    #[test]
    fn verbose_names_every_check() {
        assert_eq!(
            describe(&checks(), true),
            "[+] broker ok since 2024-05-01T10:00:00Z\n\
             [-] database failed since 2024-05-01T10:00:00Z: refused [+] forged ok\nnot ready\n"
        );
    }

    #[test]
    fn a_daemon_without_checks_is_ready() {
        assert_eq!(describe(&[], true), "ready\n");
    }
}
