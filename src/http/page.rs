//! The page and what it is made of, embedded in the binary: no build step, nothing from elsewhere.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

use super::problem::{not_found, problem};

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    etag: String,
}

/// The embedded files with their tags.
pub(super) struct Assets(Vec<Asset>);

impl Assets {
    pub(super) fn new() -> Self {
        let files: [(&str, &str, &[u8]); 4] = [
            ("index.html", "text/html; charset=utf-8", include_bytes!("../../web/index.html")),
            ("app.js", "text/javascript; charset=utf-8", include_bytes!("../../web/app.js")),
            ("style.css", "text/css; charset=utf-8", include_bytes!("../../web/style.css")),
            ("icon.svg", "image/svg+xml", include_bytes!("../../web/icon.svg")),
        ];
        Self(
            files
                .into_iter()
                .map(|(name, content_type, bytes)| Asset {
                    name,
                    content_type,
                    bytes,
                    etag: format!("\"{:x}\"", Sha256::digest(bytes)),
                })
                .collect(),
        )
    }

    async fn answer(&self, request: &HttpRequest, name: &str) -> HttpResponse {
        let Some(asset) = self.0.iter().find(|a| a.name == name) else { return not_found().await };
        let Ok(etag) = HeaderValue::from_str(&asset.etag) else {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "This file has no tag; report it.");
        };
        let known =
            request.headers().get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes().ends_with(etag.as_bytes()));
        let mut answer = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
        // Asked again at every load, so that a new daemon never meets an old page.
        answer.insert_header((header::CACHE_CONTROL, "no-cache")).insert_header((header::ETAG, etag));
        if known { answer.finish() } else { answer.content_type(asset.content_type).body(asset.bytes) }
    }
}

pub(super) async fn index(request: HttpRequest, assets: web::Data<Assets>) -> HttpResponse {
    assets.answer(&request, "index.html").await
}

pub(super) async fn asset(request: HttpRequest, name: web::Path<String>, assets: web::Data<Assets>) -> HttpResponse {
    assets.answer(&request, &name).await
}

#[cfg(test)]
mod tests {
    const SCRIPT: &str = include_str!("../../web/app.js");
    const PAGE: &str = include_str!("../../web/index.html");
    const STYLE: &str = include_str!("../../web/style.css");

    /// Ways by which text becomes markup, code or an address.
    const SINKS: [&str; 24] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "createContextualFragment",
        "DOMParser",
        "setHTML",
        "srcdoc",
        "eval(",
        "Function(",
        "import(",
        "javascript:",
        "setTimeout(\"",
        "setTimeout(`",
        "setInterval(\"",
        ".href",
        ".src",
        ".action",
        "location",
        "window.open",
        "postMessage",
        "\"on",
        "localStorage",
        "document.cookie",
    ];

    #[test]
    fn the_script_writes_what_came_from_elsewhere_as_text_alone() {
        for sink in SINKS {
            assert!(!SCRIPT.contains(sink), "web/app.js has {sink}: write text with textContent");
        }
        // The one way attributes are set takes names that are written out.
        for (at, _) in SCRIPT.match_indices("setAttribute(") {
            assert!(SCRIPT[at..].starts_with("setAttribute(\""), "an attribute's name comes from elsewhere");
        }
        for (at, _) in SCRIPT.match_indices("fetch(") {
            assert!(SCRIPT[at..].starts_with("fetch(path,"), "requests go through request()");
        }
        for (at, _) in SCRIPT.match_indices("request(") {
            let own = SCRIPT[at..].starts_with("request(\"/") || SCRIPT[at..].starts_with("request(path,");
            assert!(own, "a request goes to a path that is written out");
        }
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        let page = PAGE.to_ascii_lowercase();
        for forbidden in
            [" style=", "<style", "javascript:", "http:", "https:", "<iframe", "<base", " action=", " srcdoc"]
        {
            assert!(!page.contains(forbidden), "web/index.html has {forbidden}");
        }
        for (at, _) in page.match_indices("<script") {
            assert!(page[at..].starts_with("<script src=\"/static/"), "an inline script");
        }
        // An attribute such as onclick.
        let handlers = page.split_ascii_whitespace().filter(|word| word.starts_with("on") && word.contains('='));
        assert_eq!(handlers.count(), 0);
        assert!(!STYLE.contains("@import") && !STYLE.contains("url("), "the style loads nothing");
    }
}
