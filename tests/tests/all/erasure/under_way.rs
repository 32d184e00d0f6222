//! Somebody is erased while orders of theirs are under way.

use kontor_domain::{OrderEvent, OrderStatus, Personal, RejectionCause, Sealed, User, UserCommand};
use kontor_eventstore::Body;
use kontor_eventstore::read::read_stream;
use kontor_tests::{Opening, Shop};

/// What they meant to pay by is gone, so an order that is not paid yet ends. One that is paid goes its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_under_way_end_and_stock_and_money_are_exact() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").price(10_00).stock(10).await;
    let (person, other) = (shop.customer().await, shop.customer().await);
    let worker = shop.branch(Opening::default()).await;
    let paid = shop.paid_order(person, &[(&lamp, 2)], "tok_approved").await;
    worker.until_it_is(paid, OrderStatus::Confirmed).await;
    worker.nothing_waits().await;
    worker.close().await;

    let unpaid = shop.paid_order(person, &[(&lamp, 3)], "tok_approved").await;
    let others = shop.paid_order(other, &[(&lamp, 1)], "tok_approved").await;
    shop.send::<User>(person, UserCommand::Erase).await;
    let worker = shop.branch(Opening::default()).await;
    worker.until_it_is(unpaid, OrderStatus::Rejected).await;
    worker.until_it_is(others, OrderStatus::Confirmed).await;
    worker.ship(paid).await;
    worker.nothing_waits().await;

    let events = read_stream(&shop.pool, "order", &unpaid.to_string())
        .await
        .unwrap();
    let cause = events.into_iter().find_map(|event| match event.body {
        Body::Order(_, OrderEvent::Rejected { cause, .. }) => Some(cause),
        _ => None,
    });
    // Why, in whatever words, is about them: nothing of it is kept.
    let nothing = Personal::of_sealed(Sealed::nothing(person));
    assert_eq!(cause, Some(RejectionCause::GivenUp(nothing)));
    let entries = |all: &[(&str, i64)]| -> Vec<_> {
        all.iter()
            .map(|(kind, pence)| ((*kind).to_owned(), *pence))
            .collect()
    };
    assert_eq!(worker.ledger_of(unpaid).await, entries(&[]));
    assert_eq!(
        worker.ledger_of(paid).await,
        entries(&[("AUTHORISE", 20_00), ("CAPTURE", 20_00)])
    );
    // Two have left, one is reserved for somebody else.
    assert_eq!(worker.stock(lamp.id).await, (8, 1));
    worker.books_balance().await;
    worker.views_are_true().await;
    worker.close().await;
    shop.finish().await;
}
