//! What is proved by reading one's mail.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_eventstore::{Clock, ManualClock};
use kontor_fulfilment::notifications::NotificationsConfig;
use kontor_tests::api::{ApiShop, Client, Door};
use kontor_tests::smtp::mails_in;
use kontor_tests::{Opening, eventually};
use serde_json::{Value, json};

use super::sessions::{PASSWORD, begin, log_in, refresh, register, until_ended, with};

const NEW: &str = "plinth saffron oboe 77";
const EMAIL: &str = "some@example.com";

async fn ask(client: &Client, name: &str, input: Value) -> Value {
    let pascal = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    let query = format!(
        "mutation($input: {pascal}Input!) {{ {name}(input: $input) {{ userErrors {{ ... on UserError {{ code }} }} }} }}"
    );
    client.read(&query, json!({ "input": input })).await[name]["userErrors"].take()
}

/// The codes of what was refused.
fn codes(errors: &Value) -> Vec<&str> {
    errors
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["code"].as_str())
        .collect()
}

/// What a mail program makes of quoted-printable (RFC 2045).
fn readable(mail: &str) -> String {
    mail.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=")
}

/// The tokens in the mails of one subject, oldest first.
async fn tokens(api: &ApiShop, subject: &str, count: usize) -> Vec<String> {
    let subject = format!("Subject: {subject}");
    eventually("the mails are there", async || {
        let mails: Vec<String> = mails_in(api.outbox())
            .into_iter()
            .filter(|mail| mail.contains(&subject))
            .collect();
        (mails.len() == count).then(|| mails.iter().map(|mail| token_in(&readable(mail))).collect())
    })
    .await
}

fn token_in(mail: &str) -> String {
    mail.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .find(|word| word.len() == 64)
        .unwrap_or_else(|| panic!("no token in {mail}"))
        .to_owned()
}

async fn none_waits(api: &ApiShop) {
    eventually("no mail waits", async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM account_mails")
            .fetch_one(&api.pool)
            .await
            .unwrap();
        (waiting == 0).then_some(())
    })
    .await;
}

const RESET: &str = "Your password at Kontor";
const VERIFY: &str = "Is this your address? Kontor asks";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_mail_sets_the_password_once_and_every_session_ends() {
    let api = ApiShop::start().await;
    register(&api, EMAIL).await;
    let session = begin(&api, EMAIL).await;
    let visitor = api.visitor();
    for email in ["SOME@example.com", "nobody@example.com", "no address"] {
        assert_eq!(
            ask(&visitor, "requestPasswordReset", json!({ "email": email })).await,
            json!([]),
            "{email}"
        );
    }
    assert_eq!(
        ask(&visitor, "requestPasswordReset", json!({ "email": EMAIL })).await,
        json!([])
    );
    let sent = tokens(&api, RESET, 2).await;
    none_waits(&api).await;
    assert_eq!(
        mails_in(api.outbox())
            .iter()
            .filter(|mail| mail.contains(RESET))
            .count(),
        2
    );

    let weak = json!({ "token": sent[0], "newPassword": "somebody99" });
    assert_eq!(
        codes(&ask(&visitor, "resetPassword", weak).await),
        ["WEAK_PASSWORD"]
    );
    let reset = |token: &str| json!({ "token": token, "newPassword": NEW });
    // A weak one has used up nothing; the right one uses up both.
    assert_eq!(ask(&visitor, "resetPassword", reset(&sent[0])).await, json!([]));
    for token in [&sent[0], &sent[1], &"x".repeat(64), &"x".to_owned()] {
        assert_eq!(
            codes(&ask(&visitor, "resetPassword", reset(token)).await),
            ["INVALID_TOKEN"]
        );
    }
    until_ended(&with(&api, &session.access)).await;
    assert_eq!(
        refresh(&visitor, &session.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    assert_eq!(
        codes(&log_in(&visitor, EMAIL, PASSWORD).await["userErrors"]),
        ["INVALID_CREDENTIALS"]
    );
    assert!(log_in(&visitor, EMAIL, NEW).await["token"].is_string());

    // Neither the log nor a table has the token.
    let everything: String = sqlx::query_scalar(
        "SELECT coalesce(string_agg(payload::text || metadata::text, ' '), '') || (SELECT coalesce(string_agg(key, ' '), '') FROM answers)
         FROM events",
    )
    .fetch_one(&api.pool)
    .await
    .unwrap();
    assert!(!everything.contains(&sent[0]) && !everything.contains(&sent[1]));
    // Mails to one account are few.
    assert_eq!(
        ask(&visitor, "requestPasswordReset", json!({ "email": EMAIL })).await,
        json!([])
    );
    let errors = ask(&visitor, "requestPasswordReset", json!({ "email": EMAIL })).await;
    assert_eq!(codes(&errors), ["TOO_MANY_ATTEMPTS"]);
    none_waits(&api).await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_survives_a_restart_and_not_its_time() {
    let clock = Arc::new(ManualClock::at(
        DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap(),
    ));
    let injected = || -> Arc<dyn Clock> { Arc::<ManualClock>::clone(&clock) };
    let shop = Opening::default().clock(injected()).open().await;
    let api = ApiShop::over(shop, Door::default()).await;
    register(&api, EMAIL).await;
    for _ in 0..2 {
        assert_eq!(
            ask(&api.visitor(), "requestPasswordReset", json!({ "email": EMAIL })).await,
            json!([])
        );
    }
    let sent = tokens(&api, RESET, 2).await;
    // What is needed is in Postgres: another process, and an empty Redis.
    api.empty_redis().await;
    let other = api
        .branch_with(Opening::default().clock(injected()), Door::default())
        .await;
    clock.set(clock.now() + TimeDelta::minutes(59));
    let reset = |token: &str| json!({ "token": token, "newPassword": NEW });
    assert_eq!(
        ask(&other.visitor(), "resetPassword", reset(&sent[0])).await,
        json!([])
    );
    assert_eq!(
        ask(&api.visitor(), "requestPasswordReset", json!({ "email": EMAIL })).await,
        json!([])
    );
    let sent = tokens(&api, RESET, 3).await;
    clock.set(clock.now() + TimeDelta::minutes(61));
    for token in sent {
        assert_eq!(
            codes(&ask(&api.visitor(), "resetPassword", reset(&token)).await),
            ["INVALID_TOKEN"]
        );
    }
    other.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_verified_by_a_link_in_a_mail_and_only_that_address() {
    let shop = Opening::default().quiet().open().await;
    let config = NotificationsConfig {
        verify_url: Some("https://shop.example/verify?token={token}".to_owned()),
        ..NotificationsConfig::to_outbox(shop.outbox().to_owned())
    };
    let api = ApiShop::over(shop, Door::default()).await;
    let worker = api
        .branch_with(Opening::default().post(config), Door::default())
        .await;
    register(&worker, EMAIL).await;
    let session = begin(&worker, EMAIL).await;
    let client = with(&worker, &session.access);
    let verified = async || {
        worker.caught_up().await;
        client.read("{ me { emailVerified } }", json!({})).await["me"]["emailVerified"] == true
    };
    assert!(!verified().await);
    let errors = ask(
        &client,
        "requestEmailVerification",
        json!({ "email": "other@example.com" }),
    )
    .await;
    assert_eq!(codes(&errors), ["EMAIL_IS_ANOTHER"]);
    // It was sent without being asked for, and is sent again when it is.
    let early = tokens(&worker, VERIFY, 1).await.remove(0);
    assert_eq!(
        ask(&client, "requestEmailVerification", json!({ "email": EMAIL })).await,
        json!([])
    );
    assert!(tokens(&worker, VERIFY, 2).await.contains(&early));
    let link = format!("https://shop.example/verify?token={early}");
    assert!(
        mails_in(worker.outbox())
            .iter()
            .any(|mail| readable(mail).contains(&link))
    );
    // The account moves, so what was proved is of no interest.
    let _ = client
        .mutation("changeEmail", json!({ "email": "new@example.com" }))
        .await
        .done();
    let verify = |token: &str| json!({ "token": token });
    assert_eq!(
        codes(&ask(&api.visitor(), "verifyEmail", verify(&early)).await),
        ["INVALID_TOKEN"]
    );
    let sent = tokens(&worker, VERIFY, 3).await;
    // It is not good for anything else.
    let reset = json!({ "token": sent[2], "newPassword": NEW });
    assert_eq!(
        codes(&ask(&api.visitor(), "resetPassword", reset).await),
        ["INVALID_TOKEN"]
    );
    assert_eq!(
        ask(&api.visitor(), "verifyEmail", verify(&sent[2])).await,
        json!([])
    );
    assert!(verified().await);
    assert_eq!(
        codes(&ask(&api.visitor(), "verifyEmail", verify(&sent[2])).await),
        ["INVALID_TOKEN"]
    );
    // Another spelling is the same address; another address is not.
    let _ = client
        .mutation("changeEmail", json!({ "email": "New@example.com" }))
        .await
        .done();
    assert!(verified().await);
    none_waits(&worker).await;
    let _ = client
        .mutation("changeEmail", json!({ "email": EMAIL }))
        .await
        .done();
    assert!(!verified().await);
    // To another spelling nothing was sent, to another address it was; and not as often as somebody likes.
    none_waits(&worker).await;
    tokens(&worker, VERIFY, 4).await;
    let moved = client.mutation("changeEmail", json!({ "email": "third@example.com" }));
    assert_eq!(moved.await.refusal()["code"], "TOO_MANY_ATTEMPTS");
    worker.close().await;
    api.finish().await;
}
