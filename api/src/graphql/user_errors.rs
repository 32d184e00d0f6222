//! What a mutation may refuse with. Refusals are part of the payload: typed, with data, each with the path of the input
//! it is about.

use async_graphql::{Enum, ID, Interface, SimpleObject};
use kontor_domain::TextProblem;

use super::orders::{OrderAction, OrderStatus};
use super::scalars::{Count, CurrencyCode, Money};

/// Declares the refusals: an object each, their codes, and the interface they share.
macro_rules! user_errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {
        /// What a mutation refused with: the type's name, in capitals. New codes may come; treat an unknown one by its
        /// `message`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
        pub(crate) enum UserErrorCode {
            $($(#[$doc])* $name,)*
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, SimpleObject)]
            pub(crate) struct $name {
                /// Which refusal this is.
                code: UserErrorCode,
                /// The same for people, in English, without personal data. Not for programs: it may change.
                message: String,
                /// Where in the mutation's arguments the reason lies, from the outside in, as
                /// `["input", "items", "0", "quantity"]`; `["input"]` if it is none of its fields in particular.
                path: Vec<String>,
                $($(#[$field_doc])* $field: $ty,)*
            }

            impl $name {
                pub(crate) fn new(message: impl Into<String>, path: Vec<String> $(, $field: $ty)*) -> Self {
                    Self { code: UserErrorCode::$name, message: message.into(), path $(, $field)* }
                }
            }
        )*

        /// A reason why a mutation did nothing, in a form that a program can act on. Members of the mutations' error unions
        /// implement it; ask for `... on UserError { code message path }` to be ready for members that come later.
        #[derive(Debug, Clone, Interface)]
        #[graphql(
            field(name = "code", ty = "&UserErrorCode", desc = "Which refusal this is."),
            field(
                name = "message",
                ty = "&String",
                desc = "The same for people, in English, without personal data. Not for programs: it may change."
            ),
            field(
                name = "path",
                ty = "&Vec<String>",
                desc = "Where in the mutation's arguments the reason lies, from the outside in, as `[\"input\", \"items\", \"0\", \"quantity\"]`; `[\"input\"]` if it is none of its fields in particular."
            )
        )]
        pub(crate) enum UserError {
            $($name($name),)*
        }

        impl UserError {
            /// The same of another place: an aggregate cannot know what a mutation calls its fields.
            pub(crate) fn at(self, path: Vec<String>) -> Self {
                match self {
                    $(Self::$name(it) => Self::$name($name { path, ..it }),)*
                }
            }
        }
    };
}

user_errors! {
    /// A field of the input is not what it must be. All such fields are told at once, and nothing was done.
    InvalidInput {
        /// What is wrong with it.
        problem: InputProblem,
        /// The least length in characters, or the least value, if that is what was missed.
        minimum: Option<i32>,
        /// The greatest length in characters, or the greatest value, if that is what was missed.
        maximum: Option<i32>,
    }
    /// The idempotency key was used before, by the same user, for another mutation or with other input. Nothing was done.
    IdempotencyKeyReused {
        /// The key.
        idempotency_key: String,
    }
    /// Somebody changed it since you read it. Read it again, and decide again.
    VersionConflict {
        /// The version the input expected.
        expected_version: i32,
        /// The version there is.
        current_version: i32,
    }
    /// Too many others were writing to the same thing at the same moment. Nothing was done; the same request may be sent
    /// again, with the same idempotency key.
    Contended {
        /// The newest version that was seen.
        current_version: i32,
    }
    /// There is no such product.
    ProductNotFound {
        /// The id that was given.
        product_id: ID,
    }
    /// The product exists, but is not sold any more.
    ProductNotForSale {
        /// The product.
        product_id: ID,
    }
    /// Another product has this SKU; case does not count.
    SkuTaken {
        /// The product that has it.
        product_id: ID,
    }
    /// A product keeps the currency it was created with.
    CurrencyCannotChange {
        /// The currency of the product's price.
        currency: CurrencyCode,
    }
    /// The adjustment would leave fewer pieces than are promised to orders, or fewer than none.
    StockBelowReserved {
        /// Pieces on hand.
        on_hand: Count,
        /// Of those, pieces reserved for orders.
        reserved: Count,
        /// The change that was asked for.
        delta: i32,
    }
    /// The books cannot hold so many pieces of one product.
    StockTooLarge {
        /// Pieces on hand before.
        on_hand: Count,
        /// The most pieces on hand.
        maximum: Count,
    }
    /// There is no such order, or none that you may see.
    OrderNotFound {
        /// The id that was given.
        order_id: ID,
    }
    /// The order's status does not allow it (any more).
    OrderActionNotAllowed {
        /// Where the order stands.
        status: OrderStatus,
        /// What may be done to an order in this status, by whoever has the right to.
        allowed_actions: Vec<OrderAction>,
    }
    /// The products are priced in more than one currency; an order has one.
    MixedCurrencies {
        /// The currencies, each once.
        currencies: Vec<CurrencyCode>,
    }
    /// The items do not cost what the input expected. Show the shopper the new total, and place the order with that.
    PriceChanged {
        /// What the input expected.
        expected: Money,
        /// What the items cost now.
        actual: Money,
    }
    /// The items of one product ask for more pieces together than one order may.
    TooManyPieces {
        /// The product.
        product_id: ID,
        /// The most pieces of one product in one order.
        maximum: i32,
    }
    /// The order has no such item.
    UnknownOrderItem {
        /// The number of the item that was given: its place in the order's items, from 0.
        item: i32,
    }
    /// More pieces are to come back than were delivered and have not come back.
    MoreThanDelivered {
        /// The item: its place in the order's items, from 0.
        item: i32,
        /// Pieces the input names for this item.
        requested: i32,
        /// Pieces that can still come back.
        returnable: i32,
    }
    /// All refunds together would be more than the order's total.
    RefundTooLarge {
        /// What can still be refunded.
        refundable: Money,
    }
    /// The refund is not in the order's currency.
    WrongCurrency {
        /// The order's currency.
        currency: CurrencyCode,
    }
    /// The order costs something, and nothing was said of how it is to be paid.
    PaymentRequired {
        /// What is to be paid.
        total: Money,
    }
    /// You keep no such payment method.
    PaymentMethodNotFound {
        /// The id that was given.
        payment_method_id: ID,
    }
    /// You keep as many payment methods as can be kept. Remove one first.
    TooManyPaymentMethods {
        /// How many can be kept.
        maximum: i32,
    }
    /// The order was placed without a payment method: no money goes through this shop for it.
    OrderHasNoPayment {}
    /// Nothing was asked of the payment gateway for this order yet, so there is nothing that the customer could have done.
    NothingToConfirm {}
    /// The order waits for nothing that could be tried again.
    NothingPending {}
    /// The payment gateway gave no answer. Nothing was done; the same request may be sent again, with the same idempotency key.
    PaymentGatewayUnavailable {}
    /// There is no such user.
    UserNotFound {
        /// The id that was given.
        user_id: ID,
    }
    /// Another account has this e-mail address; case does not count.
    EmailTaken {}
    /// E-mail address and password do not belong together. Which of the two is wrong is not told.
    InvalidCredentials {}
    /// The password is too easily guessed.
    WeakPassword {
        /// How hard it is to guess, from 0 (among the first ones anybody tries) to 4; see zxcvbn.
        score: i32,
        /// The least score that is taken.
        minimum: i32,
        /// What is wrong with it, in English, for whoever chose it.
        warning: Option<String>,
        /// What would be better, in English.
        suggestions: Vec<String>,
    }
    /// The token is none, or has been used, or its time is over, or the account has another e-mail address by now.
    InvalidToken {}
    /// The account has another e-mail address.
    EmailIsAnother {}
    /// Too many attempts at this account, or from where you are. Each attempt counts, also several in one document.
    TooManyAttempts {
        /// When the next attempt will be looked at, in seconds from now.
        retry_after: i32,
    }
    /// Sessions cannot be begun, renewed or ended at the moment. Nothing is wrong with the request: send it again. Access tokens
    /// that you have stay good until they expire.
    SessionsUnavailable {
        /// When to try again, in seconds from now.
        retry_after: i32,
    }
    /// The session is over: it was ended, nobody has used it for long, it has lasted as long as it may, or the refresh token had been
    /// used before. Log in again.
    SessionEnded {}
    /// You have no such session (any more).
    SessionNotFound {
        /// The id that was given.
        session_id: ID,
    }
    /// The account is deactivated: it cannot log in and takes no changes until it is reactivated.
    AccountDeactivated {}
    /// Every account is a customer's: that role cannot be revoked.
    CustomerRoleStays {}
}

/// What is wrong with a field of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum InputProblem {
    /// It is empty, or nothing but white space.
    Empty,
    /// It has fewer characters, or items, than `minimum`.
    TooShort,
    /// It has more characters, or items, than `maximum`.
    TooLong,
    /// It contains a character that this field never has, such as a control character.
    ForbiddenCharacter,
    /// It is not an e-mail address: one `@` with something before and after it.
    NotAnEmail,
    /// It is not a code of upper-case letters, as country codes are.
    NotACode,
    /// It is a number outside `minimum` and `maximum`, or beyond what fits.
    OutOfRange,
    /// It is an amount below zero.
    Negative,
    /// It is not an id of the kind that is asked for.
    NotAnId,
}

impl InvalidInput {
    /// A text or number that a value type refused.
    pub(crate) fn of_text(problem: TextProblem, path: Vec<String>) -> Self {
        let (kind, minimum, maximum) = match problem {
            TextProblem::Empty => (InputProblem::Empty, None, None),
            TextProblem::TooShort { min } => (InputProblem::TooShort, small(min), None),
            TextProblem::TooLong { max } => (InputProblem::TooLong, None, small(max)),
            TextProblem::ForbiddenCharacter => (InputProblem::ForbiddenCharacter, None, None),
            TextProblem::NotAnEmail => (InputProblem::NotAnEmail, None, None),
            TextProblem::NotACode { .. } => (InputProblem::NotACode, None, None),
            TextProblem::OutOfBounds { min, max } => (InputProblem::OutOfRange, small(min), small(max)),
        };
        Self::new(problem.to_string(), path, kind, minimum, maximum)
    }

    /// A list with too few or too many items.
    pub(crate) fn of_length(length: usize, minimum: usize, maximum: usize, path: Vec<String>) -> Self {
        let problem = if length < minimum {
            InputProblem::TooShort
        } else {
            InputProblem::TooLong
        };
        let message = format!("must have {minimum} to {maximum} items, not {length}");
        Self::new(message, path, problem, small(minimum), small(maximum))
    }
}

fn small<N: TryInto<i32>>(number: N) -> Option<i32> {
    number.try_into().ok()
}

/// Declares the union of what one mutation may refuse with.
macro_rules! refusals {
    ($($(#[$doc:meta])* $union:ident: $($member:ident),+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, async_graphql::Union)]
        pub(crate) enum $union {
            $($member($crate::graphql::user_errors::$member),)+
        }

        impl TryFrom<$crate::graphql::user_errors::UserError> for $union {
            type Error = $crate::graphql::user_errors::UserError;

            fn try_from(error: $crate::graphql::user_errors::UserError) -> Result<Self, Self::Error> {
                match error {
                    $($crate::graphql::user_errors::UserError::$member(it) => Ok(Self::$member(it)),)+
                    other => Err(other),
                }
            }
        }
    )+};
}

pub(crate) use refusals;
