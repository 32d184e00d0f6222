//! What the operator types, as they type it: answers, exit codes, and the sentence when something is wrong.

use kontor_tests::children::{Helper, Typed, kontor};
use kontor_tests::{Shop, eventually};
use serde_json::Value;
use sqlx::Executor;

use crate::HELPER;

/// A shop that has sold something.
async fn sold() -> Shop {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 2)]).await;
    shop.until_status(order, "CONFIRMED").await;
    shop.caught_up().await;
    shop
}

async fn typed(shop: &Shop, line: &str) -> Typed {
    let arguments: Vec<&str> = line.split(' ').collect();
    kontor(HELPER, shop, &arguments, &[]).await
}

/// What `kontor LINE` answers, if all is well.
async fn answer(shop: &Shop, line: &str) -> String {
    let typed = typed(shop, line).await;
    assert_eq!((typed.code, &*typed.complained), (Some(0), ""), "kontor {line}");
    typed.said
}

/// What `kontor LINE` complains of; exactly one line, and the exit code 1.
async fn complaint(shop: &Shop, line: &str, variables: &[(&str, &str)]) -> String {
    let arguments: Vec<&str> = line.split(' ').collect();
    let typed = kontor(HELPER, shop, &arguments, variables).await;
    assert_eq!(
        (typed.code, &*typed.said),
        (Some(1), ""),
        "kontor {line}: {typed:?}"
    );
    assert_eq!(typed.complained.lines().count(), 1, "{}", typed.complained);
    typed.complained
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_how_far_everybody_has_come() {
    let shop = sold().await;
    let head = kontor_eventstore::read::head(&shop.pool).await.unwrap();
    let said = answer(&shop, "status").await;
    let words: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let head = head.to_string();
    assert!(words.contains(&vec!["log", "head", &head]), "{said}");
    for name in shop.followers() {
        assert!(words.contains(&vec![name, "at", &head, "lag", "0"]), "{said}");
    }
    assert!(words.contains(&vec!["redis", "answers"]), "{said}");
    assert!(words.contains(&vec!["dead", "letters", "0"]), "{said}");
    assert_eq!(answer(&shop, "dead-letters").await, "nothing waits\n");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_options_are_for_every_command_and_wrong_ones_are_refused() {
    let shop = Shop::quiet().await;
    let stripe = [
        ("KONTOR_STRIPE_KEY", "sk_test_x"),
        ("KONTOR_STRIPE_URL", "http://127.0.0.1:9"),
    ];
    let asked = kontor(HELPER, &shop, &["status"], &stripe).await;
    assert_eq!((asked.code, &*asked.complained), (Some(0), ""));
    let said = complaint(&shop, "status", &stripe[1..]).await;
    assert!(said.contains("no key"), "{said}");
    let said = complaint(
        &shop,
        "status",
        &[stripe[0], ("KONTOR_STRIPE_URL", "ftp://127.0.0.1")],
    )
    .await;
    assert!(said.contains("no http or https URL"), "{said}");
    for variable in [
        ("KONTOR_WEBHOOK_SECRETS", "whsec_secret,"),
        ("KONTOR_STRIPE_KEY", ""),
        ("KONTOR_PAY_WITHIN", "-1"),
        ("KONTOR_CAPTURE_AT", "noon"),
    ] {
        let typed = kontor(HELPER, &shop, &["status"], &[variable]).await;
        assert_eq!(typed.code, Some(2), "{variable:?}");
        assert!(!typed.complained.contains("whsec_secret"), "{}", typed.complained);
    }
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_prints_the_log_and_follows_it_and_names_nobody_unasked() {
    let shop = sold().await;
    let head = kontor_eventstore::read::head(&shop.pool).await.unwrap();
    let lines = |said: &str| -> Vec<Value> {
        said.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let said = answer(&shop, "events").await;
    let positions: Vec<u64> = lines(&said)
        .iter()
        .map(|it| it["position"].as_u64().unwrap())
        .collect();
    assert_eq!(positions, (1..=head).collect::<Vec<_>>());
    assert!(!said.contains("@example.com"), "{said}");
    let last = lines(&answer(&shop, &format!("events --after {} --payload", head - 1)).await);
    assert_eq!(last.len(), 1);
    assert_eq!(last[0]["event"], "Confirmed");
    assert!(last[0]["payload"]["Confirmed"].is_object(), "{last:?}");

    let after = head.to_string();
    let mut follower = Helper::kontor(HELPER, &shop, &["events", "--after", &after, "--follow"]);
    shop.product("BELL").stock(1).await;
    let rest = follower.says("{").await;
    let first: Value = serde_json::from_str(&format!("{{{rest}")).unwrap();
    assert_eq!(
        (&first["position"], &first["event"]),
        (&Value::from(head + 1), &Value::from("Created"))
    );
    // Whoever read it goes away: so does the follower, with the next event, and without a word of panic.
    follower.stop_listening();
    shop.product("GONG").stock(1).await;
    let code = eventually("the follower ends", async || follower.has_ended()).await;
    assert_eq!(code.code(), Some(0));
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_answers_by_its_exit_code_and_replay_mends() {
    let shop = sold().await;
    let said = answer(&shop, "verify").await;
    assert_eq!(
        said.lines().filter(|line| line.ends_with(": equal")).count(),
        7,
        "{said}"
    );

    shop.pool
        .execute("UPDATE orders SET total_minor = total_minor + 1")
        .await
        .unwrap();
    let found = typed(&shop, "verify").await;
    assert_eq!(found.code, Some(1));
    assert!(found.said.contains("1 DIFFERENT"), "{}", found.said);
    assert!(found.said.contains("differs in total_minor"), "{}", found.said);

    let replayed = answer(&shop, "replay --view orders").await;
    let head = kontor_eventstore::read::head(&shop.pool).await.unwrap();
    assert!(
        replayed.starts_with(&format!("orders     rebuilt to position {head}\n")),
        "{replayed}"
    );
    assert!(replayed.contains("events/s"), "{replayed}");
    shop.caught_up().await;
    answer(&shop, "verify").await;
    let unknown = complaint(&shop, "replay --view ordres", &[]).await;
    assert!(unknown.contains("there are: all, products, orders"), "{unknown}");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrator_is_made_by_the_operator() {
    let shop = Shop::start().await;
    let customer = shop.customer().await;
    let email = format!("{customer}@example.com").to_uppercase();
    let granted = answer(&shop, &format!("grant-role {email} admin")).await;
    assert_eq!(granted, format!("{customer} has the role ADMIN within seconds\n"));
    let again = answer(&shop, &format!("grant-role {email} admin")).await;
    assert_eq!(again, format!("{customer} has the role ADMIN already\n"));
    let nobody = complaint(&shop, "grant-role nobody@example.com admin", &[]).await;
    assert!(
        nobody.contains("nobody is registered under this e-mail address"),
        "{nobody}"
    );
    let nothing = complaint(&shop, &format!("grant-role {email} king"), &[]).await;
    assert!(nothing.contains("there are: customer, staff, admin"), "{nothing}");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_opens_says_where_and_stops_when_told() {
    let shop = Shop::start().await;
    let mut server = Helper::kontor(HELPER, &shop, &["run", "--listen", "127.0.0.1:0"]);
    let place = server.says("Kontor is open at http://").await;
    let ready = answer(&shop, &format!("health --listen {place}")).await;
    assert!(ready.contains("ready"), "{ready}");

    let busy = complaint(&shop, &format!("run --listen {place}"), &[]).await;
    assert!(
        busy.contains("cannot listen on") && busy.contains("KONTOR_LISTEN"),
        "{busy}"
    );
    assert_eq!(server.end().await.code(), Some(0));
    let gone = complaint(&shop, &format!("health --listen {place}"), &[]).await;
    assert!(gone.contains(&format!("no Kontor answers at {place}")), "{gone}");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_the_servers_is_said_in_a_sentence() {
    let shop = Shop::start().await;
    for (line, variables, said) in [
        (
            "status",
            [("DATABASE_URL", "postgres://a:b@127.0.0.1:1/c")],
            "no Postgres server answers at 127.0.0.1:1 (DATABASE_URL)",
        ),
        (
            "run",
            [("DATABASE_URL", "mysql://localhost/shop")],
            "DATABASE_URL is not",
        ),
        (
            "run",
            [("REDIS_URL", "redis://127.0.0.1:1")],
            "127.0.0.1:1 (REDIS_URL)",
        ),
        ("verify", [("REDIS_URL", "nonsense")], "REDIS_URL is not"),
    ] {
        let complained = complaint(&shop, line, &variables).await;
        assert!(complained.contains(said), "{line} {variables:?}: {complained}");
    }

    shop.pool
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, '', 0)",
        )
        .await
        .unwrap();
    for line in ["status", "run --listen 127.0.0.1:0"] {
        let complained = complaint(&shop, line, &[]).await;
        assert!(
            complained.contains("(version 9999) is newer than this Kontor")
                && complained.contains("run the newer"),
            "{complained}"
        );
    }
    shop.finish().await;
}
