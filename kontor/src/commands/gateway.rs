//! `kontor gateway`: the payment simulator as a bank of its own, which speaks as Stripe does.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kontor_api::serve;
use kontor_api::transport::Timing;
use kontor_eventstore::{Clock, Ids, SystemClock, schema};
use kontor_fulfilment::payments::simulator::server;
use kontor_fulfilment::payments::simulator::webhooks::Webhooks;
use kontor_fulfilment::payments::{Simulator, SimulatorSettings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::run;
use crate::cli::{GatewayOptions, Place};
use crate::runtime::{connect, told_to_stop};
use crate::terminal::say;

/// Runs until it is told to stop by Ctrl-C or SIGTERM.
///
/// # Errors
/// A sentence that says what is in the way and what to do.
pub async fn gateway(place: &Place, options: GatewayOptions) -> Result<ExitCode> {
    let listener = run::listen(options.listen, "--listen").await?;
    let told = told_to_stop()?;
    let servers = place.servers().await?;
    let served = open(servers.database_url(), &options, listener, told).await;
    servers.stop().await?;
    served.map(|()| ExitCode::SUCCESS)
}

async fn open(
    database_url: &str,
    options: &GatewayOptions,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<()> {
    let pool = connect(database_url).await?;
    schema::migrate(&pool).await?;
    let database = (*pool.connect_options()).clone();
    pool.close().await;
    let address = listener.local_addr()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = SimulatorSettings {
        latency: Duration::from_millis(options.latency.into()),
        public_url: run::url_of(address),
        webhooks: options.webhook_url.is_some(),
        ..SimulatorSettings::default()
    };
    let simulator = Simulator::new(database, Ids::new(Arc::clone(&clock)), settings);
    let tasks = TaskTracker::new();
    if let (Some(url), Some(secret)) = (&options.webhook_url, &options.webhook_secret) {
        let webhooks = Webhooks::new(simulator.clone(), url, secret.clone(), clock)?;
        let stop = stop.clone();
        tasks.spawn(async move { webhooks.run(stop).await });
    }
    announce(address, options);
    serve(
        listener,
        server::router(simulator, options.key.clone()),
        Timing::default(),
        stop.clone(),
        TaskTracker::new(),
    )
    .await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    say("stopped");
    Ok(())
}

/// Says where everything is.
fn announce(address: SocketAddr, options: &GatewayOptions) {
    let url = run::url_of(address);
    say(format!("The payment simulator is open at {url}; no money moves"));
    let key = if options.key.is_some() {
        "the key given"
    } else {
        "any sk_test_… key"
    };
    say(format!("  interface      {url}/v1, as Stripe's, for {key}"));
    say(format!("  its customers  {url}/actions/…"));
    say(format!(
        "  webhooks       {}",
        options.webhook_url.as_deref().unwrap_or("nobody is told")
    ));
    say(format!(
        "  a shop         KONTOR_STRIPE_URL={url} KONTOR_STRIPE_KEY=sk_test_x KONTOR_WEBHOOK_SECRETS=… kontor run"
    ));
    say("Ctrl-C stops it.");
}
