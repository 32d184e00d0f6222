//! Compares what the file says, what the log says, and what the views say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use futures::TryStreamExt;
use kontor_domain::{OrderEvent, ProductEvent};
use kontor_eventstore::read::{RawEvent, head, read_raw};
use kontor_eventstore::{Body, Recorded};
use kontor_projections::orders::{self, Happening, OrderRow};
use kontor_projections::sales;

use super::file::Entry;
use super::money::Thousandths;
use super::names::{MARKER, return_key};
use super::plan::{Fate, Piece, Plan};
use super::refusal::Refusal;
use super::run::Taken;
use crate::runtime::Runtime;

/// Rows of a view read at a time.
const PAGE: usize = 1_000;
/// Events read at a time.
const CHUNK: usize = 1_024;
/// What an event's payload begins with that is a correction of the stock.
const ADJUSTED: &[u8] = br#"{"StockAdjusted""#;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// An item of an order.
    Item,
    /// A refund of items that came back.
    Refund,
    /// A correction of the stock.
    Correction,
    /// Nothing.
    Refused(Refusal),
}

/// Lines of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub lines: u64,
    /// Sum of quantity times unit price.
    pub amount: Thousandths,
}

/// The import's figures in one place: the file, the log, or the views. Money in pence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Orders placed.
    pub orders: u64,
    /// Their items.
    pub items: u64,
    /// Pieces in them.
    pub pieces: u64,
    /// What they cost together.
    pub sold: i64,
    /// Pieces that came back.
    pub returned: u64,
    /// What was paid back for them.
    pub refunded: i64,
    /// Corrections of the stock: how many, and pieces more or less. Views do not keep them.
    pub corrections: Option<(u64, i64)>,
}

/// Sales per hour, over the hours in which the import has something. Money in pence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// How many such hours.
    pub hours: u64,
    /// Of those, hours that the view has otherwise than the log.
    pub different: u64,
    /// Orders placed in them, by anybody: as the log and as the view says.
    pub placed: [i64; 2],
    /// Refunds in them, to anybody: as the log and as the view says.
    pub refunded: [i64; 2],
}

/// What an import comes to. The same for every run of the same file, but for the last two.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciliation {
    /// What became of the lines.
    pub classes: BTreeMap<Class, Sum>,
    /// What the file says, less what was refused.
    pub file: Books,
    /// What the log says of the same commands.
    pub log: Books,
    /// What the view of orders says of the same orders, less refunds that others have given since.
    pub views: Books,
    /// The view of sales.
    pub hours: Hours,
    /// Orders that the view has otherwise than the log.
    pub different_orders: u64,
    /// Commands of this file that the log has more than once.
    pub doubled: u64,
    /// Orders, returns and corrections in the log that come from imports of other files, or of other versions of this one.
    pub of_other_files: u64,
    /// Commands of this run that an earlier one had sent.
    pub repeated: usize,
    /// How long this run took, until the views showed everything.
    pub elapsed: Duration,
}

impl Reconciliation {
    /// Whether file, log and views agree in everything.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences().is_empty()
    }

    /// All lines of the file.
    #[must_use]
    pub fn together(&self) -> Sum {
        self.classes.values().fold(Sum::default(), |sum, it| Sum {
            lines: sum.lines + it.lines,
            amount: sum.amount + it.amount,
        })
    }

    /// In what they do not agree, in words.
    #[must_use]
    pub fn differences(&self) -> Vec<&'static str> {
        let class = |class| self.classes.get(&class).copied().unwrap_or_default();
        let (items, refunds, corrections) =
            (class(Class::Item), class(Class::Refund), class(Class::Correction));
        let paid_back = Thousandths::from_pence(self.log.refunded);
        let checks = [
            (self.file == self.log, "the log is not what the file says"),
            (
                items.lines == self.log.items,
                "the log has another number of items than the file has lines of them",
            ),
            (
                items.amount == Thousandths::from_pence(self.log.sold),
                "the log's orders are not worth what their lines are",
            ),
            (
                refunds.amount == -paid_back,
                "the log's refunds are not worth what the cancelled lines are",
            ),
            (
                corrections.amount == Thousandths::default(),
                "corrections of the stock move money",
            ),
            (
                self.views
                    == Books {
                        corrections: None,
                        ..self.log
                    },
                "the view of orders is not what the log says",
            ),
            (
                self.different_orders == 0,
                "single orders in the view are not what the log says",
            ),
            (
                self.hours.different == 0,
                "the view of sales is not what the log says",
            ),
            (
                self.doubled == 0,
                "the log has commands of this file more than once",
            ),
        ];
        checks
            .into_iter()
            .filter(|(equal, _)| !equal)
            .map(|(_, difference)| difference)
            .collect()
    }
}

/// Compares. Whatever was sent must be in the views already.
pub(super) async fn reconcile(
    runtime: &Runtime,
    entries: &[Entry],
    plan: &Plan,
    taken: Taken,
) -> Result<Reconciliation> {
    let refused = &taken.refused;
    let mut classes: BTreeMap<Class, Sum> = BTreeMap::new();
    for (line, entry) in entries.iter().enumerate() {
        let sum = classes.entry(class_of(line, plan, refused)).or_default();
        sum.lines += 1;
        sum.amount = sum.amount + entry.amount();
    }
    let (file, keys) = the_file(entries, plan, refused);
    let mut log = Log::expecting(keys);
    let to = head(runtime.pool()).await?;
    let mut events = Box::pin(read_raw(runtime.pool(), 0, to, CHUNK));
    while let Some(chunk) = events.try_next().await? {
        for event in chunk.into_iter().filter(concerns) {
            log.read(&event.decode());
        }
    }
    let (views, different_orders) = log.compare_orders(runtime).await?;
    Ok(Reconciliation {
        classes,
        file,
        log: log.books,
        views,
        hours: log.compare_hours(runtime).await?,
        different_orders,
        doubled: log.doubled,
        of_other_files: log.of_other_files,
        repeated: taken.repeated,
        elapsed: taken.elapsed,
    })
}

/// The one class of a line.
pub(super) fn class_of(line: usize, plan: &Plan, refused: &BTreeMap<usize, Refusal>) -> Class {
    match (refused.get(&line).copied(), plan.fates[line]) {
        (Some(why), _) | (None, Fate::Refused(why)) => Class::Refused(why),
        (None, Fate::Item(_)) => Class::Item,
        (None, Fate::Refund(_)) => Class::Refund,
        (None, Fate::Correction(_)) => Class::Correction,
    }
}

/// The file's figures, and the keys of the commands they came with.
pub(super) fn the_file(
    entries: &[Entry],
    plan: &Plan,
    refused: &BTreeMap<usize, Refusal>,
) -> (Books, HashSet<String>) {
    let mut books = Books::default();
    let mut keys = HashSet::new();
    for sale in plan
        .sales
        .iter()
        .filter(|sale| !sale.items.iter().any(|it| refused.contains_key(&it.line)))
    {
        books.orders += 1;
        books.items += sale.items.len() as u64;
        books.pieces += sale.items.iter().map(|it| u64::from(it.quantity)).sum::<u64>();
        books.sold += sale.items.iter().map(super::plan::Item::total).sum::<i64>();
        keys.insert(sale.place_key(entries).key);
    }
    for by in &plan.cancellations {
        for it in &by.returns {
            let pieces: Vec<Piece> = it
                .pieces
                .iter()
                .filter(|piece| !refused.contains_key(&piece.line))
                .cloned()
                .collect();
            if !pieces.is_empty() {
                books.returned += pieces.iter().map(|piece| u64::from(piece.quantity)).sum::<u64>();
                books.refunded += pieces.iter().map(Piece::refund).sum::<i64>();
                keys.insert(return_key(&by.invoice, by.time, &plan.sales[it.sale], &pieces).key);
            }
        }
    }
    let (mut corrections, mut delta) = (0, 0);
    for it in plan
        .corrections
        .iter()
        .filter(|it| !refused.contains_key(&it.line))
    {
        if let Some(line) = entries[it.line].line() {
            corrections += 1;
            delta += i64::from(line.quantity);
            keys.insert(it.key(line, entries).key);
        }
    }
    books.corrections = Some((corrections, delta));
    (books, keys)
}

/// Whether an event can be one of those that are added up.
fn concerns(event: &RawEvent) -> bool {
    match &*event.aggregate_type {
        b"order" => true,
        b"product" => event.payload.starts_with(ADJUSTED),
        _ => false,
    }
}

/// What the log says.
struct Log {
    /// Keys not met yet.
    expected: HashSet<String>,
    /// Keys met.
    met: HashSet<String>,
    books: Books,
    /// Of the import's orders.
    orders: HashMap<String, LoggedOrder>,
    /// Of all orders: placed and refunded in each hour, and whether the import had a part in it.
    hours: HashMap<DateTime<Utc>, (i64, i64, bool)>,
    doubled: u64,
    of_other_files: u64,
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
    fn expecting(expected: HashSet<String>) -> Self {
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

    fn read(&mut self, event: &Recorded) {
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
    async fn compare_orders(&self, runtime: &Runtime) -> Result<(Books, u64)> {
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
    async fn compare_hours(&self, runtime: &Runtime) -> Result<Hours> {
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
        for row in sales::list(runtime.pool(), *from, to, None, i64::MAX).await? {
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
