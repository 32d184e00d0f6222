//! How the shop itself is doing.

use async_graphql::{Context, Object, Result, SimpleObject};
use kontor_eventstore::checkpoints;

use super::access::{Permission, require};
use super::reads::{app, unreadable};
use super::scalars::{Count, Position};

/// The log of everything that happened, and how far the views are behind it.
#[derive(Debug, SimpleObject)]
pub(crate) struct LogState {
    /// Where the log ends: the position of the last event that was written.
    head: Position,
    /// Everything that follows the log, by name: views, and the processes that react to events.
    projections: Vec<Projection>,
}

/// Something that follows the log: a view, or a process that reacts to events.
#[derive(Debug, SimpleObject)]
pub(crate) struct Projection {
    /// What it is called, such as `orders`.
    name: String,
    /// The last position it has applied.
    position: Position,
    /// How many events it is behind the log's head.
    lag: Count,
    /// How many aggregates it has set aside because an event of theirs could not be applied. They wait for an operator;
    /// everything else goes on.
    parked_aggregates: Count,
}

/// Queries of operators.
#[derive(Debug, Default)]
pub(crate) struct OperationQueries;

#[Object]
impl OperationQueries {
    /// Where the log ends and how far each projection has come. For staff; `FORBIDDEN` for customers. Needs `log:read`.
    async fn log(&self, ctx: &Context<'_>) -> Result<LogState> {
        require(ctx, Permission::LogRead)?;
        let store = &app(ctx).store;
        let checkpoints = checkpoints(store.pool()).await.map_err(unreadable(ctx))?;
        // Read last: events that come in between make a lag, never the opposite of one.
        let head = *store.head().borrow();
        let projections = checkpoints
            .into_iter()
            .map(|checkpoint| Projection {
                name: checkpoint.consumer,
                position: Position(checkpoint.position),
                lag: head.saturating_sub(checkpoint.position).into(),
                parked_aggregates: checkpoint.parked.into(),
            })
            .collect();
        Ok(LogState {
            head: Position(head),
            projections,
        })
    }
}
