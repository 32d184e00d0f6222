//! One's sessions: what there is, and ending them.

use async_graphql::{Context, Description, ID, Object, Result};
use kontor_domain::{SessionId, UserId};
use kontor_eventstore::deeds::Kind;

use super::inputs::{EndAllSessionsInput, EndSessionInput, LogOutInput};
use super::log_in::set_cookie;
use crate::app::RequestInfo;
use crate::graphql::access::{deed, logged_in, viewer};
use crate::graphql::command::errors;
use crate::graphql::error::{internal, sessions_unavailable};
use crate::graphql::input::{Check, INPUT, Refusal, refuse};
use crate::graphql::reads::app;
use crate::graphql::scalars::{Count, DateTime};
use crate::graphql::user_errors::{SessionNotFound, SessionsUnavailable, UserError, refusals};
use crate::sessions::{RefreshToken, RenewError, SessionRecord, Unavailable};

refusals! {
    /// Why `endSession` ended nothing.
    EndSessionError: InvalidInput, SessionNotFound, SessionsUnavailable;
    /// Why `endAllSessions` ended nothing.
    EndAllSessionsError: SessionsUnavailable;
    /// Why `logOut` did not end the session.
    LogOutError: SessionsUnavailable;
}

/// What came with the request; nothing over a schema that nobody asks.
pub(super) fn info<'c>(ctx: &Context<'c>) -> &'c RequestInfo {
    ctx.data_unchecked::<RequestInfo>()
}

/// Sessions are out of reach.
pub(super) fn unavailable(error: &Unavailable) -> Refusal {
    tracing::warn!(%error, "sessions are out of reach");
    let message = "sessions are out of reach at the moment; try again";
    refuse(SessionsUnavailable::new(message, INPUT.path(), 1))
}

/// The sessions of somebody, newest first.
pub(super) async fn of(ctx: &Context<'_>, id: UserId) -> Result<Vec<SessionRecord>> {
    app(ctx).sessions.list(id).await.map_err(|error| {
        tracing::warn!(%error, "sessions are out of reach");
        sessions_unavailable()
    })
}

/// A session: what begins with `logIn` on some device, and goes on there with `refreshSession`.
#[derive(Debug, Description)]
pub(crate) struct Session {
    record: SessionRecord,
    current: bool,
}

#[Object(use_type_description)]
impl Session {
    /// Names the session: `ses_` and a ULID.
    async fn id(&self) -> ID {
        self.record.id.to_string().into()
    }

    /// When it began.
    async fn created_at(&self) -> DateTime {
        DateTime(self.record.created)
    }

    /// When it was last renewed, which is at most 15 minutes before it was last used.
    async fn last_used_at(&self) -> DateTime {
        DateTime(self.record.used)
    }

    /// What the client called itself when it logged in (`user-agent`), shortened. Whoever logs in can say what they like here.
    async fn user_agent(&self) -> Option<&str> {
        self.record.agent.as_deref()
    }

    /// Whether it is the one that this request is part of.
    async fn current(&self) -> bool {
        self.current
    }
}

/// Queries of one's sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionQueries;

#[Object]
impl SessionQueries {
    /// Your sessions, newest first: at most 100. For everybody who is logged in. `SESSIONS_UNAVAILABLE` if they cannot be read at the
    /// moment.
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<Session>> {
        let viewer = logged_in(ctx)?;
        let records = of(ctx, viewer.user_id).await?;
        let session = |record: SessionRecord| Session {
            current: record.id == viewer.session,
            record,
        };
        Ok(records.into_iter().map(session).collect())
    }
}

/// The answer to whoever ends sessions: either they have ended, or `userErrors` says why not.
#[derive(Debug, Description)]
pub(crate) struct EndedPayload<E> {
    ended: u64,
    errors: Vec<E>,
}

#[Object(
    use_type_description,
    concrete(name = "EndSessionPayload", params(EndSessionError)),
    concrete(name = "EndAllSessionsPayload", params(EndAllSessionsError)),
    concrete(name = "LogOutPayload", params(LogOutError))
)]
impl<E: async_graphql::OutputType> EndedPayload<E> {
    /// How many sessions have ended.
    async fn ended(&self) -> Count {
        self.ended.into()
    }

    /// Why none has; empty if it was done.
    async fn user_errors(&self) -> &[E] {
        &self.errors
    }
}

impl<E: TryFrom<UserError, Error = UserError>> EndedPayload<E> {
    fn of(ctx: &Context<'_>, attempt: Result<u64, Refusal>) -> Result<Self> {
        Ok(match attempt {
            Ok(ended) => Self {
                ended,
                errors: Vec::new(),
            },
            Err(refusal) => Self {
                ended: 0,
                errors: errors(ctx, refusal)?,
            },
        })
    }
}

/// Mutations of one's sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionMutations;

#[Object]
impl SessionMutations {
    /// Ends one of your sessions: it is not renewed any more, and its access tokens are good for some seconds at most. For everybody who is
    /// logged in. It takes no idempotency key: ended again, it is not found.
    async fn end_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which session.")] input: EndSessionInput,
    ) -> Result<EndedPayload<EndSessionError>> {
        let attempt = end(ctx, input).await;
        EndedPayload::of(ctx, attempt)
    }

    /// Ends all your sessions, this one too unless you keep it. For everybody who is logged in. It takes no idempotency key: done
    /// again, it ends none.
    async fn end_all_sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which ones.")] input: EndAllSessionsInput,
    ) -> Result<EndedPayload<EndAllSessionsError>> {
        let viewer = logged_in(ctx)?;
        let keep = input.keep_current.unwrap_or(false).then_some(viewer.session);
        let ended = app(ctx).sessions.end_all(viewer.user_id, keep).await;
        if keep.is_none() && ended.is_ok() {
            forget_cookie(ctx);
        }
        if let Ok(count @ 1..) = ended {
            let all = deed(ctx, Kind::SessionsEnded).to(viewer.user_id.to_string());
            app(ctx).deeds.note(all.detail(format!("sessions: {count}")));
        }
        let attempt = ended
            .map(|count| count as u64)
            .map_err(|error| failed(ctx, error));
        EndedPayload::of(ctx, attempt)
    }

    /// Ends the session that this request is part of: that of the refresh token in the input, of the access token, or of the cookie. For
    /// everybody: where there is no session (any more), none is ended. Access tokens end even when `SessionsUnavailable` comes
    /// back; try again then, so that the refresh token does too. It takes no idempotency key.
    async fn log_out(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which session, if need be.")] input: LogOutInput,
    ) -> Result<EndedPayload<LogOutError>> {
        forget_cookie(ctx);
        let desk = &app(ctx).sessions;
        let cookie = info(ctx).session.clone();
        let (session, ended) = match (input.refresh_token, viewer(ctx), cookie) {
            (Some(given), ..) => match RefreshToken::parse(&given) {
                Some(token) => (Some(token.session()), desk.end_by(&token).await),
                None => (None, Ok(false)),
            },
            (None, Some(viewer), _) => {
                let ended = desk.log_out(viewer.user_id, viewer.session).await;
                (Some(viewer.session), ended)
            }
            (None, None, Some(cookie)) => (Some(cookie.session()), desk.end_by(&cookie).await),
            (None, None, None) => (None, Ok(false)),
        };
        if let (Some(session), Ok(true)) = (session, &ended) {
            note_ended(ctx, session);
        }
        let attempt = ended.map(u64::from).map_err(|error| failed(ctx, error));
        EndedPayload::of(ctx, attempt)
    }
}

async fn end(ctx: &Context<'_>, input: EndSessionInput) -> Result<u64, Refusal> {
    let viewer = logged_in(ctx)?;
    let mut check = Check::default();
    let id: Option<SessionId> = check.id(INPUT.field("sessionId"), &input.session_id);
    let Some(id) = id else {
        return Err(check.refusal());
    };
    let ended = app(ctx).sessions.end(viewer.user_id, id).await;
    match ended {
        Ok(true) => {
            note_ended(ctx, id);
            if id == viewer.session {
                forget_cookie(ctx);
            }
            Ok(1)
        }
        Ok(false) => {
            let path = INPUT.field("sessionId").path();
            let message = "there is no such session of yours";
            Err(refuse(SessionNotFound::new(message, path, input.session_id)))
        }
        Err(error) => Err(failed(ctx, error)),
    }
}

fn note_ended(ctx: &Context<'_>, session: SessionId) {
    let ended = deed(ctx, Kind::SessionsEnded).to(session.to_string());
    app(ctx).deeds.note(ended);
}

fn failed(ctx: &Context<'_>, error: RenewError) -> Refusal {
    match error {
        RenewError::Unavailable(error) => unavailable(&error),
        error => internal(ctx, error).into(),
    }
}

/// The browser need not keep what is good for nothing.
fn forget_cookie(ctx: &Context<'_>) {
    if info(ctx).session.is_some() {
        set_cookie(ctx, app(ctx).sessions.cookie.clear());
    }
}
