//! One entry of the log, decoded.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use cqrs_es::persist::SerializedEvent;
use cqrs_es::{Aggregate, DomainEvent};
use kontor_domain::{Order, OrderEvent, OrderId, Product, ProductEvent, ProductId, User, UserEvent, UserId};
use serde::de::DeserializeOwned;

use crate::context::Metadata;
use crate::upcast;

/// What the log says at one position.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The place in the log: 1, 2, 3, … in commit order, without gaps.
    pub position: u64,
    /// The place in its aggregate's stream, from 1.
    pub sequence: u64,
    /// When the command was given.
    pub time: DateTime<Utc>,
    /// What happened, to whom.
    pub body: Body,
    metadata: Bytes,
}

/// The event itself, by aggregate.
#[derive(Debug, Clone)]
pub enum Body {
    /// An event of a user.
    User(UserId, UserEvent),
    /// An event of a product.
    Product(ProductId, ProductEvent),
    /// An event of an order.
    Order(OrderId, OrderEvent),
    /// Something this binary cannot read. Consumers that would need it park its aggregate (V3).
    Unreadable(Box<Unreadable>),
}

/// What is known of an event that could not be decoded.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// As stored.
    pub aggregate_type: String,
    /// As stored.
    pub aggregate_id: String,
    /// As stored.
    pub event_type: String,
    /// Why it could not be decoded. Names fields, never values.
    pub error: String,
}

/// An aggregate, by type and id: the unit that is parked, retried and resumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// `user`, `product` or `order`.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.aggregate_type, self.aggregate_id)
    }
}

impl From<(UserId, UserEvent)> for Body {
    fn from((id, event): (UserId, UserEvent)) -> Self {
        Self::User(id, event)
    }
}

impl From<(ProductId, ProductEvent)> for Body {
    fn from((id, event): (ProductId, ProductEvent)) -> Self {
        Self::Product(id, event)
    }
}

impl From<(OrderId, OrderEvent)> for Body {
    fn from((id, event): (OrderId, OrderEvent)) -> Self {
        Self::Order(id, event)
    }
}

impl Recorded {
    pub(crate) fn new(
        position: u64,
        sequence: u64,
        time: DateTime<Utc>,
        body: Body,
        metadata: Bytes,
    ) -> Self {
        Self {
            position,
            sequence,
            time,
            body,
            metadata,
        }
    }

    /// The aggregate it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamKey {
        let (aggregate_type, aggregate_id) = match &self.body {
            Body::User(id, _) => (User::TYPE, id.to_string()),
            Body::Product(id, _) => (Product::TYPE, id.to_string()),
            Body::Order(id, _) => (Order::TYPE, id.to_string()),
            Body::Unreadable(it) => (it.aggregate_type.as_str(), it.aggregate_id.clone()),
        };
        StreamKey {
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id,
        }
    }

    /// `user`, `product`, `order`, or whatever an unreadable event was stored under.
    #[must_use]
    pub fn aggregate_type(&self) -> &str {
        match &self.body {
            Body::User(..) => User::TYPE,
            Body::Product(..) => Product::TYPE,
            Body::Order(..) => Order::TYPE,
            Body::Unreadable(it) => &it.aggregate_type,
        }
    }

    /// The event's name, as `StockReserved`.
    #[must_use]
    pub fn event_type(&self) -> String {
        match &self.body {
            Body::User(_, event) => event.event_type(),
            Body::Product(_, event) => event.event_type(),
            Body::Order(_, event) => event.event_type(),
            Body::Unreadable(it) => it.event_type.clone(),
        }
    }

    /// Who did it, why, and as part of what. Decoded when asked: most readers never do.
    ///
    /// # Errors
    /// When the stored metadata is not Kontor's.
    pub fn metadata(&self) -> Result<Metadata, serde_json::Error> {
        serde_json::from_slice(&self.metadata)
    }

    /// The metadata as stored, JSON.
    #[must_use]
    pub fn raw_metadata(&self) -> &[u8] {
        &self.metadata
    }
}

/// Decodes a stored event. Never fails: what cannot be read comes back as [`Body::Unreadable`].
pub(crate) fn decode(
    aggregate_type: &str,
    aggregate_id: &str,
    event_type: &str,
    version: &str,
    payload: &[u8],
) -> Body {
    let decoded = match aggregate_type {
        User::TYPE => typed::<User, UserId>(aggregate_id, event_type, version, payload),
        Product::TYPE => typed::<Product, ProductId>(aggregate_id, event_type, version, payload),
        Order::TYPE => typed::<Order, OrderId>(aggregate_id, event_type, version, payload),
        other => Err(format!("no aggregate is called {other:?}")),
    };
    decoded.unwrap_or_else(|error| {
        Body::Unreadable(Box::new(Unreadable {
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: aggregate_id.to_owned(),
            event_type: event_type.to_owned(),
            error,
        }))
    })
}

fn typed<A, Id>(id: &str, event_type: &str, version: &str, payload: &[u8]) -> Result<Body, String>
where
    A: Aggregate,
    A::Event: DeserializeOwned,
    Id: std::str::FromStr<Err: fmt::Display>,
    Body: From<(Id, A::Event)>,
{
    let id = id.parse::<Id>().map_err(|e| e.to_string())?;
    let event: A::Event = if upcast::applies(event_type, version) {
        let payload = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
        let stored = SerializedEvent::new(
            String::new(),
            0,
            A::TYPE.to_owned(),
            event_type.to_owned(),
            version.to_owned(),
            payload,
            serde_json::Value::Null,
        );
        serde_json::from_value(upcast::upcast(stored).payload)
    } else {
        serde_json::from_slice(payload)
    }
    .map_err(|e| e.to_string())?;
    Ok(Body::from((id, event)))
}
