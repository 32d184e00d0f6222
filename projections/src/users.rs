//! Users as staff see them and as they see themselves. Never holds a password hash.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{Channels, PaymentMethodLabel, Personal, Role, User, UserEvent};
use kontor_eventstore::{Body, Recorded};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use crate::copy::Copy;
use crate::view::{FoldError, View, column, follows};

/// A user.
#[derive(Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "columns of a table: each is told and changed by itself"
)]
pub struct UserRow {
    /// `usr_…`
    pub id: String,
    /// As it was written.
    pub email: String,
    /// What they are called.
    pub name: String,
    /// How to call them.
    pub phone: Option<String>,
    /// `CUSTOMER`, `STAFF`, `ADMIN`.
    pub roles: Vec<String>,
    /// Whether they can log in.
    pub active: bool,
    /// When they registered.
    pub registered_at: DateTime<Utc>,
    /// When anything about them last changed.
    pub updated_at: DateTime<Utc>,
    /// Version of the aggregate: what edits expect.
    pub version: i64,
    /// Position of its last event.
    pub position: i64,
    /// Whether they are told by e-mail what happens to them.
    pub by_email: bool,
    /// Whether they are told by SMS, if they have a phone number.
    pub by_sms: bool,
    /// Whether they have shown that they read mail sent to the address.
    pub email_verified: bool,
    /// Means of payment they keep, in the order in which they were saved.
    pub payment_methods: Json<Vec<PaymentMethod>>,
}

/// A means of payment that somebody keeps. What the gateway calls it is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethod {
    /// `pay_…`
    pub id: String,
    /// What they call it.
    pub label: Personal<PaymentMethodLabel>,
}

/// Rows of the view, with the type of the JSON column, which sqlx cannot know.
macro_rules! rows {
    ($rest:literal $(, $value:expr)*) => {
        sqlx::query_as!(
            UserRow,
            r#"SELECT id, email, name, phone, roles, active, registered_at, updated_at, version, position, by_email, by_sms, email_verified,
                      payment_methods AS "payment_methods: Json<Vec<PaymentMethod>>"
               FROM users "# + $rest
            $(, $value)*
        )
    };
}

// Personal data does not print.
impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow")
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The view.
#[derive(Debug)]
pub struct Users;

impl View for Users {
    const NAME: &'static str = "users";
    const AGGREGATE: &'static str = User::TYPE;
    const KEY: &'static str = "id";
    type Id = String;
    type Row = UserRow;

    fn id_of(event: &Recorded) -> Option<String> {
        match &event.body {
            Body::User(id, _) => Some(id.to_string()),
            _ => None,
        }
    }

    fn id(row: &UserRow) -> String {
        row.id.clone()
    }

    fn position(row: &UserRow) -> u64 {
        row.position.unsigned_abs()
    }

    fn fold(row: &mut Option<UserRow>, event: &Recorded) -> Result<(), FoldError> {
        let Body::User(id, it) = &event.body else {
            return Err(FoldError::Foreign);
        };
        let names = |roles: &[Role]| roles.iter().map(|role| role.as_str().to_owned()).collect();
        if let UserEvent::Registered {
            email,
            name,
            phone,
            roles,
            ..
        } = it
        {
            *row = Some(UserRow {
                id: id.to_string(),
                email: email.reveal().as_str().to_owned(),
                name: name.reveal().as_str().to_owned(),
                phone: phone.as_ref().map(|phone| phone.reveal().as_str().to_owned()),
                roles: names(roles),
                active: true,
                registered_at: event.time,
                updated_at: event.time,
                version: event.sequence.cast_signed(),
                position: event.position.cast_signed(),
                by_email: Channels::default().email,
                by_sms: Channels::default().sms,
                email_verified: false,
                payment_methods: Json(Vec::new()),
            });
            return Ok(());
        }
        let row = row.as_mut().ok_or(FoldError::Unborn { event: it.name() })?;
        follows(row.version.unsigned_abs(), event)?;
        match it {
            UserEvent::Registered { .. } | UserEvent::PasswordChanged { .. } => {}
            UserEvent::ChannelsChosen { email, sms } => (row.by_email, row.by_sms) = (*email, *sms),
            UserEvent::ProfileChanged { name, phone } => {
                name.reveal().as_str().clone_into(&mut row.name);
                row.phone = phone.as_ref().map(|phone| phone.reveal().as_str().to_owned());
            }
            UserEvent::EmailChanged { email, previous } => {
                // Another spelling of the same address is as good.
                row.email_verified &= email.reveal().folded() == previous.reveal().folded();
                email.reveal().as_str().clone_into(&mut row.email);
            }
            UserEvent::EmailVerified {} => row.email_verified = true,
            UserEvent::RoleGranted { role } => row.roles.extend(names(&[*role])),
            UserEvent::RoleRevoked { role } => row.roles.retain(|has| has != role.as_str()),
            UserEvent::Deactivated { .. } => row.active = false,
            UserEvent::Reactivated {} => row.active = true,
            UserEvent::PaymentMethodSaved { id, label, .. } => {
                let (id, label) = (id.to_string(), label.clone());
                match row.payment_methods.iter_mut().find(|kept| kept.id == id) {
                    Some(kept) => kept.label = label,
                    None => row.payment_methods.push(PaymentMethod { id, label }),
                }
            }
            UserEvent::PaymentMethodRemoved { id } => {
                let id = id.to_string();
                row.payment_methods.retain(|kept| kept.id != id);
            }
        }
        row.updated_at = event.time;
        row.version = event.sequence.cast_signed();
        row.position = event.position.cast_signed();
        Ok(())
    }

    async fn load(connection: &mut PgConnection, ids: &[String]) -> Result<Vec<UserRow>, sqlx::Error> {
        rows!("WHERE id = ANY($1)", ids).fetch_all(connection).await
    }

    async fn update(connection: &mut PgConnection, rows: &[&UserRow]) -> Result<(), sqlx::Error> {
        // As text: sqlx would put a space before a `json`, and a row is compared with a rebuilt one as text.
        let payment_methods = rows
            .iter()
            .map(|row| serde_json::to_string(&row.payment_methods))
            .collect::<Result<Vec<String>, _>>()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query!(
            "UPDATE users u
             SET email = n.email, name = n.name, phone = n.phone, roles = string_to_array(n.roles, ' '),
                 active = n.active, updated_at = n.updated_at, version = n.version, position = n.position,
                 by_email = n.by_email, by_sms = n.by_sms, payment_methods = n.payment_methods::json,
                 email_verified = n.email_verified
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::timestamptz[],
                         $8::int8[], $9::int8[], $10::bool[], $11::bool[], $12::text[], $13::bool[])
                  AS n(id, email, name, phone, roles, active, updated_at, version, position, by_email, by_sms,
                       payment_methods, email_verified)
             WHERE u.id = n.id",
            &column(rows, |row| row.id.as_str()) as &[&str],
            &column(rows, |row| row.email.as_str()) as &[&str],
            &column(rows, |row| row.name.as_str()) as &[&str],
            &column(rows, |row| row.phone.as_deref()) as &[Option<&str>],
            &column(rows, |row| row.roles.join(" ")),
            &column(rows, |row| row.active),
            &column(rows, |row| row.updated_at),
            &column(rows, |row| row.version),
            &column(rows, |row| row.position),
            &column(rows, |row| row.by_email),
            &column(rows, |row| row.by_sms),
            &payment_methods,
            &column(rows, |row| row.email_verified)
        )
        .execute(connection)
        .await
        .map(drop)
    }

    fn encode(row: &UserRow, copy: &mut Copy) {
        copy.row(14)
            .text(&row.id)
            .text(&row.email)
            .text(&row.name)
            .optional_text(row.phone.as_ref())
            .texts(&row.roles)
            .boolean(row.active)
            .time(row.registered_at)
            .time(row.updated_at)
            .integer(row.version)
            .integer(row.position)
            .boolean(row.by_email)
            .boolean(row.by_sms)
            .json(&row.payment_methods)
            .boolean(row.email_verified);
    }
}

/// Several users, in no order; those that do not exist are left out.
///
/// # Errors
/// When Postgres is not there.
pub async fn by_ids(pool: &PgPool, ids: &[String]) -> Result<Vec<UserRow>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    Users::load(&mut connection, ids).await
}

/// A page of users, newest first: at most `limit`, behind the user `after` registered at that time.
///
/// # Errors
/// When Postgres is not there.
pub async fn list(
    pool: &PgPool,
    after: Option<(DateTime<Utc>, &str)>,
    limit: i64,
) -> Result<Vec<UserRow>, sqlx::Error> {
    let (time, id) = after.unzip();
    rows!(
        "WHERE $1::timestamptz IS NULL OR (registered_at, id) < ($1, $2::text)
         ORDER BY registered_at DESC, id DESC LIMIT $3",
        time,
        id,
        limit
    )
    .fetch_all(pool)
    .await
}
