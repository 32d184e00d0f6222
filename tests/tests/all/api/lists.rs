//! Lists: filters, sorts, and pages that neither repeat nor skip.

use kontor_domain::{Product, ProductCommand};
use kontor_tests::Item;
use kontor_tests::api::{ApiShop, Client};
use serde_json::{Value, json};

const SORTS: [&str; 5] = [
    "NAME",
    "PRICE_ASCENDING",
    "PRICE_DESCENDING",
    "NEWEST",
    "BEST_SELLING",
];

/// Seven products, some alike in what they are sorted by, of which `F` was sold most and then `B`.
async fn stock(api: &ApiShop) -> Vec<Item> {
    let mut items = Vec::new();
    for (sku, name, category, price, pieces) in [
        ("A", "Candle", "lights", 3_00, 0),
        ("B", "lamp", "lights", 12_00, 10),
        ("C", "Lamp", "lights", 12_00, 5),
        ("D", "Chart", "maps", 45_00, 1),
        ("E", "Chart", "maps", 30_00, 0),
        ("F", "Ink", "desk", 3_00, 10),
        ("G", "Zither", "Lights", 99_00, 2),
    ] {
        items.push(
            api.product(sku)
                .name(name)
                .category(category)
                .price(price)
                .stock(pieces)
                .await,
        );
    }
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    api.caught_up().await;
    let order = shopper.place(&[(&items[1], 2), (&items[5], 3)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let _ = staff.ship(&order.id).await.done();
    api.caught_up().await;
    items
}

/// One page.
async fn page(client: &Client, sort: &str, filter: Value, first: usize, after: &Value) -> Value {
    let query = "query($sort: ProductSort!, $filter: ProductFilter, $first: Int!, $after: String) {
        products(sort: $sort, filter: $filter, first: $first, after: $after) {
            edges { cursor node { sku } } nodes { sku } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
    let variables = json!({ "sort": sort, "filter": filter, "first": first, "after": after });
    client.read(query, variables).await["products"].take()
}

fn skus(page: &Value) -> Vec<String> {
    page["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["sku"].as_str().unwrap().to_owned())
        .collect()
}

async fn all(client: &Client, sort: &str, filter: Value) -> String {
    skus(&page(client, sort, filter, 100, &Value::Null).await).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn products_are_filtered_and_sorted() {
    let api = ApiShop::start().await;
    let items = stock(&api).await;
    let visitor = api.visitor();
    for (filter, found) in [
        (json!({ "category": "lights" }), "ABC"),
        (json!({ "category": "nothing" }), ""),
        (json!({ "minPriceMinor": 12_00 }), "BCDEG"),
        (json!({ "maxPriceMinor": 12_00 }), "ABCF"),
        (json!({ "minPriceMinor": 12_00, "maxPriceMinor": 30_00 }), "BCE"),
        (json!({ "inStock": true }), "BCDFG"),
        (json!({ "inStock": false }), "AE"),
        (json!({ "search": "LAM" }), "BC"),
        (json!({ "search": "%" }), ""),
        (
            json!({ "category": "lights", "inStock": true, "maxPriceMinor": 11_99 }),
            "",
        ),
        (Value::Null, "ABCDEFG"),
    ] {
        let newest: String = all(&visitor, "NEWEST", filter.clone())
            .await
            .chars()
            .rev()
            .collect();
        assert_eq!(newest, found, "{filter}");
    }
    assert_eq!(all(&visitor, "NEWEST", Value::Null).await, "GFEDCBA");
    for (sort, groups) in [
        ("NAME", vec!["A", "DE", "F", "BC", "G"]),
        ("PRICE_ASCENDING", vec!["AF", "BC", "E", "D", "G"]),
        ("PRICE_DESCENDING", vec!["G", "D", "E", "BC", "AF"]),
        ("BEST_SELLING", vec!["F", "B", "ACDEG"]),
    ] {
        let found = all(&visitor, sort, Value::Null).await;
        // Among equals the order is anybody's, but always the same.
        let mut rest = found.as_str();
        for group in groups {
            let (head, tail) = rest.split_at(group.len());
            let mut head: Vec<char> = head.chars().collect();
            head.sort_unstable();
            assert_eq!(head.iter().collect::<String>(), group, "{sort}: {found}");
            rest = tail;
        }
        assert_eq!(rest, "");
    }
    api.send::<Product>(items[0].id, ProductCommand::Discontinue { reason: None })
        .await;
    api.caught_up().await;
    for (listed, found) in [
        (json!(true), "GFEDCB"),
        (json!(false), "A"),
        (Value::Null, "GFEDCBA"),
    ] {
        assert_eq!(all(&visitor, "NEWEST", json!({ "listed": listed })).await, found);
    }
    let sellers = visitor
        .read(
            "{ bestSellers(first: 1) { unitsSold product { sku } } }",
            json!({}),
        )
        .await;
    assert_eq!(
        sellers["bestSellers"],
        json!([{ "unitsSold": 3, "product": { "sku": "F" } }])
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_neither_repeat_nor_skip() {
    let api = ApiShop::start().await;
    stock(&api).await;
    let visitor = api.visitor();
    for sort in SORTS {
        let whole = all(&visitor, sort, Value::Null).await;
        assert_eq!(whole.len(), 7);
        for first in 1..=3 {
            let (mut found, mut after) = (Vec::new(), Value::Null);
            loop {
                let page = page(&visitor, sort, Value::Null, first, &after).await;
                let (info, edges) = (&page["pageInfo"], page["edges"].as_array().unwrap());
                assert_eq!(info["hasPreviousPage"], json!(!after.is_null()));
                assert_eq!(
                    (&info["startCursor"], &info["endCursor"]),
                    (&edges[0]["cursor"], &edges.last().unwrap()["cursor"])
                );
                let own = skus(&page);
                assert!(
                    edges
                        .iter()
                        .zip(&own)
                        .all(|(edge, sku)| edge["node"]["sku"] == *sku)
                );
                found.extend(own);
                assert_eq!(info["hasNextPage"], json!(found.len() < 7), "{sort} by {first}");
                if info["hasNextPage"] == false {
                    break;
                }
                assert_eq!(edges.len(), first);
                after = info["endCursor"].clone();
            }
            assert_eq!(found.concat(), whole, "{sort} by {first}");
        }
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn products_that_come_in_between_move_nothing() {
    let api = ApiShop::start().await;
    stock(&api).await;
    let visitor = api.visitor();
    for sort in SORTS {
        let whole = all(&visitor, sort, Value::Null).await;
        let before: Vec<String> = skus(&page(&visitor, sort, Value::Null, 100, &Value::Null).await);
        let (mut found, mut after, mut round) = (Vec::new(), Value::Null, 0);
        loop {
            let page = page(&visitor, sort, Value::Null, 2, &after).await;
            found.extend(skus(&page));
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
            round += 1;
            // Before everything and in the middle of it, whatever the list is sorted by.
            if round <= 3 {
                for (sku, name, price) in [("0", "Aaa", 1), ("5", "Lamp", 12_00)] {
                    let sku = format!("{sku}-{sort}-{round}");
                    api.product(&sku).name(name).price(price + round).await;
                }
                api.caught_up().await;
            }
        }
        let mut once = found.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), found.len(), "{sort}: {found:?}");
        found.retain(|sku| before.contains(sku));
        assert_eq!(found.concat(), whole, "{sort}");
        for item in skus(&page(&visitor, "NEWEST", Value::Null, 100, &Value::Null).await) {
            if item.len() > 1 {
                let bought = visitor
                    .read(
                        "query($sku: String!) { productBySku(sku: $sku) { id } }",
                        json!({ "sku": item }),
                    )
                    .await;
                let id = bought["productBySku"]["id"].as_str().unwrap().parse().unwrap();
                api.send::<Product>(id, ProductCommand::Discontinue { reason: None })
                    .await;
            }
        }
        api.caught_up().await;
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_cannot_be_is_refused() {
    let api = ApiShop::start().await;
    stock(&api).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let of_products =
        page(&staff, "NAME", Value::Null, 1, &Value::Null).await["pageInfo"]["endCursor"].clone();
    let hours = "salesPerHour(from: \"2026-01-01T00:00:00Z\", to: \"2026-02-01T00:00:00Z\",";
    for (client, field) in [
        (&shopper, "products("),
        (&shopper, "myOrders("),
        (&staff, "orders("),
        (&staff, "users("),
        (&staff, hours),
    ] {
        let mut pages = vec![
            "first: 0".to_owned(),
            "first: 101".to_owned(),
            "first: -1".to_owned(),
        ];
        for cursor in ["", "!", "nonsense", "e30", "bnVsbA"] {
            pages.push(format!("after: {cursor:?}"));
        }
        if field != "products(" {
            pages.push(format!("after: {of_products}"));
        }
        for page in pages {
            let query = format!("{{ {field} {page}) {{ pageInfo {{ endCursor }} }} }}");
            assert_eq!(
                client.ask(&query, json!({})).await.code(),
                "BAD_USER_INPUT",
                "{query}"
            );
        }
        for page in ["first: 1", "first: 100"] {
            let query = format!("{{ {field} {page}) {{ pageInfo {{ endCursor }} }} }}");
            let _ = client.read(&query, json!({})).await;
        }
    }
    // A cursor is of one sort.
    let query = format!("{{ products(sort: PRICE_ASCENDING, after: {of_products}) {{ nodes {{ sku }} }} }}");
    assert_eq!(shopper.ask(&query, json!({})).await.code(), "BAD_USER_INPUT");
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_paged_newest_first() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(100).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let mut placed = Vec::new();
    for _ in 0..7 {
        placed.push(shopper.place(&[(&lamp, 1)]).await.id);
    }
    let _ = shopper.cancel(&placed[3]).await.done();
    placed.reverse();
    api.caught_up().await;
    for (client, field) in [(&shopper, "myOrders"), (&staff, "orders")] {
        let query = format!(
            "query($after: String) {{ {field}(first: 3, after: $after) {{ nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }} }}"
        );
        let (mut found, mut after) = (Vec::new(), Value::Null);
        loop {
            let page = client.read(&query, json!({ "after": after })).await[field].take();
            found.extend(
                page["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|it| it["id"].as_str().unwrap().to_owned()),
            );
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        assert_eq!(found, placed, "{field}");
    }
    let cancelled = shopper
        .read("{ myOrders(status: CANCELLED) { nodes { id } } }", json!({}))
        .await;
    assert_eq!(cancelled["myOrders"]["nodes"], json!([{ "id": placed[3] }]));
    api.finish().await;
}
