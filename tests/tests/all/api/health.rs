//! What a load balancer and an operator are told.

use kontor::runtime::MIRRORS;
use kontor_tests::api::{ApiShop, Door};
use kontor_tests::proxy::Proxy;
use kontor_tests::{Opening, Shop, eventually};
use serde_json::{Value, json};

async fn ready(api: &ApiShop) -> (u16, Value) {
    let (status, page) = api.page("/readyz").await;
    (status, serde_json::from_str(&page).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_shop_is_ready_and_one_without_workers_says_which_are_missing() {
    let shop = Shop::quiet().await;
    let workers: Vec<String> = shop.followers().into_iter().map(str::to_owned).collect();
    let door = Door {
        workers: workers.clone(),
        ..Door::default()
    };
    let api = ApiShop::over(shop, door).await;
    let (status, page) = ready(&api).await;
    assert_eq!(
        (status, &page["parts"]["workers"]["status"]),
        (503, &json!("down"))
    );
    let reason = page["parts"]["workers"]["reason"].as_str().unwrap();
    for worker in workers.iter().map(String::as_str).chain(MIRRORS) {
        assert!(reason.contains(worker), "{reason}");
    }
    let at_work = api.branch().await;
    at_work.caught_up().await;
    let page = eventually("the shop is ready", async || {
        let (status, page) = ready(&api).await;
        (status == 200).then_some(page)
    })
    .await;
    assert_eq!(
        (&page["ready"], &page["status"]),
        (&json!(true), &json!("ok")),
        "{page}"
    );
    assert_eq!(api.page("/healthz").await, (200, "ok".to_owned()));
    at_work.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_a_process_is_alive_but_not_ready_and_says_why() {
    let home = Shop::start().await;
    let proxy = Proxy::before(home.database_url()).await;
    let redis_url = home.redis_url().to_owned();
    let away = Opening::default()
        .quiet()
        .redis(&redis_url)
        .at(&proxy.url(home.database_url()))
        .await;
    let api = ApiShop::over(away, Door::default()).await;
    assert_eq!(ready(&api).await.0, 200);
    proxy.cut().await;
    let (status, page) = ready(&api).await;
    assert_eq!(
        (status, &page["ready"], &page["status"]),
        (503, &json!(false), &json!("down"))
    );
    let part = &page["parts"]["postgres"];
    assert_eq!(part["status"], "down");
    assert!(part["reason"].is_string(), "{part}");
    assert_eq!(api.page("/healthz").await, (200, "ok".to_owned()));
    assert_eq!(
        api.visitor()
            .ask("{ products { nodes { id } } }", json!({}))
            .await
            .code(),
        "INTERNAL"
    );
    proxy.mend();
    eventually("the process is ready again", async || {
        (ready(&api).await.0 == 200).then_some(())
    })
    .await;
    api.close().await;
    home.finish().await;
}
