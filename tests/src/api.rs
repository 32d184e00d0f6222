//! The client's side: a shop with its endpoint open, and people who ask it over HTTP, WebSocket and Server-Sent Events.
//!
//! ```no_run
//! # async fn example() {
//! use kontor_tests::api::{ApiShop, Topic, Way};
//!
//! let api = ApiShop::start().await;
//! let lamp = api.product("LAMP").stock(5).await;
//! let shopper = api.shopper().await;
//! let order = shopper.place(&[(&lamp, 2)]).await;
//! let mut feed = shopper.follow(Way::Socket, &Topic::order(&order.id), None).await;
//! while feed.next().await.node["status"] != "CONFIRMED" {}
//! api.finish().await;
//! # }
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kontor::commands::run::{self, AccountTerms};
use kontor_api::auth::Grant;
use kontor_api::transport::Timing;
use kontor_api::{App, Passwords, Protection, RouterOptions, metrics, router, serve};
use kontor_domain::{Role, SessionId, UserId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::shop::{Opening, Shop};
use crate::wait::PATIENCE;

mod client;
mod feed;

pub use client::{Answer, Client, Mutation, Payload, Placed, errors_of, key, shipping_address};
pub use feed::{Change, Feed, Heard, Topic, Way};

/// How an endpoint is to be opened.
#[derive(Debug, Clone)]
pub struct Door {
    /// How long a query waits for its position. Ours wait for as long as tests do: a busy machine is no error.
    pub patience: Duration,
    /// The built playground.
    pub playground: Option<PathBuf>,
    /// Consumers that must be at work for `/readyz` to be content.
    pub workers: Vec<String>,
    /// How accounts are kept.
    pub accounts: AccountTerms,
    /// Whether orders without a payment method are taken. Ours are: most tests are not about money.
    pub unpaid_orders: bool,
    /// Who may come in, and how often. Anybody, as often as they like.
    pub protection: Protection,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            playground: None,
            workers: Vec::new(),
            accounts: AccountTerms::default(),
            unpaid_orders: true,
            protection: Protection::default(),
        }
    }
}

/// A process of Kontor that answers. What its [`Shop`] can do, it can.
pub struct ApiShop {
    shop: Shop,
    address: SocketAddr,
    app: Arc<App>,
    http: reqwest::Client,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Deref for ApiShop {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

impl ApiShop {
    /// A fresh shop, with workers.
    pub async fn start() -> Self {
        Self::over(Shop::start().await, Door::default()).await
    }

    /// The endpoint of a shop that is there.
    pub async fn over(shop: Shop, door: Door) -> Self {
        let mut app = run::app(&shop.runtime, Passwords::new(), &door.accounts)
            .await
            .unwrap();
        app.patience = door.patience;
        app.unpaid_orders = door.unpaid_orders;
        let app = Arc::new(app);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, sockets) = (shop.runtime.stop.child_token(), TaskTracker::new());
        let (simulator, webhooks) = run::simulator(&shop.runtime, address).unwrap();
        let options = RouterOptions {
            simulator,
            webhooks,
            playground: door.playground,
            metrics: Some(metrics::install()),
            stop: stop.clone(),
            sockets: sockets.clone(),
            workers: door.workers,
            protection: door.protection,
            ..RouterOptions::default()
        };
        let served = tokio::spawn(serve(
            listener,
            router(Arc::clone(&app), options),
            Timing::default(),
            stop.clone(),
            sockets,
        ));
        Self {
            shop,
            address,
            app,
            http: reqwest::Client::new(),
            stop,
            served,
        }
    }

    /// Another process on the same log, with an endpoint of its own.
    pub async fn branch(&self) -> Self {
        self.branch_with(Opening::default(), Door::default()).await
    }

    /// The same, opened otherwise.
    pub async fn branch_with(&self, opening: Opening, door: Door) -> Self {
        Self::over(self.shop.branch(opening).await, door).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Somebody who is not logged in.
    #[must_use]
    pub fn visitor(&self) -> Client {
        Client::new(self.http.clone(), self.address)
    }

    /// A registered customer with an access token.
    pub async fn shopper(&self) -> Client {
        self.somebody(&[Role::Customer]).await
    }

    /// Somebody who works here.
    pub async fn staff(&self) -> Client {
        self.somebody(&[Role::Customer, Role::Staff]).await
    }

    /// Somebody who gives and takes roles.
    pub async fn admin(&self) -> Client {
        self.somebody(&[Role::Customer, Role::Admin]).await
    }

    /// Registered without a password, so that no test pays for one that it does not type.
    async fn somebody(&self, roles: &[Role]) -> Client {
        let id = self.shop.customer().await;
        self.visitor().with_token(id, &self.token(id, roles))
    }

    /// An access token, as logging in gives one.
    #[must_use]
    pub fn token(&self, id: UserId, roles: &[Role]) -> String {
        let grant = Grant {
            user_id: id,
            roles,
            session: SessionId::from_ulid(self.shop.store.ids().next()),
            version: 1,
        };
        let (token, _) = self.app.tokens.issue(grant, self.app.clock.now()).unwrap();
        token
    }

    /// Logs in as people do; the payload of the refusal if it is one.
    ///
    /// # Errors
    /// The payload, without a token in it.
    pub async fn log_in(&self, email: &str, password: &str) -> Result<Client, Value> {
        let query = "mutation($input: LogInInput!) { logIn(input: $input) { token expiresAt user { id }
            userErrors { __typename ... on UserError { code message path } } } }";
        let input = json!({ "input": { "email": email, "password": password } });
        let payload = self.visitor().read(query, input).await["logIn"].take();
        match (payload["token"].as_str(), payload["user"]["id"].as_str()) {
            (Some(token), Some(id)) => Ok(self.visitor().with_token(id.parse().unwrap(), token)),
            _ => Err(payload),
        }
    }

    /// A page of the process: status and text.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.address);
        let response = self.http.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The shop, its door closed.
    pub async fn shut(self) -> Shop {
        self.stop.cancel();
        self.served.await.unwrap();
        self.shop
    }

    /// Ends this process cleanly, and nothing else.
    pub async fn close(self) {
        self.shut().await.close().await;
    }

    /// Ends the test: see [`Shop::finish`].
    pub async fn finish(self) {
        self.shut().await.finish().await;
    }
}
