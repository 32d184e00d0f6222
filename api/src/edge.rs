//! What stands between the open internet and the engine: who may come in, how many, and how often.

mod headers;
mod places;

use std::net::IpAddr;
use std::sync::Arc;

use async_graphql::ServerError;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{COOKIE, HOST, ORIGIN, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use kontor_domain::UserId;
use kontor_projections::mirror::Redis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use self::headers::{compressed, hardened};
pub(crate) use self::places::SocketPlace;
use self::places::Sockets;
use crate::address::Proxies;
use crate::connections::Peer;
use crate::http::Problem;
use crate::persisted::TrustedDocuments;
use crate::rates::{RateLimits, Rates, Verdict};
use crate::reply::{self, Code};

/// How the endpoint is protected, beside the bounds on one request ([`crate::Limits`]).
#[derive(Debug, Clone)]
pub struct Protection {
    /// Whose word on where a request comes from is taken.
    pub proxies: Proxies,
    /// How much one address and one user may ask for; `None`: anything.
    pub rates: Option<RateLimits>,
    /// Requests that may be under way at once, streams and sockets not counted.
    pub requests: usize,
    /// Sockets that may be open.
    pub sockets: usize,
    /// Sockets that one address may have open.
    pub sockets_of_address: usize,
    /// Whether the schema may be asked for, and names be suggested.
    pub introspection: bool,
    /// The only documents that are executed; `None`: any.
    pub documents: Option<Arc<TrustedDocuments>>,
    /// Whether browsers reach us by TLS, and only so.
    pub tls: bool,
}

impl Default for Protection {
    /// Bounds, but no rates: what counts requests has to be told where to.
    fn default() -> Self {
        Self {
            proxies: Proxies::default(),
            rates: None,
            requests: 1_024,
            sockets: 20_000,
            sockets_of_address: 1_000,
            introspection: true,
            documents: None,
            tls: false,
        }
    }
}

/// [`Protection`] at work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge {
    proxies: Arc<Proxies>,
    rates: Option<Rates>,
    requests: Arc<Semaphore>,
    sockets: Arc<Sockets>,
    origins: Arc<[HeaderValue]>,
}

impl Edge {
    /// Counts in Redis, if there is one.
    #[must_use]
    pub fn new(protection: &Protection, origins: &[HeaderValue], redis: Option<Redis>) -> Self {
        Self {
            proxies: Arc::new(protection.proxies.clone()),
            rates: protection.rates.map(|limits| Rates::new(limits, redis)),
            requests: Arc::new(Semaphore::new(protection.requests.min(Semaphore::MAX_PERMITS))),
            sockets: Arc::new(Sockets::new(protection.sockets, protection.sockets_of_address)),
            origins: origins.into(),
        }
    }

    /// Where a request comes from.
    pub(crate) fn address(&self, request: &Request) -> Option<IpAddr> {
        let ConnectInfo(Peer(peer)) = request.extensions().get::<ConnectInfo<Peer>>()?;
        Some(self.proxies.client(peer.ip(), request.headers()))
    }

    /// A place among the requests under way. Nobody waits for one: a queue helps nobody who has a time limit.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, ServerError> {
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            metrics::counter!("kontor_requests_shed_total").increment(1);
            reply::later(
                Code::Overloaded,
                "too many requests are under way; come back in a second",
                1,
            )
        })
    }

    /// A place among the open sockets.
    pub(crate) fn socket_place(&self, address: Option<IpAddr>) -> Result<SocketPlace, Problem> {
        self.sockets.take(address)
    }

    /// Who was refused and has not waited.
    pub(crate) fn still_refused(&self, address: Option<IpAddr>) -> Option<Verdict> {
        self.rates.as_ref()?.still_refused(address)
    }

    /// Counts a request. `None` if nobody counts.
    pub(crate) async fn ask(
        &self,
        address: Option<IpAddr>,
        user: Option<UserId>,
        cost: u64,
    ) -> Option<Verdict> {
        let verdict = self.rates.as_ref()?.ask(address, user, cost).await;
        Some(verdict)
    }

    /// A browser sends cookies along whoever's page opens the socket, and asks no permission first. So a socket with cookies
    /// is opened by our own pages, or those of configured origins.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN).filter(|_| headers.contains_key(COOKIE)) else {
            return Ok(());
        };
        let host = headers.get(HOST).map(HeaderValue::as_bytes);
        let own = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, authority)| host == Some(authority.as_bytes()));
        if own || self.origins.contains(origin) {
            return Ok(());
        }
        let message = "a page of this origin may not open a socket with cookies";
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            reply::error(Code::Forbidden, message),
        ))
    }
}

/// Too many are asking.
pub(crate) fn overloaded(error: ServerError) -> Problem {
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error);
    problem.header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
    problem
}

/// What somebody is told who asks too often.
pub(crate) fn rate_limited(retry_after: u64) -> ServerError {
    metrics::counter!("kontor_requests_rate_limited_total").increment(1);
    let message = format!("too many requests; come back in {retry_after} s");
    reply::later(Code::RateLimited, message, retry_after)
}
