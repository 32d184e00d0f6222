use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema, ServerError};
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::*;
use crate::Limits;
use crate::documents::Engine;

struct Query;

#[Object]
impl Query {
    async fn nothing(&self) -> bool {
        true
    }
}

/// Things that happen, one after another, from position 1.
#[derive(Clone)]
struct Log {
    head: watch::Sender<u64>,
    resolved: Arc<AtomicUsize>,
    /// The position whose resolver fails, if one does.
    fails_at: Option<u64>,
}

impl Log {
    fn new(fails_at: Option<u64>) -> Self {
        Self {
            head: watch::Sender::new(0),
            resolved: Arc::default(),
            fails_at,
        }
    }

    fn happen(&self) -> u64 {
        self.head.send_modify(|head| *head += 1);
        *self.head.borrow()
    }

    fn resolved(&self) -> usize {
        self.resolved.load(Ordering::SeqCst)
    }

    /// All that happens behind `after`.
    fn execution(&self, after: u64) -> Execution {
        let place = Place::default();
        let (log, here) = (self.clone(), place.clone());
        let responses = Box::pin(async_stream::stream! {
            let mut head = log.head.subscribe();
            for position in after + 1.. {
                if head.wait_for(|head| *head >= position).await.is_err() {
                    return;
                }
                here.set(position);
                tokio::task::yield_now().await;
                log.resolved.fetch_add(1, Ordering::SeqCst);
                yield if log.fails_at == Some(position) {
                    Response::from_errors(vec![ServerError::new(format!("{position} failed"), None)])
                } else {
                    Response::new(position)
                };
            }
        });
        Execution { responses, place }
    }

    fn follow(&self, multiplexer: &Multiplexer, asked: Asked, after: u64) -> BoxStream<'static, Response> {
        multiplexer.follow(asked, self.execution(after), || self.execution(after))
    }
}

fn document() -> Arc<Prepared> {
    let engine = Engine::new(
        Schema::new(Query, EmptyMutation, EmptySubscription),
        Limits::default(),
    );
    engine.prepare("subscription { updates }").unwrap()
}

fn asked(document: &Arc<Prepared>, variables: &str) -> Asked {
    Asked {
        document: Arc::clone(document),
        operation: None,
        variables: variables.to_owned(),
        viewer: None,
    }
}

fn position(response: &Response) -> u64 {
    match &response.data {
        Value::Number(number) => number.as_u64().unwrap(),
        other => panic!("{other}"),
    }
}

async fn next(stream: &mut BoxStream<'static, Response>) -> Response {
    let response = timeout(Duration::from_secs(3_600), stream.next()).await;
    response.expect("something is heard").expect("it goes on")
}

async fn hear(stream: &mut BoxStream<'static, Response>, positions: std::ops::RangeInclusive<u64>) {
    for expected in positions {
        assert_eq!(position(&next(stream).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_same_is_answered_by_one_execution() {
    const LISTENERS: usize = 100;
    let (log, multiplexer, document) = (Log::new(None), Multiplexer::default(), document());
    let mut streams: Vec<_> = (0..LISTENERS)
        .map(|_| log.follow(&multiplexer, asked(&document, "{}"), 0))
        .collect();
    for _ in 0..3 {
        let happened = log.happen();
        join_all(streams.iter_mut().map(|it| hear(it, happened..=happened))).await;
    }
    let before = log.resolved();
    for _ in 0..50 {
        let happened = log.happen();
        join_all(streams.iter_mut().map(|it| hear(it, happened..=happened))).await;
    }
    // The first one's own, and the common one.
    assert_eq!(log.resolved() - before, 2 * 50);
}

/// Whoever comes when, from where, however slow: everything behind where they began, once and in order.
#[tokio::test(start_paused = true)]
async fn everybody_hears_everything_once_in_order() {
    const EVENTS: u64 = 400;
    for seed in 0..20_u64 {
        let (log, multiplexer, document) = (Log::new(None), Multiplexer::default(), document());
        let listeners = (0..24_u64).map(|number| {
            let (log, multiplexer, document) = (log.clone(), multiplexer.clone(), Arc::clone(&document));
            // Any mixture does, as long as it is another each time.
            let dice = (seed * 24 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            tokio::spawn(async move {
                sleep(Duration::from_millis(dice % 200)).await;
                let after = if dice.is_multiple_of(3) {
                    0
                } else {
                    *log.head.borrow()
                };
                let mut stream = log.follow(&multiplexer, asked(&document, "{}"), after);
                for expected in after + 1..=EVENTS {
                    assert_eq!(position(&next(&mut stream).await), expected, "listener {number}");
                    // Some fall behind by more than is kept for them, now and then.
                    if dice.is_multiple_of(5) && expected.is_multiple_of(50) {
                        sleep(Duration::from_millis(60)).await;
                    }
                }
            })
        });
        let listeners: Vec<_> = listeners.collect();
        for event in 0..EVENTS {
            log.happen();
            sleep(Duration::from_millis((event * seed) % 3)).await;
        }
        for listener in listeners {
            listener.await.unwrap();
        }
        assert!(multiplexer.groups().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_something_else_has_an_execution_of_their_own() {
    let (log, multiplexer, document) = (Log::new(None), Multiplexer::default(), document());
    let mut streams: Vec<_> = (0..4)
        .map(|number| log.follow(&multiplexer, asked(&document, &format!("{{\"id\":{number}}}")), 0))
        .collect();
    for _ in 0..10 {
        let happened = log.happen();
        join_all(streams.iter_mut().map(|it| hear(it, happened..=happened))).await;
    }
    assert_eq!(log.resolved(), 4 * 10);
    assert_eq!(multiplexer.groups().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_everybodys_own_and_nothing_is_lost_by_it() {
    let (log, multiplexer, document) = (Log::new(Some(5)), Multiplexer::default(), document());
    let mut streams: Vec<_> = (0..3)
        .map(|_| log.follow(&multiplexer, asked(&document, "{}"), 0))
        .collect();
    for happened in 1..=8 {
        log.happen();
        for stream in &mut streams {
            let response = next(stream).await;
            if happened == 5 {
                assert_eq!(response.errors[0].message, "5 failed");
            } else {
                assert_eq!(position(&response), happened);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_last_one_leaves_nothing_stays_behind() {
    let (log, multiplexer, document) = (Log::new(None), Multiplexer::default(), document());
    let mut streams: Vec<_> = (0..3)
        .map(|_| log.follow(&multiplexer, asked(&document, "{}"), 0))
        .collect();
    for _ in 0..3 {
        let happened = log.happen();
        join_all(streams.iter_mut().map(|it| hear(it, happened..=happened))).await;
    }
    assert_eq!(multiplexer.groups().len(), 1);
    drop(streams);
    assert!(multiplexer.groups().is_empty());
    // The common execution hears of it.
    sleep(Duration::from_millis(1)).await;
    let before = log.resolved();
    log.happen();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(log.resolved(), before);
}

#[test]
fn the_same_is_the_same_document_variables_and_session() {
    use kontor_domain::SessionId;
    let (one, other) = (document(), document());
    let viewer = |session: SessionId| {
        Some(Viewer {
            user_id: "usr_01J00000000000000000000000".parse().unwrap(),
            roles: Arc::from([]),
            session,
        })
    };
    let somebody = |session| Asked {
        viewer: viewer(session),
        ..asked(&one, "{}")
    };
    let [a, b] = [0, 1].map(|n| format!("ses_01J0000000000000000000000{n}").parse().unwrap());
    let all = [
        asked(&one, "{}"),
        asked(&one, "{}"),
        asked(&other, "{}"),
        asked(&one, "{\"id\":1}"),
        Asked {
            operation: Some("A".to_owned()),
            ..asked(&one, "{}")
        },
        somebody(a),
        somebody(a),
        somebody(b),
    ];
    let same: BTreeSet<(usize, usize)> = (0..all.len())
        .flat_map(|i| (i + 1..all.len()).map(move |j| (i, j)))
        .filter(|(i, j)| all[*i] == all[*j])
        .collect();
    assert_eq!(same, BTreeSet::from([(0, 1), (5, 6)]));
}
