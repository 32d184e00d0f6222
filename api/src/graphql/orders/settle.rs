//! What customers and staff do about the payment of an order, and about an order that waits.

use async_graphql::{Context, Object, Result};
use kontor_domain::{Order as Aggregate, OrderCommand, OrderId, Payment, PaymentStatus};
use kontor_eventstore::{CommandContext, read};

use super::inputs::{
    ConfirmPaymentInput, GiveUpOrderInput, RefundOrderInput, RetryOrderInput, SettleOrderByHandInput,
};
use super::mutations::{Attempt, OrderPayload, begin, order_not_found, send};
use crate::graphql::access::{Permission, logged_in, require};
use crate::graphql::command::{OrderOutcome, Ready, execute, expected};
use crate::graphql::error::internal;
use crate::graphql::input::{Check, INPUT, Refusal, refuse};
use crate::graphql::reads::app;
use crate::graphql::user_errors::{NothingToConfirm, PaymentGatewayUnavailable, UserError, refusals};

refusals! {
    /// Why `confirmPayment` did nothing.
    ConfirmPaymentError: InvalidInput, IdempotencyKeyReused, Contended, OrderNotFound, NothingToConfirm,
        PaymentGatewayUnavailable;
    /// Why `retryOrder` did nothing.
    RetryOrderError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound, NothingPending;
    /// Why `giveUpOrder` did nothing.
    GiveUpOrderError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderActionNotAllowed;
    /// Why `settleOrderByHand` did nothing.
    SettleOrderByHandError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderHasNoPayment;
    /// Why `refundOrder` did nothing.
    RefundOrderError: InvalidInput, IdempotencyKeyReused, VersionConflict, Contended, OrderNotFound,
        OrderActionNotAllowed, OrderHasNoPayment, RefundTooLarge, WrongCurrency;
}

/// Mutations of orders that are about money, or about waiting for it.
#[derive(Debug, Default)]
pub(crate) struct PaymentMutations;

#[Object]
impl PaymentMutations {
    /// Asks the payment gateway how an order's payment is, once the customer has done what `payment.nextAction` told them to. For
    /// its customer and for staff; to other customers there is no such order. The order shows what came of it: it is `CONFIRMED`, or
    /// `REJECTED`, or waits still. Without this call the shop learns it too, only later.
    async fn confirm_payment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of which order.")] input: ConfirmPaymentInput,
    ) -> Result<OrderPayload<ConfirmPaymentError>> {
        logged_in(ctx)?;
        OrderPayload::of(ctx, confirm(ctx, input).await)
    }

    /// Has what an order waits for tried again at once; `pending` says what that is. For staff. Each new idempotency key tries
    /// once more. Needs `order:ship`.
    async fn retry_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which order.")] input: RetryOrderInput,
    ) -> Result<OrderPayload<RetryOrderError>> {
        require(ctx, Permission::OrderShip)?;
        OrderPayload::of(ctx, retry(ctx, input).await)
    }

    /// Rejects an order that waits for its stock or its money: what was reserved is released, what was held is let go. For staff.
    /// Done to a rejected order, it changes nothing. Needs `order:ship`.
    async fn give_up_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which order, and why.")] input: GiveUpOrderInput,
    ) -> Result<OrderPayload<GiveUpOrderError>> {
        require(ctx, Permission::OrderShip)?;
        OrderPayload::of(ctx, give_up(ctx, input).await)
    }

    /// Says that what is due of an order's payment was done in another way, such as on the payment gateway's own pages: the shop
    /// does not ask for it any more. For staff. Where nothing is due, and done again for the same reason, it changes nothing.
    /// Needs `order:refund`.
    async fn settle_order_by_hand(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of which order, and how it was done.")] input: SettleOrderByHandInput,
    ) -> Result<OrderPayload<SettleOrderByHandError>> {
        require(ctx, Permission::OrderRefund)?;
        OrderPayload::of(ctx, settle(ctx, input).await)
    }

    /// Pays money back without items coming back. For staff. Each new idempotency key pays back once more; it goes to the customer
    /// as soon as it was taken from them. Needs `order:refund`.
    async fn refund_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of which order, how much, and why.")] input: RefundOrderInput,
    ) -> Result<OrderPayload<RefundOrderError>> {
        require(ctx, Permission::OrderRefund)?;
        OrderPayload::of(ctx, refund(ctx, input).await)
    }
}

async fn confirm(ctx: &Context<'_>, input: ConfirmPaymentInput) -> Attempt {
    let viewer = logged_in(ctx)?;
    let mut check = Check::default();
    let context = check.context(ctx, "confirmPayment", &input, &input.idempotency_key);
    let id: Option<OrderId> = check.id(INPUT.field("orderId"), &input.order_id);
    let (Some(context), Some(id)) = (context, id) else {
        return Err(check.refusal());
    };
    let (store, payments) = (&app(ctx).store, &app(ctx).payments);
    // As the log has it: another process may have heard of the payment meanwhile.
    let known = store.inspect::<Aggregate, _>(id, |order, version| {
        let payment = order.payment();
        let reference = payment.and_then(Payment::reference).cloned();
        (
            order.customer_id(),
            reference,
            payment.and_then(Payment::status),
            version,
        )
    });
    let (customer, reference, status, version) = known.await.map_err(|error| internal(ctx, error))?;
    if customer.is_none()
        || (customer != Some(viewer.user_id) && !Permission::OrderShip.held_by(Some(viewer)))
    {
        return Err(refuse(order_not_found(input.order_id)));
    }
    let Some(reference) = reference else {
        let message = "there is nothing to confirm (yet): see what the order waits for";
        return Err(refuse(NothingToConfirm::new(
            message,
            INPUT.field("orderId").path(),
        )));
    };
    if status != Some(PaymentStatus::RequiresAction) {
        // Somebody else told the order first, or this is a repeat: the order shows what came of it.
        let head = read::head(store.pool())
            .await
            .map_err(|error| internal(ctx, error))?;
        return Ok(OrderOutcome {
            id,
            version,
            position: head,
            events: Vec::new(),
            repeated: false,
        });
    }
    let payment = match payments.ask_about(&reference).await {
        Ok(payment) => payment,
        Err(error) if error.is_transient() => {
            let message = "the payment gateway gives no answer now; send it again";
            return Err(refuse(PaymentGatewayUnavailable::new(message, INPUT.path())));
        }
        Err(error) => return Err(internal(ctx, error).into()),
    };
    let ready = Ready::<Aggregate> {
        id,
        command: OrderCommand::ObservePayment { payment },
        context,
        key: input.idempotency_key,
    };
    execute(ctx, ready).await
}

async fn retry(ctx: &Context<'_>, input: RetryOrderInput) -> Attempt {
    let (check, id, context) = begin!(ctx, "retryOrder", input);
    let capture = app(ctx).payments.terms().capture;
    let command = Some(OrderCommand::Retry { capture });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn give_up(ctx: &Context<'_>, input: GiveUpOrderInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "giveUpOrder", input);
    let reason = check.reason(&input.reason);
    let command = reason.map(|reason| OrderCommand::GiveUp { reason });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn settle(ctx: &Context<'_>, input: SettleOrderByHandInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "settleOrderByHand", input);
    let capture = app(ctx).payments.terms().capture;
    let reason = check.reason(&input.reason);
    let command = reason.map(|reason| OrderCommand::SettleByHand { capture, reason });
    send(ctx, check, id, context, input.idempotency_key, command).await
}

async fn refund(ctx: &Context<'_>, input: RefundOrderInput) -> Attempt {
    let (mut check, id, context) = begin!(ctx, "refundOrder", input);
    let amount = check.amount(INPUT.field("amount"), input.amount);
    let reason = check.reason(&input.reason);
    let command = amount
        .zip(reason)
        .map(|(amount, reason)| OrderCommand::Refund { amount, reason });
    let sent = send(ctx, check, id, context, input.idempotency_key, command).await;
    sent.map_err(|refusal| match refusal {
        Refusal::User(errors) => Refusal::User(errors.into_iter().map(of_amount).collect()),
        top @ Refusal::Top(_) => top,
    })
}

/// What `returnItems` calls the refund is the amount here.
fn of_amount(error: UserError) -> UserError {
    let at = INPUT.field("amount");
    match error {
        UserError::RefundTooLarge(_) => error.at(at.path()),
        UserError::WrongCurrency(_) => error.at(at.field("currency").path()),
        other => other,
    }
}
