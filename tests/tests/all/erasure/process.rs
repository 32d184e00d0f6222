//! A shop as its operator runs it: what a whole run has left of somebody, and what becomes of it afterwards.

use std::fs::File;
use std::path::Path;

use kontor_tests::api::{Client, key};
use kontor_tests::children::{Helper, kontor};
use kontor_tests::{KEK, Shop};
use serde_json::{Value, json};

use super::*;
use crate::HELPER;

const CARD: &str = "Forgettable Gold";
const PHONE: &str = "Forgettable Handset/7";

/// A mutation with what it is to return.
async fn change(client: &Client, name: &str, input: Value, returning: &str) -> Value {
    let kind = format!("{}{}Input", name[..1].to_uppercase(), &name[1..]);
    let query = format!(
        "mutation($input: {kind}!) {{ {name}(input: $input) {{ {returning} userErrors {{ ... on UserError {{ code message }} }} }} }}"
    );
    let answer = client.read(&query, json!({ "input": input })).await[name].take();
    assert_eq!(answer["userErrors"], json!([]), "{name}: {answer}");
    answer
}

async fn until(client: &Client, what: &str, query: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let seen = client.read(query, json!({})).await;
        is(&seen).then_some(seen)
    })
    .await
}

async fn log_in(visitor: &Client, email: &str, password: &str) -> (Client, Value) {
    let input = json!({ "email": email, "password": password });
    let logged_in = change(visitor, "logIn", input, "token refreshToken user { id }").await;
    let id = logged_in["user"]["id"].as_str().unwrap().parse().unwrap();
    let token = logged_in["token"].as_str().unwrap();
    let refresh = logged_in["refreshToken"].clone();
    (visitor.clone().with_token(id, token), refresh)
}

/// Uses everything that keeps something of somebody; `counter` is where staff log in.
async fn live(visitor: &Client, counter: &Client) -> (Client, Value) {
    let input = json!({ "idempotencyKey": key(), "email": TRACES[1], "name": TRACES[0], "phone": TRACES[4],
                        "password": PASSWORD });
    let _ = change(visitor, "registerUser", input, "position").await;
    let (person, refresh) = log_in(visitor, TRACES[1], PASSWORD).await;
    let both = json!({ "idempotencyKey": key(), "email": true, "sms": true });
    let _ = change(&person, "chooseNotificationChannels", both, "position").await;
    let _ = change(
        &person,
        "requestEmailVerification",
        json!({ "email": TRACES[1] }),
        "",
    )
    .await;
    let _ = change(visitor, "requestPasswordReset", json!({ "email": TRACES[1] }), "").await;
    let card = json!({ "idempotencyKey": key(), "token": "tok_approved", "label": CARD });
    let card = change(&person, "savePaymentMethod", card, "paymentMethod { id }").await;
    let products = "{ products(first: 1) { nodes { id } } }";
    let products = until(&person, "there is something to buy", products, |seen| {
        seen["products"]["nodes"][0]["id"].is_string()
    })
    .await;
    let order = json!({ "idempotencyKey": key(),
        "items": [{ "productId": products["products"]["nodes"][0]["id"], "quantity": 1 }],
        "shippingAddress": { "recipient": TRACES[0], "line1": TRACES[3], "city": "Harbour", "postalCode": "20457",
                             "country": "DE", "phone": TRACES[5] },
        "payment": { "savedMethod": card["paymentMethod"]["id"] } });
    let _ = change(&person, "placeOrder", order, "orderId").await;
    written(counter, &person).await;
    let profile = json!({ "idempotencyKey": key(), "name": TRACES[0], "phone": TRACES[5] });
    let _ = change(&person, "changeProfile", profile, "position").await;
    let moved = json!({ "idempotencyKey": key(), "email": TRACES[2] });
    let _ = change(&person, "changeEmail", moved, "position").await;
    (person, refresh)
}

/// Has something written about the customer's one order, twice.
async fn written(counter: &Client, person: &Client) {
    let confirmed = |seen: &Value| seen["myOrders"]["nodes"][0]["status"] == "CONFIRMED";
    let orders = "{ myOrders { nodes { id status } } }";
    let seen = until(person, "the order is confirmed", orders, confirmed).await;
    let order = &seen["myOrders"]["nodes"][0]["id"];
    let (staff, _) = log_in(counter, "staff@example.com", "kontor-sample").await;
    let parcel = json!({ "idempotencyKey": key(), "orderId": order, "trackingNumber": "T-1" });
    let _ = change(&staff, "shipOrder", parcel, "position").await;
    let amount = json!({ "amountMinor": 1, "currency": "GBP" });
    let refund = json!({ "idempotencyKey": key(), "orderId": order, "amount": amount, "reason": WRITTEN });
    let _ = change(&staff, "refundOrder", refund, "position").await;
    let arrived = json!({ "idempotencyKey": key(), "orderId": order });
    let _ = change(&staff, "deliverOrder", arrived, "position").await;
    let back = json!({ "idempotencyKey": key(), "orderId": order, "items": [{ "item": 0, "quantity": 1 }],
                       "refund": amount, "reason": WRITTEN, "restock": false });
    let _ = change(&staff, "returnItems", back, "position").await;
}

/// Of the account: to prove each of two addresses, to prove one again, to set a password.
async fn mails_of_all_kinds(outbox: &Path) {
    eventually("the mails are sent", async || {
        let names: Vec<String> = std::fs::read_dir(outbox)
            .ok()?
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        let about_the_account = names.iter().filter(|name| name.starts_with("account-")).count();
        (about_the_account == 4 && names.iter().any(|name| name.ends_with(".sms.txt"))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_leaves_nothing_of_whoever_was_erased() {
    let shop = Shop::quiet().await;
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("key-encryption.key"), KEK).unwrap();
    let (outbox, journal) = (data.path().join("outbox"), data.path().join("erasures.jsonl"));
    let variables = [
        ("KONTOR_DATA", data.path().to_str().unwrap()),
        ("KONTOR_OUTBOX", outbox.to_str().unwrap()),
        ("KONTOR_ERASURE_JOURNAL", journal.to_str().unwrap()),
        // The key is where a private shop keeps it.
        ("KONTOR_KEK", ""),
        ("KONTOR_LOG", "debug,kontor=trace,hyper=info"),
    ];
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut process = Helper::kontor_logging(
        HELPER,
        &shop,
        &[
            "run",
            "--sample-data",
            "--listen=127.0.0.1:0",
            "--playground=nowhere",
        ],
        &variables,
        File::options().append(true).open(log.path()).unwrap(),
    );
    let address = process.says("Kontor is open at http://").await;
    let counter = Client::to(address.parse().unwrap());
    let visitor = counter.clone().with_header("user-agent", PHONE);
    let (person, refresh) = live(&visitor, &counter).await;
    mails_of_all_kinds(&outbox).await;
    let all: Vec<&str> = TRACES.into_iter().chain([CARD, PHONE]).collect();
    let written = json!(WRITTEN).to_string();
    let export = until(&person, "the export has it all", "{ exportMyData }", |seen| {
        let seen = seen.to_string();
        all.iter().all(|trace| seen.contains(trace)) && seen.matches(&written).count() == 4
    })
    .await;
    assert!(!export.to_string().contains("tok_approved") && !export.to_string().contains("argon2"));

    let done = erase(&person, json!({ "password": PASSWORD })).await;
    assert_eq!(done["userErrors"], json!([]));
    let certificate = &done["certificate"];
    let counts =
        ["keys", "sessions", "tokens", "readableEvents"].map(|field| certificate[field].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 4, 0], "{certificate}");
    eventually("their token is good for nothing", async || {
        (person.ask("{ me { id } }", json!({})).await.status == 401).then_some(())
    })
    .await;
    let renewing = "mutation($input: RefreshSessionInput!) { refreshSession(input: $input) { token userErrors { __typename } } }";
    let renewed = visitor
        .read(renewing, json!({ "input": { "refreshToken": refresh } }))
        .await;
    assert_eq!(
        renewed["refreshSession"]["userErrors"][0]["__typename"],
        "SessionEnded"
    );
    assert!(process.end().await.success());

    let log = std::fs::read_to_string(log.path()).unwrap();
    let places = Places::of(&shop, data.path(), log).await;
    let all = [&all[..], &["argon2"]].concat();
    assert_eq!(places.found(&all), BTreeSet::new());
    let entries = kontor_fulfilment::erasure::Journal::at(journal.clone())
        .read()
        .unwrap();
    assert!(entries.contains_key(&person.id().parse().unwrap()));
    let tokens: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE payload::text LIKE '%tok_approved%'")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(tokens, 0, "what they paid by is in the log");

    for arguments in [&["verify"][..], &["replay"], &["verify"]] {
        let typed = kontor(HELPER, &shop, arguments, &variables).await;
        assert_eq!(
            typed.code,
            Some(0),
            "{arguments:?}: {}{}",
            typed.said,
            typed.complained
        );
    }
    let nothing: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM users WHERE id = $1 AND coalesce(email, name, phone) IS NULL",
    )
    .bind(person.id())
    .fetch_one(&shop.pool)
    .await
    .unwrap();
    assert_eq!(nothing, 1, "the replay shows nothing where the person was");
    shop.finish().await;
}
