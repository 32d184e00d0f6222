//! The bank itself: its rules, its tokens, and one ledger entry per key, whatever happens.

use std::time::Duration;

use futures::future::join_all;
use kontor_domain::{DeclineReason, NextActionKind};
use kontor_tests::eventually;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

async fn open() -> (Database, Simulator) {
    let database = Database::fresh().await;
    let bank = bank(&database, SimulatorSettings::default());
    (database, bank)
}

#[tokio::test]
async fn a_payment_is_held_taken_and_given_back() {
    let (database, bank) = open().await;
    let reference = held(&bank, "a", "tok_approved", pounds_10()).await;
    let captured = bank.capture(&capture("b", &reference, gbp(8_00))).await.unwrap();
    assert_eq!(told(&captured), (PaymentStatus::Captured, 10_00, 8_00, 0));
    let part = bank.refund(&refund("c", &reference, gbp(3_00))).await.unwrap();
    assert_eq!(told(&part), (PaymentStatus::Captured, 10_00, 8_00, 3_00));
    let rest = bank.refund(&refund("d", &reference, gbp(5_00))).await.unwrap();
    assert_eq!(told(&rest), (PaymentStatus::Captured, 10_00, 8_00, 8_00));
    assert_eq!(bank.look_up(&reference).await.unwrap(), rest);
    // Every answer again, as it was given.
    assert_eq!(
        bank.capture(&capture("b", &reference, gbp(8_00))).await.unwrap(),
        captured
    );
    assert_eq!(
        bank.refund(&refund("c", &reference, gbp(3_00))).await.unwrap(),
        part
    );
    let held = bank
        .authorise(&authorise("a", "tok_approved", pounds_10()))
        .await
        .unwrap();
    assert_eq!(told(&held), (PaymentStatus::Authorised, 10_00, 0, 0));
    assert_eq!(
        ledger(&database).await,
        [
            entry("AUTHORISE", "a", 10_00),
            entry("CAPTURE", "b", 8_00),
            entry("REFUND", "c", 3_00),
            entry("REFUND", "d", 5_00),
        ]
    );
    database.remove().await;
}

#[tokio::test]
async fn a_declined_payment_moves_nothing() {
    let (database, bank) = open().await;
    for (token, reason) in [
        ("tok_declined", DeclineReason::CardDeclined),
        ("tok_insufficient_funds", DeclineReason::InsufficientFunds),
        ("pm_card_visa", DeclineReason::InvalidPaymentMethod),
    ] {
        let declined = bank
            .authorise(&authorise(token, token, pounds_10()))
            .await
            .unwrap();
        assert_eq!(told(&declined), (PaymentStatus::Declined(reason), 0, 0, 0));
        let again = bank
            .authorise(&authorise(token, token, pounds_10()))
            .await
            .unwrap();
        assert_eq!(again, declined);
        let taken = bank
            .capture(&capture("x", &declined.reference, pounds_10()))
            .await;
        assert_eq!(refused(taken), "payment_intent_unexpected_state");
    }
    assert_eq!(ledger(&database).await, []);
    database.remove().await;
}

#[tokio::test]
async fn what_a_bank_does_not_do() {
    let (database, bank) = open().await;
    let reference = held(&bank, "a", "tok_approved", pounds_10()).await;
    let euro = Money::new(1_00, "EUR".parse().unwrap()).unwrap();
    for (amount, code) in [
        (gbp(10_01), "amount_too_large"),
        (gbp(0), "amount_too_small"),
        (gbp(-1), "amount_too_small"),
        (euro, "amount_too_large"),
    ] {
        assert_eq!(
            refused(bank.capture(&capture("b", &reference, amount)).await),
            code
        );
    }
    let early = bank.refund(&refund("c", &reference, gbp(1))).await;
    assert_eq!(refused(early), "payment_intent_unexpected_state");
    bank.capture(&capture("b", &reference, gbp(6_00))).await.unwrap();
    for late in [
        bank.capture(&capture("b2", &reference, gbp(4_00))).await,
        bank.void(&void("v", &reference)).await,
    ] {
        assert_eq!(refused(late), "payment_intent_unexpected_state");
    }
    assert_eq!(
        refused(bank.refund(&refund("c", &reference, gbp(6_01))).await),
        "amount_too_large"
    );

    let other = held(&bank, "e", "tok_approved", pounds_10()).await;
    let voided = bank.void(&void("f", &other)).await.unwrap();
    assert_eq!(told(&voided), (PaymentStatus::Voided, 10_00, 0, 0));
    assert_eq!(bank.void(&void("f", &other)).await.unwrap(), voided);
    let gone = bank.capture(&capture("g", &other, gbp(1))).await;
    assert_eq!(refused(gone), "payment_intent_unexpected_state");
    let nobody = "pi_nobody".parse().unwrap();
    assert_eq!(refused(bank.look_up(&nobody).await), "resource_missing");
    assert_eq!(refused(bank.void(&void("h", &nobody)).await), "resource_missing");
    let control = Authorise {
        order_id: "a\0b".into(),
        ..authorise("i", "tok_approved", pounds_10())
    };
    assert_eq!(refused(bank.authorise(&control).await), "parameter_invalid");
    assert_eq!(
        ledger(&database).await,
        [
            entry("AUTHORISE", "a", 10_00),
            entry("CAPTURE", "b", 6_00),
            entry("AUTHORISE", "e", 10_00),
            entry("VOID", "f", 10_00),
        ]
    );
    database.remove().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let (database, bank) = open().await;
    let first = authorise("a", "tok_approved", pounds_10());
    let reference = bank.authorise(&first).await.unwrap().reference;
    for other in [
        Authorise {
            amount: gbp(10_01),
            ..first.clone()
        },
        Authorise {
            order_id: "ord_other".into(),
            ..first.clone()
        },
        Authorise {
            method: "tok_slow".parse().unwrap(),
            ..first.clone()
        },
    ] {
        assert_eq!(refused(bank.authorise(&other).await), "idempotency_error");
    }
    let second = held(&bank, "b", "tok_approved", pounds_10()).await;
    bank.capture(&capture("c", &reference, pounds_10()))
        .await
        .unwrap();
    for other in [
        bank.capture(&capture("c", &reference, gbp(1))).await,
        bank.capture(&capture("c", &second, pounds_10())).await,
    ] {
        assert_eq!(refused(other), "idempotency_error");
    }
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_calls_with_one_key_move_money_once() {
    let (database, one) = open().await;
    let other = bank(&database, SimulatorSettings::default());
    let banks = [&one, &other];
    for round in 0..10 {
        let key = |step: &str| format!("{round:02}/{step}");
        let opening = authorise(&key("a"), "tok_approved", pounds_10());
        let opened = join_all((0..20).map(|n| banks[n % 2].authorise(&opening))).await;
        let first = opened[0].clone().unwrap();
        assert!(opened.iter().all(|it| it.as_ref() == Ok(&first)), "{opened:?}");

        let taking = capture(&key("b"), &first.reference, pounds_10());
        let taken = join_all((0..20).map(|n| banks[n % 2].capture(&taking))).await;
        assert!(taken.iter().all(|it| it == &taken[0] && it.is_ok()), "{taken:?}");

        let giving = refund(&key("c"), &first.reference, gbp(4_00));
        let given = join_all((0..20).map(|n| banks[n % 2].refund(&giving))).await;
        assert!(given.iter().all(|it| it == &given[0] && it.is_ok()), "{given:?}");
    }
    let entries = ledger(&database).await;
    assert_eq!(entries.len(), 30, "one of each kind for each round: {entries:?}");
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_calls_with_different_keys_keep_to_the_rules() {
    let (database, one) = open().await;
    let other = bank(&database, SimulatorSettings::default());
    let banks = [&one, &other];
    for round in 0..10 {
        let reference = held(&one, &format!("{round}/a"), "tok_approved", pounds_10()).await;
        let taking: Vec<_> = (0..10)
            .map(|n| capture(&format!("{round}/b{n}"), &reference, gbp(9_00)))
            .collect();
        let letting_go = void(&format!("{round}/v"), &reference);
        let (taken, let_go) = tokio::join!(
            join_all(taking.iter().enumerate().map(|(n, it)| banks[n % 2].capture(it))),
            other.void(&letting_go)
        );
        let done = taken.iter().filter(|it| it.is_ok()).count() + usize::from(let_go.is_ok());
        assert_eq!(done, 1, "taken or let go, and once");
        if let_go.is_ok() {
            continue;
        }
        let giving: Vec<_> = (0..10)
            .map(|n| refund(&format!("{round}/c{n}"), &reference, gbp(2_00)))
            .collect();
        let given = join_all(giving.iter().enumerate().map(|(n, it)| banks[n % 2].refund(it))).await;
        assert_eq!(
            given.iter().filter(|it| it.is_ok()).count(),
            4,
            "9 pounds, by twos"
        );
        assert_eq!(one.look_up(&reference).await.unwrap().refunded, gbp(8_00));
    }
    database.remove().await;
}

#[tokio::test]
async fn the_customer_may_have_something_to_do() {
    let (database, bank) = open().await;
    let waits = |key: &str| authorise(key, "tok_needs_action", pounds_10());
    let waiting = bank.authorise(&waits("a")).await.unwrap();
    assert_eq!(told(&waiting), (PaymentStatus::RequiresAction, 0, 0, 0));
    let action = waiting.next_action.clone().unwrap();
    assert_eq!(action.kind, NextActionKind::RedirectToUrl);
    assert_eq!(
        action.url.unwrap(),
        format!("http://127.0.0.1:4010/actions/{}", waiting.reference)
    );
    assert_eq!(ledger(&database).await, []);

    let approved = bank.complete_action(&waiting.reference, true).await.unwrap();
    assert_eq!(told(&approved), (PaymentStatus::Authorised, 10_00, 0, 0));
    assert_eq!(approved.next_action, None);
    assert_eq!(ledger(&database).await, [entry("AUTHORISE", "a", 10_00)]);
    // Too late to change one's mind; and the first answer stays the first answer.
    assert_eq!(
        bank.complete_action(&waiting.reference, false).await.unwrap(),
        approved
    );
    assert_eq!(bank.authorise(&waits("a")).await.unwrap(), waiting);

    let other = bank.authorise(&waits("b")).await.unwrap();
    let failed = bank.complete_action(&other.reference, false).await.unwrap();
    let reason = DeclineReason::AuthenticationFailed;
    assert_eq!(told(&failed), (PaymentStatus::Declined(reason), 0, 0, 0));
    assert_eq!(bank.authorise(&waits("b")).await.unwrap(), other);

    let given_up = bank.authorise(&waits("c")).await.unwrap().reference;
    let voided = bank.void(&void("d", &given_up)).await.unwrap();
    assert_eq!(told(&voided), (PaymentStatus::Voided, 0, 0, 0));
    let late = bank.complete_action(&given_up, true).await.unwrap();
    assert_eq!(late.status, PaymentStatus::Voided);
    database.remove().await;
}

#[tokio::test]
async fn who_hears_nothing_asks_again_and_is_charged_once() {
    let database = Database::fresh().await;
    let silent = SimulatorSettings {
        slow: HOUR,
        silence: HOUR,
        ..SimulatorSettings::default()
    };
    let bank = bank(&database, silent.clone());
    for (n, token) in ["tok_timeout_after_charge", "tok_slow"].into_iter().enumerate() {
        let request = authorise(token, token, pounds_10());
        let unheard = tokio::spawn({
            let (bank, request) = (bank.clone(), request.clone());
            async move { bank.authorise(&request).await }
        });
        eventually("the ledger has it", async || {
            (ledger(&database).await.len() == n + 1).then_some(())
        })
        .await;
        assert!(!unheard.is_finished());
        let again = bank.authorise(&request).await.unwrap();
        assert_eq!(told(&again), (PaymentStatus::Authorised, 10_00, 0, 0));
        unheard.abort();
        // The bank is killed and comes back: its books are all it knows.
        let reborn = super::bank(&database, silent.clone());
        assert_eq!(reborn.authorise(&request).await.unwrap(), again);
        assert_eq!(ledger(&database).await.len(), n + 1);
    }
    let quick = SimulatorSettings {
        slow: Duration::from_millis(1),
        silence: Duration::from_millis(1),
        ..SimulatorSettings::default()
    };
    let bank = super::bank(&database, quick);
    let slow = bank.authorise(&authorise("s", "tok_slow", pounds_10())).await;
    assert_eq!(slow.unwrap().status, PaymentStatus::Authorised);
    let silent = bank
        .authorise(&authorise("t", "tok_timeout_after_charge", pounds_10()))
        .await;
    assert!(matches!(silent, Err(GatewayError::Unknown(_))));
    database.remove().await;
}

#[tokio::test]
async fn who_fails_so_often_fails_so_often_for_each_key_also_after_a_restart() {
    let (database, bank) = open().await;
    let request = |key: &str| authorise(key, "tok_fails_2", pounds_10());
    let fails = |result: Result<PaymentState, GatewayError>| matches!(result, Err(GatewayError::Unknown(_)));
    assert!(fails(bank.authorise(&request("a")).await));
    assert!(fails(bank.authorise(&request("b")).await));
    let reborn = super::bank(&database, SimulatorSettings::default());
    assert!(fails(reborn.authorise(&request("a")).await));
    assert_eq!(ledger(&database).await, []);
    let held = reborn.authorise(&request("a")).await.unwrap();
    assert_eq!(reborn.authorise(&request("a")).await.unwrap(), held);
    assert!(fails(reborn.authorise(&request("b")).await));
    assert!(reborn.authorise(&request("b")).await.is_ok());
    assert!(
        reborn
            .authorise(&authorise("c", "tok_fails_0", pounds_10()))
            .await
            .is_ok()
    );
    database.remove().await;
}

#[tokio::test]
async fn a_bank_may_be_down() {
    let (database, bank) = open().await;
    let away =
        |result: Result<PaymentState, GatewayError>| matches!(result, Err(GatewayError::Unreachable(_)));
    assert!(away(
        bank.authorise(&authorise("a", "tok_down", pounds_10())).await
    ));
    bank.set_down(true);
    let request = authorise("b", "tok_approved", pounds_10());
    assert!(away(bank.authorise(&request).await));
    assert!(away(bank.look_up(&"pi_1".parse().unwrap()).await));
    assert_eq!(ledger(&database).await, []);
    bank.set_down(false);
    assert!(bank.authorise(&request).await.is_ok());
    database.remove().await;
}

/// Connections are cut at any moment, before, during and after a statement: whoever repeats gets through, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_from_its_books_it_says_so_and_goes_on() {
    let (database, bank) = open().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'kontor-payment-simulator'";
    for round in 0..10 {
        let customers = join_all((0..8).map(async |n| {
            let (a, b) = (format!("{round}/{n}/a"), format!("{round}/{n}/b"));
            let request = authorise(&a, "tok_approved", pounds_10());
            let reference = insist(|| bank.authorise(&request)).await.reference;
            let request = capture(&b, &reference, pounds_10());
            insist(|| bank.capture(&request)).await;
        }));
        let cutting = async {
            for _ in 0..5 {
                sqlx::query(cut).execute(&pool).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(customers, cutting);
    }
    let entries = ledger(&database).await;
    assert_eq!(entries.len(), 160, "each authorised once and captured once");
    pool.close().await;
    database.remove().await;
}

/// Asks until there is an answer; an error must be one that says to ask again.
async fn insist<'a>(ask: impl Fn() -> kontor_fulfilment::payments::Answer<'a>) -> PaymentState {
    eventually("an answer", async || match ask().await {
        Ok(state) => Some(state),
        Err(error) if error.is_transient() => None,
        Err(error) => panic!("{error}"),
    })
    .await
}
