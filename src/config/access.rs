//! Reads who may ask the daemon over HTTP: `token`, `auth` and `metrics_auth` of `[daemon]`. A daemon that other
//! machines reach must have a token, or be told in so many words that it needs none. The token never gets into a
//! message.

use std::net::SocketAddr;
use std::path::Path;

use super::print::{Line, Origin};
use super::reader::{Reader, Section, Text, toml_text};
use super::secrets::{Part, substitute};
use super::source::{MASK, is_reference};
use super::{Daemon, Secret};

/// Fewer characters could be guessed over the network.
const LEAST_CHARACTERS: usize = 16;

/// Who is let in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// What a request must carry as `Authorization: Bearer …`; `None` lets everyone in.
    pub token: Option<Secret>,
    /// `auth = "none"` is written: nobody needs a token, wherever the daemon listens.
    pub open_on_purpose: bool,
    /// `/metrics` needs no token.
    pub open_metrics: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Auth {
    Token,
    None,
}

const OPTIONS: [(&str, Auth); 2] = [("token", Auth::Token), ("none", Auth::None)];

const EXPOSED: &str = "can be reached from other machines, and nobody would have to log in";
const WAY_OUT: &str = "write `token = \"${BIEF_TOKEN}\"` in [daemon], or an address of this machine such as \
     \"127.0.0.1:8080\"; `auth = \"none\"` lets in everyone who can reach it";

impl Daemon {
    /// The rule for an address that was given another way than in the file.
    ///
    /// # Errors
    /// When other machines reach it and neither a token nor `auth = "none"` is written; says what to write.
    pub fn allow(&self, http: SocketAddr) -> Result<(), String> {
        match self.access.may_listen(http) {
            true => Ok(()),
            false => Err(format!("{http} {EXPOSED}; {WAY_OUT}")),
        }
    }
}

impl Access {
    fn may_listen(&self, http: SocketAddr) -> bool {
        http.ip().is_loopback() || self.token.is_some() || self.open_on_purpose
    }
}

pub(super) fn read(r: &mut Reader<'_>, s: &Section<'_>, http: SocketAddr) -> Access {
    let token = r.text(s, "token").and_then(|text| checked(r, &text));
    let written = s.value("auth").is_some();
    let default = if s.value("token").is_some() { Auth::Token } else { Auth::None };
    let auth = r.choice(s, "auth", &OPTIONS, default);
    let metrics = r.choice(s, "metrics_auth", &OPTIONS, auth);
    if auth == Auth::None && s.value("token").is_some() {
        r.error(
            &s.place("auth"),
            "`auth` = \"none\" beside a `token`: it is not clear who shall be let in",
            "remove one of the two",
        );
    }
    if auth == Auth::Token && s.value("token").is_none() {
        r.error(
            &s.place("auth"),
            "`auth` = \"token\", and there is none",
            "add for example `token = \"${BIEF_TOKEN}\"`",
        );
    }
    if auth == Auth::None && metrics == Auth::Token {
        r.error(
            &s.place("metrics_auth"),
            "`metrics_auth` = \"token\", and there is none",
            "remove it, or add a `token`",
        );
    }
    let access = Access { token, open_on_purpose: written && auth == Auth::None, open_metrics: metrics == Auth::None };
    // A token that was refused has been told.
    if !access.may_listen(http) && s.value("token").is_none() && !(written && auth == Auth::Token) {
        r.error(&s.place("http"), format!("`http` {EXPOSED}"), WAY_OUT);
    }
    access
}

fn checked(r: &mut Reader<'_>, text: &Text) -> Option<Secret> {
    const HELP: &str = "make one with `openssl rand -hex 32`, and refer to it: `token = \"${BIEF_TOKEN}\"` or \
         `token = \"${file:token}\"`";
    let (shown, origin) = match is_reference(&text.raw) {
        true => (text.raw.as_str(), text.origin()),
        false => (MASK, Origin::Hidden),
    };
    r.understood.push(Line::Entry { key: "token".into(), value: toml_text(shown), origin });
    let fault = match text.value.as_str() {
        "" => "is empty",
        value if !value.bytes().all(|b| b.is_ascii_graphic()) => "holds a blank, or what is no ASCII character",
        value if value.len() < LEAST_CHARACTERS => "has fewer than 16 characters",
        _ => return Some(Secret::new(text.value.as_str())),
    };
    r.error(&text.span, format!("`token` {fault}"), HELP);
    None
}

/// A text with its references put in, for a command that needs `daemon.token` and nothing else of a file.
/// Relative paths start at `base`. `None` where a reference cannot be resolved.
pub fn resolve(text: &str, base: &Path, env: &dyn Fn(&str) -> Option<String>) -> Option<Secret> {
    let parts = substitute(text, env, base).ok()?;
    Some(Secret::new(parts.iter().map(Part::value).collect::<String>()))
}
