//! The token that a request shows: compared in constant time, never logged, never sent back.

use actix_web::http::header::{self, HeaderMap};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Access;

/// What requests are measured by; the token itself is not kept here, its hash is enough.
#[derive(Debug, Clone, Default)]
pub(super) struct Door {
    hash: Option<[u8; 32]>,
    pub open_metrics: bool,
}

impl Door {
    pub(super) fn new(access: &Access) -> Self {
        let hash = access.token.as_ref().map(|token| Sha256::digest(token.expose()).into());
        Self { hash, open_metrics: access.open_metrics }
    }

    pub(super) fn has_token(&self) -> bool {
        self.hash.is_some()
    }

    /// There is no token to be shown, or the request shows it: once, and in the Authorization header.
    pub(super) fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(wanted) = &self.hash else { return true };
        let mut shown = headers.get_all(header::AUTHORIZATION);
        let (Some(first), None) = (shown.next(), shown.next()) else { return false };
        let Some((scheme, token)) = first.as_bytes().split_at_checked(7) else { return false };
        // Hashes have one length, so that not even the token's length is told by the time this takes.
        let given: [u8; 32] = Sha256::digest(token).into();
        bool::from(wanted.ct_eq(&given)) && scheme.eq_ignore_ascii_case(b"Bearer ")
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::config::Secret;

    const TOKEN: &str = "0123456789abcdef-token";

    fn lets_in(shown: &[&str]) -> bool {
        let access = Access { token: Some(Secret::new(TOKEN)), ..Access::default() };
        let mut headers = HeaderMap::new();
        shown.iter().for_each(|v| headers.append(header::AUTHORIZATION, HeaderValue::from_str(v).unwrap()));
        Door::new(&access).lets_in(&headers)
    }

    #[test]
    fn only_the_whole_token_as_a_bearer_opens() {
        assert!(lets_in(&[&format!("Bearer {TOKEN}")]));
        assert!(lets_in(&[&format!("bearer {TOKEN}")]), "the scheme's case does not count");
        for wrong in [
            String::new(),
            "Bearer".into(),
            "Bearer ".into(),
            TOKEN.into(),
            format!("Basic {TOKEN}"),
            format!("Bearer  {TOKEN}"),
            format!("Bearer {TOKEN}x"),
            format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]),
            format!("Bearer {}", TOKEN.to_uppercase()),
        ] {
            assert!(!lets_in(&[&wrong]), "{wrong:?}");
        }
        assert!(!lets_in(&[]));
        assert!(!lets_in(&[&format!("Bearer {TOKEN}"), "Bearer x"]), "two headers are none");
    }

    #[test]
    fn where_there_is_no_token_everyone_is_let_in() {
        assert!(Door::new(&Access::default()).lets_in(&HeaderMap::new()));
    }
}
