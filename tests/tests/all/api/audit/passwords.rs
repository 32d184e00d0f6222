//! Passwords that whoever is logged in did not know.

use serde_json::{Value, json};

use super::{behind_a_proxy, column, entries, register, request_of};

const ADDRESS: &str = "203.0.113.8";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_session_and_not_the_password_is_seen() {
    let api = behind_a_proxy().await;
    let admin = api.admin().await;
    let id = register(&api, "reader@example.com").await;
    let reader = api
        .log_in("reader@example.com", "a long and winding road")
        .await
        .unwrap();
    let thief = reader.clone().with_header("x-forwarded-for", ADDRESS);
    let change =
        |current: &str| json!({ "currentPassword": current, "newPassword": "plinth saffron oboe 77" });
    let answer = thief
        .mutation("changePassword", change("umbrella umbrella"))
        .answer()
        .await;
    let request = request_of(&answer);
    let refusal = &answer.data()["changePassword"]["userErrors"][0];
    assert_eq!(refusal["code"], "INVALID_CREDENTIALS");
    let erase = "mutation($input: EraseUserInput!) { eraseUser(input: $input) { userErrors { ... on UserError { code } } } }";
    let mut told = Vec::new();
    // Ten at once are too many.
    for n in 0..12 {
        let input =
            json!({ "input": { "idempotencyKey": format!("erase-{n}"), "password": "umbrella umbrella" } });
        let mut payload = thief.read(erase, input).await["eraseUser"].take();
        told.push(payload["userErrors"][0]["code"].take());
    }
    // What is right, and what was wrong before anybody looked at the password, is no such deed.
    let _ = reader
        .mutation("changePassword", change("a long and winding road"))
        .await
        .done();
    let weak = json!({ "currentPassword": "a long and winding road", "newPassword": "" });
    let refused = reader.mutation("changePassword", weak).answer().await;
    assert!(refused.body["data"]["changePassword"]["user"].is_null());

    let of = async |kind: &str| entries(&admin, json!({ "kind": kind, "actor": id })).await;
    let times = |deeds: &[Value], detail: &str| -> u64 {
        let of = deeds.iter().filter(|it| it["detail"] == detail);
        of.map(|it| it["times"].as_u64().unwrap()).sum()
    };
    let (refused, throttled) = (of("PasswordRefused").await, of("PasswordThrottled").await);
    for deed in refused.iter().chain(&throttled) {
        assert_eq!(
            [&deed["subject"], &deed["address"]],
            [&json!(id), &json!(ADDRESS)]
        );
    }
    assert_eq!(times(&refused, "changePassword"), 1);
    assert_eq!(column(&refused, "request").last(), Some(&&*request));
    assert_eq!(times(&throttled, "changePassword"), 0);
    let count = |code: &str| told.iter().filter(|it| **it == code).count() as u64;
    assert_eq!(count("INVALID_CREDENTIALS"), times(&refused, "eraseUser"));
    assert_eq!(count("TOO_MANY_ATTEMPTS"), times(&throttled, "eraseUser"));
    assert!(
        count("TOO_MANY_ATTEMPTS") > 0 && count("INVALID_CREDENTIALS") > 0,
        "{told:?}"
    );
    let kept: Vec<String> = sqlx::query_scalar("SELECT deeds::text FROM deeds")
        .fetch_all(&api.pool)
        .await
        .unwrap();
    assert!(!kept.iter().any(|row| row.contains("umbrella")), "{kept:?}");
    api.finish().await;
}
