//! The log: its order as readers see it, what it remembers, and its identity.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use kontor_domain::{ProductEvent, ProductId};
use kontor_eventstore::read::{read, read_stream};
use kontor_eventstore::{Body, Store, schema};
use kontor_tests::children::Helper;
use kontor_tests::examples::{gbp, pieces};
use kontor_tests::{Opening, Shop};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::sync::watch;

use crate::HELPER;
use crate::hold::WRITER_LOCK;

/// What a reader saw: position, stream, sequence.
type Seen = Vec<(u64, String, u64)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_every_event_once_in_order_while_processes_append_and_sessions_roll_back() {
    let shop = Shop::quiet().await;
    let shared = shop.product("SHARED").await.id;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    // An old transaction that has written and does not end: nobody may wait for it.
    let mut idle = PgConnection::connect(shop.database_url()).await.unwrap();
    idle.execute("BEGIN; CREATE TABLE unfinished (n int)")
        .await
        .unwrap();

    let (all_written, done) = watch::channel(None);
    let readers = [
        tokio::spawn(follow(elsewhere.store.clone(), done.clone())),
        tokio::spawn(follow(shop.store.clone(), done.clone())),
        tokio::spawn(poll(shop.pool.clone(), done.clone())),
    ];
    let hostile = [
        tokio::spawn(disturb(shop.database_url().to_owned(), 1, done.clone())),
        tokio::spawn(disturb(shop.database_url().to_owned(), 2, done.clone())),
    ];
    let mut written = 0;
    let mut writers: Vec<Helper> = (1..=3)
        .map(|seed| Helper::writer(HELPER, &shop, seed, 200, &shared.to_string()))
        .collect();
    for writer in &mut writers {
        written += writer.says("written").await.parse::<u64>().unwrap();
    }
    // `SHARED` was created here.
    written += 1;
    // Only now are the hostile told to stop; what they commit meanwhile counts as well.
    all_written.send(Some(u64::MAX)).unwrap();
    for session in join_all(hostile).await {
        written += session.unwrap();
    }
    all_written.send(Some(written)).unwrap();

    let log = whole(&shop.pool).await;
    assert_eq!(
        log.len() as u64,
        written,
        "what was acknowledged is what there is"
    );
    let positions: Vec<u64> = log.iter().map(|(position, ..)| *position).collect();
    assert_eq!(
        positions,
        (1..=written).collect::<Vec<_>>(),
        "positions have no gaps"
    );
    let mut versions: HashMap<&str, u64> = HashMap::new();
    for (position, stream, sequence) in &log {
        let version = versions.entry(stream).or_default();
        *version += 1;
        assert_eq!(sequence, version, "the stream {stream} at position {position}");
    }
    for (reader, seen) in ["another process", "this process", "plain SQL"]
        .iter()
        .zip(join_all(readers).await)
    {
        assert!(
            seen.unwrap() == log,
            "{reader} saw the log as it is, each event once, in order"
        );
    }
    idle.execute("ROLLBACK").await.unwrap();
    elsewhere.close().await;
    shop.finish().await;
}

/// Reads through a store until `done` says how much there is.
async fn follow(store: Store, mut done: watch::Receiver<Option<u64>>) -> Seen {
    let mut head = store.head();
    let (mut at, mut seen) = (0, Seen::new());
    loop {
        head.mark_unchanged();
        let events = store.after(at, 50).await.unwrap();
        for event in &events {
            at = event.position;
            seen.push((event.position, event.stream().to_string(), event.sequence));
        }
        if events.is_empty() {
            if done.borrow().is_some_and(|all| at >= all) {
                return seen;
            }
            tokio::select! {
                changed = head.changed() => changed.unwrap(),
                changed = done.changed() => changed.unwrap(),
            }
        }
    }
}

/// Reads with plain SQL as fast as it can, from the last position it saw.
async fn poll(pool: PgPool, done: watch::Receiver<Option<u64>>) -> Seen {
    let mut seen = Seen::new();
    loop {
        let at = seen.last().map_or(0, |(position, ..)| *position);
        let before = seen.len();
        seen.extend(behind(&pool, at).await);
        if seen.len() == before && done.borrow().is_some_and(|all| at >= all) {
            return seen;
        }
    }
}

async fn whole(pool: &PgPool) -> Seen {
    behind(pool, 0).await
}

async fn behind(pool: &PgPool, position: u64) -> Seen {
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT position, aggregate_type || ' ' || aggregate_id, sequence FROM events WHERE position > $1 ORDER BY position",
    )
    .bind(position.cast_signed())
    .fetch_all(pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(at, stream, sequence)| (at.cast_unsigned(), stream, sequence.cast_unsigned()))
        .collect()
}

/// Other writers by the log's rules, slow ones: several events in a transaction, with and without the lock, and every
/// other time rolled back after a while. Answers how many events it committed.
async fn disturb(database_url: String, seed: u32, done: watch::Receiver<Option<u64>>) -> u64 {
    let mut connection = PgConnection::connect(&database_url).await.unwrap();
    let mut committed = 0;
    for round in 0_u32.. {
        if done.borrow().is_some() {
            break;
        }
        connection.execute("BEGIN").await.unwrap();
        if !(round + seed).is_multiple_of(3) {
            connection
                .execute(format!("SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
                .await
                .unwrap();
        }
        let delay = f64::from((round * 7919 + seed) % 13) / 1_000.0;
        let inserted = insert_a_product(&mut connection, &format!("H{seed}-{round}"), delay).await;
        let keep = inserted.is_ok() && round.is_multiple_of(2);
        if connection
            .execute(if keep { "COMMIT" } else { "ROLLBACK" })
            .await
            .is_ok()
            && keep
        {
            committed += 3;
        }
    }
    committed
}

/// Three events of a new product behind the head, and a pause before the transaction can end.
async fn insert_a_product(connection: &mut PgConnection, sku: &str, delay: f64) -> Result<(), sqlx::Error> {
    let received = |on_hand| ProductEvent::StockReceived {
        quantity: pieces(1),
        on_hand,
        reference: None,
    };
    let created = ProductEvent::Created {
        sku: sku.parse().unwrap(),
        name: "Hostile".parse().unwrap(),
        description: "".parse().unwrap(),
        category: "Things".parse().unwrap(),
        price: gbp(1),
    };
    let events = [created, received(1), received(2)];
    let types: Vec<&str> = events.iter().map(ProductEvent::name).collect();
    let payloads: Vec<String> = events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap())
        .collect();
    let metadata = r#"{"command_id":"hostile","correlation_id":"hostile","actor":"system:hostile","time":"2026-01-01T00:00:00.000000Z"}"#;
    sqlx::query(
        "WITH head AS (SELECT coalesce(max(position), 0) AS position FROM events)
         INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
         SELECT 'product', $1, n, type, '1', payload::json, $4::json, head.position + n
         FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS e(type, payload, n), head",
    )
    .bind(ProductId::from_ulid(ulid_of(sku)).to_string())
    .bind(types)
    .bind(payloads)
    .bind(metadata)
    .execute(&mut *connection)
    .await?;
    sqlx::query("SELECT pg_sleep($1)")
        .bind(delay)
        .execute(connection)
        .await?;
    Ok(())
}

fn ulid_of(text: &str) -> ulid::Ulid {
    ulid::Ulid(text.bytes().fold(7, |sum: u128, byte| {
        sum.wrapping_mul(257).wrapping_add(byte.into())
    }))
}

#[tokio::test]
async fn what_a_process_did_says_what_caused_it() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(1).await;
    let customer = shop.customer().await;
    let order = shop.order(customer, &[(&lamp, 1)]).await;
    shop.caught_up().await;

    let stream = read_stream(&shop.pool, "order", &order.to_string())
        .await
        .unwrap();
    let (placed, confirmed) = (stream[0].metadata().unwrap(), stream[1].metadata().unwrap());
    assert_eq!(placed.causation_id, None);
    assert_eq!(placed.correlation_id, placed.command_id);
    assert_eq!(confirmed.causation_id, Some(format!("order/{order}/1")));
    assert_eq!(confirmed.correlation_id, placed.correlation_id);
    assert_eq!(confirmed.actor, "system:order_process");
    shop.finish().await;
}

#[tokio::test]
async fn an_event_that_nobody_knows_is_kept_and_told_apart() {
    let shop = Shop::quiet().await;
    shop.product("LAMP").await;
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
         VALUES ('parcel', 'par_1', 1, 'Lost', '1', '{}', '{}', 2)",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let events = read(&shop.pool, 0, 10).await.unwrap();
    assert!(matches!(&events[0].body, Body::Product(..)));
    let Body::Unreadable(unknown) = &events[1].body else {
        panic!("{:?}", events[1].body)
    };
    assert_eq!(
        (unknown.aggregate_type.as_str(), unknown.event_type.as_str()),
        ("parcel", "Lost")
    );
    shop.finish().await;
}

#[tokio::test]
async fn a_restored_log_is_another_log() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").stock(3).await;
    shop.caught_up().await;
    let before: String = incarnation(&shop).await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    assert_eq!(
        incarnation(&shop).await,
        before,
        "another process finds the same log"
    );
    elsewhere.close().await;

    // A backup brings the row back as it was on the cluster it was taken of.
    sqlx::query("UPDATE log SET cluster = cluster + 1")
        .execute(&shop.pool)
        .await
        .unwrap();
    let restored = shop.branch(Opening::default()).await;
    let after = incarnation(&shop).await;
    assert_ne!(after, before);
    let of_checkpoints: Vec<String> = sqlx::query_scalar("SELECT DISTINCT incarnation FROM checkpoints")
        .fetch_all(&shop.pool)
        .await
        .unwrap();
    assert_eq!(
        of_checkpoints,
        [after],
        "the checkpoints came back with the log they belong to"
    );
    assert_eq!(
        restored.redis_keys().await,
        [] as [String; 0],
        "what Redis holds belongs to the log that was"
    );
    let cards =
        kontor_projections::cards::ProductCards::new(restored.runtime.redis.clone(), restored.pool.clone());
    assert_eq!(
        cards.get(&[lamp.id.to_string()]).await.unwrap()[&lamp.id.to_string()].on_hand,
        3
    );
    restored.empty_redis().await;
    restored.close().await;
    shop.finish().await;
}

async fn incarnation(shop: &Shop) -> String {
    sqlx::query_scalar("SELECT incarnation FROM log")
        .fetch_one(&shop.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_a_sentence() {
    let shop = Shop::quiet().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of tomorrow', true, ''::bytea, 0)",
    )
    .execute(&shop.pool)
    .await
    .unwrap();
    let refused = schema::migrate(&shop.pool).await.unwrap_err().to_string();
    assert!(
        refused.contains("version 9999") && refused.contains("newer than this Kontor"),
        "{refused}"
    );
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_hears_of_events_at_once_and_without_notifications_soon() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let mut head = elsewhere.store.head();
    shop.product("HEARD").await;
    tokio::time::timeout(Duration::from_secs(5), head.wait_for(|head| *head == 1))
        .await
        .unwrap()
        .unwrap();

    // Nobody announces what is written behind Kontor's back.
    let mut connection = PgConnection::connect(shop.database_url()).await.unwrap();
    insert_a_product(&mut connection, "UNHEARD", 0.0).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), head.wait_for(|head| *head == 4))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(elsewhere.store.after(0, 10).await.unwrap().len(), 4);
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_found_by_position_remembered_or_not_and_once_mended_as_they_are_now() {
    let shop = Shop::quiet().await;
    shop.product("BEFORE").stock(5).await;
    // Remembers what happens from now on.
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let mut head = elsewhere.store.head();
    let after = shop.product("AFTER").await.id;
    head.wait_for(|head| *head == 3).await.unwrap();
    for store in [&shop.store, &elsewhere.store] {
        let mut found = store.at(&[3, 99, 1]).await.unwrap();
        found.sort_by_key(|event| event.position);
        let found: Vec<_> = found
            .iter()
            .map(|event| (event.position, event.sequence, event.event_type()))
            .collect();
        assert_eq!(
            found,
            [(1, 1, "Created".to_owned()), (3, 1, "Created".to_owned())]
        );
        assert!(store.at(&[]).await.unwrap().is_empty());
    }

    // Heard of before anybody could read it.
    let readable = async || {
        let found = elsewhere.store.at(&[4]).await.unwrap();
        !matches!(found[0].body, Body::Unreadable(_))
    };
    let copied = "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
                  SELECT 'product', $1, 2, event_type, event_version, '{}', metadata, 4 FROM events WHERE position = 2";
    let mended = "UPDATE events SET payload = (SELECT payload FROM events WHERE position = 2) WHERE position = 4 AND aggregate_id = $1";
    for (statement, then) in [(copied, false), (mended, true)] {
        sqlx::query(statement)
            .bind(after.to_string())
            .execute(&shop.pool)
            .await
            .unwrap();
        head.wait_for(|head| *head == 4).await.unwrap();
        assert_eq!(readable().await, then);
    }
    elsewhere.close().await;
    shop.finish().await;
}
