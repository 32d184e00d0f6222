//! A follower that is cut off and comes back misses nothing and sees nothing twice, wherever it comes back to.

use std::sync::Arc;

use kontor_tests::api::{ApiShop, Client, Heard, Topic, Way};
use kontor_tests::{Item, PATIENCE, eventually};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What an update is of: the row's id and its version, which are the event's aggregate and sequence in the log.
type Seen = (String, u64);

/// The log's own account of a topic, in order.
async fn logged(api: &ApiShop, condition: &str) -> Vec<Seen> {
    let sql = format!("SELECT aggregate_id, sequence FROM events e WHERE {condition} ORDER BY position");
    let rows: Vec<(String, i64)> = sqlx::query_as(&sql).fetch_all(&api.pool).await.unwrap();
    rows.into_iter()
        .map(|(id, sequence)| (id, sequence.cast_unsigned()))
        .collect()
}

fn seen(node: &Value) -> Seen {
    (
        node["id"].as_str().unwrap().to_owned(),
        node["version"].as_u64().unwrap(),
    )
}

/// One who follows: which way, what, and in how long visits.
struct Follower {
    desks: [Client; 2],
    way: Way,
    topic: Topic,
    stride: usize,
    /// Set with the last of what there is to see, when everything has happened.
    end: watch::Receiver<Option<Seen>>,
    /// Told once the first update has come.
    begun: Arc<watch::Sender<usize>>,
}

impl Follower {
    /// Follows, first without a cursor, then again and again with the last one, each time at the other process, until
    /// everything has been seen. What it saw.
    async fn follow(mut self) -> Vec<Seen> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        for visit in 0.. {
            let desk = self.desks[visit % 2].clone();
            let mut feed = desk.follow(self.way, &self.topic, cursor.as_deref()).await;
            for _ in 0..=(visit * self.stride) % 7 {
                let last = all.last().cloned();
                let change = tokio::select! {
                    change = feed.next() => change,
                    end = self.end.wait_for(|end| end.is_some() && *end == last) => {
                        let _ = end.unwrap();
                        return all;
                    }
                };
                if all.is_empty() {
                    self.begun.send_modify(|begun| *begun += 1);
                }
                all.push(seen(&change.node));
                cursor = Some(change.cursor);
                if all.len().is_multiple_of(5) && all[0].0.starts_with("ord_") {
                    not_older(&desk, all.last().unwrap()).await;
                }
            }
        }
        unreachable!("visits never end")
    }
}

/// Whoever was told of an order's version and asks, without a word about positions, gets that version or a newer one.
async fn not_older(desk: &Client, (id, version): &Seen) {
    let now = desk.order(id, "version").await["version"].as_u64().unwrap();
    assert!(now >= *version, "{id} was told at {version} and is read at {now}");
}

/// Follows a topic both ways while `work` goes on, and compares with the log.
async fn comes_and_goes(
    api: &ApiShop,
    who: &Client,
    topic: Topic,
    condition: &str,
    work: impl AsyncFn(usize),
) {
    let branch = api.branch().await;
    let (end, begun) = (watch::Sender::new(None), Arc::new(watch::Sender::new(0)));
    let followers: Vec<_> = [(Way::Socket, 3), (Way::Events, 5)]
        .into_iter()
        .map(|(way, stride)| {
            let follower = Follower {
                desks: [who.clone(), who.at(&branch)],
                way,
                topic: topic.clone(),
                stride,
                end: end.subscribe(),
                begun: Arc::clone(&begun),
            };
            tokio::spawn(follower.follow())
        })
        .collect();
    // Who follows without a cursor is told of what happens from now on, and nobody says when now is: so something goes
    // on happening until both have begun.
    let mut round = 0;
    let mut waiting = begun.subscribe();
    let began = async { waiting.wait_for(|begun| *begun == 2).await.map(|_| ()).unwrap() };
    let keep_busy = async {
        loop {
            work(round).await;
            round += 1;
        }
    };
    let both = async {
        tokio::select! { () = began => {}, () = keep_busy => {} }
    };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("both followers are told something");
    for more in 0..12 {
        work(round + 1 + more).await;
    }
    api.caught_up().await;
    let log = logged(api, condition).await;
    end.send_replace(log.last().cloned());
    for follower in followers {
        let all = follower.await.unwrap();
        let from = log
            .iter()
            .position(|it| *it == all[0])
            .expect("what was seen first happened");
        assert_eq!(all, log[from..], "{topic:?}");
        assert!(all.len() >= 12);
    }
    branch.close().await;
}

/// An order that goes all the way.
async fn buy(shopper: &Client, staff: &Client, api: &ApiShop, item: &Item) {
    let order = shopper.place(&[(item, 1)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    let _ = staff.ship(&order.id).await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_orders() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(1_000).await;
    let (one, other, staff) = (api.shopper().await, api.shopper().await, api.staff().await);
    let work = async |round: usize| buy([&one, &other][round % 2], &staff, &api, &lamp).await;
    comes_and_goes(
        &api,
        &staff,
        Topic::all_orders(),
        "aggregate_type = 'order'",
        work,
    )
    .await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_customers_orders() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(1_000).await;
    let (one, other, staff) = (api.shopper().await, api.shopper().await, api.staff().await);
    let work = async |round: usize| buy([&one, &other, &one][round % 3], &staff, &api, &lamp).await;
    let condition = format!(
        "aggregate_type = 'order' AND EXISTS (SELECT FROM events p WHERE p.aggregate_type = 'order'
            AND p.aggregate_id = e.aggregate_id AND p.payload->'Placed'->>'customer_id' = '{}')",
        one.id()
    );
    comes_and_goes(&api, &one, Topic::my_orders(), &condition, work).await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_order() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(1_000).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 500)]).await.id;
    api.until_status(order.parse().unwrap(), "CONFIRMED").await;
    let _ = staff.ship(&order).await.done();
    let _ = staff.deliver(&order).await.done();
    let refund = json!({ "amountMinor": 1, "currency": "GBP" });
    let back = json!({ "items": [{ "item": 0, "quantity": 1 }], "refund": refund, "reason": "one too many", "restock": true });
    let work = async |_| drop(staff.change("returnItems", &order, back.clone()).await.done());
    let condition = format!("aggregate_type = 'order' AND aggregate_id = '{order}'");
    comes_and_goes(&api, &shopper, Topic::order(&order), &condition, work).await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_product() {
    let api = ApiShop::start().await;
    let (lamp, bell) = (
        api.product("LAMP").stock(1_000).await,
        api.product("BELL").stock(1_000).await,
    );
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let work = async |round: usize| {
        buy(
            &shopper,
            &staff,
            &api,
            if round.is_multiple_of(4) { &bell } else { &lamp },
        )
        .await;
        let price = json!({ "amountMinor": 100 + round, "currency": "GBP" });
        let reprice = json!({ "productId": lamp.id.to_string(), "price": price });
        let _ = staff.mutation("changeProductPrice", reprice).await.done();
    };
    let condition = format!("aggregate_type = 'product' AND aggregate_id = '{}'", lamp.id);
    comes_and_goes(&api, &api.visitor(), Topic::product(lamp.id), &condition, work).await;
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_process_ends_is_told_so_and_goes_on_at_another() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(10).await;
    let (shopper, staff) = (api.shopper().await, api.staff().await);
    let order = shopper.place(&[(&lamp, 1)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    for (way, ending) in [
        (Way::Socket, Heard::Ended(Some(1012))),
        (Way::Events, Heard::Ended(None)),
    ] {
        let branch = api.branch().await;
        let mut feed = shopper
            .at(&branch)
            .follow(way, &Topic::order(&order.id), None)
            .await;
        let cursor = feed.next().await.cursor;
        let (heard, ()) = tokio::join!(feed.hear(), branch.close());
        assert_eq!(heard, ending, "{way:?}");
        drop(feed);
        // What happened in between comes first.
        let change = match way {
            Way::Socket => staff.ship(&order.id).await,
            Way::Events => staff.deliver(&order.id).await,
        };
        let _ = change.done();
        let mut feed = shopper.follow(way, &Topic::order(&order.id), Some(&cursor)).await;
        let expected = if way == Way::Socket {
            "SHIPPED"
        } else {
            "DELIVERED"
        };
        assert_eq!(feed.next().await.node["status"], expected);
    }
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_cursor_that_is_none_is_refused() {
    let api = ApiShop::start().await;
    let elsewhere = ApiShop::start().await;
    let (lamp, theirs) = (
        api.product("LAMP").stock(1).await,
        elsewhere.product("LAMP").stock(1).await,
    );
    api.caught_up().await;
    elsewhere.caught_up().await;
    let visitor = api.visitor();
    let mut feed = elsewhere
        .visitor()
        .follow(Way::Socket, &Topic::product(theirs.id), None)
        .await;
    let of_another_log = feed.next().await.cursor;
    for cursor in ["", "nonsense", "MQ", &of_another_log] {
        for way in [Way::Socket, Way::Events] {
            let mut feed = visitor.follow(way, &Topic::product(lamp.id), Some(cursor)).await;
            assert_eq!(
                feed.hear().await,
                Heard::Errors(vec!["BAD_USER_INPUT".to_owned()]),
                "{cursor:?} {way:?}"
            );
        }
    }
    drop(feed);
    elsewhere.finish().await;
    api.finish().await;
}

/// What a stranger watches is resolved once for all strangers, whichever way they watch it; not for who is logged in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_many_who_ask_the_same_is_one_execution_beside_the_firsts() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").stock(10).await;
    let (visitor, staff) = (api.visitor(), api.staff().await);
    api.caught_up().await;
    let topic = Topic::product(lamp.id);
    let mut feeds = Vec::new();
    for (client, way) in [
        (&visitor, Way::Socket),
        (&visitor, Way::Events),
        (&visitor, Way::Socket),
        (&visitor, Way::Events),
        (&staff, Way::Socket),
    ] {
        let mut feed = client.follow(way, &topic, None).await;
        assert_eq!(
            feed.next().await.node["price"]["amountMinor"],
            lamp.price.amount_minor()
        );
        feeds.push(feed);
    }
    let common = async || {
        let (_, page) = api.page("/metrics").await;
        page.lines()
            .find_map(|line| line.strip_prefix("kontor_common_executions ").map(str::to_owned))
    };
    for amount in 1..=10 {
        let price = json!({ "amountMinor": amount, "currency": "GBP" });
        let reprice = json!({ "productId": lamp.id.to_string(), "price": price });
        let _ = staff.mutation("changeProductPrice", reprice).await.done();
        for feed in &mut feeds {
            assert_eq!(feed.next().await.node["price"]["amountMinor"], amount);
        }
        // It goes on only while what it says can be told apart.
        assert_eq!(common().await.as_deref(), Some("1"));
    }
    drop(feeds);
    eventually("nobody listens to the common execution", async || {
        (common().await.as_deref() == Some("0")).then_some(())
    })
    .await;
    api.finish().await;
}
