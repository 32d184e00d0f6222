//! All of it together: who asks, what makes it bearable, Stripe's client, the socket, the bank, its books.

use std::time::Duration;

use kontor_fulfilment::payments::simulator::server;
use kontor_fulfilment::payments::{BreakerState, Resilience, Resilient};
use kontor_tests::eventually;
use tokio::runtime::Runtime;

use super::*;

/// A bank on threads of its own, which can be killed like a process: its connections end where they are.
struct Killable(Option<Runtime>);

impl Killable {
    async fn start(database: &Database, address: &str) -> (Self, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        // The one before may not have let go of the port yet.
        let bind = async || std::net::TcpListener::bind(address).ok();
        let listener = eventually("a free port", bind).await;
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let silent = SimulatorSettings {
            silence: Duration::from_secs(3600),
            ..SimulatorSettings::default()
        };
        let inside = runtime.enter();
        let bank = bank(database, silent);
        drop(inside);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, server::router(bank, Some(SecretKey::new(KEY)))).await
        });
        (Self(Some(runtime)), address)
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

fn resilient(address: SocketAddr, settings: Resilience) -> Resilient<Stripe> {
    Resilient::new(stripe(address, KEY), settings, Arc::new(SystemClock)).unwrap()
}

#[tokio::test]
async fn a_bank_that_charges_and_says_nothing_is_asked_again_in_the_same_call() {
    let database = Database::fresh().await;
    let (_bank, address) = Killable::start(&database, "127.0.0.1:0").await;
    let settings = Resilience {
        // Long enough for the charge on a busy machine; the second question is answered at once.
        time_limit: Duration::from_secs(2),
        ..Resilience::default()
    };
    let gateway = resilient(address, settings);
    let request = authorise("a", "tok_timeout_after_charge", pounds_10());
    let state = gateway.authorise(&request).await.unwrap();
    assert_eq!(told(&state), (PaymentStatus::Authorised, 10_00, 0, 0));
    assert_eq!(ledger(&database).await, [entry("AUTHORISE", "a", 10_00)]);
    database.remove().await;
}

#[tokio::test]
async fn a_bank_that_is_killed_is_left_alone_until_it_is_back() {
    let database = Database::fresh().await;
    let (bank, address) = Killable::start(&database, "127.0.0.1:0").await;
    let settings = Resilience {
        retries: 0,
        failures_to_open: 3,
        open_for: Duration::from_millis(10),
        ..Resilience::default()
    };
    let gateway = resilient(address, settings);
    let request = authorise("a", "tok_approved", pounds_10());
    let first = gateway.authorise(&request).await.unwrap();
    assert_eq!(gateway.state(), BreakerState::Closed);
    drop(bank);
    eventually("an open breaker", async || {
        let error = gateway.authorise(&request).await.err()?;
        assert!(error.is_transient(), "{error}");
        matches!(gateway.state(), BreakerState::Open { .. }).then_some(())
    })
    .await;

    let (_bank, _) = Killable::start(&database, &address.to_string()).await;
    let again = eventually("an answer", async || gateway.authorise(&request).await.ok()).await;
    assert_eq!(again, first);
    assert_eq!(gateway.state(), BreakerState::Closed);
    assert_eq!(ledger(&database).await, [entry("AUTHORISE", "a", 10_00)]);
    database.remove().await;
}
