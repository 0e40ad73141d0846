//! A database's or cache's URL: checked, its references put in, its password found so that the rest can be shown.
//! Messages say what is wrong with a URL without repeating any of it.

use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use url::Url;

use super::cache::CacheBackend;
use super::reader::{Fault, Text};
use super::secrets::Part;
use super::source::{MASK, is_reference};

/// What the URL's scheme tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// MySQL or MariaDB.
    MySql,
    Sqlite,
}

/// A URL that was found sound.
pub(super) struct Target {
    pub backend: Backend,
    pub url: String,
    /// The server is this machine.
    pub local: bool,
}

/// A cache's URL that was found sound.
pub(super) struct CacheTarget {
    pub backend: CacheBackend,
    pub url: String,
}

/// The text with a digit, which fits everywhere in a URL, for each reference.
fn stand_ins(raw: &str) -> String {
    let (mut out, mut rest) = (String::new(), raw);
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        out.push('1');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// Checks a URL and resolves it; the file of a `sqlite://` one starts at `base`.
pub(super) fn check(text: &Text, base: &Path) -> Result<Target, Fault> {
    let Some(path) = text.value.strip_prefix("sqlite://") else { return mysql(&text.parts) };
    sqlite(path, "\"sqlite://var/bief.db\"")?;
    let url = format!("sqlite://{}", base.join(path).display());
    Ok(Target { backend: Backend::Sqlite, url, local: true })
}

/// The same for a cache's URL.
pub(super) fn check_cache(text: &Text, base: &Path) -> Result<CacheTarget, Fault> {
    let Some(path) = text.value.strip_prefix("sqlite://") else {
        return Ok(CacheTarget { backend: CacheBackend::MongoDb, url: mongodb(&text.parts)? });
    };
    sqlite(path, "\"sqlite://var/cache.db\"")?;
    let url = format!("sqlite://{}", base.join(path).display());
    Ok(CacheTarget { backend: CacheBackend::Sqlite, url })
}

/// There is no doubt which part of the URL, as written, is its password.
pub(super) fn is_clear(raw: &str) -> bool {
    match raw.strip_prefix("sqlite:") {
        Some(rest) => !rest.contains('?'),
        // A scheme, then user or password: else a slip may have made the password look like another part.
        None => raw.split_once("://").is_some_and(|(scheme, rest)| {
            // A path with `=` in it is options whose `?` was lost.
            let plain = |url: Url| url.query().is_none() && url.fragment().is_none() && !url.path().contains('=');
            let sound = Url::parse(&stand_ins(raw)).is_ok_and(plain);
            sound && rest.contains('@') && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        }),
    }
}

fn sqlite(path: &str, example: &str) -> Result<(), Fault> {
    if path.is_empty() {
        return Err(Fault::new("names no file", format!("write for example {example}")));
    }
    if path.contains(":memory:") {
        return Err(Fault::new(
            "is a database in memory, which each connection would have to itself",
            format!("write a file, such as {example}"),
        ));
    }
    if path.contains(['?', '#']) {
        return Err(Fault::new("has parameters, of which bief knows none", "write the file's path alone"));
    }
    Ok(())
}

/// Builds and checks a `mysql://` URL. What was put in for a reference within user and password is percent-encoded,
/// so that a password may hold any character.
fn mysql(parts: &[Part]) -> Result<Target, Fault> {
    const EXAMPLE: &str = "write for example \"mysql://bief:${BIEF_DB_PASSWORD}@host:3306/database\"";
    let url = join(parts);
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("mysql") => {}
        Some("mariadb") => {
            return Err(Fault::new("has the scheme `mariadb`", "write `mysql://`: MariaDB speaks the same protocol"));
        }
        Some(_) => return Err(Fault::new("is of a database that bief does not write to", EXAMPLE)),
        None if url.starts_with("sqlite:") => {
            return Err(Fault::new("lacks its slashes", "write for example \"sqlite://var/bief.db\""));
        }
        None => return Err(Fault::new("is no URL", EXAMPLE)),
    }
    let parsed = Url::parse(&url).map_err(|cause| {
        Fault::new(
            format!("is not a valid URL: {cause}"),
            "write special characters of user and password as %XX (`/` is %2F, `#` is %23, `@` is %40), or refer to `${NAME}`, which may hold any",
        )
    })?;
    let host = parsed.host_str().unwrap_or("");
    if host.is_empty() {
        return Err(Fault::new("names no host", EXAMPLE));
    }
    if parsed.port() == Some(0) {
        return Err(Fault::new("has port 0", EXAMPLE));
    }
    if parsed.username().is_empty() {
        return Err(Fault::new("names no user", EXAMPLE));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(Fault::new(
            "has something after `?` or `#`",
            "remove it: encryption is `tls` and `ca`; write a `?` or `#` of a password as %3F or %23",
        ));
    }
    let database = parsed.path().trim_start_matches('/');
    if database.is_empty() {
        return Err(Fault::new("names no database", EXAMPLE));
    }
    if database.contains('/') {
        return Err(Fault::new("has more than one name after the host", EXAMPLE));
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let local = host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback());
    Ok(Target { backend: Backend::MySql, url, local })
}

/// Builds and checks a `mongodb://` URL: hosts and a database. Its options are the client's matter, which knows them all.
fn mongodb(parts: &[Part]) -> Result<String, Fault> {
    const EXAMPLE: &str = "write for example \"mongodb://bief:${BIEF_CACHE_PASSWORD}@host:27017/database\"";
    let url = join(parts);
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(match url.starts_with("sqlite:") {
            true => Fault::new("lacks its slashes", "write for example \"sqlite://var/cache.db\""),
            false => Fault::new("is no URL", EXAMPLE),
        });
    };
    match scheme {
        "mongodb" => {}
        "mongodb+srv" => {
            return Err(Fault::new(
                "has its servers looked up in DNS, which bief does not do",
                "write them out: \"mongodb://host1,host2,host3/database?tls=true&replicaSet=NAME\"",
            ));
        }
        _ => return Err(Fault::new("is of a database that bief does not cache in", EXAMPLE)),
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(c, hosts)| (Some(c), hosts));
    let path = rest.split('?').next().unwrap_or("");
    if path.contains(['@', '#']) || credentials.is_some_and(|c| c.contains('@')) {
        return Err(Fault::new(
            "has an `@` or `#` behind its hosts, or two `@` before them",
            "write special characters of user and password as %XX (`/` is %2F, `#` is %23, `@` is %40, `?` is %3F), or refer to `${NAME}`, which may hold any",
        ));
    }
    let sound = |host: &str| {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, Some(port.strip_prefix(':').unwrap_or("none"))),
            None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
        };
        !name.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    if hosts.is_empty() {
        return Err(Fault::new("names no host", EXAMPLE));
    }
    if !hosts.split(',').all(sound) {
        return Err(Fault::new(
            "has a host that is none, or a port that is no number from 1 to 65535",
            "write host:27017, several with commas between",
        ));
    }
    if credentials.is_some_and(|c| c.is_empty() || c.starts_with(':')) {
        return Err(Fault::new("names no user before its `@`", EXAMPLE));
    }
    match path.trim_start_matches('/') {
        "" => Err(Fault::new("names no database", EXAMPLE)),
        database if database.contains('/') => Err(Fault::new("has more than one name after the hosts", EXAMPLE)),
        // Where the `?` before the options was lost, they must not be taken for a name that may be shown.
        database if !database.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') => Err(Fault::new(
            "names a database with other characters than letters, digits, `_` and `-`",
            "rename it, and write options behind a `?`",
        )),
        _ => Ok(url),
    }
}

/// The text of the parts, with references in user and password encoded.
fn join(parts: &[Part]) -> String {
    // The literal text with a stand-in for each reference tells where each of them falls.
    let template: String = parts
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.as_str(),
            Part::Secret { .. } => "\u{1}",
        })
        .collect();
    let credentials = template.find("://").and_then(|at| {
        let start = at + 3;
        let authority = template[start..].split(['/', '?', '#']).next().unwrap_or("");
        authority.rfind('@').map(|end| start..start + end)
    });
    let (mut url, mut at) = (String::new(), 0);
    for part in parts {
        match part {
            Part::Literal(text) => {
                url.push_str(text);
                at += text.len();
            }
            Part::Secret { value, .. } => {
                if credentials.as_ref().is_some_and(|range| range.contains(&at)) {
                    encode(value, &mut url);
                } else {
                    url.push_str(value);
                }
                at += 1;
            }
        }
    }
    url
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Where the literal password of a URL stands. All up to the last `@` may be the password's, whatever is in it;
/// without a colon, all of it may be.
pub(super) fn password(raw: &str) -> Option<Range<usize>> {
    let start = raw.find("://")? + 3;
    let end = start + raw[start..].rfind('@')?;
    let from = raw[start..end].find(':').map_or(start, |colon| start + colon + 1);
    (from < end && !is_reference(&raw[from..end])).then_some(from..end)
}

/// A URL as written, its literal password and its options replaced: an option may be a password too. Where options may
/// stand before the `?`, or an `@` among them, nothing is left.
pub(super) fn redacted(raw: &str) -> String {
    let mut shown = raw.to_owned();
    let (before, behind) = raw.split_at(raw.rfind('@').unwrap_or(0));
    if before.contains('?') || behind.split('?').next().is_some_and(|host| host.contains('=')) {
        return MASK.to_owned();
    }
    if let Some(at) = raw.rfind('?')
        && at > raw.rfind('@').unwrap_or(0)
    {
        shown.replace_range(at + 1.., MASK);
    }
    if let Some(range) = password(raw) {
        shown.replace_range(range, MASK);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secrets::substitute;

    fn target(url: &str) -> Result<Target, Fault> {
        let env = |name: &str| match name {
            "PW" => Some("a@b/c#d?e:f%g ü".to_owned()),
            "HOST" => Some("db.example".to_owned()),
            "URL" => Some("mysql://u:p%40@h:3307/d".to_owned()),
            _ => None,
        };
        mysql(&substitute(url, &env, Path::new("")).unwrap())
    }

    #[test]
    fn a_password_put_in_may_hold_any_character() {
        let url = target("mysql://bief:${PW}@${HOST}:3306/shop").unwrap().url;
        let parsed = Url::parse(&url).unwrap();
        assert_eq!(parsed.host_str(), Some("db.example"));
        assert_eq!(parsed.username(), "bief");
        assert_eq!(parsed.password(), Some("a%40b%2Fc%23d%3Fe%3Af%25g%20%C3%BC"));
        assert_eq!(parsed.path(), "/shop");
        assert_eq!(target("${URL}").unwrap().url, "mysql://u:p%40@h:3307/d");
    }

    #[test]
    fn only_hosts_of_this_machine_are_local() {
        for (host, local) in [("localhost", true), ("127.0.0.1:3306", true), ("[::1]", true), ("db", false)] {
            assert_eq!(target(&format!("mysql://u:p@{host}/d")).unwrap().local, local, "{host}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_content() {
        for (url, what) in [
            ("mysql://u:hun/ter2@h/d", "valid URL"),
            ("mysql://u:hunter2@/d", "URL"),
            ("mysql://h/d", "no user"),
            ("mysql://u:hunter2@h", "no database"),
            ("mysql://u:hunter2@h/d/e", "more than one"),
            ("mysql://u:hunter2@h/d?x=1", "after `?`"),
            ("postgres://u:hunter2@h/d", "does not write"),
            ("u:hunter2@h/d", "no URL"),
        ] {
            let fault = target(url).err().unwrap_or_else(|| panic!("{url} was accepted"));
            assert!(fault.what.contains(what), "{url}: {}", fault.what);
            assert!(!format!("{fault:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_url_whose_options_may_stand_elsewhere_is_not_clear() {
        for (url, clear) in [
            ("mysql://u:p@h/d", true),
            ("mongodb://u:p@h/d?authMechanismProperties=hunter2", false),
            ("mongodb://u:p@h/dauthMechanismProperties=hunter2", false),
            ("mongodb://h/d", false),
        ] {
            assert_eq!(is_clear(url), clear, "{url}");
        }
    }

    #[test]
    fn a_literal_password_is_redacted_and_a_reference_shown() {
        let show = redacted;
        assert_eq!(show("mysql://u:p@ss@h/d"), "mysql://u:***@h/d");
        assert_eq!(show("mysql://u:${PW}@h/d"), "mysql://u:${PW}@h/d");
        assert_eq!(show("mysql://u:x${PW}@h/d"), "mysql://u:***@h/d");
        assert_eq!(show("mysql://u@h/d"), "mysql://***@h/d");
        assert_eq!(show("mongodb://u:p@h/d?tls=true"), "mongodb://u:***@h/d?***");
        assert_eq!(show("mongodb://u:p@h/d?authMechanismProperties@hunter2"), "***");
        assert_eq!(show("mongodb://h/d?tlsCertificateKeyFilePassword=hunter2"), "mongodb://h/d?***");
        assert_eq!(show("mongodb://u:p@h/d?a@uth=hunter2"), "***");
    }

    fn cache(url: &str) -> Result<String, Fault> {
        let env = |name: &str| (name == "PW").then(|| "a@b/c".to_owned());
        mongodb(&substitute(url, &env, Path::new("")).unwrap())
    }

    #[test]
    fn a_cache_may_have_several_hosts_and_any_options() {
        for url in [
            "mongodb://mongo/bief",
            "mongodb://a:27017,b,[::1]:27018/bief?replicaSet=rs0&retryWrites=false",
            "mongodb://u@h/bief?authSource=admin",
            "mongodb://u:p%40@cluster.example.org/bief",
        ] {
            assert_eq!(cache(url).unwrap(), url);
        }
        assert_eq!(cache("mongodb://u:${PW}@h/d").unwrap(), "mongodb://u:a%40b%2Fc@h/d");
    }

    #[test]
    fn what_is_wrong_with_a_caches_url_is_said_without_its_content() {
        for (url, what) in [
            ("mongo://u:hunter2@h/d", "does not cache in"),
            ("mysql://u:hunter2@h/d", "does not cache in"),
            ("u:hunter2@h/d", "no URL"),
            ("mongodb://u:hunter2@h", "no database"),
            ("mongodb://u:hunter2@h/?tls=true", "no database"),
            ("mongodb://u:hunter2@/d", "no host"),
            ("mongodb://u:hunter2@h:port/d", "no number"),
            ("mongodb://u:hunter2@a,,b/d", "a host that is none"),
            ("mongodb://u:hun/ter2@h/d", "`@`"),
            ("mongodb://u:hun@ter2@h/d", "`@`"),
            ("mongodb://:hunter2@h/d", "no user"),
            ("mongodb+srv://u:hunter2@h/d", "looked up in DNS"),
            ("mongodb://u:hunter2@h/d/e", "more than one"),
            ("mongodb://h/dtlsCertificateKeyFilePassword=hunter2", "other characters"),
        ] {
            let fault = cache(url).err().unwrap_or_else(|| panic!("{url} was accepted"));
            assert!(fault.what.contains(what), "{url}: {}", fault.what);
            assert!(!format!("{fault:?}").contains("hunter2"));
        }
    }
}
