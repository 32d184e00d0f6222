//! What was once stored can be read for ever: one file for every version of every event there has been (L10).
//!
//! A file is never changed. When an event's type changes, its version rises, a file of the new version is added, and the
//! old one must still decode through the upcasters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cqrs_es::{Aggregate, DomainEvent};
use kontor_domain::{Order, OrderEvent, OrderId, Product, ProductEvent, ProductId, User, UserEvent, UserId};
use kontor_eventstore::read::read;
use kontor_eventstore::{Body, Metadata};
use kontor_tests::Shop;
use serde_json::Value;

/// The names of all variants. Does not compile when one is missing.
macro_rules! variants {
    ($event:ident: $($variant:ident),* $(,)?) => {{
        fn all_there_are(event: &$event) {
            match event { $($event::$variant { .. } => {})* }
        }
        let _ = all_there_are;
        vec![$(stringify!($variant)),*]
    }};
}

fn events() -> [(&'static str, Vec<&'static str>); 3] {
    let user = variants!(UserEvent: Registered, ProfileChanged, EmailChanged, EmailVerified, ChannelsChosen, PasswordChanged, RoleGranted,
                         RoleRevoked, Deactivated, Reactivated, PaymentMethodSaved, PaymentMethodRemoved, Erased);
    let product = variants!(ProductEvent: Created, DetailsChanged, CategoryChanged, PriceChanged, StockReceived,
                            StockAdjusted, StockReserved, ReservationRefused, ReservationReleased,
                            ReservationCommitted, StockReturned, Discontinued, Relisted);
    let order = variants!(OrderEvent: Placed, Reserved, PaymentActionRequired, PaymentAuthorised, PaymentDeclined, PaymentCaptured,
                         PaymentVoided, PaymentRefunded, RefundOrdered, SettledByHand, RetryRequested, Confirmed, Rejected, Cancelled,
                         Shipped, Delivered, ItemsReturned);
    [(User::TYPE, user), (Product::TYPE, product), (Order::TYPE, order)]
}

fn folder(aggregate: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(aggregate)
}

/// `<EventType>-<version>.json`, parsed, by event type and version; `<EventType>-<version>.<form>.json` is another form
/// of the same version, which has fields that the first leaves out.
fn files(aggregate: &str) -> BTreeMap<(String, u32, String), Value> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder(aggregate)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (versioned, form) = name.split_once('.').unwrap_or((&name, ""));
        let (event_type, version) = versioned
            .rsplit_once('-')
            .unwrap_or_else(|| panic!("{name} says no version"));
        let json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let key = (event_type.to_owned(), version.parse().unwrap(), form.to_owned());
        files.insert(key, json);
    }
    files
}

#[test]
fn there_is_a_file_for_every_version_of_every_event_and_no_other() {
    for (aggregate, variants) in events() {
        let files = files(aggregate);
        let mut expected = BTreeSet::new();
        for variant in variants {
            let newest = files
                .keys()
                .filter(|(name, ..)| name == variant)
                .map(|(_, version, _)| *version)
                .max()
                .unwrap_or(1);
            expected.extend((1..=newest).map(|version| (variant.to_owned(), version)));
        }
        assert_eq!(
            files
                .into_keys()
                .map(|(name, version, _)| (name, version))
                .collect::<BTreeSet<_>>(),
            expected,
            "golden files of {aggregate}"
        );
    }
}

/// Today's version comes out as it went in, and says itself which version that is.
fn round_trips<A: Aggregate>() {
    let files = files(A::TYPE);
    for ((event_type, version, _), json) in &files {
        if files.contains_key(&(event_type.clone(), version + 1, String::new())) {
            continue;
        }
        let event: A::Event =
            serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{event_type}: {error}"));
        assert_eq!(event.event_type(), *event_type);
        assert_eq!(
            event.event_version(),
            version.to_string(),
            "a golden file of the newest {event_type} is missing"
        );
        assert_eq!(serde_json::to_value(&event).unwrap(), *json, "{event_type}");
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            serde_json::from_str::<A::Event>(&text).unwrap(),
            event,
            "{event_type}"
        );
    }
}

#[test]
fn metadata_is_read_and_written_as_it_always_was() {
    for (name, json) in files("metadata") {
        let metadata: Metadata =
            serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        assert_eq!(serde_json::to_value(&metadata).unwrap(), json, "{name:?}");
        // cqrs-es reads it as an object of strings, without others inside.
        assert!(
            json.as_object().unwrap().values().all(Value::is_string),
            "{name:?}"
        );
    }
}

#[test]
fn the_newest_version_of_every_event_round_trips() {
    round_trips::<User>();
    round_trips::<Product>();
    round_trips::<Order>();
}

/// The way every reader of the log goes, upcasters included.
#[tokio::test]
async fn every_version_of_every_event_can_be_read_from_the_log() {
    let shop = Shop::quiet().await;
    let ids = BTreeMap::from([
        (User::TYPE, UserId::from_ulid(shop.store.ids().next()).to_string()),
        (
            Product::TYPE,
            ProductId::from_ulid(shop.store.ids().next()).to_string(),
        ),
        (
            Order::TYPE,
            OrderId::from_ulid(shop.store.ids().next()).to_string(),
        ),
    ]);
    let mut written = 0_i64;
    for (aggregate, _) in events() {
        for (sequence, ((event_type, version, _), json)) in (1_i64..).zip(files(aggregate)) {
            written += 1;
            sqlx::query(
                "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position)
                 VALUES ($1, $2, $3, $4, $5, $6, '{}', $7)",
            )
            .bind(aggregate)
            .bind(&ids[aggregate])
            .bind(sequence)
            .bind(event_type)
            .bind(version.to_string())
            .bind(json)
            .bind(written)
            .execute(&shop.pool)
            .await
            .unwrap();
        }
    }
    let events = read(&shop.pool, 0, 1_000).await.unwrap();
    assert_eq!(events.len(), usize::try_from(written).unwrap());
    for event in events {
        assert!(!matches!(event.body, Body::Unreadable(_)), "{:?}", event.body);
    }
    shop.finish().await;
}
