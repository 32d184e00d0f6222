//! Two workers at once, and leases that are stolen: whoever has lost theirs writes nothing and asks nobody.

use std::time::{Duration, Instant};

use kontor_domain::OrderStatus;
use kontor_tests::{Opening, Shop, eventually};
use sqlx::Connection;

const STEAL: &str = "UPDATE leases SET owner = 'thief', epoch = epoch + 1, expires_at = 'infinity' WHERE consumer = 'cashier'";

/// The cashier has found what is due and is about to write down that it asks; by then somebody else has the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cashier_whose_lease_was_stolen_asks_the_gateway_nothing() {
    let shop = Shop::quiet().await;
    let robbed = shop.branch(Opening::default()).await;
    let lamp = shop.product("LAMP").price(10_00).stock(5).await;
    let customer = shop.customer().await;
    robbed.bank().set_down(true);
    let order = shop.paid_order(customer, &[(&lamp, 1)], "tok_approved").await;
    let attempts = async || -> Option<i32> {
        sqlx::query_scalar(
            "SELECT attempts FROM pending_orders WHERE last_error IS NOT NULL AND due_at > clock_timestamp()",
        )
        .fetch_optional(&shop.pool)
        .await
        .unwrap()
    };
    let before = eventually("the order waits for a gateway that is down", attempts).await;

    // It reads while we hold this, and cannot take a row.
    let mut hold = sqlx::PgConnection::connect(shop.database_url()).await.unwrap();
    let mut tx = hold.begin().await.unwrap();
    sqlx::query("LOCK TABLE pending_orders IN EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await
        .unwrap();
    robbed.bank().set_down(false);
    eventually("it is about to claim the order", async || {
        let waits: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND query LIKE '%pending_orders%FOR UPDATE%'",
        )
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        (waits > 0).then_some(())
    })
    .await;
    sqlx::query(STEAL).execute(&shop.pool).await.unwrap();
    tx.commit().await.unwrap();

    // Twice its rounds, and it would have asked long ago: the row is due all the time.
    let due = async || -> bool {
        sqlx::query_scalar("SELECT due_at < clock_timestamp() - interval '1 second' FROM pending_orders")
            .fetch_one(&shop.pool)
            .await
            .unwrap()
    };
    eventually("the order is due for a second", async || {
        due().await.then_some(())
    })
    .await;
    let (now, error): (i32, Option<String>) =
        sqlx::query_as("SELECT attempts, last_error FROM pending_orders")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(now, before, "it claimed nothing");
    assert!(error.is_some(), "it wrote nothing down");
    assert_eq!(shop.ledger_of(order).await, [], "it asked for nothing");

    sqlx::query("UPDATE leases SET expires_at = '-infinity' WHERE consumer = 'cashier'")
        .execute(&shop.pool)
        .await
        .unwrap();
    robbed.until_it_is(order, OrderStatus::Confirmed).await;
    robbed.nothing_waits().await;
    assert_eq!(shop.ledger_of(order).await, [("AUTHORISE".to_owned(), 10_00)]);
    robbed.audit().await.assert_faultless();
    robbed.close().await;
    shop.finish().await;
}

/// The leases of the process manager and the cashier change hands again and again while both work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_that_rob_each_other_of_their_leases_do_everything_once() {
    let shop = Shop::quiet().await;
    let (one, other) = (
        shop.branch(Opening::default()).await,
        shop.branch(Opening::default()).await,
    );
    let lamp = shop.product("LAMP").price(10_00).stock(2_000).await;
    let customer = shop.customer().await;
    let robbing = async {
        let mut thefts = 0;
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            // Free for whoever asks first, and lost to whoever has it.
            let stolen = sqlx::query(
                "UPDATE leases SET owner = 'thief', epoch = epoch + 1, expires_at = '-infinity'
                 WHERE consumer IN ('cashier', 'order_process') AND owner <> 'thief'",
            )
            .execute(&shop.pool)
            .await
            .unwrap();
            thefts += stolen.rows_affected();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        thefts
    };
    let buying = async {
        let tokens = ["tok_approved", "tok_fails_1", "tok_declined", "tok_approved"];
        for n in 0..240 {
            let order = shop.paid_order(customer, &[(&lamp, 1)], tokens[n % 4]).await;
            let ready = shop
                .store
                .look(order, 0, |order: &kontor_domain::Order, _| order.status())
                .await;
            if n % 3 == 0 && ready.unwrap() == Some(OrderStatus::Confirmed) {
                shop.ship(order).await;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let (thefts, ()) = tokio::join!(robbing, buying);
    println!("{thefts} leases were stolen");
    assert!(thefts > 6, "only {thefts} leases were stolen");
    one.nothing_waits().await;
    shop.books_balance().await;
    shop.everybody_told().await;
    one.audit().await.assert_faultless();
    one.close().await;
    other.close().await;
    shop.finish().await;
}
