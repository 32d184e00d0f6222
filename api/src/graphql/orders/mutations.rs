//! What customers and staff do to orders that are placed.

use async_graphql::{Context, Description, ID, Object, OutputType, Result};
use kontor_domain::order::MAX_ITEMS;
use kontor_domain::{
    Carrier, MoneyError, Order as Aggregate, OrderCommand, OrderError, OrderId, Quantity, ReturnLine,
    TrackingNumber,
};
use kontor_eventstore::CommandContext;
use kontor_projections::orders::Orders;
use kontor_projections::view::View;

use super::inputs::{CancelOrderInput, DeliverOrderInput, ReturnItemsInput, ShipOrderInput};
use super::place::PlaceOrderError;
use super::settle::{
    ConfirmPaymentError, GiveUpOrderError, RefundOrderError, RetryOrderError, SettleOrderByHandError,
};
use super::{Order, OrderAction};
use crate::graphql::access::{Permission, logged_in, require};
use crate::graphql::command::{Answer, OrderOutcome, Ready, Refuses, execute, expected};
use crate::graphql::error::internal;
use crate::graphql::input::{Check, INPUT, Refusal, refuse};
use crate::graphql::reads::{app, order, reach};
use crate::graphql::scalars::{CurrencyCode, Position};
use crate::graphql::user_errors::{
    InputProblem, InvalidInput, MoreThanDelivered, NothingPending, OrderActionNotAllowed, OrderHasNoPayment,
    OrderNotFound, RefundTooLarge, TooManyPieces, UnknownOrderItem, UserError, WrongCurrency, refusals,
};

refusals! {
    /// Why `cancelOrder` did nothing.
    CancelOrderError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderActionNotAllowed;
    /// Why `shipOrder` did nothing.
    ShipOrderError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderActionNotAllowed;
    /// Why `deliverOrder` did nothing.
    DeliverOrderError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderActionNotAllowed;
    /// Why `returnItems` did nothing.
    ReturnItemsError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderActionNotAllowed, UnknownOrderItem, MoreThanDelivered, RefundTooLarge, WrongCurrency;
}

impl Refuses for Aggregate {
    fn refusal(id: OrderId, error: &OrderError) -> Option<UserError> {
        let message = error.to_string();
        let items = || INPUT.field("items").path();
        let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Some(match *error {
            OrderError::NotFound => order_not_found(id.to_string().into()),
            OrderError::NotAllowed { status, .. } => {
                let allowed = OrderAction::all_in(status);
                OrderActionNotAllowed::new(message, INPUT.path(), status.into(), allowed).into()
            }
            OrderError::TooManyPieces { product_id } => {
                let product_id = product_id.to_string().into();
                TooManyPieces::new(message, items(), product_id, int(Quantity::MAX)).into()
            }
            OrderError::Money(MoneyError::CurrencyMismatch { expected, .. }) => {
                let path = INPUT.field("refund").field("currency").path();
                WrongCurrency::new(message, path, CurrencyCode(expected)).into()
            }
            OrderError::Money(MoneyError::OutOfRange) => {
                InvalidInput::new(message, items(), InputProblem::OutOfRange, None, None).into()
            }
            OrderError::Money(MoneyError::Negative) => {
                InvalidInput::new(message, items(), InputProblem::Negative, None, None).into()
            }
            OrderError::NoItems | OrderError::NothingReturned => {
                InvalidInput::of_length(0, 1, MAX_ITEMS, items()).into()
            }
            OrderError::TooManyItems { items: count } => {
                InvalidInput::of_length(count, 1, MAX_ITEMS, items()).into()
            }
            OrderError::UnknownLine { line } => UnknownOrderItem::new(message, items(), int(line)).into(),
            OrderError::MoreThanDelivered {
                line,
                requested,
                returnable,
            } => MoreThanDelivered::new(message, items(), int(line), int(requested), int(returnable)).into(),
            OrderError::RefundTooLarge { refundable, .. } => {
                RefundTooLarge::new(message, INPUT.field("refund").path(), refundable.into()).into()
            }
            OrderError::NoPayment => OrderHasNoPayment::new(message, INPUT.field("orderId").path()).into(),
            OrderError::NothingPending => NothingPending::new(message, INPUT.field("orderId").path()).into(),
            // No mutation sends what is refused so; and of what the gateway says, the customer is not to blame.
            OrderError::AlreadyPlaced
            | OrderError::NotPaid
            | OrderError::OtherPayment
            | OrderError::InconsistentPayment
            | OrderError::AuthorisedTooMuch { .. } => return None,
        })
    }
}

pub(super) fn order_not_found(id: ID) -> UserError {
    OrderNotFound::new("there is no such order", INPUT.field("orderId").path(), id).into()
}

/// The answer to a mutation of an order: either it was done, or `userErrors` says why not.
#[derive(Debug, Description)]
pub(crate) struct OrderPayload<E>(Answer<OrderId, E>);

#[Object(
    use_type_description,
    concrete(name = "PlaceOrderPayload", params(PlaceOrderError)),
    concrete(name = "CancelOrderPayload", params(CancelOrderError)),
    concrete(name = "ShipOrderPayload", params(ShipOrderError)),
    concrete(name = "DeliverOrderPayload", params(DeliverOrderError)),
    concrete(name = "ReturnItemsPayload", params(ReturnItemsError)),
    concrete(name = "ConfirmPaymentPayload", params(ConfirmPaymentError)),
    concrete(name = "RetryOrderPayload", params(RetryOrderError)),
    concrete(name = "GiveUpOrderPayload", params(GiveUpOrderError)),
    concrete(name = "SettleOrderByHandPayload", params(SettleOrderByHandError)),
    concrete(name = "RefundOrderPayload", params(RefundOrderError))
)]
impl<E: OutputType> OrderPayload<E> {
    /// The order, at least as new as `position`; null if the mutation was refused. Asking for it waits until the orders have
    /// caught up, usually some milliseconds, and answers `CONSISTENCY_TIMEOUT` here if that takes too long: the mutation was
    /// done all the same.
    async fn order(&self, ctx: &Context<'_>) -> Result<Option<Order>> {
        let Some((id, position)) = self.0.written else {
            return Ok(None);
        };
        reach(ctx, Orders::NAME, position).await?;
        Ok(order(ctx, id).await?.map(Order))
    }

    /// The order's id; null if the mutation was refused. Costs nothing.
    async fn order_id(&self) -> Option<ID> {
        self.0.written.map(|(id, _)| id.to_string().into())
    }

    /// Where the log stands behind this mutation: as `atLeast` of a query, it makes the answer include it. Null if the
    /// mutation was refused.
    async fn position(&self) -> Option<Position> {
        self.0.written.map(|(_, position)| Position(position))
    }

    /// Why nothing was done; empty if it was done.
    async fn user_errors(&self) -> &[E] {
        &self.0.errors
    }
}

impl<E> OrderPayload<E>
where
    E: TryFrom<UserError, Error = UserError>,
{
    pub(super) fn of(ctx: &Context<'_>, attempt: Result<OrderOutcome, Refusal>) -> Result<Self> {
        Answer::of(ctx, attempt).map(Self)
    }
}

/// Mutations of orders, but for the one that places them and those that are about money.
#[derive(Debug, Default)]
pub(crate) struct OrderMutations;

#[Object]
impl OrderMutations {
    /// Calls an order off and releases its stock, as long as it has not been shipped. For its customer and for staff; to other
    /// customers there is no such order. Done to a cancelled order, it changes nothing.
    async fn cancel_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which order, and why.")] input: CancelOrderInput,
    ) -> Result<OrderPayload<CancelOrderError>> {
        logged_in(ctx)?;
        OrderPayload::of(ctx, cancel(ctx, input).await)
    }

    /// Hands a confirmed order to a carrier; its pieces leave the stock. For staff. Done again with the same tracking number, it
    /// changes nothing. Needs `order:ship`.
    async fn ship_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which order, and how it travels.")] input: ShipOrderInput,
    ) -> Result<OrderPayload<ShipOrderError>> {
        require(ctx, Permission::OrderShip)?;
        OrderPayload::of(ctx, ship(ctx, input).await)
    }

    /// Notes that a shipped order arrived. For staff. Done to a delivered order, it changes nothing. Needs `order:ship`.
    async fn deliver_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which order.")] input: DeliverOrderInput,
    ) -> Result<OrderPayload<DeliverOrderError>> {
        require(ctx, Permission::OrderShip)?;
        OrderPayload::of(ctx, deliver(ctx, input).await)
    }

    /// Takes items of a delivered order back, refunds them, and puts them into stock again if they can be sold. For staff. Each
    /// new idempotency key takes items back once more. Needs `order:refund`.
    async fn return_items(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of which order, what comes back, and what is refunded.")] input: ReturnItemsInput,
    ) -> Result<OrderPayload<ReturnItemsError>> {
        require(ctx, Permission::OrderRefund)?;
        OrderPayload::of(ctx, return_items(ctx, input).await)
    }
}

pub(super) type Attempt = Result<OrderOutcome, Refusal>;

/// What every edit begins with.
macro_rules! begin {
    ($ctx:ident, $mutation:literal, $input:ident) => {{
        let mut check = Check::default();
        let context = check.context($ctx, $mutation, &$input, &$input.idempotency_key);
        let id: Option<OrderId> = check.id(INPUT.field("orderId"), &$input.order_id);
        let context: Option<CommandContext> =
            context.map(|context| context.expecting(expected($input.expected_version)));
        (check, id, context)
    }};
}

pub(super) use begin;

/// What every edit ends with: sends the command, or refuses.
pub(super) async fn send(
    ctx: &Context<'_>,
    check: Check,
    id: Option<OrderId>,
    context: Option<CommandContext>,
    key: String,
    command: Option<OrderCommand>,
) -> Attempt {
    match (id, context, command) {
        (Some(id), Some(context), Some(command)) if !check.failed() => {
            let ready = Ready::<Aggregate> {
                id,
                command,
                context,
                key,
            };
            execute(ctx, ready).await
        }
        _ => Err(check.refusal()),
    }
}

async fn cancel(ctx: &Context<'_>, input: CancelOrderInput) -> Attempt {
    let viewer = logged_in(ctx)?;
    let (mut check, id, context) = begin!(ctx, "cancelOrder", input);
    let reason = check.reason(&input.reason);
    if let Some(id) = id
        && !check.failed()
        && !Permission::OrderCancelAll.held_by(Some(viewer))
    {
        // Whose order it is never changes. Asked of what is about to take the command, not of a view that may be behind.
        let store = &app(ctx).store;
        let customer = store.recall::<Aggregate, _>(id, Aggregate::customer_id).await;
        if customer.map_err(|error| internal(ctx, error))? != Some(viewer.user_id) {
            return Err(refuse(order_not_found(input.order_id)));
        }
    }
    let command = reason.map(|reason| OrderCommand::Cancel { reason });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn ship(ctx: &Context<'_>, input: ShipOrderInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "shipOrder", input);
    let tracking_number: Option<TrackingNumber> =
        check.text(INPUT.field("trackingNumber"), &input.tracking_number);
    let carrier: Option<Option<Carrier>> = check.optional(INPUT.field("carrier"), input.carrier.as_deref());
    let command = tracking_number
        .zip(carrier)
        .map(|(tracking_number, carrier)| OrderCommand::Ship {
            tracking_number,
            carrier,
        });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn deliver(ctx: &Context<'_>, input: DeliverOrderInput) -> Attempt {
    let (check, id, context) = begin!(ctx, "deliverOrder", input);
    let command = Some(OrderCommand::Deliver);
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn return_items(ctx: &Context<'_>, input: ReturnItemsInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "returnItems", input);
    let at = INPUT.field("items");
    check.length(at, &input.items, 1, MAX_ITEMS);
    let mut lines = Vec::with_capacity(input.items.len().min(MAX_ITEMS));
    for (index, item) in input.items.iter().enumerate().take(MAX_ITEMS) {
        let at = at.index(index);
        let quantity = check.quantity(at.field("quantity"), item.quantity);
        let line = u32::try_from(item.item).ok();
        if line.is_none() {
            let message = "counts from 0";
            let path = at.field("item").path();
            check.problem(InvalidInput::new(
                message,
                path,
                InputProblem::OutOfRange,
                Some(0),
                None,
            ));
        }
        lines.extend(
            line.zip(quantity)
                .map(|(line, quantity)| ReturnLine { line, quantity }),
        );
    }
    let refund = check.amount(INPUT.field("refund"), input.refund);
    let reason = check.reason(&input.reason);
    let command = refund
        .zip(reason)
        .map(|(refund, reason)| OrderCommand::ReturnItems {
            lines,
            refund,
            reason,
            restock: input.restock,
        });
    send(ctx, check, id, context, input.idempotency_key, command).await
}
