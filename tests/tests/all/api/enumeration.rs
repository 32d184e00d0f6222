//! Whether an address has an account cannot be told from what a stranger is answered, nor from how long it takes.

use std::time::{Duration, Instant};

use kontor_tests::Opening;
use kontor_tests::api::{ApiShop, Door};
use serde_json::json;

use super::sessions::{PASSWORD, register};

const KNOWN: &str = "known@example.com";
const UNKNOWN: &str = "unknown@example.com";
/// Fewer than an account may be tried.
const TRIES: usize = 8;

/// A password is hashed for some 20 ms, whether there is one to compare with or not; without that a stranger is turned away in
/// a fraction of it. The least of several tries is compared: what else a machine does makes some of them longer, none shorter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_takes_as_long_without_an_account() {
    let api = ApiShop::start().await;
    register(&api, KNOWN).await;
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for number in 0..TRIES {
        let guess = format!("{PASSWORD} {number}");
        for (email, least) in [(KNOWN, &mut known), (UNKNOWN, &mut unknown)] {
            let begun = Instant::now();
            let refused = api.log_in(email, &guess).await.unwrap_err();
            *least = (*least).min(begun.elapsed());
            assert_eq!(
                refused["userErrors"][0]["code"], "INVALID_CREDENTIALS",
                "{refused}"
            );
        }
    }
    assert!(
        unknown * 2 > known && known * 2 > unknown,
        "{known:?} with an account, {unknown:?} without"
    );
    api.finish().await;
}

/// A mail is noted in the same way, with nobody to send it to: the sender finds that out, and nobody waits for the sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_reset_does_the_same_without_an_account() {
    let shop = Opening::default().quiet().open().await;
    let api = ApiShop::over(shop, Door::default()).await;
    register(&api, KNOWN).await;
    let mut answers = Vec::new();
    for email in [KNOWN, UNKNOWN] {
        let asked = api
            .visitor()
            .read(
                "mutation($input: RequestPasswordResetInput!) {
                   requestPasswordReset(input: $input) { userErrors { ... on UserError { code } } }
                 }",
                json!({ "input": { "email": email } }),
            )
            .await;
        answers.push(asked);
    }
    assert_eq!(answers[0], answers[1]);
    let noted: Vec<(String, bool)> =
        sqlx::query_as("SELECT purpose, user_id IS NULL FROM account_mails ORDER BY id")
            .fetch_all(&api.pool)
            .await
            .unwrap();
    assert_eq!(noted.len(), 2);
    assert_eq!(noted[0].0, noted[1].0);
    assert_eq!((noted[0].1, noted[1].1), (false, true));
    api.finish().await;
}
