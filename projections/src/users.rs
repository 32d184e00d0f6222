//! Users as staff see them and as they see themselves. What is personal is copied from the events as it is, sealed; of
//! somebody who was erased only the bones are left. Never holds a password hash.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use kontor_domain::{Channels, Email, PaymentMethodLabel, Personal, Role, User, UserEvent};
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
    /// As it is stored: `Personal::<Email>::from_stored` reads it. None: the person was erased.
    pub email: Option<String>,
    /// What they are called, stored likewise.
    pub name: Option<String>,
    /// How to call them, stored likewise.
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
                email: Some(stored(email)),
                name: Some(stored(name)),
                phone: phone.as_ref().map(stored),
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
                row.name = Some(stored(name));
                row.phone = phone.as_ref().map(stored);
            }
            UserEvent::EmailChanged { email, previous } => {
                // From before addresses were sealed, no further event says that only the spelling changed.
                row.email_verified &= Email::are_same(email, previous);
                row.email = Some(stored(email));
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
            UserEvent::Erased { .. } => {
                (row.email, row.name, row.phone) = (None, None, None);
                (row.active, row.email_verified) = (false, false);
                row.roles.clear();
                row.payment_methods.clear();
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
            &column(rows, |row| row.email.as_deref()) as &[Option<&str>],
            &column(rows, |row| row.name.as_deref()) as &[Option<&str>],
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
            .optional_text(row.email.as_ref())
            .optional_text(row.name.as_ref())
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

fn stored<T: AsRef<str>>(value: &Personal<T>) -> String {
    value.stored().to_owned()
}

/// Several users, in no order; those that do not exist, or were erased, are left out.
///
/// # Errors
/// When Postgres is not there.
pub async fn by_ids(pool: &PgPool, ids: &[String]) -> Result<Vec<UserRow>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut rows = Users::load(&mut connection, ids).await?;
    rows.retain(|row| row.email.is_some());
    Ok(rows)
}

/// A page of users who were not erased, newest first: at most `limit`, behind the user `after` registered at that time.
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
        "WHERE email IS NOT NULL AND ($1::timestamptz IS NULL OR (registered_at, id) < ($1, $2::text))
         ORDER BY registered_at DESC, id DESC LIMIT $3",
        time,
        id,
        limit
    )
    .fetch_all(pool)
    .await
}
