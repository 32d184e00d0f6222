//! `kontor run`: the shop itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::Router;
use kontor_api::auth::LIFETIME;
use kontor_api::sessions::{CookieTerms, EndedSessions, SessionDesk, SessionTerms, Sessions};
use kontor_api::standing::Standing;
use kontor_api::throttle::{Throttle, ThrottleTerms};
use kontor_api::{App, Passwords, RouterOptions, Tokens, metrics, router, serve};
use kontor_eventstore::{Clock, SystemClock};
use kontor_fulfilment::notifications::{Channel, MailBy, Post, SmsBy, lease_of};
use kontor_fulfilment::payments::simulator::server::customers_page;
use kontor_fulfilment::payments::simulator::webhooks::Webhooks;
use kontor_fulfilment::payments::{WebhookSecret, WebhookVerifier};
use kontor_fulfilment::{account_mail, cashier, webhook_inbox};
use kontor_projections::account_changes::AccountChanges;
use kontor_projections::best_sellers::BestSellers;
use kontor_projections::cards::ProductCards;
use kontor_projections::offers::Offers;
use kontor_projections::shelf::Shelf;
use kontor_projections::statuses::OrderStatuses;
use kontor_projections::updates::Updates;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::cli::{PaymentOptions, Place, RunOptions};
use crate::runtime::{MIRRORS, Runtime, told_to_stop};
use crate::seed::{self, ACCOUNTS, PASSWORD};
use crate::terminal::say;

/// Runs until it is told to stop by Ctrl-C or SIGTERM.
///
/// # Errors
/// A sentence that says what is in the way and what to do.
pub async fn run(place: &Place, payments: &PaymentOptions, options: RunOptions) -> Result<ExitCode> {
    if options.edge.production {
        let objections = options.edge.objections(place, payments, samples(place, &options));
        if !objections.is_empty() {
            bail!(
                "this is not fit for production:\n  - {}",
                objections.join("\n  - ")
            );
        }
    }
    // What is written wrongly is told before anything is started.
    options.edge.protection()?;
    options.edge.origins()?;
    // And so is a busy port.
    let listener = listen(options.listen, "KONTOR_LISTEN").await?;
    let gateway = payments.config(Some(&url_of(listener.local_addr()?)))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let post = options.notifications(place).open(&clock)?;
    // Before the servers are started, so that they are stopped again if somebody changes their mind meanwhile.
    let told = told_to_stop()?;
    let servers = place.servers().await?;
    let outbox = options.notifications(place).outbox;
    let runtime = match place.open(&servers, &gateway, Some(outbox)).await {
        Ok(runtime) => runtime,
        Err(error) => {
            servers.stop().await?;
            return Err(error);
        }
    };
    let stop = runtime.stop.clone();
    runtime.stop_on(told);
    let said = Said {
        place,
        options: &options,
        payments,
    };
    let served = open_shop(&runtime, said, post, listener).await;
    stop.cancel();
    runtime.close().await;
    servers.stop().await?;
    served.map(|()| ExitCode::SUCCESS)
}

/// Whether the sample data is wanted.
fn samples(place: &Place, options: &RunOptions) -> bool {
    options.sample_data || place.database_url.is_none()
}

async fn open_shop(runtime: &Runtime, said: Said<'_>, post: Post, listener: TcpListener) -> Result<()> {
    let Said { place, options, .. } = said;
    let passwords = Passwords::new();
    let samples = samples(place, options);
    if options.edge.production {
        seed::must_be_gone(runtime, &passwords).await?;
    }
    if samples && !options.worker {
        seed::seed(runtime, &passwords)
            .await
            .context("the sample data could not be written")?;
    }
    let mut workers = Vec::new();
    if !options.api {
        runtime.spawn_workers();
        runtime.spawn_senders(post);
        runtime.spawn_trimming(options.audit_kept());
        workers.extend(Channel::ALL.map(|channel| lease_of(channel).to_owned()));
        workers.push(account_mail::LEASE.to_owned());
        workers.extend(
            runtime
                .consumers()
                .iter()
                .map(|consumer| consumer.name().to_owned()),
        );
        workers.extend([cashier::LEASE, webhook_inbox::LEASE].map(str::to_owned));
        workers.extend(MIRRORS.map(str::to_owned));
    }
    let mut app = app(runtime, passwords, &options.accounts()?).await?;
    app.unpaid_orders = options.unpaid_orders;
    let app = Arc::new(app);
    let sockets = TaskTracker::new();
    let address = listener.local_addr()?;
    let (simulator, webhooks) = simulator(runtime, address)?;
    let router = router(
        app,
        RouterOptions {
            endpoint: !options.worker,
            playground: Some(options.playground.clone()),
            metrics: Some(metrics::install()),
            stop: runtime.stop.clone(),
            sockets: sockets.clone(),
            limits: options.edge.limits(),
            timing: options.edge.timing(),
            protection: options.edge.protection()?,
            origins: options.edge.origins()?,
            workers,
            webhooks,
            simulator,
        },
    );
    announce(address, said, samples);
    let timing = options.edge.timing();
    serve(listener, router, timing, runtime.stop.clone(), sockets).await;
    say("stopped");
    Ok(())
}

/// How accounts are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccountTerms {
    /// How long sessions live.
    pub sessions: SessionTerms,
    /// How their cookie is set.
    pub cookie: CookieTerms,
    /// How often passwords may be tried.
    pub throttle: ThrottleTerms,
}

/// The simulator's page, if it takes the payments, and whose webhooks are believed: its own as well, for it tells of what its
/// customers do there. It signs with a secret that nobody else knows.
///
/// # Errors
/// When the machine gives no random bytes.
pub fn simulator(runtime: &Runtime, address: SocketAddr) -> Result<(Option<Router>, WebhookVerifier)> {
    let webhooks = runtime.payments.webhooks.clone();
    let Some(simulator) = runtime.payments.simulator.clone() else {
        return Ok((None, webhooks));
    };
    let secret = WebhookSecret::random().context("the machine gives no random bytes")?;
    let teller = Webhooks::new(
        simulator.clone(),
        &format!("{}{}", url_of(address), kontor_api::webhooks::PATH),
        secret.clone(),
        Arc::clone(&runtime.clock),
    );
    let teller = match teller {
        Ok(teller) => Some(Arc::new(teller)),
        // For want of certificate authorities, say. The order finds out by itself, a little later.
        Err(error) => {
            warn!(%error, "what customers do on the simulator's page is not told at once");
            None
        }
    };
    let page = customers_page(simulator, teller);
    Ok((Some(page), webhooks.and(secret)))
}

/// Takes an address to listen on; `setting` is how to choose another.
pub(super) async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; end what listens there, or set {setting} to another address")
    })
}

/// How somebody on this machine reaches a server that listens there.
pub(super) fn url_of(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// What the endpoint of a process needs.
///
/// # Errors
/// When the signing keys cannot be read.
pub async fn app(runtime: &Runtime, passwords: Passwords, accounts: &AccountTerms) -> Result<App> {
    let (store, progress, redis) = (&runtime.store, &runtime.progress, &runtime.redis);
    let pool = runtime.pool().clone();
    let (clock, stop) = (&runtime.clock, &runtime.stop);
    let tokens = Tokens::open(&pool, clock.now()).await?;
    tokio::spawn(
        tokens
            .clone()
            .keep_up(pool.clone(), Arc::clone(clock), stop.clone()),
    );
    let bell = Arc::default();
    let ended = EndedSessions::spawn(pool.clone(), Arc::clone(&bell), stop.clone()).await?;
    let changes = AccountChanges::spawn(
        store.clone(),
        clock.now(),
        LIFETIME,
        Arc::clone(&bell),
        stop.clone(),
    )
    .await?;
    let sessions = Sessions::new(redis.clone(), accounts.sessions);
    Ok(App {
        store: store.clone(),
        progress: Arc::clone(progress),
        shelf: Shelf::spawn(
            ProductCards::new(redis.clone(), pool.clone()),
            store.clone(),
            Arc::clone(progress),
            runtime.stop.clone(),
        ),
        offers: Offers::spawn(store.clone(), Arc::clone(progress), runtime.stop.clone()),
        statuses: OrderStatuses::new(redis.clone(), pool.clone()),
        payments: runtime.payments.desk.clone(),
        best_sellers: BestSellers::new(redis.clone(), pool.clone()),
        order_updates: Updates::spawn(store.clone(), Arc::clone(progress), runtime.stop.clone()),
        product_updates: Updates::spawn(store.clone(), Arc::clone(progress), runtime.stop.clone()),
        standing: Standing::new(changes, ended.clone(), bell),
        sessions: SessionDesk::new(
            store.clone(),
            tokens.clone(),
            Arc::clone(clock),
            sessions,
            ended,
            accounts.cookie,
        ),
        deeds: runtime.deeds.clone(),
        throttle: Throttle::new(redis.clone(), Arc::clone(clock), accounts.throttle),
        tokens,
        passwords,
        clock: Arc::clone(&runtime.clock),
        patience: kontor_api::app::PATIENCE,
        unpaid_orders: false,
        redis: redis.clone(),
    })
}

/// What the operator typed.
#[derive(Clone, Copy)]
struct Said<'a> {
    place: &'a Place,
    options: &'a RunOptions,
    payments: &'a PaymentOptions,
}

/// Says where everything is.
fn announce(address: SocketAddr, said: Said<'_>, samples: bool) {
    let Said {
        place,
        options,
        payments,
    } = said;
    say(format!("Kontor is open at http://{address}"));
    if options.worker {
        say("  working only; requests are answered elsewhere");
    } else {
        say(format!("  playground     http://{address}/"));
        say(format!(
            "  GraphQL        http://{address}/graphql  (queries, mutations; ws:// and Server-Sent Events for subscriptions)"
        ));
    }
    say(format!("  health         http://{address}/healthz, /readyz"));
    say(format!("  metrics        http://{address}/metrics"));
    let given = |url: &Option<String>, private: &str| {
        if url.is_some() {
            "as given".to_owned()
        } else {
            format!("private, in {}", place.data.join(private).display())
        }
    };
    say(format!(
        "  Postgres       {}",
        given(&place.database_url, "postgres")
    ));
    say(format!("  Redis          {}", given(&place.redis_url, "redis")));
    say(format!("  payments       {}", payments.by_whom()));
    if payments.is_deaf() && !options.worker {
        say("                 no webhook of theirs is believed: set KONTOR_WEBHOOK_SECRETS");
    }
    if !options.api {
        let it = options.notifications(place);
        let goes = |kept: bool| {
            if kept {
                format!("into {}", it.outbox.display())
            } else {
                "to the provider given".to_owned()
            }
        };
        say(format!("  mails          {}", goes(it.mail == MailBy::Outbox)));
        say(format!("  SMS            {}", goes(it.sms == SmsBy::Outbox)));
    }
    if samples && !options.worker {
        let emails: Vec<&str> = ACCOUNTS.iter().map(|(email, ..)| *email).collect();
        say(format!(
            "  accounts       {}; password {PASSWORD}",
            emails.join(", ")
        ));
    }
    say("Ctrl-C stops it.");
}
