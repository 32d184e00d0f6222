//! Sends what the plan says, and leaves out what the log has already.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kontor_domain::{
    Category, Currency, Description, Email, Money, PersonName, Personal, Product, ProductCommand,
    ProductEvent, ProductId, ProductName, Quantity, Reason, Sku, User, UserCommand, UserId,
};
use kontor_eventstore::read::read_stream;
use kontor_eventstore::{Answer, Body, ExecuteError};
use kontor_projections::views;
use tokio::sync::SetOnce;

use super::Options;
use super::catalogue::Article;
use super::confirmations::Confirmations;
use super::file::Entry;
use super::jobs::{Counter, Known, STOPPED};
use super::names::{RECEIPT, context, create_key, product_id, receive_key, return_key, user_id};
use super::plan::{Buyer, Fate, Job, Plan};
use super::refusal::Refusal;
use crate::runtime::Runtime;

/// Keys asked for at a time.
const KEYS: usize = 5_000;
/// How long a view may stand still before nobody is thought to work on it.
const STANDSTILL: Duration = Duration::from_secs(60);

/// What the shop took.
#[derive(Debug)]
pub(super) struct Taken {
    /// Lines that the plan takes and the shop did not.
    pub(super) refused: BTreeMap<usize, Refusal>,
    /// Commands that earlier runs had sent.
    pub(super) repeated: usize,
    /// From the first command until the views show everything.
    pub(super) elapsed: Duration,
}

/// Carries the plan out and waits until the views show it.
pub(super) async fn run(
    runtime: &Runtime,
    entries: &[Entry],
    plan: &Plan,
    options: &Options,
) -> Result<Taken> {
    let started = Instant::now();
    let currency = "GBP".parse()?;
    let answered = answered(runtime, entries, plan).await?;
    let repeated = answered.len();
    let mut counter = Counter {
        runtime,
        entries,
        plan,
        products: Vec::new(),
        users: Vec::new(),
        answered,
        confirmations: Confirmations::new(runtime.store.clone()),
        currency,
        orders: plan.sales.iter().map(|_| SetOnce::new()).collect(),
    };
    let bar = line_bar(entries.len());
    bar.set_message("customers and products");
    counter.users = stream::iter(&plan.buyers)
        .map(|buyer| register(&counter, buyer))
        .buffered(options.in_flight)
        .try_collect()
        .await?;
    counter.products = stream::iter(&plan.articles)
        .map(|article| stock(&counter, article, currency))
        .buffered(options.in_flight)
        .try_collect()
        .await?;
    bar.set_message("invoices");
    bar.inc(
        plan.fates
            .iter()
            .filter(|fate| matches!(fate, Fate::Refused(_)))
            .count() as u64,
    );
    let mut refused = BTreeMap::new();
    let counter = &counter;
    let jobs = stream::iter(&plan.jobs)
        .map(|job| async move { Ok::<_, anyhow::Error>((*job, counter.carry_out(*job).await?)) })
        .buffer_unordered(options.in_flight)
        .try_for_each(|(job, lines)| {
            refused.extend(lines);
            bar.inc(lines_of(plan, job));
            futures::future::ready(Ok(()))
        });
    tokio::select! {
        done = jobs => done?,
        ended = counter.confirmations.follow() => match ended? {},
    }
    bar.set_message("waiting for the views");
    settle(runtime).await?;
    bar.finish_and_clear();
    Ok(Taken {
        refused,
        repeated,
        elapsed: started.elapsed(),
    })
}

/// What of the plan's keys the log has answered, however many runs ago.
async fn answered(runtime: &Runtime, entries: &[Entry], plan: &Plan) -> Result<HashMap<String, Answer>> {
    let buyers = plan.buyers.iter().map(Buyer::key);
    let articles = plan.articles.iter().filter(|article| article.used);
    let articles = articles.flat_map(|it| [create_key(&it.sku), receive_key(&it.sku, it.pieces)]);
    let sales = plan
        .sales
        .iter()
        .flat_map(|it| [it.place_key(entries), it.key("ship"), it.key("deliver")]);
    let corrections = plan
        .corrections
        .iter()
        .filter_map(|it| Some(it.key(entries[it.line].line()?, entries)));
    let returns = plan.cancellations.iter().flat_map(|by| {
        by.returns
            .iter()
            .map(|it| return_key(&by.invoice, by.time, &plan.sales[it.sale], &it.pieces))
    });
    let keys = buyers
        .chain(articles)
        .chain(sales)
        .chain(corrections)
        .chain(returns);
    let keys: Vec<String> = keys.map(|key| key.key).collect();
    let mut answered = HashMap::new();
    for keys in keys.chunks(KEYS) {
        answered.extend(runtime.store.answered(keys).await?);
    }
    Ok(answered)
}

/// A buyer's account: theirs, or the one that has their e-mail address already.
async fn register(counter: &Counter<'_>, buyer: &Buyer) -> Result<UserId> {
    let key = buyer.key();
    if let Known::Yes(answer) = counter.known(&key) {
        return Ok(answer.aggregate_id.parse()?);
    }
    let command = UserCommand::Register {
        email: Personal::new(Email::new(buyer.email())?),
        name: Personal::new(PersonName::new(buyer.display_name())?),
        phone: None,
        password_hash: None,
    };
    let context = context(buyer.since, "customers", key);
    match counter
        .runtime
        .store
        .create::<User>(user_id(buyer), command, context)
        .await
    {
        Ok(outcome) => Ok(outcome.id),
        Err(ExecuteError::ClaimTaken { holder, .. }) => Ok(holder.parse()?),
        Err(error) => Err(error).context("a customer could not be registered"),
    }
}

/// An article's product, or the one that has its SKU already, with the goods it needs. None if nothing of it was taken.
async fn stock(counter: &Counter<'_>, article: &Article, currency: Currency) -> Result<Option<ProductId>> {
    if !article.used {
        return Ok(None);
    }
    let key = create_key(&article.sku);
    let (id, is_new) = match counter.known(&key) {
        Known::Yes(answer) => (answer.aggregate_id.parse()?, false),
        Known::No | Known::Other => {
            let command = ProductCommand::Create {
                sku: Sku::new(&*article.sku)?,
                name: ProductName::new(article.name.as_str())?,
                description: Description::new("")?,
                category: Category::new(article.category)?,
                price: Money::new(article.price, currency)?,
            };
            let context = context(article.since, "products", key);
            let id = product_id(article.since, &article.sku);
            match counter
                .runtime
                .store
                .create::<Product>(id, command, context)
                .await
            {
                Ok(outcome) => (outcome.id, !outcome.repeated),
                Err(ExecuteError::ClaimTaken { holder, .. }) => (holder.parse()?, false),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("stock code {} could not be created", article.sku));
                }
            }
        }
    };
    if article.pieces > 0
        && !matches!(
            counter.known(&receive_key(&article.sku, article.pieces)),
            Known::Yes(_)
        )
    {
        receive(counter, article, id, is_new).await?;
    }
    Ok(Some(id))
}

/// Books in what the article needs, less what imports have booked in before: another file may have needed fewer.
async fn receive(counter: &Counter<'_>, article: &Article, id: ProductId, is_new: bool) -> Result<()> {
    let mut received = if is_new {
        0
    } else {
        received(counter.runtime, id).await?
    };
    while received < article.pieces {
        let missing = (article.pieces - received).min(u64::from(Quantity::MAX));
        received += missing;
        let command = ProductCommand::ReceiveStock {
            quantity: Quantity::new(u32::try_from(missing)?)?,
            reference: Some(Reason::new(RECEIPT)?),
        };
        let context = context(article.since, "products", receive_key(&article.sku, received));
        if let Err(why) = counter.send::<Product>(id, command, context, false).await? {
            bail!(
                "the goods of stock code {} could not be booked in: {why}",
                article.sku
            );
        }
    }
    Ok(())
}

/// Pieces that imports have booked in so far.
async fn received(runtime: &Runtime, id: ProductId) -> Result<u64> {
    let events = read_stream(runtime.pool(), "product", &id.to_string()).await?;
    let pieces = events.iter().filter_map(|event| match &event.body {
        Body::Product(
            _,
            ProductEvent::StockReceived {
                quantity,
                reference: Some(reference),
                ..
            },
        ) if reference.as_str() == RECEIPT => Some(u64::from(*quantity)),
        _ => None,
    });
    Ok(pieces.sum())
}

/// Waits until the order process has answered everything, and the views show that.
async fn settle(runtime: &Runtime) -> Result<()> {
    reach(runtime, "order_process").await?;
    for view in views() {
        reach(runtime, view.name()).await?;
    }
    Ok(())
}

/// Waits until a consumer has come to where the log ends now, as long as it moves at all.
async fn reach(runtime: &Runtime, consumer: &str) -> Result<()> {
    let head = kontor_eventstore::read::head(runtime.pool()).await?;
    let mut position = runtime.progress.watch(consumer);
    while *position.borrow_and_update() < head {
        tokio::select! {
            moved = tokio::time::timeout(STANDSTILL, position.changed()) => {
                moved.with_context(|| format!("{consumer} stands still; look at `kontor status`"))??;
            }
            () = runtime.stop.cancelled() => bail!(STOPPED),
        }
    }
    Ok(())
}

/// Lines that are done when a job is.
fn lines_of(plan: &Plan, job: Job) -> u64 {
    let lines = match job {
        Job::Sale(sale) => plan.sales[sale].items.len(),
        Job::Correction(_) => 1,
        Job::Cancellation(cancellation) => plan.cancellations[cancellation].lines(),
    };
    lines as u64
}

/// Lines, lines per second, time left. On standard error, and only if that is a terminal.
fn line_bar(lines: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(lines as u64), ProgressDrawTarget::stderr());
    let style = "{bar:32} {human_pos}/{human_len} lines · {per_sec} · {eta} left · {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
