//! Refresh tokens: what is in one, and how the next follows from it.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kontor_domain::SessionId;
use sha2::{Digest, Sha256};
use ulid::Ulid;

const FAMILY: usize = 16;
const SECRET: usize = 32;
const LENGTH: usize = 16 + FAMILY + SECRET;
/// Of a token as text: 64 bytes in base64.
const TEXT: usize = 86;

/// No random bytes can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes for a session")]
pub struct NoRandomness;

pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A refresh token: names its session, proves that it is of that session's family (16 random bytes that all its tokens
/// share), and is the newest one (32 random bytes).
///
/// Because of the shared part an old token is known to be one although no list of used tokens is kept, and nobody can
/// end a session by making up a token for it.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    pub(super) session: SessionId,
    family: [u8; FAMILY],
    secret: [u8; SECRET],
}

// A token does not print.
impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl RefreshToken {
    /// The first token of a session.
    pub(super) fn first(session: SessionId) -> Result<Self, NoRandomness> {
        Ok(Self {
            session,
            family: random()?,
            secret: random()?,
        })
    }

    /// The token that replaces this one. It follows from this one and a random `salt`: whoever sends the same token twice
    /// gets the same answer twice, although the answer itself is kept nowhere; and neither the salt nor the old token
    /// is of use without the other.
    pub(super) fn next(&self, salt: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let mut secret = [0; SECRET];
        secret.copy_from_slice(&hmac::sign(&key, salt).as_ref()[..SECRET]);
        Self {
            secret,
            ..self.clone()
        }
    }

    /// Reads a token; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let bytes: &[u8; LENGTH] = bytes.as_slice().try_into().ok()?;
        let (session, rest) = bytes.split_first_chunk::<16>()?;
        let (family, secret) = rest.split_first_chunk::<FAMILY>()?;
        Some(Self {
            session: SessionId::from_ulid(Ulid::from_bytes(*session)),
            family: *family,
            secret: secret.try_into().ok()?,
        })
    }

    /// The session it is of, if it is of any.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The text that the client keeps.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(&self.session.ulid().to_bytes());
        bytes[16..16 + FAMILY].copy_from_slice(&self.family);
        bytes[16 + FAMILY..].copy_from_slice(&self.secret);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What is kept of the part all tokens of the session share.
    pub(super) fn family_hash(&self) -> String {
        hash(&self.family)
    }

    /// What is kept of the part that is this token's own.
    pub(super) fn secret_hash(&self) -> String {
        hash(&self.secret)
    }
}

/// SHA-256, in base64. The input is random, so nothing slower is needed.
pub(crate) fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_its_successor_is_another_of_the_same_family() {
        let session = SessionId::from_ulid(Ulid::from_parts(1, 2));
        let first = RefreshToken::first(session).unwrap();
        assert_eq!(RefreshToken::parse(&first.reveal()), Some(first.clone()));
        let next = first.next(b"salt");
        assert_eq!(next, first.next(b"salt"));
        assert_ne!(next.secret_hash(), first.secret_hash());
        assert_ne!(next, first.next(b"other"));
        assert_eq!((next.session, next.family_hash()), (session, first.family_hash()));
    }

    #[test]
    fn anything_else_is_no_token() {
        let token = RefreshToken::first(SessionId::from_ulid(Ulid::from_parts(1, 2))).unwrap();
        let text = token.reveal();
        assert_eq!(text.len(), TEXT);
        for wrong in [
            "",
            &text[1..],
            &format!("{text}="),
            &format!("{}ab", "€".repeat(28)),
            &"!".repeat(TEXT),
        ] {
            assert_eq!(RefreshToken::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "***");
    }
}
