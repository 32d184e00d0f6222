//! What shoppers and staff are told of payments, held against the bank.

use std::collections::BTreeMap;

use kontor_domain::OrderStatus;

use super::{OrderStory, Statement};
use crate::shop::Shop;

/// What the view says of one order. Amounts in pence.
#[derive(Debug, Default, sqlx::FromRow)]
pub(super) struct ViewedPayment {
    id: String,
    status: String,
    payment_status: Option<String>,
    authorised: i64,
    pub(super) captured: i64,
    pub(super) paid_back: i64,
}

impl ViewedPayment {
    /// What of it is not as the order or the bank has it.
    pub(super) fn unlike(&self, story: &OrderStory, bank: &Statement) -> Vec<String> {
        let status = story.order.status().map_or("", OrderStatus::as_str);
        let sums = ["AUTHORISE", "CAPTURE", "REFUND"].map(|kind| bank.sum(kind));
        let payment = match (story.order.payment(), bank.status.as_deref()) {
            (None, _) => None,
            // Nothing was ever asked for: either nobody has come so far, or there was nothing to let go.
            (Some(_), None) if story.times("PaymentVoided") == 0 => Some("WAITING"),
            (Some(_), None) => Some("VOIDED"),
            (Some(_), status) => status,
        };
        let agrees = self.status == status
            && [self.authorised, self.captured, self.paid_back] == sums
            && self.payment_status.as_deref() == payment;
        if agrees {
            return Vec::new();
        }
        vec![format!("the view says {self:?}")]
    }
}

impl Shop {
    /// What the view of orders says of each order, by its id.
    pub(super) async fn payments_in_view(&self) -> BTreeMap<String, ViewedPayment> {
        let rows: Vec<ViewedPayment> = sqlx::query_as(
            "SELECT id, status, payment_status, authorised_minor AS authorised,
                    captured_minor AS captured, paid_back_minor AS paid_back
             FROM orders",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.into_iter().map(|row| (row.id.clone(), row)).collect()
    }
}
