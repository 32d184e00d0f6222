//! What is done about the events of one payment: ask the gateway how it is, tell the order.

use std::time::Duration;

use kontor_domain::{Order, OrderId, PaymentReference, PaymentStatus};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Actor, CommandContext, crash};
use tracing::{info, warn};

use super::record::Due;
use crate::payments::{DeskError, GatewayError, PaymentDesk, WebhookKind};
use crate::pending;

/// For how long a gateway that refuses to say anything of a payment is asked again: as long as Stripe repeats itself. Until
/// then somebody may mend a key.
const GIVEN_UP: Duration = Duration::from_secs(3 * 24 * 3_600);
/// Twice as long after each try, from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Everything that was told of one payment.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) reference: PaymentReference,
    /// Oldest first; at least one.
    events: Vec<Due>,
}

/// What came of one event.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) event_id: String,
    /// Why nothing came of it.
    pub(super) error: Option<String>,
    /// After how long to try again, about; otherwise it is done with.
    pub(super) again_in: Option<Duration>,
}

/// Why nothing can be done about an event, now or ever.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("no order named")]
    NoOrderNamed,
    #[error("no such order")]
    NoSuchOrder,
    #[error(transparent)]
    Desk(#[from] DeskError),
}

/// Payments in the order of their oldest event.
pub(super) fn by_payment(due: Vec<Due>) -> Vec<Told> {
    let mut payments: Vec<Told> = Vec::new();
    for event in due {
        match payments.iter_mut().find(|told| told.reference == event.reference) {
            Some(told) => told.events.push(event),
            None => payments.push(Told {
                reference: event.reference.clone(),
                events: vec![event],
            }),
        }
    }
    payments
}

/// Does it. What the gateway says now is newer than anything it told before, so one question is enough for all of them.
pub(super) async fn deal_with(desk: &PaymentDesk, told: Told) -> Vec<Settled> {
    let problem = ask_and_tell(desk, &told).await.err();
    told.events
        .into_iter()
        .map(|event| settle(event, problem.as_ref()))
        .collect()
}

fn settle(event: Due, problem: Option<&Problem>) -> Settled {
    let again_in = problem.and_then(|problem| again_in(problem, &event));
    if let Some(problem) = problem {
        let (payment, attempts) = (&event.reference, event.attempts + 1);
        let (id, kind, error) = (&event.event_id, event.kind.name(), problem);
        if again_in.is_some() {
            info!(webhook.id = id, webhook.kind = kind, %payment, attempts, %error, "payment webhook waits");
        } else {
            warn!(webhook.id = id, webhook.kind = kind, %payment, attempts, %error, "nothing came of a payment webhook");
        }
    }
    Settled {
        event_id: event.event_id,
        error: problem.map(in_our_words),
        again_in,
    }
}

fn again_in(problem: &Problem, event: &Due) -> Option<Duration> {
    let pause = FIRST_PAUSE
        .saturating_mul(1 << event.attempts.min(16))
        .min(LONGEST_PAUSE);
    match problem {
        Problem::NoOrderNamed | Problem::NoSuchOrder | Problem::Desk(DeskError::Refused(_)) => None,
        Problem::Desk(DeskError::Gateway(GatewayError::Refused { .. })) => {
            (event.age < GIVEN_UP).then_some(LONGEST_PAUSE)
        }
        Problem::Desk(_) => Some(pause),
    }
}

/// No text of the gateway's own that could name anybody.
fn in_our_words(problem: &Problem) -> String {
    match problem {
        Problem::Desk(DeskError::Gateway(GatewayError::Refused { code, .. })) => {
            format!("the payment gateway refused: {code}")
        }
        other => other.to_string(),
    }
}

async fn ask_and_tell(desk: &PaymentDesk, told: &Told) -> Result<(), Problem> {
    // The same order is named by every event of a payment that names one.
    let named = told.events.iter().find_map(|event| event.order_id.as_deref());
    let order_id: OrderId = named
        .ok_or(Problem::NoOrderNamed)?
        .parse()
        .map_err(|_| Problem::NoSuchOrder)?;
    let look = |order: &Order, _| {
        let known = told.events.iter().all(|event| is_known(order, event));
        order.exists().then_some(known)
    };
    let looked = desk.store.look(order_id, 0, look).await;
    let known = looked.map_err(DeskError::from)?.ok_or(Problem::NoSuchOrder)?;
    if known {
        return Ok(());
    }
    let payment = desk.ask_about(&told.reference).await.map_err(DeskError::from)?;
    crash::point("webhooks.asked");
    let context = context(desk, told, order_id).await?;
    desk.observe(order_id, payment, context).await?;
    crash::point("webhooks.told");
    Ok(())
}

/// Whether an order knows what an event tells, and all that it could tell: most events only repeat the answer to a call, and
/// need no call of their own.
fn is_known(order: &Order, event: &Due) -> bool {
    let Some(payment) = order
        .payment()
        .filter(|payment| payment.reference() == Some(&event.reference))
    else {
        return false;
    };
    let all_held = order.total() == Some(payment.authorised());
    let all_taken = payment.authorised() == payment.captured();
    match (&event.kind, payment.status()) {
        (WebhookKind::Authorised, Some(PaymentStatus::Authorised | PaymentStatus::Captured)) => all_held,
        (WebhookKind::Captured, Some(PaymentStatus::Captured)) => all_taken,
        (WebhookKind::Voided, Some(PaymentStatus::Voided))
        | (WebhookKind::Failed, Some(PaymentStatus::Declined(_)))
        | (WebhookKind::Processing, Some(_)) => true,
        _ => false,
    }
}

/// What the gateway tells of an order that waits is part of what made it wait.
async fn context(desk: &PaymentDesk, told: &Told, order_id: OrderId) -> Result<CommandContext, Problem> {
    let newest = told.events.last().map_or("", |event| event.event_id.as_str());
    let command_id = format!("webhook/{newest}");
    let mut context = CommandContext::new(command_id, Actor::System(super::LEASE), desk.clock.now());
    let cause = pending::cause_of(desk.store.pool(), order_id).await;
    if let Some(cause) = cause.map_err(ReadError::from).map_err(DeskError::from)? {
        context.causation_id = Some(cause.event);
        context.correlation_id = cause.correlation_id;
        context.traceparent = cause.traceparent;
    }
    Ok(context)
}

#[cfg(test)]
mod tests;
