use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Few orders and small numbers, so that commands meet each other.
fn command() -> impl Strategy<Value = ProductCommand> {
    let order_id = (0_u128..5).prop_map(order);
    let quantity = (1_u32..12).prop_map(pieces);
    prop_oneof![
        1 => Just(create()),
        1 => (0_i64..3).prop_map(|minor| ProductCommand::ChangePrice { price: gbp(minor) }),
        3 => quantity.clone().prop_map(|quantity| ProductCommand::ReceiveStock { quantity, reference: None }),
        3 => (-20_i32..20).prop_map(|delta| adjust(if delta == 0 { i32::MIN } else { delta })),
        6 => (order_id.clone(), quantity.clone())
            .prop_map(|(order_id, quantity)| ProductCommand::Reserve { order_id, quantity }),
        3 => order_id.clone().prop_map(|order_id| ProductCommand::Release { order_id }),
        3 => order_id.clone().prop_map(|order_id| ProductCommand::Commit { order_id }),
        2 => (order_id, quantity)
            .prop_map(|(order_id, quantity)| ProductCommand::ReturnStock { order_id, quantity }),
        1 => Just(ProductCommand::Discontinue { reason: None }),
        2 => Just(ProductCommand::Relist),
    ]
}

/// The books kept a second time, from the movements in the events alone and never from their totals.
#[derive(Default)]
struct Books {
    on_hand: i64,
    live: BTreeMap<OrderId, i64>,
}

impl Books {
    fn enter(&mut self, event: &ProductEvent) {
        match event {
            ProductEvent::StockReceived { quantity, .. } | ProductEvent::StockReturned { quantity, .. } => {
                self.on_hand += i64::from(quantity.get());
            }
            ProductEvent::StockAdjusted { delta, .. } => self.on_hand += i64::from(*delta),
            ProductEvent::StockReserved {
                order_id, quantity, ..
            } => {
                let before = self.live.insert(*order_id, quantity.get().into());
                assert_eq!(before, None, "reserved twice");
            }
            ProductEvent::ReservationReleased {
                order_id, quantity, ..
            } => self.close(*order_id, *quantity),
            ProductEvent::ReservationCommitted {
                order_id, quantity, ..
            } => {
                self.close(*order_id, *quantity);
                self.on_hand -= i64::from(quantity.get());
            }
            _ => {}
        }
    }

    fn close(&mut self, order_id: OrderId, quantity: Quantity) {
        let before = self.live.remove(&order_id);
        assert_eq!(before, Some(quantity.get().into()), "closed what was not open");
    }
}

proptest! {
    #[test]
    fn stock_is_never_oversold_and_the_books_balance(
        commands in prop::collection::vec(command(), 0..80),
    ) {
        let mut events = vec![created(), received(20, 20)];
        let mut product: Product = after(&events);
        let mut books = Books { on_hand: 20, ..Books::default() };
        for command in commands {
            let Ok(decided) = product.decide(command) else { continue };
            for event in decided {
                books.enter(&event);
                product.apply(event.clone());
                events.push(event);
            }
            let (on_hand, reserved) =
                (i64::try_from(product.on_hand()).unwrap(), i64::try_from(product.reserved()).unwrap());
            prop_assert!(0 <= reserved && reserved <= on_hand);
            prop_assert_eq!(reserved, books.live.values().sum::<i64>());
            prop_assert_eq!(on_hand, books.on_hand);
            prop_assert_eq!(i64::try_from(product.available()).unwrap(), on_hand - reserved);
        }
        for number in 0..5 {
            let held = product.reservation(order(number)).map(|quantity| i64::from(quantity.get()));
            prop_assert_eq!(held, books.live.get(&order(number)).copied());
        }
        prop_assert_eq!(&after::<Product>(&events), &product);
        assert_snapshot_round_trips(&product);
    }

    #[test]
    fn a_repeated_reservation_command_changes_nothing(
        commands in prop::collection::vec(command(), 0..30), number in 0_u128..5, quantity in 1_u32..12,
    ) {
        let mut product: Product = after(&[created(), received(100, 100)]);
        for command in commands {
            for event in product.decide(command).unwrap_or_default() {
                product.apply(event);
            }
        }
        let order_id = order(number);
        for command in [
            reserve(number, quantity),
            ProductCommand::Commit { order_id },
            ProductCommand::Release { order_id },
        ] {
            for event in product.decide(command.clone()).unwrap() {
                product.apply(event);
            }
            for event in product.decide(command).unwrap() {
                // Only a refusal is said again; it moves nothing.
                prop_assert_eq!(event.name(), "ReservationRefused");
            }
        }
    }
}
