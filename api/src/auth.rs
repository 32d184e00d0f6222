//! Access tokens: JWTs signed with Ed25519 (RFC 8037), with keys that all processes share through Postgres.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kontor_domain::{Role, SessionId, UserId};
use kontor_eventstore::Clock;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub mod keys;

pub use keys::SigningKey;

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Who the tokens say they are from (`iss`).
const ISSUER: &str = "kontor";
/// Tokens that need not be verified again; the least used go first. A token and its entry are about 600 bytes.
const REMEMBERED: usize = 4_096;
/// Longer than any token of ours; a longer text is not worth hashing.
const LONGEST: usize = 2_048;
/// How often the keys are read again.
const POLL: Duration = Duration::from_secs(2);
/// Between two readings because of keys that are not known: anybody can make up a token.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// The account.
    pub user_id: UserId,
    /// What it may do, as of when the token was issued.
    pub roles: Arc<[Role]>,
    /// The session it was issued in.
    pub session: SessionId,
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
    #[error("the access token has expired; renew it with `refreshSession`, or log in again")]
    Expired,
    /// What it says is not true any more: roles or password have changed.
    #[error("the account has changed since the access token was issued; renew it with `refreshSession`")]
    Outdated,
    /// The account is closed.
    #[error("the account is deactivated")]
    Deactivated,
    /// The session was ended.
    #[error("the session has ended; log in again")]
    SessionEnded,
    /// It was signed with a key that is not known here (yet).
    #[error("the access token is not valid")]
    UnknownKey,
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

/// What a token says: who, until when, and as of which version of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who it names.
    pub viewer: Viewer,
    /// Version of the account when the token was issued.
    pub version: u64,
    /// From when on it is good no more.
    pub expires: DateTime<Utc>,
}

/// What a token is to say.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// To whom.
    pub user_id: UserId,
    /// What the account may do.
    pub roles: &'a [Role],
    /// In which session.
    pub session: SessionId,
    /// As of which version of the account.
    pub version: u64,
}

/// Makes and checks access tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    keys: RwLock<Arc<KeySet>>,
    reread: Mutex<Option<Instant>>,
    validation: Validation,
    verified: Cache<Box<str>, Verified>,
}

/// The keys at one moment, newest first.
struct KeySet {
    stored: Vec<SigningKey>,
    public: HashMap<String, DecodingKey>,
}

impl KeySet {
    fn of(stored: Vec<SigningKey>) -> Self {
        let public = |key: &SigningKey| (key.kid.clone(), DecodingKey::from_ed_der(&key.public));
        Self {
            public: stored.iter().map(public).collect(),
            stored,
        }
    }
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
    sid: SessionId,
    ver: u64,
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
        let mut stored = keys::stored(pool).await?;
        if stored.is_empty() {
            keys::make_first(pool, now).await?;
            stored = keys::stored(pool).await?;
        }
        Self::from_keys(stored)
    }

    /// With these keys, newest first.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_keys(stored: Vec<SigningKey>) -> Result<Self, SigningError> {
        if stored.is_empty() {
            return Err(SigningError::Key);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss"]);
        // By the injected clock, below.
        validation.validate_exp = false;
        Ok(Self {
            inner: Arc::new(Inner {
                keys: RwLock::new(Arc::new(KeySet::of(stored))),
                reread: Mutex::new(None),
                validation,
                verified: Cache::new(REMEMBERED),
            }),
        })
    }

    /// Reads the keys again and again, and drops those that are done with, until `stop`.
    pub async fn keep_up(self, pool: PgPool, clock: Arc<dyn Clock>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            let read = async {
                keys::drop_old(&pool, clock.now()).await?;
                self.read_keys(&pool).await
            };
            if let Err(error) = read.await
                && !stop.is_cancelled()
            {
                warn!(%error, "cannot read the signing keys, trying again");
            }
        }
    }

    /// Reads the keys again because a token names one that is not known; whether it did. At most once a second.
    pub async fn look_again(&self, pool: &PgPool) -> bool {
        {
            let mut last = self.inner.reread.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < AT_MOST_EVERY) {
                return false;
            }
            *last = Some(Instant::now());
        }
        self.read_keys(pool).await.is_ok()
    }

    async fn read_keys(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let stored = keys::stored(pool).await?;
        let same = |known: &[SigningKey]| {
            known
                .iter()
                .map(SigningKey::kid)
                .eq(stored.iter().map(SigningKey::kid))
        };
        // An empty table is not believed: tokens that are out there would be lost.
        if !stored.is_empty() && !same(&self.keys().stored) {
            let fresh = Arc::new(KeySet::of(stored));
            *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.inner.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The public keys.
    #[must_use]
    pub fn jwks(&self) -> keys::JwkSet {
        keys::JwkSet::of(&self.keys().stored)
    }

    /// A token, and when it expires.
    ///
    /// # Errors
    /// When the key is damaged.
    pub fn issue(
        &self,
        grant: Grant<'_>,
        now: DateTime<Utc>,
    ) -> Result<(String, DateTime<Utc>), SigningError> {
        let keys = self.keys();
        let key = keys::signing(&keys.stored, now).ok_or(SigningError::Key)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid.clone());
        let issued = now.trunc_subsecs(0);
        let expires = issued + TimeDelta::from_std(LIFETIME).unwrap_or(TimeDelta::MAX);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: grant.user_id,
            sid: grant.session,
            ver: grant.version,
            roles: grant.roles.into(),
            iat: issued.timestamp(),
            exp: expires.timestamp(),
        };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&key.pkcs8))?;
        Ok((token, expires))
    }

    /// What a token says, if it is ours; it may have expired. A token seen before costs a look-up, not a signature check.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`] or [`TokenError::Invalid`].
    pub fn read(&self, bearer: &str) -> Result<Verified, TokenError> {
        if bearer.len() > LONGEST {
            return Err(TokenError::Invalid);
        }
        if let Some(known) = self.inner.verified.get(bearer) {
            return Ok(known);
        }
        let verified = self.decode(bearer)?;
        self.inner.verified.insert(bearer.into(), verified.clone());
        Ok(verified)
    }

    /// What a token says that is good now.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(&self, bearer: &str, now: DateTime<Utc>) -> Result<Verified, TokenError> {
        let verified = self.read(bearer)?;
        if now >= verified.expires {
            return Err(TokenError::Expired);
        }
        Ok(verified)
    }

    fn decode(&self, bearer: &str) -> Result<Verified, TokenError> {
        let header = jsonwebtoken::decode_header(bearer).map_err(|_| TokenError::Invalid)?;
        let keys = self.keys();
        let key = header.kid.as_ref().ok_or(TokenError::Invalid)?;
        let key = keys.public.get(key).ok_or(TokenError::UnknownKey)?;
        let claims = jsonwebtoken::decode::<Claims>(bearer, key, &self.inner.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        Ok(Verified {
            viewer: Viewer {
                user_id: claims.sub,
                roles: claims.roles,
                session: claims.sid,
            },
            version: claims.ver,
            expires: DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Invalid)?,
        })
    }
}

#[cfg(test)]
mod tests;
