//! Commands that meet on one aggregate, in one process and in two.

use std::collections::HashSet;

use futures::future::join_all;
use kontor_domain::{
    Order, OrderCommand, OrderId, OrderStatus, Product, ProductCommand, ProductError, ProductEvent,
};
use kontor_eventstore::{ExecuteError, IdempotencyKey, Store};
use kontor_tests::examples::{gbp, pieces, reason};
use kontor_tests::{Item, Opening, Shop, eventually};

use crate::hold::{head, together};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_buyers_of_fifty_pieces_in_one_process() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(50).await;
    let answers = join_all((0..500).map(|_| reserve(&shop, &shop.store, &lamp))).await;
    sold_out(&shop, &lamp, &answers).await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_buyers_of_fifty_pieces_in_two_processes() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(50).await;
    let stores = [&shop.store, &elsewhere.store];
    let answers = join_all((0..500).map(|n| reserve(&shop, stores[n % 2], &lamp))).await;
    sold_out(&shop, &lamp, &answers).await;
    elsewhere.close().await;
    shop.finish().await;
}

async fn reserve(shop: &Shop, store: &Store, item: &Item) -> ProductEvent {
    let order_id = OrderId::from_ulid(shop.store.ids().next());
    let reserve = ProductCommand::Reserve {
        order_id,
        quantity: pieces(1),
    };
    let context = shop
        .context()
        .once(IdempotencyKey::derived("tests", &order_id.to_string(), "reserve"));
    let mut outcome = store.execute::<Product>(item.id, reserve, context).await.unwrap();
    assert_eq!(outcome.events.len(), 1);
    outcome.events.remove(0)
}

async fn sold_out(shop: &Shop, item: &Item, answers: &[ProductEvent]) {
    let reserved: HashSet<u64> = answers
        .iter()
        .filter_map(|event| match event {
            ProductEvent::StockReserved { reserved, .. } => Some(*reserved),
            _ => None,
        })
        .collect();
    assert_eq!(reserved, (1..=50).collect(), "each piece is promised once");
    let refused = answers
        .iter()
        .filter(|event| matches!(event, ProductEvent::ReservationRefused { .. }))
        .count();
    assert_eq!(refused, 450);
    assert_eq!(shop.stock(item.id).await, (50, 50));
    assert_eq!(head(shop).await, 2 + 500);
}

#[tokio::test]
async fn a_refusal_never_rests_on_what_this_process_remembers() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(1).await;
    let adjust = || ProductCommand::AdjustStock {
        delta: (-2).try_into().unwrap(),
        reason: reason("breakage"),
    };
    for _ in 0..20 {
        // This process knows of too few pieces …
        let refused = shop.try_send::<Product>(lamp.id, adjust()).await;
        assert!(
            matches!(
                refused,
                Err(ExecuteError::Refused(ProductError::WouldGoBelowReserved { .. }))
            ),
            "{refused:?}"
        );
        // … another one books more in …
        let receive = ProductCommand::ReceiveStock {
            quantity: pieces(2),
            reference: None,
        };
        elsewhere.send::<Product>(lamp.id, receive).await;
        // … and this one must not say no, nor a no-op yes, from memory.
        shop.send::<Product>(lamp.id, adjust()).await;
        elsewhere
            .send::<Product>(lamp.id, ProductCommand::Discontinue { reason: None })
            .await;
        let relisted = shop.send::<Product>(lamp.id, ProductCommand::Relist).await;
        assert_eq!(relisted.events, [ProductEvent::Relisted {}]);
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_goes_through_on_the_version_it_expects_and_on_no_other() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").await;
    let price = |store: &Store, pence, expected| {
        let context = shop.context().expecting(Some(expected));
        let (store, id) = (store.clone(), lamp.id);
        async move {
            store
                .execute::<Product>(id, ProductCommand::ChangePrice { price: gbp(pence) }, context)
                .await
        }
    };
    assert_eq!(price(&shop.store, 100, 1).await.unwrap().version, 2);
    // The other process has not heard of version 2 yet, or has: it makes no difference.
    let old = price(&elsewhere.store, 200, 1).await;
    assert!(
        matches!(
            old,
            Err(ExecuteError::VersionConflict {
                expected: 1,
                actual: 2
            })
        ),
        "{old:?}"
    );
    let future = price(&shop.store, 300, 9).await;
    assert!(
        matches!(
            future,
            Err(ExecuteError::VersionConflict {
                expected: 9,
                actual: 2
            })
        ),
        "{future:?}"
    );

    // Of many edits of one version at the same moment one goes through.
    for round in 0..10 {
        let version = 2 + round;
        let edits = (0..8).map(|n| {
            let store = if n % 2 == 0 { &shop.store } else { &elsewhere.store };
            price(store, 1_000 + i64::try_from(round).unwrap() * 10 + n, version)
        });
        let results = join_all(edits).await;
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "{results:?}"
        );
        let conflict = |result: &Result<_, _>| {
            matches!(result, Err(ExecuteError::VersionConflict { expected, actual })
                     if *expected == version && *actual == version + 1)
        };
        assert_eq!(
            results.iter().filter(|result| conflict(result)).count(),
            7,
            "{results:?}"
        );
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_who_goes_away_does_not_stop_the_command() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    together(&shop, async |hold| {
        for _ in 0..10 {
            let receive = ProductCommand::ReceiveStock {
                quantity: pieces(1),
                reference: None,
            };
            let sent = shop.store.execute::<Product>(lamp.id, receive, shop.context());
            // Polled once, so that it is on its way; nothing can be written yet, so it cannot be done.
            assert!(futures::FutureExt::now_or_never(sent).is_none());
        }
        hold.release_when_a_writer_waits(&shop).await;
    })
    .await;
    let ten = async || (shop.stock(lamp.id).await.0 == 10).then_some(());
    eventually("all ten are booked in", ten).await;
    // And the state in memory is the state in the log.
    let next = shop
        .send::<Product>(lamp.id, ProductCommand::Discontinue { reason: None })
        .await;
    assert_eq!(next.version, 12);
    shop.finish().await;
}

/// The order process and a customer on one order, in one group or not: whoever is decided second knows of the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_one_aggregate_see_each_other() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    for round in 0..20 {
        let id = shop.order(customer, &[(&lamp, 1)]).await;
        let store = if round % 2 == 0 {
            &shop.store
        } else {
            &elsewhere.store
        };
        let confirm = store.execute::<Order>(id, OrderCommand::Confirm, shop.context());
        let reject =
            shop.store
                .execute::<Order>(id, OrderCommand::Reject { refused: Vec::new() }, shop.context());
        let (confirmed, rejected) = tokio::join!(confirm, reject);
        assert_ne!(confirmed.is_ok(), rejected.is_ok(), "{confirmed:?} {rejected:?}");
        let status = shop
            .store
            .inspect::<Order, _>(id, |order, _| order.status())
            .await
            .unwrap();
        let expected = if confirmed.is_ok() {
            OrderStatus::Confirmed
        } else {
            OrderStatus::Rejected
        };
        assert_eq!(status, Some(expected));
    }
    elsewhere.close().await;
    shop.finish().await;
}
