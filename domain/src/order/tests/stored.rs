use super::payment::{placed_paid, rejected_for};
use super::*;
use crate::entity::Entity;
use crate::examples::{assert_events_round_trip, assert_snapshot_round_trips, order as order_id};
use crate::personal::{PersonalValue, Sealed};

#[test]
fn names_are_stored_as_they_are_shown() {
    for status in OrderStatus::ALL {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        assert_eq!(OrderStatus::parse(status.as_str()), Some(status));
    }
    for action in OrderAction::ALL {
        assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
    }
    assert_eq!(OrderStatus::parse("pending"), None);
    assert_eq!(
        OrderError::NotAllowed {
            status: OrderStatus::Shipped,
            action: OrderAction::Cancel
        }
        .to_string(),
        "CANCEL is not allowed when the order is SHIPPED"
    );
}

#[test]
fn the_address_neither_prints_nor_enters_a_snapshot() {
    let order: Order = after(&delivered());
    let snapshot = serde_json::to_string(&order).unwrap();
    let printed = format!("{:?} {:?}", placed(), place(two_items()));
    for personal in ["A Customer", "Quay", "20457"] {
        assert!(!snapshot.contains(personal), "{snapshot}");
        assert!(!printed.contains(personal), "{printed}");
    }
}

#[test]
fn everything_written_about_an_order_is_its_customers_and_can_be_sealed() {
    let said = || reason("for John Smith, tel. 0123");
    let written = [
        rejected_for(RejectionCause::GivenUp(said())),
        OrderEvent::Cancelled {
            reason: said(),
            was: OrderStatus::Pending,
            total: gbp(3500),
        },
        OrderEvent::RefundOrdered {
            amount: gbp(500),
            owed: gbp(500),
            reason: said(),
        },
        OrderEvent::ItemsReturned {
            lines: Vec::new(),
            refund: gbp(0),
            refunded: gbp(0),
            reason: said(),
            restock: false,
        },
        OrderEvent::SettledByHand {
            due: PaymentStep::Authorise,
            amount: None,
            reason: said(),
        },
    ];
    let mut order = after::<Order>(&[placed_paid()]);
    for event in &written {
        let mut sealed = event.clone();
        assert_eq!(order.person(order_id(1), &sealed), Some(user(1)));
        assert!(Order::outlives_its_person(&sealed));
        seal(Order::personal_in(&mut sealed));
        let json = serde_json::to_string(&sealed).unwrap();
        assert!(!json.contains("John") && !json.contains("0123"), "{json}");
        assert_eq!(serde_json::from_str::<OrderEvent>(&json).unwrap(), sealed);
        order.apply(event.clone());
    }
    seal(order.personal());
    let json = serde_json::to_string(&order).unwrap();
    assert!(
        !json.contains("John") && json.contains("sealed:v1:"),
        "why the last step was settled is remembered: {json}"
    );
    // Nobody begins an order for somebody who is no more, and it says itself whose it is.
    assert!(!Order::outlives_its_person(&placed()));
    assert_eq!(Order::default().person(order_id(1), &placed()), Some(user(1)));
}

fn seal(values: Vec<&mut dyn PersonalValue>) {
    for value in values {
        value.seal(Sealed::nothing(user(1)));
    }
}

#[test]
fn events_and_snapshots_round_trip() {
    let samples = [
        placed(),
        confirmed(),
        shipped(),
        OrderEvent::Shipped {
            tracking_number: "T-1".parse().unwrap(),
            carrier: Some("Cog".parse().unwrap()),
        },
        OrderEvent::Delivered {},
        came_back(&[(0, 1, 2)], gbp(2000), gbp(2000)),
        rejected(),
        cancelled(),
    ]
    .into_iter()
    .chain(super::payment::of_every_kind())
    .collect::<Vec<_>>();
    assert_events_round_trip(
        &samples,
        &[
            "Placed",
            "Reserved",
            "PaymentActionRequired",
            "PaymentAuthorised",
            "PaymentDeclined",
            "PaymentCaptured",
            "PaymentVoided",
            "PaymentRefunded",
            "RefundOrdered",
            "SettledByHand",
            "RetryRequested",
            "Confirmed",
            "Rejected",
            "Cancelled",
            "Shipped",
            "Delivered",
            "ItemsReturned",
        ],
    );
    assert_snapshot_round_trips(&after::<Order>(&samples[..6]));
    assert_snapshot_round_trips(&after::<Order>(&super::payment::of_every_kind()));
    assert_snapshot_round_trips(&Order::default());
}
