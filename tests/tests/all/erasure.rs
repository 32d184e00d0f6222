//! The right to be forgotten: who is erased is found nowhere any more, and the shop goes on as if nothing had happened.

use std::collections::BTreeSet;

use kontor_domain::{ClaimKind, OrderId, Personal, Reason, Sealed, User, UserCommand, UserError, UserId};
use kontor_eventstore::ExecuteError;
use kontor_projections::{rebuild, views};
use kontor_tests::api::{ApiShop, Client};
use kontor_tests::{Opening, Shop, eventually};
use serde_json::{Value, json};

mod backup;
mod crash;
mod keys;
mod process;
mod search;
mod under_way;
mod written;

pub(crate) use crash::POINTS;
use search::{Log, Places};

const PASSWORD: &str = "correct horse";
/// What is searched for: the name, both addresses, the street, both numbers.
const TRACES: [&str; 6] = [
    "Forgettable Person",
    "forget.me@example.com",
    "forget.me.too@example.com",
    "77 Oblivion Quay",
    "555 0199 01",
    "555 0199 02",
];
/// What people write about somebody.
const WRITTEN: &str = "It goes to Forgettable Person,\n77 Oblivion Quay, tel. 555 0199 01";
const ME: &str = "{ me { id email name phone } }";
const MY_ORDERS: &str = "{ myOrders { nodes { id status total { amountMinor } customer { name } shippingAddress { line1 phone } } } }";
const ERASE: &str = "mutation($input: EraseUserInput!) { eraseUser(input: $input) {
    position certificate { userId position erasedAt keys sessions tokens snapshots fingerprints notifications messages readableEvents }
    userErrors { __typename ... on UserError { code message path } } } }";

async fn erase(client: &Client, input: Value) -> Value {
    let mut input = input;
    if input.get("idempotencyKey").is_none() {
        input["idempotencyKey"] = kontor_tests::api::key().into();
    }
    client.read(ERASE, json!({ "input": input })).await["eraseUser"].take()
}

fn code(payload: &Value) -> &str {
    payload["userErrors"][0]["code"].as_str().unwrap_or_default()
}

async fn register(api: &ApiShop, email: &str) -> Client {
    let input = json!({ "email": email, "name": TRACES[0], "phone": TRACES[4], "password": PASSWORD });
    let _ = api.visitor().mutation("registerUser", input).await.done();
    api.log_in(email, PASSWORD).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_finds_who_was_erased_anywhere() {
    let log = Log::kept();
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let bell = api.product("BELL").price(10_00).stock(50).await;
    let (admin, staff) = (api.admin().await, api.staff().await);
    let person = register(&api, TRACES[1]).await;
    let id: UserId = person.id().parse().unwrap();
    written::about_the_account(&person, &admin).await;
    let person = api.log_in(TRACES[1], PASSWORD).await.unwrap();
    let channels = json!({ "email": true, "sms": true });
    let _ = person
        .mutation("chooseNotificationChannels", channels)
        .await
        .done();
    let mut placing = person.placing(&[(&lamp, 2)]);
    placing["shippingAddress"]["recipient"] = TRACES[0].into();
    placing["shippingAddress"]["line1"] = TRACES[3].into();
    placing["shippingAddress"]["phone"] = TRACES[4].into();
    let order = person.mutation("placeOrder", placing).await.placed();
    api.until_status(order.order_id(), "CONFIRMED").await;
    let profile = json!({ "name": TRACES[0], "phone": TRACES[5] });
    let _ = person.mutation("changeProfile", profile).await.done();
    let _ = person
        .mutation("changeEmail", json!({ "email": TRACES[2] }))
        .await
        .done();
    let _ = admin.ship(&order.id).await.done();
    let mut orders = written::about_orders(&api, &person, &staff, &bell).await;
    api.caught_up().await;
    messages_about(&api, &id, 5).await;
    api.everybody_told().await;
    // Every other view of them is asked once, so that whatever is remembered anywhere is.
    let read =
        person.read(MY_ORDERS, json!({})).await.to_string() + &person.read(ME, json!({})).await.to_string();
    let exported = person.read("{ exportMyData }", json!({})).await["exportMyData"].to_string();
    assert!(!exported.contains("argon2"), "{exported}");
    // Six texts as events, and all but that of the account in the history of an order.
    let texts = exported.matches(&json!(WRITTEN).to_string()).count();
    assert_eq!(texts, 11, "{exported}");
    assert_eq!(written::shown(&staff, &orders).await, vec![json!(WRITTEN); 3]);

    // Before: where people look, they are found; where nobody should, they are not.
    let mut places = Places::of(&api, api.outbox(), log.text()).await;
    assert_eq!(missing(&exported), NOTHING, "the export lacks something");
    assert_eq!(
        missing(&format!("{read}{}", places.folder)),
        [TRACES[1]; 0],
        "what was sent or shown lacks something"
    );
    places.folder.clear();
    let found = places.found(&[&TRACES[..], &["argon2"]].concat());
    assert_eq!(found, BTreeSet::new(), "stored in the clear");

    let wrong = erase(&person, json!({ "password": "incorrect horse" })).await;
    assert_eq!(code(&wrong), "INVALID_CREDENTIALS");
    let done = erase(&person, json!({ "password": PASSWORD })).await;
    assert_eq!(done["userErrors"], json!([]));
    let certificate = &done["certificate"];
    assert_eq!(
        (&certificate["userId"], &certificate["position"]),
        (&json!(person.id()), &done["position"])
    );
    assert_eq!(
        (&certificate["keys"], &certificate["readableEvents"]),
        (&json!(1), &json!(0))
    );
    assert!(certificate["messages"].as_u64().unwrap() >= 5, "{certificate}");

    // Goods still come back, and whoever takes them writes what they always write.
    written::about_a_return(&staff, &order.id).await;
    orders.push(order.id.clone());
    api.caught_up().await;
    let places = Places::of(&api, api.outbox(), log.text()).await;
    assert_eq!(places.found(&TRACES), BTreeSet::new());
    assert_eq!(written::shown(&staff, &orders).await, vec![Value::Null; 4]);
    let shown = admin
        .read("query($id: ID!) { order(id: $id) { status total { amountMinor } customer { id } shippingAddress { line1 } } }",
              json!({ "id": order.id }))
        .await;
    let expected = json!({ "order": { "status": "DELIVERED", "total": { "amountMinor": 20_00 }, "customer": null,
                                      "shippingAddress": null } });
    assert_eq!(shown, expected);
    assert_eq!(api.stock(lamp.id).await, (4, 0));
    api.views_are_true().await;

    // A replay makes the same of it.
    let all = views();
    rebuild::rebuild(&api.pool, &all, |_, _| {}).await.unwrap();
    api.views_are_true().await;
    let again = admin
        .read(
            "query($id: ID!) { order(id: $id) { shippingAddress { line1 } } }",
            json!({ "id": order.id }),
        )
        .await;
    assert_eq!(again["order"]["shippingAddress"], Value::Null);

    eventually("their token is good for nothing", async || {
        (person.ask(ME, json!({})).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(
        code(&api.log_in(TRACES[2], PASSWORD).await.unwrap_err()),
        "INVALID_CREDENTIALS"
    );
    // But the address is anybody's.
    let newcomer = register(&api, TRACES[2]).await;
    assert_ne!(newcomer.id(), person.id());
    api.finish().await;
}

const NOTHING: [&str; 0] = [];

/// Which of what should be there is not.
fn missing(text: &str) -> Vec<&'static str> {
    TRACES.into_iter().filter(|trace| !text.contains(trace)).collect()
}

/// Waits until so many messages were sent to somebody.
async fn messages_about(api: &ApiShop, id: &UserId, messages: i64) {
    eventually("everything is sent", async || {
        let sent: i64 =
            sqlx::query_scalar("SELECT count(*) FROM notifications WHERE user_id = $1 AND state = 'SENT'")
                .bind(id.to_string())
                .fetch_one(&api.pool)
                .await
                .unwrap();
        (sent >= messages).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admins_erase_anybody_and_nobody_else_does() {
    let api = ApiShop::start().await;
    let (admin, staff, shopper, other) = (
        api.admin().await,
        api.staff().await,
        api.shopper().await,
        api.shopper().await,
    );
    let input = json!({ "idempotencyKey": "once", "userId": shopper.id() });
    for nobody in [&staff, &other] {
        let answer = nobody.ask(ERASE, json!({ "input": input })).await;
        assert_eq!(answer.code(), "FORBIDDEN");
    }
    let answer = api.visitor().ask(ERASE, json!({ "input": input })).await;
    assert_eq!(answer.code(), "UNAUTHENTICATED");
    // Who has no password cannot confirm with one.
    assert_eq!(code(&erase(&shopper, json!({})).await), "INVALID_CREDENTIALS");
    assert_eq!(
        code(&erase(&shopper, json!({ "password": "" })).await),
        "INVALID_CREDENTIALS"
    );
    let done = erase(&admin, input.clone()).await;
    assert_eq!(done["certificate"]["keys"], 1);
    assert_eq!(erase(&admin, input).await, done);
    let twice = erase(&admin, json!({ "userId": shopper.id() })).await;
    assert_eq!(twice["certificate"], done["certificate"]);
    let nobody = UserId::from_ulid(api.store.ids().next()).to_string();
    assert_eq!(
        code(&erase(&admin, json!({ "userId": nobody })).await),
        "USER_NOT_FOUND"
    );
    let users = admin
        .read("{ users { nodes { id email name } } }", json!({}))
        .await;
    let users = users["users"]["nodes"].as_array().unwrap();
    assert_eq!(users.len(), 3, "{users:?}");
    assert!(
        users
            .iter()
            .all(|it| it["id"] != shopper.id().as_str() && it["email"].is_string())
    );
    api.finish().await;
}

/// Another process that knew the person well forgets them as soon as it hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_forgets() {
    let shop = Shop::start().await;
    let other = shop.branch(Opening::default().quiet()).await;
    let id = shop.customer().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let order = shop.order(id, &[(&lamp, 1)]).await;
    shop.caught_up().await;
    let goes_to = shop.order_row(order).await.shipping_address.0;
    let known = async |there: &Shop| there.store.keyring().reveal(&goes_to).await.unwrap().is_some();
    let remembered = async |there: &Shop| {
        there
            .store
            .recall::<User, _>(id, |user| user.email().is_some())
            .await
            .unwrap()
    };
    assert!(known(&shop).await && known(&other).await && remembered(&other).await);
    // What another process did not keep, having heard first, is no damaged value to whoever still has the key.
    let nothing = Personal::<Reason>::of_sealed(Sealed::nothing(id));
    assert_eq!(other.store.keyring().reveal(&nothing).await.unwrap(), None);

    let erased = shop.send::<User>(id, UserCommand::Erase).await;
    for there in [&shop, &other] {
        let mut head = there.store.head();
        head.wait_for(|head| *head >= erased.position).await.unwrap();
        eventually("it is forgotten", async || {
            (!known(there).await && !remembered(there).await).then_some(())
        })
        .await;
        let again = there.try_send::<User>(id, UserCommand::Reactivate).await;
        assert!(
            matches!(again, Err(ExecuteError::Refused(UserError::Erased))),
            "{again:?}"
        );
        let placing = there.placing(id, &[(&lamp, 1)]);
        let order = OrderId::from_ulid(there.store.ids().next());
        let placed = there.try_send::<kontor_domain::Order>(order, placing).await;
        assert!(matches!(placed, Err(ExecuteError::Erased)), "{placed:?}");
    }
    let holder = shop
        .store
        .holder(ClaimKind::Email, &format!("{id}@example.com").to_lowercase())
        .await;
    assert_eq!(holder.unwrap(), None);
    other.close().await;
    shop.finish().await;
}
