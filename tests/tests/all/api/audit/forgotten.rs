//! What the audit knows of somebody who is erased.

use serde_json::{Value, json};

use super::{behind_a_proxy, column, entries, register};

/// Where somebody was is as personal as their name: sealed in the log, and forgotten with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_somebody_was_is_forgotten_with_them() {
    const ADDRESS: &str = "203.0.113.99";
    let api = behind_a_proxy().await;
    let admin = api.admin().await;
    let id = register(&api, "gone@example.com").await;
    let person = api.log_in("gone@example.com", "a long and winding road").await;
    let person = person.unwrap().with_header("x-forwarded-for", ADDRESS);
    let _ = person
        .mutation("changeProfile", json!({ "name": "Gone" }))
        .await
        .done();
    let refused = json!({ "orderId": "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV", "trackingNumber": "T" });
    assert_eq!(
        person.mutation("shipOrder", refused).answer().await.code(),
        "FORBIDDEN"
    );

    let filter = json!({ "actor": id });
    let there = |entries: &[Value]| column(entries, "address").contains(&ADDRESS);
    let changed = entries(&admin, json!({ "actor": id, "kind": "ProfileChanged" })).await;
    let denied = entries(&admin, json!({ "actor": id, "kind": "PermissionRefused" })).await;
    assert!(there(&changed) && there(&denied), "{changed:?} {denied:?}");
    let stored = async |table: &str| -> i64 {
        let rows = format!("SELECT count(*) FROM {table} AS it WHERE strpos(it::text, $1) > 0");
        sqlx::query_scalar(&rows)
            .bind(ADDRESS)
            .fetch_one(&api.pool)
            .await
            .unwrap()
    };
    assert_eq!(stored("events").await, 0, "sealed");
    assert_eq!(stored("deeds").await, 1);

    let erase = "mutation($input: EraseUserInput!) { eraseUser(input: $input) { certificate { userId } } }";
    let input = json!({ "input": { "userId": id, "idempotencyKey": "erase" } });
    let erased = admin.read(erase, input).await;
    assert_eq!(erased["eraseUser"]["certificate"]["userId"], id, "{erased}");
    api.caught_up().await;
    assert_eq!((stored("events").await, stored("deeds").await), (0, 0));
    let left = entries(&admin, filter).await;
    assert!(!left.is_empty() && !there(&left), "{left:?}");
    assert!(column(&left, "kind").contains(&"ProfileChanged"));
    api.finish().await;
}
