//! The right to know what is held.

use async_graphql::{Context, Json, Object, Result};
use kontor_domain::UserId;
use kontor_fulfilment::notifications;
use kontor_projections::orders::{self, OrderFilter, OrderRow};
use kontor_projections::users::{UserRow, Users};
use kontor_projections::view::View;
use serde_json::{Value, json};

use super::sessions;
use super::stored_person;
use crate::graphql::access::logged_in;
use crate::graphql::error::internal;
use crate::graphql::reads::{app, revealed, settled, unreadable, user};

/// More orders than anybody has.
const ALL: i64 = 100_000;

/// What is held on whoever asks.
#[derive(Debug, Default)]
pub(crate) struct ExportQueries;

#[Object]
impl ExportQueries {
    /// Everything the shop holds on you, as JSON: your account, payment methods, sessions, notifications and orders, and every event
    /// about them, oldest first. Of passwords, and of what the payment gateway calls your payment methods, only that there is one.
    /// `UNAUTHENTICATED` if you are not logged in, `SESSIONS_UNAVAILABLE` if your sessions cannot be read at the moment. Costs 1,000.
    async fn export_my_data(&self, ctx: &Context<'_>) -> Result<Json<Value>> {
        let id = logged_in(ctx)?.user_id;
        let app = app(ctx);
        let Some(row) = settled(ctx, Users::NAME, || user(ctx, id)).await? else {
            return Ok(Json(Value::Null));
        };
        let filter = OrderFilter {
            customer_id: Some(id),
            status: None,
        };
        let rows = orders::list(app.store.pool(), &filter, None, ALL).await;
        let rows = rows.map_err(unreadable(ctx))?;
        let mut orders = Vec::with_capacity(rows.len());
        for row in &rows {
            orders.push(order(ctx, row).await?);
        }
        let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        let events = app.store.history_of(id, &ids).await;
        let told = notifications::of_person(app.store.pool(), id).await;
        Ok(Json(json!({
            "exportedAt": app.clock.now(),
            "account": account(ctx, &row).await?,
            "sessions": sessions_of(ctx, id).await?,
            "notifications": told.map_err(unreadable(ctx))?,
            "orders": orders,
            "events": events.map_err(|error| internal(ctx, error))?,
        })))
    }
}

async fn account(ctx: &Context<'_>, row: &UserRow) -> Result<Value> {
    let (email, name, phone) = stored_person(ctx, row).await?;
    let mut methods = Vec::new();
    for method in row.payment_methods.iter() {
        methods.push(json!({ "id": method.id, "label": revealed(ctx, &method.label).await? }));
    }
    Ok(json!({
        "id": row.id,
        "email": email,
        "emailVerified": row.email_verified,
        "name": name,
        "phone": phone,
        "roles": row.roles,
        "active": row.active,
        "registeredAt": row.registered_at,
        "updatedAt": row.updated_at,
        "notifiedByEmail": row.by_email,
        "notifiedBySms": row.by_sms,
        "paymentMethods": methods,
    }))
}

async fn sessions_of(ctx: &Context<'_>, id: UserId) -> Result<Vec<Value>> {
    let records = sessions::of(ctx, id).await?;
    let session = |record: crate::sessions::SessionRecord| {
        json!({
            "id": record.id.to_string(),
            "createdAt": record.created,
            "lastUsedAt": record.used,
            "userAgent": record.agent,
        })
    };
    Ok(records.into_iter().map(session).collect())
}

async fn order(ctx: &Context<'_>, row: &OrderRow) -> Result<Value> {
    let mut timeline = row.timeline.0.clone();
    let written = timeline.iter_mut().filter_map(|entry| entry.what.personal());
    let unsealed = app(ctx).store.keyring().unseal(written.collect()).await;
    unsealed.map_err(|error| internal(ctx, error))?;
    Ok(json!({
        "id": row.id,
        "status": row.status,
        "totalMinor": row.total_minor,
        "refundedMinor": row.refunded_minor,
        "currency": row.currency,
        "paymentStatus": row.payment_status,
        "authorisedMinor": row.authorised_minor,
        "capturedMinor": row.captured_minor,
        "paidBackMinor": row.paid_back_minor,
        "placedAt": row.placed_at,
        "items": row.items.0,
        "shippingAddress": revealed(ctx, &row.shipping_address.0).await?,
        "timeline": timeline,
    }))
}
