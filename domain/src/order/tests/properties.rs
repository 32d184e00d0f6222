use proptest::prelude::*;

use super::*;
use crate::examples::assert_snapshot_round_trips;

fn items() -> impl Strategy<Value = Vec<OrderItem>> {
    let item = (0_u128..4, 0_i64..5_000, 1_u32..6)
        .prop_map(|(number, price, quantity)| item(number, gbp(price), quantity));
    prop::collection::vec(item, 1..5)
}

fn command() -> impl Strategy<Value = OrderCommand> {
    let lines = prop::collection::vec((0_u32..5, 1_u32..4), 0..3);
    prop_oneof![
        1 => Just(place(two_items())),
        1 => Just(OrderCommand::Confirm),
        1 => Just(OrderCommand::MarkReserved),
        1 => Just(OrderCommand::Reject { refused: refused() }),
        1 => Just(cancel()),
        2 => (1..3).prop_map(|n| ship(&format!("T-{n}"))),
        2 => Just(OrderCommand::Deliver),
        8 => (lines, -10_i64..6_000).prop_map(|(lines, refund)| back(&lines, gbp(refund))),
    ]
}

/// Begins with the usual way to the door about half of the time; otherwise returns would hardly ever be reached.
fn commands() -> impl Strategy<Value = Vec<OrderCommand>> {
    let usual = vec![OrderCommand::Confirm, ship("T-1"), OrderCommand::Deliver];
    let beginning = prop_oneof![Just(vec![]), Just(usual)];
    (beginning, prop::collection::vec(command(), 0..30))
        .prop_map(|(beginning, rest)| [beginning, rest].concat())
}

fn action_of(event: &OrderEvent) -> OrderAction {
    match event {
        OrderEvent::Placed { .. } => panic!("placed twice"),
        OrderEvent::Confirmed { .. } => OrderAction::Confirm,
        OrderEvent::Rejected { .. } => OrderAction::Reject,
        OrderEvent::Cancelled { .. } => OrderAction::Cancel,
        OrderEvent::Shipped { .. } => OrderAction::Ship,
        OrderEvent::Delivered {} => OrderAction::Deliver,
        OrderEvent::ItemsReturned { .. } => OrderAction::ReturnItems,
        other => panic!("{} of an order without a payment", other.name()),
    }
}

proptest! {
    #[test]
    fn the_total_is_the_sum_of_the_items(items in items()) {
        let sum: i64 = items
            .iter()
            .map(|item| item.unit_price.amount_minor() * i64::from(item.quantity.get()))
            .sum();
        let pieces: u32 = items.iter().map(|item| item.quantity.get()).sum();
        let events = Order::default().decide(place(items.clone())).unwrap();
        let order: Order = after(&events);
        prop_assert_eq!(order.total(), Some(gbp(sum)));
        let needed: u32 = stock_needed(&items).unwrap().values().map(|quantity| quantity.get()).sum();
        prop_assert_eq!(needed, pieces);
    }

    #[test]
    fn an_order_walks_the_table_and_gives_back_no_more_than_it_took(
        items in items(), commands in commands(),
    ) {
        let mut events = Order::default().decide(place(items.clone())).unwrap();
        let mut order: Order = after(&events);
        let total = order.total().unwrap().amount_minor();
        let mut refunded = 0;
        let mut returned = vec![0; items.len()];
        for command in commands {
            let from = order.status().unwrap();
            let Ok(decided) = order.decide(command) else { continue };
            prop_assert!(decided.len() <= 1);
            for event in decided {
                order.apply(event.clone());
                let step = (from, action_of(&event), order.status().unwrap());
                prop_assert!(TRANSITIONS.contains(&step), "{:?}", step);
                if let OrderEvent::ItemsReturned { lines, refund, .. } = &event {
                    refunded += refund.amount_minor();
                    for line in lines {
                        let index = line.line as usize;
                        prop_assert_eq!(line.product_id, items[index].product_id);
                        returned[index] += line.quantity.get();
                    }
                }
                events.push(event);
            }
            prop_assert!(refunded <= total);
            prop_assert_eq!(order.refunded().unwrap().amount_minor(), refunded);
            for (returned, item) in returned.iter().zip(&items) {
                prop_assert!(*returned <= item.quantity.get());
            }
        }
        prop_assert_eq!(&after::<Order>(&events), &order);
        assert_snapshot_round_trips(&order);
    }
}
