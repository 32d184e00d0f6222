//! Payments: one trait, [`PaymentGateway`], and what stands behind it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`desk`] | where orders and the gateway meet |
//! | [`config`] | which gateway, on what terms |
//! | [`gateway`] | the trait, its requests and its errors |
//! | [`stripe`] | the real thing: Stripe's `PaymentIntents` over HTTP |
//! | [`webhook`] | what Stripe tells on its own: signatures checked, events parsed |
//! | [`simulator`] | a bank for development and tests, with a ledger of its own; also behind Stripe's interface |
//! | [`resilient`] | time limit, retries, circuit breaker and bulkhead around any of them |
//!
//! Money is moved by whoever calls; nothing here knows of orders beyond their id. A call can be repeated at any time with
//! the same idempotency key and gives the same answer, so the caller needs to remember nothing but the key.

pub mod config;
pub mod desk;
pub mod gateway;
pub mod resilient;
pub mod simulator;
pub mod stripe;
pub mod webhook;

pub use config::{GatewayBy, Payments, PaymentsConfig, PaymentsConfigError};
pub use desk::{DeskError, Gateway, PaymentDesk, PaymentTerms};
pub use gateway::{Answer, Authorise, Capture, GatewayError, PaymentGateway, Refund, Void};
pub use resilient::{BreakerState, Resilience, Resilient};
pub use simulator::{Simulator, SimulatorSettings};
pub use stripe::{Stripe, StripeError, StripeSettings};
pub use webhook::{WebhookError, WebhookEvent, WebhookKind, WebhookSecret, WebhookVerifier};
