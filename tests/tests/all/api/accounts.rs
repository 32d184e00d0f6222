//! Who somebody is, and what they may do.

use kontor_tests::api::{ApiShop, Client};
use kontor_tests::eventually;
use serde_json::{Value, json};

const PASSWORD: &str = "gravel orchid tundra 42";

fn registering(email: &str) -> Value {
    json!({ "email": email, "name": "Some Body", "phone": "+49 40 1234", "password": PASSWORD })
}

async fn register(api: &ApiShop, email: &str) -> Client {
    let _ = api
        .visitor()
        .mutation("registerUser", registering(email))
        .await
        .done();
    api.log_in(email, PASSWORD).await.unwrap()
}

async fn me(client: &Client) -> Value {
    client
        .read("{ me { id email name phone roles active version } }", json!({}))
        .await["me"]
        .take()
}

fn codes(refusal: &Value) -> Vec<&str> {
    refusal["userErrors"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["code"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_registers_and_logs_in_and_a_wrong_guess_tells_nothing() {
    let api = ApiShop::start().await;
    let returning = "user { id email name phone roles active version }";
    let registered = api
        .visitor()
        .mutation("registerUser", registering("Some@Example.com"))
        .returning(returning)
        .await
        .done();
    // Right behind it, whatever the views have heard of it.
    let somebody = api.log_in("some@example.COM", PASSWORD).await.unwrap();
    let expected = json!({ "id": somebody.id(), "email": "Some@Example.com", "name": "Some Body", "phone": "+49 40 1234",
        "roles": ["CUSTOMER"], "active": true, "version": 1 });
    assert_eq!(registered["user"], expected);
    api.caught_up().await;
    assert_eq!(me(&somebody).await, expected);
    assert_eq!(
        api.visitor().read("{ me { id } }", json!({})).await,
        json!({ "me": null })
    );

    let wrong = api
        .log_in("some@example.com", "gravel orchid tundra 43")
        .await
        .unwrap_err();
    assert_eq!(codes(&wrong), ["INVALID_CREDENTIALS"]);
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("no address", PASSWORD),
        ("some@example.com", ""),
        ("", ""),
    ] {
        assert_eq!(api.log_in(email, password).await.unwrap_err(), wrong, "{email:?}");
    }
    for weak in ["Passw0rd!", "somebody99", "other.person"] {
        let mut input = registering("other.person@example.com");
        input["password"] = weak.into();
        let refusal = api.visitor().mutation("registerUser", input).await.refusal();
        assert_eq!(
            (&refusal["code"], &refusal["path"]),
            (&json!("WEAK_PASSWORD"), &json!(["input", "password"])),
            "{weak}"
        );
    }
    let refusal = api
        .visitor()
        .mutation("registerUser", registering("SOME@example.com"))
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["path"]),
        (&json!("EMAIL_TAKEN"), &json!(["input", "email"]))
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_register_one_address_at_once_one_does() {
    let api = ApiShop::start().await;
    let branch = api.branch().await;
    let desks = [api.visitor(), branch.visitor()];
    let attempts = (0..6).map(|n| {
        let email = if n % 2 == 0 {
            "one@example.com"
        } else {
            "ONE@example.com"
        };
        desks[n % 2].mutation("registerUser", registering(email)).answer()
    });
    let answers: Vec<Value> = futures::future::join_all(attempts)
        .await
        .into_iter()
        .map(|it| it.data()["registerUser"].take())
        .collect();
    let taken = answers.iter().filter(|it| codes(it) == ["EMAIL_TAKEN"]).count();
    let done = answers.iter().filter(|it| it["id"].is_string()).count();
    assert_eq!((done, taken), (1, 5), "{answers:?}");
    branch.close().await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_changes_its_profile_its_address_and_its_password() {
    let api = ApiShop::start().await;
    let somebody = register(&api, "some@example.com").await;
    let _ = register(&api, "other@example.com").await;
    let change = json!({ "name": "Another Name", "expectedVersion": 1 });
    let payload = somebody
        .mutation("changeProfile", change.clone())
        .returning("user { name phone version }")
        .await
        .done();
    assert_eq!(
        payload["user"],
        json!({ "name": "Another Name", "phone": null, "version": 2 })
    );
    let telling = "... on VersionConflict { currentVersion }";
    let refusal = somebody
        .mutation("changeProfile", change)
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["currentVersion"]),
        (&json!("VERSION_CONFLICT"), &json!(2))
    );

    let channels = "user { channels { email sms } }";
    let before = somebody
        .read("{ me { channels { email sms } } }", json!({}))
        .await;
    assert_eq!(before["me"]["channels"], json!({ "email": true, "sms": false }));
    for chosen in [
        json!({ "email": false, "sms": true }),
        json!({ "email": true, "sms": true }),
    ] {
        let payload = somebody
            .mutation("chooseNotificationChannels", chosen.clone())
            .returning(channels)
            .await
            .done();
        assert_eq!(payload["user"]["channels"], chosen);
    }

    let taken = somebody
        .mutation("changeEmail", json!({ "email": "Other@example.com" }))
        .await
        .refusal();
    assert_eq!(taken["code"], "EMAIL_TAKEN");
    let _ = somebody
        .mutation("changeEmail", json!({ "email": "new@example.com" }))
        .await
        .done();
    assert_eq!(
        codes(&api.log_in("some@example.com", PASSWORD).await.unwrap_err()),
        ["INVALID_CREDENTIALS"]
    );
    let again = api.log_in("new@example.com", PASSWORD).await.unwrap();
    assert_eq!(again.id(), somebody.id());
    // The old address is free.
    assert_ne!(register(&api, "some@example.com").await.id(), somebody.id());

    let wrong = json!({ "currentPassword": "guessed it", "newPassword": "plinth saffron oboe 77" });
    assert_eq!(
        somebody.mutation("changePassword", wrong).await.refusal()["code"],
        "INVALID_CREDENTIALS"
    );
    let short = json!({ "currentPassword": PASSWORD, "newPassword": "short" });
    let refusal = somebody
        .mutation("changePassword", short)
        .telling("... on InvalidInput { problem minimum }")
        .await
        .refusal();
    assert_eq!(
        (&refusal["problem"], &refusal["minimum"]),
        (&json!("TOO_SHORT"), &json!(8))
    );
    let weak = json!({ "currentPassword": PASSWORD, "newPassword": "someone2024" });
    let refusal = somebody
        .mutation("changePassword", weak)
        .telling("... on WeakPassword { score minimum suggestions }")
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["minimum"]),
        (&json!("WEAK_PASSWORD"), &json!(3))
    );
    assert_ne!(refusal["suggestions"], json!([]));
    let right = json!({ "currentPassword": PASSWORD, "newPassword": "plinth saffron oboe 77" });
    let _ = somebody.mutation("changePassword", right).await.done();
    let changed = somebody;
    let somebody = api
        .log_in("new@example.com", "plinth saffron oboe 77")
        .await
        .unwrap();
    assert_eq!(changed.id(), somebody.id());
    assert_eq!(
        codes(&api.log_in("new@example.com", PASSWORD).await.unwrap_err()),
        ["INVALID_CREDENTIALS"]
    );
    assert_eq!(
        api.log_in("new@example.com", "plinth saffron oboe 77")
            .await
            .unwrap()
            .id(),
        somebody.id()
    );
    for (name, input) in [
        ("changeProfile", json!({ "name": "X" })),
        ("changeEmail", json!({ "email": "x@example.com" })),
        (
            "chooseNotificationChannels",
            json!({ "email": true, "sms": true }),
        ),
        (
            "changePassword",
            json!({ "currentPassword": PASSWORD, "newPassword": PASSWORD }),
        ),
    ] {
        assert_eq!(
            api.visitor().mutation(name, input).answer().await.code(),
            "UNAUTHENTICATED",
            "{name}"
        );
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_admin_gives_and_takes_roles_and_closes_accounts() {
    let api = ApiShop::start().await;
    let (admin, staff, shopper) = (api.admin().await, api.staff().await, api.shopper().await);
    let somebody = register(&api, "some@example.com").await;
    let grant = json!({ "userId": somebody.id(), "role": "STAFF" });
    let close = json!({ "userId": somebody.id(), "reason": "fraud" });
    let open = json!({ "userId": somebody.id() });
    for (name, input) in [
        ("grantRole", &grant),
        ("revokeRole", &grant),
        ("deactivateUser", &close),
        ("reactivateUser", &open),
    ] {
        for (client, code) in [
            (&staff, "FORBIDDEN"),
            (&shopper, "FORBIDDEN"),
            (&somebody, "FORBIDDEN"),
            (&api.visitor(), "UNAUTHENTICATED"),
        ] {
            assert_eq!(
                client.mutation(name, input.clone()).answer().await.code(),
                code,
                "{name}"
            );
        }
    }
    let roles = "user { roles active }";
    let granted = admin
        .mutation("grantRole", grant.clone())
        .returning(roles)
        .await
        .done();
    assert_eq!(granted["user"]["roles"], json!(["CUSTOMER", "STAFF"]));
    // A token from before says too little, and is good no more.
    let orders = "{ orders { nodes { id } } }";
    eventually("the token ends", async || {
        (somebody.ask(orders, json!({})).await.code() == "UNAUTHENTICATED").then_some(())
    })
    .await;
    let promoted = api.log_in("some@example.com", PASSWORD).await.unwrap();
    assert_eq!(
        promoted.read(orders, json!({})).await["orders"]["nodes"],
        json!([])
    );
    let revoked = admin.mutation("revokeRole", grant).returning(roles).await.done();
    assert_eq!(revoked["user"]["roles"], json!(["CUSTOMER"]));
    let demoted = api.log_in("some@example.com", PASSWORD).await.unwrap();
    assert_eq!(demoted.ask(orders, json!({})).await.code(), "FORBIDDEN");
    let stays = json!({ "userId": somebody.id(), "role": "CUSTOMER" });
    assert_eq!(
        admin.mutation("revokeRole", stays).await.refusal()["code"],
        "CUSTOMER_ROLE_STAYS"
    );

    let closed = admin
        .mutation("deactivateUser", close)
        .returning(roles)
        .await
        .done();
    assert_eq!(closed["user"]["active"], false);
    assert_eq!(
        codes(&api.log_in("some@example.com", PASSWORD).await.unwrap_err()),
        ["ACCOUNT_DEACTIVATED"]
    );
    // Who does not know the password does not hear of it.
    assert_eq!(
        codes(&api.log_in("some@example.com", "guessed it").await.unwrap_err()),
        ["INVALID_CREDENTIALS"]
    );
    eventually("the token ends", async || {
        let change = demoted
            .mutation("changeProfile", json!({ "name": "X" }))
            .answer()
            .await;
        (change.status == 401).then_some(())
    })
    .await;
    let opened = admin
        .mutation("reactivateUser", open)
        .returning(roles)
        .await
        .done();
    assert_eq!(opened["user"]["active"], true);
    assert!(api.log_in("some@example.com", PASSWORD).await.is_ok());
    let nobody = json!({ "userId": "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV", "reason": "who?" });
    assert_eq!(
        admin.mutation("deactivateUser", nobody).await.refusal()["code"],
        "USER_NOT_FOUND"
    );
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_none_is_401_whatever_was_asked() {
    let api = ApiShop::start().await;
    let id = api.customer().await;
    let forged = api.visitor().with_token(id, "eyJhbGciOiJub25lIn0.e30.");
    let answer = forged.ask("{ products { nodes { id } } }", json!({})).await;
    assert_eq!((answer.status, answer.code()), (401, "UNAUTHENTICATED"));
    // Another shop's tokens are nothing here.
    let elsewhere = ApiShop::start().await;
    let theirs = api
        .visitor()
        .with_token(id, &elsewhere.token(id, &[kontor_domain::Role::Admin]));
    assert_eq!(theirs.ask("{ me { id } }", json!({})).await.status, 401);
    elsewhere.finish().await;
    api.finish().await;
}
