//! What may be asked of a product, and why the answer may be no.

use std::num::NonZeroI32;

use super::MAX_ON_HAND;
use crate::ids::OrderId;
use crate::money::{Currency, Money, MoneyError};
use crate::text::{Category, Description, ProductName, Quantity, Reason, Sku};

/// What may be asked of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProductCommand {
    /// Brings it into the catalogue, for sale, with no stock.
    Create {
        /// Must be free, without regard to case.
        sku: Sku,
        /// What it is called.
        name: ProductName,
        /// What there is to say about it.
        description: Description,
        /// Its shelf.
        category: Category,
        /// Price of one piece; not negative.
        price: Money,
    },
    /// Replaces name and description.
    ChangeDetails {
        /// The new name.
        name: ProductName,
        /// The new description.
        description: Description,
    },
    /// Moves it to another shelf.
    ChangeCategory {
        /// The new shelf.
        category: Category,
    },
    /// Sets the price for orders placed from now on.
    ChangePrice {
        /// Not negative, in the same currency.
        price: Money,
    },
    /// Books goods in.
    ReceiveStock {
        /// How many.
        quantity: Quantity,
        /// What they came with.
        reference: Option<Reason>,
    },
    /// Sets the books right; never below what is reserved.
    AdjustStock {
        /// Pieces more or less.
        delta: NonZeroI32,
        /// Why.
        reason: Reason,
    },
    /// Sets pieces aside for an order. The answer is an event, also when it is no.
    Reserve {
        /// For which order. An order holds one reservation of a product; asking again changes nothing.
        order_id: OrderId,
        /// How many: all or none.
        quantity: Quantity,
    },
    /// Gives up an order's reservation, if there is one.
    Release {
        /// Whose.
        order_id: OrderId,
    },
    /// Takes an order's reserved pieces out of the house, if there are any: they were shipped.
    Commit {
        /// Whose.
        order_id: OrderId,
    },
    /// Puts shipped pieces back on the shelf. That no more come back than were delivered is the order's to know; that
    /// this is not done twice, the event store's, by the idempotency key.
    ReturnStock {
        /// From which order.
        order_id: OrderId,
        /// How many.
        quantity: Quantity,
    },
    /// Takes it off sale. Reservations stay; stock and details can still change.
    Discontinue {
        /// Why.
        reason: Option<Reason>,
    },
    /// Puts it on sale again.
    Relist,
}

/// Why a product command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// Nothing was created under this id.
    #[error("there is no such product")]
    NotFound,
    /// The id is taken by a product.
    #[error("the product already exists")]
    AlreadyExists,
    /// A price below zero.
    #[error("the price: {0}")]
    Price(#[from] MoneyError),
    /// A product keeps the currency it was created with.
    #[error("the price is in {current} and cannot change to {requested}")]
    CurrencyCannotChange {
        /// The product's.
        current: Currency,
        /// The command's.
        requested: Currency,
    },
    /// The adjustment would leave fewer pieces than are promised to orders, or than none.
    #[error("{on_hand} on hand, {reserved} reserved: cannot adjust by {delta}")]
    WouldGoBelowReserved {
        /// Pieces on hand.
        on_hand: u64,
        /// Pieces reserved.
        reserved: u64,
        /// What was asked for.
        delta: i32,
    },
    /// More pieces than the books can hold.
    #[error("{on_hand} on hand: more than {MAX_ON_HAND} do not fit")]
    StockOutOfRange {
        /// Pieces on hand before.
        on_hand: u64,
    },
}
