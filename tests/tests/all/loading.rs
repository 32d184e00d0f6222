//! Loading an aggregate: as cqrs-es's own store does it, and with snapshots.

use cqrs_es::EventStore;
use cqrs_es::persist::PersistedEventStore;
use futures::future::join_all;
use kontor_domain::{Entity, Order, Product, ProductCommand, ProductId, User};
use kontor_eventstore::read::read_stream;
use kontor_eventstore::{Store, Stored};
use kontor_tests::examples::pieces;
use kontor_tests::{Opening, Shop, eventually};
use postgres_es::PostgresEventRepository;
use sqlx::PgPool;

#[tokio::test]
async fn the_stock_repository_reads_what_kontor_wrote() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(10).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 2)]).await;
    shop.caught_up().await;
    shop.ship(order).await;
    shop.caught_up().await;

    same_in_cqrs_es::<User>(&shop, customer, 1).await;
    same_in_cqrs_es::<Product>(&shop, lamp.id, 4).await;
    same_in_cqrs_es::<Order>(&shop, order, 3).await;
    shop.finish().await;
}

/// Loads an aggregate with cqrs-es's own store over postgres-es's own repository.
async fn same_in_cqrs_es<A: Stored + PartialEq + std::fmt::Debug + Clone>(
    shop: &Shop,
    id: A::Id,
    events: usize,
) where
    A::Event: PartialEq + std::fmt::Debug,
{
    let stock = stock_store::<A>(&shop.pool);
    let theirs = stock.load_events(&id.to_string()).await.unwrap();
    let ours = read_stream(&shop.pool, A::TYPE, &id.to_string()).await.unwrap();
    assert_eq!((theirs.len(), ours.len()), (events, events));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.aggregate_id, id.to_string());
        assert_eq!(theirs.sequence as u64, ours.sequence);
        assert_eq!(Some(&theirs.payload), A::event(&ours.body));
        // Theirs is a HashMap<String, String>.
        let metadata = ours.metadata().unwrap();
        assert_eq!(theirs.metadata["command_id"], metadata.command_id);
        assert_eq!(theirs.metadata["correlation_id"], metadata.correlation_id);
        assert_eq!(
            theirs.metadata.get("causation_id"),
            metadata.causation_id.as_ref()
        );
        assert_eq!(theirs.metadata["actor"], metadata.actor);
        assert_eq!(theirs.metadata["time"], metadata.time);
    }
    let mut context = stock.load_aggregate(&id.to_string()).await.unwrap();
    let (aggregate, version) = loaded::<A>(&shop.store, id).await;
    // Theirs is as it is stored, ours as commands are decided on it.
    let sealed = context.aggregate.personal();
    assert!(sealed.iter().all(|value| value.sealed().is_some()));
    shop.store.keyring().unseal(sealed).await.unwrap();
    assert_eq!(context.aggregate, aggregate);
    assert_eq!(context.current_sequence as u64, version);
}

fn stock_store<A: Entity>(pool: &PgPool) -> PersistedEventStore<PostgresEventRepository, A> {
    PersistedEventStore::new_event_store(PostgresEventRepository::new(pool.clone()))
}

async fn loaded<A: Stored + Clone>(store: &Store, id: A::Id) -> (A, u64) {
    store
        .inspect::<A, _>(id, |aggregate, version| (aggregate.clone(), version))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_snapshot_is_a_cache_that_may_be_wrong_old_or_gone() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let receive = || ProductCommand::ReceiveStock {
        quantity: pieces(1),
        reference: None,
    };
    join_all((0..510).map(|_| shop.send::<Product>(lamp.id, receive()))).await;
    let sequence = eventually("a snapshot is written behind 500 events", async || {
        snapshot_of(&shop, lamp.id).await
    })
    .await;
    assert!((500..=511).contains(&sequence), "{sequence}");

    let truth = stock_store::<Product>(&shop.pool)
        .load_aggregate(&lamp.id.to_string())
        .await
        .unwrap()
        .aggregate;
    assert_eq!(truth.on_hand(), 510);
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    assert_eq!(
        loaded(&elsewhere.store, lamp.id).await,
        (truth.clone(), 511),
        "with the snapshot"
    );

    // What follows would prove nothing if nobody read it.
    change_snapshot(&shop, "'{listing,name}', '\"Painted over\"'").await;
    let (painted, version) = loaded::<Product>(&elsewhere.store, lamp.id).await;
    assert_eq!((painted.name().unwrap().as_str(), version), ("Painted over", 511));

    change_snapshot(&shop, "'{schema}', '99'").await;
    assert_eq!(
        loaded(&elsewhere.store, lamp.id).await,
        (truth.clone(), 511),
        "of another schema"
    );
    change_snapshot(&shop, "'{on_hand}', '\"many\"'").await;
    assert_eq!(
        loaded(&elsewhere.store, lamp.id).await,
        (truth.clone(), 511),
        "unreadable"
    );
    sqlx::query("DELETE FROM snapshots")
        .execute(&shop.pool)
        .await
        .unwrap();
    assert_eq!(loaded(&elsewhere.store, lamp.id).await, (truth, 511), "deleted");

    // And commands go on from there.
    let outcome = elsewhere.send::<Product>(lamp.id, receive()).await;
    assert_eq!(outcome.version, 512);
    elsewhere.close().await;
    shop.finish().await;
}

async fn snapshot_of(shop: &Shop, id: ProductId) -> Option<i64> {
    sqlx::query_scalar("SELECT last_sequence FROM snapshots WHERE aggregate_id = $1")
        .bind(id.to_string())
        .fetch_optional(&shop.pool)
        .await
        .unwrap()
}

async fn change_snapshot(shop: &Shop, change: &str) {
    let sql = format!("UPDATE snapshots SET payload = jsonb_set(payload::jsonb, {change})::json");
    assert_eq!(
        sqlx::query(&sql)
            .execute(&shop.pool)
            .await
            .unwrap()
            .rows_affected(),
        1
    );
}
