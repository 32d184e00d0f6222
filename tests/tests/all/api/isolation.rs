//! To everybody else an order is not there; staff see all.

use kontor_tests::api::{ApiShop, Client, Heard, Topic, Way};
use serde_json::{Value, json};

async fn ids(client: &Client, field: &str) -> Vec<String> {
    let data = client
        .read(&format!("{{ {field} {{ nodes {{ id }} }} }}"), json!({}))
        .await;
    let name = field.split('(').next().unwrap();
    let nodes = data[name]["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|node| node["id"].as_str().unwrap().to_owned())
        .collect()
}

/// What a viewer gets of an order by every field that takes its id.
async fn by_id(client: &Client, order: &str) -> Vec<Value> {
    let query = "query($id: ID!) { order(id: $id) { id } node(id: $id) { id } orderStatus(orderId: $id) { id: orderId } }";
    let data = client.read(query, json!({ "id": order })).await;
    ["order", "node", "orderStatus"]
        .map(|field| data[field]["id"].clone())
        .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_finds_their_own_orders_and_no_others() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(50).await;
    let (one, other, staff) = (api.shopper().await, api.shopper().await, api.staff().await);
    let (first, second) = (
        one.place(&[(&lamp, 1)]).await.id,
        one.place(&[(&lamp, 2)]).await.id,
    );
    let third = other.place(&[(&lamp, 3)]).await.id;
    api.caught_up().await;

    for (client, own) in [(&one, vec![&second, &first]), (&other, vec![&third])] {
        assert_eq!(ids(client, "myOrders").await.iter().collect::<Vec<_>>(), own);
        for order in [&first, &second, &third] {
            let expected = if own.contains(&order) {
                json!(order)
            } else {
                Value::Null
            };
            assert_eq!(by_id(client, order).await, vec![expected; 3]);
        }
        for query in [
            "{ orders { nodes { id } } }",
            "{ users { nodes { id } } }",
            "{ log { head } }",
        ] {
            assert_eq!(client.ask(query, json!({})).await.code(), "FORBIDDEN", "{query}");
        }
    }
    assert_eq!(
        ids(&staff, "orders").await,
        [&third, &second, &first].map(Clone::clone)
    );
    let of_other = format!("orders(filter: {{ customerId: {:?} }})", other.id());
    assert_eq!(ids(&staff, &of_other).await, std::slice::from_ref(&third));
    assert_eq!(ids(&staff, "myOrders").await, Vec::<String>::new());
    assert_eq!(by_id(&staff, &first).await, vec![json!(first); 3]);

    // Nor do they see each other.
    let user = "query($id: ID!) { user(id: $id) { id } node(id: $id) { id } }";
    let seen = one.read(user, json!({ "id": other.id() })).await;
    assert_eq!(seen, json!({ "user": null, "node": null }));
    assert_eq!(
        staff.read(user, json!({ "id": other.id() })).await["node"]["id"],
        other.id()
    );

    let visitor = api.visitor();
    for query in ["{ myOrders { nodes { id } } }", "{ orders { nodes { id } } }"] {
        assert_eq!(
            visitor.ask(query, json!({})).await.code(),
            "UNAUTHENTICATED",
            "{query}"
        );
    }
    for field in [
        "order(id: $id) { id }",
        "node(id: $id) { id }",
        "orderStatus(orderId: $id) { orderId }",
    ] {
        let query = format!("query($id: ID!) {{ {field} }}");
        assert_eq!(
            visitor.ask(&query, json!({ "id": first })).await.code(),
            "UNAUTHENTICATED",
            "{query}"
        );
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_follows_what_they_may_not_see() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(50).await;
    let (one, other, staff) = (api.shopper().await, api.shopper().await, api.staff().await);
    let order = one.place(&[(&lamp, 1)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let never = "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for way in [Way::Socket, Way::Events] {
        let refused = |code: &str| Heard::Errors(vec![code.to_owned()]);
        let heard = async |client: &Client, topic: Topic| client.follow(way, &topic, None).await.hear().await;
        assert_eq!(
            heard(&other, Topic::order(&order.id)).await,
            refused("FORBIDDEN"),
            "{way:?}"
        );
        assert_eq!(
            heard(&staff, Topic::order(never)).await,
            refused("FORBIDDEN"),
            "{way:?}"
        );
        assert_eq!(
            heard(&other, Topic::all_orders()).await,
            refused("FORBIDDEN"),
            "{way:?}"
        );
        assert_eq!(
            heard(&one, Topic::order("prd_1")).await,
            refused("BAD_USER_INPUT"),
            "{way:?}"
        );
        for topic in [Topic::order(&order.id), Topic::my_orders(), Topic::all_orders()] {
            assert_eq!(
                heard(&api.visitor(), topic).await,
                refused("UNAUTHENTICATED"),
                "{way:?}"
            );
        }
        for client in [&one, &staff] {
            let Heard::Change(change) = heard(client, Topic::order(&order.id)).await else {
                panic!("{way:?}")
            };
            assert_eq!(change.node["id"], order.id);
        }
    }

    // Somebody else's orders do not come by a feed of one's own either: the second of these is the first to arrive.
    let start = one
        .follow(Way::Socket, &Topic::order(&order.id), None)
        .await
        .next()
        .await
        .cursor;
    let mut mine = one.follow(Way::Socket, &Topic::my_orders(), Some(&start)).await;
    let _ = other.place(&[(&lamp, 1)]).await;
    let own = one.place(&[(&lamp, 1)]).await;
    assert_eq!(mine.next().await.node["id"], own.id);
    let mut everybodys = staff
        .follow(Way::Socket, &Topic::all_orders(), Some(&start))
        .await;
    assert_ne!(everybodys.next().await.node["id"], own.id);
    drop((mine, everybodys));
    api.finish().await;
}
