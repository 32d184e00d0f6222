//! Who did what to whom when, from where: the log and the deeds beside it, newest first.

use std::sync::Arc;

use async_graphql::{Context, Description, Enum, ID, InputObject, Object, Result};
use kontor_domain::PersonalValue;
use kontor_eventstore::audit::{Change, DeedRow, Filter, changes_before, deeds_before};
use kontor_fulfilment::notifications;

use super::access::{Permission, require};
use super::connection::{Connection, Page};
use super::error::{bad_user_input, internal, sought};
use super::reads::{app, unreadable, user};
use super::scalars::{DateTime, Position};
use super::users::User;

mod trail;

use trail::{AuditTrail, AuditTrailOf};

/// What sort of somebody did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum AuditActorKind {
    /// Somebody with an account, logged in or proved by a token from their mail.
    User,
    /// Somebody who is not logged in.
    Anonymous,
    /// The shop: a process, an import, or its operator at a terminal.
    System,
}

/// Who did it.
#[derive(Debug, Clone, Description)]
pub(crate) struct AuditActor(String);

#[Object(use_type_description)]
impl AuditActor {
    /// What sort of somebody.
    async fn kind(&self) -> AuditActorKind {
        if self.0.starts_with("system:") {
            AuditActorKind::System
        } else if self.0 == "anonymous" {
            AuditActorKind::Anonymous
        } else {
            AuditActorKind::User
        }
    }

    /// The user's id, `anonymous`, or `system:` and who in the shop: what `actor` of the filter takes.
    async fn name(&self) -> &str {
        &self.0
    }

    /// The user, as they are now; null if it is none.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match self.0.parse() {
            Ok(id) => Ok(user(ctx, id).await?.map(User)),
            Err(_) => Ok(None),
        }
    }
}

/// Something that was done: an event of the log, or a deed that changed nothing, such as a log-in or a refusal.
#[derive(Debug, Clone, Description)]
pub(crate) struct AuditEntry(Arc<Entry>);

#[derive(Debug)]
enum Entry {
    Change(Change),
    Deed(DeedRow),
}

#[Object(use_type_description)]
impl AuditEntry {
    /// Names it: an event as others name it as their cause, `order/ord_…/3`; a deed by `deed/` and a ULID.
    async fn id(&self) -> ID {
        match &*self.0 {
            Entry::Change(change) => change.id(),
            Entry::Deed(deed) => format!("deed/{}", deed.id),
        }
        .into()
    }

    /// What was done: the event's name, such as `Placed`; or the deed's, such as `LogInFailed`.
    async fn kind(&self) -> &str {
        match &*self.0 {
            Entry::Change(change) => &change.event_type,
            Entry::Deed(deed) => &deed.kind,
        }
    }

    /// The event's place in the log; null for a deed.
    async fn position(&self) -> Option<Position> {
        match &*self.0 {
            Entry::Change(change) => Some(Position(change.position)),
            Entry::Deed(_) => None,
        }
    }

    /// Who did it.
    async fn actor(&self) -> AuditActor {
        AuditActor(match &*self.0 {
            Entry::Change(change) => change.metadata.actor.clone(),
            Entry::Deed(deed) => deed.actor.clone(),
        })
    }

    /// To whom or what: the id of the order, product, user or session. Null where nobody is known, as for a log-in with an address that
    /// has no account.
    async fn subject(&self) -> Option<ID> {
        match &*self.0 {
            Entry::Change(change) => Some(change.stream.aggregate_id.as_str().into()),
            Entry::Deed(deed) => deed.subject.as_deref().map(ID::from),
        }
    }

    /// When. Of what an import wrote down, when it happened.
    async fn at(&self) -> DateTime {
        match &*self.0 {
            Entry::Change(change) => DateTime(change.time),
            Entry::Deed(deed) => DateTime(deed.time),
        }
    }

    /// The network address it was done from; null for what the shop does itself, and where none is known.
    async fn address(&self) -> Option<String> {
        match &*self.0 {
            Entry::Change(change) => address(change),
            Entry::Deed(deed) => deed.address.clone(),
        }
    }

    /// The request it was part of, as answered in `x-request-id`; null for what the shop does itself. Clients may name their
    /// requests: one name can stand for several.
    async fn request(&self) -> Option<&str> {
        match &*self.0 {
            Entry::Change(change) => request(change),
            Entry::Deed(deed) => deed.request.as_deref(),
        }
    }

    /// The request that set it off, by whatever way; of what no request set off, a name of its own. Null for deeds at a terminal.
    async fn correlation(&self) -> Option<&str> {
        match &*self.0 {
            Entry::Change(change) => Some(&change.metadata.correlation_id),
            Entry::Deed(deed) => deed.request.as_deref(),
        }
    }

    /// The command that appended the event; null for a deed.
    async fn command(&self) -> Option<ID> {
        match &*self.0 {
            Entry::Change(change) => Some(change.metadata.command_id.as_str().into()),
            Entry::Deed(_) => None,
        }
    }

    /// The `id` of the event that the command answered; null where nothing but the actor caused it.
    async fn caused_by(&self) -> Option<ID> {
        match &*self.0 {
            Entry::Change(change) => change.metadata.causation_id.as_deref().map(ID::from),
            Entry::Deed(_) => None,
        }
    }

    /// More about a deed: the permission that was missing, why a log-in failed. Never what somebody typed. Null for events.
    async fn detail(&self) -> Option<&str> {
        match &*self.0 {
            Entry::Change(_) => None,
            Entry::Deed(deed) => deed.detail.as_deref(),
        }
    }

    /// How often, in a moment: refusals that are alike are one entry.
    async fn times(&self) -> i32 {
        match &*self.0 {
            Entry::Change(_) => 1,
            Entry::Deed(deed) => i32::try_from(deed.times).unwrap_or(i32::MAX),
        }
    }
}

/// Unseals where changes were asked for, except by who was erased.
async fn reveal_addresses(ctx: &Context<'_>, changes: &mut [Change]) -> Result<()> {
    let addresses = changes
        .iter_mut()
        .filter_map(|change| Some(change.metadata.address.as_mut()? as &mut dyn PersonalValue));
    let keyring = app(ctx).store.keyring();
    keyring
        .unseal(addresses.collect())
        .await
        .map_err(|error| internal(ctx, error))
}

/// Where a change was asked for, once it is unsealed.
fn address(change: &Change) -> Option<String> {
    let address = change.metadata.address.as_ref()?;
    Some(address.reveal()?.to_string())
}

/// What processes do carries the request on, and is not part of it.
fn request(change: &Change) -> Option<&str> {
    let it = &change.metadata;
    let own = it.causation_id.is_none() && !it.actor.starts_with("system:");
    own.then_some(it.correlation_id.as_str())
}

/// Where an entry stands: behind the event at this position, and there by the id of the deed. An event stands before the deeds.
type Place = (u64, Option<String>);

impl AuditEntry {
    fn place(&self) -> Place {
        match &*self.0 {
            Entry::Change(change) => (change.position, None),
            Entry::Deed(deed) => (deed.position, Some(deed.id.clone())),
        }
    }
}

/// What to look for: all that is given must be so. An actor, a subject, a request or a time is looked up; a `kind` alone is searched for.
#[derive(Debug, InputObject)]
pub(crate) struct AuditFilter {
    /// Done by: a user's id, `anonymous`, or `system:` and a name, such as `system:cashier`.
    actor: Option<String>,
    /// Done to: the id of an order, product, user or session.
    subject: Option<ID>,
    /// Done by this request itself, as answered in `x-request-id`.
    request: Option<String>,
    /// Set off by this request, by whatever way.
    correlation: Option<String>,
    /// The name of an event or deed, such as `Shipped` or `LogInFailed`.
    kind: Option<String>,
    /// Done at this moment or after it.
    from: Option<DateTime>,
    /// Done before this moment; `BAD_USER_INPUT` if it is before `from`.
    to: Option<DateTime>,
}

impl From<AuditFilter> for Filter {
    fn from(filter: AuditFilter) -> Self {
        Self {
            actor: filter.actor,
            subject: filter.subject.map(|id| id.0),
            request: filter.request,
            correlation: filter.correlation,
            kind: filter.kind,
            from: filter.from.map(|it| it.0),
            to: filter.to.map(|it| it.0),
        }
    }
}

/// Queries of the audit.
#[derive(Debug, Default)]
pub(crate) struct AuditQueries;

#[Object]
impl AuditQueries {
    /// Who did what to whom when, from where: everything that ever changed, and log-ins, refusals and the like of the last months; newest
    /// first. For admins; `FORBIDDEN` for others. Needs `audit:read`.
    async fn audit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to look for; everything if left out.")] filter: Option<AuditFilter>,
        #[graphql(
            desc = "How many at most: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 20
        )]
        first: i32,
        #[graphql(
            desc = "The cursor behind which the page begins; `BAD_USER_INPUT` if it is not one of this list."
        )]
        after: Option<String>,
    ) -> Result<Connection<AuditEntry>> {
        require(ctx, Permission::AuditRead)?;
        let filter = filter.map(Filter::from).unwrap_or_default();
        sought([
            ("filter.actor", filter.actor.as_deref()),
            ("filter.subject", filter.subject.as_deref()),
            ("filter.request", filter.request.as_deref()),
            ("filter.correlation", filter.correlation.as_deref()),
            ("filter.kind", filter.kind.as_deref()),
        ])?;
        if filter.from.zip(filter.to).is_some_and(|(from, to)| to < from) {
            return Err(bad_user_input("to: must not be before `from`"));
        }
        let page = Page::<Place>::new(Some(first), after.as_deref())?;
        let entries = entries(ctx, &filter, page.after.as_ref(), page.limit()).await?;
        Ok(page.connection(entries, |entry| Some(entry.place()), |entry| entry))
    }

    /// What one request set off, or what happened to one order, from the first command to the last mail, each step with its cause. For
    /// admins; `FORBIDDEN` for others. Needs `audit:read`.
    async fn audit_trail(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of what.")] of: AuditTrailOf,
        #[graphql(
            desc = "How many events at most, besides what goes with them: 1 to 100, otherwise `BAD_USER_INPUT`.",
            default = 100
        )]
        first: i32,
        #[graphql(desc = "Only what comes behind this position: `end` of the part before.")] after: Option<
            Position,
        >,
        #[graphql(
            desc = "Answer with all messages about events up to this position, waiting for them to be noted if need be; \
                    `CONSISTENCY_TIMEOUT` if that takes too long."
        )]
        at_least: Option<Position>,
    ) -> Result<AuditTrail> {
        require(ctx, Permission::AuditRead)?;
        let limit = Page::<u64>::new(Some(first), None)?.limit();
        super::reads::at_least(ctx, notifications::NAME, at_least).await?;
        trail::trail(ctx, &of, after.map_or(0, |it| it.0), limit).await
    }
}

/// The newest entries before a place.
async fn entries(
    ctx: &Context<'_>,
    filter: &Filter,
    before: Option<&Place>,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    let app = app(ctx);
    let pool = app.store.pool();
    let (changes, deeds) = filter.means();
    let mut entries = Vec::new();
    if deeds {
        app.deeds.flushed().await;
        let before = before.map(|(position, id)| (*position, id.as_deref().unwrap_or_default()));
        let deeds = deeds_before(pool, filter, before, limit).await;
        entries.extend(deeds.map_err(unreadable(ctx))?.into_iter().map(Entry::Deed));
    }
    // Read last: every event that stands before a deed read above is there by now.
    if changes {
        let before = before.map(|(position, id)| position + u64::from(id.is_some()));
        let changes = changes_before(pool, filter, before, limit).await;
        let mut changes = changes.map_err(unreadable(ctx))?;
        reveal_addresses(ctx, &mut changes).await?;
        entries.extend(changes.into_iter().map(Entry::Change));
    }
    let mut entries: Vec<AuditEntry> = entries.into_iter().map(|it| AuditEntry(Arc::new(it))).collect();
    entries.sort_by_cached_key(|entry| std::cmp::Reverse(entry.place()));
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(entries)
}
