//! What is not GraphQL: metrics for Prometheus, and the playground.

use kontor_tests::Shop;
use kontor_tests::api::{ApiShop, Door, Topic, Way};
use serde_json::json;

/// The value of a series, by its name and labels.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
    line[series.len() + 1..].parse().unwrap()
}

/// The values of all series of a name whose labels say so.
fn sum(page: &str, name: &str, label: &str) -> f64 {
    let lines = page
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_requests_commands_groups_lag_and_subscribers() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(10).await;
    let shopper = api.shopper().await;
    let subscribers = value_or_none(&api.page("/metrics").await.1, "kontor_subscribers");
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(shopper.place(&[(&lamp, 1)]).await);
    }
    let refused = shopper
        .change(
            "cancelOrder",
            "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            json!({ "reason": "no" }),
        )
        .await;
    let _ = refused.refused();
    let mut feeds = Vec::new();
    for way in [Way::Socket, Way::Events] {
        let mut feed = shopper.follow(way, &Topic::order(&orders[0].id), None).await;
        let _ = feed.next().await;
        feeds.push(feed);
    }
    api.caught_up().await;
    let (status, page) = api.page("/metrics").await;
    assert_eq!(status, 200);
    assert!(sum(&page, "axum_http_requests_total", "endpoint=\"/graphql\"") >= 5.0);
    assert!(
        sum(
            &page,
            "axum_http_requests_duration_seconds_count",
            "endpoint=\"/graphql\""
        ) >= 5.0
    );
    assert!(
        sum(&page, "kontor_graphql_operations_total", "mutation") >= 4.0,
        "{page}"
    );
    // Three placed and three confirmed.
    assert!(
        sum(&page, "kontor_commands_total", "aggregate=\"order\"") >= 6.0,
        "{page}"
    );
    assert!(value(&page, "kontor_append_group_size_count") >= 3.0);
    assert!(value(&page, "kontor_append_group_size_sum") >= 9.0);
    assert!(value(&page, "kontor_append_seconds_count") >= 3.0);
    assert!(value(&page, "kontor_append_seconds_sum") > 0.0);
    let head = kontor_eventstore::read::head(&api.pool).await.unwrap();
    assert_eq!(value(&page, "kontor_log_position").to_string(), head.to_string());
    for consumer in api.followers() {
        let lag = value(
            &page,
            &format!("kontor_projection_lag_events{{consumer=\"{consumer}\"}}"),
        );
        assert_eq!(lag.to_string(), "0", "{consumer}");
    }
    assert_eq!(
        (value(&page, "kontor_subscribers") - subscribers).to_string(),
        "2"
    );
    assert!(value(&page, "kontor_sockets") >= 1.0);
    drop(feeds);
    kontor_tests::eventually("the subscribers are gone", async || {
        let (_, page) = api.page("/metrics").await;
        (value(&page, "kontor_subscribers").to_string() == subscribers.to_string()).then_some(())
    })
    .await;
    api.finish().await;
}

/// A gauge that may not have been touched yet.
fn value_or_none(page: &str, series: &str) -> f64 {
    if page.lines().any(|line| line.starts_with(&format!("{series} "))) {
        value(page, series)
    } else {
        0.0
    }
}

/// Every address in a page or script that a browser would go to by itself.
fn other_hosts(text: &str) -> Vec<&str> {
    let attributes = ["src=\"", "href=\"", "action=\"", "@import \"", "url("];
    attributes
        .iter()
        .flat_map(|attribute| {
            text.match_indices(attribute)
                .map(move |(at, found)| &text[at + found.len()..])
        })
        .map(|rest| {
            rest.split(['"', ')', '\''])
                .find(|part| !part.is_empty())
                .unwrap_or_default()
        })
        .filter(|address| address.starts_with("//") || address.contains("://"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_playground_asks_no_other_host() {
    let shop = Shop::start().await;
    let dist = tempfile::tempdir().unwrap();
    let door = Door {
        playground: Some(dist.path().to_owned()),
        ..Door::default()
    };
    let api = ApiShop::over(shop, door).await;
    let (status, without) = api.page("/").await;
    assert_eq!(status, 200);
    assert!(
        without.contains("make playground") && without.contains("/graphql"),
        "{without}"
    );
    // A link for people to follow is no request; anything that loads by itself is.
    let linked = |it: &&str| !without.contains(&format!("<a href=\"{it}"));
    assert_eq!(
        other_hosts(&without)
            .into_iter()
            .filter(linked)
            .collect::<Vec<_>>(),
        Vec::<&str>::new()
    );

    // The page of the sources, which the build takes as it is.
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../playground/src/index.html");
    let page = std::fs::read_to_string(source).unwrap();
    assert!(page.contains("src=\"/playground/app.js\""), "{page}");
    assert_eq!(other_hosts(&page), Vec::<&str>::new());
    // And it would be noticed.
    let worse = page.replace("/playground/app.js", "https://cdn.example.com/app.js");
    assert_eq!(other_hosts(&worse), ["https://cdn.example.com/app.js"]);
    std::fs::write(dist.path().join("index.html"), &page).unwrap();
    std::fs::write(dist.path().join("app.js"), "fetch('/graphql')").unwrap();
    let with = api.page("/").await;
    assert_eq!(with, (200, page));
    assert_eq!(
        api.page("/playground/app.js").await,
        (200, "fetch('/graphql')".to_owned())
    );
    // And no browser would let it: whatever the page says, it may load from here alone.
    let response = reqwest::get(format!("http://{}/", api.address())).await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'self'") && !policy.contains("http"),
        "{policy}"
    );
    api.finish().await;
}
