//! Who is let in.

use super::*;

/// An event that would be taken.
fn event() -> String {
    body("evt_1", &WebhookKind::Authorised, "pi_1", None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_rightly_is_refused_counted_and_not_kept() {
    let api = listening(PaymentsConfig::default()).await;
    let (http, now) = (reqwest::Client::new(), SystemClock.now());
    let ago = |seconds| now - Duration::from_secs(seconds);
    let good = event();
    let wrong = signed(&good, "whsec_of_somebody", now);
    let changed = signed(&event().replace("evt_1", "evt_2"), SECRET, now);
    let (old, early) = (
        signed(&good, SECRET, ago(330)),
        signed(&good, SECRET, now + Duration::from_secs(330)),
    );
    let garbled = "{\"id\": 1";
    let garbled_signature = signed(garbled, SECRET, now);
    for (signature, body, outcome) in [
        (None, &*good, "missing"),
        (Some("t=now,v1=00"), &*good, "malformed"),
        (Some("v1=00"), &*good, "malformed"),
        (Some(&*wrong), &*good, "wrong"),
        (Some(&*changed), &*good, "wrong"),
        (Some(&*old), &*good, "too_old"),
        (Some(&*early), &*good, "from_the_future"),
        (Some(&*garbled_signature), garbled, "bad_body"),
    ] {
        let before = counted(&api, outcome).await;
        let status = post_to(api.address(), &http, signature, body).await.unwrap();
        assert_eq!(status, 400, "{outcome}");
        assert_eq!(counted(&api, outcome).await - before, 1, "{outcome}");
    }
    let long = " ".repeat(256 * 1_024 + 1);
    let status = post_to(api.address(), &http, None, &long).await.unwrap();
    assert_eq!((status, counted(&api, "not_read").await), (413, 1));
    let asked = http.get(format!("http://{}/webhooks/payments", api.address()));
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 405);

    // Rightly signed, and nothing to do.
    let other = WebhookKind::Other("customer.created".to_owned());
    assert_eq!(tell(&api, &body("evt_3", &other, "pi_1", None)).await, 200);
    assert_eq!(counted(&api, "ignored").await, 1);
    assert_eq!(inbox(&api).await, []);
    // And what is right is kept, so that this test could fail.
    assert_eq!(tell(&api, &good).await, 200);
    assert_eq!(inbox_done(&api, 1).await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_secrets_nobody_is_believed() {
    let api = ApiShop::start().await;
    let (http, good) = (reqwest::Client::new(), event());
    for secret in ["", SECRET] {
        let signature = signed(&good, secret, SystemClock.now());
        let status = post_to(api.address(), &http, Some(&signature), &good)
            .await
            .unwrap();
        assert_eq!(status, 400);
    }
    assert_eq!(inbox(&api).await, []);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_secrets_are_changed_both_count() {
    let payments = PaymentsConfig {
        webhook_secrets: ["whsec_old", "whsec_new"].map(WebhookSecret::new).to_vec(),
        ..PaymentsConfig::default()
    };
    let shop = Opening::default().payments(payments).open().await;
    let api = ApiShop::over(shop, Door::default()).await;
    let (http, now) = (reqwest::Client::new(), SystemClock.now());
    for (n, secret) in ["whsec_old", "whsec_new"].into_iter().enumerate() {
        let good = body(&format!("evt_{n}"), &WebhookKind::Captured, "pi_1", None);
        let signature = signed(&good, secret, now);
        let status = post_to(api.address(), &http, Some(&signature), &good)
            .await
            .unwrap();
        assert_eq!(status, 200, "{secret}");
    }
    // As Stripe signs while its own are being changed: once with each.
    let good = body("evt_2", &WebhookKind::Captured, "pi_1", None);
    let newer = signed(&good, "whsec_newer", now);
    let (_, code) = newer.split_once(',').unwrap();
    let both = format!("{},{code}", signed(&good, "whsec_new", now));
    assert_eq!(
        post_to(api.address(), &http, Some(&both), &good).await.unwrap(),
        200
    );
    assert_eq!(inbox_done(&api, 3).await.len(), 3);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_cannot_be_kept_is_not_thanked_for() {
    let home = Shop::start().await;
    let proxy = Proxy::before(home.database_url()).await;
    let redis_url = home.redis_url().to_owned();
    let payments = PaymentsConfig {
        webhook_secrets: vec![WebhookSecret::new(SECRET)],
        ..PaymentsConfig::default()
    };
    let away = Opening::default()
        .quiet()
        .redis(&redis_url)
        .payments(payments)
        .at(&proxy.url(home.database_url()))
        .await;
    let api = ApiShop::over(away, Door::default()).await;
    proxy.cut().await;
    assert_eq!(tell(&api, &event()).await, 503);
    proxy.mend();
    eventually("the same is taken", async || {
        (tell(&api, &event()).await == 200).then_some(())
    })
    .await;
    assert_eq!(inbox_done(&home, 1).await.len(), 1);
    api.close().await;
    home.finish().await;
}
