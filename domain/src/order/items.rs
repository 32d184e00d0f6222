//! What an order consists of, and the sums over it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OrderError;
use crate::ids::ProductId;
use crate::money::{Money, MoneyError};
use crate::product::RefusalReason;
use crate::text::{ProductName, Quantity, Sku};

/// The most items of one order.
pub const MAX_ITEMS: usize = 200;

/// One line of an order. Name and price are those of the moment it was placed, whatever becomes of the product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderItem {
    /// Of what. A product may stand on several lines.
    pub product_id: ProductId,
    /// Its SKU then.
    pub sku: Sku,
    /// Its name then.
    pub name: ProductName,
    /// The price of one piece then.
    pub unit_price: Money,
    /// How many.
    pub quantity: Quantity,
}

impl OrderItem {
    /// The price of the line.
    pub fn line_total(&self) -> Result<Money, MoneyError> {
        self.unit_price.times(self.quantity)
    }
}

/// What could not be reserved for an order, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedItem {
    /// Which product.
    pub product_id: ProductId,
    /// How many pieces the order asked for, over all its lines.
    pub requested: Quantity,
    /// How many there were.
    pub available: u64,
    /// Why.
    pub reason: RefusalReason,
}

/// Pieces of one line that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnLine {
    /// Which line: index into the order's items, from 0.
    pub line: u32,
    /// How many.
    pub quantity: Quantity,
}

/// Pieces of one line that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedLine {
    /// Which line: index into the order's items, from 0.
    pub line: u32,
    /// The product of that line.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
}

/// What the items cost together; refuses no items, too many, a negative price, two currencies, and a sum out of range.
pub fn total(items: &[OrderItem]) -> Result<Money, OrderError> {
    let Some(first) = items.first() else {
        return Err(OrderError::NoItems);
    };
    if items.len() > MAX_ITEMS {
        return Err(OrderError::TooManyItems { items: items.len() });
    }
    let mut total = Money::zero(first.unit_price.currency());
    for item in items {
        item.unit_price.non_negative()?;
        total = total.checked_add(item.line_total()?)?;
    }
    Ok(total)
}

/// How many pieces of each product the items need together: what is to be reserved, one reservation a product.
///
/// Refuses a sum that is no [`Quantity`]; a placed order has none.
pub fn stock_needed(items: &[OrderItem]) -> Result<BTreeMap<ProductId, Quantity>, OrderError> {
    let mut needed: BTreeMap<ProductId, Quantity> = BTreeMap::new();
    for item in items {
        let product_id = item.product_id;
        let sum = match needed.get(&product_id) {
            Some(so_far) => so_far
                .checked_add(item.quantity)
                .map_err(|_| OrderError::TooManyPieces { product_id })?,
            None => item.quantity,
        };
        needed.insert(product_id, sum);
    }
    Ok(needed)
}
