//! Rows held in memory while a view is made again (V4): one that goes on changing is written when it comes to rest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use kontor_eventstore::{Parked, Recorded};
use sqlx::PgConnection;

use crate::copy::Copy;
use crate::view::{Repeats, View, fold_all};

/// The rows of any view, while it is being made.
pub trait Rows: Send {
    /// Folds events into rows, and writes those that have come to rest if there are too many; what could not be applied.
    fn fold<'a>(
        &'a mut self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>>;

    /// Writes all that is not written yet, and holds nothing any more.
    fn write<'a>(&'a mut self, connection: &'a mut PgConnection) -> BoxFuture<'a, Result<(), sqlx::Error>>;
}

/// The rows of one view.
pub(crate) struct Held<V: View> {
    rows: HashMap<V::Id, Option<V::Row>>,
    /// Those that are in the table as well.
    stored: HashSet<V::Id>,
    /// Those that have changed since they were written.
    changed: HashSet<V::Id>,
    /// Whether there are rows in the table that are not held.
    let_go: bool,
    /// How many may be held between two batches of events.
    most: usize,
}

impl<V: View> Rows for Held<V> {
    fn fold<'a>(
        &'a mut self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(async move {
            if self.let_go {
                self.load(connection, events).await?;
            }
            let mut changed = HashSet::new();
            let parked = fold_all::<V>(&mut self.rows, &mut changed, events, Repeats::Possible);
            self.changed.extend(changed.iter().cloned());
            if self.rows.len() > self.most {
                self.let_go_but(connection, &changed).await?;
            }
            if self.rows.len() > self.most {
                self.let_go_but(connection, &HashSet::new()).await?;
            }
            Ok(parked)
        })
    }

    fn write<'a>(&'a mut self, connection: &'a mut PgConnection) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move { self.let_go_but(connection, &HashSet::new()).await })
    }
}

impl<V: View> Held<V> {
    /// Holds up to `most` rows, and none yet.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            rows: HashMap::new(),
            stored: HashSet::new(),
            changed: HashSet::new(),
            let_go: false,
            most,
        }
    }

    /// Takes hold of the rows that events concern and the table has.
    async fn load(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<Recorded>],
    ) -> Result<(), sqlx::Error> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for event in events {
            let Some(id) = V::id_of(event) else { continue };
            if self.rows.contains_key(&id) || !seen.insert(id.clone()) {
                continue;
            }
            // The first event of an aggregate makes its row.
            if V::GATHERS || event.sequence > 1 {
                missing.push(id);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for row in V::load(connection, &missing).await? {
            let id = V::id(&row);
            self.stored.insert(id.clone());
            self.rows.insert(id, Some(row));
        }
        Ok(())
    }

    /// Writes the rows that are not to be kept, in the order of their keys, and lets them go.
    async fn let_go_but(
        &mut self,
        connection: &mut PgConnection,
        kept: &HashSet<V::Id>,
    ) -> Result<(), sqlx::Error> {
        let mut going: Vec<V::Id> = self
            .rows
            .keys()
            .filter(|id| !kept.contains(*id))
            .cloned()
            .collect();
        going.sort_unstable();
        let (mut old, mut copy) = (Vec::new(), Copy::default());
        for id in &going {
            let Some(Some(row)) = self.rows.get(id) else {
                continue;
            };
            match (self.changed.remove(id), self.stored.remove(id)) {
                (true, true) => old.push(row),
                (true, false) => V::encode(row, &mut copy),
                (false, _) => {}
            }
        }
        if !old.is_empty() {
            V::update(connection, &old).await?;
        }
        copy.into_table(connection, V::NAME).await?;
        for id in &going {
            self.rows.remove(id);
        }
        self.let_go |= !going.is_empty();
        Ok(())
    }
}
