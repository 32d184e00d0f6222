//! SMS by the HTTP form interface, against a server that says what it is told to say.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Form, Json, Router};
use kontor_fulfilment::notifications::{NotificationsConfig, SmsBy};
use kontor_tests::{Opening, Shop};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Row, all_told, choose, of, somebody};

const PHONE: &str = "+49 40 1234567";

/// What the provider was asked.
#[derive(Debug, Clone)]
struct Asked {
    account: String,
    login: String,
    key: String,
    form: HashMap<String, String>,
}

/// A provider that gives these answers, and then takes everything.
#[derive(Clone, Default)]
struct Provider {
    answers: Arc<Mutex<VecDeque<u16>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    /// Its address, with the account's name and token.
    async fn open(answers: &[u16]) -> (Self, String) {
        let provider = Self::default();
        provider.answers.lock().unwrap().extend(answers);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://AC1:to%40ken@{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/2010-04-01/Accounts/{account}/Messages.json", post(take))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (provider, url)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn take(
    State(provider): State<Provider>,
    Path(account): Path<String>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let message = format!("The 'To' number {} is not valid", form["To"]);
    provider.asked.lock().unwrap().push(Asked {
        account,
        login: header("authorization"),
        key: header("idempotency-key"),
        form,
    });
    let status = provider.answers.lock().unwrap().pop_front().unwrap_or(201);
    let answer = match status {
        201 => json!({ "sid": "SM1", "status": "queued" }),
        _ => json!({ "code": 21211, "message": message, "status": status }),
    };
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

/// A shop that sends SMS by that provider.
async fn shop_by(url: &str) -> Shop {
    let folder = std::env::temp_dir();
    let post = NotificationsConfig {
        sms: SmsBy::Http {
            url: url.into(),
            from: "KONTOR".to_owned(),
        },
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(50),
        ..NotificationsConfig::to_outbox(folder.join("kontor-tests-outbox"))
    };
    // Nobody sends before the customer has chosen.
    let shop = Opening::default().quiet().open().await;
    let customer = somebody(&shop, "ada@example.com", Some(PHONE)).await;
    choose(&shop, customer, false, true).await;
    let worker = shop.branch(Opening::default().post(post)).await;
    let rows = all_told(&worker).await;
    worker.close().await;
    assert_eq!(of(&rows, "SMS").len(), 1);
    shop
}

async fn sms_of(shop: &Shop) -> Row {
    let rows = super::record(shop).await;
    of(&rows, "SMS")[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sms_is_asked_for_again_while_the_provider_cannot() {
    let (provider, url) = Provider::open(&[500, 429, 503, 401]).await;
    let shop = shop_by(&url).await;
    let row = sms_of(&shop).await;
    assert_eq!(
        (row.state.as_str(), row.attempts, row.last_error),
        ("SENT", 5, None)
    );
    let asked = provider.asked();
    assert_eq!(asked.len(), 5);
    for it in asked {
        assert_eq!(it.account, "AC1");
        // `AC1:to@ken`, as RFC 7617 writes it.
        assert_eq!(it.login, "Basic QUMxOnRvQGtlbg==");
        assert_eq!(it.key, row.message_id);
        let form = [
            ("To", PHONE),
            ("From", "KONTOR"),
            ("Body", "Kontor: your account is open. Welcome!"),
        ];
        let form: HashMap<String, String> =
            form.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(it.form, form);
    }
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sms_the_provider_will_never_take_is_given_up_and_nobody_is_named() {
    let (provider, url) = Provider::open(&[400]).await;
    let shop = shop_by(&url).await;
    let row = sms_of(&shop).await;
    assert_eq!((row.state.as_str(), row.attempts), ("DEAD", 1));
    assert_eq!(row.last_error.as_deref(), Some("http answered 400 code 21211"));
    assert_eq!(provider.asked().len(), 1);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_not_there_is_asked_to_the_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let shop = shop_by(&format!("http://AC1:token@{nobody}")).await;
    let row = sms_of(&shop).await;
    assert_eq!((row.state.as_str(), row.attempts), ("DEAD", 8));
    assert_eq!(row.last_error.as_deref(), Some("the provider cannot be reached"));
    shop.finish().await;
}
