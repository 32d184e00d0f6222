//! What the log says an import has done, and what the views make of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use kontor_domain::{OrderEvent, ProductEvent};
use kontor_eventstore::read::RawEvent;
use kontor_eventstore::{Body, Recorded};
use kontor_projections::orders::{self, Happening, OrderRow};
use kontor_projections::sales;

use super::names::MARKER;
use super::reconcile::{Books, Hours};
use crate::runtime::Runtime;

/// Rows of a view read at a time.
const PAGE: usize = 1_000;
/// What an event's payload begins with that is a correction of the stock.
const ADJUSTED: &[u8] = br#"{"StockAdjusted""#;

/// Whether an event can be one of those that are added up.
pub(super) fn concerns(event: &RawEvent) -> bool {
    match &*event.aggregate_type {
        b"order" => true,
        b"product" => event.payload.starts_with(ADJUSTED),
        _ => false,
    }
}

/// What the log says, event by event.
pub(super) struct Log {
    /// Keys not met yet.
    expected: HashSet<String>,
    /// Keys met.
    met: HashSet<String>,
    /// What commands of this file have done.
    pub(super) books: Books,
    /// Of the import's orders.
    orders: HashMap<String, LoggedOrder>,
    /// Of all orders: placed and refunded in each hour, and whether the import had a part in it.
    hours: HashMap<DateTime<Utc>, (i64, i64, bool)>,
    /// Commands of this file that are there again.
    pub(super) doubled: u64,
    /// Commands of other files, or other versions of this one.
    pub(super) of_other_files: u64,
}

/// An order of the import, as the log has it. Money in pence.
#[derive(Default)]
struct LoggedOrder {
    total: i64,
    refunded: i64,
    /// Of that, by others than the import.
    refunded_since: i64,
    returned_since: u64,
}

impl Log {
    /// A log in which commands with these keys are expected.
    pub(super) fn expecting(expected: HashSet<String>) -> Self {
        Self {
            expected,
            met: HashSet::new(),
            books: Books {
                corrections: Some((0, 0)),
                ..Books::default()
            },
            orders: HashMap::new(),
            hours: HashMap::new(),
            doubled: 0,
            of_other_files: 0,
        }
    }

    /// Takes the next event.
    pub(super) fn read(&mut self, event: &Recorded) {
        match &event.body {
            Body::Order(id, OrderEvent::Placed { items, total, .. }) => {
                let ours = self.is_ours(event);
                self.hour(event, ours).0 += total.amount_minor();
                if ours {
                    self.books.orders += 1;
                    self.books.items += items.len() as u64;
                    self.books.pieces += items.iter().map(|item| u64::from(item.quantity)).sum::<u64>();
                    self.books.sold += total.amount_minor();
                    self.orders.entry(id.to_string()).or_default().total = total.amount_minor();
                }
            }
            Body::Order(
                id,
                OrderEvent::ItemsReturned {
                    lines,
                    refund,
                    refunded,
                    ..
                },
            ) => {
                let ours = self.is_ours(event);
                self.hour(event, ours).1 += refund.amount_minor();
                let returned: u64 = lines.iter().map(|line| u64::from(line.quantity)).sum();
                if ours {
                    self.books.returned += returned;
                    self.books.refunded += refund.amount_minor();
                }
                if let Some(order) = self.orders.get_mut(&id.to_string()) {
                    order.refunded = refunded.amount_minor();
                    if !ours {
                        order.refunded_since += refund.amount_minor();
                        order.returned_since += returned;
                    }
                }
            }
            Body::Order(id, OrderEvent::RefundOrdered { amount, owed, .. }) => {
                let ours = self.is_ours(event);
                self.hour(event, ours).1 += amount.amount_minor();
                if let Some(order) = self.orders.get_mut(&id.to_string()) {
                    order.refunded = owed.amount_minor();
                    if !ours {
                        order.refunded_since += amount.amount_minor();
                    }
                }
            }
            Body::Product(_, ProductEvent::StockAdjusted { delta, .. }) => {
                if self.is_ours(event)
                    && let Some((corrections, pieces)) = &mut self.books.corrections
                {
                    *corrections += 1;
                    *pieces += i64::from(*delta);
                }
            }
            _ => {}
        }
    }

    /// Whether a command of this file caused it.
    fn is_ours(&mut self, event: &Recorded) -> bool {
        let Ok(metadata) = event.metadata() else {
            return false;
        };
        if !metadata.correlation_id.starts_with(MARKER) {
            return false;
        }
        if self.expected.remove(&metadata.command_id) {
            return self.met.insert(metadata.command_id);
        }
        if self.met.contains(&metadata.command_id) {
            self.doubled += 1;
        } else {
            self.of_other_files += 1;
        }
        false
    }

    fn hour(&mut self, event: &Recorded, ours: bool) -> &mut (i64, i64, bool) {
        let hour = event
            .time
            .duration_trunc(TimeDelta::hours(1))
            .unwrap_or(event.time);
        let sums = self.hours.entry(hour).or_default();
        sums.2 |= ours;
        sums
    }

    /// What the view of orders says of the import's, and how many it has otherwise.
    pub(super) async fn compare_orders(&self, runtime: &Runtime) -> Result<(Books, u64)> {
        let ids: Vec<String> = self.orders.keys().cloned().collect();
        let (mut books, mut different) = (Books::default(), 0);
        for ids in ids.chunks(PAGE) {
            for row in orders::by_ids(runtime.pool(), ids).await? {
                let Some(order) = self.orders.get(&row.id) else {
                    continue;
                };
                if (row.total_minor, row.refunded_minor) != (order.total, order.refunded) {
                    different += 1;
                }
                books.orders += 1;
                books.items += row.items.len() as u64;
                books.pieces += row.items.iter().map(|item| u64::from(item.quantity)).sum::<u64>();
                books.sold += row.total_minor;
                books.refunded += row.refunded_minor - order.refunded_since;
                books.returned += returned(&row).saturating_sub(order.returned_since);
            }
        }
        Ok((books, different))
    }

    /// What the view of sales says of the hours in which the import has something.
    pub(super) async fn compare_hours(&self, runtime: &Runtime) -> Result<Hours> {
        let mut result = Hours::default();
        let ours: BTreeMap<DateTime<Utc>, (i64, i64)> = self
            .hours
            .iter()
            .filter(|(_, it)| it.2)
            .map(|(hour, it)| (*hour, (it.0, it.1)))
            .collect();
        let (Some((from, _)), Some((to, _))) = (ours.first_key_value(), ours.last_key_value()) else {
            return Ok(result);
        };
        let to = *to + TimeDelta::hours(1);
        let mut view: HashMap<DateTime<Utc>, (i64, i64)> = HashMap::new();
        for row in sales::list(runtime.pool(), *from, to, None, None, i64::MAX).await? {
            let sums = view.entry(row.hour).or_default();
            sums.0 += row.placed_minor;
            sums.1 += row.refunded_minor;
        }
        for (hour, (placed, refunded)) in ours {
            let seen = view.get(&hour).copied().unwrap_or_default();
            result.hours += 1;
            result.different += u64::from(seen != (placed, refunded));
            result.placed = [result.placed[0] + placed, result.placed[1] + seen.0];
            result.refunded = [result.refunded[0] + refunded, result.refunded[1] + seen.1];
        }
        Ok(result)
    }
}

fn returned(row: &OrderRow) -> u64 {
    let lines = row.timeline.iter().filter_map(|entry| match &entry.what {
        Happening::Returned { lines, .. } => Some(lines),
        _ => None,
    });
    lines.flatten().map(|line| u64::from(line.quantity)).sum()
}
