//! Payment gateways: the simulator on a real Postgres, Stripe's client over the socket.

use std::net::SocketAddr;
use std::sync::Arc;

use kontor_domain::{Money, PaymentReference, PaymentState, PaymentStatus};
use kontor_eventstore::{Ids, SystemClock};
use kontor_fulfilment::payments::stripe::SecretKey;
use kontor_fulfilment::payments::{
    Authorise, Capture, GatewayError, PaymentGateway, Refund, Simulator, SimulatorSettings, Stripe,
    StripeSettings, Void,
};
use kontor_tests::Database;
use kontor_tests::examples::gbp;
use sqlx::PgPool;

mod apart;
mod inbox;
mod leases;
mod let_go;
mod localstripe;
mod orders;
mod outages;
mod paid;
mod resilient;
mod server;
mod simulator;
mod statuses;
mod webhooks;

pub(crate) use inbox::POINTS;

const KEY: &str = "sk_test_kontor";

/// A bank with its books in that database. Two of them on one database are two processes of one bank.
fn bank(database: &Database, settings: SimulatorSettings) -> Simulator {
    let ids = Ids::new(Arc::new(SystemClock));
    Simulator::new(database.url().parse().unwrap(), ids, settings)
}

/// The client, talking to whoever listens there.
fn stripe(address: SocketAddr, key: &str) -> Stripe {
    Stripe::new(StripeSettings {
        base_url: format!("http://{address}"),
        ..StripeSettings::new(SecretKey::new(key))
    })
    .unwrap()
}

fn authorise(key: &str, token: &str, amount: Money) -> Authorise {
    Authorise {
        key: key.to_owned(),
        order_id: format!("ord_of_{key}"),
        amount,
        method: token.parse().unwrap(),
    }
}

fn capture(key: &str, reference: &PaymentReference, amount: Money) -> Capture {
    Capture {
        key: key.to_owned(),
        order_id: "ord_1".to_owned(),
        reference: reference.clone(),
        amount,
    }
}

fn void(key: &str, reference: &PaymentReference) -> Void {
    Void {
        key: key.to_owned(),
        order_id: "ord_1".to_owned(),
        reference: reference.clone(),
    }
}

fn refund(key: &str, reference: &PaymentReference, amount: Money) -> Refund {
    Refund {
        key: key.to_owned(),
        order_id: "ord_1".to_owned(),
        reference: reference.clone(),
        amount,
    }
}

/// Opens a payment that is approved.
async fn held(gateway: &impl PaymentGateway, key: &str, token: &str, amount: Money) -> PaymentReference {
    let state = gateway.authorise(&authorise(key, token, amount)).await.unwrap();
    assert_eq!(state.status, PaymentStatus::Authorised);
    state.reference
}

/// Status, and authorised, captured and refunded in pence.
fn told(state: &PaymentState) -> (PaymentStatus, i64, i64, i64) {
    (
        state.status,
        state.authorised.amount_minor(),
        state.captured.amount_minor(),
        state.refunded.amount_minor(),
    )
}

fn refused(result: Result<PaymentState, GatewayError>) -> String {
    match result {
        Err(GatewayError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Every entry of the ledger: kind, key, pence. In the order of their keys.
async fn ledger(database: &Database) -> Vec<(String, String, i64)> {
    let pool = PgPool::connect(database.url()).await.unwrap();
    let entries = sqlx::query_as("SELECT kind, key, amount_minor FROM simulator.ledger ORDER BY key, kind")
        .fetch_all(&pool)
        .await
        .unwrap();
    pool.close().await;
    entries
}

fn entry(kind: &str, key: &str, pence: i64) -> (String, String, i64) {
    (kind.to_owned(), key.to_owned(), pence)
}

/// Serves a router on a free port of the loopback for as long as the test lives.
async fn listen(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn pounds_10() -> Money {
    gbp(10_00)
}
