//! Best sellers by pieces shipped: a sorted set in Redis, Postgres behind it.

use kontor_domain::ProductEvent;
use kontor_eventstore::Body;
use sqlx::PgPool;

use crate::mirror::{MirrorOf, Redis, Value};

const SET: &str = "best_sellers:set";

/// The mirror of units sold in Redis.
#[derive(Debug)]
pub struct BestSellerMirror;

impl MirrorOf for BestSellerMirror {
    const NAME: &'static str = "best_sellers";
    const SOURCE: &'static str = "products";

    fn id_of(body: &Body) -> Option<String> {
        match body {
            Body::Product(id, ProductEvent::ReservationCommitted { .. }) => Some(id.to_string()),
            _ => None,
        }
    }

    async fn values(pool: &PgPool, ids: &[String]) -> Result<Vec<Value>, sqlx::Error> {
        let rows = sqlx::query!("SELECT id, units_sold FROM products WHERE id = ANY($1)", ids)
            .fetch_all(pool)
            .await?;
        let score = |row: (String, i64)| Value::Score {
            key: SET.to_owned(),
            member: row.0,
            score: row.1,
        };
        Ok(rows
            .into_iter()
            .map(|row| score((row.id, row.units_sold)))
            .collect())
    }

    async fn ids(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar!(
            "SELECT id FROM products WHERE id > $1 AND units_sold > 0 ORDER BY id LIMIT $2",
            after,
            limit
        )
        .fetch_all(pool)
        .await
    }
}

/// Reads the best sellers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BestSellers {
    redis: Redis,
    pool: PgPool,
}

impl BestSellers {
    /// Best sellers from `redis`, or else from `pool`.
    #[must_use]
    pub fn new(redis: Redis, pool: PgPool) -> Self {
        Self { redis, pool }
    }

    /// The ids of the products of which most pieces were shipped, and how many, most first.
    ///
    /// # Errors
    /// When neither Redis nor Postgres answers.
    pub async fn top(&self, count: usize) -> Result<Vec<(String, i64)>, sqlx::Error> {
        let last = isize::try_from(count).unwrap_or(isize::MAX) - 1;
        let mut query = redis::pipe();
        query
            .exists(self.redis.key(BestSellerMirror::NAME))
            .zrevrange_withscores(self.redis.key(SET), 0, last);
        // Without its position the set may be half filled.
        if let Some((true, top)) = self.redis.read::<(bool, Vec<(String, i64)>)>(&query).await {
            return Ok(top);
        }
        let rows = sqlx::query!(
            "SELECT id, units_sold FROM products WHERE units_sold > 0 ORDER BY units_sold DESC, id DESC LIMIT $1",
            i64::try_from(count).unwrap_or(i64::MAX)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.units_sold)).collect())
    }
}
