//! Values to test with. Nobody in them exists.

use kontor_domain::{Address, Money, OrderItem, Personal, Quantity, Reason};

use crate::builders::Item;

/// So many pence.
#[must_use]
pub fn gbp(amount_minor: i64) -> Money {
    Money::new(amount_minor, "GBP".parse().unwrap()).unwrap()
}

/// So many pieces.
#[must_use]
pub fn pieces(number: u32) -> Quantity {
    Quantity::new(number).unwrap()
}

/// A reason: of an order or an account it is personal, of a product it is not.
#[must_use]
pub fn reason<R: From<Reason>>(text: &str) -> R {
    text.parse::<Reason>().unwrap().into()
}

/// Where parcels go.
#[must_use]
pub fn address() -> Personal<Address> {
    Personal::new(Address {
        recipient: "A Customer".parse().unwrap(),
        line1: "1 Quay".parse().unwrap(),
        line2: None,
        city: "Harbour".parse().unwrap(),
        region: None,
        postal_code: "20457".parse().unwrap(),
        country: "DE".parse().unwrap(),
        phone: None,
    })
}

/// A line of an order.
#[must_use]
pub fn line(item: &Item, quantity: u32) -> OrderItem {
    OrderItem {
        product_id: item.id,
        sku: item.sku.clone(),
        name: item.name.clone(),
        unit_price: item.price,
        quantity: pieces(quantity),
    }
}
