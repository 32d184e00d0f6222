//! Values for the tests of this crate.

use std::collections::BTreeSet;

use cqrs_es::{Aggregate, DomainEvent};
use ulid::Ulid;

use crate::address::Address;
use crate::ids::{OrderId, ProductId, UserId};
use crate::money::Money;
use crate::order::OrderItem;
use crate::personal::Personal;
use crate::text::{Quantity, Reason};

pub(crate) fn user(n: u128) -> UserId {
    UserId::from_ulid(Ulid(n))
}

pub(crate) fn product(n: u128) -> ProductId {
    ProductId::from_ulid(Ulid(n))
}

pub(crate) fn order(n: u128) -> OrderId {
    OrderId::from_ulid(Ulid(n))
}

pub(crate) fn money(amount_minor: i64, currency: &str) -> Money {
    Money::new(amount_minor, currency.parse().unwrap()).unwrap()
}

pub(crate) fn gbp(amount_minor: i64) -> Money {
    money(amount_minor, "GBP")
}

pub(crate) fn pieces(n: u32) -> Quantity {
    Quantity::new(n).unwrap()
}

/// Of an order or an account it is personal, of a product it is not.
pub(crate) fn reason<R: From<Reason>>(text: &str) -> R {
    Reason::new(text).unwrap().into()
}

pub(crate) fn item(product_number: u128, unit_price: Money, quantity: u32) -> OrderItem {
    OrderItem {
        product_id: product(product_number),
        sku: format!("SKU-{product_number}").parse().unwrap(),
        name: "Lantern".parse().unwrap(),
        unit_price,
        quantity: pieces(quantity),
    }
}

pub(crate) fn address() -> Personal<Address> {
    Personal::new(Address {
        recipient: "A Customer".parse().unwrap(),
        line1: "1 Quay".parse().unwrap(),
        line2: None,
        city: "Harbour".parse().unwrap(),
        region: None,
        postal_code: "20457".parse().unwrap(),
        country: "DE".parse().unwrap(),
        phone: Some("+49 40 1".parse().unwrap()),
    })
}

/// The state after some events.
pub(crate) fn after<A: Aggregate>(events: &[A::Event]) -> A {
    let mut state = A::default();
    for event in events {
        state.apply(event.clone());
    }
    state
}

/// Every variant is among the samples, is stored under its own name, and comes back as it was.
pub(crate) fn assert_events_round_trip<E: DomainEvent>(samples: &[E], variants: &[&str]) {
    let mut seen = BTreeSet::new();
    for event in samples {
        let json = serde_json::to_string(event).unwrap();
        assert_eq!(
            &serde_json::from_str::<E>(&json).unwrap(),
            event,
            "as text: {json}"
        );
        let value = serde_json::to_value(event).unwrap();
        assert_eq!(
            &serde_json::from_value::<E>(value.clone()).unwrap(),
            event,
            "as a value: {json}"
        );
        let stored: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        assert_eq!(stored, [event.event_type()]);
        seen.insert(event.event_type());
    }
    let expected: BTreeSet<_> = variants.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(seen, expected);
}

/// A snapshot comes back as the state it was taken of, and not at all if it has another schema.
pub(crate) fn assert_snapshot_round_trips<A: Aggregate + PartialEq + std::fmt::Debug>(state: &A) {
    let mut snapshot = serde_json::to_value(state).unwrap();
    assert_eq!(&serde_json::from_value::<A>(snapshot.clone()).unwrap(), state);
    let other_schema = snapshot["schema"].as_u64().unwrap() + 1;
    snapshot["schema"] = other_schema.into();
    assert!(serde_json::from_value::<A>(snapshot).is_err());
}
