//! What products are sold as: name, price, whether they are sold at all. In memory, for placing orders.
//!
//! An offer changes seldom, while every order changes its product's stock. So offers are kept here until the log says that one
//! has changed, and no order waits for the stock of a product to be read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kontor_domain::{Money, ProductEvent, ProductId, ProductName, Sku};
use kontor_eventstore::{Body, Progress, Store};
use quick_cache::sync::Cache;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::products::{self, ProductRow, Products};
use crate::view::View;

/// Offers kept.
const KEPT: usize = 10_000;
/// Kept for at most this long: a product that was parked moves on without a new event in the log.
const LONGEST: Duration = Duration::from_secs(120);
/// Events looked at in one go.
const BATCH: usize = 1_000;
/// How long to wait when the log cannot be read.
const PAUSE: Duration = Duration::from_millis(100);

/// What a product is sold as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Stock keeping unit.
    pub sku: Sku,
    /// What it is called.
    pub name: ProductName,
    /// Price of a piece.
    pub price: Money,
    /// Whether it can be ordered.
    pub listed: bool,
}

/// Why offers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OffersError {
    /// Postgres does not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row that no event can have made.
    #[error("the row of product {id}: {problem}")]
    Malformed {
        /// Whose.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The offers of the shop, as the products view has them or newer than that. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Offers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    progress: Arc<Progress>,
    /// And since when it is known.
    known: Cache<ProductId, (Arc<Offer>, Instant)>,
    /// Position of the newest event that changed an offer. A row read from a view that had not come so far may lack it.
    changed: Mutex<u64>,
}

impl Offers {
    /// Starts watching the log for changes, until `stop`.
    #[must_use]
    pub fn spawn(store: Store, progress: Arc<Progress>, stop: CancellationToken) -> Self {
        let head = *store.head().borrow();
        let offers = Self(Arc::new(Inner {
            store,
            progress,
            known: Cache::new(KEPT),
            changed: Mutex::new(head),
        }));
        tokio::spawn(offers.clone().watch(head, stop));
        offers
    }

    /// The offers of these products; those that the view does not have are left out.
    ///
    /// # Errors
    /// See [`OffersError`].
    pub async fn get(
        &self,
        ids: impl IntoIterator<Item = ProductId>,
    ) -> Result<HashMap<ProductId, Arc<Offer>>, OffersError> {
        let mut offers = HashMap::new();
        let mut missing = Vec::new();
        for id in ids {
            match self.0.known.get(&id) {
                Some((offer, since)) if since.elapsed() < LONGEST => {
                    offers.insert(id, offer);
                }
                _ => missing.push(id.to_string()),
            }
        }
        if !missing.is_empty() {
            offers.extend(self.read(&missing).await?);
        }
        Ok(offers)
    }

    async fn read(&self, ids: &[String]) -> Result<HashMap<ProductId, Arc<Offer>>, OffersError> {
        // Asked before the rows are: they are at least as new.
        let reached = *self.0.progress.watch(Products::NAME).borrow();
        let rows = products::by_ids(self.0.store.pool(), ids).await?;
        let read: HashMap<ProductId, Arc<Offer>> = rows.iter().map(offer).collect::<Result<_, _>>()?;
        // A change behind this moment waits for the lock, and then takes away what was put in here.
        let changed = self.changed();
        if reached >= *changed {
            for (id, offer) in &read {
                self.0.known.insert(*id, (Arc::clone(offer), Instant::now()));
            }
        }
        Ok(read)
    }

    fn changed(&self) -> MutexGuard<'_, u64> {
        self.0.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(self, mut seen: u64, stop: CancellationToken) {
        let mut head = self.0.store.head();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                moved = head.wait_for(|head| *head > seen) => if moved.is_err() { return },
            }
            match self.0.store.after(seen, BATCH).await {
                Ok(events) => {
                    for event in events {
                        seen = event.position;
                        if let Body::Product(id, it) = &event.body
                            && changes_offer(it)
                        {
                            let mut changed = self.changed();
                            *changed = seen;
                            self.0.known.remove(id);
                        }
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot see which offers change, trying again");
                    self.0.known.clear();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether an order placed behind the event would read otherwise than one before it.
fn changes_offer(event: &ProductEvent) -> bool {
    match event {
        ProductEvent::DetailsChanged { .. }
        | ProductEvent::PriceChanged { .. }
        | ProductEvent::Discontinued { .. }
        | ProductEvent::Relisted {} => true,
        // Nobody can have asked for a product before it was created, and not found is never kept.
        ProductEvent::Created { .. }
        | ProductEvent::CategoryChanged { .. }
        | ProductEvent::StockReceived { .. }
        | ProductEvent::StockAdjusted { .. }
        | ProductEvent::StockReserved { .. }
        | ProductEvent::ReservationRefused { .. }
        | ProductEvent::ReservationReleased { .. }
        | ProductEvent::ReservationCommitted { .. }
        | ProductEvent::StockReturned { .. } => false,
    }
}

fn offer(row: &ProductRow) -> Result<(ProductId, Arc<Offer>), OffersError> {
    let malformed = |problem: String| OffersError::Malformed {
        id: row.id.clone(),
        problem,
    };
    let currency = row
        .currency
        .parse()
        .map_err(|_| malformed(format!("{} is no currency", row.currency)))?;
    let offer = Offer {
        sku: Sku::new(row.sku.as_str()).map_err(|error| malformed(error.to_string()))?,
        name: ProductName::new(row.name.as_str()).map_err(|error| malformed(error.to_string()))?,
        price: Money::new(row.price_minor, currency).map_err(|error| malformed(error.to_string()))?,
        listed: row.listed,
    };
    let id = row
        .id
        .parse()
        .map_err(|_| malformed("its id is no product's".to_owned()))?;
    Ok((id, Arc::new(offer)))
}
