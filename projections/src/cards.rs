//! Product cards with live stock: Redis first, Postgres behind it.

use std::collections::HashMap;

use kontor_eventstore::Body;
use sqlx::PgPool;

use crate::mirror::{MirrorOf, Redis, Value};
use crate::products::{self, ProductRow};

/// The mirror of products in Redis.
#[derive(Debug)]
pub struct ProductCardMirror;

fn key(id: &str) -> String {
    format!("product:{id}")
}

impl MirrorOf for ProductCardMirror {
    const NAME: &'static str = "product_cards";
    const SOURCE: &'static str = "products";

    fn id_of(body: &Body) -> Option<String> {
        match body {
            Body::Product(id, _) => Some(id.to_string()),
            _ => None,
        }
    }

    async fn values(pool: &PgPool, ids: &[String]) -> Result<Vec<Value>, sqlx::Error> {
        let rows = products::by_ids(pool, ids).await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let json = serde_json::to_string(row).ok()?;
                Some(Value::Document {
                    key: key(&row.id),
                    position: row.position,
                    json,
                    ttl: None,
                })
            })
            .collect())
    }

    async fn ids(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar!(
            "SELECT id FROM products WHERE id > $1 ORDER BY id LIMIT $2",
            after,
            limit
        )
        .fetch_all(pool)
        .await
    }
}

/// Reads product cards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProductCards {
    redis: Redis,
    pool: PgPool,
}

impl ProductCards {
    /// Cards from `redis`, or else from `pool`.
    #[must_use]
    pub fn new(redis: Redis, pool: PgPool) -> Self {
        Self { redis, pool }
    }

    /// The products with these ids; those that do not exist are left out.
    ///
    /// # Errors
    /// When neither Redis nor Postgres answers.
    pub async fn get(&self, ids: &[String]) -> Result<HashMap<String, ProductRow>, sqlx::Error> {
        let mut query = redis::pipe();
        for id in ids {
            query.hget(self.redis.key(&key(id)), "value");
        }
        let known: Vec<Option<Vec<u8>>> = self.redis.read(&query).await.unwrap_or_default();
        let mut rows: HashMap<String, ProductRow> = known
            .iter()
            .flatten()
            .filter_map(|json| serde_json::from_slice::<ProductRow>(json).ok())
            .map(|row| (row.id.clone(), row))
            .collect();
        let missing: Vec<String> = ids.iter().filter(|id| !rows.contains_key(*id)).cloned().collect();
        if !missing.is_empty() {
            rows.extend(
                products::by_ids(&self.pool, &missing)
                    .await?
                    .into_iter()
                    .map(|row| (row.id.clone(), row)),
            );
        }
        Ok(rows)
    }
}
