//! Sends the mails that are wanted.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use kontor_domain::{Email, PersonName, User, UserId};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Clock, Worker};
use metrics::counter;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{AccountToken, Purpose};
use crate::breaker::Refusal;
use crate::notifications::{AccountLetter, Channel, DeliveryError, Mail, Post};

/// The lease under which they are sent.
pub const LEASE: &str = "account_mail";
/// How often to look whether one is wanted.
const POLL: Duration = Duration::from_millis(500);
/// Mails taken at once.
const BATCH: i64 = 16;

/// Sends mails whenever the lease can be had, until `stop`.
pub async fn run(worker: Worker, post: Arc<Post>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let sender = Sender {
        pool: worker.store().pool().clone(),
        worker: &worker,
        post,
        clock,
    };
    worker.hold_lease(LEASE, &stop, |_| sender.work(&stop)).await;
}

struct Sender<'a> {
    worker: &'a Worker,
    pool: PgPool,
    post: Arc<Post>,
    clock: Arc<dyn Clock>,
}

/// A mail that is wanted.
struct Wanted {
    id: i64,
    purpose: String,
    user_id: Option<String>,
    attempts: i32,
}

/// Whom it goes to.
struct Recipient {
    name: PersonName,
    email: Email,
}

impl Sender<'_> {
    async fn work(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => warn!(%error, "mails about accounts held up, trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Whether there may be more.
    async fn round(&self) -> Result<bool, ReadError> {
        if self.post.holds_back(Channel::Email) {
            return Ok(false);
        }
        sqlx::query!(
            "DELETE FROM account_tokens WHERE expires_at < $1",
            self.clock.now()
        )
        .execute(&self.pool)
        .await?;
        let wanted = sqlx::query_as!(
            Wanted,
            "SELECT id, purpose, user_id, attempts FROM account_mails WHERE due_at <= clock_timestamp()
             ORDER BY due_at, id LIMIT $1",
            BATCH
        )
        .fetch_all(&self.pool)
        .await?;
        for it in &wanted {
            if !self.attend(it).await? {
                return Ok(false);
            }
        }
        Ok(!wanted.is_empty())
    }

    /// Sends one mail; whether it was tried, because nobody may be there to take it. A worker that dies in between sends a
    /// second one, with another token; both are good.
    async fn attend(&self, wanted: &Wanted) -> Result<bool, ReadError> {
        let purpose = Purpose::parse(&wanted.purpose);
        let user_id = wanted.user_id.as_ref().and_then(|id| id.parse().ok());
        let (Some(purpose), Some(user_id)) = (purpose, user_id) else {
            self.done(wanted).await?;
            return Ok(true);
        };
        let Some(recipient) = self.recipient(user_id, purpose).await? else {
            self.done(wanted).await?;
            return Ok(true);
        };
        let outcome = self.send(wanted.id, user_id, purpose, &recipient).await?;
        let failures = wanted.attempts.unsigned_abs() + 1;
        let result = match outcome {
            Ok(()) => "sent",
            Err(Refusal::Open) => return Ok(false),
            Err(Refusal::Out(DeliveryError::Silent(error) | DeliveryError::Transient(error)))
                if failures < self.post.attempts() =>
            {
                info!(
                    account_mail = wanted.id,
                    error, "mail not sent, trying again later"
                );
                self.again(wanted, self.post.pause_after(failures)).await?;
                "failed"
            }
            Err(Refusal::Out(error)) => {
                error!(account_mail = wanted.id, %error, "mail given up; the person can ask for another");
                "dead"
            }
        };
        counter!("kontor_account_mails_total", "purpose" => purpose.as_str(), "outcome" => result)
            .increment(1);
        if result != "failed" {
            self.done(wanted).await?;
        }
        Ok(true)
    }

    /// Nobody, if the account is closed or erased, or there is nothing left to prove.
    async fn recipient(&self, user_id: UserId, purpose: Purpose) -> Result<Option<Recipient>, ReadError> {
        let look = |user: &User, _| {
            let wants = user.is_active() && !(purpose == Purpose::VerifyEmail && user.email_verified());
            Some(Recipient {
                name: user.name()?.reveal()?.clone(),
                email: user.email()?.reveal()?.clone(),
            })
            .filter(|_| wants)
        };
        match self.worker.store().inspect(user_id, look).await {
            Err(ReadError::Undecodable(_)) => Ok(None),
            found => found,
        }
    }

    async fn send(
        &self,
        id: i64,
        user_id: UserId,
        purpose: Purpose,
        recipient: &Recipient,
    ) -> Result<Result<(), Refusal<DeliveryError>>, ReadError> {
        let out = |error| Ok(Err(Refusal::Out(error)));
        let Some(token) = AccountToken::fresh(user_id) else {
            return out(DeliveryError::Transient("no random bytes".to_owned()));
        };
        let now = self.clock.now();
        let expires = now + TimeDelta::minutes(purpose.minutes());
        token.keep(&self.pool, purpose, &recipient.email, expires).await?;
        let letter = AccountLetter {
            purpose,
            user_id,
            name: &recipient.name,
            email: &recipient.email,
            token: &token.reveal(),
            id,
            now,
        };
        let mail: Mail = match self.post.account_mail(&letter) {
            Ok(mail) => mail,
            Err(error) => return out(DeliveryError::Permanent(error)),
        };
        let sent = self.post.send_mail(mail).await;
        // Whoever removed all that was there may have come a moment too early.
        if self.worker.store().keyring().is_erased(user_id).await? {
            self.post.take_back(user_id);
            AccountToken::forget(&self.pool, user_id).await?;
        }
        Ok(sent)
    }

    async fn again(&self, wanted: &Wanted, pause: Duration) -> Result<(), ReadError> {
        sqlx::query!(
            "UPDATE account_mails SET attempts = attempts + 1, due_at = clock_timestamp() + $2 * interval '1 second'
             WHERE id = $1",
            wanted.id,
            pause.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn done(&self, wanted: &Wanted) -> Result<(), ReadError> {
        sqlx::query!("DELETE FROM account_mails WHERE id = $1", wanted.id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
