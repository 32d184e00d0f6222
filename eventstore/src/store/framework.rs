//! The store as cqrs-es's own framework knows one (L8): for whoever brings a `CqrsFramework` along.
//!
//! It answers neither the position nor the state, knows no keys and does not retry; Kontor itself uses
//! [`Store::execute`].

use std::collections::HashMap;
use std::sync::Arc;

use cqrs_es::persist::EventStoreAggregateContext;
use cqrs_es::{AggregateError, DomainEvent, EventEnvelope, EventStore};
use tokio::sync::oneshot;

use super::execution::stock_store;
use super::{Store, Stored};
use crate::group::{AppendError, Chain, NewEvent, Proposal};

impl<A: Stored> EventStore<A> for Store {
    type AC = EventStoreAggregateContext<A>;

    async fn load_events(
        &self,
        aggregate_id: &str,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        stock_store::<A>(&self.inner.pool).load_events(aggregate_id).await
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Self::AC, AggregateError<A::Error>> {
        let store = stock_store::<A>(&self.inner.pool);
        let mut context = store.load_aggregate(aggregate_id).await?;
        let unsealed = self.inner.keyring.unseal(context.aggregate.personal()).await;
        unsealed.map_err(|error| AggregateError::UnexpectedError(error.into()))?;
        Ok(context)
    }

    async fn commit(
        &self,
        mut events: Vec<A::Event>,
        context: Self::AC,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let unexpected = |error: String| AggregateError::UnexpectedError(error.into());
        let id: A::Id = context
            .aggregate_id
            .parse()
            .map_err(|error| unexpected(format!("{error}")))?;
        let (reply, answer) = oneshot::channel();
        let mut proposal = Proposal {
            aggregate_type: A::TYPE,
            aggregate_id: context.aggregate_id.clone(),
            expected: context.current_sequence as u64,
            chain: Arc::new(Chain::default()),
            refused: false,
            events: Vec::with_capacity(events.len()),
            claims: events
                .iter()
                .flat_map(A::claim_changes)
                .map(|change| self.inner.keyring.hide(change))
                .collect(),
            key: None,
            time: self.inner.ids.now(),
            command_id: metadata.get("command_id").cloned().unwrap_or_default(),
            metadata: serde_json::to_string(&metadata).map_err(|error| unexpected(error.to_string()))?,
            reply,
        };
        for event in &mut events {
            let sealed = self
                .inner
                .seal::<A>(context.aggregate.person(id, event), event)
                .await;
            sealed.map_err(|error| unexpected(error.to_string()))?;
            proposal.events.push(NewEvent {
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload: serde_json::to_string(event).map_err(|error| unexpected(error.to_string()))?,
                body: A::body(id, event.clone()),
            });
        }
        self.inner
            .writer
            .send(proposal)
            .await
            .map_err(|error| unexpected(error.to_string()))?;
        match answer.await.map_err(|error| unexpected(error.to_string()))? {
            Ok(_) => {}
            Err(AppendError::Stale) => return Err(AggregateError::AggregateConflict),
            Err(error) => return Err(unexpected(error.to_string())),
        }
        let envelope = |(sequence, payload)| EventEnvelope {
            aggregate_id: context.aggregate_id.clone(),
            sequence,
            payload,
            metadata: metadata.clone(),
        };
        Ok((context.current_sequence + 1..)
            .zip(events)
            .map(envelope)
            .collect())
    }
}
