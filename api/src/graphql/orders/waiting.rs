//! What orders wait for: nothing is ever silently stuck.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, Description, Object, Result};
use chrono::Utc;
use kontor_domain::{self as domain, IdError, OrderId, OrderStatus};
use kontor_fulfilment::waiting::{self, Waiting};
use kontor_projections::orders::{Happening, OrderRow};

use super::Order;
use super::timeline::PendingStep;
use crate::graphql::access::{Permission, require, viewer};
use crate::graphql::connection::{Connection, Page};
use crate::graphql::error::{bad_user_input, internal};
use crate::graphql::reads::{app, orders, unreadable, waiting};
use crate::graphql::scalars::DateTime;

/// What an order waits for.
#[derive(Debug, Clone, Description)]
pub(crate) struct OrderPending(Arc<Waiting>);

impl OrderPending {
    pub(super) async fn of(ctx: &Context<'_>, order: &OrderRow) -> Result<Option<Self>> {
        let is_pending = order.status == OrderStatus::Pending.as_str();
        if order.payment_status.is_none() && !is_pending {
            return Ok(None);
        }
        let id: OrderId = order.id.parse().map_err(|error: IdError| internal(ctx, error))?;
        let noted = match order.payment_status {
            Some(_) => waiting(ctx, id).await?,
            None => None,
        };
        Ok(match noted {
            // Decided by now: the note of what it waited for is on its way out.
            Some(noted) if !is_pending && noted.step.is_unpaid() => None,
            Some(noted) => Some(Self(noted)),
            None => is_pending.then(|| Self(Arc::new(not_noted(id, order)))),
        })
    }
}

/// Before anybody noted it, an order waits for its products; and for a moment for whoever is to ask for its money.
fn not_noted(order_id: OrderId, order: &OrderRow) -> Waiting {
    let reserved = order
        .timeline
        .iter()
        .find(|entry| matches!(entry.what, Happening::Reserved));
    let (step, since) = match reserved {
        Some(entry) => (domain::PendingStep::Authorise, entry.at),
        None => (domain::PendingStep::Reserve, order.placed_at),
    };
    Waiting {
        order_id,
        step,
        since,
        attempts: 0,
        next_attempt_at: None,
        last_error: None,
    }
}

#[Object(use_type_description)]
impl OrderPending {
    /// What it waits for.
    async fn step(&self) -> PendingStep {
        self.0.step.into()
    }

    /// Since when.
    async fn since(&self) -> DateTime {
        DateTime(self.0.since)
    }

    /// How often it was tried.
    async fn attempts(&self) -> i32 {
        i32::try_from(self.0.attempts).unwrap_or(i32::MAX)
    }

    /// When it is tried next; null if that is not a question of time. An order that waits for `RESERVE` is answered by its products;
    /// any other that is not tried by itself any more waits for staff.
    async fn next_attempt_at(&self) -> Option<DateTime> {
        self.0.next_attempt_at.map(DateTime)
    }

    /// Why the last try came to nothing. For staff; null for customers.
    async fn last_error(&self, ctx: &Context<'_>) -> Option<&str> {
        let staff = Permission::OrderShip.held_by(viewer(ctx));
        self.0.last_error.as_deref().filter(|_| staff)
    }
}

/// Queries of orders that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingOrderQueries;

/// What a page of them is behind: since when an order has waited, and which.
type Key = (chrono::DateTime<Utc>, OrderId);

#[Object]
impl WaitingOrderQueries {
    /// Orders that wait, for whatever, and have waited for too long: oldest first; `pending` says for what. For staff; `FORBIDDEN` for
    /// customers. Answers with what is so at this moment, and so takes no `atLeast`. Needs `order:read-all`.
    async fn waiting_orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "For how many seconds they must have waited: from 0, otherwise `BAD_USER_INPUT`.")]
        longer_than: i32,
        #[graphql(
            desc = "How many at most: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 20
        )]
        first: i32,
        #[graphql(
            desc = "The cursor behind which the page begins; `BAD_USER_INPUT` if it is not one of this list."
        )]
        after: Option<String>,
    ) -> Result<Connection<Order>> {
        require(ctx, Permission::OrderReadAll)?;
        let seconds = u64::try_from(longer_than)
            .map_err(|_| bad_user_input(format!("longerThan: must not be negative, as {longer_than} is")))?;
        let page = Page::<Key>::new(Some(first), after.as_deref())?;
        let after = page.after.map(|(since, id)| (since, id.to_string()));
        let after = after.as_ref().map(|(since, id)| (*since, id.as_str()));
        let pool = app(ctx).store.pool();
        let waits = waiting::longer_than(pool, Duration::from_secs(seconds), after, page.limit()).await;
        let waits = waits.map_err(unreadable(ctx))?;
        let mut rows = orders(ctx, waits.iter().map(|(id, _)| *id)).await?;
        let found: Vec<_> = waits
            .into_iter()
            .filter_map(|(id, since)| Some((since, id, rows.remove(&id)?)))
            .collect();
        Ok(page.connection(
            found,
            |(since, id, _)| Some((*since, *id)),
            |(_, _, row)| Order(row),
        ))
    }
}
