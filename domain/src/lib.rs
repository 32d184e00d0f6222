//! The decisions of Kontor, and nothing else.
//!
//! Three aggregates ([`User`], [`Product`], [`Order`]) each turn a command into events or a typed refusal, and fold
//! events back into state. Around them stand the value types that commands and events are made of: once such a value
//! exists it is right, so nothing downstream checks it again.
//!
//! What must never live here: a database, a runtime, GraphQL, a clock, randomness. The same events always give the same
//! state, and the same state and command always give the same answer; replay and tests rest on that.
//!
//! The pattern of an aggregate, the same in all three files:
//!
//! - `decide(&self, command)` is pure and returns every event or one error, so a refused command changes nothing;
//! - `handle` decides, then writes: it never waits for anything;
//! - a command whose effect is already there answers with no events. Process managers repeat themselves after a crash and
//!   must not be told off for it;
//! - event variants without data are written `Name {}`, so that a field can be added later without a new event version.
//!
//! The rules of a stored value type may be widened, never narrowed: events written under the old rule must still decode.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "in a test, a panic is the report"))]

pub mod address;
pub mod claims;
pub mod ids;
pub mod money;
pub mod order;
pub mod payment;
pub mod personal;
pub mod product;
pub mod text;
pub mod user;

mod ascii_code;
mod entity;
mod serde_str;

#[cfg(test)]
mod examples;

pub use address::{Address, CountryCode};
pub use claims::{ClaimChange, ClaimKind};
pub use entity::{Entity, Schema};
pub use ids::{IdError, OrderId, PaymentMethodId, ProductId, SessionId, UserId};
pub use money::{Currency, Money, MoneyError};
pub use order::{
    CaptureAt, Order, OrderAction, OrderCommand, OrderError, OrderEvent, OrderItem, OrderStatus, Payment,
    PaymentDue, PaymentStep, PendingStep, PerformedBy, RefusedItem, RejectionCause, ReturnLine, ReturnedLine,
};
pub use payment::{
    DeclineReason, NextAction, NextActionKind, PaymentMethodToken, PaymentReference, PaymentState,
    PaymentStatus,
};
pub use personal::{Personal, PersonalData, PersonalValue, Sealed};
pub use product::{Product, ProductCommand, ProductError, ProductEvent, RefusalReason};
pub use text::{
    AddressLine, Carrier, Category, Description, Email, PasswordHash, PaymentMethodLabel, PersonName, Phone,
    PostalCode, ProductName, Quantity, Reason, Sku, TextError, TextProblem, TrackingNumber,
};
pub use user::{Channels, Role, SavedPaymentMethod, User, UserCommand, UserError, UserEvent};
