//! The keys of access tokens: shown to everybody, and changed without anybody noticing.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_eventstore::{Clock, ManualClock};
use kontor_tests::api::{ApiShop, Door};
use kontor_tests::{Opening, eventually};
use serde_json::{Value, json};

use super::sessions::{begin, refresh, register, with};

async fn kids(api: &ApiShop) -> Vec<String> {
    let (status, page) = api.page("/.well-known/jwks.json").await;
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&page).unwrap();
    let kid = |key: &Value| {
        assert_eq!(
            (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
            (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
        );
        assert_eq!(key["x"].as_str().unwrap().len(), 43);
        assert_eq!(
            key.as_object().unwrap().len(),
            6,
            "and nothing of the private key"
        );
        key["kid"].as_str().unwrap().to_owned()
    };
    page["keys"].as_array().unwrap().iter().map(kid).collect()
}

fn signed_by(token: &str) -> String {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_and_nobody_is_logged_out() {
    let clock = Arc::new(ManualClock::at(
        DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap(),
    ));
    let injected = || -> Arc<dyn Clock> { Arc::<ManualClock>::clone(&clock) };
    let api = ApiShop::over(Opening::default().clock(injected()).open().await, Door::default()).await;
    let branch = api
        .branch_with(Opening::default().clock(injected()), Door::default())
        .await;
    register(&api, "some@example.com").await;
    let old = begin(&api, "some@example.com").await;
    let before = kids(&api).await;
    assert_eq!(before, [signed_by(&old.access)]);
    clock.set(clock.now() + TimeDelta::seconds(1));
    let (new, signs) = kontor_api::auth::keys::rotate(&api.pool, clock.now())
        .await
        .unwrap();
    for desk in [&api, &branch] {
        eventually("every process shows both keys", async || {
            (kids(desk).await == [new.clone(), before[0].clone()]).then_some(())
        })
        .await;
    }
    // Whoever keeps a copy of the old set has time to look again.
    let waiting = begin(&api, "some@example.com").await;
    assert_eq!(signed_by(&waiting.access), before[0]);
    clock.set(signs);
    let fresh = refresh(&branch.visitor(), &old.refresh).await.unwrap();
    assert_eq!(signed_by(&fresh.access), new);
    for token in [&old.access, &waiting.access, &fresh.access] {
        for desk in [&api, &branch] {
            assert_eq!(
                with(desk, token).ask("{ me { id } }", json!({})).await.status,
                200
            );
        }
    }
    // The last token of the old key has expired, and the key goes.
    clock.set(clock.now() + TimeDelta::minutes(20));
    eventually("the old key is gone", async || {
        (kids(&api).await == [new.clone()]).then_some(())
    })
    .await;
    assert!(refresh(&api.visitor(), &waiting.refresh).await.is_ok());
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_process_does_not_know_yet_is_looked_for_once() {
    let api = ApiShop::start().await;
    register(&api, "some@example.com").await;
    // A key that has been there for an hour, and that this process has not read yet.
    let old = chrono::DateTime::UNIX_EPOCH;
    kontor_api::auth::keys::rotate(&api.pool, old).await.unwrap();
    sqlx::query("UPDATE signing_keys SET created_at = now() - interval '10 minutes' WHERE created_at > now() - interval '1 minute'")
        .execute(&api.pool)
        .await
        .unwrap();
    let branch = api.branch().await;
    let session = begin(&branch, "some@example.com").await;
    assert_eq!(
        with(&api, &session.access)
            .ask("{ me { id } }", json!({}))
            .await
            .status,
        200
    );
    branch.close().await;
    api.finish().await;
}
