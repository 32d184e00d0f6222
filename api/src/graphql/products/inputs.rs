//! What the mutations of products take.

use async_graphql::{ID, InputObject};

use crate::graphql::scalars::MoneyInput;

/// Declares inputs of edits: what they share is written once.
macro_rules! edits {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, InputObject)]
        pub(crate) struct $name {
            /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it
            /// gives the first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
            pub(crate) idempotency_key: String,
            /// The product, `prd_...`.
            pub(crate) product_id: ID,
            /// The version that you saw. If there is another one by now, nothing is done and `VersionConflict` says which.
            /// If left out, the product is changed whatever its version.
            pub(crate) expected_version: Option<i32>,
            $($(#[$field_doc])* pub(crate) $field: $ty,)*
        }
    )+};
}

/// What `createProduct` takes.
#[derive(Debug, InputObject)]
pub(crate) struct CreateProductInput {
    /// 1 to 200 characters that you make up for this request, such as a UUID. Sent again with the same input, it gives the
    /// first answer again and does nothing; with other input it gives `IdempotencyKeyReused`.
    pub(crate) idempotency_key: String,
    /// The shop's own name for it: 1 to 64 characters on one line. Must be free, without regard to case.
    pub(crate) sku: String,
    /// What it is called: 1 to 200 characters on one line.
    pub(crate) name: String,
    /// What there is to say about it: up to 10,000 characters; may have several lines.
    #[graphql(default)]
    pub(crate) description: String,
    /// The shelf it stands on: 1 to 100 characters on one line.
    pub(crate) category: String,
    /// The price of one piece; not negative. The currency is for good.
    pub(crate) price: MoneyInput,
}

edits! {
    /// What `changeProductDetails` takes.
    ChangeProductDetailsInput {
        /// The new name: 1 to 200 characters on one line.
        name: String,
        /// The new description: up to 10,000 characters; may have several lines.
        description: String,
    }
    /// What `changeProductCategory` takes.
    ChangeProductCategoryInput {
        /// The new shelf: 1 to 100 characters on one line.
        category: String,
    }
    /// What `changeProductPrice` takes.
    ChangeProductPriceInput {
        /// The new price of one piece; not negative, in the currency it has.
        price: MoneyInput,
    }
    /// What `receiveStock` takes.
    ReceiveStockInput {
        /// How many pieces came in: 1 to 1,000,000.
        quantity: i32,
        /// What they came with, such as the number of a delivery note: up to 500 characters.
        reference: Option<String>,
    }
    /// What `adjustStock` takes.
    AdjustStockInput {
        /// How many pieces there are more (positive) or less (negative) than the books say; not 0.
        delta: i32,
        /// Why: 1 to 500 characters; may have several lines.
        reason: String,
    }
    /// What `discontinueProduct` takes.
    DiscontinueProductInput {
        /// Why: up to 500 characters; may have several lines.
        reason: Option<String>,
    }
    /// What `relistProduct` takes.
    RelistProductInput {}
}
