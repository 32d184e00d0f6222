//! Who is asking: reads the access token of a request, and renews it by the session's cookie when its time is over.

use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kontor_eventstore::Clock;
use sqlx::PgPool;

use crate::auth::{TokenError, Tokens, Verified};
use crate::sessions::{RenewError, SessionDesk};
use crate::standing::Standing;

/// Where the answer to a request has the access token that its own was renewed to.
pub const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");

/// Why nobody knows who is asking.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The token is no good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token would be renewed if its session could be read. To be tried again.
    #[error("the access token has expired and sessions cannot be renewed at the moment; try again")]
    Unavailable,
}

/// What the gate needs to renew tokens, and to learn of new keys.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Renews sessions.
    pub desk: SessionDesk,
    /// Where the signing keys are.
    pub pool: PgPool,
}

/// Knows who is asking.
pub struct Gate {
    /// Reads tokens.
    pub tokens: Tokens,
    /// Says whether they are still true.
    pub standing: Standing,
    /// Says whether they have expired.
    pub clock: Arc<dyn Clock>,
    /// Without it nothing is renewed.
    pub renewal: Option<Renewal>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// Who sends these headers; `None` for nobody in particular. If the token was renewed on the way, the new ones are
    /// added to `answer`.
    ///
    /// The cookie alone says nothing about who is asking: a request is somebody's only if it has an access token of the very
    /// session, which no page of another origin has.
    pub(crate) async fn viewer(
        &self,
        headers: &HeaderMap,
        answer: &mut HeaderMap,
    ) -> Result<Option<Verified>, GateError> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Ok(None);
        };
        let value = value.to_str().map_err(|_| TokenError::Invalid)?;
        match self.bearer(value).await {
            Ok(verified) => Ok(Some(verified)),
            Err(error @ (TokenError::Expired | TokenError::Outdated)) => {
                self.renew(value, error, headers, answer).await.map(Some)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Who `Bearer <token>` names.
    pub(crate) async fn bearer(&self, authorization: &str) -> Result<Verified, TokenError> {
        let token = token(authorization)?;
        let verified = match self.tokens.read(token) {
            // Perhaps another process has just begun to sign with a key that was not there when the keys were last read.
            Err(TokenError::UnknownKey) => {
                let Some(renewal) = &self.renewal else {
                    return Err(TokenError::Invalid);
                };
                self.tokens.look_again(&renewal.pool).await;
                self.tokens.read(token)?
            }
            read => read?,
        };
        let expired = self.clock.now() >= verified.expires;
        self.standing.check(&verified).map_err(|why| match why {
            // A token that has run out anyway says nothing that could be out of date.
            TokenError::Outdated if expired => TokenError::Expired,
            why => why,
        })?;
        if expired {
            return Err(TokenError::Expired);
        }
        Ok(verified)
    }

    async fn renew(
        &self,
        authorization: &str,
        why: TokenError,
        headers: &HeaderMap,
        answer: &mut HeaderMap,
    ) -> Result<Verified, GateError> {
        let old = self.tokens.read(token(authorization)?)?.viewer;
        let Some(desk) = self.renewal.as_ref().map(|renewal| &renewal.desk) else {
            return Err(why.into());
        };
        let session = desk.cookie.read(headers).filter(|it| it.session() == old.session);
        let Some(session) = session else {
            return Err(why.into());
        };
        let renewed = match desk.renew(&session).await {
            Ok(renewed) => renewed,
            Err(RenewError::Ended | RenewError::Reused) => {
                answer.extend(desk.cookie.clear().map(|cookie| (SET_COOKIE, cookie)));
                return Err(TokenError::SessionEnded.into());
            }
            Err(error) => {
                tracing::warn!(%error, "a session cannot be renewed");
                return Err(GateError::Unavailable);
            }
        };
        let cookie = desk.cookie.set(&renewed.refresh, desk.terms());
        answer.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
        if let Ok(mut value) = HeaderValue::try_from(&renewed.token) {
            value.set_sensitive(true);
            answer.insert(ACCESS_TOKEN, value);
        }
        Ok(self.tokens.read(&renewed.token)?)
    }
}

fn token(authorization: &str) -> Result<&str, TokenError> {
    let (scheme, token) = authorization.trim().split_once(' ').ok_or(TokenError::Invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Invalid);
    }
    Ok(token.trim())
}
