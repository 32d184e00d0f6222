use cqrs_es::test::TestFramework;

use super::*;
use crate::examples::{
    after, assert_events_round_trip, assert_snapshot_round_trips, gbp, money, order, pieces, reason,
};
use crate::money::MoneyError;

mod properties;

fn given(events: Vec<ProductEvent>) -> cqrs_es::test::AggregateTestExecutor<Product> {
    TestFramework::<Product>::with(()).given(events)
}

pub(super) fn create() -> ProductCommand {
    ProductCommand::Create {
        sku: "Lan-1".parse().unwrap(),
        name: "Lantern".parse().unwrap(),
        description: "Burns".parse().unwrap(),
        category: "Light".parse().unwrap(),
        price: gbp(1250),
    }
}

fn created() -> ProductEvent {
    ProductEvent::Created {
        sku: "Lan-1".parse().unwrap(),
        name: "Lantern".parse().unwrap(),
        description: "Burns".parse().unwrap(),
        category: "Light".parse().unwrap(),
        price: gbp(1250),
    }
}

fn received(quantity: u32, on_hand: u64) -> ProductEvent {
    ProductEvent::StockReceived {
        quantity: pieces(quantity),
        on_hand,
        reference: None,
    }
}

fn reserved(order_number: u128, quantity: u32, reserved: u64) -> ProductEvent {
    ProductEvent::StockReserved {
        order_id: order(order_number),
        quantity: pieces(quantity),
        reserved,
    }
}

fn reserve(order_number: u128, quantity: u32) -> ProductCommand {
    ProductCommand::Reserve {
        order_id: order(order_number),
        quantity: pieces(quantity),
    }
}

fn adjust(delta: i32) -> ProductCommand {
    ProductCommand::AdjustStock {
        delta: NonZeroI32::new(delta).unwrap(),
        reason: reason("counted"),
    }
}

fn discontinued() -> ProductEvent {
    ProductEvent::Discontinued { reason: None }
}

/// Ten on hand, four of them reserved for order 1.
fn ten_of_which_four_reserved() -> Vec<ProductEvent> {
    vec![created(), received(10, 10), reserved(1, 4, 4)]
}

#[test]
fn creating_lists_it_without_stock() {
    given(vec![]).when(create()).then_expect_events(vec![created()]);
    let product: Product = after(&[created()]);
    assert!(product.exists() && product.is_listed());
    assert_eq!((product.on_hand(), product.available()), (0, 0));
    assert_eq!(product.price(), Some(gbp(1250)));
    assert_eq!(product.sku().unwrap().as_str(), "Lan-1");
}

#[test]
fn an_id_is_created_once() {
    given(vec![created()])
        .when(create())
        .then_expect_error(ProductError::AlreadyExists);
}

#[test]
fn what_was_never_created_is_not_found_not_even_to_reserve() {
    for command in [
        reserve(1, 1),
        ProductCommand::Release { order_id: order(1) },
        ProductCommand::Relist,
        adjust(1),
        ProductCommand::ChangePrice { price: gbp(1) },
    ] {
        given(vec![])
            .when(command)
            .then_expect_error(ProductError::NotFound);
    }
    assert!(!Product::default().exists() && !Product::default().is_listed());
}

#[test]
fn a_price_is_never_negative_and_keeps_its_currency() {
    let mut negative = create();
    if let ProductCommand::Create { price, .. } = &mut negative {
        *price = gbp(-1);
    }
    given(vec![])
        .when(negative)
        .then_expect_error(ProductError::Price(MoneyError::Negative));
    given(vec![created()])
        .when(ProductCommand::ChangePrice { price: gbp(-1) })
        .then_expect_error(ProductError::Price(MoneyError::Negative));
    given(vec![created()])
        .when(ProductCommand::ChangePrice {
            price: money(1250, "EUR"),
        })
        .then_expect_error(ProductError::CurrencyCannotChange {
            current: "GBP".parse().unwrap(),
            requested: "EUR".parse().unwrap(),
        });
    given(vec![created()])
        .when(ProductCommand::ChangePrice { price: gbp(0) })
        .then_expect_events(vec![ProductEvent::PriceChanged {
            price: gbp(0),
            previous: gbp(1250),
        }]);
}

#[test]
fn details_and_category_change() {
    let details = ProductEvent::DetailsChanged {
        name: "Lamp".parse().unwrap(),
        description: "".parse().unwrap(),
    };
    given(vec![created()])
        .when(ProductCommand::ChangeDetails {
            name: "Lamp".parse().unwrap(),
            description: "".parse().unwrap(),
        })
        .then_expect_events(vec![details.clone()]);
    given(vec![created()])
        .when(ProductCommand::ChangeCategory {
            category: "Dark".parse().unwrap(),
        })
        .then_expect_events(vec![ProductEvent::CategoryChanged {
            category: "Dark".parse().unwrap(),
            previous: "Light".parse().unwrap(),
        }]);
    let product: Product = after(&[created(), details]);
    assert_eq!(product.name().unwrap().as_str(), "Lamp");
}

#[test]
fn stock_comes_in_and_the_books_are_set_right() {
    given(vec![created(), received(10, 10)])
        .when(ProductCommand::ReceiveStock {
            quantity: pieces(5),
            reference: Some(reason("note 7")),
        })
        .then_expect_events(vec![ProductEvent::StockReceived {
            quantity: pieces(5),
            on_hand: 15,
            reference: Some(reason("note 7")),
        }]);
    given(ten_of_which_four_reserved())
        .when(adjust(-6))
        .then_expect_events(vec![ProductEvent::StockAdjusted {
            delta: -6,
            on_hand: 4,
            reason: reason("counted"),
        }]);
}

#[test]
fn an_adjustment_leaves_what_is_promised() {
    for delta in [-7, -11, i32::MIN] {
        given(ten_of_which_four_reserved())
            .when(adjust(delta))
            .then_expect_error(ProductError::WouldGoBelowReserved {
                on_hand: 10,
                reserved: 4,
                delta,
            });
    }
}

#[test]
fn stock_has_an_upper_bound() {
    let full = ProductEvent::StockAdjusted {
        delta: 1,
        on_hand: MAX_ON_HAND,
        reason: reason("counted"),
    };
    for command in [
        adjust(1),
        ProductCommand::ReceiveStock {
            quantity: pieces(1),
            reference: None,
        },
        ProductCommand::ReturnStock {
            order_id: order(1),
            quantity: pieces(1),
        },
    ] {
        given(vec![created(), full.clone()])
            .when(command)
            .then_expect_error(ProductError::StockOutOfRange { on_hand: MAX_ON_HAND });
    }
    given(vec![created(), full])
        .when(adjust(-1))
        .then_expect_events(vec![ProductEvent::StockAdjusted {
            delta: -1,
            on_hand: MAX_ON_HAND - 1,
            reason: reason("counted"),
        }]);
}

#[test]
fn a_reservation_takes_all_or_nothing() {
    given(ten_of_which_four_reserved())
        .when(reserve(2, 6))
        .then_expect_events(vec![reserved(2, 6, 10)]);
    given(ten_of_which_four_reserved())
        .when(reserve(2, 7))
        .then_expect_events(vec![ProductEvent::ReservationRefused {
            order_id: order(2),
            requested: pieces(7),
            available: 6,
            reason: RefusalReason::InsufficientStock,
        }]);
}

#[test]
fn a_discontinued_product_takes_no_new_reservation_but_keeps_the_old() {
    let mut events = ten_of_which_four_reserved();
    events.push(discontinued());
    given(events.clone())
        .when(reserve(2, 1))
        .then_expect_events(vec![ProductEvent::ReservationRefused {
            order_id: order(2),
            requested: pieces(1),
            available: 6,
            reason: RefusalReason::Discontinued,
        }]);
    given(events.clone())
        .when(ProductCommand::Commit { order_id: order(1) })
        .then_expect_events(vec![ProductEvent::ReservationCommitted {
            order_id: order(1),
            quantity: pieces(4),
            on_hand: 6,
            reserved: 0,
        }]);
    given(events)
        .when(ProductCommand::Relist)
        .then_expect_events(vec![ProductEvent::Relisted {}]);
}

#[test]
fn a_reservation_ends_once() {
    let released = ProductEvent::ReservationReleased {
        order_id: order(1),
        quantity: pieces(4),
        reserved: 0,
    };
    given(ten_of_which_four_reserved())
        .when(ProductCommand::Release { order_id: order(1) })
        .then_expect_events(vec![released.clone()]);
    let mut events = ten_of_which_four_reserved();
    events.push(released);
    for command in [
        ProductCommand::Release { order_id: order(1) },
        ProductCommand::Commit { order_id: order(1) },
    ] {
        given(events.clone()).when(command).then_expect_events(vec![]);
    }
    let product: Product = after(&events);
    assert_eq!(product.reservation(order(1)), None);
    assert_eq!(product.available(), 10);
}

#[test]
fn what_came_back_is_for_sale_again() {
    given(vec![created(), received(10, 10)])
        .when(ProductCommand::ReturnStock {
            order_id: order(1),
            quantity: pieces(2),
        })
        .then_expect_events(vec![ProductEvent::StockReturned {
            order_id: order(1),
            quantity: pieces(2),
            on_hand: 12,
        }]);
}

#[test]
fn what_is_already_so_gives_no_events() {
    for command in [
        reserve(1, 4),
        reserve(1, 9), // The first answer stands.
        ProductCommand::Release { order_id: order(2) },
        ProductCommand::Commit { order_id: order(2) },
        ProductCommand::ChangePrice { price: gbp(1250) },
        ProductCommand::ChangeCategory {
            category: "Light".parse().unwrap(),
        },
        ProductCommand::ChangeDetails {
            name: "Lantern".parse().unwrap(),
            description: "Burns".parse().unwrap(),
        },
        ProductCommand::Relist,
    ] {
        given(ten_of_which_four_reserved())
            .when(command)
            .then_expect_events(vec![]);
    }
    given(vec![created(), discontinued()])
        .when(ProductCommand::Discontinue {
            reason: Some(reason("again")),
        })
        .then_expect_events(vec![]);
}

#[test]
fn the_sku_is_claimed_case_folded_and_stays_claimed() {
    let take = ClaimChange::Take {
        kind: ClaimKind::Sku,
        value: "lan-1".to_owned(),
    };
    assert_eq!(Product::claim_changes(&created()), [take]);
    assert_eq!(Product::claim_changes(&discontinued()), []);
}

#[test]
fn events_and_snapshots_round_trip() {
    let refused = |reason| ProductEvent::ReservationRefused {
        order_id: order(2),
        requested: pieces(7),
        available: 6,
        reason,
    };
    let samples = [
        created(),
        ProductEvent::DetailsChanged {
            name: "Lamp".parse().unwrap(),
            description: "two\nlines".parse().unwrap(),
        },
        ProductEvent::CategoryChanged {
            category: "Dark".parse().unwrap(),
            previous: "Light".parse().unwrap(),
        },
        ProductEvent::PriceChanged {
            price: gbp(1),
            previous: gbp(1250),
        },
        received(10, 10),
        ProductEvent::StockReceived {
            quantity: pieces(1),
            on_hand: 11,
            reference: Some(reason("note 7")),
        },
        ProductEvent::StockAdjusted {
            delta: -1,
            on_hand: 10,
            reason: reason("broken"),
        },
        reserved(1, 4, 4),
        reserved(3, 1, 5),
        refused(RefusalReason::InsufficientStock),
        refused(RefusalReason::Discontinued),
        ProductEvent::ReservationReleased {
            order_id: order(3),
            quantity: pieces(1),
            reserved: 4,
        },
        reserved(4, 2, 6),
        ProductEvent::ReservationCommitted {
            order_id: order(4),
            quantity: pieces(2),
            on_hand: 8,
            reserved: 4,
        },
        ProductEvent::StockReturned {
            order_id: order(4),
            quantity: pieces(2),
            on_hand: 10,
        },
        discontinued(),
        ProductEvent::Discontinued {
            reason: Some(reason("out of fashion")),
        },
        ProductEvent::Relisted {},
    ];
    assert_events_round_trip(
        &samples,
        &[
            "Created",
            "DetailsChanged",
            "CategoryChanged",
            "PriceChanged",
            "StockReceived",
            "StockAdjusted",
            "StockReserved",
            "ReservationRefused",
            "ReservationReleased",
            "ReservationCommitted",
            "StockReturned",
            "Discontinued",
            "Relisted",
        ],
    );
    let product: Product = after(&samples);
    assert_eq!(product.reservation(order(1)), Some(pieces(4)));
    assert_snapshot_round_trips(&product);
    for reason in [RefusalReason::InsufficientStock, RefusalReason::Discontinued] {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}
