//! The read models in Redis: fast while it is there, right while it is not.

mod taken_back;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kontor::runtime::MIRRORS;
use kontor_domain::{Product, ProductCommand};
use kontor_eventstore::read::head;
use kontor_eventstore::transaction::begin;
use kontor_projections::best_sellers::BestSellers;
use kontor_projections::cards::ProductCards;
use kontor_projections::statuses::OrderStatuses;
use kontor_tests::examples::pieces;
use kontor_tests::proxy::Proxy;
use kontor_tests::{Opening, Shop, eventually};

struct Readers {
    cards: ProductCards,
    statuses: OrderStatuses,
    sellers: BestSellers,
}

fn readers(shop: &Shop) -> Readers {
    let (redis, pool) = (&shop.runtime.redis, &shop.pool);
    Readers {
        cards: ProductCards::new(redis.clone(), pool.clone()),
        statuses: OrderStatuses::new(redis.clone(), pool.clone()),
        sellers: BestSellers::new(redis.clone(), pool.clone()),
    }
}

async fn get(shop: &Shop, key: &str) -> Option<String> {
    redis::cmd("GET")
        .arg(shop.runtime.redis.key(key))
        .query_async(&mut shop.redis().await)
        .await
        .unwrap()
}

/// Waits until every mirror says in Redis that it is at the head.
async fn filled(shop: &Shop) {
    for mirror in MIRRORS {
        eventually(&format!("{mirror} is filled"), async || {
            let head = head(&shop.pool).await.unwrap().to_string();
            (get(shop, mirror).await == Some(head)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_asked_first_and_knows_what_postgres_knows() {
    let shop = Shop::start().await;
    let (lamp, bell) = (
        shop.product("LAMP").stock(9).await,
        shop.product("BELL").stock(9).await,
    );
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 2), (&bell, 3)]).await;
    shop.until_status(order, "CONFIRMED").await;
    shop.ship(order).await;
    shop.caught_up().await;
    filled(&shop).await;

    let Readers {
        cards,
        statuses,
        sellers,
    } = readers(&shop);
    let (lamp_id, bell_id, order_id) = (lamp.id.to_string(), bell.id.to_string(), order.to_string());
    let asked = [lamp_id.clone(), bell_id.clone(), "prd_nothing".to_owned()];
    let found = cards.get(&asked).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[&lamp_id], shop.product_row(lamp.id).await);
    let status = statuses
        .get(std::slice::from_ref(&order_id))
        .await
        .unwrap()
        .remove(&order_id)
        .unwrap();
    let row = shop.order_row(order).await;
    assert_eq!(
        (status.status.as_str(), status.version, status.position),
        ("SHIPPED", row.version, row.position)
    );
    assert_eq!(
        (status.customer_id, status.updated_at),
        (row.customer_id, row.updated_at)
    );
    assert_eq!(
        sellers.top(10).await.unwrap(),
        [(bell_id.clone(), 3), (lamp_id.clone(), 2)]
    );
    assert_eq!(sellers.top(1).await.unwrap(), [(bell_id.clone(), 3)]);

    // Gone from Postgres, so this can only come from Redis.
    let mut tx = begin(&shop.pool).await.unwrap();
    for table in ["products", "orders"] {
        sqlx::query(&format!("DELETE FROM {table}"))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(cards.get(&asked).await.unwrap(), found);
    assert_eq!(statuses.get(&[order_id]).await.unwrap().len(), 1);
    assert_eq!(sellers.top(10).await.unwrap().len(), 2);
    kontor_projections::rebuild::rebuild(&shop.pool, &kontor_projections::views(), |_, _| {})
        .await
        .unwrap();
    shop.finish().await;
}

/// What a reader is told is never older than the position it has been told the mirror is at, and never missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_emptied_at_any_moment_is_filled_again_and_nobody_reads_too_little() {
    let shop = Shop::start().await;
    let (lamp, bell) = (
        shop.product("LAMP").stock(100_000).await,
        shop.product("BELL").stock(10).await,
    );
    let customer = shop.customer().await;
    let first = shop.order(customer, &[(&lamp, 1)]).await;
    shop.until_status(first, "CONFIRMED").await;
    shop.ship(first).await;
    shop.caught_up().await;
    let (stop, reads) = (AtomicBool::new(false), AtomicUsize::new(0));

    let writer = async {
        while !stop.load(Ordering::Relaxed) {
            let order = shop.order(customer, &[(&lamp, 1), (&bell, 1)]).await;
            shop.ship(first).await;
            let receive = ProductCommand::ReceiveStock {
                quantity: pieces(1),
                reference: None,
            };
            shop.send::<Product>(bell.id, receive).await;
            if shop.until_status(order, "CONFIRMED").await.version == 2 {
                shop.ship(order).await;
            }
        }
    };
    let flusher = async {
        let mut log = shop.store.head();
        for round in 0..25 {
            // Not in step with anything.
            let target = *log.borrow() + 1 + (round * 5) % 13;
            log.wait_for(|head| *head >= target).await.unwrap();
            shop.empty_redis().await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let reader = async {
        let Readers {
            cards,
            statuses,
            sellers,
        } = readers(&shop);
        let ids = [lamp.id.to_string(), bell.id.to_string()];
        let order = [first.to_string()];
        while !stop.load(Ordering::Relaxed) {
            let at = |mirror: &str| *shop.runtime.progress.watch(mirror).borrow();
            let (cards_at, sellers_at) = (at("product_cards"), at("best_sellers"));
            let found = cards.get(&ids).await.unwrap();
            for id in &ids {
                let due = last_event(&shop, id, cards_at).await;
                let card = found.get(id).expect("a card is missing");
                assert!(
                    card.position >= due,
                    "{id} is at {}, and {due} was promised",
                    card.position
                );
            }
            assert_eq!(statuses.get(&order).await.unwrap().len(), 1);
            let due = shipped(&shop, &ids[0], sellers_at).await;
            let top = sellers.top(10).await.unwrap();
            let lamps = top
                .iter()
                .find(|(id, _)| *id == ids[0])
                .map_or(0, |(_, sold)| *sold);
            assert!(lamps >= due, "{lamps} lamps are sold, and {due} were promised");
            reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::join!(writer, flusher, reader);
    assert!(reads.load(Ordering::Relaxed) > 20, "hardly anybody read");
    shop.caught_up().await;
    filled(&shop).await;
    let keys = shop.redis_keys().await;
    let count = |part: &str| keys.iter().filter(|key| key.contains(part)).count();
    assert_eq!(count(":product:"), 2);
    assert_eq!(count(":order_status:"), shop.orders().await.len());
    assert_eq!(count("best_sellers:set"), 1);
    assert_eq!(count("filling"), 0);
    shop.finish().await;
}

async fn last_event(shop: &Shop, id: &str, until: u64) -> i64 {
    sqlx::query_scalar(
        "SELECT coalesce(max(position), 0) FROM events WHERE aggregate_id = $1 AND position <= $2",
    )
    .bind(id)
    .bind(until.cast_signed())
    .fetch_one(&shop.pool)
    .await
    .unwrap()
}

async fn shipped(shop: &Shop, id: &str, until: u64) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM events WHERE aggregate_id = $1 AND position <= $2 AND event_type = 'ReservationCommitted'",
    )
    .bind(id)
    .bind(until.cast_signed())
    .fetch_one(&shop.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_without_redis_answers_from_postgres() {
    let shop = Shop::quiet().await;
    // Nobody listens at port 1.
    let lonely = shop
        .branch(Opening::default().redis("redis://127.0.0.1:1/0"))
        .await;
    let lamp = lonely.product("LAMP").stock(9).await;
    let customer = lonely.customer().await;
    let order = lonely.order(customer, &[(&lamp, 2)]).await;
    lonely.until_status(order, "CONFIRMED").await;
    lonely.ship(order).await;
    let sold = async || (shop.product_row(lamp.id).await.units_sold == 2).then_some(());
    eventually("the view has the sale", sold).await;

    let Readers {
        cards,
        statuses,
        sellers,
    } = readers(&lonely);
    let (lamp_id, order_id) = (lamp.id.to_string(), order.to_string());
    for _ in 0..3 {
        assert_eq!(
            cards.get(std::slice::from_ref(&lamp_id)).await.unwrap()[&lamp_id].on_hand,
            7
        );
        assert_eq!(
            statuses.get(std::slice::from_ref(&order_id)).await.unwrap()[&order_id].status,
            "SHIPPED"
        );
        assert_eq!(sellers.top(5).await.unwrap(), [(lamp_id.clone(), 2)]);
    }
    assert!(lonely.runtime.redis.ping().await.is_err());
    lonely.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_away_is_brought_up_to_date() {
    let url = std::env::var("REDIS_URL").expect("REDIS_URL is not set; see `make test`");
    let proxy = Proxy::before(&url).await;
    let shop = Opening::default().redis(&proxy.url(&url)).open().await;
    let lamp = shop.product("LAMP").stock(100).await;
    let customer = shop.customer().await;
    shop.order(customer, &[(&lamp, 1)]).await;
    shop.caught_up().await;
    let Readers { cards, .. } = readers(&shop);
    let id = lamp.id.to_string();
    for _ in 0..2 {
        proxy.cut().await;
        let order = shop.order(customer, &[(&lamp, 1)]).await;
        let row = shop.until_status(order, "CONFIRMED").await;
        shop.runtime
            .progress
            .reach("products", row.position.cast_unsigned(), kontor_tests::PATIENCE)
            .await
            .unwrap();
        let card = cards
            .get(std::slice::from_ref(&id))
            .await
            .unwrap()
            .remove(&id)
            .unwrap();
        assert_eq!(card, shop.product_row(lamp.id).await, "from Postgres");
        proxy.mend();
        shop.caught_up().await;
        filled(&shop).await;
        eventually("readers ask Redis again", async || {
            shop.runtime
                .redis
                .read::<(Option<String>,)>(redis::pipe().get("nothing"))
                .await
                .map(drop)
        })
        .await;
    }
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_never_goes_back_to_an_older_position() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(1).await;
    shop.caught_up().await;
    let card = shop.runtime.redis.key(&format!("product:{}", lamp.id));
    let mut redis = shop.redis().await;
    // As if somebody who is further had written it.
    redis::cmd("HSET")
        .arg(&card)
        .arg("position")
        .arg(1_000_000)
        .exec_async(&mut redis)
        .await
        .unwrap();
    let before: String = redis::cmd("HGET")
        .arg(&card)
        .arg("value")
        .query_async(&mut redis)
        .await
        .unwrap();
    let receive = ProductCommand::ReceiveStock {
        quantity: pieces(1),
        reference: None,
    };
    shop.send::<Product>(lamp.id, receive.clone()).await;
    shop.caught_up().await;
    let value: String = redis::cmd("HGET")
        .arg(&card)
        .arg("value")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(value, before);
    // And from there it goes on.
    redis::cmd("HSET")
        .arg(&card)
        .arg("position")
        .arg(2)
        .exec_async(&mut redis)
        .await
        .unwrap();
    shop.send::<Product>(lamp.id, receive).await;
    shop.caught_up().await;
    let (position, value): (i64, String) = redis::cmd("HMGET")
        .arg(&card)
        .arg("position")
        .arg("value")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(position, 4);
    assert!(value.contains("\"on_hand\":3"), "{value}");
    shop.finish().await;
}

/// A Redis that knows a future the log does not have, or that lost its place, is filled again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_whose_place_is_wrong_or_lost_starts_over() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(1).await;
    shop.caught_up().await;
    let card = shop.runtime.redis.key(&format!("product:{}", lamp.id));
    let mut redis = shop.redis().await;
    for wrong in [Some("999999"), None] {
        let mut pipe = redis::pipe();
        pipe.atomic().del(&card);
        for mirror in MIRRORS {
            let marker = shop.runtime.redis.key(mirror);
            match wrong {
                Some(position) => pipe.set(marker, position),
                None => pipe.del(marker),
            };
        }
        pipe.exec_async(&mut redis).await.unwrap();
        filled(&shop).await;
        let exists: bool = redis::cmd("EXISTS")
            .arg(&card)
            .query_async(&mut redis)
            .await
            .unwrap();
        assert!(exists);
    }
    shop.runtime.redis.forget("product_cards").await.unwrap();
    filled(&shop).await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gathered_while_nobody_worked_is_in_redis_to_the_last_value() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(10_000).await;
    let customer = shop.customer().await;
    // Filled, so that the next worker goes on from there.
    let first = shop.branch(Opening::default()).await;
    filled(&first).await;
    first.close().await;
    // More than two pages at once.
    let orders = shop.rush(customer, &[(&lamp, 1)], 2_300).await;
    let second = shop.branch(Opening::default()).await;
    second.redis_caught_up().await;
    let mut asked = redis::pipe();
    for id in &orders {
        asked.exists(second.runtime.redis.key(&format!("order_status:{id}")));
    }
    let there: Vec<bool> = asked.query_async(&mut second.redis().await).await.unwrap();
    assert_eq!(there.iter().filter(|there| **there).count(), orders.len());
    second.views_are_true().await;
    second.close().await;
    shop.finish().await;
}
