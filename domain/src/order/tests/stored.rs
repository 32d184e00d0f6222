use super::*;
use crate::examples::{assert_events_round_trip, assert_snapshot_round_trips};

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
