//! Idempotency keys: what was done once is answered the same for ever.

use futures::future::join_all;
use kontor_domain::{
    Order, OrderCommand, OrderError, OrderId, Product, ProductCommand, ProductError, ReturnLine, UserId,
};
use kontor_eventstore::{CommandContext, ExecuteError, IdempotencyKey, Outcome, Store};
use kontor_tests::examples::{address, gbp, line, pieces, reason};
use kontor_tests::{Item, Opening, Shop};

use crate::hold::count;

fn key(context: CommandContext, key: &str, input: &str) -> CommandContext {
    context.once(IdempotencyKey::new("tests", key, input.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_at_the_same_moment_from_two_processes_places_one_order_and_both_hear_of_it() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    for round in 0..20 {
        let stores = [&shop.store, &elsewhere.store, &shop.store, &elsewhere.store];
        let name = format!("k{round}");
        let placed =
            join_all(stores.map(|store| place(&shop, store, customer, &lamp, &name, "lamp x 1"))).await;
        let outcomes: Vec<Outcome<Order>> = placed.into_iter().map(Result::unwrap).collect();
        for outcome in &outcomes {
            let (first, this) = (&outcomes[0], outcome);
            assert_eq!(
                (this.id, this.version, this.position),
                (first.id, first.version, first.position)
            );
            assert_eq!(this.events, first.events);
            assert_eq!(this.events.len(), 1);
        }
        assert_eq!(outcomes.iter().filter(|outcome| !outcome.repeated).count(), 1);

        // For ever, and for nothing else.
        let again = place(&shop, &elsewhere.store, customer, &lamp, &name, "lamp x 1")
            .await
            .unwrap();
        assert_eq!(
            (again.id, again.position, again.repeated),
            (outcomes[0].id, outcomes[0].position, true)
        );
        let reused = place(&shop, &shop.store, customer, &lamp, &name, "lamp x 2").await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
    }
    assert_eq!(
        count(
            &shop,
            "SELECT count(*) FROM events WHERE aggregate_type = 'order'"
        )
        .await,
        20
    );
    elsewhere.close().await;
    shop.finish().await;
}

async fn place(
    shop: &Shop,
    store: &Store,
    customer_id: UserId,
    item: &Item,
    name: &str,
    input: &str,
) -> Result<Outcome<Order>, ExecuteError<OrderError>> {
    let id = OrderId::from_ulid(shop.store.ids().next());
    let items = vec![line(item, 1)];
    let place = OrderCommand::Place {
        customer_id,
        items,
        shipping_address: address(),
        payment: None,
    };
    store
        .create::<Order>(id, place, key(shop.context(), name, input))
        .await
}

#[tokio::test]
async fn a_key_is_for_one_kind_of_thing() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    place(&shop, &shop.store, customer, &lamp, "k", "same input")
        .await
        .unwrap();
    let receive = ProductCommand::ReceiveStock {
        quantity: pieces(1),
        reference: None,
    };
    let context = key(shop.context(), "k", "same input");
    let other = shop.store.execute::<Product>(lamp.id, receive, context).await;
    assert!(matches!(other, Err(ExecuteError::KeyReused)), "{other:?}");
    assert_eq!(shop.stock(lamp.id).await, (0, 0));
    shop.finish().await;
}

/// The second of two at the same moment is decided on what the first has done, and would be refused there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_the_first_answer_also_where_the_command_would_be_refused_now() {
    let shop = Shop::start().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(100).await;
    let customer = shop.customer().await;
    for round in 0..10 {
        let id = shop.order(customer, &[(&lamp, 3)]).await;
        shop.until_status(id, "CONFIRMED").await;
        shop.ship(id).await;
        shop.send::<Order>(id, OrderCommand::Deliver).await;
        let take_back = |store: &Store| {
            let command = OrderCommand::ReturnItems {
                lines: vec![ReturnLine {
                    line: 0,
                    quantity: pieces(3),
                }],
                refund: gbp(15_00),
                reason: reason("broken"),
                restock: false,
            };
            let context = key(shop.context(), &format!("return {round}"), "3").expecting(Some(4));
            let store = store.clone();
            async move { store.execute::<Order>(id, command, context).await }
        };
        let answers = join_all([
            take_back(&shop.store),
            take_back(&shop.store),
            take_back(&elsewhere.store),
            take_back(&shop.store),
        ])
        .await;
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!((answer.version, answer.events.len()), (5, 1));
        }
        let later = take_back(&elsewhere.store).await.unwrap();
        assert!(later.repeated);
        // The same without the key is told what is so now.
        let command = OrderCommand::ReturnItems {
            lines: vec![ReturnLine {
                line: 0,
                quantity: pieces(3),
            }],
            refund: gbp(0),
            reason: reason("again"),
            restock: false,
        };
        let refused = shop.try_send::<Order>(id, command).await;
        assert!(
            matches!(
                refused,
                Err(ExecuteError::Refused(OrderError::MoreThanDelivered { .. }))
            ),
            "{refused:?}"
        );
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test]
async fn a_refusal_leaves_its_key_free() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let adjust = || ProductCommand::AdjustStock {
        delta: (-1).try_into().unwrap(),
        reason: reason("lost"),
    };
    let context = || key(shop.context(), "adjust", "-1");
    let refused = shop.store.execute::<Product>(lamp.id, adjust(), context()).await;
    assert!(matches!(
        refused,
        Err(ExecuteError::Refused(ProductError::WouldGoBelowReserved { .. }))
    ));
    shop.send::<Product>(
        lamp.id,
        ProductCommand::ReceiveStock {
            quantity: pieces(1),
            reference: None,
        },
    )
    .await;
    let taken = shop
        .store
        .execute::<Product>(lamp.id, adjust(), context())
        .await
        .unwrap();
    assert!(!taken.repeated);
    assert_eq!(shop.stock(lamp.id).await, (0, 0));
    shop.finish().await;
}

#[tokio::test]
async fn a_command_that_changes_nothing_is_remembered_as_that() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let relist = async || {
        shop.store
            .execute::<Product>(lamp.id, ProductCommand::Relist, key(shop.context(), "relist", ""))
            .await
            .unwrap()
    };
    let first = relist().await;
    assert_eq!((first.version, first.events.len(), first.repeated), (1, 0, false));
    shop.send::<Product>(lamp.id, ProductCommand::Discontinue { reason: None })
        .await;
    let second = relist().await;
    assert_eq!(
        (
            second.version,
            second.position,
            second.events.len(),
            second.repeated
        ),
        (1, first.position, 0, true)
    );
    shop.finish().await;
}
