//! What the mutations of orders take.

use async_graphql::{ID, InputObject};

use super::address::AddressInput;
use super::payment::PaymentMethodInput;
use crate::graphql::scalars::MoneyInput;

/// What `placeOrder` takes.
#[derive(Debug, InputObject)]
pub(crate) struct PlaceOrderInput {
    /// 1 to 200 characters that you make up for this order, such as a UUID; keep it until you have the answer. Sent again
    /// with the same input, it gives the first answer again and places no second order; with other input it gives
    /// `IdempotencyKeyReused`.
    pub(crate) idempotency_key: String,
    /// What is ordered: 1 to 200 items, all in one currency. A product may stand in several items.
    pub(crate) items: Vec<OrderItemInput>,
    /// Where it goes.
    pub(crate) shipping_address: AddressInput,
    /// What the shopper was told that the items cost together. If they cost anything else by now, nothing is ordered and
    /// `PriceChanged` says what they cost. If left out, the order is placed at whatever the prices are.
    pub(crate) expected_total: Option<MoneyInput>,
    /// How it is paid. The money is held once all stock is reserved and taken when the order is shipped (or when it is
    /// confirmed, as the shop likes it). If left out and the order costs anything, `PaymentRequired`, unless the shop delivers
    /// on account.
    pub(crate) payment: Option<PaymentMethodInput>,
}

/// What `confirmPayment` takes.
#[derive(Debug, InputObject)]
pub(crate) struct ConfirmPaymentInput {
    /// 1 to 200 characters that you make up each time the customer comes back, such as a UUID. Keep it to send the same
    /// request again when there was no answer.
    pub(crate) idempotency_key: String,
    /// The order, `ord_...`.
    pub(crate) order_id: ID,
}

/// An item to be ordered.
#[derive(Debug, InputObject)]
pub(crate) struct OrderItemInput {
    /// The product, `prd_...`.
    pub(crate) product_id: ID,
    /// How many pieces: 1 to 1,000,000.
    pub(crate) quantity: i32,
}

/// Declares inputs of edits: what they share is written once.
macro_rules! edits {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, InputObject)]
        pub(crate) struct $name {
            /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it
            /// gives the first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
            pub(crate) idempotency_key: String,
            /// The order, `ord_...`.
            pub(crate) order_id: ID,
            /// The version that you saw. If there is another one by now, nothing is done and `VersionConflict` says which.
            /// If left out, the order is changed whatever its version, if its status allows it.
            pub(crate) expected_version: Option<i32>,
            $($(#[$field_doc])* pub(crate) $field: $ty,)*
        }
    )+};
}

edits! {
    /// What `cancelOrder` takes.
    CancelOrderInput {
        /// Why: 1 to 500 characters; may have several lines.
        reason: String,
    }
    /// What `shipOrder` takes.
    ShipOrderInput {
        /// What the carrier calls the parcel: 1 to 100 characters on one line.
        tracking_number: String,
        /// Who carries it: up to 100 characters on one line.
        carrier: Option<String>,
    }
    /// What `deliverOrder` takes.
    DeliverOrderInput {}
    /// What `returnItems` takes.
    ReturnItemsInput {
        /// What comes back: 1 to 200 entries. An item may be named more than once; its pieces are added up.
        items: Vec<ReturnItemInput>,
        /// What is refunded for it: not negative, in the order's currency, and with all refunds before it at most the
        /// order's total.
        refund: MoneyInput,
        /// Why: 1 to 500 characters; may have several lines.
        reason: String,
        /// Whether the pieces can be sold again and go back into stock.
        restock: bool,
    }
    /// What `retryOrder` takes.
    RetryOrderInput {}
    /// What `giveUpOrder` takes.
    GiveUpOrderInput {
        /// Why: 1 to 500 characters; may have several lines.
        reason: String,
    }
    /// What `settleOrderByHand` takes.
    SettleOrderByHandInput {
        /// Why, and how it was done: 1 to 500 characters; may have several lines.
        reason: String,
    }
    /// What `refundOrder` takes.
    RefundOrderInput {
        /// How much goes back: not negative, in the order's currency, and with all refunds before it at most what was, or is
        /// sure to be, taken.
        amount: MoneyInput,
        /// Why: 1 to 500 characters; may have several lines.
        reason: String,
    }
}

/// Pieces of an item that come back.
#[derive(Debug, InputObject)]
pub(crate) struct ReturnItemInput {
    /// Which item: its place in the order's items, from 0.
    pub(crate) item: i32,
    /// How many pieces: at least 1, at most what was delivered and has not come back.
    pub(crate) quantity: i32,
}
