//! The cookie that holds a refresh token.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

use super::{RefreshToken, SessionTerms};

/// How the cookie is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieTerms {
    /// Whether browsers send it over TLS only. Off only where there is none: on the developer's own machine.
    pub secure: bool,
}

impl Default for CookieTerms {
    fn default() -> Self {
        Self { secure: true }
    }
}

impl CookieTerms {
    /// With the `__Host-` prefix browsers take it only as this very host set it, over TLS, for the whole of it (RFC 6265bis, section
    /// 4.1.3).
    const fn name(self) -> &'static str {
        if self.secure {
            "__Host-kontor-session"
        } else {
            "kontor-session"
        }
    }

    /// The refresh token that a browser sent along.
    #[must_use]
    pub fn read(self, headers: &HeaderMap) -> Option<RefreshToken> {
        let name = self.name();
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| RefreshToken::parse(value))
    }

    /// `Set-Cookie` with this token.
    #[must_use]
    pub fn set(self, token: &RefreshToken, terms: SessionTerms) -> Option<HeaderValue> {
        self.header(&token.reveal(), terms.idle.min(terms.longest).as_secs())
    }

    /// `Set-Cookie` that takes it away.
    #[must_use]
    pub fn clear(self) -> Option<HeaderValue> {
        self.header("", 0)
    }

    fn header(self, value: &str, max_age: u64) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!(
            "{}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}",
            self.name()
        );
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> RefreshToken {
        let session = "ses_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        RefreshToken::first(session).unwrap()
    }

    #[test]
    fn what_is_set_is_read_back() {
        for secure in [true, false] {
            let (terms, token) = (CookieTerms { secure }, token());
            let header = terms.set(&token, SessionTerms::default()).unwrap();
            let text = header.to_str().unwrap();
            assert_eq!(text.contains("; Secure"), secure);
            assert!(text.contains("; HttpOnly; SameSite=Lax") && text.contains("; Path=/; Max-Age=2592000;"));
            let pair = text.split(';').next().unwrap();
            let mut sent = HeaderMap::new();
            sent.append(COOKIE, HeaderValue::from_static("other=1; more"));
            sent.append(COOKIE, format!("a=b; {pair}").parse().unwrap());
            assert_eq!(terms.read(&sent), Some(token));
            // The other kind of cookie is not looked at.
            assert_eq!(CookieTerms { secure: !secure }.read(&sent), None);
        }
    }
}
