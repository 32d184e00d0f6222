//! What is done for one order: work out what is due, ask the gateway, tell the order.

use std::time::Duration;

use kontor_domain::{
    Money, Order, OrderCommand, OrderId, PaymentDue, PaymentMethodToken, PaymentReference, PaymentState,
    PendingStep, Reason,
};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Actor, CommandContext, Outcome, crash};

use super::diary::{Claim, Due, Note};
use crate::payments::{
    Authorise, Capture, DeskError, GatewayError, PaymentDesk, PaymentGateway, Refund, Void,
};
use crate::pending::{Cause, Wait};

/// For how long a gateway remembers an idempotency key, with an hour to spare: Stripe forgets it after 24 hours at the
/// earliest. Asked to hold money after that, it might hold it twice.
const KEYS_LAST: Duration = Duration::from_secs(23 * 3_600);

/// What to do for an order.
#[derive(Debug)]
pub(super) enum Plan {
    /// Its row is out of date.
    Sync(Wait),
    /// Do it.
    Do(Task),
}

/// One order, and what is to be done for it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) due: Due,
    errand: Errand,
}

/// What the gateway is asked.
#[derive(Debug)]
enum Errand {
    Ask(PaymentReference),
    Authorise {
        amount: Money,
        method: PaymentMethodToken,
    },
    /// Nothing: whoever ordered was erased, and with them what they meant to pay by.
    GiveUp,
    Capture {
        reference: PaymentReference,
        amount: Money,
    },
    Void {
        reference: PaymentReference,
    },
    Refund {
        reference: PaymentReference,
        amount: Money,
    },
    /// Nothing: it was never asked for a payment, so there is nothing to let go.
    Nothing,
    /// Nothing: this is for people.
    Beyond(&'static str),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// The order waits for something else now, or for nothing.
    Moved(Wait),
    /// It waits as before.
    Noted(Note),
}

impl Errand {
    /// Of the payment it is about, if that has one.
    const fn reference(&self) -> Option<&PaymentReference> {
        match self {
            Self::Ask(reference)
            | Self::Capture { reference, .. }
            | Self::Void { reference }
            | Self::Refund { reference, .. } => Some(reference),
            Self::Authorise { .. } | Self::GiveUp | Self::Nothing | Self::Beyond(_) => None,
        }
    }

    fn of(order: &Order, due: &Due, capture: kontor_domain::CaptureAt) -> Option<Self> {
        let payment = order.payment()?;
        let known = || payment.reference().or(due.reference.as_ref()).cloned();
        let asked_too_long_ago = due.asked.is_some_and(|ago| ago > KEYS_LAST);
        Some(match order.payment_due(capture) {
            None => Self::Ask(known()?),
            Some(PaymentDue::Authorise { amount, method }) => match known() {
                Some(reference) => Self::Ask(reference),
                None if asked_too_long_ago => Self::Beyond(FORGOTTEN),
                None => match method.into_inner() {
                    Some(method) => Self::Authorise { amount, method },
                    None => Self::GiveUp,
                },
            },
            Some(PaymentDue::Capture { reference, amount }) => Self::Capture { reference, amount },
            Some(PaymentDue::Void {
                reference: Some(reference),
            }) => Self::Void { reference },
            // Asked for and not answered: only the same question with the same key tells what came of it.
            Some(PaymentDue::Void { reference: None }) => match (known(), due.asked) {
                (Some(reference), _) => Self::Ask(reference),
                (None, None) => Self::Nothing,
                (None, Some(_)) if asked_too_long_ago => Self::Beyond(FORGOTTEN),
                (None, Some(_)) => match payment.method().reveal().cloned() {
                    Some(method) => Self::Authorise {
                        amount: order.total()?,
                        method,
                    },
                    None => Self::Beyond(ERASED),
                },
            },
            Some(PaymentDue::Refund {
                reference, amount, ..
            }) => Self::Refund {
                reference,
                // What it was asked before, with the same key: what is owed by now may be more, and comes after that.
                amount: match due.asked_minor {
                    Some(minor) => Money::new(minor, amount.currency()).ok()?,
                    None => amount,
                },
            },
        })
    }
}

/// Why an order that was not paid yet ends with its customer.
const GIVEN_UP: &str = "the customer was erased";

const ERASED: &str = "asked to hold the money, the gateway did not answer, and the customer was erased before it could be asked again: look \
                      for the order's payment on its pages and settle it by hand";

const FORGOTTEN: &str = "asked to hold the money, the gateway did not answer, and by now it may have forgotten that it was asked: \
                         look for the order's payment on its pages and settle it by hand";

impl Task {
    pub(super) fn claim(&self) -> Claim {
        Claim {
            order_id: self.due.order_id,
            step: self.due.step,
            refunds: self.due.refunds,
            authorises: matches!(self.errand, Errand::Authorise { .. }),
            refund_minor: match &self.errand {
                Errand::Refund { amount, .. } => Some(amount.amount_minor()),
                _ => None,
            },
        }
    }

    fn note(&self, error: Option<&DeskError>, reference: Option<PaymentReference>) -> Note {
        let transient = error.is_none_or(DeskError::is_transient);
        Note {
            order_id: self.due.order_id,
            step: self.due.step,
            refunds: self.due.refunds,
            error: error.map(in_our_words),
            pause: transient.then(|| pause(self.due.step, self.due.attempts)),
            reference,
        }
    }
}

/// No text of the gateway's own that could name anybody.
fn in_our_words(error: &DeskError) -> String {
    match error {
        DeskError::Gateway(GatewayError::Refused { code, .. }) => {
            format!("the payment gateway refused: {code}")
        }
        other => other.to_string(),
    }
}

/// Twice as long after each try.
fn pause(step: PendingStep, attempts: u32) -> Duration {
    let (first, longest) = match step {
        // People take their time, and the gateway tells when they are done.
        PendingStep::CustomerAction => (30, 300),
        _ => (1, 60),
    };
    Duration::from_secs(first)
        .saturating_mul(1 << attempts.min(16))
        .min(Duration::from_secs(longest))
}

/// Works out what is to be done for an order.
pub(super) async fn plan(desk: &PaymentDesk, due: Due) -> Result<Plan, ReadError> {
    let capture = desk.terms().capture;
    let cause = due.cause.clone();
    desk.store
        .look(due.order_id, due.version, |order: &Order, version| {
            let wait = Wait::of(due.order_id, order, version, capture, cause.clone());
            if wait.step != Some((due.step, due.refunds)) {
                return Plan::Sync(wait);
            }
            match Errand::of(order, &due, capture) {
                None => Plan::Sync(wait),
                Some(errand) => Plan::Do(Task {
                    due: due.clone(),
                    errand,
                }),
            }
        })
        .await
}

/// Does it. The claim is on the disk by now.
pub(super) async fn attend(desk: &PaymentDesk, task: Task) -> Done {
    crash::point("cashier.claimed");
    match ask_and_tell(desk, &task).await {
        Ok(done) => done,
        Err(error) => {
            let id = &task.due.order_id;
            let (step, attempts) = (task.due.step.as_str(), task.due.attempts + 1);
            tracing::info!(order.id = %id, step, attempts, %error, "order waits");
            Done::Noted(task.note(Some(&error), None))
        }
    }
}

async fn ask_and_tell(desk: &PaymentDesk, task: &Task) -> Result<Done, DeskError> {
    let order_id = task.due.order_id;
    let (outcome, reference) = match &task.errand {
        Errand::Beyond(why) => {
            let error = GatewayError::refused("key_forgotten", *why);
            let mut note = task.note(Some(&error.into()), None);
            note.error = Some((*why).to_owned());
            return Ok(Done::Noted(note));
        }
        Errand::GiveUp => {
            let reason: Reason = GIVEN_UP
                .parse()
                .map_err(|_| ReadError::Undecodable(GIVEN_UP.to_owned()))?;
            let give_up = OrderCommand::GiveUp {
                reason: reason.into(),
            };
            let told = desk.tell(order_id, give_up, context(desk, task));
            (told.await?, None)
        }
        Errand::Nothing => {
            let told = desk.tell(order_id, OrderCommand::NothingToVoid, context(desk, task));
            (told.await?, None)
        }
        errand => {
            let payment = match ask(desk, order_id, task.due.refunds, errand).await {
                Err(refusal @ GatewayError::Refused { .. }) => return look_again(desk, task, refusal).await,
                answer => answer?,
            };
            crash::point("cashier.answered");
            let reference = payment.reference.clone();
            let told = desk.observe(order_id, payment, context(desk, task)).await?;
            (told, Some(reference))
        }
    };
    crash::point("cashier.told");
    moved(desk, task, &outcome, reference).await
}

/// A gateway refuses what the payment is not in a state for: then something has happened to it that the order has not heard of,
/// and once it has, it may wait for nothing any more.
async fn look_again(desk: &PaymentDesk, task: &Task, refusal: GatewayError) -> Result<Done, DeskError> {
    let Some(reference) = task.errand.reference() else {
        return Err(refusal.into());
    };
    let payment = desk.ask_about(reference).await?;
    let told = desk
        .observe(task.due.order_id, payment, context(desk, task))
        .await?;
    match moved(desk, task, &told, None).await? {
        Done::Noted(_) => Err(refusal.into()),
        moved @ Done::Moved(_) => Ok(moved),
    }
}

async fn moved(
    desk: &PaymentDesk,
    task: &Task,
    outcome: &Outcome<Order>,
    reference: Option<PaymentReference>,
) -> Result<Done, DeskError> {
    let due = &task.due;
    let capture = desk.terms().capture;
    let wait = desk
        .store
        .look(
            due.order_id,
            outcome.version.max(due.version),
            |order: &Order, version| Wait::of(due.order_id, order, version, capture, due.cause.clone()),
        )
        .await?;
    Ok(if wait.step == Some((due.step, due.refunds)) {
        Done::Noted(task.note(None, reference))
    } else {
        Done::Moved(wait)
    })
}

/// The key of each question follows from the order, the step, and how many refunds there were: whoever asks again, after
/// whatever happened, asks the same.
async fn ask(
    desk: &PaymentDesk,
    order_id: OrderId,
    refunds: u32,
    errand: &Errand,
) -> Result<PaymentState, GatewayError> {
    let gateway = &desk.gateway;
    let key = |step: &str| format!("{order_id}/{step}");
    let order = order_id.to_string();
    match errand {
        Errand::Ask(reference) => gateway.look_up(reference).await,
        Errand::Authorise { amount, method } => {
            let request = Authorise {
                key: key("authorise"),
                order_id: order,
                amount: *amount,
                method: method.clone(),
            };
            gateway.authorise(&request).await
        }
        Errand::Capture { reference, amount } => {
            let request = Capture {
                key: key("capture"),
                order_id: order,
                reference: reference.clone(),
                amount: *amount,
            };
            gateway.capture(&request).await
        }
        Errand::Void { reference } => {
            let request = Void {
                key: key("void"),
                order_id: order,
                reference: reference.clone(),
            };
            gateway.void(&request).await
        }
        Errand::Refund { reference, amount } => {
            let request = Refund {
                key: key(&format!("refund/{refunds}")),
                order_id: order,
                reference: reference.clone(),
                amount: *amount,
            };
            gateway.refund(&request).await
        }
        Errand::GiveUp | Errand::Nothing | Errand::Beyond(_) => {
            Err(GatewayError::Busy("nothing to ask".to_owned()))
        }
    }
}

fn context(desk: &PaymentDesk, task: &Task) -> CommandContext {
    let (due, step) = (&task.due, task.due.step.as_str());
    let id = format!("{}/{step}/{}", due.cause.event, due.attempts);
    caused(desk, id, &due.cause)
}

/// The context of a command with this id that `cause` led to.
pub(super) fn caused(desk: &PaymentDesk, command_id: String, cause: &Cause) -> CommandContext {
    let mut context = CommandContext::new(command_id, Actor::System(super::LEASE), desk.clock.now());
    context.causation_id = Some(cause.event.clone());
    context.correlation_id.clone_from(&cause.correlation_id);
    context.traceparent.clone_from(&cause.traceparent);
    context
}
