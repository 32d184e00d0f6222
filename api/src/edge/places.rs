//! Open sockets, counted by where they come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};

use crate::address::household;
use crate::http::Problem;
use crate::reply::{self, Code};

/// Seconds. A socket that ends makes room at once; many that come back at once should not.
const COME_BACK: u64 = 5;

#[derive(Debug)]
pub(super) struct Sockets {
    most: usize,
    of_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// An open socket's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    sockets: Arc<Sockets>,
    address: Option<IpAddr>,
}

impl Sockets {
    pub(super) fn new(most: usize, of_address: usize) -> Self {
        Self {
            most,
            of_address,
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<SocketPlace, Problem> {
        let address = address.map(household);
        let mut open = self.open();
        if open.all >= self.most {
            let message = "too many sockets are open";
            return Err(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Overloaded,
                message,
            ));
        }
        if let Some(address) = address {
            let of_address = open.by_address.entry(address).or_default();
            if *of_address >= self.of_address {
                let message = format!(
                    "too many sockets from one address: at most {} allowed",
                    self.of_address
                );
                return Err(refused(
                    StatusCode::TOO_MANY_REQUESTS,
                    Code::RateLimited,
                    &message,
                ));
            }
            *of_address += 1;
        }
        open.all += 1;
        Ok(SocketPlace {
            sockets: Arc::clone(self),
            address,
        })
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let mut open = self.sockets.open();
        open.all -= 1;
        if let Some(address) = self.address
            && let Some(of_address) = open.by_address.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

fn refused(status: StatusCode, code: Code, message: &str) -> Problem {
    let mut problem = Problem::new(status, reply::later(code, message, COME_BACK));
    problem.header = Some((RETRY_AFTER, HeaderValue::from(COME_BACK)));
    problem
}
