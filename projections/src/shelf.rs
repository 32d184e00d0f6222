//! Product cards in the memory of this process, moved by the log: what is looked at often is read from Redis once.
//!
//! A card here is a row folded on as the view folds it, event by event, once the view has them. So it is as new as the view,
//! and nobody who looks at a product waits for anybody.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kontor_domain::ProductId;
use kontor_eventstore::{Body, Progress, Recorded, Store};
use lru::LruCache;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cards::{ProductCardMirror, ProductCards};
use crate::mirror::MirrorOf;
use crate::products::{ProductRow, Products};
use crate::view::View;

/// Cards kept.
const KEPT: usize = 10_000;
/// Believed for at most this long: a product that was parked moves on without a new event in the log.
const LONGEST: Duration = Duration::from_secs(15);
/// Events looked at in one go, and how far behind a card may be that is still worth being brought up to date.
const BATCH: usize = 4_000;
/// Readings on their way here. When there are more, they are not kept.
const WAITING: usize = 256;
/// How long to wait when the log cannot be read.
const PAUSE: Duration = Duration::from_millis(100);

/// The cards of the shop, as new as its view. Cheap to clone.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    cards: ProductCards,
    store: Store,
    progress: Arc<Progress>,
    places: Mutex<LruCache<ProductId, Place>>,
    readings: mpsc::Sender<Reading>,
}

/// A card, and when it was read.
struct Place {
    card: Arc<ProductRow>,
    since: Instant,
}

/// Cards that have every event up to a position, and perhaps more.
struct Reading {
    cards: HashMap<ProductId, Arc<ProductRow>>,
    upto: u64,
    since: Instant,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

impl Shelf {
    /// An empty shelf that follows the log, until `stop`.
    #[must_use]
    pub fn spawn(
        cards: ProductCards,
        store: Store,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Self {
        let upto = *store.head().borrow();
        let (readings, read) = mpsc::channel(WAITING);
        let shelf = Self(Arc::new(Inner {
            cards,
            store,
            progress,
            // Unbounded as the crate sees it, for otherwise it makes all of its room at once.
            places: Mutex::new(LruCache::unbounded()),
            readings,
        }));
        tokio::spawn(shelf.clone().follow(upto, read, stop));
        shelf
    }

    /// The card of a product, if it is here.
    #[must_use]
    pub fn look(&self, id: ProductId) -> Option<Arc<ProductRow>> {
        let mut places = self.places();
        let place = places.get(&id)?;
        (place.since.elapsed() < LONGEST).then(|| Arc::clone(&place.card))
    }

    /// The cards of these products from Redis, or else from Postgres; those that do not exist are left out.
    ///
    /// # Errors
    /// When neither answers.
    pub async fn read(&self, ids: &[ProductId]) -> Result<HashMap<ProductId, Arc<ProductRow>>, sqlx::Error> {
        // Asked before the cards are: they are at least as new.
        let upto = *self.0.progress.watch(ProductCardMirror::NAME).borrow();
        let since = Instant::now();
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let rows = self.0.cards.get(&names).await?;
        let mut cards: HashMap<_, _> = rows
            .into_values()
            .filter_map(|row| Some((row.id.parse().ok()?, Arc::new(row))))
            .collect();
        let _ = self.0.readings.try_send(Reading {
            cards: cards.clone(),
            upto,
            since,
        });
        // Redis may be a moment behind: nobody is told older news than before.
        let places = self.places();
        for (id, card) in &mut cards {
            if let Some(place) = places.peek(id)
                && place.card.position > card.position
            {
                *card = Arc::clone(&place.card);
            }
        }
        Ok(cards)
    }

    fn places(&self) -> MutexGuard<'_, LruCache<ProductId, Place>> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The only one who changes what is on the shelf. `upto`: every card there has the events up to this position.
    async fn follow(self, mut upto: u64, mut readings: mpsc::Receiver<Reading>, stop: CancellationToken) {
        let mut view = self.0.progress.watch(Products::NAME);
        let mut log = self.0.store.head();
        loop {
            let moved = async {
                log.wait_for(|head| *head > upto).await?;
                view.wait_for(|position| *position > upto)
                    .await
                    .map(|position| *position)
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(reading) = readings.recv() => self.put(reading, upto).await,
                moved = moved => match moved {
                    Ok(position) => upto = self.fold(upto, position).await,
                    Err(_) => return,
                },
            }
        }
    }

    /// Brings the cards on the shelf from one position towards another; the position they have then.
    async fn fold(&self, from: u64, to: u64) -> u64 {
        let events = match self.0.store.after(from, BATCH).await {
            Ok(events) => events,
            Err(error) => {
                warn!(%error, "cannot see how products change, trying again");
                tokio::time::sleep(PAUSE).await;
                return from;
            }
        };
        let mut places = self.places();
        let mut upto = from;
        for event in events.iter().take_while(|event| event.position <= to) {
            upto = event.position;
            if let Body::Product(id, _) = &event.body
                && let Some(place) = places.peek_mut(id)
                && !apply(&mut place.card, event)
            {
                places.pop(id);
            }
        }
        upto
    }

    /// Puts cards on the shelf, with what has happened since they were read.
    async fn put(&self, mut reading: Reading, upto: u64) {
        let Some(missing) = self.between(reading.upto, upto).await else {
            return;
        };
        let mut gone = HashSet::new();
        for event in &missing {
            if let Body::Product(id, _) = &event.body
                && let Some(card) = reading.cards.get_mut(id)
                && !apply(card, event)
            {
                gone.insert(*id);
            }
        }
        let mut places = self.places();
        for (id, card) in reading.cards {
            if !gone.contains(&id) {
                places.put(
                    id,
                    Place {
                        card,
                        since: reading.since,
                    },
                );
            }
        }
        while places.len() > KEPT {
            places.pop_lru();
        }
    }

    /// The events between two positions; `None` if they are many, or cannot be read.
    async fn between(&self, from: u64, to: u64) -> Option<Vec<Arc<Recorded>>> {
        let count = usize::try_from(to.saturating_sub(from)).ok()?;
        match count {
            0 => Some(Vec::new()),
            1..=BATCH => self.0.store.after(from, count).await.ok(),
            _ => None,
        }
    }
}

/// Folds an event into a card that does not have it yet; false if it cannot follow what the card says.
fn apply(card: &mut Arc<ProductRow>, event: &Recorded) -> bool {
    if Products::position(card) >= event.position {
        return true;
    }
    let mut row = Some(ProductRow::clone(card));
    if Products::fold(&mut row, event).is_err() {
        return false;
    }
    row.is_some_and(|row| {
        *card = Arc::new(row);
        true
    })
}
