//! Who is asked, unasked, to prove an e-mail address.

use kontor_domain::{Email, PersonName, Personal, User, UserCommand, UserId};
use kontor_eventstore::transaction::begin;
use kontor_eventstore::{Actor, CommandContext, read};
use kontor_tests::children::kontor;
use kontor_tests::smtp::mails_in;
use kontor_tests::{Opening, Shop, eventually};

use crate::HELPER;

fn context(shop: &Shop, id: UserId, step: &str, actor: Actor) -> CommandContext {
    CommandContext::new(format!("{step}/{id}"), actor, shop.runtime.clock.now())
}

fn address(id: UserId, host: &str) -> Email {
    format!("{id}@{host}").parse().unwrap()
}

/// Somebody whose account was opened by this actor, now or long ago.
async fn registered_by(shop: &Shop, actor: Actor, backdated: bool) -> UserId {
    let id = UserId::from_ulid(shop.store.ids().next());
    let register = UserCommand::Register {
        email: address(id, "one.example.com").into(),
        name: "A Person".parse::<PersonName>().unwrap().into(),
        phone: None,
        password_hash: None,
    };
    let mut context = context(shop, id, "register", actor);
    context.backdated = backdated;
    shop.store.create::<User>(id, register, context).await.unwrap();
    id
}

async fn moves(shop: &Shop, id: UserId, email: Email, actor: Actor) {
    let command = UserCommand::ChangeEmail {
        email: email.clone().into(),
    };
    let context = context(shop, id, email.as_str(), actor);
    shop.store.execute::<User>(id, command, context).await.unwrap();
}

async fn wanted(shop: &Shop) -> Vec<String> {
    sqlx::query_scalar("SELECT user_id FROM account_mails WHERE purpose = 'VERIFY_EMAIL' ORDER BY user_id")
        .fetch_all(&shop.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_typed_an_address_and_nobody_else() {
    let shop = Shop::quiet().await;
    let newcomer = registered_by(&shop, Actor::Anonymous, false).await;
    let restless = registered_by(&shop, Actor::Anonymous, false).await;
    moves(
        &shop,
        restless,
        address(restless, "two.example.com"),
        Actor::User(restless),
    )
    .await;
    let sample = registered_by(&shop, Actor::System("seed"), false).await;
    moves(&shop, sample, address(sample, "two.example.com"), Actor::OPERATOR).await;
    registered_by(&shop, Actor::Anonymous, true).await;
    let mover = registered_by(&shop, Actor::System("import"), true).await;
    moves(
        &shop,
        mover,
        address(mover, "two.example.com"),
        Actor::User(mover),
    )
    .await;

    let consumers = shop.runtime.consumers();
    let notifications = consumers.iter().find(|it| it.name() == "notifications").unwrap();
    let events = read::read(&shop.pool, 0, 100).await.unwrap();
    let events: Vec<_> = events.into_iter().map(std::sync::Arc::new).collect();
    assert!(events.iter().all(|event| notifications.concerns(event)));
    let mut tx = begin(&shop.pool).await.unwrap();
    assert_eq!(notifications.handle(&mut tx, &events).await.unwrap(), []);
    // It is wanted when the checkpoint has moved, and not before.
    assert_eq!(wanted(&shop).await, [""; 0]);
    tx.commit().await.unwrap();
    assert_eq!(
        wanted(&shop).await,
        [newcomer, restless, mover].map(|id| id.to_string())
    );
    shop.finish().await;
}

/// The mails that prove an address, when all that are wanted are sent.
async fn sent(shop: &Shop) -> Vec<String> {
    shop.caught_up().await;
    eventually("no mail waits", async || {
        wanted(shop).await.is_empty().then_some(())
    })
    .await;
    let mut mails = mails_in(shop.outbox());
    mails.retain(|mail| mail.contains("Subject: Is this your address?"));
    mails
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_sent_once_whoever_works_and_not_again_when_views_are_replayed() {
    let shop = Shop::quiet().await;
    let newcomer = registered_by(&shop, Actor::Anonymous, false).await;
    // By the time anybody works, one is gone and one is closed: they are not written to.
    let gone = registered_by(&shop, Actor::Anonymous, false).await;
    shop.send::<User>(gone, UserCommand::Erase).await;
    let closed = registered_by(&shop, Actor::Anonymous, false).await;
    let close = UserCommand::Deactivate {
        reason: Personal::new("by mistake".parse().unwrap()),
    };
    shop.send::<User>(closed, close).await;

    let worker = shop.branch(Opening::default()).await;
    let mails = sent(&worker).await;
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert!(mail.contains(address(newcomer, "one.example.com").as_str()));
    worker.close().await;
    let worker = shop.branch(Opening::default()).await;
    assert_eq!(kontor(HELPER, &worker, &["replay"], &[]).await.code, Some(0));
    assert_eq!(sent(&worker).await, mails);

    // Another spelling of what is proved is proved; another address is not.
    let email = address(newcomer, "one.example.com").into();
    worker
        .send::<User>(newcomer, UserCommand::VerifyEmail { email })
        .await;
    let louder = address(newcomer, "ONE.example.com");
    moves(&worker, newcomer, louder, Actor::User(newcomer)).await;
    assert_eq!(sent(&worker).await, mails);
    let other = address(newcomer, "two.example.com");
    moves(&worker, newcomer, other.clone(), Actor::User(newcomer)).await;
    let mails = sent(&worker).await;
    assert_eq!(mails.len(), 2);
    assert!(mails[1].contains(other.as_str()));
    worker.close().await;
    shop.finish().await;
}
