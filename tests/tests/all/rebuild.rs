//! Replaying the log into a view while the shop goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kontor_domain::{Product, ProductCommand};
use kontor_eventstore::Recorded;
use kontor_eventstore::read::read;
use kontor_projections::fill::{FillError, Scratch};
use kontor_projections::orders::{self, OrderFilter, OrderRow};
use kontor_projections::rebuild::rebuild;
use kontor_projections::{products, views};
use kontor_tests::Shop;
use kontor_tests::examples::pieces;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_no_missing_and_no_older_row_while_views_are_rebuilt_and_orders_come_in() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(1_000_000).await;
    let (early, late) = (shop.customer().await, shop.customer().await);
    let known: Vec<String> = shop
        .rush(early, &[(&lamp, 1)], 100)
        .await
        .iter()
        .map(ToString::to_string)
        .collect();
    shop.caught_up().await;

    let stop = CancellationToken::new();
    let written = AtomicU64::new(0);
    let looks = AtomicU64::new(0);
    let writer = async {
        let mut earlier = known.iter().map(|id| id.parse().unwrap());
        while !stop.is_cancelled() {
            shop.order(late, &[(&lamp, 1)]).await;
            // Rows that are being watched change as well.
            if let Some(id) = earlier.next() {
                shop.ship(id).await;
            }
            written.fetch_add(1, Ordering::Relaxed);
        }
    };
    let by_ids = async {
        let mut newest = HashMap::new();
        while !stop.is_cancelled() {
            whole(
                &mut newest,
                &known,
                orders::by_ids(&shop.pool, &known).await.unwrap(),
            );
            looks.fetch_add(1, Ordering::Relaxed);
        }
    };
    let by_list = async {
        let mut newest = HashMap::new();
        let filter = OrderFilter {
            customer_id: Some(early),
            status: None,
        };
        while !stop.is_cancelled() {
            whole(
                &mut newest,
                &known,
                orders::list(&shop.pool, &filter, None, 1_000).await.unwrap(),
            );
            let product = products::by_ids(&shop.pool, &[lamp.id.to_string()])
                .await
                .unwrap();
            assert_eq!(product.len(), 1);
            looks.fetch_add(1, Ordering::Relaxed);
        }
    };
    let rebuilds = async {
        let mut positions = Vec::new();
        for _ in 0..4 {
            let done = rebuild(&shop.pool, &views(), |done, of| assert!(done <= of))
                .await
                .unwrap();
            assert_eq!(done.iter().map(|it| it.parked).sum::<usize>(), 0);
            positions.push(done[0].position);
        }
        stop.cancel();
        assert!(positions.is_sorted());
        assert!(
            positions.first() < positions.last(),
            "nothing was written meanwhile"
        );
    };
    tokio::join!(writer, by_ids, by_list, rebuilds);
    assert!(looks.load(Ordering::Relaxed) > 20, "hardly anybody looked");
    assert!(
        written.load(Ordering::Relaxed) > 20,
        "hardly anything was written"
    );
    shop.caught_up().await;
    shop.books_balance().await;
    // `finish` compares every view with the log.
    shop.finish().await;
}

/// All rows that are known are there and no others, each whole, and none older than it was seen before.
fn whole(newest: &mut HashMap<String, i64>, known: &[String], rows: Vec<OrderRow>) {
    assert_eq!(rows.len(), known.len(), "rows are missing");
    for row in rows {
        assert_eq!(
            row.timeline.len(),
            usize::try_from(row.version).unwrap(),
            "{} is partial",
            row.id
        );
        let seen = newest.entry(row.id.clone()).or_default();
        assert!(
            row.position >= *seen,
            "{} went back from {seen} to {}",
            row.id,
            row.position
        );
        *seen = row.position;
        assert!(known.contains(&row.id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_view_is_the_old_one_with_its_indexes_and_can_be_rebuilt_again() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    shop.order(customer, &[(&lamp, 2)]).await;
    shop.caught_up().await;
    let layout = async || -> Vec<(String, String)> {
        sqlx::query_as(
            "SELECT tablename::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
               AND tablename IN ('products', 'orders', 'users', 'sales')
             UNION ALL
             SELECT table_name::text, column_name || ' ' || data_type || ' ' || is_nullable FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name IN ('products', 'orders', 'users', 'sales')
             ORDER BY 1, 2",
        )
        .fetch_all(&shop.pool)
        .await
        .unwrap()
    };
    let before = layout().await;
    for _ in 0..2 {
        rebuild(&shop.pool, &views(), |_, _| {}).await.unwrap();
        assert_eq!(layout().await, before);
    }
    let schemas: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname IN ('rebuild', 'verify')")
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(schemas, 0, "nothing is left lying about");
    shop.finish().await;
}

/// Rows that no event accounts for, and rows that are wrong, are gone after a rebuild.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_mends_a_view() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 2)]).await;
    shop.caught_up().await;
    shop.pool.execute("UPDATE products SET on_hand = 99; DELETE FROM orders; UPDATE users SET name = 'X'; TRUNCATE sales").await.unwrap();
    // Also with a worker that goes on from where it was.
    shop.send::<Product>(
        lamp.id,
        ProductCommand::ReceiveStock {
            quantity: pieces(1),
            reference: None,
        },
    )
    .await;
    rebuild(&shop.pool, &views(), |_, _| {}).await.unwrap();
    shop.caught_up().await;
    assert_eq!(shop.product_row(lamp.id).await.on_hand, 6);
    assert_eq!(shop.order_row(order).await.status, "CONFIRMED");
    shop.finish().await;
}

/// With a reader's transaction open on the old table the swap has to wait; it is tried again until it gets its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_running_reader_holds_up_the_swap_but_not_the_shop() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    let customer = shop.customer().await;
    shop.order(customer, &[(&lamp, 1)]).await;
    shop.caught_up().await;
    let mut reader = PgConnection::connect(shop.database_url()).await.unwrap();
    reader
        .execute("BEGIN; SELECT count(*) FROM orders")
        .await
        .unwrap();
    let rebuilding = async {
        rebuild(&shop.pool, &views(), |_, _| {}).await.unwrap();
    };
    let reading = async {
        kontor_tests::eventually("the swap waits for the reader", async || {
            let waits: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'public.orders'::regclass)",
            )
            .fetch_one(&shop.pool)
            .await
            .unwrap();
            waits.then_some(())
        })
        .await;
        reader.execute("COMMIT").await.unwrap();
        let order = shop.order(customer, &[(&lamp, 1)]).await;
        shop.until_status(order, "CONFIRMED").await;
    };
    tokio::join!(rebuilding, reading);
    shop.finish().await;
}

#[tokio::test]
async fn two_rebuilds_at_once_are_one_too_many() {
    let shop = Shop::start().await;
    shop.product("LAMP").await;
    shop.caught_up().await;
    let scratch = Scratch::take(&shop.pool, "rebuild").await.unwrap();
    let refused = rebuild(&shop.pool, &views(), |_, _| {}).await.unwrap_err();
    assert!(matches!(refused, FillError::Busy), "{refused}");
    scratch.leave().await.unwrap();
    rebuild(&shop.pool, &views(), |_, _| {}).await.unwrap();
    shop.finish().await;
}

/// However few rows are held in memory while a view is made, and however few events come at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_let_go_and_change_again_are_as_if_they_had_been_held() {
    let shop = Shop::start().await;
    let customer = shop.customer().await;
    for sku in ["LAMP", "SHADE", "BULB"] {
        let item = shop.product(sku).stock(30).await;
        // Fifteen get theirs.
        let orders = shop.rush(customer, &[(&item, 2)], 20).await;
        shop.caught_up().await;
        for order in orders {
            if shop.order_row(order).await.status == "CONFIRMED" {
                shop.ship(order).await;
            }
        }
    }
    shop.caught_up().await;
    let events: Vec<Arc<Recorded>> = read(&shop.pool, 0, 100_000)
        .await
        .unwrap()
        .into_iter()
        .map(Arc::new)
        .collect();
    for (most, at_once) in [(0, 1), (1, 7), (3, 20), (10, 50), (1_000, 100)] {
        let mut connection = shop.pool.connect_options().connect().await.unwrap();
        connection
            .execute("DROP SCHEMA IF EXISTS held CASCADE; CREATE SCHEMA held; SET search_path = held, public")
            .await
            .unwrap();
        for view in views() {
            let name = view.name();
            let table = format!("CREATE TABLE held.{name} (LIKE public.{name} INCLUDING ALL)");
            connection.execute(table.as_str()).await.unwrap();
            let mut rows = view.rows(most);
            for batch in events.chunks(at_once) {
                assert!(rows.fold(&mut connection, batch).await.unwrap().is_empty());
            }
            rows.write(&mut connection).await.unwrap();
            let compared = format!(
                "SELECT count(live), count(*) FILTER (WHERE live IS DISTINCT FROM made)
                 FROM (SELECT t::text AS live FROM public.{name} t) l
                      FULL JOIN (SELECT t::text AS made FROM held.{name} t) m ON live = made"
            );
            let (live, different): (i64, i64) = sqlx::query_as(&compared)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert!(live > 0);
            assert_eq!(different, 0, "{name}, {most} held, {at_once} at once");
        }
        connection.close().await.unwrap();
    }
    shop.finish().await;
}
