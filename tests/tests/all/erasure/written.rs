//! Every text that people can write about a customer and their orders.

use kontor_domain::{CaptureAt, OrderStatus, UserId};
use kontor_tests::Item;
use kontor_tests::api::{ApiShop, Client};
use serde_json::{Value, json};

use super::WRITTEN;

/// Has somebody's account closed, with a word why, and opened again.
pub(super) async fn about_the_account(person: &Client, admin: &Client) {
    let closed = json!({ "userId": person.id(), "reason": WRITTEN });
    let _ = admin.mutation("deactivateUser", closed).await.done();
    let opened = json!({ "userId": person.id() });
    let _ = admin.mutation("reactivateUser", opened).await.done();
}

/// Has everything written that can be about orders, some by the customer and the rest by staff; the orders whose history shows
/// it.
pub(super) async fn about_orders(api: &ApiShop, person: &Client, staff: &Client, item: &Item) -> Vec<String> {
    let id: UserId = person.id().parse().unwrap();
    let why = || json!({ "reason": WRITTEN });
    let cancelled = person.place(&[(item, 1)]).await;
    api.until_status(cancelled.order_id(), "CONFIRMED").await;
    let _ = person.change("cancelOrder", &cancelled.id, why()).await.done();

    let returned = person.place(&[(item, 1)]).await;
    api.until_status(returned.order_id(), "CONFIRMED").await;
    let _ = staff.ship(&returned.id).await.done();
    about_a_return(staff, &returned.id).await;

    let refunded = api.paid_order(id, &[(item, 1)], "tok_approved").await;
    api.until_it_is(refunded, OrderStatus::Confirmed).await;
    let refunded = refunded.to_string();
    let _ = staff.ship(&refunded).await.done();
    let mut refund = why();
    refund["amount"] = json!({ "amountMinor": 1_00, "currency": "GBP" });
    let _ = staff.change("refundOrder", &refunded, refund).await.done();

    let given_up = api.paid_order(id, &[(item, 1)], "tok_needs_action").await;
    api.until_paid(given_up, "waits for its customer", |payment| {
        payment.next_action().is_some()
    })
    .await;
    let _ = staff
        .change("giveUpOrder", &given_up.to_string(), why())
        .await
        .done();
    api.nothing_waits().await;

    settled(api, id, staff, item).await;
    vec![cancelled.id, returned.id, refunded]
}

/// Has an order that was shipped delivered, and a piece of it taken back.
pub(super) async fn about_a_return(staff: &Client, order: &str) {
    let _ = staff.deliver(order).await.done();
    let back = json!({ "items": [{ "item": 0, "quantity": 1 }], "refund": { "amountMinor": 1_00, "currency": "GBP" },
                       "reason": WRITTEN, "restock": true });
    let _ = staff.change("returnItems", order, back).await.done();
}

/// Staff settle what the bank does not answer.
async fn settled(api: &ApiShop, person: UserId, staff: &Client, item: &Item) {
    api.bank().set_down(true);
    let order = api.paid_order(person, &[(item, 1)], "tok_approved").await;
    api.until_order(order, "its payment is due", |order| {
        order.payment_due(CaptureAt::Shipment).is_some()
    })
    .await;
    let why = json!({ "reason": WRITTEN });
    let _ = staff
        .change("settleOrderByHand", &order.to_string(), why)
        .await
        .done();
    api.until_it_is(order, OrderStatus::Confirmed).await;
    api.bank().set_down(false);
    api.nothing_waits().await;
}

/// What the history of each of these orders says of why.
pub(super) async fn shown(staff: &Client, orders: &[String]) -> Vec<Value> {
    let mut shown = Vec::new();
    for order in orders {
        let timeline = "timeline { ... on OrderCancelledEntry { reason } ... on ItemsReturnedEntry { reason }
                                   ... on RefundOrderedEntry { reason } }";
        let seen = staff.order(order, timeline).await;
        let entries = seen["timeline"].as_array().unwrap().iter();
        shown.extend(entries.filter_map(|entry| entry.get("reason").cloned()));
    }
    shown
}
