//! Whoever guesses passwords waits.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kontor::commands::run::AccountTerms;
use kontor_api::throttle::{Rate, ThrottleTerms};
use kontor_eventstore::{Clock, ManualClock};
use kontor_tests::Opening;
use kontor_tests::api::{ApiShop, Door};
use serde_json::{Value, json};

use super::sessions::{PASSWORD, log_in, register};

async fn shop(throttle: ThrottleTerms) -> (ApiShop, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(
        DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap(),
    ));
    let injected: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let door = Door {
        accounts: AccountTerms {
            throttle,
            ..AccountTerms::default()
        },
        ..Door::default()
    };
    (
        ApiShop::over(Opening::default().clock(injected).open().await, door).await,
        clock,
    )
}

fn codes(payload: &Value) -> Option<&str> {
    payload["userErrors"][0]["code"].as_str()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_at_an_account_are_counted_one_by_one_also_in_one_document() {
    let (api, clock) = shop(ThrottleTerms::default()).await;
    register(&api, "some@example.com").await;
    let mut aliased = String::from("mutation {");
    for n in 0..12 {
        let _ = write!(
            aliased,
            " a{n}: logIn(input: {{ email: \"Some@example.com\", password: \"guess {n}\" }}) {{ userErrors {{ ... on UserError {{ code }} ... on TooManyAttempts {{ retryAfter }} }} }}"
        );
    }
    aliased.push('}');
    let answer = api.visitor().read(&aliased, json!({})).await;
    for n in 0..12 {
        let expected = if n < 10 {
            "INVALID_CREDENTIALS"
        } else {
            "TOO_MANY_ATTEMPTS"
        };
        assert_eq!(codes(&answer[format!("a{n}")]), Some(expected), "{n}");
    }
    assert_eq!(answer["a11"]["userErrors"][0]["retryAfter"], 30);
    // The right one is not looked at either, nor at another process; other accounts are.
    let injected: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let branch = api
        .branch_with(Opening::default().clock(injected), Door::default())
        .await;
    for desk in [&api, &branch] {
        assert_eq!(
            codes(&log_in(&desk.visitor(), "some@example.com", PASSWORD).await),
            Some("TOO_MANY_ATTEMPTS")
        );
    }
    // An address that nobody has is treated alike.
    for n in 0..11 {
        let expected = if n < 10 {
            "INVALID_CREDENTIALS"
        } else {
            "TOO_MANY_ATTEMPTS"
        };
        assert_eq!(
            codes(&log_in(&api.visitor(), "nobody@example.com", "x").await),
            Some(expected)
        );
    }
    // After the wait it is, and being right pays off all that was owed.
    clock.set(clock.now() + TimeDelta::seconds(30));
    assert_eq!(
        codes(&log_in(&api.visitor(), "some@example.com", PASSWORD).await),
        None
    );
    for _ in 0..10 {
        assert_eq!(
            codes(&log_in(&api.visitor(), "some@example.com", "x").await),
            Some("INVALID_CREDENTIALS")
        );
    }
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_from_an_address_are_counted_over_all_accounts() {
    let address = Rate {
        burst: 5,
        interval: Duration::from_secs(10),
    };
    let (api, clock) = shop(ThrottleTerms {
        address,
        ..ThrottleTerms::default()
    })
    .await;
    register(&api, "some@example.com").await;
    for n in 0..4 {
        let refused = log_in(&api.visitor(), &format!("{n}@example.com"), "x").await;
        assert_eq!(codes(&refused), Some("INVALID_CREDENTIALS"));
    }
    // An account of one's own buys no further guesses: its attempt is taken off, and no other.
    for _ in 0..3 {
        assert_eq!(
            codes(&log_in(&api.visitor(), "some@example.com", PASSWORD).await),
            None
        );
    }
    assert_eq!(
        codes(&log_in(&api.visitor(), "5@example.com", "x").await),
        Some("INVALID_CREDENTIALS")
    );
    assert_eq!(
        codes(&log_in(&api.visitor(), "6@example.com", "x").await),
        Some("TOO_MANY_ATTEMPTS")
    );
    clock.set(clock.now() + TimeDelta::seconds(10));
    assert_eq!(
        codes(&log_in(&api.visitor(), "7@example.com", "x").await),
        Some("INVALID_CREDENTIALS")
    );
    api.finish().await;
}
