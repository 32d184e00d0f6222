//! Who did what to whom when, from where: every change is in it, and what changes nothing but matters.

mod forgotten;
mod passwords;
mod trail;

use kontor_api::Protection;
use kontor_api::address::Proxies;
use kontor_domain::{User, UserCommand};
use kontor_eventstore::{Actor, Clock, Deed, SystemClock, deeds};
use kontor_tests::Shop;
use kontor_tests::api::{Answer, ApiShop, Client, Door};
use kontor_tests::children::kontor;
use serde_json::{Value, json};

use crate::HELPER;

const ENTRIES: &str = "query($filter: AuditFilter, $first: Int! = 100, $after: String) {
    audit(filter: $filter, first: $first, after: $after) {
        nodes { id kind position actor { kind name user { roles } } subject at address request correlation command causedBy detail times }
        pageInfo { hasNextPage endCursor } } }";

async fn entries(admin: &Client, filter: Value) -> Vec<Value> {
    let mut page = admin.read(ENTRIES, json!({ "filter": filter })).await["audit"].take();
    assert_eq!(page["pageInfo"]["hasNextPage"], false, "more than fits this test");
    page["nodes"].as_array_mut().unwrap().drain(..).collect()
}

fn column<'a>(entries: &'a [Value], name: &str) -> Vec<&'a str> {
    entries
        .iter()
        .map(|it| it[name].as_str().unwrap_or("-"))
        .collect()
}

/// A shop behind a proxy on this machine.
async fn behind_a_proxy() -> ApiShop {
    let protection = Protection {
        proxies: Proxies {
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            ..Proxies::default()
        },
        ..Protection::default()
    };
    let door = Door {
        protection,
        ..Door::default()
    };
    ApiShop::over(Shop::start().await, door).await
}

fn request_of(answer: &Answer) -> String {
    answer.headers["x-request-id"].clone()
}

/// Somebody with a password, registered by themselves.
async fn register(api: &ApiShop, email: &str) -> String {
    let input = json!({ "email": email, "name": "A Person", "password": "a long and winding road" });
    let visitor = api.visitor();
    let registering = visitor.mutation("registerUser", input);
    let payload = registering.returning("user { id }").await.done();
    payload["user"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_says_who_what_to_whom_when_and_from_where() {
    let api = behind_a_proxy().await;
    let lamp = api.product("LAMP").stock(5).await;
    let (admin, staff) = (api.admin().await, api.staff().await);
    let shopper = api
        .shopper()
        .await
        .with_header("x-forwarded-for", "198.51.100.1, 203.0.113.7");
    let before = SystemClock.now();
    let placed = shopper.mutation("placeOrder", shopper.placing(&[(&lamp, 1)]));
    let answer = placed.answer().await;
    let request = request_of(&answer);
    let order = answer.data()["placeOrder"]["id"].as_str().unwrap().to_owned();
    api.until_status(order.parse().unwrap(), "CONFIRMED").await;
    let shipping = staff.ship(&order).await.position();

    let done = entries(&admin, json!({ "subject": order })).await;
    assert_eq!(column(&done, "kind"), ["Shipped", "Confirmed", "Placed"]);
    let (shipped, confirmed, placed) = (&done[0], &done[1], &done[2]);
    assert_eq!(placed["id"], format!("order/{order}/1"));
    assert_eq!(placed["actor"]["name"], shopper.id());
    assert_eq!(placed["actor"]["kind"], "USER");
    assert_eq!(placed["actor"]["user"]["roles"], json!(["CUSTOMER"]));
    assert_eq!(placed["subject"], order);
    // As the proxy has seen it, not as the client has invented it.
    assert_eq!(placed["address"], "203.0.113.7");
    assert_eq!([&placed["request"], &placed["correlation"]], [&request, &request]);
    assert_eq!(placed["causedBy"], Value::Null);
    let at: chrono::DateTime<chrono::Utc> = placed["at"].as_str().unwrap().parse().unwrap();
    assert!(before <= at && at <= SystemClock.now());
    // What the shop does in answer is part of it, and from nowhere.
    assert_eq!(
        confirmed["actor"],
        json!({ "kind": "SYSTEM", "name": "system:order_process", "user": null })
    );
    assert_eq!([&confirmed["request"], &confirmed["address"]], [&Value::Null; 2]);
    assert_eq!(confirmed["correlation"], request);
    assert_eq!(confirmed["causedBy"], placed["id"]);
    assert_eq!(shipped["actor"]["name"], staff.id());
    assert_eq!(shipped["position"], shipping.to_string());
    assert_eq!(shipped["address"], "127.0.0.1");
    assert_ne!(shipped["request"], request);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_word_on_its_address_is_not_written_down() {
    let api = ApiShop::start().await;
    let admin = api.admin().await;
    let client = api.visitor().with_header("x-forwarded-for", "203.0.113.7");
    let input = json!({ "email": "a@example.com", "name": "A", "password": "a long and winding road" });
    let _ = client.mutation("registerUser", input).await.done();
    let registered = entries(&admin, json!({ "kind": "Registered", "actor": "anonymous" })).await;
    assert_eq!(column(&registered, "address"), ["127.0.0.1"]);
    assert_eq!(
        registered[0]["actor"],
        json!({ "kind": "ANONYMOUS", "name": "anonymous", "user": null })
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_admins_look_into_it() {
    let api = ApiShop::start().await;
    let trail = "{ auditTrail(of: { request: \"x\" }) { hasMore } }";
    for client in [api.shopper().await, api.staff().await] {
        for query in [ENTRIES, trail] {
            let answer = client.ask(query, json!({})).await;
            assert_eq!(answer.code(), "FORBIDDEN");
            assert_eq!(answer.body["errors"][0]["extensions"]["permission"], "audit:read");
        }
    }
    for query in [ENTRIES, trail] {
        assert_eq!(
            api.visitor().ask(query, json!({})).await.code(),
            "UNAUTHENTICATED"
        );
        api.admin().await.read(query, json!({})).await;
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_ins_and_what_becomes_of_sessions_are_in_it() {
    let api = behind_a_proxy().await;
    let admin = api.admin().await;
    let (email, unknown) = ("reader@example.com", "nobody.at.all@example.net");
    let id = register(&api, email).await;
    assert!(api.log_in(unknown, "a long and winding road").await.is_err());
    for _ in 0..2 {
        assert!(api.log_in(email, "wrong wrong wrong").await.is_err());
    }
    let reader = api.log_in(email, "a long and winding road").await.unwrap();
    let reset = "mutation($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) { userErrors { __typename } } }";
    for address in [email, unknown] {
        api.visitor()
            .read(reset, json!({ "input": { "email": address } }))
            .await;
    }
    let log_out = "mutation { logOut(input: {}) { ended } }";
    assert_eq!(reader.read(log_out, json!({})).await["logOut"]["ended"], 1);
    // Five at once are too many, wherever they come from.
    let guess = api.visitor().with_header("x-forwarded-for", "203.0.113.9");
    let log_in = "mutation { logIn(input: { email: \"victim@example.com\", password: \"x\" }) { userErrors { __typename } } }";
    let mut throttled = false;
    for _ in 0..20 {
        let payload = guess.read(log_in, json!({})).await["logIn"].take();
        throttled |= payload["userErrors"][0]["__typename"] == "TooManyAttempts";
    }
    assert!(throttled);

    let of = |kind: &str| json!({ "kind": kind });
    let failed = entries(&admin, of("LogInFailed")).await;
    let here: Vec<&Value> = failed.iter().filter(|it| it["address"] == "127.0.0.1").collect();
    let times = |subject: &Value| -> i64 {
        let of = here.iter().filter(|it| it["subject"] == *subject);
        of.map(|it| it["times"].as_i64().unwrap()).sum()
    };
    assert_eq!((times(&json!(id)), times(&Value::Null)), (2, 1));
    assert!(
        here.iter()
            .all(|it| it["actor"]["kind"] == "ANONYMOUS" && it["request"].is_string())
    );
    let throttled = entries(&admin, of("LogInThrottled")).await;
    assert!(
        throttled.iter().all(|it| it["address"] == "203.0.113.9"),
        "{throttled:?}"
    );
    assert!(!throttled.is_empty());
    let logged_in = entries(&admin, json!({ "kind": "LoggedIn", "actor": id })).await;
    assert_eq!(column(&logged_in, "subject"), [&*id]);
    let ended = entries(&admin, of("SessionsEnded")).await;
    assert_eq!(ended[0]["subject"], logged_in[0]["detail"]);
    assert_eq!(ended[0]["actor"]["name"], *id);
    let resets = entries(&admin, of("PasswordResetRequested")).await;
    assert_eq!(column(&resets, "subject"), ["-", &*id]);
    // Nothing that was typed is kept.
    let kept: Vec<String> = sqlx::query_scalar("SELECT deeds::text FROM deeds")
        .fetch_all(&api.pool)
        .await
        .unwrap();
    assert!(
        !kept
            .iter()
            .any(|row| row.contains('@') || row.contains("wrong wrong")),
        "{kept:?}"
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_that_was_refused_and_a_webhook_that_was_not_believed_are_in_it() {
    let api = ApiShop::start().await;
    let (admin, shopper) = (api.admin().await, api.shopper().await);
    let order = "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let named = shopper.clone().with_header("x-request-id", "try-1");
    let input = json!({ "orderId": order, "trackingNumber": "T" });
    assert_eq!(
        named.mutation("shipOrder", input).answer().await.code(),
        "FORBIDDEN"
    );
    // Looking is refused too, and not written down.
    assert_eq!(
        shopper.ask("{ log { head } }", json!({})).await.code(),
        "FORBIDDEN"
    );
    let url = format!("http://{}/webhooks/payments", api.address());
    let posted = reqwest::Client::new().post(url).body("{}").send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 400);

    let refused = entries(
        &admin,
        json!({ "actor": shopper.id(), "kind": "PermissionRefused" }),
    )
    .await;
    assert_eq!(column(&refused, "detail"), ["order:ship"]);
    assert_eq!(column(&refused, "request"), ["try-1"]);
    let webhooks = entries(&admin, json!({ "kind": "WebhookRefused" })).await;
    assert_eq!(column(&webhooks, "detail"), ["missing"]);
    assert_eq!(column(&webhooks, "address"), ["127.0.0.1"]);
    // A request that changed nothing has a trail all the same.
    let query = "{ auditTrail(of: { request: \"try-1\" }) { steps { stage what detail } end hasMore } }";
    let trail = admin.read(query, json!({})).await["auditTrail"].take();
    let step = json!({ "stage": "DEED", "what": "PermissionRefused", "detail": "order:ship" });
    assert_eq!(trail, json!({ "steps": [step], "end": null, "hasMore": false }));
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_go_together_and_pages_miss_and_repeat_nothing() {
    let api = ApiShop::start().await;
    let (admin, staff) = (api.admin().await, api.staff().await);
    let lamp = api.product("LAMP").stock(50).await;
    let start = SystemClock.now();
    let receive = json!({ "productId": lamp.id.to_string(), "quantity": 1 });
    for round in 0..7 {
        let named = staff
            .clone()
            .with_header("x-request-id", &format!("round-{round}"));
        let _ = named.mutation("receiveStock", receive.clone()).await.done();
        // A deed between the events, by somebody else.
        let user = json!({ "userId": staff.id(), "role": "ADMIN" });
        assert_eq!(
            staff.mutation("grantRole", user).answer().await.code(),
            "FORBIDDEN"
        );
        api.runtime.deeds.flushed().await;
    }
    let end = SystemClock.now();
    let _ = admin.mutation("receiveStock", receive).await.done();

    let by_staff = json!({ "actor": staff.id() });
    let kinds = entries(&admin, by_staff.clone()).await;
    assert_eq!(
        column(&kinds, "kind"),
        ["PermissionRefused", "StockReceived"].repeat(7)
    );
    let lamps = json!({ "subject": lamp.id.to_string(), "actor": staff.id() });
    assert_eq!(entries(&admin, lamps).await.len(), 7);
    for (filter, kind) in [
        (json!({ "request": "round-3" }), "StockReceived"),
        (
            json!({ "correlation": "round-3", "actor": staff.id() }),
            "StockReceived",
        ),
        (json!({ "actor": admin.id() }), "StockReceived"),
    ] {
        let found = entries(&admin, filter.clone()).await;
        assert_eq!(column(&found, "kind"), [kind], "{filter}");
    }
    for nothing in [
        json!({ "request": "round-3", "actor": admin.id() }),
        json!({ "request": "round-8" }),
        json!({ "subject": lamp.id.to_string(), "kind": "PermissionRefused" }),
        json!({ "subject": "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV" }),
        json!({ "subject": "nothing of ours" }),
        json!({ "actor": staff.id(), "from": end }),
        json!({ "actor": staff.id(), "to": start }),
    ] {
        assert_eq!(
            entries(&admin, nothing.clone()).await,
            [] as [Value; 0],
            "{nothing}"
        );
    }
    let between = json!({ "actor": staff.id(), "from": start, "to": end });
    assert_eq!(entries(&admin, between).await.len(), 14);
    let backwards = json!({ "filter": { "from": end, "to": start } });
    assert_eq!(admin.ask(ENTRIES, backwards).await.code(), "BAD_USER_INPUT");

    // In pages of every size, while more comes in.
    let all = entries(&admin, Value::Null).await;
    for first in [1, 2, 3, 5, 13, 100] {
        let (mut paged, mut after) = (Vec::new(), Value::Null);
        loop {
            let variables = json!({ "first": first, "after": after });
            let mut page = admin.read(ENTRIES, variables).await["audit"].take();
            let nodes = page["nodes"].as_array_mut().unwrap();
            assert!(nodes.len() <= first);
            paged.append(nodes);
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].take();
            let _ = staff
                .mutation(
                    "receiveStock",
                    json!({ "productId": lamp.id.to_string(), "quantity": 1 }),
                )
                .await
                .done();
        }
        let ids = column(&paged, "id");
        let known = column(&all, "id");
        let since = ids.iter().position(|id| *id == known[0]).unwrap();
        assert_eq!(ids[since..], known, "in pages of {first}");
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_does_is_in_it_and_old_deeds_are_forgotten() {
    let api = ApiShop::start().await;
    let admin = api.admin().await;
    for arguments in [
        &["replay", "--view", "sales"][..],
        &["rotate-signing-key"],
        &["rotate-keys"],
    ] {
        assert_eq!(kontor(HELPER, &api, arguments, &[]).await.code, Some(0));
    }
    let done = entries(&admin, json!({ "actor": "system:operator" })).await;
    assert_eq!(
        column(&done, "kind"),
        ["KeysRotated", "SigningKeyRotated", "ViewsReplayed"]
    );
    assert_eq!(done[2]["detail"], "sales");
    assert_eq!(done[2]["actor"]["kind"], "SYSTEM");
    // They are with that one already.
    let kek = api.store.keyring().kek();
    assert_eq!(done[0]["detail"], format!("0 with {kek}"));

    let now = SystemClock.now();
    let days = chrono::TimeDelta::days;
    assert_eq!(deeds::trim(&api.pool, now - days(1)).await.unwrap(), 0);
    // More than are removed at once.
    for _ in 0..1_500 {
        api.runtime
            .deeds
            .note(Deed::new(deeds::Kind::LoggedIn, Actor::Anonymous, None));
    }
    api.runtime.deeds.flushed().await;
    assert_eq!(deeds::trim(&api.pool, now + days(1)).await.unwrap(), 1_503);
    assert_eq!(
        entries(&admin, json!({ "kind": "LoggedIn" })).await,
        [] as [Value; 0]
    );
    api.finish().await;
}

/// What is noted last is written before a process ends.
#[tokio::test]
async fn a_process_that_ends_writes_its_last_deeds() {
    let shop = Shop::quiet().await;
    let other = shop.branch(kontor_tests::Opening::default().quiet()).await;
    for _ in 0..3_000 {
        other
            .runtime
            .deeds
            .note(Deed::new(deeds::Kind::LoggedIn, Actor::OPERATOR, None));
    }
    other.close().await;
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM deeds")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert_eq!(written, 3_000);
    shop.finish().await;
}

/// While the table is out of reach, nobody waits, and no more is kept than fits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deeds_wait_for_their_table_and_nobody_waits_for_them() {
    let shop = Shop::quiet().await;
    sqlx::query("ALTER TABLE deeds RENAME TO away")
        .execute(&shop.pool)
        .await
        .unwrap();
    let deeds = &shop.runtime.deeds;
    for _ in 0..20_000 {
        deeds.note(Deed::new(deeds::Kind::LoggedIn, Actor::OPERATOR, None));
    }
    let id = shop.customer().await;
    shop.send::<User>(
        id,
        UserCommand::VerifyEmail {
            email: format!("{id}@example.com")
                .parse::<kontor_domain::Email>()
                .unwrap()
                .into(),
        },
    )
    .await;
    sqlx::query("ALTER TABLE away RENAME TO deeds")
        .execute(&shop.pool)
        .await
        .unwrap();
    deeds.flushed().await;
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM deeds")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert!((10_000..20_000).contains(&written), "{written}");
    shop.finish().await;
}
