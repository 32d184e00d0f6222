//! Mirrors of a view that a crash of Postgres has taken back: nothing that a consumer writes is flushed.

use std::sync::Arc;
use std::time::Duration;

use kontor_eventstore::Worker;
use kontor_projections::mirror::{self, MirrorOf};
use kontor_projections::statuses::OrderStatusMirror;
use kontor_tests::{Opening, Shop, eventually};
use tokio_util::sync::CancellationToken;

use super::{filled, readers};

/// Postgres, killed, forgets the last a view was told; whoever heard of that is ahead of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_does_not_run_ahead_of_a_view_that_was_taken_back() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    let workers = shop.branch(Opening::default()).await;
    let order = shop.order(customer, &[(&lamp, 1)]).await;
    workers.until_status(order, "CONFIRMED").await;
    filled(&workers).await;
    workers.close().await;

    let shipped = shop.ship(order).await.position;
    let progress = &shop.runtime.progress;
    progress.advance(OrderStatusMirror::SOURCE, shipped);
    let stop = CancellationToken::new();
    let worker = Worker::new(shop.store.clone(), Arc::clone(progress), "alone".to_owned());
    let redis = shop.runtime.redis.clone();
    let mirror = tokio::spawn(mirror::run::<OrderStatusMirror>(worker, redis, stop.clone()));
    let reached = progress.reach(OrderStatusMirror::NAME, shipped, Duration::from_secs(2));
    assert!(reached.await.is_err(), "it has what its view has not");
    stop.cancel();
    mirror.await.unwrap();

    let workers = shop.branch(Opening::default()).await;
    filled(&workers).await;
    let id = order.to_string();
    let statuses = readers(&shop)
        .statuses
        .get(std::slice::from_ref(&id))
        .await
        .unwrap();
    assert_eq!(statuses[&id].status, "SHIPPED");
    workers.close().await;
    shop.finish().await;
}

/// Postgres, killed, forgets the last of a view, and Redis may have been emptied with it: the mirror goes back, and then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_was_emptied_goes_back_with_its_view() {
    let shop = Shop::quiet().await;
    let workers = shop.branch(Opening::default()).await;
    shop.product("LAMP").stock(5).await;
    filled(&workers).await;
    workers.close().await;

    let redis = shop.runtime.redis.clone();
    let stop = CancellationToken::new();
    let progress = Arc::clone(&shop.runtime.progress);
    let worker = Worker::new(shop.store.clone(), progress, "alone".to_owned());
    let mirror = tokio::spawn(mirror::run::<OrderStatusMirror>(
        worker,
        redis.clone(),
        stop.clone(),
    ));
    for position in [2_u64, 1, 2] {
        sqlx::query("UPDATE checkpoints SET position = $1 WHERE consumer = $2")
            .bind(position.cast_signed())
            .bind(OrderStatusMirror::SOURCE)
            .execute(&shop.pool)
            .await
            .unwrap();
        redis.forget(OrderStatusMirror::NAME).await.unwrap();
        eventually(&format!("it is filled at {position}"), async || {
            let place = redis.position(OrderStatusMirror::NAME).await.unwrap();
            (place == Some(position)).then_some(())
        })
        .await;
    }
    stop.cancel();
    mirror.await.unwrap();
    shop.finish().await;
}
