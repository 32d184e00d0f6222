//! Is the process up, and can it do its work: what a load balancer and an operator ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kontor_projections::best_sellers::BestSellerMirror;
use kontor_projections::cards::ProductCardMirror;
use kontor_projections::mirror::MirrorOf as _;
use kontor_projections::statuses::OrderStatusMirror;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::App;

/// The read models in Redis. Their checkpoints are there too.
pub(crate) const MIRRORS: [&str; 3] = [
    ProductCardMirror::NAME,
    OrderStatusMirror::NAME,
    BestSellerMirror::NAME,
];

/// A part that takes longer to answer is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// Events. A view further behind than this shows a shop of some seconds ago.
const BEHIND: u64 = 10_000;

/// State of the route.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) app: Arc<App>,
    /// Consumers that this process runs: without them it is not whole.
    pub(crate) workers: Arc<[String]>,
    pub(crate) stop: CancellationToken,
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// As it should be.
    Ok,
    /// Something is amiss, but requests are answered.
    Degraded,
    /// Requests had better go elsewhere.
    Down,
}

/// One part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// How it is.
    pub status: Condition,
    /// Why, and what to do about it; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Events yet to be applied, by consumer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lag: BTreeMap<String, u64>,
}

impl Part {
    const OK: Self = Self {
        status: Condition::Ok,
        reason: None,
        lag: BTreeMap::new(),
    };

    fn not(status: Condition, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
            ..Self::OK
        }
    }
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether requests may come.
    pub ready: bool,
    /// The worst of the parts.
    pub status: Condition,
    /// Each part.
    pub parts: BTreeMap<&'static str, Part>,
}

impl Readiness {
    fn of(parts: BTreeMap<&'static str, Part>) -> Self {
        let status = parts
            .values()
            .map(|part| part.status)
            .max()
            .unwrap_or(Condition::Ok);
        Self {
            ready: status < Condition::Down,
            status,
            parts,
        }
    }
}

/// `/healthz`: the process answers.
pub(crate) async fn alive() -> &'static str {
    "ok"
}

/// `/readyz`: 200 or 503, and why.
pub(crate) async fn ready(State(health): State<Health>) -> (StatusCode, Json<Readiness>) {
    let (postgres, migrations, workers, views, redis) = tokio::join!(
        within(postgres(&health.app)),
        within(migrations(&health.app)),
        within(workers(&health)),
        within(views(&health.app)),
        within(redis(&health.app)),
    );
    // Redis that hangs is Redis that is not there: reads go to Postgres.
    let redis = Part {
        status: redis.status.min(Condition::Degraded),
        ..redis
    };
    let process = if health.stop.is_cancelled() {
        Part::not(Condition::Down, "this process is ending; go to another one")
    } else {
        Part::OK
    };
    let readiness = Readiness::of(BTreeMap::from([
        ("process", process),
        ("postgres", postgres),
        ("migrations", migrations),
        ("workers", workers),
        ("views", views),
        ("redis", redis),
    ]));
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn within(part: impl Future<Output = Part>) -> Part {
    tokio::time::timeout(PATIENCE, part)
        .await
        .unwrap_or_else(|_| Part::not(Condition::Down, "it did not answer within two seconds"))
}

async fn postgres(app: &App) -> Part {
    match sqlx::query_scalar!(r#"SELECT 1 AS "one!""#)
        .fetch_one(app.store.pool())
        .await
    {
        Ok(_) => Part::OK,
        Err(error) => unreachable(&error),
    }
}

fn unreachable(error: &sqlx::Error) -> Part {
    Part::not(
        Condition::Down,
        format!("Postgres does not answer ({error}); nothing can be sold until it does"),
    )
}

async fn migrations(app: &App) -> Part {
    let known = kontor_eventstore::schema::MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    // The table is sqlx's own; a schema that was loaded by other means has none.
    let found =
        sqlx::query_scalar::<_, Option<i64>>("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(app.store.pool())
            .await;
    match found {
        Ok(Some(found)) if found >= known => Part::OK,
        Ok(found) => Part::not(
            Condition::Down,
            format!(
                "the database's schema is at version {}, this Kontor needs {known}; start a process that migrates it",
                found.unwrap_or(0)
            ),
        ),
        Err(error) if error.as_database_error().is_some() => Part::not(
            Condition::Down,
            format!(
                "the database's schema has no version, this Kontor needs {known}; start a process that migrates it"
            ),
        ),
        Err(error) => unreachable(&error),
    }
}

/// Somebody must be at work on every consumer, in whichever process; on our own above all.
async fn workers(health: &Health) -> Part {
    let held = sqlx::query_scalar!("SELECT consumer FROM leases WHERE expires_at > clock_timestamp()")
        .fetch_all(health.app.store.pool())
        .await;
    let held = match held {
        Ok(held) => held,
        Err(error) => return unreachable(&error),
    };
    let idle: Vec<&str> = health
        .workers
        .iter()
        .map(String::as_str)
        .filter(|name| !held.iter().any(|it| it == name))
        .collect();
    if idle.is_empty() {
        return Part::OK;
    }
    Part::not(
        Condition::Down,
        format!(
            "no worker is at {}; it is starting, or has failed and the log says why",
            idle.join(", ")
        ),
    )
}

async fn views(app: &App) -> Part {
    let head = *app.store.head().borrow();
    let checkpoints = match kontor_eventstore::checkpoints(app.store.pool()).await {
        Ok(checkpoints) => checkpoints,
        Err(error) => return unreachable(&error),
    };
    let mirrors = MIRRORS.into_iter().filter_map(|mirror| {
        let reached = *app.progress.watch(mirror).borrow();
        (reached > 0).then(|| (mirror.to_owned(), head.saturating_sub(reached)))
    });
    let parked: u64 = checkpoints.iter().map(|checkpoint| checkpoint.parked).sum();
    let lag: BTreeMap<String, u64> = checkpoints
        .into_iter()
        .map(|checkpoint| (checkpoint.consumer, head.saturating_sub(checkpoint.position)))
        .chain(mirrors)
        .collect();
    let behind: Vec<&str> = lag
        .iter()
        .filter(|(_, lag)| **lag > BEHIND)
        .map(|(consumer, _)| consumer.as_str())
        .collect();
    let reason = if !behind.is_empty() {
        Some(format!("more than {BEHIND} events behind: {}", behind.join(", ")))
    } else if parked > 0 {
        Some(format!(
            "{parked} aggregates wait in the dead letters; `kontor status` names them"
        ))
    } else {
        None
    };
    Part {
        status: if reason.is_some() {
            Condition::Degraded
        } else {
            Condition::Ok
        },
        reason,
        lag,
    }
}

async fn redis(app: &App) -> Part {
    match app.redis.ping().await {
        Ok(()) => Part::OK,
        Err(error) => Part::not(
            Condition::Degraded,
            format!("Redis does not answer ({error}); reads come from Postgres, more slowly"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_what_has_no_part_down() {
        let parts = |redis, postgres| {
            Readiness::of(BTreeMap::from([
                ("redis", Part::not(redis, "because")),
                ("postgres", Part::not(postgres, "because")),
            ]))
        };
        assert!(parts(Condition::Ok, Condition::Ok).ready);
        let degraded = parts(Condition::Degraded, Condition::Ok);
        assert!(degraded.ready);
        assert_eq!(degraded.status, Condition::Degraded);
        assert!(!parts(Condition::Ok, Condition::Down).ready);
    }

    #[test]
    fn the_answer_reads_well() {
        let readiness = Readiness::of(BTreeMap::from([
            ("postgres", Part::OK),
            ("redis", Part::not(Condition::Degraded, "Redis does not answer")),
        ]));
        assert_eq!(
            serde_json::to_string(&readiness).unwrap(),
            r#"{"ready":true,"status":"degraded","parts":{"postgres":{"status":"ok"},"redis":{"status":"degraded","reason":"Redis does not answer"}}}"#
        );
    }
}
