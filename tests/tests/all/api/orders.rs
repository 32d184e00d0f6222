//! An order from its placing to its return, by everybody who has a part in it.

use kontor_tests::api::{ApiShop, Client, Topic, Way};
use serde_json::{Value, json};

use super::without_order_process;

const TIMELINE: &str = "timeline { __typename status at position
    ... on OrderRejectedEntry { refusedItems { productId requested available reason } }
    ... on OrderCancelledEntry { reason } ... on OrderShippedEntry { trackingNumber carrier }
    ... on ItemsReturnedEntry { items { item productId quantity } refund { amountMinor } reason restocked } }";

fn gbp(amount: i64) -> Value {
    json!({ "amountMinor": amount, "currency": "GBP" })
}

async fn actions(client: &Client, order: &str) -> Value {
    client.order(order, "availableActions").await["availableActions"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_seen_to_be_taken_and_then_confirmed() {
    let api = without_order_process().await;
    let (lamp, bell) = (
        api.product("LAMP").price(12_50).stock(5).await,
        api.product("BELL").price(99).stock(3).await,
    );
    let shopper = api.shopper().await;
    let placing = shopper.placing(&[(&lamp, 2), (&bell, 3)]);
    let returning = "order { status total { amountMinor currency } customer { id }
        shippingAddress { recipient line1 line2 city region postalCode country phone }
        items { index productId sku name quantity unitPrice { amountMinor } lineTotal { amountMinor } } }";
    let payload = shopper
        .mutation("placeOrder", placing.clone())
        .returning(returning)
        .await
        .done();
    let order = &payload["order"];
    assert_eq!(
        (&order["status"], &order["total"]),
        (&json!("PENDING"), &gbp(27_97))
    );
    assert_eq!(order["customer"]["id"], shopper.id());
    for (field, value) in placing["shippingAddress"].as_object().unwrap() {
        assert_eq!(&order["shippingAddress"][field], value, "{field}");
    }
    let item = |index, item: &kontor_tests::Item, quantity, price, total| {
        json!({ "index": index, "productId": item.id.to_string(), "sku": item.sku.as_str(), "name": item.name.as_str(),
                "quantity": quantity, "unitPrice": { "amountMinor": price }, "lineTotal": { "amountMinor": total } })
    };
    assert_eq!(
        order["items"],
        json!([item(0, &lamp, 2, 12_50, 25_00), item(1, &bell, 3, 99, 2_97)])
    );

    let id = payload["id"].as_str().unwrap();
    let mut feeds = Vec::new();
    for way in [Way::Socket, Way::Events] {
        let mut feed = shopper.follow(way, &Topic::order(id), None).await;
        assert_eq!(feed.next().await.node["status"], "PENDING");
        feeds.push(feed);
    }
    let worker = api.branch().await;
    for feed in &mut feeds {
        assert_eq!(feed.next().await.node["status"], "CONFIRMED");
    }
    drop(feeds);
    worker.caught_up().await;
    assert_eq!(
        (api.stock(lamp.id).await, api.stock(bell.id).await),
        ((5, 2), (3, 3))
    );
    worker.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_order_says_what_was_missing_and_holds_nothing() {
    let api = ApiShop::start().await;
    let (lamp, bell, rope) = (
        api.product("LAMP").stock(5).await,
        api.product("BELL").stock(2).await,
        api.product("ROPE").stock(0).await,
    );
    let shopper = api.shopper().await;
    let order = shopper.place(&[(&lamp, 5), (&bell, 3), (&rope, 1)]).await;
    let mut feed = shopper.follow(Way::Socket, &Topic::order(&order.id), None).await;
    let rejected = loop {
        let node = feed.next().await.node;
        if node["status"] != "PENDING" {
            break node;
        }
    };
    assert_eq!(rejected["status"], "REJECTED");
    let missing = |id: String, requested, available| json!({ "productId": id, "requested": requested, "available": available, "reason": "INSUFFICIENT_STOCK" });
    let entry = rejected["timeline"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(entry["__typename"], "OrderRejectedEntry");
    let mut expected = [
        missing(bell.id.to_string(), 3, 2),
        missing(rope.id.to_string(), 1, 0),
    ];
    expected.sort_by_key(|it| it["productId"].to_string());
    assert_eq!(entry["refusedItems"], json!(expected));
    assert_eq!(actions(&shopper, &order.id).await, json!([]));

    api.caught_up().await;
    for (item, on_hand) in [(&lamp, 5), (&bell, 2), (&rope, 0)] {
        assert_eq!(api.stock(item.id).await, (on_hand, 0));
    }
    // Whoever comes next gets what was released.
    let next = shopper.place(&[(&lamp, 5)]).await;
    api.until_status(next.order_id(), "CONFIRMED").await;
    api.books_balance().await;
    drop(feed);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_cancelled_until_it_is_shipped() {
    let api = without_order_process().await;
    let lamp = api.product("LAMP").stock(10).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let pending = shopper.place(&[(&lamp, 2)]).await;
    let _ = shopper.cancel(&pending.id).await.done();

    let worker = api.branch().await;
    let confirmed = shopper.place(&[(&lamp, 3)]).await;
    let by_staff = shopper.place(&[(&lamp, 1)]).await;
    let shipped = shopper.place(&[(&lamp, 4)]).await;
    for order in [&confirmed, &by_staff, &shipped] {
        api.until_status(order.order_id(), "CONFIRMED").await;
    }
    worker.caught_up().await;
    assert_eq!(api.stock(lamp.id).await, (10, 8));
    let first = shopper.cancel(&confirmed.id).await.position();
    // A second time changes nothing, and is answered with where the log has come to since.
    assert!(shopper.cancel(&confirmed.id).await.position() >= first);
    let _ = staff.cancel(&by_staff.id).await.done();
    let _ = staff.ship(&shipped.id).await.done();
    worker.caught_up().await;
    for client in [&shopper, &staff] {
        let cancel = json!({ "orderId": shipped.id, "reason": "too late" });
        let telling = "... on OrderActionNotAllowed { status allowedActions }";
        let refusal = client
            .mutation("cancelOrder", cancel)
            .telling(telling)
            .await
            .refusal();
        assert_eq!(refusal["__typename"], "OrderActionNotAllowed");
        assert_eq!(refusal["code"], "ORDER_ACTION_NOT_ALLOWED");
        assert_eq!(
            (&refusal["status"], &refusal["allowedActions"]),
            (&json!("SHIPPED"), &json!(["DELIVER", "REFUND"]))
        );
    }
    let other = api.shopper().await;
    assert_eq!(
        other.cancel(&pending.id).await.refusal()["__typename"],
        "OrderNotFound"
    );

    assert_eq!(api.stock(lamp.id).await, (6, 0));
    for order in [&pending, &confirmed, &by_staff] {
        let seen = shopper.order(&order.id, &format!("status {TIMELINE}")).await;
        assert_eq!(seen["status"], "CANCELLED");
        let timeline = seen["timeline"].as_array().unwrap();
        let cancelled = timeline
            .iter()
            .filter(|it| it["__typename"] == "OrderCancelledEntry")
            .count();
        assert_eq!(cancelled, 1, "{timeline:?}");
        assert_eq!(
            seen["timeline"].as_array().unwrap().last().unwrap()["reason"],
            "second thoughts"
        );
    }
    worker.books_balance().await;
    worker.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_goes_its_way_and_tells_each_viewer_what_they_may_do() {
    let api = without_order_process().await;
    let (lamp, bell) = (
        api.product("LAMP").price(10_00).stock(5).await,
        api.product("BELL").stock(5).await,
    );
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 3), (&bell, 1)]).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let mut look = async |status: &str| {
        let position = api.until_status(order.order_id(), status).await.position;
        theirs.push(actions(&shopper, &order.id).await);
        ours.push(actions(&staff, &order.id).await);
        position
    };
    look("PENDING").await;
    let telling = "... on OrderActionNotAllowed { status }";
    let early = json!({ "orderId": order.id, "trackingNumber": "TRACK-1" });
    let refusal = staff
        .mutation("shipOrder", early)
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["status"]),
        (&json!("ORDER_ACTION_NOT_ALLOWED"), &json!("PENDING"))
    );
    let worker = api.branch().await;
    look("CONFIRMED").await;
    let _ = staff.ship(&order.id).await.done();
    look("SHIPPED").await;
    let _ = staff.deliver(&order.id).await.done();
    look("DELIVERED").await;
    assert_eq!(
        theirs,
        [json!(["CANCEL"]), json!(["CANCEL"]), json!([]), json!([])]
    );
    assert_eq!(
        ours,
        [
            json!(["GIVE_UP", "CANCEL"]),
            json!(["CANCEL", "SHIP"]),
            json!(["DELIVER"]),
            json!(["RETURN_ITEMS"])
        ]
    );
    // Customers do none of it themselves.
    for name in ["shipOrder", "deliverOrder"] {
        let mut input = json!({ "orderId": order.id });
        if name == "shipOrder" {
            input["trackingNumber"] = "T".into();
        }
        assert_eq!(shopper.mutation(name, input).answer().await.code(), "FORBIDDEN");
    }
    worker.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_items_come_back_and_the_timeline_tells_the_whole_story() {
    let api = ApiShop::start().await;
    let (lamp, bell) = (
        api.product("LAMP").price(10_00).stock(5).await,
        api.product("BELL").stock(5).await,
    );
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 3), (&bell, 1)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let _ = staff.ship(&order.id).await.done();
    let _ = staff.deliver(&order.id).await.done();
    let returning = json!({ "items": [{ "item": 0, "quantity": 2 }], "refund": gbp(20_00), "reason": "the wrong colour",
        "restock": true });
    let _ = staff
        .change("returnItems", &order.id, returning.clone())
        .await
        .done();
    let too_many = json!({ "orderId": order.id, "items": [{ "item": 0, "quantity": 2 }], "refund": gbp(0), "reason": "more",
        "restock": true });
    let telling = "... on MoreThanDelivered { item requested returnable }";
    let refusal = staff
        .mutation("returnItems", too_many)
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["__typename"], &refusal["returnable"]),
        (&json!("MoreThanDelivered"), &json!(1))
    );

    api.caught_up().await;
    let fields = format!("status refunded {{ amountMinor }} placedAt updatedAt version {TIMELINE}");
    let seen = shopper.order(&order.id, &fields).await;
    assert_eq!(
        (&seen["status"], &seen["refunded"]["amountMinor"]),
        (&json!("DELIVERED"), &json!(20_00))
    );
    let timeline = seen["timeline"].as_array().unwrap();
    let what: Vec<&str> = timeline
        .iter()
        .map(|it| it["__typename"].as_str().unwrap())
        .collect();
    let expected = [
        "OrderPlacedEntry",
        "OrderConfirmedEntry",
        "OrderShippedEntry",
        "OrderDeliveredEntry",
        "ItemsReturnedEntry",
    ];
    assert_eq!(what, expected);
    assert_eq!(seen["version"], 5);
    assert_eq!(
        (&timeline[0]["at"], &timeline[4]["at"]),
        (&seen["placedAt"], &seen["updatedAt"])
    );
    assert_eq!(
        (&timeline[2]["trackingNumber"], &timeline[2]["carrier"]),
        (&json!("TRACK-1"), &json!("By Sea"))
    );
    assert_eq!(timeline[4]["reason"], "the wrong colour");
    assert_eq!(
        timeline[4]["items"],
        json!([{ "item": 0, "productId": lamp.id.to_string(), "quantity": 2 }])
    );
    let position = |it: &Value| it["position"].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(position(&timeline[0]), order.position);
    assert!(timeline.is_sorted_by_key(position));
    assert_eq!(
        (api.stock(lamp.id).await, api.stock(bell.id).await),
        ((4, 0), (4, 0))
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_on_an_old_version_is_a_conflict_that_names_the_new_one() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(5).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 1)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let ship = |version| json!({ "orderId": order.id, "trackingNumber": "T", "expectedVersion": version });
    let telling = "... on VersionConflict { expectedVersion currentVersion }";
    let refusal = staff
        .mutation("shipOrder", ship(1))
        .telling(telling)
        .await
        .refusal();
    assert_eq!(refusal["code"], "VERSION_CONFLICT");
    assert_eq!(
        (&refusal["expectedVersion"], &refusal["currentVersion"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(refusal["path"], json!(["input", "expectedVersion"]));
    let _ = staff.mutation("shipOrder", ship(2)).await.done();
    api.finish().await;
}
