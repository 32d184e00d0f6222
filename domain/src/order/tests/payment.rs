//! Every row of decision 012's table, and each refusal.

use super::*;
use crate::payment::{
    DeclineReason, NextAction, NextActionKind, PaymentMethodToken, PaymentReference, PaymentState,
    PaymentStatus,
};

pub(super) fn method() -> PaymentMethodToken {
    "pm_card_visa".parse().unwrap()
}

pub(super) fn reference() -> PaymentReference {
    "pi_1".parse().unwrap()
}

pub(super) fn placed_paid() -> OrderEvent {
    OrderEvent::Placed {
        customer_id: user(1),
        items: two_items(),
        total: gbp(3500),
        shipping_address: address(),
        payment: Some(method()),
    }
}

pub(super) fn next_action() -> NextAction {
    NextAction {
        kind: NextActionKind::RedirectToUrl,
        url: Some("https://bank.example/1".into()),
        client_secret: None,
    }
}

pub(super) fn state(status: PaymentStatus, authorised: i64, captured: i64, refunded: i64) -> PaymentState {
    PaymentState {
        reference: reference(),
        status,
        authorised: gbp(authorised),
        captured: gbp(captured),
        refunded: gbp(refunded),
        next_action: (status == PaymentStatus::RequiresAction).then(next_action),
    }
}

pub(super) fn observe(payment: PaymentState) -> OrderCommand {
    OrderCommand::ObservePayment { payment }
}

pub(super) fn seen(status: PaymentStatus) -> OrderCommand {
    let (authorised, captured) = match status {
        PaymentStatus::Authorised | PaymentStatus::Voided => (3500, 0),
        PaymentStatus::Captured => (3500, 3500),
        _ => (0, 0),
    };
    observe(state(status, authorised, captured, 0))
}

pub(super) fn action_required() -> OrderEvent {
    OrderEvent::PaymentActionRequired {
        reference: reference(),
        next_action: next_action(),
    }
}

pub(super) fn authorised() -> OrderEvent {
    OrderEvent::PaymentAuthorised {
        reference: reference(),
        amount: gbp(3500),
    }
}

fn declined() -> OrderEvent {
    OrderEvent::PaymentDeclined {
        reference: reference(),
        reason: DeclineReason::InsufficientFunds,
    }
}

pub(super) fn captured() -> OrderEvent {
    OrderEvent::PaymentCaptured {
        reference: reference(),
        amount: gbp(3500),
    }
}

pub(super) fn voided() -> OrderEvent {
    OrderEvent::PaymentVoided {
        reference: Some(reference()),
    }
}

pub(super) fn paid_back(amount: i64, refunded: i64) -> OrderEvent {
    OrderEvent::PaymentRefunded {
        amount: gbp(amount),
        refunded: gbp(refunded),
    }
}

pub(super) fn refund_ordered(amount: i64, owed: i64) -> OrderEvent {
    OrderEvent::RefundOrdered {
        amount: gbp(amount),
        owed: gbp(owed),
        reason: reason("late"),
    }
}

pub(super) fn refund(amount: i64) -> OrderCommand {
    OrderCommand::Refund {
        amount: gbp(amount),
        reason: reason("late"),
    }
}

pub(super) fn settle() -> OrderCommand {
    OrderCommand::SettleByHand {
        capture: CaptureAt::Shipment,
        reason: reason("seen at the bank"),
    }
}

pub(super) fn settled(due: PaymentStep, amount: Option<Money>) -> OrderEvent {
    OrderEvent::SettledByHand {
        due,
        amount,
        reason: reason("seen at the bank"),
    }
}

pub(super) fn rejected_for(cause: RejectionCause) -> OrderEvent {
    OrderEvent::Rejected {
        refused: Vec::new(),
        total: gbp(3500),
        cause,
    }
}

pub(super) fn expired() -> OrderEvent {
    rejected_for(RejectionCause::Expired)
}

pub(super) fn of_every_kind() -> Vec<OrderEvent> {
    vec![
        placed_paid(),
        OrderEvent::Reserved {},
        action_required(),
        authorised(),
        confirmed(),
        shipped(),
        captured(),
        refund_ordered(300, 300),
        settled(PaymentStep::Refund, Some(gbp(300))),
        refund_ordered(200, 500),
        paid_back(200, 500),
        OrderEvent::PaymentVoided { reference: None },
        settled(PaymentStep::Void, None),
        declined(),
        OrderEvent::RetryRequested {
            step: PendingStep::Void,
        },
        expired(),
        rejected_for(RejectionCause::PaymentDeclined(DeclineReason::CardDeclined)),
        rejected_for(RejectionCause::GivenUp(reason("stuck"))),
    ]
}

/// Placed with a payment and reserved, then these.
pub(super) fn reserved(further: &[OrderEvent]) -> Vec<OrderEvent> {
    [&[placed_paid(), OrderEvent::Reserved {}], further].concat()
}

pub(super) fn due(further: &[OrderEvent]) -> Option<PaymentDue> {
    after::<Order>(&reserved(further)).payment_due(CaptureAt::Shipment)
}

fn authorise_due() -> PaymentDue {
    PaymentDue::Authorise {
        amount: gbp(3500),
        method: method(),
    }
}

pub(super) fn capture_due() -> PaymentDue {
    PaymentDue::Capture {
        reference: reference(),
        amount: gbp(3500),
    }
}

pub(super) fn void_due() -> PaymentDue {
    PaymentDue::Void {
        reference: Some(reference()),
    }
}

fn refund_due(amount: i64, number: u32) -> PaymentDue {
    PaymentDue::Refund {
        reference: reference(),
        amount: gbp(amount),
        number,
    }
}

#[test]
fn what_is_due_is_the_table() {
    assert_eq!(
        after::<Order>(&[placed_paid()]).payment_due(CaptureAt::Confirmation),
        None
    );
    assert_eq!(due(&[]), Some(authorise_due()));
    assert_eq!(due(&[action_required()]), None);
    let paid = [authorised(), confirmed()];
    assert_eq!(due(&paid), None);
    let at_confirmation = after::<Order>(&reserved(&paid)).payment_due(CaptureAt::Confirmation);
    assert_eq!(at_confirmation, Some(capture_due()));
    let on_its_way = [&paid[..], &[shipped()]].concat();
    assert_eq!(due(&on_its_way), Some(capture_due()));
    let arrived = [&on_its_way[..], &[OrderEvent::Delivered {}]].concat();
    assert_eq!(due(&arrived), Some(capture_due()));
    let taken = [&on_its_way[..], &[captured()]].concat();
    assert_eq!(due(&taken), None);

    for end in [expired(), cancelled()] {
        let perhaps_begun = Some(PaymentDue::Void { reference: None });
        assert_eq!(due(std::slice::from_ref(&end)), perhaps_begun);
        assert_eq!(
            due(&[end.clone(), OrderEvent::PaymentVoided { reference: None }]),
            None
        );
        assert_eq!(due(&[action_required(), end.clone()]), Some(void_due()));
        assert_eq!(due(&[end.clone(), authorised()]), Some(void_due()));
        assert_eq!(due(&[end.clone(), authorised(), voided()]), None);
        assert_eq!(due(&[end.clone(), declined()]), None);
        let late_money = [authorised(), captured(), end.clone()];
        assert_eq!(due(&late_money), Some(refund_due(3500, 0)));
        assert_eq!(
            due(&[&late_money[..], &[paid_back(500, 500)]].concat()),
            Some(refund_due(3000, 1))
        );
        assert_eq!(due(&[&late_money[..], &[paid_back(3500, 3500)]].concat()), None);
        // Its stock was never all reserved, so no payment was begun.
        let early = after::<Order>(&[placed_paid(), end]);
        assert_eq!(early.payment_due(CaptureAt::Shipment), None);
    }

    let first = came_back(&[(0, 1, 1)], gbp(1000), gbp(1000));
    let back = [&arrived[..], &[first]].concat();
    assert_eq!(
        due(&back),
        Some(capture_due()),
        "what is to be paid back is taken first"
    );
    let back = [&back[..], &[captured()]].concat();
    assert_eq!(due(&back), Some(refund_due(1000, 0)));
    let more = [&back[..], &[paid_back(1000, 1000), refund_ordered(500, 1500)]].concat();
    assert_eq!(due(&more), Some(refund_due(500, 1)));
    assert_eq!(due(&[&more[..], &[paid_back(500, 1500)]].concat()), None);
}

#[test]
fn what_is_reserved_waits_for_its_money_if_it_costs_any() {
    given(vec![placed_paid()])
        .when(OrderCommand::MarkReserved)
        .then_expect_events(vec![OrderEvent::Reserved {}]);
    given(reserved(&[]))
        .when(OrderCommand::MarkReserved)
        .then_expect_events(vec![]);
    given(vec![placed()])
        .when(OrderCommand::MarkReserved)
        .then_expect_events(vec![confirmed()]);
    for events in [vec![placed_paid()], reserved(&[])] {
        given(events)
            .when(OrderCommand::Confirm)
            .then_expect_error(OrderError::NotPaid);
    }
    given(reserved(&[cancelled()]))
        .when(OrderCommand::MarkReserved)
        .then_expect_error(OrderError::NotAllowed {
            status: OrderStatus::Cancelled,
            action: OrderAction::MarkReserved,
        });
    let free = OrderEvent::Placed {
        customer_id: user(1),
        items: vec![item(1, gbp(0), 1)],
        total: gbp(0),
        shipping_address: address(),
        payment: Some(method()),
    };
    given(vec![free])
        .when(OrderCommand::MarkReserved)
        .then_expect_events(vec![OrderEvent::Confirmed {
            total: gbp(0),
            pieces: 1,
        }]);
}

#[test]
fn what_is_heard_is_recorded_once_and_decides() {
    let no_money = RejectionCause::PaymentDeclined(DeclineReason::InsufficientFunds);
    let decline = PaymentStatus::Declined(DeclineReason::InsufficientFunds);
    for (events, heard, news) in [
        (reserved(&[]), PaymentStatus::Processing, vec![]),
        (
            reserved(&[]),
            PaymentStatus::RequiresAction,
            vec![action_required()],
        ),
        (
            reserved(&[]),
            PaymentStatus::Authorised,
            vec![authorised(), confirmed()],
        ),
        (
            reserved(&[]),
            PaymentStatus::Captured,
            vec![authorised(), captured(), confirmed()],
        ),
        (reserved(&[]), PaymentStatus::Voided, vec![authorised(), voided()]),
        (
            reserved(&[]),
            decline,
            vec![declined(), rejected_for(no_money.clone())],
        ),
        (
            reserved(&[action_required()]),
            decline,
            vec![declined(), rejected_for(no_money)],
        ),
        // After the end it is recorded and decides nothing.
        (
            reserved(&[expired()]),
            PaymentStatus::Authorised,
            vec![authorised()],
        ),
        (reserved(&[cancelled()]), decline, vec![declined()]),
        (
            reserved(&[cancelled(), OrderEvent::PaymentVoided { reference: None }]),
            PaymentStatus::Authorised,
            vec![authorised()],
        ),
        // The gateway was faster than the stock's answer.
        (vec![placed_paid()], PaymentStatus::Authorised, vec![authorised()]),
    ] {
        given(events.clone())
            .when(seen(heard))
            .then_expect_events(news.clone());
        given([events, news].concat())
            .when(seen(heard))
            .then_expect_events(vec![]);
    }
    given(vec![placed_paid(), authorised()])
        .when(OrderCommand::MarkReserved)
        .then_expect_events(vec![OrderEvent::Reserved {}, confirmed()]);
    // Half of the money is not the money.
    let half = OrderEvent::PaymentAuthorised {
        reference: reference(),
        amount: gbp(1750),
    };
    given(reserved(&[]))
        .when(observe(state(PaymentStatus::Authorised, 1750, 0, 0)))
        .then_expect_events(vec![half]);
}

#[test]
fn what_is_stale_changes_nothing() {
    let decline = PaymentStatus::Declined(DeclineReason::InsufficientFunds);
    let taken = reserved(&[
        authorised(),
        confirmed(),
        shipped(),
        captured(),
        paid_back(500, 500),
    ]);
    for stale in [
        PaymentStatus::Processing,
        PaymentStatus::RequiresAction,
        PaymentStatus::Authorised,
        PaymentStatus::Captured,
        PaymentStatus::Voided,
        decline,
    ] {
        given(taken.clone()).when(seen(stale)).then_expect_events(vec![]);
    }
    given(taken)
        .when(observe(state(PaymentStatus::Captured, 3500, 1000, 400)))
        .then_expect_events(vec![]);
    for stale in [PaymentStatus::Authorised, PaymentStatus::RequiresAction, decline] {
        given(reserved(&[authorised(), cancelled(), voided()]))
            .when(seen(stale))
            .then_expect_events(vec![]);
    }
    let waiting: Order = after(&reserved(&[action_required()]));
    assert_eq!(waiting.payment().unwrap().next_action(), Some(&next_action()));
    let paid: Order = after(&reserved(&[action_required(), authorised(), confirmed()]));
    assert_eq!(paid.payment().unwrap().next_action(), None);
}

#[test]
fn what_cannot_be_true_of_the_payment_is_refused() {
    let mut other = state(PaymentStatus::Authorised, 3500, 0, 0);
    other.reference = "pi_2".parse().unwrap();
    given(reserved(&[action_required()]))
        .when(observe(other))
        .then_expect_error(OrderError::OtherPayment);
    let mut foreign = state(PaymentStatus::Authorised, 3500, 0, 0);
    foreign.authorised = money(3500, "EUR");
    given(reserved(&[]))
        .when(observe(foreign))
        .then_expect_error(OrderError::Money(MoneyError::CurrencyMismatch {
            expected: "EUR".parse().unwrap(),
            found: "GBP".parse().unwrap(),
        }));
    given(reserved(&[]))
        .when(observe(state(PaymentStatus::Authorised, 3501, 0, 0)))
        .then_expect_error(OrderError::AuthorisedTooMuch {
            authorised: gbp(3501),
            total: gbp(3500),
        });
    for wrong in [
        state(PaymentStatus::Captured, 100, 101, 0),
        state(PaymentStatus::Captured, 100, 100, 101),
        state(PaymentStatus::Captured, 100, 100, -1),
        state(PaymentStatus::Authorised, 0, 0, 0),
        state(PaymentStatus::Captured, 100, 0, 0),
    ] {
        given(reserved(&[]))
            .when(observe(wrong))
            .then_expect_error(OrderError::InconsistentPayment);
    }
    for command in [seen(PaymentStatus::Authorised), settle()] {
        given(vec![placed()])
            .when(command)
            .then_expect_error(OrderError::NoPayment);
    }
}
