//! Who may do what: every field that can be asked for, by everybody who can ask. A field that is not in the table fails the test.

use std::collections::BTreeSet;
use std::time::Duration;

use kontor_domain::Role;
use kontor_tests::api::{ApiShop, Client, errors_of};
use serde_json::{Value, json};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is looked at, whatever comes of it.
    Ok,
    /// `UNAUTHENTICATED`.
    LogIn,
    /// `FORBIDDEN`.
    No,
}

/// Who may ask for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Everybody,
    LoggedIn,
    /// Whoever has this permission.
    Needs(&'static str),
}

use Rule::{Everybody, LoggedIn, Needs};

/// The roles that have a permission, besides admins, who have all.
const PERMISSIONS: [(&str, &[Role]); 13] = [
    ("order:place", &[Role::Customer, Role::Staff]),
    ("product:write", &[Role::Staff]),
    ("stock:write", &[Role::Staff]),
    ("stock:read", &[Role::Staff]),
    ("order:read-all", &[Role::Staff]),
    ("order:cancel-all", &[Role::Staff]),
    ("order:ship", &[Role::Staff]),
    ("order:refund", &[Role::Staff]),
    ("user:read-all", &[Role::Staff]),
    ("user:manage", &[]),
    ("sales:read", &[Role::Staff]),
    ("log:read", &[Role::Staff]),
    ("audit:read", &[]),
];

const RULES: &[(&str, Rule)] = &[
    ("Query.product", Everybody),
    ("Query.productBySku", Everybody),
    ("Query.products", Everybody),
    ("Query.bestSellers", Everybody),
    ("Query.order", LoggedIn),
    ("Query.orderStatus", LoggedIn),
    ("Query.orders", Needs("order:read-all")),
    ("Query.myOrders", LoggedIn),
    ("Query.me", Everybody),
    ("Query.user", LoggedIn),
    ("Query.users", Needs("user:read-all")),
    ("Query.sessions", LoggedIn),
    ("Query.exportMyData", LoggedIn),
    ("Query.salesPerHour", Needs("sales:read")),
    ("Query.log", Needs("log:read")),
    ("Query.audit", Needs("audit:read")),
    ("Query.auditTrail", Needs("audit:read")),
    ("Query.waitingOrders", Needs("order:read-all")),
    ("Query.paymentGateway", Needs("log:read")),
    // What it finds has rules of its own; the id here is a product's.
    ("Query.node", Everybody),
    ("Mutation.registerUser", Everybody),
    ("Mutation.changeProfile", LoggedIn),
    ("Mutation.chooseNotificationChannels", LoggedIn),
    ("Mutation.changeEmail", LoggedIn),
    ("Mutation.changePassword", LoggedIn),
    ("Mutation.logIn", Everybody),
    ("Mutation.refreshSession", Everybody),
    ("Mutation.endSession", LoggedIn),
    ("Mutation.endAllSessions", LoggedIn),
    ("Mutation.logOut", Everybody),
    ("Mutation.requestPasswordReset", Everybody),
    ("Mutation.resetPassword", Everybody),
    ("Mutation.requestEmailVerification", LoggedIn),
    ("Mutation.verifyEmail", Everybody),
    ("Mutation.grantRole", Needs("user:manage")),
    ("Mutation.revokeRole", Needs("user:manage")),
    ("Mutation.deactivateUser", Needs("user:manage")),
    ("Mutation.reactivateUser", Needs("user:manage")),
    ("Mutation.createProduct", Needs("product:write")),
    ("Mutation.changeProductDetails", Needs("product:write")),
    ("Mutation.changeProductCategory", Needs("product:write")),
    ("Mutation.changeProductPrice", Needs("product:write")),
    ("Mutation.receiveStock", Needs("stock:write")),
    ("Mutation.adjustStock", Needs("stock:write")),
    ("Mutation.discontinueProduct", Needs("product:write")),
    ("Mutation.relistProduct", Needs("product:write")),
    ("Mutation.placeOrder", Needs("order:place")),
    // One's own, or anybody's with `order:cancel-all`: which it is, is seen when the order is.
    ("Mutation.cancelOrder", LoggedIn),
    ("Mutation.shipOrder", Needs("order:ship")),
    ("Mutation.deliverOrder", Needs("order:ship")),
    ("Mutation.returnItems", Needs("order:refund")),
    // One's own, or with `order:ship` anybody's.
    ("Mutation.confirmPayment", LoggedIn),
    ("Mutation.retryOrder", Needs("order:ship")),
    ("Mutation.giveUpOrder", Needs("order:ship")),
    ("Mutation.settleOrderByHand", Needs("order:refund")),
    ("Mutation.refundOrder", Needs("order:refund")),
    // Oneself, confirmed with the password, or with `user:manage` anybody else.
    ("Mutation.eraseUser", LoggedIn),
    ("Mutation.savePaymentMethod", LoggedIn),
    ("Mutation.removePaymentMethod", LoggedIn),
    ("Subscription.orderUpdates", LoggedIn),
    ("Subscription.myOrderUpdates", LoggedIn),
    ("Subscription.allOrderUpdates", Needs("order:read-all")),
    ("Subscription.productUpdates", Everybody),
];

/// Everybody who can ask: nobody in particular, and each role with what all accounts have.
const ASKING: [Option<Role>; 4] = [None, Some(Role::Customer), Some(Role::Staff), Some(Role::Admin)];

fn expected(rule: Rule, asking: Option<Role>) -> Verdict {
    match (rule, asking) {
        (Everybody, _) | (LoggedIn, Some(_)) => Verdict::Ok,
        (_, None) => Verdict::LogIn,
        (Needs(permission), Some(role)) => {
            let (_, holders) = PERMISSIONS
                .iter()
                .find(|(name, _)| *name == permission)
                .unwrap_or_else(|| panic!("{permission} is in nobody's list"));
            if role == Role::Admin || holders.contains(&role) {
                Verdict::Ok
            } else {
                Verdict::No
            }
        }
    }
}

const INTROSPECTION: &str = "{ __schema { types { kind name isOneOf
    enumValues { name }
    inputFields { name type { ...T } }
    fields { name description type { ...T } args { name type { ...T } } } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

struct Schema(Vec<Value>);

impl Schema {
    fn of(&self, name: &str) -> &Value {
        self.0
            .iter()
            .find(|it| it["name"] == name)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Something that can be put where this type is wanted; what need not be there is left out.
    fn literal(&self, wanted: &Value, called: &str) -> Option<String> {
        if wanted["kind"] != "NON_NULL" {
            return None;
        }
        Some(self.value(&wanted["ofType"], called))
    }

    fn value(&self, wanted: &Value, called: &str) -> String {
        let inner = &wanted["ofType"];
        match wanted["kind"].as_str().unwrap() {
            "NON_NULL" => self.value(inner, called),
            "LIST" => format!("[{}]", self.value(inner, called)),
            "ENUM" => self.of(wanted["name"].as_str().unwrap())["enumValues"][0]["name"]
                .as_str()
                .unwrap()
                .to_owned(),
            "INPUT_OBJECT" => self.object(self.of(wanted["name"].as_str().unwrap())),
            _ => scalar(wanted["name"].as_str().unwrap(), called),
        }
    }

    fn object(&self, input: &Value) -> String {
        let fields = input["inputFields"].as_array().unwrap();
        let one_of = input["isOneOf"] == true;
        let given: Vec<String> = fields
            .iter()
            .enumerate()
            .filter_map(|(at, field)| {
                let name = field["name"].as_str().unwrap();
                let value = if one_of {
                    (at == 0).then(|| self.value(&field["type"], name))
                } else {
                    self.literal(&field["type"], name)
                };
                value.map(|value| format!("{name}: {value}"))
            })
            .collect();
        format!("{{ {} }}", given.join(", "))
    }

    /// The smallest document that asks for a field.
    fn document(&self, operation: &str, field: &Value) -> String {
        let name = field["name"].as_str().unwrap();
        let arguments: Vec<String> = field["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|it| {
                let argument = it["name"].as_str().unwrap();
                let value = self.literal(&it["type"], argument)?;
                Some(format!("{argument}: {value}"))
            })
            .collect();
        let arguments = match arguments.as_slice() {
            [] => String::new(),
            some => format!("({})", some.join(", ")),
        };
        let selection = if is_leaf(&field["type"]) {
            ""
        } else {
            " { __typename }"
        };
        format!("{operation} {{ {name}{arguments}{selection} }}")
    }
}

fn is_leaf(wanted: &Value) -> bool {
    match wanted["kind"].as_str().unwrap() {
        "NON_NULL" | "LIST" => is_leaf(&wanted["ofType"]),
        kind => ["SCALAR", "ENUM"].contains(&kind),
    }
}

fn scalar(name: &str, called: &str) -> String {
    let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    match name {
        "ID" => {
            let prefix = match called {
                it if it.starts_with("order") => "ord",
                it if it.starts_with("user") => "usr",
                it if it.starts_with("session") => "ses",
                _ => "prd",
            };
            format!("\"{prefix}_{ulid}\"")
        }
        "Int" | "MinorUnits" | "Count" => "1".to_owned(),
        "Float" => "1.0".to_owned(),
        "Boolean" => "true".to_owned(),
        "Position" => "\"0\"".to_owned(),
        "DateTime" => "\"2026-01-01T00:00:00Z\"".to_owned(),
        "CurrencyCode" => "\"GBP\"".to_owned(),
        "String" => "\"x\"".to_owned(),
        other => panic!("how is a {other} written?"),
    }
}

/// Of the first error that says who may.
fn verdict(body: &Value) -> Verdict {
    for error in errors_of(body) {
        match error["extensions"]["code"].as_str() {
            Some("UNAUTHENTICATED") => return Verdict::LogIn,
            // What is not there for this viewer looks alike, but says so.
            Some("FORBIDDEN") if error["message"] == "your account may not do this" => return Verdict::No,
            _ => {}
        }
    }
    Verdict::Ok
}

async fn ask(client: &Client, operation: &str, document: &str) -> Verdict {
    if operation != "subscription" {
        return verdict(&client.ask(document, json!({})).await.body);
    }
    // Whoever is let in may hear nothing for hours; a refusal is the first thing that is said.
    match tokio::time::timeout(Duration::from_secs(2), client.first_event(document)).await {
        Ok(body) => verdict(&body),
        Err(_) => Verdict::Ok,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_has_a_rule_and_keeps_it_for_every_role() {
    let api = ApiShop::start().await;
    let types = api.visitor().read(INTROSPECTION, json!({})).await["__schema"]["types"].take();
    let schema = Schema(types.as_array().unwrap().clone());
    let customer = api.customer().await;
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (root, operation) in [
        ("Query", "query"),
        ("Mutation", "mutation"),
        ("Subscription", "subscription"),
    ] {
        for field in schema.of(root)["fields"].as_array().unwrap() {
            let path = format!("{root}.{}", field["name"].as_str().unwrap());
            let Some((_, rule)) = RULES.iter().find(|(name, _)| *name == path) else {
                wrong.push(format!("{path} has no rule: who may ask for it?"));
                continue;
            };
            let description = field["description"].as_str().unwrap();
            let named = match rule {
                Needs(permission) => description.contains(&format!("Needs `{permission}`")),
                Everybody | LoggedIn => !description.contains("Needs `"),
            };
            if !named {
                wrong.push(format!("the description of {path} does not say {rule:?}"));
            }
            let document = schema.document(operation, field);
            let asked = ASKING.map(|role| {
                // A token each: some of what is asked for ends sessions.
                let client = match role {
                    None => api.visitor(),
                    Some(Role::Customer) => api
                        .visitor()
                        .with_token(customer, &api.token(customer, &[Role::Customer])),
                    Some(role) => api
                        .visitor()
                        .with_token(customer, &api.token(customer, &[Role::Customer, role])),
                };
                let document = document.as_str();
                async move { (role, ask(&client, operation, document).await) }
            });
            for (role, verdict) in futures::future::join_all(asked).await {
                let expected = expected(*rule, role);
                if verdict != expected {
                    wrong.push(format!(
                        "{path} for {role:?}: {verdict:?} instead of {expected:?}"
                    ));
                }
            }
            seen.insert(path);
        }
    }
    for (path, _) in RULES {
        if !seen.contains(*path) {
            wrong.push(format!("{path} has a rule and does not exist"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    api.finish().await;
}
