//! What a read model in Postgres is: a pure fold from events to rows, and how its rows are stored.
//!
//! The same fold makes the live view, a rebuilt one, the one `kontor verify` compares with, the answer of a mutation
//! and the updates of a subscription.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::future::BoxFuture;
use kontor_eventstore::{Body, Consumer, Parked, Recorded};
use sqlx::PgConnection;

use crate::copy::Copy;
use crate::held::{Held, Rows};

/// A read model in Postgres.
pub trait View: Send + Sync + Sized + 'static {
    /// Its table, and the name of its consumer.
    const NAME: &'static str;
    /// The type of aggregate whose events it reads.
    const AGGREGATE: &'static str;
    /// The key columns of its table, as SQL.
    const KEY: &'static str;
    /// Whether a row gathers what happens to several aggregates. Otherwise the first event of an aggregate makes its row.
    const GATHERS: bool = false;
    /// What identifies a row.
    type Id: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static;
    /// A row.
    type Row: Clone + Debug + PartialEq + Send + Sync + 'static;

    /// The row an event concerns, if any.
    fn id_of(event: &Recorded) -> Option<Self::Id>;
    /// The id of a row.
    fn id(row: &Self::Row) -> Self::Id;
    /// The position of the last event in a row.
    fn position(row: &Self::Row) -> u64;
    /// Applies an event to the row it concerns. Pure; on an error the row is as it was.
    ///
    /// # Errors
    /// When the event cannot follow what the row says.
    fn fold(row: &mut Option<Self::Row>, event: &Recorded) -> Result<(), FoldError>;

    /// Reads rows.
    fn load(
        connection: &mut PgConnection,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;
    /// Writes rows that are in the table already, in place: Postgres then leaves the indexes alone whose columns stay as
    /// they are. Columns that no event changes may be left out.
    fn update(
        connection: &mut PgConnection,
        rows: &[&Self::Row],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    /// Writes a row, every column in the table's order.
    fn encode(row: &Self::Row, copy: &mut Copy);
}

/// Why an event cannot be applied to a row. Names no values: they may be personal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The event comes before the one that makes the row.
    #[error("{event} without the event that comes first")]
    Unborn {
        /// The event's type.
        event: &'static str,
    },
    /// An event of the stream between the row's version and this one is missing.
    #[error("event {found} of the stream follows version {version}")]
    Gap {
        /// The row's version.
        version: u64,
        /// The event's sequence.
        found: u64,
    },
    /// The amounts do not fit.
    #[error("a figure leaves its range")]
    OutOfRange,
    /// This view does not read such events; a mistake in the view.
    #[error("not an event of this view")]
    Foreign,
}

/// Follows the log with a view.
#[derive(Debug)]
pub struct Projector<V>(PhantomData<V>);

impl<V> Default for Projector<V> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<V: View> Consumer for Projector<V> {
    fn name(&self) -> &'static str {
        V::NAME
    }

    fn concerns(&self, event: &Recorded) -> bool {
        match &event.body {
            Body::Unreadable(it) => it.aggregate_type == V::AGGREGATE,
            _ => V::id_of(event).is_some(),
        }
    }

    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(apply::<V>(connection, events, Repeats::Possible))
    }

    fn resume<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(apply::<V>(connection, events, Repeats::Excluded))
    }
}

/// A projector whose view can be made again from the log.
pub trait Rebuildable: Consumer {
    /// The key columns of its table, as SQL.
    fn key(&self) -> &'static str;

    /// Its rows before the first event. Up to `most` of them are held in memory between two batches of events.
    fn rows(&self, most: usize) -> Box<dyn Rows>;
}

impl<V: View> Rebuildable for Projector<V> {
    fn key(&self) -> &'static str {
        V::KEY
    }

    fn rows(&self, most: usize) -> Box<dyn Rows> {
        Box::new(Held::<V>::new(most))
    }
}

/// Whether an event at or below a row's position may have been applied to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// It has been, and is skipped (V2).
    Possible,
    /// It was parked. A row that gathers several aggregates has gone on without it.
    Excluded,
}

/// Loads the rows the events concern, folds, and writes the rows that changed, in the caller's transaction: old ones are
/// updated, new ones copied in.
async fn apply<V: View>(
    connection: &mut PgConnection,
    events: &[Arc<Recorded>],
    repeats: Repeats,
) -> Result<Vec<Parked>, sqlx::Error> {
    let ids: HashSet<V::Id> = events.iter().filter_map(|event| V::id_of(event)).collect();
    let known = if ids.is_empty() {
        Vec::new()
    } else {
        V::load(connection, &ids.iter().cloned().collect::<Vec<_>>()).await?
    };
    let existing: HashSet<V::Id> = known.iter().map(V::id).collect();
    let mut rows: HashMap<V::Id, Option<V::Row>> =
        known.into_iter().map(|row| (V::id(&row), Some(row))).collect();
    let mut changed = HashSet::new();
    let parked = fold_all::<V>(&mut rows, &mut changed, events, repeats);

    // In the order of their keys, which indexes take more quickly.
    let mut changed: Vec<V::Id> = changed.into_iter().collect();
    changed.sort_unstable();
    let (old, new): (Vec<&V::Row>, Vec<&V::Row>) = changed
        .iter()
        .filter_map(|id| rows.get(id)?.as_ref())
        .partition(|row| existing.contains(&V::id(row)));
    if !old.is_empty() {
        V::update(connection, &old).await?;
    }
    let mut copy = Copy::default();
    for row in new {
        V::encode(row, &mut copy);
    }
    copy.into_table(connection, V::NAME).await?;
    Ok(parked)
}

/// Folds events into rows, notes which rows changed, and answers what could not be applied (V3).
pub(crate) fn fold_all<V: View>(
    rows: &mut HashMap<V::Id, Option<V::Row>>,
    changed: &mut HashSet<V::Id>,
    events: &[Arc<Recorded>],
    repeats: Repeats,
) -> Vec<Parked> {
    let mut parked: Vec<Parked> = Vec::new();
    let mut failed = HashSet::new();
    for event in events {
        if !failed.is_empty() && failed.contains(&event.stream()) {
            parked.push(Parked::waiting(event));
            continue;
        }
        let problem = match (&event.body, V::id_of(event)) {
            (Body::Unreadable(it), _) if it.aggregate_type == V::AGGREGATE => it.error.clone(),
            (_, None) => continue,
            (_, Some(id)) => {
                let row = rows.entry(id.clone()).or_default();
                let beyond = row.as_ref().is_some_and(|row| V::position(row) >= event.position);
                if beyond && repeats == Repeats::Possible {
                    continue;
                }
                match V::fold(row, event) {
                    Ok(()) => {
                        changed.insert(id);
                        continue;
                    }
                    Err(error) => error.to_string(),
                }
            }
        };
        failed.insert(event.stream());
        parked.push(Parked::failed(event, problem));
    }
    parked
}

/// One column of rows, as `unnest` takes it.
pub(crate) fn column<'a, R, T>(rows: &[&'a R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// Checks that an event is the next of its stream for a row at `version`.
pub(crate) fn follows(version: u64, event: &Recorded) -> Result<(), FoldError> {
    if event.sequence == version + 1 {
        Ok(())
    } else {
        Err(FoldError::Gap {
            version,
            found: event.sequence,
        })
    }
}
