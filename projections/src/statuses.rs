//! The live status of orders: Redis first, Postgres behind it.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kontor_eventstore::Body;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::mirror::{MirrorOf, Redis, Value};

/// A status nobody changed for so long is no longer live; Postgres still has it.
const LIVE_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where an order is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// `ord_…`
    pub order_id: String,
    /// `usr_…`
    pub customer_id: String,
    /// As `OrderStatus::as_str`.
    pub status: String,
    /// Since when.
    pub updated_at: DateTime<Utc>,
    /// Version of the order.
    pub version: i64,
    /// Position of its last event.
    pub position: i64,
}

/// The mirror of statuses in Redis.
#[derive(Debug)]
pub struct OrderStatusMirror;

fn key(id: &str) -> String {
    format!("order_status:{id}")
}

impl MirrorOf for OrderStatusMirror {
    const NAME: &'static str = "order_statuses";
    const SOURCE: &'static str = "orders";

    fn id_of(body: &Body) -> Option<String> {
        match body {
            Body::Order(id, _) => Some(id.to_string()),
            _ => None,
        }
    }

    async fn values(pool: &PgPool, ids: &[String]) -> Result<Vec<Value>, sqlx::Error> {
        Ok(from_postgres(pool, ids)
            .await?
            .iter()
            .filter_map(|status| {
                let json = serde_json::to_string(status).ok()?;
                let key = key(&status.order_id);
                Some(Value::Document {
                    key,
                    position: status.position,
                    json,
                    ttl: Some(LIVE_FOR),
                })
            })
            .collect())
    }

    async fn ids(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar!(
            "SELECT id FROM orders WHERE id > $1 AND updated_at > clock_timestamp() - $3 * interval '1 second'
             ORDER BY id LIMIT $2",
            after,
            limit,
            LIVE_FOR.as_secs_f64()
        )
        .fetch_all(pool)
        .await
    }
}

async fn from_postgres(pool: &PgPool, ids: &[String]) -> Result<Vec<LiveStatus>, sqlx::Error> {
    sqlx::query_as!(
        LiveStatus,
        "SELECT id AS order_id, customer_id, status, updated_at, version, position FROM orders WHERE id = ANY($1)",
        ids
    )
    .fetch_all(pool)
    .await
}

/// Reads live statuses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OrderStatuses {
    redis: Redis,
    pool: PgPool,
}

impl OrderStatuses {
    /// Statuses from `redis`, or else from `pool`.
    #[must_use]
    pub fn new(redis: Redis, pool: PgPool) -> Self {
        Self { redis, pool }
    }

    /// The statuses of these orders; those that do not exist are left out.
    ///
    /// # Errors
    /// When neither Redis nor Postgres answers.
    pub async fn get(&self, ids: &[String]) -> Result<HashMap<String, LiveStatus>, sqlx::Error> {
        let mut query = redis::pipe();
        for id in ids {
            query.hget(self.redis.key(&key(id)), "value");
        }
        let known: Vec<Option<Vec<u8>>> = self.redis.read(&query).await.unwrap_or_default();
        let mut statuses: HashMap<String, LiveStatus> = known
            .iter()
            .flatten()
            .filter_map(|json| serde_json::from_slice::<LiveStatus>(json).ok())
            .map(|status| (status.order_id.clone(), status))
            .collect();
        let missing: Vec<String> = ids
            .iter()
            .filter(|id| !statuses.contains_key(*id))
            .cloned()
            .collect();
        if !missing.is_empty() {
            let found = from_postgres(&self.pool, &missing).await?;
            statuses.extend(found.into_iter().map(|status| (status.order_id.clone(), status)));
        }
        Ok(statuses)
    }
}
