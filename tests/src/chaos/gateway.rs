//! The payment gateway as a process of its own: the bank that pretends, behind Stripe's interface.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use kontor_eventstore::{Ids, SystemClock};
use kontor_fulfilment::payments::Simulator;
use kontor_fulfilment::payments::simulator::server;
use kontor_fulfilment::payments::stripe::SecretKey;
use tokio::net::TcpListener;

use super::{SECRET, bank};

/// Serves on that port until the process ends.
///
/// # Errors
/// When the port is taken.
pub async fn serve(database_url: &str, port: u16) -> Result<()> {
    let ids = Ids::new(Arc::new(SystemClock));
    let settings = bank(format!("http://127.0.0.1:{port}"));
    let simulator = Simulator::new(database_url.parse()?, ids, settings);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    axum::serve(listener, server::router(simulator, Some(SecretKey::new(SECRET)))).await?;
    Ok(())
}
