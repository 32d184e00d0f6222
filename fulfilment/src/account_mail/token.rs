//! The token in a mail.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use kontor_domain::{Email, UserId};
use kontor_eventstore::transaction::begin;
use sqlx::PgPool;
use ulid::Ulid;

use super::Purpose;

const SECRET: usize = 32;
const LENGTH: usize = 16 + SECRET;
/// As text, in base64.
const TEXT: usize = 64;

/// A token: names the account, and proves that whoever has it reads the mail of that account (32 random bytes).
#[derive(Clone, PartialEq, Eq)]
pub struct AccountToken {
    user_id: UserId,
    secret: [u8; SECRET],
}

// A token does not print.
impl fmt::Debug for AccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl AccountToken {
    /// A fresh one; `None` if the machine gives no random bytes.
    pub(super) fn fresh(user_id: UserId) -> Option<Self> {
        let mut secret = [0; SECRET];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(Self { user_id, secret })
    }

    /// Reads a token; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let bytes: &[u8; LENGTH] = bytes.as_slice().try_into().ok()?;
        let (user_id, secret) = bytes.split_first_chunk::<16>()?;
        Some(Self {
            user_id: UserId::from_ulid(Ulid::from_bytes(*user_id)),
            secret: secret.try_into().ok()?,
        })
    }

    /// Whose account it is for, if it is for any.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        self.user_id
    }

    /// What the mail says.
    pub(super) fn reveal(&self) -> String {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(&self.user_id.ulid().to_bytes());
        bytes[16..].copy_from_slice(&self.secret);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What is kept. The address it was sent to is in it: once the account has another, the token is good for nothing.
    fn hash(&self, purpose: Purpose, email: &Email) -> Vec<u8> {
        let mut text = self.secret.to_vec();
        text.extend(purpose.as_str().bytes());
        text.push(b' ');
        text.extend(email.folded().bytes());
        digest(&SHA256, &text).as_ref().to_vec()
    }

    /// Keeps it until it expires.
    pub(super) async fn keep(
        &self,
        pool: &PgPool,
        purpose: Purpose,
        email: &Email,
        expires: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO account_tokens (hash, user_id, purpose, expires_at) VALUES ($1, $2, $3, $4)",
            self.hash(purpose, email),
            self.user_id.to_string(),
            purpose.as_str(),
            expires
        )
        .execute(pool)
        .await
        .map(drop)
    }

    /// Forgets every token that was sent to somebody.
    pub(super) async fn forget(pool: &PgPool, user_id: UserId) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "DELETE FROM account_tokens WHERE user_id = $1",
            user_id.to_string()
        )
        .execute(pool)
        .await
        .map(drop)
    }

    /// Whether it could be used now.
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn is_good(
        &self,
        pool: &PgPool,
        purpose: Purpose,
        email: &Email,
        now: DateTime<Utc>,
    ) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM account_tokens WHERE hash = $1 AND expires_at > $2) AS "good!""#,
            self.hash(purpose, email),
            now
        )
        .fetch_one(pool)
        .await
    }

    /// Uses it up, and with it whatever was sent to the account for the same purpose; false if it was no good (any more).
    ///
    /// # Errors
    /// When Postgres is not there.
    pub async fn use_up(
        &self,
        pool: &PgPool,
        purpose: Purpose,
        email: &Email,
        now: DateTime<Utc>,
    ) -> Result<bool, sqlx::Error> {
        let mut tx = begin(pool).await?;
        let used = sqlx::query!(
            "DELETE FROM account_tokens WHERE hash = $1 AND expires_at > $2",
            self.hash(purpose, email),
            now
        )
        .execute(&mut *tx)
        .await?;
        let good = used.rows_affected() == 1;
        if good {
            sqlx::query!(
                "DELETE FROM account_tokens WHERE user_id = $1 AND purpose = $2",
                self.user_id.to_string(),
                purpose.as_str()
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_is_bound_to_purpose_and_address() {
        let token = AccountToken::fresh(UserId::from_ulid(Ulid::from_parts(1, 2))).unwrap();
        assert_eq!(AccountToken::parse(&token.reveal()), Some(token.clone()));
        let (one, other): (Email, Email) = ("a@b.c".parse().unwrap(), "a@b.d".parse().unwrap());
        let hash = token.hash(Purpose::ResetPassword, &one);
        assert_eq!(
            hash,
            token.hash(Purpose::ResetPassword, &"A@b.C".parse().unwrap())
        );
        assert_ne!(hash, token.hash(Purpose::ResetPassword, &other));
        assert_ne!(hash, token.hash(Purpose::VerifyEmail, &one));
        for wrong in ["", "x", &token.reveal()[1..], &"!".repeat(TEXT)] {
            assert_eq!(AccountToken::parse(wrong), None);
        }
    }
}
