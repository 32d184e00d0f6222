//! How much one address and one user may ask for, and what happens when too many ask.

use std::time::{Duration, Instant};

use kontor_api::Protection;
use kontor_api::address::Proxies;
use kontor_api::rates::RateLimits;
use kontor_tests::Opening;
use kontor_tests::api::{Answer, ApiShop, Client, Door, errors_of};
use serde_json::{Value, json};

const HELLO: &str = "{ __typename }";

/// A door with these limits, behind a proxy on this machine.
fn limited(address: &str, user: &str, cost: &str) -> Door {
    Door {
        protection: Protection {
            proxies: Proxies {
                networks: vec!["127.0.0.0/8".parse().unwrap()],
                ..Proxies::default()
            },
            rates: Some(RateLimits {
                address: address.parse().unwrap(),
                user: user.parse().unwrap(),
                cost: cost.parse().unwrap(),
            }),
            ..Protection::default()
        },
        ..Door::default()
    }
}

const PLENTY: &str = "100000/1000000";

async fn shop(door: Door) -> ApiShop {
    ApiShop::over(kontor_tests::Shop::quiet().await, door).await
}

async fn hello(client: &Client) -> Answer {
    client.ask(HELLO, json!({})).await
}

/// The answer to who asks until it is too much. A unit may come back meanwhile.
async fn refused(client: &Client, accept: &str) -> Answer {
    for _ in 0..100 {
        let answer = client.ask_as(accept, HELLO, json!({})).await;
        if answer.body.get("data").is_none() {
            return answer;
        }
    }
    panic!("a hundred requests were served");
}

const RESPONSE: &str = "application/graphql-response+json";

/// How many of so many are served.
async fn served(client: &Client, asked: usize) -> usize {
    let mut served = 0;
    for _ in 0..asked {
        served += usize::from(hello(client).await.status == 200);
    }
    served
}

#[tokio::test]
async fn an_address_is_limited_across_processes() {
    let door = || limited("1/20", PLENTY, PLENTY);
    let home = shop(door()).await;
    let other = home.branch_with(Opening::default().quiet(), door()).await;
    let started = Instant::now();
    let here = home.visitor().with_header("x-forwarded-for", "203.0.113.1");
    let there = here.at(&other);
    let both = served(&here, 15).await + served(&there, 15).await;
    let back = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!((20..=20 + back).contains(&both), "{both}");
    let answer = refused(&there, RESPONSE).await;
    assert_eq!((answer.status, answer.code()), (429, "RATE_LIMITED"));
    assert_eq!(errors_of(&answer.body)[0]["extensions"]["retryAfter"], 1);
    assert_eq!(answer.headers["retry-after"], "1");
    // In `application/json` it is an answer like any other.
    let plain = refused(&there, "application/json").await;
    assert_eq!((plain.status, plain.code()), (200, "RATE_LIMITED"));
    // Everybody else is served, and told what is left.
    let neighbour = home.visitor().with_header("x-forwarded-for", "203.0.113.2");
    let answer = hello(&neighbour).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["ratelimit-policy"].starts_with("\"address\";q=20;w=20, \"user\""));
    assert!(
        answer.headers["ratelimit"].starts_with("\"address\";r=19;t=1"),
        "{}",
        answer.headers["ratelimit"]
    );
    other.close().await;
    home.finish().await;
}

#[tokio::test]
async fn without_redis_a_process_counts_by_itself() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let home = ApiShop::over(kontor_tests::Shop::quiet().await, Door::default()).await;
    let away = home
        .branch_with(
            Opening::default().quiet().redis(&format!("redis://{closed}/0")),
            limited("1/20", PLENTY, PLENTY),
        )
        .await;
    let started = Instant::now();
    let client = away.visitor();
    let all = served(&client, 40).await;
    let took = started.elapsed();
    let back = usize::try_from(took.as_secs()).unwrap() + 1;
    assert!((20..=20 + back).contains(&all), "{all}");
    assert_eq!(refused(&client, RESPONSE).await.status, 429);
    assert!(took < Duration::from_secs(10), "{took:?}");
    away.close().await;
    home.finish().await;
}

#[tokio::test]
async fn a_user_is_limited_wherever_they_are() {
    let api = shop(limited(PLENTY, "1/10", PLENTY)).await;
    let shopper = api.shopper().await;
    let started = Instant::now();
    let mut all = 0;
    for number in 0..20 {
        let somewhere = shopper
            .clone()
            .with_header("x-forwarded-for", &format!("203.0.113.{number}"));
        all += served(&somewhere, 1).await;
    }
    let back = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!((10..=10 + back).contains(&all), "{all}");
    assert_eq!(served(&api.shopper().await, 5).await, 5);
    api.finish().await;
}

#[tokio::test]
async fn what_costs_much_may_be_asked_for_seldom() {
    let api = shop(limited(PLENTY, PLENTY, "1/1000")).await;
    let client = api.visitor();
    let dear = "{ products(first: 100) { nodes { id name } } }";
    let answer = client.ask(dear, json!({})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body["extensions"]["cost"],
        json!({ "requested": 301, "limit": 13_000 })
    );
    for _ in 0..2 {
        assert_eq!(client.ask(dear, json!({})).await.status, 200);
    }
    assert_eq!(client.ask(dear, json!({})).await.code(), "RATE_LIMITED");
    api.finish().await;
}

#[tokio::test]
async fn a_strangers_word_on_where_it_comes_from_is_not_taken() {
    let mut door = limited("1/10", PLENTY, PLENTY);
    door.protection.proxies.networks = vec!["10.0.0.0/8".parse().unwrap()];
    let api = shop(door).await;
    let mut all = 0;
    for number in 0..30 {
        let client = api
            .visitor()
            .with_header("x-forwarded-for", &format!("203.0.113.{number}"));
        all += served(&client, 1).await;
    }
    assert!(all < 20, "{all}");
    api.finish().await;
}

#[tokio::test]
async fn what_cannot_be_executed_is_counted_too() {
    let api = shop(limited("1/10", PLENTY, PLENTY)).await;
    let client = api.visitor().with_header("authorization", "Bearer x.y.z");
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(hello(&client).await.status);
    }
    let counted = statuses.iter().filter(|status| **status == 401).count();
    assert!((10..25).contains(&counted), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [401, 429].contains(status)),
        "{statuses:?}"
    );
    api.finish().await;
}

#[tokio::test]
async fn a_shop_that_is_full_says_so_and_is_still_well() {
    let door = Door {
        protection: Protection {
            requests: 0,
            ..Protection::default()
        },
        ..Door::default()
    };
    let api = ApiShop::over(kontor_tests::Shop::start().await, door).await;
    let answer = hello(&api.visitor()).await;
    assert_eq!((answer.status, answer.code()), (503, "OVERLOADED"));
    assert_eq!(answer.headers["retry-after"], "1");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(api.page(path).await.0, 200, "{path}");
    }
    api.finish().await;
}

#[tokio::test]
async fn pages_inside_pages_are_too_much() {
    let api = shop(Door::default()).await;
    let client = api.visitor();
    let page = |n| format!("a{n}: products(first: 100) {{ nodes {{ id name sku description category }} }} ");
    let aliases = (0..30).map(page).collect::<Vec<String>>().concat();
    let answer = client.ask(&format!("{{ {aliases} }}"), json!({})).await;
    assert_eq!((answer.status, answer.code()), (400, "GRAPHQL_LIMIT_EXCEEDED"));
    let cost: &Value = &errors_of(&answer.body)[0]["extensions"]["cost"];
    assert_eq!(cost, &json!({ "requested": 30 * 601, "limit": 13_000 }));
    // What a tool asks for once is not.
    let description = include_str!("introspection.graphql");
    let answer = client.ask(description, json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let nested = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }";
    assert_eq!(
        client.ask(nested, json!({})).await.code(),
        "GRAPHQL_LIMIT_EXCEEDED"
    );
    api.finish().await;
}
