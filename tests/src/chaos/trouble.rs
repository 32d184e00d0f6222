//! What is to be known about a house in which something has gone wrong.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use kontor::terminal::say;

use super::house::{Folder, House, Post};
use crate::shop::Shop;

/// How long anybody may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows of each kind that are shown.
const ROWS: i64 = 40;

/// What is asked of Postgres: a heading, and one line for each row.
const QUESTIONS: [(&str, &str); 9] = [
    ("the log's head", "SELECT concat_ws(' ', max(position), max(timestamp)) FROM events"),
    (
        "checkpoints",
        "SELECT concat_ws(' ', consumer, position, 'moved', clock_timestamp() - updated_at, 'ago') FROM checkpoints ORDER BY consumer",
    ),
    (
        "leases",
        "SELECT concat_ws(' ', consumer, owner, 'epoch', epoch, 'for', expires_at - clock_timestamp()) FROM leases ORDER BY consumer",
    ),
    (
        "orders that wait",
        "SELECT to_jsonb(p)::text FROM pending_orders p ORDER BY since",
    ),
    (
        "orders that are not decided, as the view has them",
        "SELECT concat_ws(' ', id, payment_status, 'version', version, 'position', position, updated_at)
         FROM orders WHERE status = 'PENDING' ORDER BY position",
    ),
    (
        "what happened to the first of them, as the log has it",
        "SELECT concat_ws(' ', position, event_type, timestamp) FROM events
         WHERE aggregate_type = 'order'
           AND aggregate_id = (SELECT id FROM orders WHERE status = 'PENDING' ORDER BY position LIMIT 1)
         ORDER BY position",
    ),
    (
        "dead letters",
        "SELECT concat_ws(' ', consumer, position, aggregate_type, aggregate_id, error) FROM dead_letters ORDER BY consumer, position",
    ),
    (
        "webhooks that wait",
        "SELECT to_jsonb(w)::text FROM payment_webhooks w WHERE done_at IS NULL ORDER BY received_at",
    ),
    (
        "backends of Postgres that are at something",
        "SELECT concat_ws(' ', pid, state, wait_event_type, wait_event, 'for', clock_timestamp() - state_change,
                          'blocked by', nullif(pg_blocking_pids(pid), '{}'), left(query, 160))
         FROM pg_stat_activity
         WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid() ORDER BY state_change",
    ),
];

/// What `living` comes to. If it panics, says first how the house is, and leaves that in its folder too.
pub(super) async fn or_say_why<T>(
    shop: &Shop,
    house: &House,
    folder: &Folder,
    living: impl Future<Output = T>,
) -> T {
    match AssertUnwindSafe(living).catch_unwind().await {
        Ok(lived) => lived,
        Err(panic) => {
            let told = tell(shop, house).await;
            say(&told);
            // It has been said.
            let _ = std::fs::write(folder.path().join("trouble.txt"), told);
            resume_unwind(panic)
        }
    }
}

/// Everything worth knowing.
async fn tell(shop: &Shop, house: &House) -> String {
    let mut told = String::new();
    for post in house.posts() {
        let alive = std::path::Path::new(&format!("/proc/{}", post.pid())).exists();
        let is = if post.pid() > 0 && alive {
            "lives"
        } else {
            "is dead"
        };
        let deaths = post.deaths.lock().unwrap().clone();
        let name = post.name;
        writeln!(
            told,
            "{name} {is}: process {}, life {}, deaths {deaths:?}",
            post.pid(),
            post.lives()
        )
        .unwrap();
        for path in ["/readyz", "/metrics"] {
            writeln!(told, "  {path}: {}", page(post, path).await).unwrap();
        }
    }
    for (about, question) in QUESTIONS {
        writeln!(told, "{about}:").unwrap();
        let question = format!("{question} LIMIT {ROWS}");
        let rows = sqlx::query_scalar::<_, Option<String>>(&question).fetch_all(&shop.pool);
        match tokio::time::timeout(PATIENCE, rows).await {
            Ok(Ok(rows)) => {
                for row in rows {
                    writeln!(told, "  {}", row.unwrap_or_default()).unwrap();
                }
            }
            Ok(Err(error)) => writeln!(told, "  {error}").unwrap(),
            Err(_) => writeln!(told, "  Postgres does not answer").unwrap(),
        }
    }
    told
}

/// What a process says of itself: of its metrics, where the circuit breaker stands.
async fn page(post: &Post, path: &str) -> String {
    let asked = async {
        let url = format!("{}{path}", post.url());
        reqwest::get(url).await?.text().await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(text)) if path == "/metrics" => {
            let lines = text
                .lines()
                .filter(|line| line.starts_with("kontor_payment_breaker"));
            lines.collect::<Vec<_>>().join(" ")
        }
        Ok(Ok(text)) => text.chars().take(1_000).collect(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    }
}
