//! Why a line was not taken.

use std::fmt;

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It is not an invoice line; what is wrong with it.
    Unreadable(&'static str),
    /// An adjustment, such as of bad debt: its invoice number begins with another letter than C.
    Bookkeeping,
    /// A price with a fraction of a penny. Kontor's money is whole pence.
    FractionOfAPenny,
    /// A price below zero.
    NegativePrice,
    /// No pieces at all.
    NoPieces,
    /// More pieces or more money in one line than an order can have.
    TooMuch,
    /// Pieces that go at a price although nothing is cancelled.
    NegativeQuantity,
    /// A cancellation that takes nothing back.
    NothingCancelled,
    /// Another customer or country than in the invoice's first line.
    OtherCustomer,
    /// A cancellation of a fee, a discount or a correction by hand: nothing was sold that could come back.
    NotGoods,
    /// A cancellation of what its customer had not bought before, as far as the file goes.
    NoEarlierSale,
    /// A cancellation of more than its customer had bought and not given back.
    MoreThanSold,
    /// A cancellation at a higher price than was paid for the order.
    MoreThanPaid,
    /// The same invoice was imported before, with another content.
    OtherContent,
    /// The order was rejected or cancelled in the shop.
    OrderNotKept,
    /// The order process could not see to the order, which waits in its dead letters.
    Parked,
    /// The shop refused the command.
    ShopRefused,
    /// A cancellation of a sale that was itself refused.
    SaleRefused,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::Unreadable(problem) => problem,
            Self::Bookkeeping => "bookkeeping entry, not a sale",
            Self::FractionOfAPenny => "unit price is not whole pence",
            Self::NegativePrice => "unit price below zero",
            Self::NoPieces => "no pieces",
            Self::TooMuch => "more pieces or money than an order can have",
            Self::NegativeQuantity => "negative quantity at a price, and no cancellation",
            Self::NothingCancelled => "cancellation that takes nothing back",
            Self::OtherCustomer => "another customer than the rest of its invoice",
            Self::NotGoods => "fee, discount or manual entry, with no sale to take back",
            Self::NoEarlierSale => "no earlier sale of this customer to take back",
            Self::MoreThanSold => "more pieces than this customer has left to give back",
            Self::MoreThanPaid => "more money than is left of what was paid",
            Self::OtherContent => "imported before with another content",
            Self::OrderNotKept => "order rejected or cancelled in the shop",
            Self::Parked => "order waits in the dead letters of the order process",
            Self::ShopRefused => "refused by the shop",
            Self::SaleRefused => "takes back a sale that was refused",
        };
        f.pad(why)
    }
}
