//! What must be true of stock and orders whenever nothing is under way.

use std::collections::BTreeMap;

use kontor_domain::order::stock_needed;
use kontor_domain::{OrderId, Product, ProductId, Quantity};
use kontor_projections::orders::{OrderFilter, OrderRow};
use kontor_projections::products::{ProductFilter, ProductSort};
use kontor_projections::{orders, products};

use crate::shop::Shop;

/// More rows than any test makes.
const ALL: i64 = 100_000;

impl Shop {
    /// Every order as the view has it, newest first.
    pub async fn orders(&self) -> Vec<OrderRow> {
        orders::list(&self.pool, &OrderFilter::default(), None, ALL)
            .await
            .unwrap()
    }

    /// Proves, by the log, that no order waits, that each confirmed order holds what it needs, that no other holds
    /// anything, and that nothing is promised that is not there. Waits until everybody has caught up: one view may tell of an
    /// order before another tells of its stock.
    pub async fn books_balance(&self) {
        self.caught_up().await;
        let mut holds: BTreeMap<(ProductId, OrderId), Quantity> = BTreeMap::new();
        for row in self.orders().await {
            assert_ne!(row.status, "PENDING", "{} waits for ever", row.id);
            if row.status == "CONFIRMED" {
                let id: OrderId = row.id.parse().unwrap();
                let needed = stock_needed(&row.items).unwrap();
                holds.extend(
                    needed
                        .into_iter()
                        .map(|(product, quantity)| ((product, id), quantity)),
                );
            }
        }
        let everything = ProductFilter::default();
        for row in products::list(&self.pool, &everything, ProductSort::Newest, None, ALL)
            .await
            .unwrap()
        {
            let id: ProductId = row.id.parse().unwrap();
            let theirs: Vec<_> = holds.iter().filter(|((product, _), _)| *product == id).collect();
            let expected: u64 = theirs.iter().map(|(_, quantity)| u64::from(**quantity)).sum();
            let look = |product: &Product, _| {
                for ((_, order), quantity) in &theirs {
                    assert_eq!(product.reservation(*order), Some(**quantity), "{order} of {id}");
                }
                // No less than these by the line above, so no more by this one.
                assert_eq!(product.reserved(), expected, "reserved of {id}");
                assert!(product.reserved() <= product.on_hand(), "{id} is oversold");
                (product.on_hand(), product.reserved())
            };
            let (on_hand, reserved) = self.store.inspect::<Product, _>(id, look).await.unwrap();
            assert_eq!(
                (row.on_hand, row.reserved),
                (on_hand.cast_signed(), reserved.cast_signed()),
                "the view of {id}"
            );
        }
    }
}
