use cqrs_es::test::TestFramework;

use super::*;
use crate::examples::{address, after, gbp, item, money, pieces, product, reason, user};
use crate::money::MoneyError;
use crate::product::RefusalReason;

mod bank;
mod payment;
mod properties;
mod refunds;
mod stored;

fn given(events: Vec<OrderEvent>) -> cqrs_es::test::AggregateTestExecutor<Order> {
    TestFramework::<Order>::with(()).given(events)
}

/// 3 at 10.00 and 1 at 5.00.
fn two_items() -> Vec<OrderItem> {
    vec![item(1, gbp(1000), 3), item(2, gbp(500), 1)]
}

pub(super) fn place(items: Vec<OrderItem>) -> OrderCommand {
    OrderCommand::Place {
        customer_id: user(1),
        items,
        shipping_address: address(),
        payment: None,
    }
}

fn placed() -> OrderEvent {
    OrderEvent::Placed {
        customer_id: user(1),
        items: two_items(),
        total: gbp(3500),
        shipping_address: address(),
        payment: None,
    }
}

fn refused() -> Vec<RefusedItem> {
    vec![RefusedItem {
        product_id: product(1),
        requested: pieces(3),
        available: 2,
        reason: RefusalReason::InsufficientStock,
    }]
}

fn ship(tracking_number: &str) -> OrderCommand {
    OrderCommand::Ship {
        tracking_number: tracking_number.parse().unwrap(),
        carrier: None,
    }
}

fn shipped() -> OrderEvent {
    OrderEvent::Shipped {
        tracking_number: "T-1".parse().unwrap(),
        carrier: None,
    }
}

fn cancel() -> OrderCommand {
    OrderCommand::Cancel {
        reason: reason("changed my mind"),
    }
}

fn cancelled_when(was: OrderStatus) -> OrderEvent {
    OrderEvent::Cancelled {
        reason: reason("changed my mind"),
        was,
        total: gbp(3500),
    }
}

fn cancelled() -> OrderEvent {
    cancelled_when(OrderStatus::Pending)
}

fn confirmed() -> OrderEvent {
    let pieces = 4;
    OrderEvent::Confirmed {
        total: gbp(3500),
        pieces,
    }
}

fn rejected() -> OrderEvent {
    OrderEvent::Rejected {
        refused: refused(),
        total: gbp(3500),
        cause: RejectionCause::Stock,
    }
}

fn back(lines: &[(u32, u32)], refund: Money) -> OrderCommand {
    OrderCommand::ReturnItems {
        lines: lines
            .iter()
            .map(|&(line, quantity)| ReturnLine {
                line,
                quantity: pieces(quantity),
            })
            .collect(),
        refund,
        reason: reason("broken"),
        restock: true,
    }
}

fn came_back(lines: &[(u32, u128, u32)], refund: Money, refunded: Money) -> OrderEvent {
    OrderEvent::ItemsReturned {
        lines: lines
            .iter()
            .map(|&(line, product_number, quantity)| ReturnedLine {
                line,
                product_id: product(product_number),
                quantity: pieces(quantity),
            })
            .collect(),
        refund,
        refunded,
        reason: reason("broken"),
        restock: true,
    }
}

/// The events that lead to a status.
fn way_to(status: OrderStatus) -> Vec<OrderEvent> {
    let further = match status {
        OrderStatus::Pending => vec![],
        OrderStatus::Rejected => vec![rejected()],
        OrderStatus::Cancelled => vec![cancelled()],
        OrderStatus::Confirmed => vec![confirmed()],
        OrderStatus::Shipped => vec![confirmed(), shipped()],
        OrderStatus::Delivered => {
            vec![confirmed(), shipped(), OrderEvent::Delivered {}]
        }
    };
    [vec![placed()], further].concat()
}

fn delivered() -> Vec<OrderEvent> {
    way_to(OrderStatus::Delivered)
}

fn command_for(action: OrderAction) -> OrderCommand {
    match action {
        OrderAction::Confirm => OrderCommand::Confirm,
        OrderAction::MarkReserved => OrderCommand::MarkReserved,
        OrderAction::Reject => OrderCommand::Reject { refused: refused() },
        OrderAction::Expire => OrderCommand::Expire,
        OrderAction::GiveUp => OrderCommand::GiveUp {
            reason: reason("stuck"),
        },
        OrderAction::Cancel => cancel(),
        OrderAction::Ship => ship("T-2"),
        OrderAction::Deliver => OrderCommand::Deliver,
        OrderAction::ReturnItems => back(&[(0, 1)], gbp(1000)),
        OrderAction::Refund => OrderCommand::Refund {
            amount: gbp(1000),
            reason: reason("late"),
        },
    }
}

#[test]
fn placing_works_out_the_total() {
    given(vec![])
        .when(place(two_items()))
        .then_expect_events(vec![placed()]);
    let order: Order = after(&[placed()]);
    assert_eq!(order.status(), Some(OrderStatus::Pending));
    assert_eq!(order.customer_id(), Some(user(1)));
    assert_eq!(order.total(), Some(gbp(3500)));
    assert_eq!(order.refunded(), Some(gbp(0)));
    assert_eq!(order.items(), two_items());
}

#[test]
fn an_id_is_placed_once_and_nothing_before_that() {
    given(vec![placed()])
        .when(place(two_items()))
        .then_expect_error(OrderError::AlreadyPlaced);
    for action in OrderAction::ALL {
        given(vec![])
            .when(command_for(action))
            .then_expect_error(OrderError::NotFound);
    }
    assert_eq!(Order::default().allowed_actions().count(), 0);
    assert!(!Order::default().exists());
}

#[test]
fn an_order_has_1_to_200_items() {
    given(vec![])
        .when(place(vec![]))
        .then_expect_error(OrderError::NoItems);
    given(vec![])
        .when(place(vec![item(1, gbp(1), 1); 201]))
        .then_expect_error(OrderError::TooManyItems { items: 201 });
    let events = given(vec![])
        .when(place(vec![item(1, gbp(1), 1); 200]))
        .inspect_result()
        .unwrap();
    assert_eq!(events.len(), 1);
}

#[test]
fn prices_must_add_up() {
    for (items, error) in [
        (
            vec![item(1, gbp(1), 1), item(2, money(1, "EUR"), 1)],
            MoneyError::CurrencyMismatch {
                expected: "GBP".parse().unwrap(),
                found: "EUR".parse().unwrap(),
            },
        ),
        (vec![item(1, gbp(-1), 1)], MoneyError::Negative),
        (vec![item(1, gbp(Money::MAX_MINOR), 2)], MoneyError::OutOfRange),
        (
            vec![item(1, gbp(Money::MAX_MINOR), 1), item(2, gbp(1), 1)],
            MoneyError::OutOfRange,
        ),
    ] {
        given(vec![])
            .when(place(items))
            .then_expect_error(OrderError::Money(error));
    }
}

#[test]
fn the_lines_of_one_product_are_reserved_together() {
    let items = [
        item(2, gbp(1), 1),
        item(1, gbp(1), 2),
        item(2, gbp(3), 4), // The same product at another price.
    ];
    let needed: Vec<_> = stock_needed(&items).unwrap().into_iter().collect();
    assert_eq!(needed, [(product(1), pieces(2)), (product(2), pieces(5))]);
    given(vec![])
        .when(place(vec![item(1, gbp(1), Quantity::MAX), item(1, gbp(1), 1)]))
        .then_expect_error(OrderError::TooManyPieces {
            product_id: product(1),
        });
}

#[test]
fn every_action_from_every_status() {
    // Written out again, so that a changed table is a changed test.
    let allowed = |status, action| {
        matches!(
            (status, action),
            (
                OrderStatus::Pending,
                OrderAction::Confirm
                    | OrderAction::MarkReserved
                    | OrderAction::Reject
                    | OrderAction::Expire
                    | OrderAction::GiveUp
                    | OrderAction::Cancel
            ) | (
                OrderStatus::Confirmed,
                OrderAction::Cancel | OrderAction::Ship | OrderAction::Refund
            ) | (OrderStatus::Shipped, OrderAction::Deliver | OrderAction::Refund)
                | (
                    OrderStatus::Delivered,
                    OrderAction::ReturnItems | OrderAction::Refund
                )
        )
    };
    let repeat = |status, action| {
        matches!(
            (status, action),
            (
                OrderStatus::Confirmed,
                OrderAction::Confirm | OrderAction::MarkReserved
            ) | (
                OrderStatus::Rejected,
                OrderAction::Reject | OrderAction::Expire | OrderAction::GiveUp
            ) | (OrderStatus::Cancelled, OrderAction::Cancel)
                | (OrderStatus::Delivered, OrderAction::Deliver)
        )
    };
    for status in OrderStatus::ALL {
        let order: Order = after(&way_to(status));
        assert_eq!(order.status(), Some(status));
        for action in OrderAction::ALL {
            let answer = given(way_to(status)).when(command_for(action));
            if allowed(status, action) && action == OrderAction::Refund {
                answer.then_expect_error(OrderError::NoPayment);
            } else if allowed(status, action) {
                let events = answer.inspect_result().unwrap();
                assert_eq!(events.len(), 1, "{action:?} when {status:?}");
            } else if repeat(status, action) {
                answer.then_expect_events(vec![]);
            } else {
                // Without a payment, to be reserved is to be confirmed.
                let action = match action {
                    OrderAction::MarkReserved => OrderAction::Confirm,
                    action => action,
                };
                answer.then_expect_error(OrderError::NotAllowed { status, action });
            }
            assert_eq!(
                order.allowed_actions().any(|possible| possible == action),
                allowed(status, action)
            );
        }
    }
}

#[test]
fn each_command_tells_what_happened() {
    let pending = way_to(OrderStatus::Pending);
    let after_confirm = way_to(OrderStatus::Confirmed);
    for (events, command, event) in [
        (pending.clone(), OrderCommand::Confirm, confirmed()),
        (
            pending.clone(),
            OrderCommand::Reject { refused: refused() },
            rejected(),
        ),
        (pending, cancel(), cancelled()),
        (
            after_confirm.clone(),
            cancel(),
            cancelled_when(OrderStatus::Confirmed),
        ),
        (after_confirm, ship("T-1"), shipped()),
        (
            way_to(OrderStatus::Shipped),
            OrderCommand::Deliver,
            OrderEvent::Delivered {},
        ),
    ] {
        given(events).when(command).then_expect_events(vec![event]);
    }
}

#[test]
fn shipping_again_is_a_repeat_only_with_the_same_tracking_number() {
    given(way_to(OrderStatus::Shipped))
        .when(ship("T-1"))
        .then_expect_events(vec![]);
    given(way_to(OrderStatus::Shipped))
        .when(ship("T-2"))
        .then_expect_error(OrderError::NotAllowed {
            status: OrderStatus::Shipped,
            action: OrderAction::Ship,
        });
}

#[test]
fn items_come_back_in_parts() {
    let first = came_back(&[(0, 1, 2)], gbp(2000), gbp(2000));
    given(delivered())
        .when(back(&[(0, 1), (0, 1)], gbp(2000)))
        .then_expect_events(vec![first.clone()]);
    given([delivered(), vec![first]].concat())
        .when(back(&[(1, 1), (0, 1)], gbp(1500)))
        .then_expect_events(vec![came_back(&[(0, 1, 1), (1, 2, 1)], gbp(1500), gbp(3500))]);
}

#[test]
fn no_more_comes_back_than_was_delivered() {
    let first = came_back(&[(0, 1, 2)], gbp(0), gbp(0));
    let events = [delivered(), vec![first]].concat();
    for (lines, requested) in [
        (vec![(0, 2)], 2),
        (vec![(0, 1), (0, 1)], 2),
        (vec![(0, Quantity::MAX)], Quantity::MAX),
        (vec![(0, 1), (0, Quantity::MAX)], Quantity::MAX + 1),
    ] {
        given(events.clone())
            .when(back(&lines, gbp(0)))
            .then_expect_error(OrderError::MoreThanDelivered {
                line: 0,
                requested,
                returnable: 1,
            });
    }
    given(events.clone())
        .when(back(&[(2, 1)], gbp(0)))
        .then_expect_error(OrderError::UnknownLine { line: 2 });
    given(events)
        .when(back(&[], gbp(0)))
        .then_expect_error(OrderError::NothingReturned);
}

#[test]
fn no_more_is_paid_back_than_was_paid() {
    let first = came_back(&[(0, 1, 1)], gbp(3000), gbp(3000));
    let events = [delivered(), vec![first]].concat();
    given(events.clone())
        .when(back(&[(1, 1)], gbp(501)))
        .then_expect_error(OrderError::RefundTooLarge {
            refund: gbp(501),
            refundable: gbp(500),
        });
    given(events.clone())
        .when(back(&[(1, 1)], gbp(-1)))
        .then_expect_error(OrderError::Money(MoneyError::Negative));
    given(events)
        .when(back(&[(1, 1)], money(1, "EUR")))
        .then_expect_error(OrderError::Money(MoneyError::CurrencyMismatch {
            expected: "GBP".parse().unwrap(),
            found: "EUR".parse().unwrap(),
        }));
}

#[test]
fn only_staff_move_parcels_and_only_the_process_confirms() {
    let by = |performer| {
        OrderAction::ALL
            .into_iter()
            .filter(|action| action.performed_by() == performer)
            .map(OrderAction::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        by(PerformedBy::Process),
        ["CONFIRM", "MARK_RESERVED", "REJECT", "EXPIRE"]
    );
    assert_eq!(by(PerformedBy::CustomerOrStaff), ["CANCEL"]);
    assert_eq!(
        by(PerformedBy::Staff),
        ["GIVE_UP", "SHIP", "DELIVER", "RETURN_ITEMS", "REFUND"]
    );
}
