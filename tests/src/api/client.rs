//! Asking over HTTP.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use kontor_domain::{OrderId, UserId};
use serde_json::{Value, json};

use super::ApiShop;
use crate::builders::Item;

/// An idempotency key that this test has not used.
#[must_use]
pub fn key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where parcels go, as an input.
#[must_use]
pub fn shipping_address() -> Value {
    json!({ "recipient": "A Customer", "line1": "1 Quay", "city": "Harbour", "postalCode": "20457", "country": "DE" })
}

/// Somebody who asks, logged in or not. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    token: Option<Arc<str>>,
    user: Option<UserId>,
    headers: Vec<(&'static str, String)>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// GraphQL's.
    pub body: Value,
    /// HTTP's, by lower-case names.
    pub headers: HashMap<String, String>,
}

impl Answer {
    /// What was asked for; errors are a failure of the test.
    #[must_use]
    pub fn data(mut self) -> Value {
        assert!(self.body.get("errors").is_none(), "{}", self.body["errors"]);
        assert_eq!(self.status, 200);
        self.body["data"].take()
    }

    /// The code of the only error.
    #[must_use]
    pub fn code(&self) -> &str {
        let errors = errors_of(&self.body);
        assert_eq!(errors.len(), 1, "{}", self.body);
        errors[0]["extensions"]["code"].as_str().unwrap()
    }
}

/// The top-level errors of a response.
#[must_use]
pub fn errors_of(body: &Value) -> &[Value] {
    body["errors"].as_array().map_or(&[], Vec::as_slice)
}

/// An order that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its id, as clients have it.
    pub id: String,
    /// Where the log stood behind it.
    pub position: u64,
}

impl Placed {
    /// Its id, as the domain has it.
    #[must_use]
    pub fn order_id(&self) -> OrderId {
        self.id.parse().unwrap()
    }
}

impl Client {
    pub(super) fn new(http: reqwest::Client, address: SocketAddr) -> Self {
        Self {
            http,
            address,
            token: None,
            user: None,
            headers: Vec::new(),
        }
    }

    /// Somebody who asks whatever listens there.
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        Self::new(reqwest::Client::new(), address)
    }

    /// The same, logged in.
    #[must_use]
    pub fn with_token(mut self, user: UserId, token: &str) -> Self {
        self.user = Some(user);
        self.token = Some(token.into());
        self
    }

    /// The same, with a header more.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same person, asking another process.
    #[must_use]
    pub fn at(&self, other: &ApiShop) -> Self {
        Self {
            address: other.address(),
            ..self.clone()
        }
    }

    /// Who this is.
    #[must_use]
    pub fn id(&self) -> String {
        self.user.expect("somebody who is logged in").to_string()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The access token, if there is one.
    #[must_use]
    pub fn bearer(&self) -> Option<String> {
        self.token().map(str::to_owned)
    }

    /// A `POST /graphql` about to be sent.
    pub(super) fn request(&self, query: &str, variables: &Value, accept: &str) -> reqwest::RequestBuilder {
        let mut request = self
            .http
            .post(format!("http://{}/graphql", self.address))
            .header("accept", accept)
            .json(&json!({ "query": query, "variables": variables }));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Asks.
    pub async fn ask(&self, query: &str, variables: Value) -> Answer {
        self.ask_as("application/graphql-response+json", query, variables)
            .await
    }

    /// Asks for an answer of this type.
    pub async fn ask_as(&self, accept: &str, query: &str, variables: Value) -> Answer {
        let request = self.request(query, &variables, accept);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = response.headers().iter();
        Answer {
            status,
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: response.json().await.unwrap(),
        }
    }

    /// Asks, and looks at the headers of the answer too.
    pub async fn ask_all(&self, query: &str, variables: Value) -> (Answer, reqwest::header::HeaderMap) {
        let request = self.request(query, &variables, "application/graphql-response+json");
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.json().await.unwrap();
        let answer = Answer {
            status,
            body,
            headers: HashMap::new(),
        };
        (answer, headers)
    }

    /// Asks, and is answered.
    pub async fn read(&self, query: &str, variables: Value) -> Value {
        self.ask(query, variables).await.data()
    }

    /// A mutation about to be sent: `client.mutation("shipOrder", json!({ … })).await.done()`. An input without an
    /// idempotency key is given a fresh one.
    pub fn mutation(&self, name: &'static str, mut input: Value) -> Mutation<'_> {
        if input.get("idempotencyKey").is_none() {
            input["idempotencyKey"] = key().into();
        }
        Mutation {
            client: self,
            name,
            input,
            returning: String::new(),
            telling: String::new(),
        }
    }

    /// What `placeOrder` takes.
    #[must_use]
    pub fn placing(&self, items: &[(&Item, u32)]) -> Value {
        let items: Vec<Value> = items
            .iter()
            .map(|(item, quantity)| json!({ "productId": item.id.to_string(), "quantity": quantity }))
            .collect();
        json!({ "items": items, "shippingAddress": shipping_address() })
    }

    /// Places an order that is taken.
    pub async fn place(&self, items: &[(&Item, u32)]) -> Placed {
        self.mutation("placeOrder", self.placing(items)).await.placed()
    }

    /// Does something to an order that needs no more input than this.
    pub async fn change(&self, name: &'static str, order: &str, more: Value) -> Payload {
        let mut input = json!({ "orderId": order });
        for (field, value) in more.as_object().into_iter().flatten() {
            input[field] = value.clone();
        }
        self.mutation(name, input).await
    }

    /// Calls an order off.
    pub async fn cancel(&self, order: &str) -> Payload {
        self.change("cancelOrder", order, json!({ "reason": "second thoughts" }))
            .await
    }

    /// Ships an order.
    pub async fn ship(&self, order: &str) -> Payload {
        let how = json!({ "trackingNumber": "TRACK-1", "carrier": "By Sea" });
        self.change("shipOrder", order, how).await
    }

    /// Notes that an order arrived.
    pub async fn deliver(&self, order: &str) -> Payload {
        self.change("deliverOrder", order, json!({})).await
    }

    /// Some of an order; null if there is none to see.
    pub async fn order(&self, id: &str, fields: &str) -> Value {
        let query = format!("query($id: ID!) {{ order(id: $id) {{ {fields} }} }}");
        self.read(&query, json!({ "id": id })).await["order"].take()
    }

    /// Some of a product, not older than everything that has happened; null if there is none.
    pub async fn product(&self, id: impl ToString, fields: &str, at_least: u64) -> Value {
        let query =
            format!("query($id: ID!, $at: Position) {{ product(id: $id, atLeast: $at) {{ {fields} }} }}");
        let variables = json!({ "id": id.to_string(), "at": at_least.to_string() });
        self.read(&query, variables).await["product"].take()
    }
}

/// A mutation about to be sent.
#[must_use = "nothing is sent before it is awaited"]
pub struct Mutation<'a> {
    client: &'a Client,
    name: &'static str,
    input: Value,
    returning: String,
    telling: String,
}

impl Mutation<'_> {
    /// Asks for more of the payload.
    pub fn returning(mut self, selection: &str) -> Self {
        selection.clone_into(&mut self.returning);
        self
    }

    /// Asks for more of the refusals, as `... on PriceChanged { actual { amountMinor } }`.
    pub fn telling(mut self, selection: &str) -> Self {
        selection.clone_into(&mut self.telling);
        self
    }

    /// Sends it and takes whatever comes back.
    pub async fn answer(self) -> Answer {
        let Self {
            client,
            name,
            input,
            returning,
            telling,
        } = self;
        let pascal = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let of_orders = ["returnItems", "settleOrderByHand", "confirmPayment"];
        let id = if name.ends_with("Order") || of_orders.contains(&name) {
            "orderId"
        } else if name.contains("Product") || name.contains("Stock") {
            "productId"
        } else {
            "userId"
        };
        let query = format!(
            "mutation($input: {pascal}Input!) {{ {name}(input: $input) {{ id: {id} position {returning}
                 userErrors {{ __typename ... on UserError {{ code message path }} {telling} }} }} }}"
        );
        client.ask(&query, json!({ "input": input })).await
    }
}

impl<'a> IntoFuture for Mutation<'a> {
    type Output = Payload;
    type IntoFuture = BoxFuture<'a, Payload>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let name = self.name;
            Payload(self.answer().await.data()[name].take())
        })
    }
}

/// What a mutation answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload(Value);

impl Payload {
    /// It was done.
    #[must_use]
    pub fn done(self) -> Value {
        assert_eq!(self.0["userErrors"], json!([]));
        assert!(self.0["position"].is_string(), "{:?}", self.0);
        self.0
    }

    /// It was done, and this is where the log stood behind it.
    #[must_use]
    pub fn position(self) -> u64 {
        self.done()["position"].as_str().unwrap().parse().unwrap()
    }

    /// It was done, to the order of this id.
    #[must_use]
    pub fn placed(self) -> Placed {
        let id = self.0["id"].as_str().map(str::to_owned);
        Placed {
            position: self.position(),
            id: id.unwrap(),
        }
    }

    /// It was not done, and this is why.
    #[must_use]
    pub fn refused(self) -> Vec<Value> {
        let errors = self.0["userErrors"].as_array().cloned().unwrap_or_default();
        assert!(!errors.is_empty(), "it was done: {:?}", self.0);
        assert_eq!((&self.0["id"], &self.0["position"]), (&Value::Null, &Value::Null));
        errors
    }

    /// It was not done, for one reason.
    #[must_use]
    pub fn refusal(self) -> Value {
        let mut errors = self.refused();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    }
}
