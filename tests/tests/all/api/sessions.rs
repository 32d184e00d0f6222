//! Sessions: begun by logging in, renewed while they live, ended wherever somebody says so.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_eventstore::{Clock, ManualClock};
use kontor_tests::api::{ApiShop, Client, Door};
use kontor_tests::proxy::Proxy;
use kontor_tests::{Opening, eventually};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

pub(crate) const PASSWORD: &str = "gravel orchid tundra 42";
const EMAIL: &str = "some@example.com";
const ME: &str = "{ me { id } }";

/// What one device has of a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Tokens {
    fn of(payload: &Value) -> Self {
        let text = |field: &str| payload[field].as_str().unwrap_or_default().to_owned();
        Self {
            access: text("token"),
            refresh: text("refreshToken"),
        }
    }
}

pub(crate) async fn register(api: &ApiShop, email: &str) -> Value {
    let input = json!({ "email": email, "name": "Some Body", "password": PASSWORD });
    api.visitor().mutation("registerUser", input).await.done()
}

pub(crate) async fn log_in(client: &Client, email: &str, password: &str) -> Value {
    let query = "mutation($input: LogInInput!) { logIn(input: $input) { token refreshToken expiresAt user { id }
        userErrors { ... on UserError { code } ... on TooManyAttempts { retryAfter } ... on SessionsUnavailable { retryAfter } } } }";
    let input = json!({ "input": { "email": email, "password": password } });
    client.read(query, input).await["logIn"].take()
}

pub(crate) async fn begin(api: &ApiShop, email: &str) -> Tokens {
    let payload = log_in(&api.visitor(), email, PASSWORD).await;
    assert_eq!(payload["userErrors"], json!([]));
    Tokens::of(&payload)
}

pub(crate) async fn refresh(client: &Client, token: &str) -> Result<Tokens, String> {
    let query = "mutation($input: RefreshSessionInput!) { refreshSession(input: $input) { token refreshToken user { id }
        userErrors { ... on UserError { code } } } }";
    let input = json!({ "input": { "refreshToken": token } });
    let payload = client.read(query, input).await["refreshSession"].take();
    match payload["userErrors"][0]["code"].as_str() {
        Some(code) => Err(code.to_owned()),
        None => Ok(Tokens::of(&payload)),
    }
}

/// Somebody with this access token.
pub(crate) fn with(api: &ApiShop, access: &str) -> Client {
    let nobody = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    api.visitor().with_token(nobody, access)
}

pub(crate) async fn until_ended(client: &Client) {
    eventually("the access token is good no more", async || {
        let answer = client.ask(ME, json!({})).await;
        (answer.status == 401).then_some(())
    })
    .await;
}

fn noon() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(
        DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap(),
    ))
}

async fn with_clock() -> (ApiShop, Arc<ManualClock>) {
    let clock = noon();
    let injected: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let shop = Opening::default().clock(injected).open().await;
    (ApiShop::over(shop, Door::default()).await, clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_renewed_and_a_stolen_token_ends_it() {
    let (api, clock) = with_clock().await;
    let injected: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let branch = api
        .branch_with(Opening::default().clock(injected), Door::default())
        .await;
    register(&api, EMAIL).await;
    let first = begin(&api, EMAIL).await;
    let other_device = begin(&api, EMAIL).await;
    let second = refresh(&branch.visitor(), &first.refresh).await.unwrap();
    assert_ne!(second.refresh, first.refresh);
    assert_eq!(with(&api, &second.access).ask(ME, json!({})).await.status, 200);
    // Within the grace the same answer, at whichever process.
    for desk in [&api, &branch] {
        assert_eq!(
            refresh(&desk.visitor(), &first.refresh).await.unwrap().refresh,
            second.refresh
        );
    }
    let third = refresh(&api.visitor(), &second.refresh).await.unwrap();
    clock.set(clock.now() + TimeDelta::seconds(11));
    // What follows the answer in a thief's hands ends what the owner has, and the other way round.
    assert_eq!(
        refresh(&api.visitor(), &second.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    assert_eq!(
        refresh(&api.visitor(), &third.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    until_ended(&with(&api, &third.access)).await;
    until_ended(&with(&branch, &first.access)).await;
    assert_eq!(
        with(&api, &other_device.access).ask(ME, json!({})).await.status,
        200
    );

    // A token that was made up for a session ends nothing.
    let mut forged = other_device.refresh.clone().into_bytes();
    forged[30] = if forged[30] == b'A' { b'B' } else { b'A' };
    for nonsense in [String::from_utf8(forged).unwrap(), "x".to_owned(), String::new()] {
        assert_eq!(
            refresh(&api.visitor(), &nonsense).await,
            Err("SESSION_ENDED".to_owned())
        );
    }
    assert!(refresh(&api.visitor(), &other_device.refresh).await.is_ok());
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_that_renew_at_once_all_go_on() {
    let api = ApiShop::start().await;
    let branch = api.branch().await;
    register(&api, EMAIL).await;
    let first = begin(&api, EMAIL).await;
    let desks = [api.visitor(), branch.visitor()];
    let tabs = (0..8).map(|n| refresh(&desks[n % 2], &first.refresh));
    let renewed = futures::future::join_all(tabs).await;
    let next = renewed[0].clone().unwrap().refresh;
    for tab in renewed {
        assert_eq!(tab.unwrap().refresh, next);
    }
    assert!(refresh(&api.visitor(), &next).await.is_ok());
    branch.close().await;
    api.finish().await;
}

/// `name=value` of the cookie that an answer sets.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("set-cookie")?.to_str().unwrap();
    value.split(';').next().map(str::to_owned)
}

const IN_COOKIE: &str =
    "mutation($input: LogInInput!) { logIn(input: $input) { token refreshToken userErrors { __typename } } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_with_a_living_cookie_is_renewed_in_the_same_request() {
    let (api, clock) = with_clock().await;
    register(&api, EMAIL).await;
    let input = json!({ "input": { "email": EMAIL, "password": PASSWORD, "inCookie": true } });
    let (answer, headers) = api.visitor().ask_all(IN_COOKIE, input.clone()).await;
    let payload = answer.data()["logIn"].take();
    assert_eq!(payload["refreshToken"], Value::Null);
    let set = headers["set-cookie"].to_str().unwrap();
    for part in [
        "__Host-kontor-session=",
        "; HttpOnly",
        "; Secure",
        "; SameSite=Lax",
        "; Path=/;",
    ] {
        assert!(set.contains(part), "{set}");
    }
    let session = cookie(&headers).unwrap();
    let token = payload["token"].as_str().unwrap();
    let browser = with(&api, token).with_header("cookie", &session);
    let (answer, headers) = browser.ask_all(ME, json!({})).await;
    assert!(answer.data()["me"]["id"].is_string());
    assert_eq!((cookie(&headers), headers.get("x-access-token")), (None, None));

    clock.set(clock.now() + TimeDelta::minutes(16));
    // A cookie alone is nobody; an expired token alone is nobody; nor is one with the cookie of another session.
    let alone = api.visitor().with_header("cookie", &session);
    assert_eq!(alone.read(ME, json!({})).await, json!({ "me": null }));
    assert_eq!(with(&api, token).ask(ME, json!({})).await.status, 401);
    let (_, others) = api.visitor().ask_all(IN_COOKIE, input.clone()).await;
    let mixed = with(&api, token).with_header("cookie", &cookie(&others).unwrap());
    assert_eq!(mixed.ask(ME, json!({})).await.status, 401);

    // Two tabs at once.
    let (one, two) = tokio::join!(browser.ask_all(ME, json!({})), browser.ask_all(ME, json!({})));
    assert!(one.0.data()["me"]["id"].is_string() && two.0.data()["me"]["id"].is_string());
    assert_eq!(cookie(&one.1), cookie(&two.1));
    let fresh = one.1["x-access-token"].to_str().unwrap();
    assert_eq!(with(&api, fresh).ask(ME, json!({})).await.status, 200);
    let renewed = cookie(&one.1).unwrap();
    assert_ne!(renewed, session);

    // Without a token a page asks for one by its cookie; and logging out takes the cookie away.
    let query = "mutation { refreshSession(input: {}) { token refreshToken userErrors { __typename } } }";
    let page = api.visitor().with_header("cookie", &renewed);
    let (answer, headers) = page.ask_all(query, json!({})).await;
    let payload = answer.data()["refreshSession"].take();
    assert!(payload["token"].is_string() && payload["refreshToken"].is_null());
    let page = api.visitor().with_header("cookie", &cookie(&headers).unwrap());
    let query = "mutation { logOut(input: {}) { ended userErrors { __typename } } }";
    let (answer, headers) = page.ask_all(query, json!({})).await;
    assert_eq!(answer.data()["logOut"]["ended"], 1);
    assert!(headers["set-cookie"].to_str().unwrap().contains("; Max-Age=0;"));
    until_ended(&with(&api, fresh)).await;
    let (answer, headers) = page
        .ask_all(
            "mutation { refreshSession(input: {}) { userErrors { ... on UserError { code } } } }",
            json!({}),
        )
        .await;
    assert_eq!(
        answer.data()["refreshSession"]["userErrors"][0]["code"],
        "SESSION_ENDED"
    );
    assert!(headers["set-cookie"].to_str().unwrap().contains("; Max-Age=0;"));
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_and_ended_everywhere() {
    let api = ApiShop::start().await;
    let branch = api.branch().await;
    register(&api, EMAIL).await;
    register(&api, "other@example.com").await;
    let agent = format!("Browser/1 {}", "x".repeat(300));
    let named = api.visitor().with_header("user-agent", &agent);
    let first = Tokens::of(&log_in(&named, EMAIL, PASSWORD).await);
    let (second, third) = (begin(&api, EMAIL).await, begin(&api, EMAIL).await);
    let theirs = begin(&api, "other@example.com").await;
    let client = with(&api, &second.access);
    let listed = client
        .read(
            "{ sessions { id userAgent current createdAt lastUsedAt } }",
            json!({}),
        )
        .await["sessions"]
        .take();
    let listed = listed.as_array().unwrap();
    let current: Vec<bool> = listed.iter().map(|it| it["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, true, false]);
    let oldest = listed.last().unwrap();
    assert_eq!(oldest["userAgent"], agent[..120]);

    let end = "mutation($input: EndSessionInput!) { endSession(input: $input) { ended userErrors { ... on UserError { code } } } }";
    let id = json!({ "input": { "sessionId": oldest["id"] } });
    let stranger = with(&api, &theirs.access).read(end, id.clone()).await;
    assert_eq!(
        stranger["endSession"]["userErrors"][0]["code"],
        "SESSION_NOT_FOUND"
    );
    let before = std::time::Instant::now();
    assert_eq!(client.read(end, id.clone()).await["endSession"]["ended"], 1);
    until_ended(&with(&branch, &first.access)).await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(
        refresh(&api.visitor(), &first.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    assert_eq!(
        client.read(end, id).await["endSession"]["userErrors"][0]["code"],
        "SESSION_NOT_FOUND"
    );

    let all = "mutation($keep: Boolean) { endAllSessions(input: { keepCurrent: $keep }) { ended } }";
    assert_eq!(
        client.read(all, json!({ "keep": true })).await["endAllSessions"]["ended"],
        1
    );
    until_ended(&with(&branch, &third.access)).await;
    assert_eq!(client.ask(ME, json!({})).await.status, 200);
    assert_eq!(client.read(all, json!({})).await["endAllSessions"]["ended"], 1);
    until_ended(&client).await;
    // A process that starts later knows of it too, and everybody else goes on.
    let late = api.branch().await;
    assert_eq!(with(&late, &third.access).ask(ME, json!({})).await.status, 401);
    assert_eq!(with(&late, &theirs.access).ask(ME, json!({})).await.status, 200);
    late.close().await;
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_nobody_uses_ends_and_none_lasts_for_ever() {
    let (api, clock) = with_clock().await;
    register(&api, EMAIL).await;
    let unused = begin(&api, EMAIL).await;
    let mut used = begin(&api, EMAIL).await;
    for _ in 0..4 {
        clock.set(clock.now() + TimeDelta::days(20));
        used = refresh(&api.visitor(), &used.refresh).await.unwrap();
    }
    assert_eq!(
        refresh(&api.visitor(), &unused.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    clock.set(clock.now() + TimeDelta::days(11));
    assert_eq!(
        refresh(&api.visitor(), &used.refresh).await,
        Err("SESSION_ENDED".to_owned())
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_tokens_stay_good_and_whoever_needs_a_session_is_told_to_come_back() {
    let clock = noon();
    let injected: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let home = ApiShop::over(
        Opening::default().clock(Arc::clone(&injected)).open().await,
        Door::default(),
    )
    .await;
    let proxy = Proxy::before(home.redis_url()).await;
    let opening = Opening::default()
        .quiet()
        .clock(injected)
        .redis(&proxy.url(home.redis_url()));
    let away = home.branch_with(opening, Door::default()).await;
    register(&home, EMAIL).await;
    let input = json!({ "input": { "email": EMAIL, "password": PASSWORD, "inCookie": true } });
    let (answer, headers) = home.visitor().ask_all(IN_COOKIE, input).await;
    let token = answer.data()["logIn"]["token"].as_str().unwrap().to_owned();
    let session = begin(&home, EMAIL).await;
    proxy.cut().await;
    let client = with(&away, &token).with_header("cookie", &cookie(&headers).unwrap());
    assert!(client.read(ME, json!({})).await["me"]["id"].is_string());
    let refused = log_in(&away.visitor(), EMAIL, PASSWORD).await;
    assert_eq!(
        refused["userErrors"],
        json!([{ "code": "SESSIONS_UNAVAILABLE", "retryAfter": 1 }])
    );
    assert_eq!(
        refresh(&away.visitor(), &session.refresh).await,
        Err("SESSIONS_UNAVAILABLE".to_owned())
    );
    assert_eq!(
        client.ask("{ sessions { id } }", json!({})).await.code(),
        "SESSIONS_UNAVAILABLE"
    );
    clock.set(clock.now() + TimeDelta::minutes(16));
    let (answer, headers) = client.ask_all(ME, json!({})).await;
    assert_eq!((answer.status, answer.code()), (503, "SESSIONS_UNAVAILABLE"));
    assert_eq!(answer.body["errors"][0]["extensions"]["retryable"], true);
    assert_eq!(headers["retry-after"], "1");
    // The same request, where Redis answers.
    assert!(client.at(&home).read(ME, json!({})).await["me"]["id"].is_string());
    away.close().await;
    home.finish().await;
}
