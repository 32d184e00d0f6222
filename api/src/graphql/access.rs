//! Who may do what: one table, asked by every resolver.

use async_graphql::parser::types::OperationType;
use async_graphql::{Context, Result};
use kontor_domain::Role;
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, Deed};

use super::error::{forbidden, unauthenticated};
use super::reads::app;
use crate::app::RequestInfo;
use crate::auth::Viewer;

/// Something that not everybody may do. Browsing products, registering and logging in need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Create products, change what the catalogue says of them, take them off sale.
    CatalogueWrite,
    /// Book stock in and set it right.
    StockWrite,
    /// See how many pieces are on hand and reserved, beyond what is available.
    StockRead,
    /// Place orders, in one's own name.
    OrderPlace,
    /// See everybody's orders.
    OrderReadAll,
    /// Cancel everybody's orders.
    OrderCancelAll,
    /// Ship and deliver orders, and see to those that wait for too long.
    OrderShip,
    /// Take items back, pay back, and settle by hand what a gateway cannot.
    OrderRefund,
    /// See everybody's account.
    UserReadAll,
    /// Give and take roles, close and open accounts.
    UserManage,
    /// See what the shop sells.
    SalesRead,
    /// See the log's head and how far the views are behind it.
    LogRead,
    /// See who did what, from where.
    AuditRead,
}

const EVERYBODY: &[Role] = &[Role::Customer, Role::Staff, Role::Admin];
const STAFF: &[Role] = &[Role::Staff, Role::Admin];
const ADMIN: &[Role] = &[Role::Admin];

impl Permission {
    /// What the schema's descriptions call it. (The tests' table of fields and roles compares them.)
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CatalogueWrite => "product:write",
            Self::StockWrite => "stock:write",
            Self::StockRead => "stock:read",
            Self::OrderPlace => "order:place",
            Self::OrderReadAll => "order:read-all",
            Self::OrderCancelAll => "order:cancel-all",
            Self::OrderShip => "order:ship",
            Self::OrderRefund => "order:refund",
            Self::UserReadAll => "user:read-all",
            Self::UserManage => "user:manage",
            Self::SalesRead => "sales:read",
            Self::LogRead => "log:read",
            Self::AuditRead => "audit:read",
        }
    }

    /// The roles that have it: any one of them is enough.
    pub(crate) const fn holders(self) -> &'static [Role] {
        match self {
            Self::OrderPlace => EVERYBODY,
            Self::CatalogueWrite
            | Self::StockWrite
            | Self::StockRead
            | Self::OrderReadAll
            | Self::OrderCancelAll
            | Self::OrderShip
            | Self::OrderRefund
            | Self::UserReadAll
            | Self::SalesRead
            | Self::LogRead => STAFF,
            Self::UserManage | Self::AuditRead => ADMIN,
        }
    }

    /// Whether the viewer has it; nobody has nothing.
    pub(crate) fn held_by(self, viewer: Option<&Viewer>) -> bool {
        viewer.is_some_and(|viewer| viewer.roles.iter().any(|role| self.holders().contains(role)))
    }
}

/// Who asks, if anybody is logged in.
pub(crate) fn viewer<'c>(ctx: &Context<'c>) -> Option<&'c Viewer> {
    ctx.data_opt::<Option<Viewer>>()?.as_ref()
}

/// Who asks; `UNAUTHENTICATED` if nobody is logged in.
pub(crate) fn logged_in<'c>(ctx: &Context<'c>) -> Result<&'c Viewer> {
    viewer(ctx).ok_or_else(unauthenticated)
}

/// Who asks, if they may; `UNAUTHENTICATED` or `FORBIDDEN`.
pub(crate) fn require<'c>(ctx: &Context<'c>, permission: Permission) -> Result<&'c Viewer> {
    let viewer = logged_in(ctx)?;
    if permission.held_by(Some(viewer)) {
        return Ok(viewer);
    }
    // Whoever only looks is refused often enough, by apps that try.
    if ctx.query_env.operation.node.ty == OperationType::Mutation {
        let refused = deed(ctx, Kind::PermissionRefused).detail(permission.name());
        app(ctx).deeds.note(refused);
    }
    Err(forbidden(permission.name()))
}

/// Something that whoever asks has just done.
pub(crate) fn deed(ctx: &Context<'_>, kind: Kind) -> Deed {
    let actor = viewer(ctx).map_or(Actor::Anonymous, |viewer| Actor::User(viewer.user_id));
    let origin = ctx.data_opt::<RequestInfo>().map(RequestInfo::origin);
    Deed::new(kind, actor, origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(roles: &[Role]) -> Viewer {
        Viewer {
            user_id: kontor_domain::UserId::from_ulid(ulid::Ulid::from_parts(1, 1)),
            roles: roles.into(),
            session: kontor_domain::SessionId::from_ulid(ulid::Ulid::from_parts(1, 1)),
        }
    }

    #[test]
    fn nobody_may_nothing() {
        assert!(!Permission::OrderPlace.held_by(None));
        assert!(!Permission::OrderPlace.held_by(Some(&somebody(&[]))));
    }

    #[test]
    fn a_customer_buys_and_nothing_else() {
        let customer = somebody(&[Role::Customer]);
        assert!(Permission::OrderPlace.held_by(Some(&customer)));
        for other in [
            Permission::CatalogueWrite,
            Permission::StockWrite,
            Permission::StockRead,
            Permission::OrderReadAll,
            Permission::OrderCancelAll,
            Permission::OrderShip,
            Permission::OrderRefund,
            Permission::UserReadAll,
            Permission::UserManage,
            Permission::SalesRead,
            Permission::LogRead,
            Permission::AuditRead,
        ] {
            assert!(!other.held_by(Some(&customer)), "{other:?}");
        }
    }

    #[test]
    fn staff_do_not_give_roles() {
        let staff = somebody(&[Role::Customer, Role::Staff]);
        assert!(Permission::OrderShip.held_by(Some(&staff)));
        assert!(!Permission::UserManage.held_by(Some(&staff)));
        assert!(!Permission::AuditRead.held_by(Some(&staff)));
        assert!(Permission::UserManage.held_by(Some(&somebody(&[Role::Customer, Role::Admin]))));
    }
}
