//! Access tokens: JWTs signed with Ed25519 (RFC 8037), with keys that all processes share through Postgres.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kontor_domain::{Role, UserId};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Who the tokens say they are from (`iss`).
const ISSUER: &str = "kontor";
/// Tokens that need not be verified again; the least used go first. A token and its entry are about 600 bytes.
const REMEMBERED: u64 = 4_096;
/// Longer than any token of ours; a longer text is not worth hashing.
const LONGEST: usize = 2_048;

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// The account.
    pub user_id: UserId,
    /// What it may do, as of when the token was issued.
    pub roles: Arc<[Role]>,
}

impl Viewer {
    /// Whether this is one of the shop's people.
    #[must_use]
    pub fn is_staff(&self) -> bool {
        self.roles
            .iter()
            .any(|role| matches!(role, Role::Staff | Role::Admin))
    }

    /// Whether this account gives and takes roles.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.contains(&Role::Admin)
    }
}

/// Why a token says nothing about who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the access token has expired; log in again")]
    Expired,
    /// It is not a token of this shop.
    #[error("the access token is not valid")]
    Invalid,
}

/// Why tokens cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// Postgres was not there.
    #[error("the signing keys could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// A key could not be made or is damaged.
    #[error("a signing key could not be made or read")]
    Key,
    /// The token could not be written.
    #[error("the token could not be signed: {0}")]
    Jwt(#[from] jsonwebtoken::errors::Error),
}

/// A token that was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who it names.
    pub viewer: Viewer,
    /// From when on it is good no more.
    pub expires: DateTime<Utc>,
}

/// A key pair, as stored.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A fresh key pair.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn generate() -> Result<Self, SigningError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SigningError::Key)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| SigningError::Key)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self {
            kid: URL_SAFE_NO_PAD.encode(&Sha256::digest(&public)[..12]),
            pkcs8: pkcs8.as_ref().to_vec(),
            public,
        })
    }
}

/// Makes and checks access tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    header: Header,
    signing: EncodingKey,
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
    verified: Cache<Box<str>, Verified>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    roles: Arc<[Role]>,
    iat: i64,
    exp: i64,
}

impl Tokens {
    /// Reads the keys, and makes the first one if there is none. Processes that start together end with the same key.
    ///
    /// # Errors
    /// See [`SigningError`].
    pub async fn open(pool: &PgPool, now: DateTime<Utc>) -> Result<Self, SigningError> {
        let mut keys = stored(pool).await?;
        if keys.is_empty() {
            let fresh = SigningKey::generate()?;
            let mut tx = pool.begin().await?;
            // Writers wait for one another here; whoever comes second sees the first one's key and adds none.
            sqlx::query!("LOCK TABLE signing_keys IN EXCLUSIVE MODE")
                .execute(&mut *tx)
                .await?;
            sqlx::query!(
                "INSERT INTO signing_keys (kid, pkcs8, public, created_at)
                 SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM signing_keys)",
                fresh.kid,
                fresh.pkcs8,
                fresh.public,
                now
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            keys = stored(pool).await?;
        }
        Self::from_keys(&keys)
    }

    /// Signs with the first key and accepts all of them.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_keys(keys: &[SigningKey]) -> Result<Self, SigningError> {
        let newest = keys.first().ok_or(SigningError::Key)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(newest.kid.clone());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss"]);
        // By the injected clock, below.
        validation.validate_exp = false;
        Ok(Self {
            inner: Arc::new(Inner {
                header,
                signing: EncodingKey::from_ed_der(&newest.pkcs8),
                keys: keys
                    .iter()
                    .map(|key| (key.kid.clone(), DecodingKey::from_ed_der(&key.public)))
                    .collect(),
                validation,
                verified: Cache::new(REMEMBERED),
            }),
        })
    }

    /// A token for this account, and when it expires.
    ///
    /// # Errors
    /// When the key is damaged.
    pub fn issue(
        &self,
        user_id: UserId,
        roles: &[Role],
        now: DateTime<Utc>,
    ) -> Result<(String, DateTime<Utc>), SigningError> {
        let issued = now.trunc_subsecs(0);
        let expires = issued + TimeDelta::from_std(LIFETIME).unwrap_or(TimeDelta::MAX);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user_id,
            roles: roles.into(),
            iat: issued.timestamp(),
            exp: expires.timestamp(),
        };
        let token = jsonwebtoken::encode(&self.inner.header, &claims, &self.inner.signing)?;
        Ok((token, expires))
    }

    /// Who a token names.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, bearer: &str, now: DateTime<Utc>) -> Result<Viewer, TokenError> {
        self.check(bearer, now).map(|verified| verified.viewer)
    }

    /// Who a token names, and until when. A token seen before costs a look-up, not a signature check.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(&self, bearer: &str, now: DateTime<Utc>) -> Result<Verified, TokenError> {
        if bearer.len() > LONGEST {
            return Err(TokenError::Invalid);
        }
        let known = self.inner.verified.get(bearer);
        let is_known = known.is_some();
        let verified = known.map_or_else(|| self.decode(bearer), Ok)?;
        if now >= verified.expires {
            self.inner.verified.invalidate(bearer);
            return Err(TokenError::Expired);
        }
        if !is_known {
            self.inner.verified.insert(bearer.into(), verified.clone());
        }
        Ok(verified)
    }

    fn decode(&self, bearer: &str) -> Result<Verified, TokenError> {
        let header = jsonwebtoken::decode_header(bearer).map_err(|_| TokenError::Invalid)?;
        let key = header
            .kid
            .and_then(|kid| self.inner.keys.get(&kid))
            .ok_or(TokenError::Invalid)?;
        let claims = jsonwebtoken::decode::<Claims>(bearer, key, &self.inner.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        Ok(Verified {
            viewer: Viewer {
                user_id: claims.sub,
                roles: claims.roles,
            },
            expires: DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Invalid)?,
        })
    }
}

/// Newest first.
async fn stored(pool: &PgPool) -> Result<Vec<SigningKey>, sqlx::Error> {
    sqlx::query_as!(
        SigningKey,
        "SELECT kid, pkcs8, public FROM signing_keys ORDER BY created_at DESC, kid"
    )
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests;
