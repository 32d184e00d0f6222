//! Views by hand: events in, rows out.

use std::sync::Arc;

use kontor_eventstore::{Consumer, Recorded, read};
use kontor_projections::view::{Projector, View};
use kontor_tests::Shop;
use sqlx::Connection;

/// Applies the whole log to a view, in batches of `batch`, as a worker would.
pub(crate) async fn apply<V: View>(shop: &Shop, batch: usize) {
    let events: Vec<Arc<Recorded>> = read::read(&shop.pool, 0, 100_000)
        .await
        .unwrap()
        .into_iter()
        .map(Arc::new)
        .collect();
    let mut connection = shop.pool.acquire().await.unwrap();
    for events in events.chunks(batch) {
        let mut tx = connection.begin().await.unwrap();
        let parked = Projector::<V>::default().handle(&mut tx, events).await.unwrap();
        assert_eq!(parked, []);
        tx.commit().await.unwrap();
    }
}

/// The rows of a view, as text.
pub(crate) async fn rows<V: View>(shop: &Shop) -> Vec<String> {
    let sql = format!("SELECT t::text FROM {} t ORDER BY {}", V::NAME, V::KEY);
    sqlx::query_scalar(&sql).fetch_all(&shop.pool).await.unwrap()
}

/// Applies the log to a view in a shop that nobody works in. The rows do not depend on how the log is cut into batches,
/// and applying it again, whole or in part, changes none of them (V2).
pub(crate) async fn project<V: View>(shop: &Shop) {
    apply::<V>(shop, 1).await;
    let one_by_one = rows::<V>(shop).await;
    for batch in [3, 1_000] {
        apply::<V>(shop, batch).await;
        assert_eq!(
            rows::<V>(shop).await,
            one_by_one,
            "{} applied again in batches of {batch}",
            V::NAME
        );
        sqlx::query(&format!("TRUNCATE {}", V::NAME))
            .execute(&shop.pool)
            .await
            .unwrap();
        apply::<V>(shop, batch).await;
        assert_eq!(
            rows::<V>(shop).await,
            one_by_one,
            "{} in batches of {batch}",
            V::NAME
        );
    }
}
