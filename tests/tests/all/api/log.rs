//! What is logged: enough to find an error, and nothing of anybody.

use std::path::Path;

use kontor_tests::api::{Client, errors_of, key};
use kontor_tests::children::Helper;
use kontor_tests::{Shop, eventually};
use serde_json::{Value, json};

use crate::HELPER;

const REGISTER: &str = "mutation($input: RegisterUserInput!) { registerUser(input: $input) { user { id } \
     userErrors { __typename ... on UserError { message } } } }";
const LOG_IN: &str =
    "mutation($input: LogInInput!) { logIn(input: $input) { token userErrors { __typename } } }";

/// A shop in a process of its own that logs all it can say of itself.
struct Logging {
    shop: Shop,
    process: Helper,
    folder: tempfile::TempDir,
    client: Client,
}

impl Logging {
    async fn start() -> Self {
        let shop = Shop::quiet().await;
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let arguments = [
            "run",
            "--sample-data",
            "--unpaid-orders",
            "--listen=127.0.0.1:0",
            "--playground=nowhere",
        ];
        // Everything of ours, and the statements without what is bound to them.
        let variables = [("KONTOR_LOG", "debug,kontor=trace,hyper=info")];
        let mut process = Helper::kontor_logging(HELPER, &shop, &arguments, &variables, log);
        let address = process.says("Kontor is open at http://").await;
        Self {
            client: Client::to(address.parse().unwrap()),
            shop,
            process,
            folder,
        }
    }

    fn log(&self) -> String {
        read(self.folder.path())
    }

    async fn end(self) -> String {
        assert!(self.process.end().await.success());
        let log = read(self.folder.path());
        self.shop.finish().await;
        log
    }
}

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_internal_error_carries_a_trace_id_that_the_log_has() {
    let logging = Logging::start().await;
    let broken = "ALTER TABLE orders RENAME TO orders_away";
    sqlx::query(broken).execute(&logging.shop.pool).await.unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("00-{trace}-00f067aa0ba902b7-01");
    let client = logging.client.clone();
    let token = log_in(&client, "admin@example.com", kontor::seed::PASSWORD).await;
    let admin = client.with_header("authorization", &format!("Bearer {token}"));
    let query = "{ orders { nodes { id } } }";
    let own = admin.ask(query, json!({})).await;
    let traced = admin
        .clone()
        .with_header("traceparent", &header)
        .ask(query, json!({}))
        .await;
    for (answer, expected) in [(&own, own.headers["x-request-id"].as_str()), (&traced, trace)] {
        let error = &errors_of(&answer.body)[0];
        assert_eq!(error["extensions"]["code"], "INTERNAL");
        assert_eq!(error["message"], "internal error");
        assert_eq!(error["extensions"]["traceId"], expected);
        assert!(!answer.body.to_string().contains("orders_away"));
        eventually("the log names the request", async || {
            logging.log().contains(expected).then_some(())
        })
        .await;
    }
    let mended = "ALTER TABLE orders_away RENAME TO orders";
    sqlx::query(mended).execute(&logging.shop.pool).await.unwrap();
    logging.end().await;
}

async fn log_in(client: &Client, email: &str, password: &str) -> String {
    let input = json!({ "input": { "email": email, "password": password } });
    let answer = client.read(LOG_IN, input).await;
    answer["logIn"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_line_has_a_secret_or_anything_personal() {
    let logging = Logging::start().await;
    let client = &logging.client;
    // Each as nothing else is called.
    let (email, name, phone) = (
        "quorra.zephyrine@example.net",
        "Quorra Zephyrine",
        "+49891234509876",
    );
    let (password, street, wrong) = (
        "velvet-harbour-umbrella-42",
        "Quillfeather Lane 17",
        "wrong-guess-umbrella-43",
    );
    let register = json!({ "input": { "idempotencyKey": key(), "email": email, "name": name, "phone": phone,
        "password": password } });
    let registered = client.ask(REGISTER, register.clone()).await;
    assert!(
        registered.body["data"]["registerUser"]["user"]["id"].is_string(),
        "{}",
        registered.body
    );
    // The same address again, a wrong password, a nonsensical token, a document that is none.
    let _ = client
        .ask(
            REGISTER,
            json!({ "input": { "idempotencyKey": key(), "email": email, "name": name,
        "password": password } }),
        )
        .await;
    let _ = client
        .ask(LOG_IN, json!({ "input": { "email": email, "password": wrong } }))
        .await;
    let token = log_in(client, email, password).await;
    let bearer = format!("Bearer {token}");
    let shopper = client.clone().with_header("authorization", &bearer);
    let _ = client
        .clone()
        .with_header("authorization", &format!("{bearer}x"))
        .ask("{ me { id } }", json!({}))
        .await;
    let _ = shopper
        .ask(
            &format!("{{ me(email: \"{email}\") "),
            json!({ "street": street }),
        )
        .await;
    let mut products = Value::Null;
    eventually("there is something to buy", async || {
        products = client
            .read("{ products(first: 1) { nodes { id } } }", json!({}))
            .await;
        products["products"]["nodes"][0]["id"].is_string().then_some(())
    })
    .await;
    let product = &products["products"]["nodes"][0]["id"];
    let place = "mutation($input: PlaceOrderInput!) { placeOrder(input: $input) { orderId userErrors { \
                 ... on UserError { message } } } }";
    for quantity in [1, 100_000] {
        let address = json!({ "recipient": name, "line1": street, "city": "Zanzibarstadt", "postalCode": "20457", "country": "DE" });
        let input = json!({ "idempotencyKey": key(), "items": [{ "productId": product, "quantity": quantity }],
            "shippingAddress": address, "payment": { "token": "tok_approved" } });
        let placed = shopper.ask(place, json!({ "input": input })).await;
        assert_eq!(placed.status, 200);
    }
    // Refused by validation and by the domain, with what is personal in it.
    let _ = shopper
        .ask(
            place,
            json!({ "input": { "shippingAddress": { "line1": street, "recipient": name } } }),
        )
        .await;
    eventually("the order has come to an end", async || {
        let orders = shopper.read("{ myOrders { nodes { status } } }", json!({})).await;
        let orders = orders["myOrders"]["nodes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        (!orders.is_empty() && orders.iter().all(|order| order["status"] != "PENDING")).then_some(())
    })
    .await;
    eventually("the customer has been told", async || {
        let told = std::fs::read_dir(logging.shop.outbox()).unwrap().count();
        (told > 0).then_some(())
    })
    .await;
    let secrets: Vec<String> = [logging.shop.database_url(), logging.shop.redis_url()]
        .iter()
        .filter_map(|url| {
            Some(
                url.split_once("://")?
                    .1
                    .split_once('@')?
                    .0
                    .split_once(':')?
                    .1
                    .to_owned(),
            )
        })
        .collect();
    let log = logging.end().await;
    assert!(log.lines().count() > 10, "{log}");
    let personal = [
        email,
        name,
        phone,
        password,
        street,
        wrong,
        "Quorra",
        "Zephyrine",
        "Quillfeather",
        "Zanzibarstadt",
    ];
    let signature = token.rsplit('.').next().unwrap();
    let all = personal
        .into_iter()
        .chain([token.as_str(), signature, kontor::seed::PASSWORD, "$argon2id$"]);
    for value in all.chain(secrets.iter().map(String::as_str)) {
        let found = log
            .lines()
            .find(|line| line.to_lowercase().contains(&value.to_lowercase()));
        assert_eq!(found, None, "{value} is in the log");
    }
}
