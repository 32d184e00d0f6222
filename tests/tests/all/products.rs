//! The view of products.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_domain::{OrderId, Product, ProductCommand};
use kontor_eventstore::ManualClock;
use kontor_projections::products::{self, ProductFilter, ProductKey, ProductRow, ProductSort, Products};
use kontor_tests::examples::{gbp, pieces, reason};
use kontor_tests::{Opening, Shop};

use crate::projecting::project;

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn a_row_is_what_the_events_say() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = Opening::default()
        .quiet()
        .clock(Arc::clone(&clock) as _)
        .open()
        .await;
    let lamp = shop
        .product("Lamp-1")
        .name("Lantern")
        .category("Light")
        .price(12_50)
        .await;
    project::<Products>(&shop).await;
    let created = ProductRow {
        id: lamp.id.to_string(),
        sku: "Lamp-1".to_owned(),
        name: "Lantern".to_owned(),
        description: String::new(),
        category: "Light".to_owned(),
        price_minor: 12_50,
        currency: "GBP".to_owned(),
        on_hand: 0,
        reserved: 0,
        available: 0,
        units_sold: 0,
        listed: true,
        created_at: noon(),
        updated_at: noon(),
        version: 1,
        position: 1,
    };
    assert_eq!(shop.product_row(lamp.id).await, created);

    let later = noon() + TimeDelta::minutes(5);
    clock.set(later);
    let (first, second) = (
        OrderId::from_ulid(shop.store.ids().next()),
        OrderId::from_ulid(shop.store.ids().next()),
    );
    let reserve = |order_id, number| ProductCommand::Reserve {
        order_id,
        quantity: pieces(number),
    };
    for command in [
        ProductCommand::ChangeDetails {
            name: "Storm lantern".parse().unwrap(),
            description: "Burns\nin wind".parse().unwrap(),
        },
        ProductCommand::ChangeCategory {
            category: "Outdoors".parse().unwrap(),
        },
        ProductCommand::ChangePrice { price: gbp(9_99) },
        ProductCommand::ReceiveStock {
            quantity: pieces(20),
            reference: Some(reason("delivery 7")),
        },
        ProductCommand::AdjustStock {
            delta: (-3).try_into().unwrap(),
            reason: reason("breakage"),
        },
        reserve(first, 5),
        reserve(second, 4),
        reserve(OrderId::from_ulid(shop.store.ids().next()), 100), // refused
        ProductCommand::Release { order_id: second },
        ProductCommand::Commit { order_id: first },
        ProductCommand::ReturnStock {
            order_id: first,
            quantity: pieces(2),
        },
        reserve(second, 1),
        ProductCommand::Discontinue { reason: None },
    ] {
        shop.send::<Product>(lamp.id, command).await;
    }
    project::<Products>(&shop).await;
    let row = shop.product_row(lamp.id).await;
    let expected = ProductRow {
        name: "Storm lantern".to_owned(),
        description: "Burns\nin wind".to_owned(),
        category: "Outdoors".to_owned(),
        price_minor: 9_99,
        on_hand: 14,
        reserved: 1,
        available: 13,
        units_sold: 5,
        listed: false,
        updated_at: later,
        version: 14,
        position: 14,
        ..created
    };
    assert_eq!(row, expected);
    shop.send::<Product>(lamp.id, ProductCommand::Relist).await;
    project::<Products>(&shop).await;
    assert!(shop.product_row(lamp.id).await.listed);
    shop.finish().await;
}

/// Where a row stands in an order, but for ties.
type Place = fn(&ProductRow) -> (String, i64);
/// Whether a row passes a filter.
type Passes = fn(&ProductRow) -> bool;

/// A catalogue with ties in every order.
async fn catalogue(clock: &ManualClock, shop: &Shop) -> Vec<ProductRow> {
    let names = [
        "oar", "Anchor", "äpfel", "Oar", "zinc", "anchor", "Bell", "bell", "Buoy", "Åland",
    ];
    for (n, name) in names.iter().enumerate() {
        // Two at a time are as old as each other.
        clock.set(noon() + TimeDelta::minutes(i64::try_from(n / 2).unwrap()));
        let n = u32::try_from(n).unwrap();
        let category = if n.is_multiple_of(2) { "Deck" } else { "Hold" };
        let item = shop
            .product(&format!("S{n}"))
            .name(name)
            .category(category)
            .price(i64::from(n % 4) * 100)
            .stock(n % 3)
            .await;
        if n == 7 {
            shop.send::<Product>(item.id, ProductCommand::Discontinue { reason: None })
                .await;
        }
    }
    project::<Products>(shop).await;
    let all = products::list(
        &shop.pool,
        &ProductFilter::default(),
        ProductSort::Newest,
        None,
        100,
    )
    .await
    .unwrap();
    assert_eq!(all.len(), names.len());
    all
}

#[tokio::test]
async fn pages_of_every_order_hold_every_product_once() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = Opening::default()
        .quiet()
        .clock(Arc::clone(&clock) as _)
        .open()
        .await;
    let all = catalogue(&clock, &shop).await;
    let sorts: [(ProductSort, Place); 5] = [
        (ProductSort::Name, |row| (row.name.to_lowercase(), 0)),
        (ProductSort::PriceAscending, |row| {
            (String::new(), row.price_minor)
        }),
        (ProductSort::PriceDescending, |row| {
            (String::new(), -row.price_minor)
        }),
        (ProductSort::Newest, |row| {
            (String::new(), -row.created_at.timestamp_micros())
        }),
        (ProductSort::BestSelling, |row| (String::new(), -row.units_sold)),
    ];
    for (sort, key) in sorts {
        for size in [1, 3, 100] {
            let mut pages: Vec<ProductRow> = Vec::new();
            loop {
                let after = pages.last().map(|row| ProductKey::of(row, sort));
                let page = products::list(&shop.pool, &ProductFilter::default(), sort, after.as_ref(), size)
                    .await
                    .unwrap();
                if page.is_empty() {
                    break;
                }
                pages.extend(page);
            }
            let keys: Vec<_> = pages.iter().map(key).collect();
            assert!(keys.is_sorted(), "{sort:?} by {size}: {keys:?}");
            let mut ids: Vec<_> = pages.iter().map(|row| &row.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(
                (ids.len(), pages.len()),
                (all.len(), all.len()),
                "{sort:?} by {size}"
            );
        }
    }
    shop.finish().await;
}

#[tokio::test]
async fn filters_let_through_what_they_say() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = Opening::default()
        .quiet()
        .clock(Arc::clone(&clock) as _)
        .open()
        .await;
    let all = catalogue(&clock, &shop).await;
    let some = ProductFilter::default;
    let filters: [(ProductFilter, Passes); 8] = [
        (
            ProductFilter {
                category: Some("Deck".to_owned()),
                ..some()
            },
            |row| row.category == "Deck",
        ),
        (
            ProductFilter {
                category: Some("deck".to_owned()),
                ..some()
            },
            |_| false,
        ),
        (
            ProductFilter {
                min_price_minor: Some(100),
                max_price_minor: Some(200),
                ..some()
            },
            |row| (100..=200).contains(&row.price_minor),
        ),
        (
            ProductFilter {
                in_stock: Some(true),
                ..some()
            },
            |row| row.available > 0,
        ),
        (
            ProductFilter {
                in_stock: Some(false),
                ..some()
            },
            |row| row.available == 0,
        ),
        (
            ProductFilter {
                listed: Some(false),
                ..some()
            },
            |row| row.name == "bell",
        ),
        (
            ProductFilter {
                search: Some("OAR".to_owned()),
                ..some()
            },
            |row| row.name.to_lowercase() == "oar",
        ),
        (
            ProductFilter {
                search: Some("s3".to_owned()),
                in_stock: Some(false),
                ..some()
            },
            |row| row.sku == "S3",
        ),
    ];
    for (filter, expected) in filters {
        let mut found: Vec<_> = products::list(&shop.pool, &filter, ProductSort::Name, None, 100)
            .await
            .unwrap()
            .into_iter()
            .map(|row| row.id)
            .collect();
        let mut expected: Vec<_> = all
            .iter()
            .filter(|row| expected(row))
            .map(|row| row.id.clone())
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
    }
    // Not a pattern.
    let percent = ProductFilter {
        search: Some("%".to_owned()),
        ..some()
    };
    assert_eq!(
        products::list(&shop.pool, &percent, ProductSort::Name, None, 100)
            .await
            .unwrap(),
        []
    );

    let by_sku = products::by_sku(&shop.pool, "s4").await.unwrap().unwrap();
    assert_eq!(by_sku.sku, "S4");
    assert_eq!(products::by_sku(&shop.pool, "S44").await.unwrap(), None);
    shop.finish().await;
}
