//! A gateway that does what it is told, for the tests of what stands around it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kontor_domain::{Money, PaymentReference, PaymentState, PaymentStatus};
use tokio::sync::Notify;

use crate::payments::gateway::{Answer, Authorise, Capture, GatewayError, PaymentGateway, Refund, Void};

/// What a scripted gateway does when it is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    Answer,
    Unreachable,
    Unknown,
    Busy,
    Refuse,
    /// Never answers.
    Hang,
    /// Answers when it is let.
    Wait,
}

/// Does one thing after another, and the last for ever.
pub(super) struct Scripted {
    pub(super) script: Mutex<Vec<Does>>,
    pub(super) keys: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    pub(super) most_at_once: AtomicUsize,
    pub(super) go: Notify,
}

impl Scripted {
    pub(super) fn new(script: &[Does]) -> Self {
        Self {
            script: Mutex::new(script.iter().rev().copied().collect()),
            keys: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            go: Notify::new(),
        }
    }

    pub(super) fn now_always(&self, does: Does) {
        *self.script.lock().unwrap() = vec![does];
    }

    pub(super) fn calls(&self) -> usize {
        self.keys.lock().unwrap().len()
    }

    async fn act(&self, key: &str) -> Result<PaymentState, GatewayError> {
        self.keys.lock().unwrap().push(key.to_owned());
        let does = {
            let mut script = self.script.lock().unwrap();
            let last = script.len() == 1;
            if last { script[0] } else { script.pop().unwrap() }
        };
        let _counted = Counted::one_more(self);
        match does {
            Does::Answer => Ok(answer()),
            Does::Unreachable => Err(GatewayError::Unreachable("no".into())),
            Does::Unknown => Err(GatewayError::Unknown("perhaps".into())),
            Does::Busy => Err(GatewayError::Busy("later".into())),
            Does::Refuse => Err(GatewayError::refused("wrong", "no")),
            Does::Hang => std::future::pending().await,
            Does::Wait => {
                self.go.notified().await;
                Ok(answer())
            }
        }
    }
}

struct Counted<'a>(&'a Scripted);

impl<'a> Counted<'a> {
    fn one_more(gateway: &'a Scripted) -> Self {
        let now = gateway.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        gateway.most_at_once.fetch_max(now, Ordering::SeqCst);
        Self(gateway)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PaymentGateway for Scripted {
    fn authorise<'a>(&'a self, request: &'a Authorise) -> Answer<'a> {
        Box::pin(self.act(&request.key))
    }

    fn capture<'a>(&'a self, request: &'a Capture) -> Answer<'a> {
        Box::pin(self.act(&request.key))
    }

    fn void<'a>(&'a self, request: &'a Void) -> Answer<'a> {
        Box::pin(self.act(&request.key))
    }

    fn refund<'a>(&'a self, request: &'a Refund) -> Answer<'a> {
        Box::pin(self.act(&request.key))
    }

    fn look_up<'a>(&'a self, _: &'a PaymentReference) -> Answer<'a> {
        Box::pin(self.act("look_up"))
    }
}

pub(super) fn gbp(minor: i64) -> Money {
    Money::new(minor, "GBP".parse().unwrap()).unwrap()
}

pub(super) fn answer() -> PaymentState {
    PaymentState {
        reference: "pi_1".parse().unwrap(),
        status: PaymentStatus::Authorised,
        authorised: gbp(100),
        captured: gbp(0),
        refunded: gbp(0),
        next_action: None,
    }
}
