//! What one process needs to answer requests, put together once by the binary.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kontor_domain::Personal;
use kontor_eventstore::{Clock, Deeds, Origin, Progress, Store};
use kontor_fulfilment::payments::PaymentDesk;
use kontor_projections::best_sellers::BestSellers;
use kontor_projections::mirror::Redis;
use kontor_projections::offers::Offers;
use kontor_projections::orders::Orders;
use kontor_projections::products::Products;
use kontor_projections::shelf::Shelf;
use kontor_projections::statuses::OrderStatuses;
use kontor_projections::updates::Updates;

use crate::auth::Tokens;
use crate::passwords::Passwords;
use crate::sessions::{RefreshToken, SessionDesk};
use crate::standing::Standing;
use crate::throttle::Throttle;

/// How long a query waits for the position it asked for, unless configured otherwise.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// One per process, in an `Arc`, given to the schema as data and to the router as state.
pub struct App {
    /// The log.
    pub store: Store,
    /// How far the views have come.
    pub progress: Arc<Progress>,
    /// Product cards: in memory, Redis behind, Postgres behind that.
    pub shelf: Shelf,
    /// What products are sold as, for placing orders.
    pub offers: Offers,
    /// Live order statuses: Redis first, Postgres behind.
    pub statuses: OrderStatuses,
    /// Where orders and the payment gateway meet.
    pub payments: PaymentDesk,
    /// What sells best.
    pub best_sellers: BestSellers,
    /// Orders as they change.
    pub order_updates: Updates<Orders>,
    /// Products as they change.
    pub product_updates: Updates<Products>,
    /// Makes and checks access tokens.
    pub tokens: Tokens,
    /// What has become of accounts and sessions since their tokens were issued.
    pub standing: Standing,
    /// Begins, renews and ends sessions.
    pub sessions: SessionDesk,
    /// Notes what is done and is no event.
    pub deeds: Deeds,
    /// Counts attempts at what can be guessed.
    pub throttle: Throttle,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// How long a query waits for the position it asked for.
    pub patience: Duration,
    /// Whether orders without a means of payment are taken, as on account, although they cost something.
    pub unpaid_orders: bool,
    /// For the readiness check; the read models bring their own.
    pub redis: Redis,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// What is known of the request an operation came with. Found in every operation's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// The client's `x-request-id` if it sent a usable one, or one of ours. Answered as `x-request-id`.
    pub request_id: String,
    /// The client's W3C `traceparent`, if it sent a well-formed one.
    pub traceparent: Option<String>,
    /// Where it came from, as far as proxies that we trust can say; `None` without a network.
    pub address: Option<IpAddr>,
    /// What the client calls itself. Personal data, in a way: not for logs.
    pub user_agent: Option<String>,
    /// The refresh token in the browser's cookie.
    pub session: Option<RefreshToken>,
    /// Whether the answer can set a cookie: it has headers of its own.
    pub sets_cookies: bool,
}

impl RequestInfo {
    /// The request, as what it sets off is written down with.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            request: self.request_id.clone(),
            address: self.address.map(Personal::new),
        }
    }
}
