//! Aggregates in memory (L6).

use std::sync::{Arc, PoisonError};

use kontor_domain::Entity;
use lru::LruCache;
use tokio::sync::Mutex;

use crate::group::Chain;

/// Aggregates of one type kept in memory (L6). The one unused for longest goes first: an order is most in demand in the
/// moments after it is placed, and cleverer policies would rather keep what they know than what is new.
const CACHED: usize = 20_000;

/// Places by id. Held for a look only, never while anything is decided.
#[derive(Debug)]
pub struct Cache<A: Entity>(std::sync::Mutex<LruCache<A::Id, Arc<Slot<A>>>>);

impl<A: Entity> Default for Cache<A> {
    fn default() -> Self {
        // Unbounded as the crate sees it, for otherwise it makes all of its room at once.
        Self(std::sync::Mutex::new(LruCache::unbounded()))
    }
}

impl<A: Entity> Cache<A> {
    fn slots(&self) -> std::sync::MutexGuard<'_, LruCache<A::Id, Arc<Slot<A>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self, id: &A::Id) -> Option<Arc<Slot<A>>> {
        self.slots().get(id).cloned()
    }

    pub(super) fn forget(&self, id: &A::Id) {
        self.slots().pop(id);
    }

    /// Drops whatever `these` is said to be true of.
    pub(super) async fn forget_all(&self, these: impl Fn(&A) -> bool) {
        let slots = self
            .slots()
            .iter()
            .map(|(id, slot)| (*id, Arc::clone(slot)))
            .collect::<Vec<_>>();
        for (id, slot) in slots {
            // Waits for a load that is under way, which may have been given what is to be dropped.
            if slot
                .0
                .lock()
                .await
                .as_ref()
                .is_some_and(|newest| these(&newest.aggregate))
            {
                self.forget(&id);
            }
        }
    }

    pub(super) fn slot(&self, id: A::Id) -> Arc<Slot<A>> {
        let mut slots = self.slots();
        let slot = Arc::clone(slots.get_or_insert(id, || Arc::new(Slot(Mutex::new(None)))));
        if slots.len() > CACHED {
            slots.pop_lru();
        }
        slot
    }
}

/// One aggregate's place in memory. Commands on it are decided one after another under this lock, each on the
/// state the one before it left, whether or not that is written yet.
#[derive(Debug)]
pub struct Slot<A>(pub(super) Mutex<Option<Newest<A>>>);

#[derive(Debug)]
pub(super) struct Newest<A> {
    pub(super) aggregate: A,
    pub(super) version: u64,
    pub(super) chain: Arc<Chain>,
}

impl<A> Newest<A> {
    pub(super) fn new(aggregate: A, version: u64) -> Self {
        let chain = Arc::<Chain>::default();
        chain.written(version);
        Self {
            aggregate,
            version,
            chain,
        }
    }
}
