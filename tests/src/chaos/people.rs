//! People with accounts, who ask over HTTP, and put each request again under its key until it is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::insist;
use crate::api::{errors_of, shipping_address};
use crate::builders::Item;

/// How long one request may take before it is put again.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Everybody's; hard enough to guess.
const PASSWORD: &str = "seven barrels of salted herring";
/// Codes by which the shop says that it cannot just now.
const NOT_NOW: [&str; 9] = [
    "CONSISTENCY_TIMEOUT",
    "CONTENDED",
    "INTERNAL",
    "OVERLOADED",
    "PAYMENT_GATEWAY_UNAVAILABLE",
    "RATE_LIMITED",
    "SESSIONS_UNAVAILABLE",
    "TIMED_OUT",
    "TOO_MANY_ATTEMPTS",
];

/// Where everybody asks.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) http: reqwest::Client,
    url: String,
    /// Why requests had to be put again, and how often.
    pub(super) repeats: Mutex<BTreeMap<String, i64>>,
}

/// What came of one try.
enum Reply {
    Data(Value),
    LoggedOut,
    NotNow,
}

impl Endpoint {
    /// The shop that listens there: `http://host:port`.
    pub(super) fn at(shop_url: &str) -> Arc<Self> {
        Arc::new(Self {
            http: reqwest::Client::new(),
            url: format!("{shop_url}/graphql"),
            repeats: Mutex::default(),
        })
    }

    /// Notes that something is to be put again.
    pub(super) fn again(&self, why: &str) {
        *self.repeats.lock().unwrap().entry(why.to_owned()).or_default() += 1;
    }

    async fn try_to_ask(&self, query: &str, variables: &Value, token: Option<&str>) -> Reply {
        let mut request = self
            .http
            .post(&self.url)
            .timeout(ANSWER_WITHIN)
            .json(&json!({ "query": query, "variables": variables }));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
        };
        let Ok((status, bytes)) = answer.await else {
            self.again("no answer");
            return Reply::NotNow;
        };
        let Ok(mut body) = serde_json::from_slice::<Value>(&bytes) else {
            assert!(status.is_server_error(), "{query:.60}: {status}");
            self.again(status.as_str());
            return Reply::NotNow;
        };
        let codes: Vec<&str> = errors_of(&body)
            .iter()
            .map(|error| error["extensions"]["code"].as_str().unwrap_or_default())
            .collect();
        if codes.is_empty() {
            return Reply::Data(body["data"].take());
        }
        if codes.contains(&"UNAUTHENTICATED") {
            self.again("UNAUTHENTICATED");
            return Reply::LoggedOut;
        }
        assert!(
            codes.iter().all(|code| NOT_NOW.contains(code)),
            "{query:.60}: {}",
            cut(&body)
        );
        self.again(codes[0]);
        Reply::NotNow
    }

    /// The field `name` of the answer to `query`, unless it cannot be answered just now.
    fn payload(&self, name: &str, mut data: Value) -> Option<Result<Value, String>> {
        let mut payload = data[name].take();
        let refusals = payload["userErrors"].take();
        let Some(code) = refusals[0]["code"].as_str() else {
            return Some(Ok(payload));
        };
        if NOT_NOW.contains(&code) {
            self.again(code);
            return None;
        }
        Some(Err(code.to_owned()))
    }
}

/// Somebody with an account.
#[derive(Debug)]
pub(super) struct Person {
    endpoint: Arc<Endpoint>,
    email: String,
    /// The access token. Held while a new one is fetched, so that one request does it for all.
    token: tokio::sync::Mutex<Option<Arc<str>>>,
}

impl Person {
    /// Registers somebody; their user id beside them.
    pub(super) async fn register(endpoint: &Arc<Endpoint>, name: &str) -> (Self, String) {
        let person = Self {
            endpoint: Arc::clone(endpoint),
            email: format!("{name}@example.com"),
            token: tokio::sync::Mutex::default(),
        };
        let query = "mutation($input: RegisterUserInput!) { registerUser(input: $input) {
            userId userErrors { ... on UserError { code } } } }";
        let input = json!({
            "idempotencyKey": name, "email": person.email, "name": "A Customer", "password": PASSWORD,
        });
        let mut registered = person.as_visitor("registerUser", query, input).await;
        let id = registered["userId"].take();
        (person, id.as_str().expect("a user's id").to_owned())
    }

    /// Asks without a token, and will not be refused.
    async fn as_visitor(&self, name: &str, query: &str, input: Value) -> Value {
        let variables = json!({ "input": input });
        insist(name, async || {
            match self.endpoint.try_to_ask(query, &variables, None).await {
                Reply::Data(data) => {
                    let payload = self.endpoint.payload(name, data)?;
                    Some(payload.unwrap_or_else(|code| panic!("{name}: {code}")))
                }
                Reply::LoggedOut | Reply::NotNow => None,
            }
        })
        .await
    }

    /// An access token other than `stale`: logs in if there is none.
    async fn token(&self, stale: Option<&Arc<str>>) -> Arc<str> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|token| Some(*token) != stale) {
            return Arc::clone(token);
        }
        let query = "mutation($input: LogInInput!) { logIn(input: $input) {
            token userErrors { ... on UserError { code } } } }";
        let input = json!({ "email": self.email, "password": PASSWORD });
        let granted = self.as_visitor("logIn", query, input).await;
        let token: Arc<str> = granted["token"].as_str().expect("an access token").into();
        *held = Some(Arc::clone(&token));
        token
    }

    /// Asks until there is an answer that `read` makes something of.
    async fn ask<T>(
        &self,
        what: &str,
        query: &str,
        variables: Value,
        read: impl Fn(Value) -> Option<T>,
    ) -> T {
        let mut stale = None;
        insist(what, async || {
            let token = self.token(stale.as_ref()).await;
            match self.endpoint.try_to_ask(query, &variables, Some(&token)).await {
                Reply::Data(data) => read(data),
                Reply::LoggedOut => {
                    stale = Some(token);
                    None
                }
                Reply::NotNow => None,
            }
        })
        .await
    }

    /// Asks a question.
    pub(super) async fn read(&self, query: &str, variables: Value) -> Value {
        self.ask(query, query, variables, Some).await
    }

    /// Places an order: its id.
    pub(super) async fn place(&self, key: &str, items: &[(&Item, u32)], token: Option<&str>) -> String {
        let items: Vec<Value> = items
            .iter()
            .map(|(item, quantity)| json!({ "productId": item.id.to_string(), "quantity": quantity }))
            .collect();
        let payment = token.map(|token| json!({ "token": token }));
        let input = json!({ "items": items, "shippingAddress": shipping_address(), "payment": payment });
        let placed = self.have("placeOrder", key, input).await;
        placed.unwrap_or_else(|code| panic!("placeOrder {key}: {code}"))
    }

    /// Has something done to an order, once for each `key`: the order's id, or the code of the refusal.
    pub(super) async fn have(&self, mutation: &str, key: &str, mut input: Value) -> Result<String, String> {
        let (first, rest) = mutation.split_at(1);
        let query = format!(
            "mutation($input: {}{rest}Input!) {{ {mutation}(input: $input) {{
                orderId userErrors {{ ... on UserError {{ code }} }} }} }}",
            first.to_uppercase()
        );
        input["idempotencyKey"] = key.into();
        let read = |data| self.endpoint.payload(mutation, data);
        let what = format!("{mutation} {key}");
        let payload = self.ask(&what, &query, json!({ "input": input }), read).await?;
        Ok(payload["orderId"].as_str().expect("an order's id").to_owned())
    }
}

fn cut(body: &Value) -> String {
    body.to_string().chars().take(600).collect()
}
