//! `kontor run`: the shop itself.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kontor_api::{App, Passwords, RouterOptions, Tokens, metrics, router, serve};
use kontor_fulfilment::notifications::{Channel, MailBy, Post, SmsBy, lease_of};
use kontor_projections::best_sellers::BestSellers;
use kontor_projections::cards::ProductCards;
use kontor_projections::offers::Offers;
use kontor_projections::statuses::OrderStatuses;
use kontor_projections::updates::Updates;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::cli::{Place, RunOptions};
use crate::runtime::{MIRRORS, Runtime, told_to_stop};
use crate::seed::{self, ACCOUNTS, PASSWORD};
use crate::terminal::say;

/// Runs until it is told to stop by Ctrl-C or SIGTERM.
///
/// # Errors
/// A sentence that says what is in the way and what to do.
pub async fn run(place: &Place, options: RunOptions) -> Result<ExitCode> {
    if options.edge.production {
        let objections = options.edge.objections(place, samples(place, &options));
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
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; end what listens there, or set KONTOR_LISTEN to another address",
            options.listen
        )
    })?;
    let post = options.notifications(place).open()?;
    // Before the servers are started, so that they are stopped again if somebody changes their mind meanwhile.
    let told = told_to_stop()?;
    let servers = place.servers().await?;
    let runtime = match Runtime::open(servers.database_url(), servers.redis_url()).await {
        Ok(runtime) => runtime,
        Err(error) => {
            servers.stop().await?;
            return Err(error);
        }
    };
    let stop = runtime.stop.clone();
    runtime.stop_on(told);
    let served = open_shop(&runtime, place, &options, post, listener).await;
    stop.cancel();
    runtime.close().await;
    servers.stop().await?;
    served.map(|()| ExitCode::SUCCESS)
}

/// Whether the sample data is wanted.
fn samples(place: &Place, options: &RunOptions) -> bool {
    options.sample_data || place.database_url.is_none()
}

async fn open_shop(
    runtime: &Runtime,
    place: &Place,
    options: &RunOptions,
    post: Post,
    listener: TcpListener,
) -> Result<()> {
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
        workers.extend(Channel::ALL.map(|channel| lease_of(channel).to_owned()));
        workers.extend(
            runtime
                .consumers()
                .iter()
                .map(|consumer| consumer.name().to_owned()),
        );
        workers.extend(MIRRORS.map(str::to_owned));
    }
    let app = Arc::new(app(runtime, passwords).await?);
    let sockets = TaskTracker::new();
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
        },
    );
    announce(listener.local_addr()?, place, options, samples);
    serve(listener, router, runtime.stop.clone(), sockets)
        .await
        .context("the server failed")?;
    say("stopped");
    Ok(())
}

/// What the endpoint of a process needs.
///
/// # Errors
/// When the signing keys cannot be read.
pub async fn app(runtime: &Runtime, passwords: Passwords) -> Result<App> {
    let (store, progress, redis) = (&runtime.store, &runtime.progress, &runtime.redis);
    let pool = runtime.pool().clone();
    Ok(App {
        store: store.clone(),
        progress: Arc::clone(progress),
        cards: ProductCards::new(redis.clone(), pool.clone()),
        offers: Offers::spawn(store.clone(), Arc::clone(progress), runtime.stop.clone()),
        statuses: OrderStatuses::new(redis.clone(), pool.clone()),
        best_sellers: BestSellers::new(redis.clone(), pool.clone()),
        order_updates: Updates::spawn(store.clone(), Arc::clone(progress), runtime.stop.clone()),
        product_updates: Updates::spawn(store.clone(), Arc::clone(progress), runtime.stop.clone()),
        tokens: Tokens::open(&pool, runtime.clock.now()).await?,
        passwords,
        clock: Arc::clone(&runtime.clock),
        patience: kontor_api::app::PATIENCE,
        redis: redis.clone(),
    })
}

/// Says where everything is.
fn announce(address: SocketAddr, place: &Place, options: &RunOptions, samples: bool) {
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
