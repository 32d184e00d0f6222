//! What the subscriptions share.

use async_graphql::{Context, Result};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kontor_projections::updates::{Update, UpdatesError};

use super::error::Incident;
use crate::multiplex::Place;

/// The updates a subscriber is sent. Trouble ends the stream with `INTERNAL`; the client comes back with its last cursor.
pub(crate) fn updates<R, N, F>(
    ctx: &Context<'_>,
    stream: BoxStream<'static, Result<Update<R>, UpdatesError>>,
    node: F,
) -> impl Stream<Item = Result<N>> + use<R, N, F>
where
    R: Send + Sync + 'static,
    N: Send + 'static,
    F: Fn(Update<R>) -> N + Send + 'static,
{
    let incident = Incident::of(ctx);
    let place = ctx.data_opt::<Place>().cloned();
    stream.map(move |update| {
        if let (Some(place), Ok(update)) = (&place, &update) {
            place.set(update.position);
        }
        update.map(&node).map_err(|error| incident.internal(error))
    })
}
