//! More buyers than there are pieces.

use std::sync::Arc;

use futures::future::join_all;
use kontor_tests::api::ApiShop;
use serde_json::json;
use tokio::sync::Semaphore;

const PIECES: u32 = 50;
const BUYERS: usize = 500;
const CONNECTIONS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_buyers_at_once_exactly_as_many_are_served_as_there_are_pieces() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(PIECES).await;
    let mut buyers = Vec::new();
    for _ in 0..8 {
        buyers.push(api.shopper().await);
    }
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    let placed = join_all((0..BUYERS).map(|n| {
        let (buyer, placing, turns) = (
            buyers[n % 8].clone(),
            buyers[0].placing(&[(&lamp, 1)]),
            Arc::clone(&turns),
        );
        tokio::spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            buyer.mutation("placeOrder", placing).await.placed()
        })
    }))
    .await;
    let positions: Vec<u64> = placed.into_iter().map(|it| it.unwrap().position).collect();
    api.caught_up().await;

    let staff = api.staff().await;
    let query = "query($after: String, $status: OrderStatus!) {
        orders(filter: { status: $status }, first: 25, after: $after) { pageInfo { hasNextPage endCursor }
            nodes { id timeline { ... on OrderRejectedEntry { refusedItems { productId requested available reason } } } } } }";
    let mut counts = Vec::new();
    for status in ["CONFIRMED", "REJECTED", "PENDING"] {
        let (mut after, mut count) = (json!(null), 0);
        loop {
            let page = staff
                .read(query, json!({ "after": after, "status": status }))
                .await["orders"]
                .take();
            for node in page["nodes"].as_array().unwrap() {
                count += 1;
                let last = node["timeline"].as_array().unwrap().last().unwrap();
                if status == "REJECTED" {
                    let refused = json!([{ "productId": lamp.id.to_string(), "requested": 1, "available": 0,
                        "reason": "INSUFFICIENT_STOCK" }]);
                    assert_eq!(last["refusedItems"], refused);
                }
            }
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        counts.push(count);
    }
    assert_eq!(counts, [50, 450, 0]);
    let newest = positions.into_iter().max().unwrap();
    let seen = staff
        .product(lamp.id, "available onHand reserved inStock", newest)
        .await;
    assert_eq!(
        seen,
        json!({ "available": 0, "onHand": PIECES, "reserved": PIECES, "inStock": false })
    );
    api.books_balance().await;
    api.finish().await;
}
