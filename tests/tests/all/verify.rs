//! `kontor verify`: it finds what was changed by hand, and nothing where nothing was.

use kontor_domain::{OrderId, ProductId};
use kontor_eventstore::transaction::begin;
use kontor_projections::verify::{How, Verdict};
use kontor_tests::{Opening, Shop};
use sqlx::Executor;

struct Sold {
    shop: Shop,
    lamp: ProductId,
    order: OrderId,
}

/// A shop with something in every view and mirror.
async fn sold() -> Sold {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(5).await;
    shop.product("BELL").stock(2).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 2)]).await;
    shop.until_status(order, "CONFIRMED").await;
    shop.ship(order).await;
    shop.caught_up().await;
    Sold {
        shop,
        lamp: lamp.id,
        order,
    }
}

fn differing(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<Verdict> {
    verdicts
        .into_iter()
        .filter(|verdict| verdict.different > 0)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_touched_is_found_equal() {
    let Sold { shop, .. } = sold().await;
    let head = kontor_eventstore::read::head(&shop.pool).await.unwrap();
    let verdicts = shop.verdicts().await;
    let found: Vec<_> = verdicts
        .iter()
        .map(|it| (it.view, it.rows, it.different))
        .collect();
    let expected = [
        ("products", 2, 0),
        ("orders", 1, 0),
        ("users", 1, 0),
        ("sales", 1, 0),
        ("product_cards", 2, 0),
        ("order_statuses", 1, 0),
        ("best_sellers", 1, 0),
    ];
    // Sales may fall into two hours.
    let sales = verdicts[3].rows;
    assert!((1..=2).contains(&sales));
    assert_eq!(
        found,
        expected.map(|(view, rows, none)| (view, if view == "sales" { sales } else { rows }, none))
    );
    assert!(verdicts[..4].iter().all(|it| it.position == head));
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_changed_deleted_or_invented_is_found_and_named() {
    let Sold { shop, lamp, order } = sold().await;
    // One column of each type there is, and one of every view.
    let tampered = [
        (
            "products",
            "UPDATE products SET on_hand = on_hand + 1, listed = NOT listed WHERE sku = 'LAMP'",
            vec!["listed", "on_hand"],
        ),
        ("orders", "UPDATE orders SET timeline = '[]'", vec!["timeline"]),
        (
            "users",
            "UPDATE users SET roles = ARRAY['CUSTOMER', 'ADMIN'], phone = '1'",
            vec!["phone", "roles"],
        ),
        (
            "sales",
            "UPDATE sales SET placed_minor = placed_minor + 1 WHERE orders_placed > 0",
            vec!["placed_minor"],
        ),
        (
            "orders",
            "UPDATE orders SET updated_at = updated_at + interval '1 microsecond'",
            vec!["updated_at"],
        ),
    ];
    for (view, tamper, columns) in tampered {
        let mut tx = begin(&shop.pool).await.unwrap();
        let keep = format!("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT * FROM {view}");
        tx.execute(keep.as_str()).await.unwrap();
        tx.execute(tamper).await.unwrap();
        tx.commit().await.unwrap();
        let found = differing(shop.view_verdicts().await);
        assert_eq!(found.len(), 1, "{tamper}: {found:?}");
        assert_eq!((found[0].view, found[0].different), (view, 1), "{tamper}");
        let columns = How::Columns(columns.into_iter().map(str::to_owned).collect());
        assert_eq!(found[0].differences[0].how, columns, "{tamper}");
        let restore = format!("TRUNCATE {view}; INSERT INTO {view} SELECT * FROM kept");
        shop.pool.execute(restore.as_str()).await.unwrap();
    }

    shop.pool.execute("DELETE FROM orders").await.unwrap();
    let found = differing(shop.view_verdicts().await);
    assert_eq!((found[0].view, found[0].different), ("orders", 1));
    assert_eq!(
        (&found[0].differences[0].key, &found[0].differences[0].how),
        (&order.to_string(), &How::Missing)
    );
    shop.pool
        .execute("INSERT INTO orders SELECT * FROM kept")
        .await
        .unwrap();

    shop.pool
        .execute(
            "CREATE TABLE copy AS SELECT * FROM products WHERE sku = 'LAMP'; UPDATE copy SET id = 'prd_invented';
             INSERT INTO products SELECT * FROM copy",
        )
        .await
        .unwrap();
    let found = differing(shop.view_verdicts().await);
    assert_eq!((found[0].view, found[0].different), ("products", 1));
    assert_eq!(
        (&*found[0].differences[0].key, &found[0].differences[0].how),
        ("prd_invented", &How::Unfounded)
    );
    shop.pool
        .execute("DELETE FROM products WHERE id = 'prd_invented'")
        .await
        .unwrap();
    assert_eq!(shop.product_row(lamp).await.units_sold, 2);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_redis_that_was_changed_is_found() {
    let Sold { shop, lamp, order } = sold().await;
    let mut redis = shop.redis().await;
    let card = shop.runtime.redis.key(&format!("product:{lamp}"));
    let status = shop.runtime.redis.key(&format!("order_status:{order}"));
    let sellers = shop.runtime.redis.key("best_sellers:set");
    let mut before = Vec::new();
    for key in [&card, &status] {
        let value: String = redis::cmd("HGET")
            .arg(key)
            .arg("value")
            .query_async(&mut redis)
            .await
            .unwrap();
        let wrong = value.replacen("\"version\":", "\"version\":9", 1);
        assert_ne!(wrong, value);
        redis::cmd("HSET")
            .arg(key)
            .arg("value")
            .arg(&wrong)
            .exec_async(&mut redis)
            .await
            .unwrap();
        before.push((key, value));
    }
    redis::cmd("ZINCRBY")
        .arg(&sellers)
        .arg(1)
        .arg(lamp.to_string())
        .exec_async(&mut redis)
        .await
        .unwrap();
    let found = differing(shop.mirror_verdicts().await);
    let found: Vec<_> = found.iter().map(|it| (it.view, it.different)).collect();
    assert_eq!(
        found,
        [("product_cards", 1), ("order_statuses", 1), ("best_sellers", 1)]
    );

    for (key, value) in before {
        redis::cmd("HSET")
            .arg(key)
            .arg("value")
            .arg(&value)
            .exec_async(&mut redis)
            .await
            .unwrap();
    }
    redis::cmd("ZINCRBY")
        .arg(&sellers)
        .arg(-1)
        .arg(lamp.to_string())
        .exec_async(&mut redis)
        .await
        .unwrap();
    // What is not there is no lie.
    redis::cmd("DEL").arg(&card).exec_async(&mut redis).await.unwrap();
    assert_eq!(differing(shop.mirror_verdicts().await), []);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_nobody_moves_is_said_to_be_behind() {
    let shop = Shop::quiet().await;
    let worker = shop.branch(Opening::default()).await;
    shop.product("LAMP").stock(5).await;
    worker.caught_up().await;
    worker.close().await;
    let head = kontor_eventstore::read::head(&shop.pool).await.unwrap();
    shop.runtime.redis.forget("product_cards").await.unwrap();

    let [cards, statuses, sellers] = shop.mirror_verdicts().await;
    assert_eq!((cards.position, cards.behind, cards.rows), (0, Some(head), 0));
    for reached in [statuses, sellers] {
        assert_eq!(
            (reached.position, reached.behind),
            (head, None),
            "{}",
            reached.view
        );
    }
    shop.finish().await;
}
