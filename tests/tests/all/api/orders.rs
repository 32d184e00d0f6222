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
    let (lamp, bell) = (api.product("LAMP").price(12_50).stock(5).await, api.product("BELL").price(99).stock(3).await);
    let shopper = api.shopper().await;
    let placing = shopper.placing(&[(&lamp, 2), (&bell, 3)]);
    let returning = "order { status total { amountMinor currency } customer { id }
        shippingAddress { recipient line1 line2 city region postalCode country phone }
        items { index productId sku name quantity unitPrice { amountMinor } lineTotal { amountMinor } } }";
    let payload = shopper.mutation("placeOrder", placing.clone()).returning(returning).await.done();
    let order = &payload["order"];
    assert_eq!((&order["status"], &order["total"]), (&json!("PENDING"), &gbp(27_97)));
    assert_eq!(order["customer"]["id"], shopper.id());
    for (field, value) in placing["shippingAddress"].as_object().unwrap() {
        assert_eq!(&order["shippingAddress"][field], value, "{field}");
    }
    let item = |index, item: &kontor_tests::Item, quantity, price, total| {
        json!({ "index": index, "productId": item.id.to_string(), "sku": item.sku.as_str(), "name": item.name.as_str(),
                "quantity": quantity, "unitPrice": { "amountMinor": price }, "lineTotal": { "amountMinor": total } })
    };
    assert_eq!(order["items"], json!([item(0, &lamp, 2, 12_50, 25_00), item(1, &bell, 3, 99, 2_97)]));

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
    assert_eq!((api.stock(lamp.id).await, api.stock(bell.id).await), ((5, 2), (3, 3)));
    worker.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_order_says_what_was_missing_and_holds_nothing() {
    let api = ApiShop::start().await;
    let (lamp, bell, rope) =
        (api.product("LAMP").stock(5).await, api.product("BELL").stock(2).await, api.product("ROPE").stock(0).await);
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
    let missing = |id: String, requested, available| {
        json!({ "productId": id, "requested": requested, "available": available, "reason": "INSUFFICIENT_STOCK" })
    };
    let entry = rejected["timeline"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(entry["__typename"], "OrderRejectedEntry");
    let mut expected = [missing(bell.id.to_string(), 3, 2), missing(rope.id.to_string(), 1, 0)];
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
async fn names_and_prices_stay_those_of_the_moment() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").name("The old lamp").price(10_00).stock(5).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 2)]).await;
    let product = json!({ "productId": lamp.id.to_string() });
    let with = |more: Value| {
        let mut input = product.clone();
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let _ = staff.mutation("changeProductPrice", with(json!({ "price": gbp(11_00) }))).await.done();
    let renamed = json!({ "name": "The new lamp", "description": "Brighter." });
    let _ = staff.mutation("changeProductDetails", with(renamed)).await.done();
    api.caught_up().await;

    let fields = "total { amountMinor } items { name unitPrice { amountMinor } product { name price { amountMinor } } }";
    let seen = shopper.order(&order.id, fields).await;
    assert_eq!(
        seen,
        json!({ "total": { "amountMinor": 20_00 }, "items": [{ "name": "The old lamp", "unitPrice": { "amountMinor": 10_00 },
                "product": { "name": "The new lamp", "price": { "amountMinor": 11_00 } } }] })
    );
    // And the next one pays the new price.
    let next = shopper.place(&[(&lamp, 1)]).await;
    api.caught_up().await;
    assert_eq!(shopper.order(&next.id, "total { amountMinor }").await["total"]["amountMinor"], 11_00);
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
    let first = shopper.cancel(&confirmed.id).await.done();
    // A second time changes nothing.
    assert_eq!(shopper.cancel(&confirmed.id).await.done()["position"], first["position"]);
    let _ = staff.cancel(&by_staff.id).await.done();
    let _ = staff.ship(&shipped.id).await.done();
    worker.caught_up().await;
    for client in [&shopper, &staff] {
        let cancel = json!({ "orderId": shipped.id, "reason": "too late" });
        let telling = "... on OrderActionNotAllowed { status allowedActions }";
        let refusal = client.mutation("cancelOrder", cancel).telling(telling).await.refusal();
        assert_eq!(refusal["__typename"], "OrderActionNotAllowed");
        assert_eq!(refusal["code"], "ORDER_ACTION_NOT_ALLOWED");
        assert_eq!((&refusal["status"], &refusal["allowedActions"]), (&json!("SHIPPED"), &json!(["DELIVER"])));
    }
    let other = api.shopper().await;
    assert_eq!(other.cancel(&pending.id).await.refusal()["__typename"], "OrderNotFound");

    assert_eq!(api.stock(lamp.id).await, (6, 0));
    for order in [&pending, &confirmed, &by_staff] {
        let seen = shopper.order(&order.id, &format!("status {TIMELINE}")).await;
        assert_eq!(seen["status"], "CANCELLED");
        assert_eq!(seen["timeline"].as_array().unwrap().last().unwrap()["reason"], "second thoughts");
    }
    worker.books_balance().await;
    worker.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_goes_its_way_and_tells_each_viewer_what_they_may_do() {
    let api = without_order_process().await;
    let (lamp, bell) = (api.product("LAMP").price(10_00).stock(5).await, api.product("BELL").stock(5).await);
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 3), (&bell, 1)]).await;
    let _ = shopper.order(&order.id, "id").await;
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
    let refusal = staff.mutation("shipOrder", early).telling(telling).await.refusal();
    assert_eq!((&refusal["code"], &refusal["status"]), (&json!("ORDER_ACTION_NOT_ALLOWED"), &json!("PENDING")));
    let worker = api.branch().await;
    look("CONFIRMED").await;
    let _ = staff.ship(&order.id).await.done();
    look("SHIPPED").await;
    let _ = staff.deliver(&order.id).await.done();
    look("DELIVERED").await;
    assert_eq!(theirs, [json!(["CANCEL"]), json!(["CANCEL"]), json!([]), json!([])]);
    assert_eq!(ours, [json!(["CANCEL"]), json!(["CANCEL", "SHIP"]), json!(["DELIVER"]), json!(["RETURN_ITEMS"])]);
    // Customers do none of it themselves.
    for name in ["shipOrder", "deliverOrder"] {
        let mut input = json!({ "orderId": order.id });
        if name == "shipOrder" {
            input["trackingNumber"] = "T".into();
        }
        assert_eq!(shopper.mutation(name, input).answer().await.code(), "FORBIDDEN");
    }

    worker.caught_up().await;
    let returning = json!({ "items": [{ "item": 0, "quantity": 2 }], "refund": gbp(20_00), "reason": "the wrong colour",
        "restock": true });
    let _ = staff.change("returnItems", &order.id, returning.clone()).await.done();
    let too_many = json!({ "orderId": order.id, "items": [{ "item": 0, "quantity": 2 }], "refund": gbp(0), "reason": "more",
        "restock": true });
    let telling = "... on MoreThanDelivered { item requested returnable }";
    let refusal = staff.mutation("returnItems", too_many).telling(telling).await.refusal();
    assert_eq!((&refusal["__typename"], &refusal["returnable"]), (&json!("MoreThanDelivered"), &json!(1)));

    worker.caught_up().await;
    let fields = format!("status refunded {{ amountMinor }} placedAt updatedAt version {TIMELINE}");
    let seen = shopper.order(&order.id, &fields).await;
    assert_eq!((&seen["status"], &seen["refunded"]["amountMinor"]), (&json!("DELIVERED"), &json!(20_00)));
    let timeline = seen["timeline"].as_array().unwrap();
    let what: Vec<&str> = timeline.iter().map(|it| it["__typename"].as_str().unwrap()).collect();
    let expected = ["OrderPlacedEntry", "OrderConfirmedEntry", "OrderShippedEntry", "OrderDeliveredEntry", "ItemsReturnedEntry"];
    assert_eq!(what, expected);
    assert_eq!(seen["version"], 5);
    assert_eq!((&timeline[0]["at"], &timeline[4]["at"]), (&seen["placedAt"], &seen["updatedAt"]));
    assert_eq!((&timeline[2]["trackingNumber"], &timeline[2]["carrier"]), (&json!("TRACK-1"), &json!("By Sea")));
    assert_eq!(timeline[4]["reason"], "the wrong colour");
    assert_eq!(timeline[4]["items"], json!([{ "item": 0, "productId": lamp.id.to_string(), "quantity": 2 }]));
    let position = |it: &Value| it["position"].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(position(&timeline[0]), order.position);
    assert!(timeline.is_sorted_by_key(position));
    assert_eq!((api.stock(lamp.id).await, api.stock(bell.id).await), ((4, 0), (4, 0)));
    worker.close().await;
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
    let refusal = staff.mutation("shipOrder", ship(1)).telling(telling).await.refusal();
    assert_eq!(refusal["code"], "VERSION_CONFLICT");
    assert_eq!((&refusal["expectedVersion"], &refusal["currentVersion"]), (&json!(1), &json!(2)));
    assert_eq!(refusal["path"], json!(["input", "expectedVersion"]));
    let _ = staff.mutation("shipOrder", ship(2)).await.done();
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_pays_another_total_than_they_saw() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let raise = json!({ "productId": lamp.id.to_string(), "price": gbp(11_00) });
    let raised = staff.mutation("changeProductPrice", raise).await.position();
    let _ = shopper.product(lamp.id, "id", raised).await;
    api.caught_up().await;
    let mut placing = shopper.placing(&[(&lamp, 2)]);
    placing["expectedTotal"] = gbp(20_00);
    let telling = "... on PriceChanged { expected { amountMinor currency } actual { amountMinor currency } }";
    let refusal = shopper.mutation("placeOrder", placing.clone()).telling(telling).await.refusal();
    assert_eq!((&refusal["code"], &refusal["path"]), (&json!("PRICE_CHANGED"), &json!(["input", "expectedTotal"])));
    assert_eq!((&refusal["expected"], &refusal["actual"]), (&gbp(20_00), &gbp(22_00)));
    placing["expectedTotal"] = gbp(22_00);
    let placed = shopper.mutation("placeOrder", placing).await.placed();
    api.until_status(placed.order_id(), "CONFIRMED").await;
    assert_eq!(api.orders().await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_has_1_to_200_items_of_products_that_are_sold() {
    let api = ApiShop::start().await;
    let (lamp, rope) = (api.product("LAMP").price(1).stock(500).await, api.product("ROPE").stock(5).await);
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let many = |count| shopper.placing(&vec![(&lamp, 1); count]);
    let telling = "... on InvalidInput { problem minimum maximum }";
    for (count, problem) in [(0, "TOO_SHORT"), (201, "TOO_LONG")] {
        let refusal = shopper.mutation("placeOrder", many(count)).telling(telling).await.refusal();
        assert_eq!((&refusal["code"], &refusal["path"]), (&json!("INVALID_INPUT"), &json!(["input", "items"])));
        assert_eq!(refusal["maximum"], 200, "{count}: {problem} {refusal}");
    }
    // The same product on 200 lines is one reservation.
    let whole = shopper.mutation("placeOrder", many(200)).await.placed();
    api.until_status(whole.order_id(), "CONFIRMED").await;
    assert_eq!(api.stock(lamp.id).await, (500, 200));
    let seen = shopper.order(&whole.id, "total { amountMinor } items { index }").await;
    assert_eq!((&seen["total"]["amountMinor"], seen["items"].as_array().unwrap().len()), (&json!(200), 200));

    let gone = json!({ "productId": rope.id.to_string(), "reason": "moths" });
    let _ = staff.mutation("discontinueProduct", gone).await.done();
    api.caught_up().await;
    let never = "prd_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let mut placing = shopper.placing(&[(&lamp, 1), (&rope, 1), (&lamp, 1)]);
    placing["items"][2]["productId"] = never.into();
    let telling = "... on ProductNotFound { missing: productId } ... on ProductNotForSale { unsold: productId }";
    let errors = shopper.mutation("placeOrder", placing).telling(telling).await.refused();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!((&errors[0]["code"], &errors[0]["unsold"]), (&json!("PRODUCT_NOT_FOR_SALE"), &json!(rope.id.to_string())));
    assert_eq!((&errors[1]["code"], &errors[1]["missing"]), (&json!("PRODUCT_NOT_FOUND"), &json!(never)));
    assert_eq!(errors[1]["path"], json!(["input", "items", "2", "productId"]));
    assert_eq!(api.orders().await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_wrong_with_an_order_is_told_at_once_and_nothing_is_written() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(5).await;
    let shopper = api.shopper().await;
    let before = kontor_eventstore::read::head(&api.pool).await.unwrap();
    let mut placing = shopper.placing(&[(&lamp, 0), (&lamp, 1_000_001), (&lamp, 1)]);
    placing["items"][2]["productId"] = "ord_1".into();
    placing["shippingAddress"]["city"] = "".into();
    placing["shippingAddress"]["country"] = "Deutschland".into();
    placing["expectedTotal"] = gbp(-1);
    placing["idempotencyKey"] = "".into();
    let errors = shopper.mutation("placeOrder", placing).telling("... on InvalidInput { problem }").await.refused();
    let mut told: Vec<String> = errors
        .iter()
        .map(|it| {
            assert_eq!(it["code"], "INVALID_INPUT");
            let path: Vec<&str> = it["path"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            format!("{} {}", path.join("."), it["problem"].as_str().unwrap())
        })
        .collect();
    told.sort();
    let expected = [
        "input.expectedTotal.amountMinor NEGATIVE",
        "input.idempotencyKey EMPTY",
        "input.items.0.quantity OUT_OF_RANGE",
        "input.items.1.quantity OUT_OF_RANGE",
        "input.items.2.productId NOT_AN_ID",
        "input.shippingAddress.city EMPTY",
        "input.shippingAddress.country NOT_A_CODE",
    ];
    assert_eq!(told, expected);
    assert_eq!(kontor_eventstore::read::head(&api.pool).await.unwrap(), before);
    assert_eq!(api.visitor().mutation("placeOrder", shopper.placing(&[(&lamp, 1)])).answer().await.code(), "UNAUTHENTICATED");
    api.finish().await;
}
