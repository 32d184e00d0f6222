//! Why something happened, from the request to the last event it set off (L9).

use std::collections::{BTreeMap, HashSet};

use kontor_eventstore::Body;
use kontor_eventstore::read::read;
use kontor_tests::api::ApiShop;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_an_order_leads_back_to_the_request() {
    let api = ApiShop::start().await;
    let (lamp, bell) = (
        api.product("LAMP").stock(5).await,
        api.product("BELL").stock(5).await,
    );
    api.caught_up().await;
    let before = kontor_eventstore::read::head(&api.pool).await.unwrap();
    let shopper = api.shopper().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = shopper
        .clone()
        .with_header("x-request-id", "checkout-7")
        .with_header("traceparent", traceparent);
    let order = traced.place(&[(&lamp, 1), (&bell, 2)]).await;
    api.until_status(order.order_id(), "CONFIRMED").await;
    api.caught_up().await;

    let events = read(&api.pool, before, 100).await.unwrap();
    let mut commands = HashSet::new();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| !matches!(event.body, Body::User(..)))
    {
        let metadata = event.metadata().unwrap();
        let kind = event.event_type();
        assert_eq!(metadata.correlation_id, "checkout-7", "{kind}");
        assert_eq!(metadata.traceparent.as_deref(), Some(traceparent), "{kind}");
        assert_eq!(metadata.backdated, None);
        assert_eq!(
            metadata.time,
            event.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            "{kind}"
        );
        assert!(
            commands.insert(metadata.command_id.clone()),
            "each is a command of its own"
        );
        if event.position == order.position {
            assert_eq!((metadata.actor, metadata.causation_id), (shopper.id(), None));
        } else {
            assert_eq!(metadata.actor, "system:order_process", "{kind}");
            // All of it was set off by the first event of this order.
            assert_eq!(
                metadata.causation_id,
                Some(format!("order/{}/1", order.id)),
                "{kind}"
            );
        }
        *kinds.entry(kind).or_default() += 1;
    }
    let kinds: Vec<(&str, usize)> = kinds
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(
        kinds.iter().map(|(_, count)| count).sum::<usize>(),
        4,
        "{kinds:?}"
    );

    // A request that names nothing is given a name, and each its own.
    let others = [
        shopper.place(&[(&lamp, 1)]).await,
        shopper.place(&[(&lamp, 1)]).await,
    ];
    let mut names = HashSet::new();
    for other in others {
        let event = read(&api.pool, other.position - 1, 1).await.unwrap().remove(0);
        let metadata = event.metadata().unwrap();
        assert_eq!(metadata.traceparent, None);
        assert!(!metadata.correlation_id.is_empty() && names.insert(metadata.correlation_id));
    }
    api.finish().await;
}
