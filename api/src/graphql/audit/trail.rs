//! What led to what: the chain of one request, or of one order.

use async_graphql::{Context, Enum, ID, OneofObject, Result, SimpleObject};
use kontor_domain::OrderId;
use kontor_eventstore::audit::{Change, DeedRow, Filter, because_of, deeds_before, set_off_by};
use kontor_fulfilment::notifications::{self, Told};
use kontor_fulfilment::{cashier, order_process, webhook_inbox};

use super::{AuditActor, address, request, reveal_addresses};
use crate::graphql::error::sought;
use crate::graphql::reads::{app, unreadable};
use crate::graphql::scalars::{DateTime, Position, id_argument};

/// Deeds of one request that are shown.
const DEEDS: i64 = 100;

/// Of what the trail is wanted.
#[derive(Debug, OneofObject)]
pub(crate) enum AuditTrailOf {
    /// Of a request, as answered in `x-request-id`: everything it set off.
    Request(String),
    /// Of an order: everything that happened to it and because of it, whoever set it off.
    Order(ID),
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum AuditStage {
    /// Somebody asked for something: a command by a request, an import, or the operator.
    Command,
    /// The order process answered an event with a command.
    Process,
    /// The payment gateway was asked or told something, and the order was told what it said.
    Payment,
    /// A command had it happen.
    Event,
    /// A customer is told of an event.
    Message,
    /// Something was done, or refused, that changed nothing.
    Deed,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum MessageState {
    /// It is to be sent, or to be tried again.
    Waiting,
    /// The provider has it.
    Sent,
    /// It is not wanted any more, or there is nowhere to send it.
    Skipped,
    /// It was given up, until the operator has it sent again.
    Dead,
}

impl MessageState {
    fn parse(stored: &str) -> Option<Self> {
        match stored {
            "WAITING" => Some(Self::Waiting),
            "SENT" => Some(Self::Sent),
            "SKIPPED" => Some(Self::Skipped),
            "DEAD" => Some(Self::Dead),
            _ => None,
        }
    }
}

/// One step, and what it follows from.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct AuditStep {
    /// Names it: a command by its id; an event and a deed as in `audit`; a message by the event's position and the channel, `42/email`.
    id: ID,
    /// The `id` of the step it follows from: of a command the event it answers, of an event its command, of a message its event. Null for
    /// what begins a chain.
    caused_by: Option<ID>,
    /// What it is.
    stage: AuditStage,
    /// The name of the event or deed, or what a message tells of. Null for commands, which are known by their events.
    what: Option<String>,
    /// Who did it.
    actor: AuditActor,
    /// To whom or what, by id; of a message, who is told. Null where nobody is known.
    subject: Option<ID>,
    /// When; of a message, when it was sent, and null if it was not.
    at: Option<DateTime>,
    /// The network address it came from; null for what the shop does itself, and where none is known.
    address: Option<String>,
    /// The request it was part of; null for what the shop does itself.
    request: Option<String>,
    /// The event's place in the log, also for the message about it; null for commands and deeds.
    position: Option<Position>,
    /// What became of a message; null for everything else.
    state: Option<MessageState>,
    /// More about a deed, or why a message was not sent.
    detail: Option<String>,
}

/// A chain of steps, in the order of the log: behind each command its events, behind each event the messages about it.
#[derive(Debug, SimpleObject)]
pub(crate) struct AuditTrail {
    /// The steps.
    steps: Vec<AuditStep>,
    /// Where the last event of this part is: as `after`, it brings the next part. Null if there is no event.
    end: Option<Position>,
    /// Whether there is more behind this part.
    has_more: bool,
}

/// The part of a trail that begins behind a position: one event fewer than `limit`, which tells whether there are more.
pub(super) async fn trail(
    ctx: &Context<'_>,
    of: &AuditTrailOf,
    after: u64,
    limit: i64,
) -> Result<AuditTrail> {
    let app = app(ctx);
    let pool = app.store.pool();
    let mut deeds = Vec::new();
    let changes = match of {
        AuditTrailOf::Request(request) => {
            sought([("of.request", Some(request.as_str()))])?;
            app.deeds.flushed().await;
            let filter = Filter {
                request: Some(request.clone()),
                ..Filter::default()
            };
            deeds = deeds_before(pool, &filter, None, DEEDS)
                .await
                .map_err(unreadable(ctx))?;
            deeds.reverse();
            set_off_by(pool, request, after, limit).await
        }
        AuditTrailOf::Order(id) => because_of(pool, id_argument::<OrderId>("order", id)?, after, limit).await,
    };
    let mut changes = changes.map_err(unreadable(ctx))?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(1);
    let has_more = changes.len() > shown;
    changes.truncate(shown);
    reveal_addresses(ctx, &mut changes).await?;
    let end = changes.last().map(|change| change.position);
    // A deed stands behind the event at its position; each is in one part.
    let until = end.filter(|_| has_more).unwrap_or(u64::MAX);
    deeds.retain(|deed| (after..until).contains(&deed.position));
    let positions: Vec<u64> = changes.iter().map(|change| change.position).collect();
    let told = notifications::of_events(pool, &positions).await;
    Ok(AuditTrail {
        steps: steps(&changes, &deeds, &told.map_err(unreadable(ctx))?),
        end: end.map(Position),
        has_more,
    })
}

fn steps(changes: &[Change], deeds: &[DeedRow], told: &[Told]) -> Vec<AuditStep> {
    let mut steps = Vec::new();
    let mut deeds = deeds.iter().peekable();
    let mut command = None;
    for change in changes {
        while let Some(deed) = deeds.next_if(|deed| deed.position < change.position) {
            steps.push(done(deed));
        }
        let id = change.metadata.command_id.as_str();
        if command.replace(id) != Some(id) {
            steps.push(commanded(change));
        }
        steps.push(happened(change));
        let about = told.iter().filter(|told| told.id.position == change.position);
        steps.extend(about.map(|told| message(told, change)));
    }
    steps.extend(deeds.map(done));
    steps
}

fn commanded(change: &Change) -> AuditStep {
    let it = &change.metadata;
    let stage = match it.actor.strip_prefix("system:") {
        Some(order_process::NAME) => AuditStage::Process,
        Some(cashier::LEASE | webhook_inbox::LEASE) => AuditStage::Payment,
        _ => AuditStage::Command,
    };
    AuditStep {
        id: it.command_id.as_str().into(),
        caused_by: it.causation_id.as_deref().map(ID::from),
        stage,
        what: None,
        position: None,
        ..happened(change)
    }
}

fn happened(change: &Change) -> AuditStep {
    let it = &change.metadata;
    AuditStep {
        id: change.id().into(),
        caused_by: Some(it.command_id.as_str().into()),
        stage: AuditStage::Event,
        what: Some(change.event_type.clone()),
        actor: AuditActor(it.actor.clone()),
        subject: Some(change.stream.aggregate_id.as_str().into()),
        at: Some(DateTime(change.time)),
        address: address(change),
        request: request(change).map(str::to_owned),
        position: Some(Position(change.position)),
        state: None,
        detail: None,
    }
}

fn message(told: &Told, about: &Change) -> AuditStep {
    AuditStep {
        id: told.id.to_string().into(),
        caused_by: Some(about.id().into()),
        stage: AuditStage::Message,
        what: Some(told.occasion.clone()),
        actor: AuditActor(format!("system:{}", notifications::NAME)),
        subject: Some(told.user_id.as_str().into()),
        at: told.sent_at.map(DateTime),
        address: None,
        request: None,
        position: Some(Position(about.position)),
        state: MessageState::parse(&told.state),
        detail: told.error.clone(),
    }
}

fn done(deed: &DeedRow) -> AuditStep {
    AuditStep {
        id: format!("deed/{}", deed.id).into(),
        caused_by: None,
        stage: AuditStage::Deed,
        what: Some(deed.kind.clone()),
        actor: AuditActor(deed.actor.clone()),
        subject: deed.subject.as_deref().map(ID::from),
        at: Some(DateTime(deed.time)),
        address: deed.address.clone(),
        request: deed.request.clone(),
        position: None,
        state: None,
        detail: deed.detail.clone(),
    }
}
