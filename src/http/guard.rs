//! What every request passes and every answer carries. A page elsewhere on the web can make a browser send requests
//! to 127.0.0.1 under a name of its own (DNS rebinding), so the Host header must be one of ours, and what a browser
//! says comes from another site is refused, but for following a link. Where there is a token it must be shown; where
//! there is none, nothing can be changed. A path has one spelling: another is refused, not judged. A route that only
//! reads takes GET and HEAD and no body. What is not in the table of routes needs the token.

use std::net::{IpAddr, SocketAddr};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::Shared;
use super::problem::problem;
use super::routes::{Does, Needs, Served};

/// Everything from here and nothing from elsewhere; no inline script or style, no framing, no form, and no string
/// ever becomes markup or code.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'";

/// Bytes of a request's path and query; the longest of ours has 16.
const MAX_URI_BYTES: usize = 2048;

/// Bytes of the body of a request that changes something.
const MAX_BODY_BYTES: u64 = 64 << 10;

/// The Host headers that are ours.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Lower case, with their port.
    exact: Vec<String>,
    /// Listening on every address: then a numeric address and localhost are ours with any port, since ports are
    /// mapped and probes come by address; rebinding needs a name, so a number is no danger.
    any_address: bool,
}

impl Hosts {
    /// `allowed` are `name` (with the listening port, or none) or `name:port`.
    pub(super) fn new(listening: SocketAddr, allowed: &[String]) -> Self {
        let port = listening.port();
        let mut exact = vec![listening.to_string()];
        let loopback = ["localhost", "127.0.0.1", "[::1]"];
        for name in loopback.into_iter().chain(allowed.iter().map(String::as_str)) {
            let name = name.trim().to_ascii_lowercase();
            if split_port(&name).1.is_some() {
                exact.push(name);
                continue;
            }
            exact.push(format!("{name}:{port}"));
            // Browsers leave the default port out, and so does a proxy in front that has it.
            if port == 80 || !loopback.contains(&name.as_str()) {
                exact.push(name);
            }
        }
        Self { exact, any_address: listening.ip().is_unspecified() }
    }

    /// A page of this origin is ours. A numeric address of another port may be someone else's page.
    fn made_page(&self, origin: &str, host: &str) -> bool {
        let Some((_, authority)) = origin.split_once("://") else { return false };
        authority.eq_ignore_ascii_case(host) || self.exact.contains(&authority.to_ascii_lowercase())
    }

    fn are_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        if self.exact.contains(&host) {
            return true;
        }
        let name = split_port(&host).0;
        let number = name.trim_start_matches('[').trim_end_matches(']');
        self.any_address && (name == "localhost" || number.parse::<IpAddr>().is_ok())
    }
}

/// `[::1]:80` and `name:80` into name and port; the port is `None` where there is none.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// Lets a request through or answers it with a problem.
pub(super) async fn refuse_strangers(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let refused = match request.app_data::<web::Data<Shared>>() {
        Some(shared) => {
            let pattern = request.match_pattern();
            let route = pattern.and_then(|pattern| shared.routes.iter().find(|route| route.path == pattern));
            refusal(shared, route, request.method(), request.uri(), request.headers())
        }
        None => Some(problem(StatusCode::INTERNAL_SERVER_ERROR, "The daemon is not set up; report it.")),
    };
    match refused {
        Some(answer) => Ok(request.into_response(answer).map_into_right_body()),
        None => Ok(next.call(request).await?.map_into_left_body()),
    }
}

/// Why a request is refused, in this order: name, path, origin, token (no change without one), method, size. Who may
/// not ask learns no more.
fn refusal(
    shared: &Shared,
    route: Option<&Served>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<HttpResponse> {
    let hosts = &shared.hosts;
    let mut named = headers.get_all(header::HOST);
    let (host, second) = (named.next().and_then(|h| h.to_str().ok()), named.next());
    // An absolute request target names the host too, and wins over the header.
    let target_is_ours = uri.authority().is_none_or(|authority| hosts.are_ours(authority.as_str()));
    let Some(host) = host.filter(|host| second.is_none() && target_is_ours && hosts.are_ours(host)) else {
        return Some(problem(
            StatusCode::MISDIRECTED_REQUEST,
            "The Host header names no address of this daemon. Ask by the address it listens on, or add the name to \
             allowed_hosts in the configuration's [daemon] section.",
        ));
    };
    if is_disguised(uri.path()) {
        return Some(problem(
            StatusCode::BAD_REQUEST,
            "The path encodes a letter, digit, '-', '.', '_' or '~' as %XX. Write it as it is.",
        ));
    }
    let (needs, does) = route.map_or((Needs::Token, Does::Reads), |route| (route.needs, route.does));
    if is_from_elsewhere(hosts, host, does, headers) {
        return Some(problem(
            StatusCode::FORBIDDEN,
            "This came from a page of another site. Open this daemon's own page, or ask with a program.",
        ));
    }
    if does == Does::Changes && !shared.door.has_token() {
        return Some(problem(
            StatusCode::FORBIDDEN,
            "Changing anything needs a token, and this daemon has none. Write token = \"${BIEF_TOKEN}\" in the \
             configuration's [daemon] section, set that variable and start it again.",
        ));
    }
    let open = needs == Needs::Nothing || (needs == Needs::MetricsToken && shared.door.open_metrics);
    if !open && !shared.door.lets_in(headers) {
        let mut answer = problem(
            StatusCode::UNAUTHORIZED,
            "The token of the configuration's [daemon] section is needed, as the header Authorization: Bearer TOKEN.",
        );
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"bief\""));
        return Some(answer);
    }
    if !does.takes(method) {
        let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "Use one of the methods in the Allow header.");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(does.methods()));
        return Some(answer);
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_URI_BYTES) {
        return Some(problem(StatusCode::URI_TOO_LONG, "The path and query are longer than 2048 bytes."));
    }
    match does {
        Does::Reads => has_body(headers).then(|| problem(StatusCode::PAYLOAD_TOO_LARGE, "Requests have no body here.")),
        Does::Changes => unfit_body(headers),
    }
}

/// A browser says that another site's page sent this. Programs send neither header. Other ports of a host are the
/// same site but another's pages, so they are strangers too; a link may be followed from anywhere, since that shows
/// the answer to nobody but the reader.
fn is_from_elsewhere(hosts: &Hosts, host: &str, does: Does, headers: &HeaderMap) -> bool {
    let value = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    if value(header::ORIGIN).is_some_and(|origin| !hosts.made_page(origin, host)) {
        return true;
    }
    let follows_link = value(HeaderName::from_static("sec-fetch-mode")) == Some("navigate")
        && value(HeaderName::from_static("sec-fetch-dest")) == Some("document");
    match value(HeaderName::from_static("sec-fetch-site")) {
        None | Some("same-origin") => false,
        // Typed by the reader, or a bookmark.
        Some("none") => does == Does::Changes,
        Some(_) => does == Does::Changes || !follows_link,
    }
}

/// Whether a path encodes what needs no encoding (RFC 3986, 2.3). Routes are found by the path as it is decoded, but
/// looked up here as it was sent: two spellings of one path must not be judged apart.
fn is_disguised(path: &str) -> bool {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').any(|(at, _)| {
        let (Some(high), Some(low)) = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) else { return false };
        char::from_u32(high * 16 + low).is_some_and(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
    })
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING)
}

/// A change comes as JSON, which no form of another site can send, and with its length, which is bounded.
fn unfit_body(headers: &HeaderMap) -> Option<HttpResponse> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_none_or(|length| length > MAX_BODY_BYTES) {
        return Some(problem(StatusCode::PAYLOAD_TOO_LARGE, "A body of at most 65536 bytes with its Content-Length."));
    }
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|v| v == "application/json");
    (!json).then(|| problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json."))
}

/// Adds what every answer carries; an answer's own Cache-Control stays.
pub(super) async fn add_security_headers(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = next.call(request).await?;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listening: &str, allowed: &[&str]) -> Hosts {
        Hosts::new(listening.parse().unwrap(), &allowed.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn on_a_loopback_address_only_loopback_names_with_the_port_are_ours() {
        let hosts = hosts("127.0.0.1:8080", &[]);
        for ours in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080"] {
            assert!(hosts.are_ours(ours), "{ours}");
        }
        for strange in [
            "evil.example",
            "evil.example:8080",
            "localhost",
            "localhost:80",
            "localhost:8080.evil.example",
            "10.0.0.1:8080",
            "",
        ] {
            assert!(!hosts.are_ours(strange), "{strange}");
        }
    }

    #[test]
    fn an_allowed_name_is_ours_without_a_port_and_with_the_listening_one() {
        let hosts = hosts("127.0.0.1:8080", &["bief.example", "other.example:9000"]);
        for ours in ["bief.example", "bief.example:8080", "other.example:9000"] {
            assert!(hosts.are_ours(ours), "{ours}");
        }
        for strange in ["bief.example:81", "other.example", "other.example:8080", "a.bief.example"] {
            assert!(!hosts.are_ours(strange), "{strange}");
        }
    }

    #[test]
    fn listening_everywhere_numbers_are_ours_and_names_are_not() {
        let hosts = hosts("0.0.0.0:8080", &[]);
        for ours in ["10.1.2.3:8080", "127.0.0.1:8081", "[fd00::1]:8080", "localhost:8081", "10.1.2.3"] {
            assert!(hosts.are_ours(ours), "{ours}");
        }
        for strange in ["evil.example:8080", "10.1.2.3.evil.example:8080", "2130706433:8080", "0x7f.1:8080"] {
            assert!(!hosts.are_ours(strange), "{strange}");
        }
    }
}
