//! How an order is paid.

use std::sync::Arc;

use async_graphql::{Context, Description, Enum, ID, Object, OneofObject, Result, SimpleObject};
use kontor_domain::{self as domain, PaymentStep};
use kontor_projections::orders::{Happening, OrderRow, PaymentProgress, TimelineEntry};

use super::timeline::DeclineReason;
use crate::graphql::access::logged_in;
use crate::graphql::error::internal;
use crate::graphql::reads::{next_action, sees_order_of};
use crate::graphql::scalars::{DateTime, Money};

/// By which means an order is to be paid: exactly one of these.
#[derive(OneofObject)]
pub(crate) enum PaymentMethodInput {
    /// What the payment gateway calls a means of payment, as its own library in the shopper's app got it: 1 to 255 visible ASCII
    /// characters. Card numbers never come here. The simulator knows `tok_approved`, `tok_declined`, `tok_needs_action` and
    /// others. Never shown again.
    #[graphql(secret)]
    Token(String),
    /// A payment method that you keep, `pay_...`; see `savePaymentMethod`.
    SavedMethod(ID),
}

// A token lets whoever has it charge it.
impl std::fmt::Debug for PaymentMethodInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(***)",
            Self::SavedMethod(_) => "SavedMethod(***)",
        })
    }
}

/// Where the payment of an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_projections::orders::PaymentProgress")]
pub(crate) enum OrderPaymentStatus {
    /// Nothing was heard of it yet: stock comes first, or the payment gateway has not answered.
    Waiting,
    /// It waits for the customer: see `nextAction`.
    RequiresAction,
    /// The bank holds the money.
    Authorised,
    /// The money was taken. What of it went back since is in `refunded`.
    Captured,
    /// It was let go; nothing is held any more.
    Voided,
    /// There will be no money from it: see `declineReason`.
    Declined,
}

/// What the payment gateway answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum PaymentOutcome {
    /// The customer must do something first.
    RequiresAction,
    /// The bank holds the money.
    Authorised,
    /// It was declined.
    Declined,
    /// The money was taken.
    Captured,
    /// It was let go.
    Voided,
    /// Money went back.
    Refunded,
}

/// Something that the payment gateway answered.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct PaymentAttempt {
    /// When the order was told.
    at: DateTime,
    /// What the answer was.
    outcome: PaymentOutcome,
    /// How much is held or was taken, in all; how much went back, this time. Null where no money was held or moved.
    amount: Option<Money>,
    /// Why it was declined, if it was.
    decline_reason: Option<DeclineReason>,
}

impl PaymentAttempt {
    fn of(entry: &TimelineEntry) -> Option<Self> {
        use PaymentOutcome::{Authorised, Captured, Declined, Refunded, RequiresAction, Voided};
        let (outcome, amount) = match &entry.what {
            Happening::PaymentActionRequired => (RequiresAction, None),
            Happening::PaymentAuthorised { amount } => (Authorised, Some(*amount)),
            Happening::PaymentDeclined { .. } => (Declined, None),
            Happening::PaymentCaptured { amount } => (Captured, Some(*amount)),
            Happening::PaymentVoided => (Voided, None),
            Happening::PaymentRefunded { amount } => (Refunded, Some(*amount)),
            _ => return None,
        };
        Some(Self {
            at: DateTime(entry.at),
            outcome,
            amount: amount.map(Into::into),
            decline_reason: declined(entry),
        })
    }
}

fn declined(entry: &TimelineEntry) -> Option<DeclineReason> {
    match &entry.what {
        Happening::PaymentDeclined { reason } => Some((*reason).into()),
        _ => None,
    }
}

/// What the customer must do before a payment goes on, such as proving who they are to their bank. Then: `confirmPayment`.
#[derive(Debug, Clone, Description)]
pub(crate) struct NextAction(Arc<domain::NextAction>);

/// What kind of thing the customer must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "kontor_domain::NextActionKind")]
pub(crate) enum NextActionKind {
    /// Open `url` in the browser.
    RedirectToUrl,
    /// Hand `clientSecret` to the payment gateway's own library in the app.
    UseSdk,
    /// Something this shop has no name for.
    Other,
}

#[Object(use_type_description)]
impl NextAction {
    /// What kind of thing.
    async fn kind(&self) -> NextActionKind {
        self.0.kind.into()
    }

    /// Where, if it is a page.
    async fn url(&self) -> Option<&str> {
        self.0.url.as_deref()
    }

    /// What lets the customer's app speak with the payment gateway about this one payment. Keep it out of logs and pages of
    /// others.
    async fn client_secret(&self) -> Option<&str> {
        self.0.client_secret.as_deref()
    }
}

/// How an order is paid: what is held, what was taken, what went back. By which means is never shown.
#[derive(Debug, Clone, Description)]
pub(crate) struct OrderPayment {
    order: Arc<OrderRow>,
    progress: PaymentProgress,
}

impl OrderPayment {
    pub(super) fn of(order: &Arc<OrderRow>) -> Option<Self> {
        let progress = PaymentProgress::parse(order.payment_status.as_deref()?)?;
        let order = Arc::clone(order);
        Some(Self { order, progress })
    }

    fn money(&self, ctx: &Context<'_>, amount_minor: i64) -> Result<Money> {
        Money::of_row(amount_minor, &self.order.currency).map_err(|error| internal(ctx, error))
    }
}

#[Object(use_type_description)]
impl OrderPayment {
    /// Where it is.
    async fn status(&self) -> OrderPaymentStatus {
        self.progress.into()
    }

    /// What is or was held, in all.
    async fn authorised(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.order.authorised_minor)
    }

    /// What was taken, in all; at most `authorised`.
    async fn captured(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.order.captured_minor)
    }

    /// What of that has gone back; at most `captured`. What was promised back is the order's `refunded`.
    async fn refunded(&self, ctx: &Context<'_>) -> Result<Money> {
        self.money(ctx, self.order.paid_back_minor)
    }

    /// Whether the customer paid in another way, as staff said.
    async fn paid_by_hand(&self) -> bool {
        let authorise = PaymentStep::Authorise;
        let by_hand = |entry: &TimelineEntry| matches!(&entry.what, Happening::SettledByHand { due, .. } if *due == authorise);
        self.order.timeline.iter().any(by_hand)
    }

    /// What the payment gateway has answered so far, oldest first.
    async fn attempts(&self) -> Vec<PaymentAttempt> {
        self.order
            .timeline
            .iter()
            .filter_map(PaymentAttempt::of)
            .collect()
    }

    /// Why it was declined; null unless the status is `DECLINED`.
    async fn decline_reason(&self) -> Option<DeclineReason> {
        let last = || self.order.timeline.iter().rev().find_map(declined);
        (self.progress == PaymentProgress::Declined).then(last).flatten()
    }

    /// What the customer must do now; null unless the status is `REQUIRES_ACTION`, and once they have done it.
    async fn next_action(&self, ctx: &Context<'_>) -> Result<Option<NextAction>> {
        let viewer = logged_in(ctx)?;
        if self.progress != PaymentProgress::RequiresAction || !sees_order_of(viewer, &self.order.customer_id)
        {
            return Ok(None);
        }
        let id = self.order.id.parse();
        let id = id.map_err(|error: domain::IdError| internal(ctx, error))?;
        let found = next_action(ctx, id, self.order.version.unsigned_abs()).await?;
        Ok(found.map(NextAction))
    }
}
