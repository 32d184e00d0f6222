//! Where sessions, accounts and access tokens meet.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use kontor_domain::{PasswordHash, Role, SessionId, User, UserId};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Clock, Store};

use super::records::{Rotated, Rotation};
use super::secret::hash;
use super::{CookieTerms, EndedSessions, RefreshToken, SessionRecord, Sessions, Unavailable};
use crate::auth::{Grant, SigningError, Tokens};

/// A session goes on, with new tokens.
pub struct Renewed {
    /// Whose it is.
    pub user_id: UserId,
    /// Which.
    pub session: SessionId,
    /// The access token.
    pub token: String,
    /// When that expires.
    pub expires: DateTime<Utc>,
    /// The refresh token that is good from now on.
    pub refresh: RefreshToken,
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewed")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Why a session is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// There is no such session (any more): log in again.
    #[error("the session has ended; log in again")]
    Ended,
    /// The token had been replaced long before. Somebody has a copy of it, so the session was ended.
    #[error("the refresh token had been used before, so the session was ended; log in again")]
    Reused,
    /// Redis is away: try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The account could not be read.
    #[error(transparent)]
    Account(#[from] ReadError),
    /// What has ended could not be written down.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// No token could be made.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// What an account is when a session begins or goes on.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) roles: Arc<[Role]>,
    pub(crate) active: bool,
    pub(crate) hash: Option<PasswordHash>,
    pub(crate) version: u64,
}

impl Account {
    pub(crate) async fn of(store: &Store, user_id: UserId) -> Result<Self, ReadError> {
        store
            .inspect::<User, _>(user_id, |user, version| Self {
                roles: user.roles().collect(),
                active: user.is_active(),
                hash: user.password_hash().cloned(),
                version,
            })
            .await
    }
}

/// Begins, renews and ends sessions. Cheap to clone.
#[derive(Clone)]
pub struct SessionDesk {
    store: Store,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    sessions: Sessions,
    ended: EndedSessions,
    /// How the cookie is set.
    pub cookie: CookieTerms,
}

impl std::fmt::Debug for SessionDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionDesk").finish_non_exhaustive()
    }
}

/// What a session remembers of the password it began with: when that is another one by now, whoever still has the session knows
/// an old one. Of a slow hash, so a fast one of it gives nothing away.
fn credential(hash_of_password: Option<&PasswordHash>) -> String {
    hash_of_password.map_or_else(String::new, |it| hash(it.as_str().as_bytes()))
}

impl SessionDesk {
    /// Puts it together.
    #[must_use]
    pub fn new(
        store: Store,
        tokens: Tokens,
        clock: Arc<dyn Clock>,
        sessions: Sessions,
        ended: EndedSessions,
        cookie: CookieTerms,
    ) -> Self {
        Self {
            store,
            tokens,
            clock,
            sessions,
            ended,
            cookie,
        }
    }

    /// How long sessions live, for the cookie.
    #[must_use]
    pub fn terms(&self) -> super::SessionTerms {
        self.sessions.terms()
    }

    /// Begins a session of somebody who has proved who they are.
    ///
    /// # Errors
    /// As for renewing, without those about the session.
    pub(crate) async fn begin(
        &self,
        user_id: UserId,
        account: &Account,
        agent: Option<&str>,
    ) -> Result<Renewed, RenewError> {
        let now = self.clock.now();
        let session = SessionId::from_ulid(self.store.ids().next());
        let credential = credential(account.hash.as_ref());
        let (refresh, ended) = self
            .sessions
            .start(session, user_id, &credential, agent, now)
            .await?;
        self.ended.add(&ended).await?;
        // Whoever was erased meanwhile has had all their sessions ended, perhaps a moment before this one began.
        if !Account::of(&self.store, user_id).await?.active {
            self.end(user_id, session).await?;
            return Err(RenewError::Ended);
        }
        self.issue(user_id, account, refresh)
    }

    /// Replaces a refresh token, and gives an access token that says what the account may do now.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub async fn renew(&self, token: &RefreshToken) -> Result<Renewed, RenewError> {
        let rotated = match self.sessions.rotate(token, self.clock.now()).await? {
            Rotation::Done(rotated) => rotated,
            Rotation::Gone => return Err(RenewError::Ended),
            Rotation::Reused => {
                self.ended.add(&[token.session]).await?;
                return Err(RenewError::Reused);
            }
        };
        let Rotated {
            next,
            user_id,
            credentials,
        } = rotated;
        let account = Account::of(&self.store, user_id).await?;
        if !account.active || !credentials.contains(&credential(account.hash.as_ref())) {
            self.end(user_id, token.session).await?;
            return Err(RenewError::Ended);
        }
        self.issue(user_id, &account, next)
    }

    fn issue(
        &self,
        user_id: UserId,
        account: &Account,
        refresh: RefreshToken,
    ) -> Result<Renewed, RenewError> {
        let session = refresh.session();
        let grant = Grant {
            user_id,
            roles: &account.roles,
            session,
            version: account.version,
        };
        let (token, expires) = self.tokens.issue(grant, self.clock.now())?;
        Ok(Renewed {
            user_id,
            session,
            token,
            expires,
            refresh,
        })
    }

    /// The sessions of this user, newest first.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn list(&self, user_id: UserId) -> Result<Vec<SessionRecord>, Unavailable> {
        self.sessions.list(user_id).await
    }

    /// Ends a session of this user; false if they have no such.
    ///
    /// # Errors
    /// When Redis or Postgres is away; then it may be asked again.
    pub async fn end(&self, user_id: UserId, id: SessionId) -> Result<bool, RenewError> {
        let ended = self.sessions.end(user_id, id).await?;
        if ended {
            self.ended.add(&[id]).await?;
        }
        Ok(ended)
    }

    /// Ends the session that asks for it. Its access tokens end even if Redis is away.
    ///
    /// # Errors
    /// When Redis or Postgres is away.
    pub async fn log_out(&self, user_id: UserId, id: SessionId) -> Result<bool, RenewError> {
        self.ended.add(&[id]).await?;
        self.sessions.end(user_id, id).await?;
        Ok(true)
    }

    /// Ends the session of a refresh token; false if it has none any more.
    ///
    /// # Errors
    /// When Redis or Postgres is away.
    pub async fn end_by(&self, token: &RefreshToken) -> Result<bool, RenewError> {
        match self.sessions.rotate(token, self.clock.now()).await? {
            Rotation::Done(rotated) => self.end(rotated.user_id, token.session).await,
            Rotation::Gone => Ok(false),
            Rotation::Reused => {
                self.ended.add(&[token.session]).await?;
                Ok(true)
            }
        }
    }

    /// Ends all sessions of this user but one; how many there were.
    ///
    /// # Errors
    /// When Redis or Postgres is away.
    pub async fn end_all(&self, user_id: UserId, keep: Option<SessionId>) -> Result<usize, RenewError> {
        let ended = self.sessions.end_all(user_id, keep).await?;
        self.ended.add(&ended).await?;
        Ok(ended.len())
    }

    /// The password is about to be set, from this session, which is to go on with it.
    pub(crate) async fn expect(&self, id: SessionId, hash: &PasswordHash) -> Result<(), Unavailable> {
        self.sessions.expect(id, &credential(Some(hash))).await
    }

    /// The password was set. All other sessions end; without Redis they end when they are to be renewed.
    pub(crate) async fn password_changed(
        &self,
        user_id: UserId,
        keep: Option<(SessionId, &PasswordHash)>,
    ) -> Result<(), RenewError> {
        if let Some((id, hash)) = keep {
            self.sessions.settle(id, &credential(Some(hash))).await?;
        }
        self.end_all(user_id, keep.map(|(id, _)| id)).await?;
        Ok(())
    }
}
