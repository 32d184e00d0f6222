//! How an order without its money ends, what is promised back, and what staff settle.

use super::payment::{
    action_required, authorised, captured, due, expired, refund, refund_ordered, rejected_for, reserved,
    seen, settle, settled, void_due, voided,
};
use super::*;
use crate::payment::PaymentStatus;

#[test]
fn no_more_is_promised_back_than_was_or_will_be_taken() {
    let too_large = |refund, refundable| OrderError::RefundTooLarge {
        refund: gbp(refund),
        refundable: gbp(refundable),
    };
    let paid = [authorised(), confirmed()];
    given(reserved(&paid))
        .when(refund(1))
        .then_expect_error(too_large(1, 0));
    let on_its_way = [&paid[..], &[shipped()]].concat();
    given(reserved(&on_its_way))
        .when(refund(3500))
        .then_expect_events(vec![refund_ordered(3500, 3500)]);
    given(reserved(&on_its_way))
        .when(refund(0))
        .then_expect_events(vec![]);
    given(reserved(&on_its_way))
        .when(refund(-1))
        .then_expect_error(OrderError::Money(MoneyError::Negative));
    let arrived = [
        &on_its_way[..],
        &[OrderEvent::Delivered {}, captured(), refund_ordered(500, 500)],
    ]
    .concat();
    given(reserved(&arrived))
        .when(refund(3001))
        .then_expect_error(too_large(3001, 3000));
    given(reserved(&arrived))
        .when(back(&[(0, 1)], gbp(3000)))
        .then_expect_events(vec![came_back(&[(0, 1, 1)], gbp(3000), gbp(3500))]);
    let lost = [&on_its_way[..], &[OrderEvent::Delivered {}, voided()]].concat();
    given(reserved(&lost))
        .when(back(&[(0, 1)], gbp(1)))
        .then_expect_error(too_large(1, 0));
    let order: Order = after(&reserved(&arrived));
    assert_eq!((order.owed(), order.refunded()), (Some(gbp(500)), Some(gbp(0))));
}

#[test]
fn what_was_not_taken_is_not_paid_back() {
    // Promised while all of it was held; then the bank says that less was taken.
    let paid = [authorised(), confirmed(), shipped(), refund_ordered(1500, 1500)];
    let less = OrderEvent::PaymentCaptured {
        reference: super::payment::reference(),
        amount: gbp(1000),
    };
    let due = due(&[&paid[..], &[less]].concat());
    assert_eq!(due.and_then(|due| due.amount()), Some(gbp(1000)));
}

#[test]
fn money_let_go_behind_our_back_is_not_forgotten() {
    let paid = [authorised(), confirmed(), voided()];
    assert_eq!(due(&paid), None);
    let gone = [&paid[..], &[shipped()]].concat();
    assert_eq!(due(&gone), Some(super::payment::capture_due()));
    let by_hand = settled(PaymentStep::Capture, Some(gbp(3500)));
    given(reserved(&gone))
        .when(settle())
        .then_expect_events(vec![by_hand.clone()]);
    assert_eq!(due(&[&gone[..], &[by_hand]].concat()), None);
    let called_off = [&paid[..], &[cancelled()]].concat();
    assert_eq!(due(&called_off), None);
}

#[test]
fn what_staff_settle_is_done() {
    let paid = [authorised(), confirmed(), shipped()];
    let taken = [&paid[..], &[captured(), refund_ordered(500, 500)]].concat();
    let late = vec![expired(), authorised()];
    for (events, event, then) in [
        (
            paid.to_vec(),
            settled(PaymentStep::Capture, Some(gbp(3500))),
            None,
        ),
        (taken, settled(PaymentStep::Refund, Some(gbp(500))), None),
        (late, settled(PaymentStep::Void, None), None),
        (vec![expired()], settled(PaymentStep::Void, None), None),
    ] {
        given(reserved(&events))
            .when(settle())
            .then_expect_events(vec![event.clone()]);
        let events = [events, vec![event]].concat();
        assert_eq!(due(&events), then);
        given(reserved(&events)).when(settle()).then_expect_events(vec![]);
    }
    // Paid in another way: the gateway's money is not wanted.
    let by_hand = settled(PaymentStep::Authorise, Some(gbp(3500)));
    given(reserved(&[]))
        .when(settle())
        .then_expect_events(vec![by_hand.clone(), confirmed()]);
    let paid = vec![by_hand, confirmed()];
    assert_eq!(due(&paid), None);
    let late = [&paid[..], &[authorised()]].concat();
    assert_eq!(due(&late), Some(void_due()));
    given(reserved(&paid))
        .when(seen(PaymentStatus::Authorised))
        .then_expect_events(vec![authorised()]);
    // The same words again are a repeat only as long as nothing happens.
    let again = [&taken_back()[..], &[refund_ordered(100, 600)]].concat();
    given(reserved(&again))
        .when(settle())
        .then_expect_events(vec![settled(PaymentStep::Refund, Some(gbp(100)))]);
    given(reserved(&[]))
        .when(OrderCommand::NothingToVoid)
        .then_expect_events(vec![]);
    given(reserved(&[expired()]))
        .when(OrderCommand::NothingToVoid)
        .then_expect_events(vec![OrderEvent::PaymentVoided { reference: None }]);
}

fn taken_back() -> Vec<OrderEvent> {
    vec![
        authorised(),
        confirmed(),
        shipped(),
        captured(),
        refund_ordered(500, 500),
        settled(PaymentStep::Refund, Some(gbp(500))),
    ]
}

#[test]
fn the_time_runs_out_or_staff_give_up() {
    let given_up = rejected_for(RejectionCause::GivenUp(reason("stuck")));
    let give_up = || OrderCommand::GiveUp {
        reason: reason("stuck"),
    };
    for (command, event) in [(OrderCommand::Expire, expired()), (give_up(), given_up)] {
        given(reserved(&[action_required()]))
            .when(command.clone())
            .then_expect_events(vec![event.clone()]);
        given(reserved(&[event])).when(command).then_expect_events(vec![]);
    }
    given(reserved(&[authorised(), confirmed()]))
        .when(OrderCommand::Expire)
        .then_expect_error(OrderError::NotAllowed {
            status: OrderStatus::Confirmed,
            action: OrderAction::Expire,
        });
}
