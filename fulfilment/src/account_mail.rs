//! Mails that prove who somebody is: to set a password that was forgotten, and to show that an address is theirs.
//!
//! What proves it is a token that only the mail has. The log keeps what is in it for ever, so the token is not in it: a row says that
//! a mail is wanted, the sender makes the token at the moment it sends the mail, and of the token only a hash is kept.

mod sender;
mod token;

use std::collections::BTreeSet;

use kontor_domain::UserId;
use sqlx::{PgConnection, PgPool};

pub use sender::{LEASE, run};
pub use token::AccountToken;

/// What a mail is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Setting a password that was forgotten.
    ResetPassword,
    /// Showing that an e-mail address is one's own.
    VerifyEmail,
}

impl Purpose {
    /// How it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResetPassword => "RESET_PASSWORD",
            Self::VerifyEmail => "VERIFY_EMAIL",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::ResetPassword, Self::VerifyEmail]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
    }

    /// How long its token is good for, in minutes.
    pub(crate) const fn minutes(self) -> i64 {
        match self {
            Self::ResetPassword => 60,
            Self::VerifyEmail => 24 * 60,
        }
    }
}

/// Notes that a mail is wanted. Without a user the row is noted all the same and nobody is written to, so that it takes as long.
///
/// # Errors
/// When Postgres is not there.
pub async fn request(pool: &PgPool, purpose: Purpose, user_id: Option<UserId>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO account_mails (purpose, user_id) VALUES ($1, $2)",
        purpose.as_str(),
        user_id.map(|id| id.to_string())
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Notes in a transaction that a mail is wanted to each of these.
///
/// # Errors
/// When Postgres is not there.
pub(crate) async fn request_all(
    connection: &mut PgConnection,
    purpose: Purpose,
    user_ids: &BTreeSet<UserId>,
) -> Result<(), sqlx::Error> {
    if user_ids.is_empty() {
        return Ok(());
    }
    let user_ids: Vec<String> = user_ids.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "INSERT INTO account_mails (purpose, user_id) SELECT $1, unnest($2::text[])",
        purpose.as_str(),
        &user_ids
    )
    .execute(connection)
    .await
    .map(drop)
}
