//! Following rows as they change: whoever comes back with the last cursor gets everything it missed, once, in order.

use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use kontor_domain::{Order, OrderCommand, OrderId, Product, ProductCommand, UserId};
use kontor_projections::orders::{OrderRow, Orders};
use kontor_projections::products::Products;
use kontor_projections::updates::{Followed, Topic, Update, Updates, UpdatesError};
use kontor_tests::examples::{gbp, pieces, reason};
use kontor_tests::{Opening, PATIENCE, Shop};
use tokio::sync::watch;

type Stream<R> = BoxStream<'static, Result<Update<R>, UpdatesError>>;

fn updates<V: Followed>(shop: &Shop) -> Updates<V> {
    Updates::spawn(
        shop.store.clone(),
        shop.runtime.progress.clone(),
        shop.runtime.stop.clone(),
    )
}

async fn next<R>(stream: &mut Stream<R>) -> Update<R> {
    let Ok(update) = tokio::time::timeout(PATIENCE, stream.next()).await else {
        panic!("the next update never comes");
    };
    update.expect("the stream goes on").unwrap()
}

/// Has a stream join: it does so when it is first asked, and has nothing to say yet.
fn joined<R>(mut stream: Stream<R>) -> Stream<R> {
    assert!(
        stream.next().now_or_never().is_none(),
        "it has something to say already"
    );
    stream
}

/// The positions of the events of a topic, by the log and nothing else.
async fn expected(shop: &Shop, aggregate: &str, condition: &str) -> Vec<u64> {
    let sql = format!(
        "SELECT position FROM events e WHERE aggregate_type = '{aggregate}' AND ({condition}) ORDER BY 1"
    );
    let positions: Vec<i64> = sqlx::query_scalar(&sql).fetch_all(&shop.pool).await.unwrap();
    positions.into_iter().map(i64::cast_unsigned).collect()
}

fn of_customer(customer: UserId) -> String {
    format!(
        "EXISTS (SELECT FROM events p WHERE p.aggregate_type = 'order' AND p.aggregate_id = e.aggregate_id
                 AND p.payload->'Placed'->>'customer_id' = '{customer}')"
    )
}

/// Follows a topic, but leaves after a few updates and comes back elsewhere with its cursor, until `until` says where the
/// end is. Checks each update on the way.
async fn come_and_go<V>(
    shop: &Shop,
    desks: [Updates<V>; 2],
    topic: Topic,
    until: watch::Receiver<Option<u64>>,
    stride: usize,
) -> Vec<u64>
where
    V: Followed<Row: HasVersion>,
{
    let mut seen: Vec<u64> = Vec::new();
    for visit in 0.. {
        let mut stream = desks[visit % 2].follow(topic.clone(), Some(seen.last().copied().unwrap_or(0)));
        for _ in 0..=(visit * stride) % 7 {
            let mut until = until.clone();
            let update = tokio::select! {
                update = next(&mut stream) => update,
                // It has seen the last there is.
                _ = until.wait_for(|end| end.is_some_and(|end| seen.last().copied().unwrap_or(0) >= end)) => return seen,
            };
            assert_eq!(
                V::position(&update.row),
                update.position,
                "the row is as it was behind that event"
            );
            let mut connection = shop.pool.acquire().await.unwrap();
            let now = V::load(&mut connection, &[V::id(&update.row)]).await.unwrap();
            assert!(
                V::position(&now[0]) >= update.position,
                "pushed before the view had it"
            );
            assert!(now[0].version() >= update.row.version());
            seen.push(update.position);
        }
    }
    seen
}

trait HasVersion {
    fn version(&self) -> i64;
}

impl HasVersion for OrderRow {
    fn version(&self) -> i64 {
        self.version
    }
}

impl HasVersion for kontor_projections::products::ProductRow {
    fn version(&self) -> i64 {
        self.version
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_cut_off_again_and_again_misses_nothing_and_sees_nothing_twice() {
    let shop = Shop::start().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let orders = [updates::<Orders>(&shop), updates::<Orders>(&elsewhere)];
    let products = [updates::<Products>(&shop), updates::<Products>(&elsewhere)];
    let (lamp, bell) = (
        shop.product("LAMP").stock(60).await,
        shop.product("BELL").stock(10_000).await,
    );
    let customers = [shop.customer().await, shop.customer().await];
    let watched = shop.order(customers[0], &[(&lamp, 1)]).await;
    let (end, until) = watch::channel(None);

    let writer = async {
        shop.until_status(watched, "CONFIRMED").await;
        for n in 0..120_usize {
            let id = shop.order(customers[n % 2], &[(&bell, 1), (&lamp, 1)]).await;
            match n % 4 {
                0 => drop(
                    shop.try_send::<Order>(id, OrderCommand::Cancel { reason: reason("no") })
                        .await,
                ),
                1 => drop(
                    shop.try_send::<Product>(
                        lamp.id,
                        ProductCommand::ChangePrice {
                            price: gbp(i64::try_from(n).unwrap()),
                        },
                    )
                    .await,
                ),
                2 if n == 50 => drop(shop.ship(watched).await),
                2 if n == 90 => drop(shop.send::<Order>(watched, OrderCommand::Deliver).await),
                _ => {}
            }
        }
        shop.caught_up().await;
        end.send(Some(0)).unwrap();
    };
    // Each ends when it has seen the last position of its own topic.
    let follow_orders = async |topic: Topic, condition: String, stride| {
        let (own_end, own_until) = watch::channel(None);
        let told = async {
            until.clone().wait_for(Option::is_some).await.unwrap();
            let all = expected(&shop, "order", &condition).await;
            own_end.send(all.last().copied()).unwrap();
            all
        };
        let (all, seen) = tokio::join!(
            told,
            come_and_go(&shop, orders.clone(), topic.clone(), own_until, stride)
        );
        assert!(all.len() >= 4, "{topic:?} has little to say");
        assert_eq!(seen, all, "{topic:?}");
    };
    let follow_products = async |topic: Topic, condition: String, stride| {
        let (own_end, own_until) = watch::channel(None);
        let told = async {
            until.clone().wait_for(Option::is_some).await.unwrap();
            let all = expected(&shop, "product", &condition).await;
            own_end.send(all.last().copied()).unwrap();
            all
        };
        let (all, seen) = tokio::join!(
            told,
            come_and_go(&shop, products.clone(), topic.clone(), own_until, stride)
        );
        assert_eq!(seen, all, "{topic:?}");
    };
    let always = || "true".to_owned();
    tokio::join!(
        writer,
        follow_orders(Topic::All, always(), 3),
        follow_orders(Topic::All, always(), 5),
        follow_orders(Topic::Customer(customers[0]), of_customer(customers[0]), 2),
        follow_orders(Topic::Customer(customers[1]), of_customer(customers[1]), 1),
        follow_orders(
            Topic::One(watched.to_string()),
            format!("aggregate_id = '{watched}'"),
            1
        ),
        follow_products(Topic::All, always(), 4),
        follow_products(
            Topic::One(lamp.id.to_string()),
            format!("aggregate_id = '{}'", lamp.id),
            3
        ),
    );
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_slow_misses_nothing() {
    let shop = Shop::start().await;
    let orders = updates::<Orders>(&shop);
    let lamp = shop.product("LAMP").stock(1_000).await;
    let customer = shop.customer().await;
    shop.caught_up().await;
    let topics = [
        (Topic::All, "true".to_owned()),
        (Topic::Customer(customer), of_customer(customer)),
    ];
    let mut streams: Vec<_> = topics
        .iter()
        .map(|(topic, _)| joined(orders.follow(topic.clone(), None)))
        .collect();
    // Far more than is kept for one who does not listen.
    shop.rush(customer, &[(&lamp, 1)], 150).await;
    shop.caught_up().await;
    for (stream, (topic, condition)) in streams.iter_mut().zip(&topics) {
        let all = expected(&shop, "order", condition).await;
        assert_eq!(all.len(), 300);
        let mut seen = Vec::new();
        while seen.len() < all.len() {
            seen.push(next(stream).await.position);
        }
        assert_eq!(seen, all, "{topic:?}");
        assert!(stream.next().now_or_never().is_none(), "and nothing more");
    }
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cursor_one_row_begins_as_it_is_and_the_others_with_what_is_next() {
    let shop = Shop::start().await;
    let orders = updates::<Orders>(&shop);
    let lamp = shop.product("LAMP").stock(1_000).await;
    let customers = [shop.customer().await, shop.customer().await];
    let old = shop.order(customers[0], &[(&lamp, 1)]).await;
    shop.until_status(old, "CONFIRMED").await;
    shop.caught_up().await;

    let mut one = orders.follow(Topic::One(old.to_string()), None);
    assert_eq!(next(&mut one).await.row.status, "CONFIRMED");
    let mut one = joined(one);
    let to_come = OrderId::from_ulid(shop.store.ids().next());
    let mut unborn = joined(orders.follow(Topic::One(to_come.to_string()), None));
    let mut all = joined(orders.follow(Topic::All, None));
    let mut theirs = joined(orders.follow(Topic::Customer(customers[1]), None));

    shop.ship(old).await;
    assert_eq!(next(&mut one).await.row.status, "SHIPPED");
    assert_eq!(next(&mut all).await.row.id, old.to_string());
    let placing = shop.placing(customers[1], &[(&lamp, 1)]);
    shop.store
        .create::<Order>(to_come, placing, shop.context())
        .await
        .unwrap();
    for stream in [&mut unborn, &mut all, &mut theirs] {
        for status in ["PENDING", "CONFIRMED"] {
            let update = next(stream).await;
            assert_eq!(
                (update.row.id.as_str(), update.row.status.as_str()),
                (to_come.to_string().as_str(), status)
            );
        }
    }
    assert!(
        one.next().now_or_never().is_none(),
        "another order is nothing to it"
    );
    shop.finish().await;
}

/// A process that has just started hands out what is new to those without a cursor, and what they missed to those with one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_late_tells_old_from_new() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5_000).await;
    let customer = shop.customer().await;
    shop.rush(customer, &[(&lamp, 1)], 400).await;
    shop.caught_up().await;
    for _ in 0..3 {
        let late = shop.branch(Opening::default().quiet()).await;
        let orders = updates::<Orders>(&late);
        let mut fresh = joined(orders.follow(Topic::All, None));
        let mut back = orders.follow(Topic::All, Some(0));
        let before = expected(&shop, "order", "true").await;
        let id = shop.order(customer, &[(&lamp, 1)]).await;
        shop.until_status(id, "CONFIRMED").await;
        for status in ["PENDING", "CONFIRMED"] {
            let update = next(&mut fresh).await;
            assert_eq!(
                (&update.row.id, update.row.status.as_str()),
                (&id.to_string(), status)
            );
        }
        let mut seen = Vec::new();
        while seen.len() < before.len() + 2 {
            seen.push(next(&mut back).await.position);
        }
        assert_eq!(seen, expected(&shop, "order", "true").await);
        late.close().await;
    }
    shop.finish().await;
}

/// Nothing is told before the view has it, also what the log had already when this process began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_before_the_view_has_it() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    let id = shop.order(customer, &[(&lamp, 1)]).await;
    let late = shop.branch(Opening::default().quiet()).await;
    let orders = updates::<Orders>(&late);
    let mut all = joined(orders.follow(Topic::All, Some(0)));
    let mut one = joined(orders.follow(Topic::One(id.to_string()), Some(0)));
    let mut fresh = joined(orders.follow(Topic::One(id.to_string()), None));
    for stream in [&mut all, &mut one, &mut fresh] {
        // As long as nobody works, whatever happens.
        shop.send::<Product>(
            lamp.id,
            ProductCommand::ReceiveStock {
                quantity: pieces(1),
                reference: None,
            },
        )
        .await;
        late.store.head().changed().now_or_never();
        let told = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        assert!(told.is_err(), "told, though no view has it");
    }
    let worker = shop.branch(Opening::default()).await;
    worker.caught_up().await;
    for stream in [&mut all, &mut one] {
        assert_eq!(next(stream).await.row.status, "PENDING");
        assert_eq!(next(stream).await.row.status, "CONFIRMED");
    }
    // Who asked for the row as it is gets it as soon as there is one.
    let mut status = next(&mut fresh).await.row.status.clone();
    if status == "PENDING" {
        status = next(&mut fresh).await.row.status.clone();
    }
    assert_eq!(status, "CONFIRMED");
    worker.close().await;
    late.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_ends_its_streams_and_another_goes_on() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(100).await;
    let customer = shop.customer().await;
    let first = shop.branch(Opening::default().quiet()).await;
    let mut stream = updates::<Orders>(&first).follow(Topic::Customer(customer), Some(0));
    let id = shop.order(customer, &[(&lamp, 1)]).await;
    let placed = next(&mut stream).await;
    assert_eq!(placed.row.status, "PENDING");
    first.close().await;
    let mut rest = Vec::new();
    while let Some(update) = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
        rest.push(update.unwrap().position);
    }
    shop.until_status(id, "CONFIRMED").await;
    let second = shop.branch(Opening::default().quiet()).await;
    let cursor = rest.last().copied().unwrap_or(placed.position);
    let mut stream = updates::<Orders>(&second).follow(Topic::Customer(customer), Some(cursor));
    let all = expected(&shop, "order", "true").await;
    let mut seen = [vec![placed.position], rest].concat();
    while seen.len() < all.len() {
        seen.push(next(&mut stream).await.position);
    }
    assert_eq!(seen, all);
    second.close().await;
    shop.finish().await;
}
