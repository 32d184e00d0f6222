//! What is taken from an account is taken within seconds, everywhere, from open subscriptions too.

use std::time::{Duration, Instant};

use kontor_tests::api::{ApiShop, Client, Heard, Topic, Way};
use serde_json::json;

use super::sessions::{PASSWORD, begin, log_in, refresh, register, until_ended, with};

const SOON: Duration = Duration::from_secs(5);
const ORDERS: &str = "{ orders { nodes { id } } }";

/// Follows in both ways.
async fn following(client: &Client) -> [kontor_tests::api::Feed; 2] {
    [
        client.follow(Way::Socket, &Topic::my_orders(), None).await,
        client.follow(Way::Events, &Topic::my_orders(), None).await,
    ]
}

/// Both ways end: the socket with this code, the stream with an error.
async fn both_end(feeds: [kontor_tests::api::Feed; 2], code: u16) {
    let [mut socket, mut stream] = feeds;
    assert_eq!(socket.hear().await, Heard::Ended(Some(code)));
    assert_eq!(
        stream.hear().await,
        Heard::Errors(vec!["UNAUTHENTICATED".to_owned()])
    );
    assert_eq!(stream.hear().await, Heard::Ended(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_a_password_and_a_closed_account_count_within_five_seconds() {
    let api = ApiShop::start().await;
    let branch = api.branch().await;
    let admin = api.admin().await;
    let id = register(&api, "some@example.com").await["id"].take();
    let first = begin(&api, "some@example.com").await;
    let away = with(&branch, &first.access);
    let feeds = following(&away).await;

    let grant = json!({ "userId": id, "role": "STAFF" });
    let begun = Instant::now();
    let _ = admin.mutation("grantRole", grant.clone()).await.done();
    until_ended(&away).await;
    both_end(feeds, 4401).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let staff = refresh(&branch.visitor(), &first.refresh).await.unwrap();
    let _ = with(&branch, &staff.access).read(ORDERS, json!({})).await;

    let begun = Instant::now();
    let _ = admin.mutation("revokeRole", grant).await.done();
    until_ended(&with(&branch, &staff.access)).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let customer = refresh(&branch.visitor(), &staff.refresh).await.unwrap();
    let asked = with(&branch, &customer.access).ask(ORDERS, json!({})).await;
    assert_eq!(asked.code(), "FORBIDDEN");

    // Another password: the other sessions end, this one goes on.
    let elsewhere = begin(&branch, "some@example.com").await;
    let feeds = following(&with(&branch, &elsewhere.access)).await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "plinth saffron oboe 77" });
    let _ = with(&api, &customer.access)
        .mutation("changePassword", change)
        .await
        .done();
    until_ended(&with(&branch, &elsewhere.access)).await;
    let [socket, stream] = feeds;
    for mut feed in [socket, stream] {
        while !matches!(feed.hear().await, Heard::Ended(_)) {}
    }
    assert_eq!(
        refresh(&branch.visitor(), &elsewhere.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    let kept = refresh(&branch.visitor(), &customer.refresh).await.unwrap();

    // A closed account.
    let feeds = following(&with(&branch, &kept.access)).await;
    let begun = Instant::now();
    let close = json!({ "userId": id, "reason": "fraud" });
    let _ = admin.mutation("deactivateUser", close).await.done();
    until_ended(&with(&branch, &kept.access)).await;
    both_end(feeds, 4403).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(
        refresh(&branch.visitor(), &kept.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    // A process that starts now has read it in the log.
    let late = api.branch().await;
    assert_eq!(
        with(&late, &kept.access)
            .ask("{ me { id } }", json!({}))
            .await
            .status,
        401
    );
    let _ = admin
        .mutation("reactivateUser", json!({ "userId": id }))
        .await
        .done();
    assert_eq!(
        refresh(&late.visitor(), &kept.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    let again = log_in(&late.visitor(), "some@example.com", "plinth saffron oboe 77").await;
    let again = again["token"].as_str().unwrap();
    assert_eq!(
        with(&late, again).ask("{ me { id } }", json!({})).await.status,
        200
    );
    late.close().await;
    branch.close().await;
    api.finish().await;
}
