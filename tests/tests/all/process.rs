//! The order process: what was promised is there, and what is not needed is given back.

use futures::future::join_all;
use kontor_domain::{
    Order, OrderCommand, OrderId, Product, ProductCommand, ProductId, RefusalReason, RefusedItem, ReturnLine,
};
use kontor_eventstore::read::{head, read_stream};
use kontor_projections::orders::{Happening, OrderRow};
use kontor_tests::examples::{address, gbp, line, pieces, reason};
use kontor_tests::{Item, Opening, Shop};

fn refused(row: &OrderRow) -> Vec<RefusedItem> {
    row.timeline
        .iter()
        .find_map(|entry| match &entry.what {
            Happening::Rejected { refused, .. } => Some(refused.clone()),
            _ => None,
        })
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_confirmed_when_everything_is_reserved() {
    let shop = Shop::start().await;
    let (lamp, bell) = (
        shop.product("LAMP").stock(5).await,
        shop.product("BELL").stock(3).await,
    );
    let customer = shop.customer().await;
    // One product on two lines is reserved once, for both.
    let order = shop.order(customer, &[(&lamp, 2), (&bell, 3), (&lamp, 3)]).await;
    shop.until_status(order, "CONFIRMED").await;
    shop.caught_up().await;
    assert_eq!(
        (shop.stock(lamp.id).await, shop.stock(bell.id).await),
        ((5, 5), (3, 3))
    );
    assert_eq!(shop.product_row(lamp.id).await.available, 0);
    shop.books_balance().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_rejected_with_what_was_missing_and_what_had_been_reserved_is_released() {
    let shop = Shop::start().await;
    let (lamp, bell, rope) = (
        shop.product("LAMP").stock(5).await,
        shop.product("BELL").stock(1).await,
        shop.product("ROPE").stock(9).await,
    );
    shop.send::<Product>(rope.id, ProductCommand::Discontinue { reason: None })
        .await;
    let never = Item {
        id: ProductId::from_ulid(shop.store.ids().next()),
        ..lamp.clone()
    };
    let customer = shop.customer().await;
    let order = shop
        .order(
            customer,
            &[(&lamp, 2), (&bell, 1), (&bell, 3), (&rope, 1), (&never, 7)],
        )
        .await;
    let row = shop.until_status(order, "REJECTED").await;
    let mut expected = vec![
        RefusedItem {
            product_id: bell.id,
            requested: pieces(4),
            available: 1,
            reason: RefusalReason::InsufficientStock,
        },
        RefusedItem {
            product_id: rope.id,
            requested: pieces(1),
            available: 9,
            reason: RefusalReason::Discontinued,
        },
        RefusedItem {
            product_id: never.id,
            requested: pieces(7),
            available: 0,
            reason: RefusalReason::UnknownProduct,
        },
    ];
    expected.sort_by_key(|item| item.product_id);
    assert_eq!(refused(&row), expected);
    shop.caught_up().await;
    for (item, on_hand) in [(&lamp, 5), (&bell, 1), (&rope, 9)] {
        assert_eq!(shop.stock(item.id).await, (on_hand, 0));
    }
    shop.books_balance().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_cancelled_before_or_behind_its_confirmation_holds_nothing() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(10).await;
    let customer = shop.customer().await;
    let cancel = || OrderCommand::Cancel {
        reason: reason("second thoughts"),
    };
    let pending = shop.order(customer, &[(&lamp, 2)]).await;
    shop.send::<Order>(pending, cancel()).await;

    let worker = shop.branch(Opening::default()).await;
    let confirmed = shop.order(customer, &[(&lamp, 3)]).await;
    shop.until_status(confirmed, "CONFIRMED").await;
    assert_eq!(shop.stock(lamp.id).await, (10, 3));
    shop.send::<Order>(confirmed, cancel()).await;
    worker.caught_up().await;
    assert_eq!(shop.stock(lamp.id).await, (10, 0));

    // At any moment in between.
    let raced = join_all((0..60).map(|_| async {
        let id = shop.order(customer, &[(&lamp, 1)]).await;
        shop.send::<Order>(id, cancel()).await;
        id
    }))
    .await;
    worker.caught_up().await;
    for id in [vec![pending, confirmed], raced].concat() {
        assert_eq!(shop.order_row(id).await.status, "CANCELLED");
    }
    assert_eq!(shop.stock(lamp.id).await, (10, 0));
    worker.books_balance().await;
    worker.views_are_true().await;
    worker.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipped_pieces_leave_the_house_and_returned_ones_come_back_if_they_can_be_sold() {
    let shop = Shop::start().await;
    let (lamp, bell) = (
        shop.product("LAMP").stock(10).await,
        shop.product("BELL").stock(10).await,
    );
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 2), (&bell, 4), (&lamp, 1)]).await;
    shop.until_status(order, "CONFIRMED").await;
    shop.ship(order).await;
    shop.caught_up().await;
    assert_eq!(
        (shop.stock(lamp.id).await, shop.stock(bell.id).await),
        ((7, 0), (6, 0))
    );
    assert_eq!(shop.product_row(lamp.id).await.units_sold, 3);

    shop.send::<Order>(order, OrderCommand::Deliver).await;
    let give_back = |line, number, restock| OrderCommand::ReturnItems {
        lines: vec![ReturnLine {
            line,
            quantity: pieces(number),
        }],
        refund: gbp(1),
        reason: reason("unwanted"),
        restock,
    };
    shop.send::<Order>(order, give_back(0, 2, true)).await;
    shop.send::<Order>(order, give_back(2, 1, true)).await;
    shop.send::<Order>(order, give_back(1, 4, false)).await;
    shop.caught_up().await;
    assert_eq!(
        (shop.stock(lamp.id).await, shop.stock(bell.id).await),
        ((10, 0), (6, 0))
    );
    shop.books_balance().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_hundred_buyers_of_fifty_pieces_fifty_are_confirmed() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(50).await;
    let customer = shop.customer().await;
    let orders = shop.rush(customer, &[(&lamp, 1)], 500).await;
    shop.caught_up().await;
    let rows = shop.orders().await;
    assert_eq!(rows.len(), orders.len());
    assert_eq!(rows.iter().filter(|row| row.status == "CONFIRMED").count(), 50);
    let refusal = RefusedItem {
        product_id: lamp.id,
        requested: pieces(1),
        available: 0,
        reason: RefusalReason::InsufficientStock,
    };
    let rejected: Vec<_> = rows
        .iter()
        .filter(|row| row.status == "REJECTED")
        .map(refused)
        .collect();
    assert_eq!(rejected, vec![vec![refusal]; 450]);
    let row = shop.product_row(lamp.id).await;
    assert_eq!((row.on_hand, row.reserved, row.available), (50, 50, 0));
    shop.books_balance().await;
    shop.finish().await;
}

/// Whatever it repeats, the keys of its commands make the log answer as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_begins_again_from_the_beginning_changes_nothing() {
    let shop = Shop::quiet().await;
    let (lamp, bell) = (
        shop.product("LAMP").stock(6).await,
        shop.product("BELL").stock(50).await,
    );
    let customer = shop.customer().await;
    let worker = shop.branch(Opening::default()).await;
    let orders = join_all((0..10).map(|n| {
        let items = if n % 2 == 0 {
            vec![(&lamp, 1), (&bell, 1)]
        } else {
            vec![(&bell, 2)]
        };
        let shop = &shop;
        async move { shop.order(customer, &items).await }
    }))
    .await;
    worker.caught_up().await;
    shop.send::<Order>(orders[0], OrderCommand::Cancel { reason: reason("no") })
        .await;
    shop.ship(orders[1]).await;
    shop.ship(orders[2]).await;
    worker.caught_up().await;
    shop.send::<Order>(orders[1], OrderCommand::Deliver).await;
    let lines = vec![ReturnLine {
        line: 0,
        quantity: pieces(1),
    }];
    let back = OrderCommand::ReturnItems {
        lines,
        refund: gbp(1),
        reason: reason("no"),
        restock: true,
    };
    shop.send::<Order>(orders[1], back).await;
    worker.caught_up().await;
    worker.close().await;

    let before = head(&shop.pool).await.unwrap();
    sqlx::query("UPDATE checkpoints SET position = 0 WHERE consumer = 'order_process'")
        .execute(&shop.pool)
        .await
        .unwrap();
    // By somebody else, who remembers nothing.
    let again = shop.branch(Opening::default()).await;
    again.caught_up().await;
    assert_eq!(head(&shop.pool).await.unwrap(), before, "not one event more");
    again.books_balance().await;
    again.views_are_true().await;
    again.close().await;
    shop.finish().await;
}

/// What is written down as history stays in its time, all the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_of_the_past_is_confirmed_in_the_past() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    let id = OrderId::from_ulid(shop.store.ids().next());
    let items = vec![line(&lamp, 1)];
    let place = OrderCommand::Place {
        customer_id: customer,
        items,
        shipping_address: address(),
        payment: None,
    };
    let mut context = shop.context();
    context.time = "2010-12-01T08:26:00Z".parse().unwrap();
    context.backdated = true;
    let then = context.time;
    shop.store.create::<Order>(id, place, context).await.unwrap();
    let row = shop.until_status(id, "CONFIRMED").await;
    assert_eq!((row.placed_at, row.updated_at), (then, then));
    let reserved = read_stream(&shop.pool, "product", &lamp.id.to_string())
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(reserved.time, then);
    assert_eq!(reserved.metadata().unwrap().backdated.as_deref(), Some("true"));
    shop.finish().await;
}

/// After a crash of Postgres the process may find that it has lost its place, and asks for everything once more. What it has
/// done is answered from the log, which must take no longer the more has happened to a product.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_begins_afresh_soon_hears_what_was_done_however_much_happened_to_a_product() {
    const ORDERS: u32 = 1_500;
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(ORDERS).await;
    let customer = shop.customer().await;
    let first = shop.branch(Opening::default()).await;
    let orders = shop.rush(customer, &[(&lamp, 1)], ORDERS as usize).await;
    shop.caught_up().await;
    first.close().await;
    let before = head(&shop.pool).await.unwrap();

    sqlx::query("UPDATE checkpoints SET position = 0 WHERE consumer = 'order_process'")
        .execute(&shop.pool)
        .await
        .unwrap();
    let second = shop.branch(Opening::default()).await;
    shop.caught_up().await;
    assert_eq!(head(&shop.pool).await.unwrap(), before, "nothing was done twice");
    assert_eq!(shop.stock(lamp.id).await, (ORDERS.into(), ORDERS.into()));
    assert_eq!(shop.order_row(orders[0]).await.status, "CONFIRMED");
    second.close().await;
    shop.finish().await;
}
