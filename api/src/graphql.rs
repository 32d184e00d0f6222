//! The GraphQL schema: what clients see of Kontor.
//!
//! GraphQL types are newtypes over the rows of the views, and mutations are commands with their refusals spelt out. Nothing
//! here decides anything, and nothing but [`audit`] reads the log: resolvers ask the views through [`reads`], and [`access`] says
//! who may.

#![expect(
    clippy::unused_async,
    reason = "async-graphql takes every resolver as an async function, also those that only look at a row"
)]

use std::sync::Arc;

use async_graphql::{ID, MergedObject, MergedSubscription, Schema, SchemaBuilder, ValidationMode};

use crate::app::App;
use crate::timed::Timed;

mod access;
mod audit;
mod command;
mod connection;
mod error;
mod input;
mod node;
mod operations;
mod orders;
mod payment_gateway;
mod products;
mod reads;
mod sales;
mod scalars;
mod stream;
mod user_errors;
mod users;

/// Milliseconds that a root field may take: what is looked up, what is added up, and what is changed (some hash a password
/// first, and those wait for one another).
const LOOK: u64 = 8_000;
const REPORT: u64 = 15_000;
const CHANGE: u64 = 20_000;

/// What can be read. Every query but `audit`, `log`, `paymentGateway` and `waitingOrders` takes `atLeast`, the `position` that a mutation
/// answered with, and then answers with nothing older than that.
#[derive(Debug, Default, MergedObject)]
pub struct Query(
    Timed<products::ProductQueries, LOOK>,
    Timed<orders::OrderQueries, LOOK>,
    Timed<orders::WaitingOrderQueries, LOOK>,
    Timed<users::UserQueries, LOOK>,
    Timed<users::SessionQueries, LOOK>,
    Timed<users::ExportQueries, REPORT>,
    Timed<sales::SalesQueries, REPORT>,
    Timed<operations::OperationQueries, LOOK>,
    Timed<audit::AuditQueries, LOOK>,
    Timed<payment_gateway::PaymentGatewayQuery, LOOK>,
    Timed<node::NodeQueries, LOOK>,
);

/// What can be done. Every mutation takes one `input` and answers with its own payload: what was changed, the `position` in the
/// log, and `userErrors` if it was refused; a refused mutation has changed nothing. The same `idempotencyKey` with the same input
/// gives the same answer, for ever, and does nothing more: so a request without an answer can safely be sent again. (What
/// begins, renews or ends sessions or asks for a mail is not in the log, and has neither key nor position; what proves itself by a token
/// that is good once needs no key.)
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    Timed<users::AccountMutations, CHANGE>,
    Timed<users::LogInMutation, CHANGE>,
    Timed<users::SessionMutations, CHANGE>,
    Timed<users::RecoveryMutations, CHANGE>,
    Timed<users::UserMutations, CHANGE>,
    Timed<users::PaymentMethodMutations, CHANGE>,
    Timed<users::ErasureMutations, CHANGE>,
    Timed<products::ProductMutations, CHANGE>,
    Timed<orders::PlaceOrderMutation, CHANGE>,
    Timed<orders::OrderMutations, CHANGE>,
    Timed<orders::PaymentMutations, CHANGE>,
);

/// What can be followed, over WebSocket (graphql-transport-ws) or Server-Sent Events. Each update carries a `cursor`; a client
/// that comes back with its last one as `after` gets everything it missed, once, in order.
#[derive(Debug, Default, MergedSubscription)]
pub struct Subscription(orders::OrderSubscriptions, products::ProductSubscriptions);

/// The schema.
pub type KontorSchema = Schema<Query, Mutation, Subscription>;

fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation::default(), Subscription::default())
        // Nothing returns these interfaces by themselves, so they have to be named.
        .register_output_type::<user_errors::UserError>()
        // GraphQL's own scalar, which async-graphql leaves without a word.
        .override_input_type_description::<ID>(
            "Names something, across all types: a prefix that says what it is (`prd_`, `ord_`, `usr_`) and a ULID. \
             Opaque: compare it, keep it, send it back.",
        )
}

/// The schema over a running process, and the same again for documents that are known to be valid.
#[must_use]
pub fn schemas(app: &Arc<App>) -> [KontorSchema; 2] {
    let loaders = Arc::new(reads::Loaders::new(app));
    [ValidationMode::Strict, ValidationMode::Fast].map(|validation| {
        builder()
            .validation_mode(validation)
            .data(Arc::clone(&loaders))
            .data(Arc::clone(app))
            .finish()
    })
}

/// The schema in the schema definition language, for `schema.graphql`.
#[must_use]
pub fn sdl() -> String {
    builder().finish().sdl()
}

#[cfg(test)]
mod tests;
