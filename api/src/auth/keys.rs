//! The keys that access tokens are signed with: in Postgres, for all processes.
//!
//! A key is published before it signs, so that whoever checks tokens knows it by then, and is dropped when the last token it
//! can have signed has expired. So keys are changed without anybody being logged out.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use kontor_eventstore::transaction::begin;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{LIFETIME, SigningError};

/// How long a key is known before it signs: as long as others may keep a copy of `/.well-known/jwks.json`.
pub const KNOWN_BEFORE: TimeDelta = TimeDelta::seconds(60);
/// What clocks of processes may differ by.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// A key pair, as stored.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) kid: String,
    pub(super) pkcs8: Vec<u8>,
    pub(super) public: Vec<u8>,
    pub(super) created_at: DateTime<Utc>,
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
    pub fn generate(now: DateTime<Utc>) -> Result<Self, SigningError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SigningError::Key)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| SigningError::Key)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self {
            kid: URL_SAFE_NO_PAD.encode(&Sha256::digest(&public)[..12]),
            pkcs8: pkcs8.as_ref().to_vec(),
            public,
            created_at: now,
        })
    }

    /// What it is called in the header of a token.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

/// The newest of the keys that everybody knows by now; the oldest if there is none.
pub(super) fn signing(keys: &[SigningKey], now: DateTime<Utc>) -> Option<&SigningKey> {
    keys.iter()
        .find(|key| key.created_at + KNOWN_BEFORE <= now)
        .or(keys.last())
}

/// All keys, newest first.
pub(super) async fn stored(pool: &PgPool) -> Result<Vec<SigningKey>, sqlx::Error> {
    sqlx::query_as!(
        SigningKey,
        "SELECT kid, pkcs8, public, created_at FROM signing_keys ORDER BY created_at DESC, kid"
    )
    .fetch_all(pool)
    .await
}

/// Makes the first key if there is none. Processes that start together end with the same one.
pub(super) async fn make_first(pool: &PgPool, now: DateTime<Utc>) -> Result<(), SigningError> {
    let fresh = SigningKey::generate(now)?;
    let mut tx = begin(pool).await?;
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
    Ok(())
}

/// Adds a key, which signs once everybody knows it; its `kid`, and from when on it signs.
///
/// # Errors
/// See [`SigningError`].
pub async fn rotate(pool: &PgPool, now: DateTime<Utc>) -> Result<(String, DateTime<Utc>), SigningError> {
    let fresh = SigningKey::generate(now)?;
    sqlx::query!(
        "INSERT INTO signing_keys (kid, pkcs8, public, created_at) VALUES ($1, $2, $3, $4)",
        fresh.kid,
        fresh.pkcs8,
        fresh.public,
        now
    )
    .execute(pool)
    .await?;
    Ok((fresh.kid, now + KNOWN_BEFORE))
}

/// Drops the keys whose last tokens have expired.
pub(super) async fn drop_old(pool: &PgPool, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let lifetime = TimeDelta::from_std(LIFETIME).unwrap_or(TimeDelta::MAX);
    sqlx::query!(
        "DELETE FROM signing_keys old
         WHERE EXISTS (SELECT FROM signing_keys new WHERE new.created_at > old.created_at AND new.created_at < $1)",
        now - KNOWN_BEFORE - lifetime - SKEW
    )
    .execute(pool)
    .await
    .map(drop)
}

/// A set of public keys (RFC 7517), as `/.well-known/jwks.json` shows it.
#[derive(Debug, Serialize)]
pub struct JwkSet {
    keys: Vec<Jwk>,
}

/// A public Ed25519 key (RFC 8037, section 2).
#[derive(Debug, Serialize)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    kid: String,
    x: String,
}

impl JwkSet {
    pub(super) fn of(keys: &[SigningKey]) -> Self {
        let jwk = |key: &SigningKey| Jwk {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            purpose: "sig",
            kid: key.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(&key.public),
        };
        Self {
            keys: keys.iter().map(jwk).collect(),
        }
    }
}
