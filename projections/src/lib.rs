//! The read models: one file each, with its fold, its rows and its queries.
//!
//! In Postgres: [`products`], [`orders`], [`users`], [`sales`]. In Redis, mirrored from them: [`cards`], [`statuses`],
//! [`best_sellers`]. In memory: [`offers`], [`shelf`], [`account_changes`]. Nothing here decides anything, and everything here can
//! be thrown away and made again from the log.

pub mod account_changes;
pub mod best_sellers;
pub mod cards;
pub mod copy;
pub mod fill;
pub mod held;
pub mod mirror;
pub mod offers;
pub mod orders;
pub mod products;
pub mod rebuild;
pub mod sales;
pub mod shelf;
pub mod statuses;
pub mod updates;
pub mod users;
pub mod verify;
pub mod view;

use std::sync::Arc;

use view::{Projector, Rebuildable};

/// The projector of every read model in Postgres.
#[must_use]
pub fn views() -> Vec<Arc<dyn Rebuildable>> {
    vec![
        Arc::new(Projector::<products::Products>::default()),
        Arc::new(Projector::<orders::Orders>::default()),
        Arc::new(Projector::<users::Users>::default()),
        Arc::new(Projector::<sales::Sales>::default()),
    ]
}
