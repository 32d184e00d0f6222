use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use kontor_eventstore::ManualClock;

use super::scripted::{Does, Scripted, answer, gbp};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn request(key: &str) -> Authorise {
    Authorise {
        key: key.to_owned(),
        order_id: "ord_1".to_owned(),
        amount: gbp(100),
        method: "tok_approved".parse().unwrap(),
    }
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

/// Nobody waits between two tries, and the breaker stays out of it unless a test wants it.
fn settings() -> Resilience {
    Resilience {
        retries: 0,
        failures_to_open: 1_000,
        open_for: HOUR,
        ..Resilience::default()
    }
}

fn resilient(script: &[Does], settings: Resilience) -> Resilient<Scripted> {
    let clock = Arc::new(ManualClock::at(noon()));
    Resilient::new(Scripted::new(script), settings, clock).unwrap()
}

async fn authorise(gateway: &Resilient<Scripted>) -> Result<PaymentState, GatewayError> {
    gateway.authorise(&request("k")).await
}

fn unreachable(result: &Result<PaymentState, GatewayError>) -> bool {
    matches!(result, Err(GatewayError::Unreachable(_)))
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_in_time_may_have_done_it() {
    let gateway = resilient(&[Does::Hang], settings());
    let begun = tokio::time::Instant::now();
    assert_eq!(
        authorise(&gateway).await,
        Err(GatewayError::Unknown("no answer within 10 s".into()))
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(gateway.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again_with_the_same_key_and_no_more_than_that() {
    let patient = || Resilience {
        retries: 2,
        ..settings()
    };
    for (script, calls, answered) in [
        (&[Does::Answer][..], 1, true),
        (&[Does::Unknown, Does::Answer], 2, true),
        (&[Does::Unreachable, Does::Busy, Does::Answer], 3, true),
        (&[Does::Hang, Does::Answer], 2, true),
        (&[Does::Busy], 3, false),
        (&[Does::Unreachable], 3, false),
        (&[Does::Refuse], 1, false),
        (&[Does::Unknown, Does::Refuse], 2, false),
    ] {
        let gateway = resilient(script, patient());
        assert_eq!(authorise(&gateway).await.is_ok(), answered, "{script:?}");
        assert_eq!(
            *gateway.gateway().keys.lock().unwrap(),
            vec!["k"; calls],
            "{script:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_are_never_longer_than_they_may() {
    let settings = Resilience {
        retries: 5,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(4),
        ..settings()
    };
    let gateway = resilient(&[Does::Unreachable], settings);
    for _ in 0..50 {
        let begun = tokio::time::Instant::now();
        assert!(unreachable(&authorise(&gateway).await));
        assert!(begun.elapsed() <= Duration::from_secs(1 + 2 + 4 + 4 + 4) + Duration::from_millis(5));
    }
    let pauses: Vec<Duration> = gateway.pauses().build().collect();
    assert_eq!(pauses.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn every_method_goes_the_same_way() {
    let gateway = resilient(
        &[Does::Unknown, Does::Answer],
        Resilience {
            retries: 1,
            ..settings()
        },
    );
    let (key, order_id, reference) = ("k".to_owned(), String::new(), answer().reference);
    let capture = Capture {
        key: key.clone(),
        order_id: order_id.clone(),
        reference: reference.clone(),
        amount: gbp(1),
    };
    let refund = Refund {
        key: key.clone(),
        order_id: order_id.clone(),
        reference: reference.clone(),
        amount: gbp(1),
    };
    let void = Void {
        key,
        order_id,
        reference: reference.clone(),
    };
    for n in 0..4 {
        *gateway.gateway().script.lock().unwrap() = vec![Does::Answer, Does::Unknown];
        let before = gateway.gateway().calls();
        let answered = match n {
            0 => gateway.capture(&capture).await,
            1 => gateway.void(&void).await,
            2 => gateway.refund(&refund).await,
            _ => gateway.look_up(&reference).await,
        };
        assert_eq!(answered, Ok(answer()));
        assert_eq!(gateway.gateway().calls() - before, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_after_so_many_failures_in_a_row_and_calls_stop() {
    let settings = Resilience {
        failures_to_open: 3,
        ..settings()
    };
    let gateway = resilient(
        &[
            Does::Unreachable,
            Does::Unknown,
            Does::Answer,
            Does::Unknown,
            Does::Hang,
            Does::Unreachable,
        ],
        settings,
    );
    for _ in 0..5 {
        let _ = authorise(&gateway).await;
        assert_eq!(gateway.state(), BreakerState::Closed);
    }
    assert!(unreachable(&authorise(&gateway).await));
    let until = noon() + HOUR;
    assert_eq!(gateway.state(), BreakerState::Open { until });

    gateway.gateway().now_always(Does::Answer);
    for _ in 0..20 {
        assert!(unreachable(&authorise(&gateway).await));
    }
    assert_eq!(gateway.gateway().calls(), 6, "nobody was called again");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_not_tried_again_within_the_call() {
    let settings = Resilience {
        failures_to_open: 2,
        retries: 5,
        ..settings()
    };
    let gateway = resilient(&[Does::Unreachable], settings);
    assert!(unreachable(&authorise(&gateway).await));
    assert_eq!(
        gateway.gateway().calls(),
        2,
        "the third try found the breaker open"
    );
}

#[tokio::test(start_paused = true)]
async fn who_says_no_is_there() {
    let settings = Resilience {
        failures_to_open: 2,
        ..settings()
    };
    let gateway = resilient(
        &[
            Does::Unknown,
            Does::Busy,
            Does::Unknown,
            Does::Refuse,
            Does::Unknown,
        ],
        settings,
    );
    for _ in 0..5 {
        assert!(authorise(&gateway).await.is_err());
    }
    assert_eq!(gateway.state(), BreakerState::Closed);
}

/// Opened, and its time is over at once.
async fn due_for_a_probe(probes: usize) -> Resilient<Scripted> {
    let settings = Resilience {
        failures_to_open: 1,
        open_for: Duration::ZERO,
        probes,
        ..settings()
    };
    let gateway = resilient(&[Does::Unreachable], settings);
    assert!(unreachable(&authorise(&gateway).await));
    assert!(matches!(gateway.state(), BreakerState::Open { .. }));
    gateway
}

#[tokio::test(start_paused = true)]
async fn one_probe_goes_through_and_closes_it() {
    let gateway = due_for_a_probe(1).await;
    gateway.gateway().now_always(Does::Wait);
    let probe = authorise(&gateway);
    let others = async {
        // The probe is polled first, and is under way by now.
        assert_eq!(gateway.state(), BreakerState::HalfOpen);
        let refused = join_all((0..20).map(|_| authorise(&gateway))).await;
        assert!(refused.iter().all(unreachable));
        assert_eq!(gateway.gateway().calls(), 2, "the failure, and the probe");
        gateway.gateway().go.notify_one();
    };
    let (probed, ()) = tokio::join!(biased; probe, others);
    assert_eq!(probed, Ok(answer()));
    assert_eq!(gateway.state(), BreakerState::Closed);
    gateway.gateway().now_always(Does::Answer);
    assert!(
        join_all((0..20).map(|_| authorise(&gateway)))
            .await
            .iter()
            .all(Result::is_ok)
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_again() {
    let gateway = due_for_a_probe(1).await;
    assert!(unreachable(&authorise(&gateway).await));
    assert_eq!(gateway.gateway().calls(), 2, "the probe was a call");
    assert!(matches!(gateway.state(), BreakerState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_leaves_its_place_to_another() {
    let gateway = due_for_a_probe(1).await;
    gateway.gateway().now_always(Does::Hang);
    let given_up = tokio::time::timeout(Duration::from_millis(1), authorise(&gateway)).await;
    assert!(given_up.is_err());
    assert_eq!(gateway.state(), BreakerState::HalfOpen);
    gateway.gateway().now_always(Does::Answer);
    assert_eq!(authorise(&gateway).await, Ok(answer()));
    assert_eq!(gateway.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn several_probes_must_all_succeed() {
    let gateway = due_for_a_probe(2).await;
    gateway.gateway().now_always(Does::Answer);
    assert!(authorise(&gateway).await.is_ok());
    assert_eq!(gateway.state(), BreakerState::HalfOpen);
    assert!(authorise(&gateway).await.is_ok());
    assert_eq!(gateway.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_there_are_places() {
    let settings = Resilience {
        places: 3,
        wait_for_place: HOUR,
        time_limit: HOUR,
        ..settings()
    };
    let gateway = resilient(&[Does::Wait], settings);
    let all = join_all((0..10).map(|_| authorise(&gateway)));
    let let_them = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
            assert!(gateway.under_way() <= 3);
            gateway.gateway().go.notify_one();
        }
    };
    let (all, ()) = tokio::join!(all, let_them);
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(gateway.gateway().most_at_once.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_in_time_is_told_that_nothing_was_done() {
    let settings = Resilience {
        places: 1,
        wait_for_place: Duration::from_secs(1),
        retries: 3,
        ..settings()
    };
    let gateway = resilient(&[Does::Wait], settings);
    let first = authorise(&gateway);
    let second = async {
        let begun = tokio::time::Instant::now();
        assert!(unreachable(&authorise(&gateway).await));
        assert_eq!(begun.elapsed(), Duration::from_secs(1), "and not tried again");
        gateway.gateway().go.notify_one();
    };
    let (first, ()) = tokio::join!(biased; first, second);
    assert!(first.is_ok());
    assert_eq!(gateway.gateway().calls(), 1);
}

#[test]
fn settings_that_let_nothing_through_are_refused() {
    for wrong in [
        Resilience {
            places: 0,
            ..settings()
        },
        Resilience {
            time_limit: Duration::ZERO,
            ..settings()
        },
        Resilience {
            failures_to_open: 0,
            ..settings()
        },
        Resilience {
            probes: 0,
            ..settings()
        },
    ] {
        let clock = Arc::new(ManualClock::at(noon()));
        assert!(Resilient::new(Scripted::new(&[Does::Answer]), wrong, clock).is_err());
    }
}
