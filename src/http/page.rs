//! The page and what it is made of, embedded in the binary: no build step, nothing from elsewhere.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

use super::problem::{not_found, problem};

/// What lies in `web/`, by name.
macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("../../web/", $name)) as &[u8])),*] };
}

/// All that is served under `/static/`, and the page itself. A test fails when a file of `web/` is missing here.
static FILES: &[(&str, &[u8])] = &files! {
    "index.html"
    "api.js"
    "app.js"
    "bottleneck.js"
    "chart.js"
    "comparison.js"
    "comparison_data.js"
    "connection.js"
    "csv.js"
    "documents.js"
    "dom.js"
    "download.js"
    "explore.css"
    "explore.js"
    "explore_chart.js"
    "explore_state.js"
    "feed.js"
    "format.js"
    "graph.js"
    "graph_layout.js"
    "icon.svg"
    "ledger.js"
    "letter.js"
    "letter_actions.js"
    "letters.css"
    "letters.js"
    "live.css"
    "live.js"
    "matching.js"
    "metrics_text.js"
    "model_errors.js"
    "model_versions.js"
    "models.css"
    "models.js"
    "models_data.js"
    "models_later.js"
    "numbers_table.js"
    "palette.js"
    "panel_kinds.js"
    "panels.js"
    "payload.js"
    "pending.js"
    "pipeline.css"
    "pipeline.js"
    "reasons.js"
    "ring.js"
    "rows.js"
    "sse.js"
    "store.js"
    "style.css"
    "theme.js"
    "uplot.css"
    "uplot.js"
    "view.js"
};

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
        let asset = |&(name, bytes): &(&'static str, &'static [u8])| Asset {
            name,
            content_type: content_type(name),
            bytes,
            etag: format!("\"{:x}\"", Sha256::digest(bytes)),
        };
        Self(FILES.iter().map(asset).collect())
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

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
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
    use std::io::Write;
    use std::path::Path;

    use super::FILES;

    const PAGE: &str = include_str!("../../web/index.html");

    /// What a first load may weigh, compressed.
    const MAX_GZIP_BYTES: usize = 150 << 10;

    /// Scripts that are fetched when their tab is first opened.
    const LATER: [&str; 6] =
        ["comparison.js", "comparison_data.js", "model_errors.js", "model_versions.js", "models.js", "models_data.js"];

    /// Ways by which text becomes markup, code or an address, and the one file that may use it, if any.
    const SINKS: [(&str, &str); 26] = [
        ("innerHTML", ""),
        ("outerHTML", ""),
        ("insertAdjacentHTML", ""),
        ("document.write", ""),
        ("createContextualFragment", ""),
        ("DOMParser", ""),
        ("setHTML", ""),
        ("srcdoc", ""),
        ("eval(", ""),
        ("Function(", ""),
        // One of our own, when it is wanted.
        ("import(", "models_later.js"),
        ("javascript:", ""),
        ("setTimeout(\"", ""),
        ("setTimeout(`", ""),
        ("setInterval(\"", ""),
        (".href", ""),
        (".src", ""),
        (".action =", ""),
        // The view is kept in the address, behind its #.
        ("location", "view.js"),
        ("window.open", ""),
        ("postMessage", ""),
        ("\"on", ""),
        // Dark or light.
        ("localStorage", "theme.js"),
        ("document.cookie", ""),
        // Where a chart's readout stands.
        (".style.", "chart.js"),
        ("fetch(", "api.js"),
    ];

    /// Our own scripts with their names; uPlot is looked at by itself.
    fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = FILES.iter().copied().filter(|(name, _)| name.ends_with(".js") && *name != "uplot.js");
        own.map(|(name, bytes)| (name, std::str::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn the_scripts_write_what_came_from_elsewhere_as_text_alone() {
        for (name, script) in scripts() {
            for (sink, allowed) in SINKS {
                assert!(
                    name == allowed || !script.contains(sink),
                    "web/{name} has {sink}: write text with textContent"
                );
            }
            for (at, _) in script.match_indices("setAttribute(") {
                let rest = &script[at + "setAttribute(".len()..];
                // Names are written out, but for those of a closed list of numbers that place a shape.
                let is_place = name == "dom.js" && rest.starts_with("attribute, text)");
                assert!(rest.starts_with('"') || is_place, "web/{name}: an attribute's name comes from elsewhere");
                let is_address = rest.starts_with("\"href\"") || rest.starts_with("\"src\"");
                let may_link = ["panels.js", "download.js"].contains(&name);
                assert!(!is_address || may_link, "web/{name}: an address is set from elsewhere");
            }
            for (at, _) in script.match_indices("import(") {
                assert!(script[at..].starts_with("import(\"./"), "web/{name}: what is imported is not written out");
            }
            for (at, _) in script.match_indices("fetch(") {
                assert!(script[at..].starts_with("fetch(path,"), "requests go through request()");
            }
            for (at, _) in script.match_indices("request(") {
                let rest = &script[at..];
                let is_own = ["request(\"/", "request(path", "request({ "].iter().any(|own| rest.starts_with(own));
                assert!(is_own, "web/{name}: a request goes to a path that is written out");
            }
        }
        let (_, plot) = FILES.iter().copied().find(|(name, _)| *name == "uplot.js").unwrap();
        let plot = std::str::from_utf8(plot).unwrap();
        for sink in ["innerHTML", "outerHTML", "eval(", "Function(", "import(", "fetch(", "XMLHttpRequest"] {
            assert!(!plot.contains(sink), "uPlot has {sink}");
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
        for (name, bytes) in FILES.iter().copied().filter(|(name, _)| name.ends_with(".css")) {
            let style = std::str::from_utf8(bytes).unwrap();
            assert!(!style.contains("@import") && !style.contains("url("), "web/{name} loads something");
        }
    }

    #[test]
    fn every_file_of_the_page_is_embedded_and_asked_for_in_time() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_served = [".js", ".css", ".svg", ".html"].iter().any(|end| name.ends_with(end));
            assert!(!is_served || FILES.iter().any(|(known, _)| *known == name), "web/{name} is not in FILES");
        }
        // A script that only another script names would cost a round trip more; what can wait must not be asked for.
        for (name, _) in FILES.iter().copied().filter(|(name, _)| *name != "index.html") {
            let is_named = PAGE.contains(&format!("\"/static/{name}\""));
            assert_eq!(is_named, !LATER.contains(&name), "web/index.html names {name}, or does not");
        }
    }

    #[test]
    fn a_first_load_is_light() {
        let packed = FILES.iter().copied().filter(|(name, _)| !LATER.contains(name)).map(|(_, bytes)| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap().len()
        });
        let sum: usize = packed.sum();
        assert!(sum < MAX_GZIP_BYTES, "{sum} bytes compressed, at most {MAX_GZIP_BYTES}");
    }
}
