//! What the log holds on a person, in words they can read: theirs to take with them.

use kontor_domain::{Entity, Order, User, UserId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::read::{ReadError, Row};
use crate::recorded::{Body, Recorded};
use crate::store::Store;

impl Store {
    /// The events of a person's account and of these orders of theirs, oldest first, with what is sealed in them unsealed; of
    /// passwords and tokens of payment methods only that there is one.
    ///
    /// # Errors
    /// When the log or the person's key cannot be read.
    pub async fn history_of(&self, person: UserId, orders: &[String]) -> Result<Vec<Value>, ReadError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT position, sequence, timestamp, aggregate_type, aggregate_id, event_type, event_version,
                      payload::text AS "payload!", metadata::text AS "metadata!"
               FROM events
               WHERE aggregate_type = 'user' AND aggregate_id = $1
                  OR aggregate_type = 'order' AND aggregate_id = ANY($2)
               ORDER BY position"#,
            person.to_string(),
            orders
        )
        .fetch_all(self.pool())
        .await?;
        let mut history = Vec::with_capacity(rows.len());
        for event in rows.into_iter().map(Recorded::from) {
            history.push(json!({
                "position": event.position,
                "time": event.time,
                "of": event.stream().aggregate_id,
                "event": event.event_type(),
                "actor": event.metadata().ok().map(|metadata| metadata.actor),
                "content": self.readable(event.body).await?,
            }));
        }
        Ok(history)
    }

    async fn readable(&self, body: Body) -> Result<Value, ReadError> {
        let keyring = self.keyring();
        let mut content = match body {
            Body::User(_, mut event) => {
                keyring.unseal(User::personal_in(&mut event)).await?;
                fields(&event)
            }
            Body::Order(_, mut event) => {
                keyring.unseal(Order::personal_in(&mut event)).await?;
                fields(&event)
            }
            Body::Product(..) | Body::Unreadable(_) => Ok(Value::Null),
        }
        .map_err(|error| ReadError::Undecodable(error.to_string()))?;
        for secret in ["password_hash", "token", "payment"] {
            if let Some(value) = content.get_mut(secret) {
                *value = Value::String("***".to_owned());
            }
        }
        Ok(content)
    }
}

/// An event's fields, without its name around them.
fn fields(event: &impl Serialize) -> Result<Value, serde_json::Error> {
    Ok(match serde_json::to_value(event)? {
        Value::Object(named) => named.into_iter().next().map_or(Value::Null, |(_, fields)| fields),
        other => other,
    })
}
