//! Money that is held, and is not wanted any more.

use std::time::Duration;

use futures::future::join_all;
use kontor_domain::{CaptureAt, Order, OrderCommand, OrderStatus, PaymentStatus};
use kontor_fulfilment::payments::{PaymentGateway, Void};
use kontor_tests::examples::reason;
use kontor_tests::{Shop, eventually};

use super::orders::{all_is_well, cancel, entries, lamp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_held_for_an_order_that_was_cancelled_meanwhile_is_let_go() {
    let shop = Shop::start().await;
    let lamp = lamp(&shop).await;
    let customer = shop.customer().await;
    let order = shop.paid_order(customer, &[(&lamp, 1)], "tok_slow").await;
    eventually("the bank holds the money, and has not said so", async || {
        (shop.ledger_of(order).await == entries(&[("AUTHORISE", 10_00)])).then_some(())
    })
    .await;
    let seen = shop.store.look(order, 0, |order: &Order, _| order.status()).await;
    assert_eq!(seen.unwrap(), Some(OrderStatus::Pending));
    cancel(&shop, order).await;
    shop.nothing_waits().await;
    let expected = entries(&[("AUTHORISE", 10_00), ("VOID", 10_00)]);
    assert_eq!(shop.ledger_of(order).await, expected);
    assert_eq!(shop.stock(lamp.id).await, (10, 0));
    all_is_well(shop).await;
}

/// Money that is held runs out at a bank after some days, and somebody may let it go on the bank's own pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_shipped_after_its_money_was_let_go_waits_for_staff() {
    let shop = Shop::start().await;
    let lamp = lamp(&shop).await;
    let customer = shop.customer().await;
    let order = shop.paid_order(customer, &[(&lamp, 1)], "tok_approved").await;
    shop.until_it_is(order, OrderStatus::Confirmed).await;
    let elsewhere = Void {
        key: "by-hand".to_owned(),
        order_id: order.to_string(),
        reference: shop.reference_of(order).await,
    };
    shop.bank().void(&elsewhere).await.unwrap();
    shop.ship(order).await;
    eventually("staff are told why it waits", async || {
        let error: Option<String> = sqlx::query_scalar(
            "SELECT last_error FROM pending_orders WHERE step = 'CAPTURE' AND due_at IS NULL",
        )
        .fetch_optional(&shop.pool)
        .await
        .unwrap()?;
        error.unwrap().contains("refused").then_some(())
    })
    .await;
    let known = |order: &Order, _| order.payment().unwrap().status();
    let known = shop.store.look(order, 0, known).await.unwrap();
    assert_eq!(known, Some(PaymentStatus::Voided), "and the order knows");
    let by_hand = OrderCommand::SettleByHand {
        capture: CaptureAt::Shipment,
        reason: reason("paid by transfer"),
    };
    shop.send::<Order>(order, by_hand).await;
    all_is_well(shop).await;
}

/// Cancelled at any moment, an order holds no money in the end, whether or not the gateway had been asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_cancelled_while_it_is_being_paid_holds_no_money() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").price(10_00).stock(1_000).await;
    let customer = shop.customer().await;
    let shop_ref = &shop;
    let lamp_ref = &lamp;
    let orders = join_all((0..60_u64).map(|n| async move {
        let order = shop_ref
            .paid_order(customer, &[(lamp_ref, 1)], "tok_approved")
            .await;
        tokio::time::sleep(Duration::from_millis(n)).await;
        cancel(shop_ref, order).await;
        order
    }))
    .await;
    shop.nothing_waits().await;
    let (mut untouched, mut let_go) = (0, 0);
    for order in orders {
        let entered = shop.ledger_of(order).await;
        if entered.is_empty() {
            untouched += 1;
        } else {
            assert_eq!(entered, entries(&[("AUTHORISE", 10_00), ("VOID", 10_00)]));
            let_go += 1;
        }
    }
    println!("{untouched} were never asked for, {let_go} were let go");
    assert_eq!(shop.stock(lamp.id).await, (1_000, 0));
    all_is_well(shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_who_failed_at_the_bank_before_the_order_was_cancelled_leaves_nothing_to_let_go() {
    let shop = Shop::start().await;
    let lamp = lamp(&shop).await;
    let customer = shop.customer().await;
    let order = shop.paid_order(customer, &[(&lamp, 1)], "tok_needs_action").await;
    let reference = shop.reference_of(order).await;
    // Nobody tells the shop.
    let failed = shop.bank().complete_action(&reference, false).await;
    failed.unwrap();
    let cancel = OrderCommand::Cancel {
        reason: reason("changed their mind"),
    };
    shop.send::<Order>(order, cancel).await;
    shop.nothing_waits().await;
    assert_eq!(shop.ledger_of(order).await, entries(&[]));
    all_is_well(shop).await;
}
