//! Keys: made once, found again by whoever has the key-encryption key, and wrapped anew when that changes.

use kontor_domain::{ClaimKind, PersonName, Personal, User, UserCommand};
use kontor_eventstore::{KeyEncryption, Keyring, KeyringError};
use kontor_tests::children::kontor;
use kontor_tests::{KEK, Opening, Shop};

use super::*;
use crate::HELPER;

async fn name_of(shop: &Shop, id: UserId) -> Option<String> {
    let look = |user: &User, _| {
        user.name()
            .and_then(Personal::reveal)
            .map(|name| name.as_str().to_owned())
    };
    shop.store.inspect::<User, _>(id, look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_wrapped_anew_while_the_shop_is_open() {
    let shop = Shop::start().await;
    let id = shop.customer().await;
    let gone = shop.customer().await;
    shop.send::<User>(gone, UserCommand::Erase).await;
    shop.caught_up().await;
    let new = KeyEncryption::generate().unwrap();
    let rotate = [("KONTOR_KEK", new.as_str()), ("KONTOR_KEK_OLD", KEK)];
    let typed = kontor(HELPER, &shop, &["rotate-keys"], &rotate).await;
    assert_eq!(typed.code, Some(0), "{typed:?}");
    assert!(typed.said.starts_with("2 keys"), "{}", typed.said);
    let typed = kontor(HELPER, &shop, &["rotate-keys"], &rotate).await;
    assert!(typed.said.starts_with("0 keys"), "{}", typed.said);

    // With the new one alone everything is found and read.
    let only_new = KeyEncryption::new(&new, []).unwrap();
    let branch = shop.branch(Opening::default().quiet().keys(only_new)).await;
    assert_eq!(name_of(&branch, id).await.as_deref(), Some("A Customer"));
    assert_eq!(name_of(&branch, gone).await, None);
    let holder = branch
        .store
        .holder(ClaimKind::Email, &format!("{id}@example.com").to_lowercase())
        .await;
    assert_eq!(holder.unwrap(), Some(id.to_string()));
    branch.close().await;
    // With the old one alone nothing is.
    let old = KeyEncryption::new(KEK, []).unwrap();
    let refused = Keyring::open(shop.pool.clone(), old).await.unwrap_err();
    assert!(matches!(refused, KeyringError::UnknownKek { .. }), "{refused}");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_meet_somebody_at_once_agree_on_the_key() {
    let shop = Shop::quiet().await;
    let other = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(5).await;
    for _ in 0..20 {
        // Nobody by this id has registered: both make the key.
        let id = UserId::from_ulid(shop.store.ids().next());
        let items = [(&lamp, 1)];
        let (here, there) = tokio::join!(shop.order(id, &items), other.order(id, &items));
        for order in [here, there] {
            let events = kontor_eventstore::read::read_stream(&shop.pool, "order", &order.to_string())
                .await
                .unwrap();
            let kontor_eventstore::Body::Order(_, kontor_domain::OrderEvent::Placed { shipping_address, .. }) =
                &events[0].body
            else {
                panic!("{:?}", events[0]);
            };
            for reader in [&shop, &other] {
                let address = reader.store.keyring().reveal(shipping_address).await.unwrap();
                assert_eq!(address, kontor_tests::examples::address().into_inner());
            }
        }
    }
    other.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_from_before_is_taken_over_as_it_is() {
    let shop = Shop::quiet().await;
    let id = UserId::from_ulid(shop.store.ids().next());
    for statement in [
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
         VALUES ('user', $1, 1, 'Registered', '1',
                 '{\"Registered\":{\"email\":\"Old@example.com\",\"name\":\"From Before\",\"roles\":[\"CUSTOMER\"]}}', '{}', 1)",
        "INSERT INTO claims VALUES ('email', 'old@example.com', 'user', $1)",
    ] {
        sqlx::query(statement).bind(id.to_string()).execute(&shop.pool).await.unwrap();
    }
    let later = shop.branch(Opening::default().quiet()).await;
    let claims: Vec<String> = sqlx::query_scalar("SELECT value FROM claims")
        .fetch_all(&shop.pool)
        .await
        .unwrap();
    assert!(claims.len() == 1 && !claims[0].contains("example"), "{claims:?}");
    let holder = later
        .store
        .holder(ClaimKind::Email, "old@example.com")
        .await
        .unwrap();
    assert_eq!(holder, Some(id.to_string()));
    assert!(
        later
            .register(UserId::from_ulid(later.store.ids().next()), "OLD@example.com")
            .await
            .is_err()
    );
    assert_eq!(name_of(&later, id).await.as_deref(), Some("From Before"));
    // The same name is no change, and another one is sealed.
    let named = |name: &str| UserCommand::ChangeProfile {
        name: name.parse::<PersonName>().unwrap().into(),
        phone: None,
    };
    assert_eq!(later.send::<User>(id, named("From Before")).await.events, []);
    later.send::<User>(id, named("From Now On")).await;
    let payload: String = sqlx::query_scalar("SELECT payload::text FROM events WHERE sequence = 2")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert!(
        payload.contains("sealed:v1:") && !payload.contains("Now On"),
        "{payload}"
    );
    later.close().await;
    shop.finish().await;
}
