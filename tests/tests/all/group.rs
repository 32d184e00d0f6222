//! Commands that meet: in one group, on one aggregate, over one claim or key, in one process and in two.

use std::collections::HashSet;

use futures::StreamExt;
use futures::future::join_all;
use kontor_domain::{
    ClaimKind, Order, OrderCommand, OrderError, OrderId, OrderStatus, Product, ProductCommand, ProductError,
    ProductEvent, ReturnLine, User, UserCommand, UserError, UserId,
};
use kontor_eventstore::{CommandContext, ExecuteError, IdempotencyKey, Outcome, Store};
use kontor_tests::examples::{address, gbp, line, pieces, reason};
use kontor_tests::proxy::Proxy;
use kontor_tests::{Item, Opening, Shop};
use sqlx::{Connection, Executor, PgConnection};

/// See `log.rs`.
const WRITER_LOCK: i64 = 0x4b6f_6e74_6f72;

/// Takes the position behind the head until the transaction ends.
const HOLD: &str = "
    INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
    SELECT 'hold', 'hold', 1, 'Held', '1', '{}', '{}', coalesce(max(position), 0) + 1 FROM events";

/// Makes everything that is sent meanwhile arrive together: nobody writes while `send` runs.
async fn together<T>(shop: &Shop, send: impl AsyncFnOnce(Hold) -> T) -> T {
    let mut connection = PgConnection::connect(shop.database_url()).await.unwrap();
    // A transaction on the position behind the head holds up those who ask first and those who do not.
    connection
        .execute(format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
        .await
        .unwrap();
    connection.execute(HOLD).await.unwrap();
    send(Hold(connection)).await
}

/// See [`together`].
struct Hold(PgConnection);

impl Hold {
    /// Waits until `senders` (futures polled alongside) have had time to queue, by asking Postgres: a writer waits.
    async fn release_when_a_writer_waits(mut self, shop: &Shop) {
        kontor_tests::eventually("a writer waits", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                             AND application_name = 'kontor writer' AND wait_event_type = 'Lock'";
            (count(shop, waiting).await > 0).then_some(())
        })
        .await;
        self.0.execute("ROLLBACK").await.unwrap();
    }
}

fn key(context: CommandContext, key: &str, input: &str) -> CommandContext {
    context.once(IdempotencyKey::new("tests", key, input.as_bytes()))
}

fn user(shop: &Shop) -> UserId {
    UserId::from_ulid(shop.store.ids().next())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_claim_one_email_at_once_one_gets_it() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    for round in 0..20 {
        let (here, there) = (
            format!("Someone.{round}@example.com"),
            format!("sOMEONE.{round}@EXAMPLE.com"),
        );
        let (mine, yours) = (user(&shop), user(&shop));
        let (first, second) = tokio::join!(shop.register(mine, &here), elsewhere.register(yours, &there));
        let (winner, refused) = match (first, second) {
            (Ok(won), Err(refused)) | (Err(refused), Ok(won)) => (won.id, refused),
            other => panic!("one of the two: {other:?}"),
        };
        let ExecuteError::ClaimTaken {
            kind: ClaimKind::Email,
            holder,
        } = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!(holder, winner.to_string());
        let folded = here.to_lowercase();
        assert_eq!(
            shop.store.holder(ClaimKind::Email, &folded).await.unwrap(),
            Some(winner.to_string())
        );
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_claim_one_sku_in_one_process_one_gets_it() {
    let shop = Shop::quiet().await;
    let tries = (0..40).map(|n| {
        let sku = if n % 2 == 0 { "lamp-1" } else { "LAMP-1" };
        create(&shop, sku)
    });
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .all(|refused| matches!(
                refused,
                ExecuteError::ClaimTaken {
                    kind: ClaimKind::Sku,
                    ..
                }
            ))
    );
    assert_eq!(head(&shop).await, 1);
    shop.finish().await;
}

async fn create(shop: &Shop, sku: &str) -> Result<Outcome<Product>, ExecuteError<ProductError>> {
    let id = kontor_domain::ProductId::from_ulid(shop.store.ids().next());
    let create = ProductCommand::Create {
        sku: sku.parse().unwrap(),
        name: "A lamp".parse().unwrap(),
        description: "".parse().unwrap(),
        category: "Lamps".parse().unwrap(),
        price: gbp(1),
    };
    shop.store.create::<Product>(id, create, shop.context()).await
}

async fn head(shop: &Shop) -> u64 {
    kontor_eventstore::read::head(&shop.pool).await.unwrap()
}

#[tokio::test]
async fn a_released_email_can_be_claimed_again_also_at_the_same_moment() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let (mover, newcomer) = (user(&shop), user(&shop));
    shop.register(mover, "old@example.com").await.unwrap();
    change_email(&shop, mover, "OLD@example.com").await.unwrap(); // only the spelling
    assert!(matches!(
        shop.register(newcomer, "old@example.com").await,
        Err(ExecuteError::ClaimTaken { .. })
    ));
    change_email(&shop, mover, "new@example.com").await.unwrap();
    elsewhere.register(newcomer, "Old@example.com").await.unwrap();
    let back = change_email(&shop, mover, "old@example.com").await;
    assert!(matches!(back, Err(ExecuteError::ClaimTaken { holder, .. }) if holder == newcomer.to_string()));
    let holder = async |email: &str| shop.store.holder(ClaimKind::Email, email).await.unwrap();
    assert_eq!(
        holder("new@example.com").await,
        Some(mover.to_string()),
        "a refused change gives nothing back"
    );

    // Given up and taken in one group: allowed in that order, and the newcomer has it.
    for round in 0..10 {
        let (leaving, arriving) = (user(&shop), user(&shop));
        let email = format!("swap{round}@example.com");
        shop.register(leaving, &email).await.unwrap();
        let (away, gone) = (
            format!("away{round}@example.com"),
            format!("gone{round}@example.com"),
        );
        let (left, arrived) = together(&shop, async |hold| {
            // Something for the writer to be busy with while the two gather.
            let first = change_email(&shop, mover, &away);
            let rest = async {
                let left = change_email(&shop, leaving, &gone);
                let arrived = shop.register(arriving, &email);
                let (left, arrived, ()) =
                    tokio::join!(left, arrived, hold.release_when_a_writer_waits(&shop));
                (left, arrived)
            };
            let (first, both) = tokio::join!(first, rest);
            first.unwrap();
            both
        })
        .await;
        left.unwrap();
        let expected = match arrived {
            Ok(_) => Some(arriving.to_string()),
            Err(ExecuteError::ClaimTaken { holder, .. }) => {
                assert_eq!(holder, leaving.to_string());
                None
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(holder(&email).await, expected, "the claim and the answer agree");
    }
    elsewhere.close().await;
    shop.finish().await;
}

async fn change_email(
    shop: &Shop,
    id: UserId,
    email: &str,
) -> Result<Outcome<User>, ExecuteError<UserError>> {
    let email = email.parse::<kontor_domain::Email>().unwrap().into();
    shop.try_send::<User>(id, UserCommand::ChangeEmail { email })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_at_the_same_moment_from_two_processes_places_one_order_and_both_hear_of_it() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    for round in 0..20 {
        let stores = [&shop.store, &elsewhere.store, &shop.store, &elsewhere.store];
        let name = format!("k{round}");
        let placed =
            join_all(stores.map(|store| place(&shop, store, customer, &lamp, &name, "lamp x 1"))).await;
        let outcomes: Vec<Outcome<Order>> = placed.into_iter().map(Result::unwrap).collect();
        for outcome in &outcomes {
            let (first, this) = (&outcomes[0], outcome);
            assert_eq!(
                (this.id, this.version, this.position),
                (first.id, first.version, first.position)
            );
            assert_eq!(this.events, first.events);
            assert_eq!(this.events.len(), 1);
        }
        assert_eq!(outcomes.iter().filter(|outcome| !outcome.repeated).count(), 1);

        // For ever, and for nothing else.
        let again = place(&shop, &elsewhere.store, customer, &lamp, &name, "lamp x 1")
            .await
            .unwrap();
        assert_eq!(
            (again.id, again.position, again.repeated),
            (outcomes[0].id, outcomes[0].position, true)
        );
        let reused = place(&shop, &shop.store, customer, &lamp, &name, "lamp x 2").await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
    }
    assert_eq!(
        count(
            &shop,
            "SELECT count(*) FROM events WHERE aggregate_type = 'order'"
        )
        .await,
        20
    );
    elsewhere.close().await;
    shop.finish().await;
}

async fn place(
    shop: &Shop,
    store: &Store,
    customer_id: UserId,
    item: &Item,
    name: &str,
    input: &str,
) -> Result<Outcome<Order>, ExecuteError<OrderError>> {
    let id = OrderId::from_ulid(shop.store.ids().next());
    let items = vec![line(item, 1)];
    let place = OrderCommand::Place {
        customer_id,
        items,
        shipping_address: address(),
    };
    store
        .create::<Order>(id, place, key(shop.context(), name, input))
        .await
}

async fn count(shop: &Shop, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&shop.pool).await.unwrap()
}

#[tokio::test]
async fn a_key_is_for_one_kind_of_thing() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    place(&shop, &shop.store, customer, &lamp, "k", "same input")
        .await
        .unwrap();
    let receive = ProductCommand::ReceiveStock {
        quantity: pieces(1),
        reference: None,
    };
    let context = key(shop.context(), "k", "same input");
    let other = shop.store.execute::<Product>(lamp.id, receive, context).await;
    assert!(matches!(other, Err(ExecuteError::KeyReused)), "{other:?}");
    assert_eq!(shop.stock(lamp.id).await, (0, 0));
    shop.finish().await;
}

/// The second of two at the same moment is decided on what the first has done, and would be refused there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_the_first_answer_also_where_the_command_would_be_refused_now() {
    let shop = Shop::start().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(100).await;
    let customer = shop.customer().await;
    for round in 0..10 {
        let id = shop.order(customer, &[(&lamp, 3)]).await;
        shop.until_status(id, "CONFIRMED").await;
        shop.ship(id).await;
        shop.send::<Order>(id, OrderCommand::Deliver).await;
        let take_back = |store: &Store| {
            let command = OrderCommand::ReturnItems {
                lines: vec![ReturnLine {
                    line: 0,
                    quantity: pieces(3),
                }],
                refund: gbp(15_00),
                reason: reason("broken"),
                restock: false,
            };
            let context = key(shop.context(), &format!("return {round}"), "3").expecting(Some(4));
            let store = store.clone();
            async move { store.execute::<Order>(id, command, context).await }
        };
        let answers = join_all([
            take_back(&shop.store),
            take_back(&shop.store),
            take_back(&elsewhere.store),
            take_back(&shop.store),
        ])
        .await;
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!((answer.version, answer.events.len()), (5, 1));
        }
        let later = take_back(&elsewhere.store).await.unwrap();
        assert!(later.repeated);
        // The same without the key is told what is so now.
        let command = OrderCommand::ReturnItems {
            lines: vec![ReturnLine {
                line: 0,
                quantity: pieces(3),
            }],
            refund: gbp(0),
            reason: reason("again"),
            restock: false,
        };
        let refused = shop.try_send::<Order>(id, command).await;
        assert!(
            matches!(
                refused,
                Err(ExecuteError::Refused(OrderError::MoreThanDelivered { .. }))
            ),
            "{refused:?}"
        );
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test]
async fn a_refusal_leaves_its_key_free() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let adjust = || ProductCommand::AdjustStock {
        delta: (-1).try_into().unwrap(),
        reason: reason("lost"),
    };
    let context = || key(shop.context(), "adjust", "-1");
    let refused = shop.store.execute::<Product>(lamp.id, adjust(), context()).await;
    assert!(matches!(
        refused,
        Err(ExecuteError::Refused(ProductError::WouldGoBelowReserved { .. }))
    ));
    shop.send::<Product>(
        lamp.id,
        ProductCommand::ReceiveStock {
            quantity: pieces(1),
            reference: None,
        },
    )
    .await;
    let taken = shop
        .store
        .execute::<Product>(lamp.id, adjust(), context())
        .await
        .unwrap();
    assert!(!taken.repeated);
    assert_eq!(shop.stock(lamp.id).await, (0, 0));
    shop.finish().await;
}

#[tokio::test]
async fn a_command_that_changes_nothing_is_remembered_as_that() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    let relist = async || {
        shop.store
            .execute::<Product>(lamp.id, ProductCommand::Relist, key(shop.context(), "relist", ""))
            .await
            .unwrap()
    };
    let first = relist().await;
    assert_eq!((first.version, first.events.len(), first.repeated), (1, 0, false));
    shop.send::<Product>(lamp.id, ProductCommand::Discontinue { reason: None })
        .await;
    let second = relist().await;
    assert_eq!(
        (
            second.version,
            second.position,
            second.events.len(),
            second.repeated
        ),
        (1, first.position, 0, true)
    );
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_buyers_of_fifty_pieces_in_one_process() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").stock(50).await;
    let answers = join_all((0..500).map(|_| reserve(&shop, &shop.store, &lamp))).await;
    sold_out(&shop, &lamp, &answers).await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_buyers_of_fifty_pieces_in_two_processes() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(50).await;
    let stores = [&shop.store, &elsewhere.store];
    let answers = join_all((0..500).map(|n| reserve(&shop, stores[n % 2], &lamp))).await;
    sold_out(&shop, &lamp, &answers).await;
    elsewhere.close().await;
    shop.finish().await;
}

async fn reserve(shop: &Shop, store: &Store, item: &Item) -> ProductEvent {
    let order_id = OrderId::from_ulid(shop.store.ids().next());
    let reserve = ProductCommand::Reserve {
        order_id,
        quantity: pieces(1),
    };
    let context = shop
        .context()
        .once(IdempotencyKey::derived("tests", &order_id.to_string(), "reserve"));
    let mut outcome = store.execute::<Product>(item.id, reserve, context).await.unwrap();
    assert_eq!(outcome.events.len(), 1);
    outcome.events.remove(0)
}

async fn sold_out(shop: &Shop, item: &Item, answers: &[ProductEvent]) {
    let reserved: HashSet<u64> = answers
        .iter()
        .filter_map(|event| match event {
            ProductEvent::StockReserved { reserved, .. } => Some(*reserved),
            _ => None,
        })
        .collect();
    assert_eq!(reserved, (1..=50).collect(), "each piece is promised once");
    let refused = answers
        .iter()
        .filter(|event| matches!(event, ProductEvent::ReservationRefused { .. }))
        .count();
    assert_eq!(refused, 450);
    assert_eq!(shop.stock(item.id).await, (50, 50));
    assert_eq!(head(shop).await, 2 + 500);
}

#[tokio::test]
async fn a_refusal_never_rests_on_what_this_process_remembers() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").stock(1).await;
    let adjust = || ProductCommand::AdjustStock {
        delta: (-2).try_into().unwrap(),
        reason: reason("breakage"),
    };
    for _ in 0..20 {
        // This process knows of too few pieces …
        let refused = shop.try_send::<Product>(lamp.id, adjust()).await;
        assert!(
            matches!(
                refused,
                Err(ExecuteError::Refused(ProductError::WouldGoBelowReserved { .. }))
            ),
            "{refused:?}"
        );
        // … another one books more in …
        let receive = ProductCommand::ReceiveStock {
            quantity: pieces(2),
            reference: None,
        };
        elsewhere.send::<Product>(lamp.id, receive).await;
        // … and this one must not say no, nor a no-op yes, from memory.
        shop.send::<Product>(lamp.id, adjust()).await;
        elsewhere
            .send::<Product>(lamp.id, ProductCommand::Discontinue { reason: None })
            .await;
        let relisted = shop.send::<Product>(lamp.id, ProductCommand::Relist).await;
        assert_eq!(relisted.events, [ProductEvent::Relisted {}]);
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_goes_through_on_the_version_it_expects_and_on_no_other() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").await;
    let price = |store: &Store, pence, expected| {
        let context = shop.context().expecting(Some(expected));
        let (store, id) = (store.clone(), lamp.id);
        async move {
            store
                .execute::<Product>(id, ProductCommand::ChangePrice { price: gbp(pence) }, context)
                .await
        }
    };
    assert_eq!(price(&shop.store, 100, 1).await.unwrap().version, 2);
    // The other process has not heard of version 2 yet, or has: it makes no difference.
    let old = price(&elsewhere.store, 200, 1).await;
    assert!(
        matches!(
            old,
            Err(ExecuteError::VersionConflict {
                expected: 1,
                actual: 2
            })
        ),
        "{old:?}"
    );
    let future = price(&shop.store, 300, 9).await;
    assert!(
        matches!(
            future,
            Err(ExecuteError::VersionConflict {
                expected: 9,
                actual: 2
            })
        ),
        "{future:?}"
    );

    // Of many edits of one version at the same moment one goes through.
    for round in 0..10 {
        let version = 2 + round;
        let edits = (0..8).map(|n| {
            let store = if n % 2 == 0 { &shop.store } else { &elsewhere.store };
            price(store, 1_000 + i64::try_from(round).unwrap() * 10 + n, version)
        });
        let results = join_all(edits).await;
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "{results:?}"
        );
        let conflict = |result: &Result<_, _>| {
            matches!(result, Err(ExecuteError::VersionConflict { expected, actual })
                     if *expected == version && *actual == version + 1)
        };
        assert_eq!(
            results.iter().filter(|result| conflict(result)).count(),
            7,
            "{results:?}"
        );
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_who_goes_away_does_not_stop_the_command() {
    let shop = Shop::quiet().await;
    let lamp = shop.product("LAMP").await;
    together(&shop, async |hold| {
        for _ in 0..10 {
            let receive = ProductCommand::ReceiveStock {
                quantity: pieces(1),
                reference: None,
            };
            let sent = shop.store.execute::<Product>(lamp.id, receive, shop.context());
            // Polled once, so that it is on its way; nothing can be written yet, so it cannot be done.
            assert!(futures::FutureExt::now_or_never(sent).is_none());
        }
        hold.release_when_a_writer_waits(&shop).await;
    })
    .await;
    let ten = async || (shop.stock(lamp.id).await.0 == 10).then_some(());
    kontor_tests::eventually("all ten are booked in", ten).await;
    // And the state in memory is the state in the log.
    let next = shop
        .send::<Product>(lamp.id, ProductCommand::Discontinue { reason: None })
        .await;
    assert_eq!(next.version, 12);
    shop.finish().await;
}

/// Kills the writer's connections again and again while commands are under way: before, in and behind their commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_doubled_when_postgres_cuts_the_writer_off() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let mut products = Vec::new();
    for n in 0..4 {
        products.push(shop.product(&format!("P{n}")).await);
    }
    let before = head(&shop).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let killer = tokio::spawn({
        let (pool, stop, mut head) = (shop.pool.clone(), stop.clone(), shop.store.head());
        async move {
            let mut kills = 0;
            while !stop.is_cancelled() {
                kills += sqlx::query_scalar::<_, i64>(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'kontor writer'",
                )
                .fetch_one(&pool)
                .await
                .unwrap();
                // Something must get through between two of them.
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = head.changed() => {}
                }
            }
            kills
        }
    });
    let commands = futures::stream::iter(0..400).map(|n: usize| {
        let (product, store) = (
            &products[n % 4],
            if n % 3 == 0 { &elsewhere.store } else { &shop.store },
        );
        let context = shop.context().once(IdempotencyKey::derived("tests", "cut", n));
        async move {
            loop {
                let receive = ProductCommand::ReceiveStock {
                    quantity: pieces(1),
                    reference: None,
                };
                match store
                    .execute::<Product>(product.id, receive, context.clone())
                    .await
                {
                    Ok(outcome) => return outcome,
                    // What was not acknowledged is sent again, with its key.
                    Err(ExecuteError::Unavailable(_) | ExecuteError::Contended { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let outcomes: Vec<Outcome<Product>> = commands.buffer_unordered(32).collect().await;
    stop.cancel();
    let kills = killer.await.unwrap();
    assert!(kills >= 10, "only {kills} connections were killed");

    let positions: HashSet<u64> = outcomes.iter().map(|outcome| outcome.position).collect();
    assert_eq!(
        positions,
        (before + 1..=before + 400).collect(),
        "each command has an event of its own"
    );
    assert_eq!(head(&shop).await, before + 400);
    for product in &products {
        assert_eq!(shop.stock(product.id).await, (100, 0));
    }
    elsewhere.close().await;
    shop.finish().await;
}

/// The order process and a customer on one order, in one group or not: whoever is decided second knows of the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_one_aggregate_see_each_other() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").await;
    let customer = shop.customer().await;
    for round in 0..20 {
        let id = shop.order(customer, &[(&lamp, 1)]).await;
        let store = if round % 2 == 0 {
            &shop.store
        } else {
            &elsewhere.store
        };
        let confirm = store.execute::<Order>(id, OrderCommand::Confirm, shop.context());
        let reject =
            shop.store
                .execute::<Order>(id, OrderCommand::Reject { refused: Vec::new() }, shop.context());
        let (confirmed, rejected) = tokio::join!(confirm, reject);
        assert_ne!(confirmed.is_ok(), rejected.is_ok(), "{confirmed:?} {rejected:?}");
        let status = shop
            .store
            .inspect::<Order, _>(id, |order, _| order.status())
            .await
            .unwrap();
        let expected = if confirmed.is_ok() {
            OrderStatus::Confirmed
        } else {
            OrderStatus::Rejected
        };
        assert_eq!(status, Some(expected));
    }
    elsewhere.close().await;
    shop.finish().await;
}

/// A connection breaks while Postgres is still busy with the statement, which then goes through although nobody hears of
/// it. Whoever asks too early what became of it must not do it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_answer_is_lost_on_the_way_is_done_once() {
    let shop = Shop::quiet().await;
    let proxy = Proxy::before(shop.database_url()).await;
    let behind = Opening::default()
        .quiet()
        .at(&proxy.url(shop.database_url()))
        .await;
    let lamp = shop.product("LAMP").await;
    let receive = async || {
        let receive = ProductCommand::ReceiveStock {
            quantity: pieces(1),
            reference: None,
        };
        behind.send::<Product>(lamp.id, receive).await
    };
    // So that the writer has no reason to ask first.
    for _ in 0..4 {
        receive().await;
    }
    // Its statement has to wait for somebody who has taken the next position.
    let mut position = PgConnection::connect(shop.database_url()).await.unwrap();
    position.execute("BEGIN").await.unwrap();
    position.execute(HOLD).await.unwrap();
    let mut locks = [
        PgConnection::connect(shop.database_url()).await.unwrap(),
        PgConnection::connect(shop.database_url()).await.unwrap(),
    ];
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})");
    let meanwhile = async {
        waiting(&shop, "transactionid").await;
        let [first, second] = &mut locks;
        first.execute(lock.as_str()).await.unwrap();
        proxy.cut();
        proxy.mend();
        // The writer comes back to find out, and has to queue; so does the second, behind it.
        waiting(&shop, "advisory").await;
        let (_, ()) = tokio::join!(second.execute(lock.as_str()), async {
            waiting_for_lock(&shop, 2).await;
            first.execute("COMMIT").await.unwrap();
        });
        // It has found nothing, and is about to try again. Only now does the statement go through.
        position.execute("ROLLBACK").await.unwrap();
        kontor_tests::eventually(
            "the statement of the broken connection goes through",
            async || (shop.stock(lamp.id).await.0 == 5).then_some(()),
        )
        .await;
        second.execute("COMMIT").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(receive(), meanwhile);
    assert_eq!((outcome.version, outcome.position), (6, 6));
    assert_eq!(receive().await.version, 7);
    assert_eq!(shop.stock(lamp.id).await, (6, 0));
    behind.close().await;
    shop.finish().await;
}

/// Waits until a writer waits for a lock of this kind.
async fn waiting(shop: &Shop, kind: &str) {
    kontor_tests::eventually(&format!("a writer waits for a lock: {kind}"), async || {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                            WHERE NOT l.granted AND l.locktype = $1 AND a.application_name = 'kontor writer'
                              AND a.datname = current_database())",
        )
        .bind(kind)
        .fetch_one(&shop.pool)
        .await
        .unwrap();
        waits.then_some(())
    })
    .await;
}

/// Waits until so many wait for the writers' lock.
async fn waiting_for_lock(shop: &Shop, number: i64) {
    kontor_tests::eventually("everybody waits for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        (count(shop, waiting).await == number).then_some(())
    })
    .await;
}
