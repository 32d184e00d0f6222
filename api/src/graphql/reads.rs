//! Reading the views: batched, as fresh as was asked for, and only what the viewer may see.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{Context, Error, Result};
use futures::{StreamExt, TryStreamExt};
use kontor_domain::{
    NextAction, Order as Aggregate, OrderId, Payment, Personal, PersonalData, ProductId, TextError, UserId,
};
use kontor_eventstore::Store;
use kontor_eventstore::read::ReadError;
use kontor_fulfilment::waiting::{self as wait_list, Waiting};
use kontor_projections::orders::OrderRow;
use kontor_projections::products::ProductRow;
use kontor_projections::shelf::Shelf;
use kontor_projections::users::UserRow;
use kontor_projections::{orders as order_view, users as user_view};
use sqlx::PgPool;

use super::access::Permission;
use super::error::{consistency_timeout, internal};
use super::scalars::Position;
use crate::app::App;
use crate::auth::Viewer;

/// The process, from the schema's data.
pub(crate) fn app<'c>(ctx: &Context<'c>) -> &'c Arc<App> {
    ctx.data_unchecked::<Arc<App>>()
}

/// How long a loader waits for further keys: as long as it takes to get going. All that one request wants is there by then,
/// and so is what others want while the house is busy.
const GATHER: Duration = Duration::ZERO;

/// Rows by id. One per process and without a cache, so that requests that come together are read together and nobody is
/// told old news.
pub(crate) struct Loaders {
    products: DataLoader<Products>,
    orders: DataLoader<Orders>,
    users: DataLoader<Users>,
    waits: DataLoader<Waits>,
    next_actions: DataLoader<NextActions>,
}

struct Products(Shelf);
struct Orders(PgPool);
struct Users(PgPool);
struct Waits(PgPool);
struct NextActions(Store);

/// Orders looked at side by side: they are in memory, as a rule, because their customer is at it.
const LOOKED_AT: usize = 16;

impl Loaders {
    pub(crate) fn new(app: &App) -> Self {
        let pool = app.store.pool();
        Self {
            products: DataLoader::new(Products(app.shelf.clone()), tokio::spawn).delay(GATHER),
            orders: DataLoader::new(Orders(pool.clone()), tokio::spawn).delay(GATHER),
            users: DataLoader::new(Users(pool.clone()), tokio::spawn).delay(GATHER),
            waits: DataLoader::new(Waits(pool.clone()), tokio::spawn).delay(GATHER),
            next_actions: DataLoader::new(NextActions(app.store.clone()), tokio::spawn).delay(GATHER),
        }
    }
}

fn texts<I: ToString>(ids: &[I]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Rows by their typed id; a row's id always parses.
fn by_id<I, R>(rows: impl IntoIterator<Item = R>, id: impl Fn(&R) -> &str) -> HashMap<I, Arc<R>>
where
    I: std::str::FromStr + Eq + std::hash::Hash,
{
    rows.into_iter()
        .filter_map(|row| Some((id(&row).parse().ok()?, Arc::new(row))))
        .collect()
}

impl Loader<ProductId> for Products {
    type Value = Arc<ProductRow>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, ids: &[ProductId]) -> Result<HashMap<ProductId, Arc<ProductRow>>, Arc<sqlx::Error>> {
        self.0.read(ids).await.map_err(Arc::new)
    }
}

impl Loader<OrderId> for Orders {
    type Value = Arc<OrderRow>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Arc<OrderRow>>, Arc<sqlx::Error>> {
        let rows = order_view::by_ids(&self.0, &texts(ids)).await.map_err(Arc::new)?;
        Ok(by_id(rows, |row| &row.id))
    }
}

impl Loader<UserId> for Users {
    type Value = Arc<UserRow>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, ids: &[UserId]) -> Result<HashMap<UserId, Arc<UserRow>>, Arc<sqlx::Error>> {
        let rows = user_view::by_ids(&self.0, &texts(ids)).await.map_err(Arc::new)?;
        Ok(by_id(rows, |row| &row.id))
    }
}

impl Loader<OrderId> for Waits {
    type Value = Arc<Waiting>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Arc<Waiting>>, Arc<sqlx::Error>> {
        let rows = wait_list::by_ids(&self.0, &texts(ids)).await.map_err(Arc::new)?;
        Ok(rows
            .into_iter()
            .map(|row| (row.order_id, Arc::new(row)))
            .collect())
    }
}

/// Of an order, at least as new as that version.
impl Loader<(OrderId, u64)> for NextActions {
    type Value = Arc<NextAction>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[(OrderId, u64)],
    ) -> Result<HashMap<(OrderId, u64), Arc<NextAction>>, Arc<ReadError>> {
        let wanted = |order: &Aggregate, _| order.payment().and_then(Payment::next_action).cloned();
        let found: Vec<_> = futures::stream::iter(keys.iter().copied())
            .map(|key| async move { Ok((key, self.0.look(key.0, key.1, wanted).await?)) })
            .buffer_unordered(LOOKED_AT)
            .try_collect()
            .await
            .map_err(Arc::new)?;
        let there = found.into_iter();
        Ok(there.filter_map(|(key, it)| Some((key, Arc::new(it?)))).collect())
    }
}

/// The card of a product: the hot path.
pub(crate) async fn product(ctx: &Context<'_>, id: ProductId) -> Result<Option<Arc<ProductRow>>> {
    if let Some(card) = app(ctx).shelf.look(id) {
        return Ok(Some(card));
    }
    let loaders = ctx.data_unchecked::<Arc<Loaders>>();
    loaders
        .products
        .load_one(id)
        .await
        .map_err(|error| internal(ctx, error))
}

/// The cards of several products.
pub(crate) async fn products(
    ctx: &Context<'_>,
    ids: impl IntoIterator<Item = ProductId>,
) -> Result<HashMap<ProductId, Arc<ProductRow>>> {
    let shelf = &app(ctx).shelf;
    let (mut cards, mut missing) = (HashMap::new(), Vec::new());
    for id in ids {
        match shelf.look(id) {
            Some(card) => drop(cards.insert(id, card)),
            None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        let loaders = ctx.data_unchecked::<Arc<Loaders>>();
        let read = loaders.products.load_many(missing).await;
        cards.extend(read.map_err(|error| internal(ctx, error))?);
    }
    Ok(cards)
}

/// An order, whoever's it is. Resolvers want [`visible_order`].
pub(crate) async fn order(ctx: &Context<'_>, id: OrderId) -> Result<Option<Arc<OrderRow>>> {
    let loaders = ctx.data_unchecked::<Arc<Loaders>>();
    loaders
        .orders
        .load_one(id)
        .await
        .map_err(|error| internal(ctx, error))
}

/// Several orders, whoever's they are.
pub(crate) async fn orders(
    ctx: &Context<'_>,
    ids: impl IntoIterator<Item = OrderId>,
) -> Result<HashMap<OrderId, Arc<OrderRow>>> {
    let loaders = ctx.data_unchecked::<Arc<Loaders>>();
    loaders
        .orders
        .load_many(ids)
        .await
        .map_err(|error| internal(ctx, error))
}

/// What an order waits for that somebody has to be asked for.
pub(crate) async fn waiting(ctx: &Context<'_>, id: OrderId) -> Result<Option<Arc<Waiting>>> {
    let loaders = ctx.data_unchecked::<Arc<Loaders>>();
    loaders
        .waits
        .load_one(id)
        .await
        .map_err(|error| internal(ctx, error))
}

/// What the customer of an order must do for its payment: a secret, and so in no view. `version` is one that has been seen.
pub(crate) async fn next_action(
    ctx: &Context<'_>,
    id: OrderId,
    version: u64,
) -> Result<Option<Arc<NextAction>>> {
    let loaders = ctx.data_unchecked::<Arc<Loaders>>();
    loaders
        .next_actions
        .load_one((id, version))
        .await
        .map_err(|error| internal(ctx, error))
}

/// A user, whoever it is. Resolvers want [`visible_user`], unless the user belongs to an order the viewer may see.
pub(crate) async fn user(ctx: &Context<'_>, id: UserId) -> Result<Option<Arc<UserRow>>> {
    let loaders = ctx.data_unchecked::<Arc<Loaders>>();
    loaders
        .users
        .load_one(id)
        .await
        .map_err(|error| internal(ctx, error))
}

/// A personal value in the clear, for somebody who may see it; `None` if the person was erased. What is asked for at the same time
/// needs one query at most.
pub(crate) async fn revealed<T>(ctx: &Context<'_>, value: &Personal<T>) -> Result<Option<T>>
where
    T: PersonalData + Clone,
{
    let revealed = app(ctx).store.keyring().reveal(value).await;
    revealed.map_err(|error| internal(ctx, error))
}

/// [`revealed`] for a column of text.
pub(crate) async fn stored<T>(ctx: &Context<'_>, column: Option<&str>) -> Result<Option<String>>
where
    T: PersonalData + Clone + AsRef<str> + TryFrom<String, Error = TextError>,
{
    let Some(column) = column else { return Ok(None) };
    let value = Personal::<T>::from_stored(column).map_err(|error| internal(ctx, error))?;
    let value = revealed(ctx, &value).await?;
    Ok(value.map(|value| value.as_ref().to_owned()))
}

/// Whether the viewer may see an order of this customer.
pub(crate) fn sees_order_of(viewer: &Viewer, customer_id: &str) -> bool {
    Permission::OrderReadAll.held_by(Some(viewer))
        || customer_id
            .parse::<UserId>()
            .is_ok_and(|customer| customer == viewer.user_id)
}

/// An order the viewer may see. What is not theirs is not there.
pub(crate) async fn visible_order(
    ctx: &Context<'_>,
    viewer: &Viewer,
    id: OrderId,
) -> Result<Option<Arc<OrderRow>>> {
    let row = order(ctx, id).await?;
    Ok(row.filter(|row| sees_order_of(viewer, &row.customer_id)))
}

/// A user the viewer may see: themselves; staff see all.
pub(crate) async fn visible_user(
    ctx: &Context<'_>,
    viewer: &Viewer,
    id: UserId,
) -> Result<Option<Arc<UserRow>>> {
    if id != viewer.user_id && !Permission::UserReadAll.held_by(Some(viewer)) {
        return Ok(None);
    }
    user(ctx, id).await
}

/// Waits until a view has reached the position asked for (V6); `CONSISTENCY_TIMEOUT` if that takes too long.
pub(crate) async fn at_least(ctx: &Context<'_>, view: &str, position: Option<Position>) -> Result<()> {
    match position {
        Some(Position(position)) => reach(ctx, view, position).await,
        None => Ok(()),
    }
}

/// [`at_least`] for a position that is there.
pub(crate) async fn reach(ctx: &Context<'_>, view: &str, position: u64) -> Result<()> {
    let app = app(ctx);
    app.progress
        .reach(view, position, app.patience)
        .await
        .map_err(|not_yet| consistency_timeout(&not_yet))
}

/// Looks something up that must not be missed because it is only just written: if it is not in the view, waits until the
/// view has come to where the log is now, and looks again.
pub(crate) async fn settled<T, F>(ctx: &Context<'_>, view: &str, look: impl Fn() -> F) -> Result<Option<T>>
where
    F: Future<Output = Result<Option<T>>>,
{
    if let Some(found) = look().await? {
        return Ok(Some(found));
    }
    let head = *app(ctx).store.head().borrow();
    reach(ctx, view, head).await?;
    look().await
}

/// A database error as a top-level one.
pub(crate) fn unreadable<'a>(ctx: &'a Context<'_>) -> impl Fn(sqlx::Error) -> Error + 'a {
    move |error| internal(ctx, error)
}
