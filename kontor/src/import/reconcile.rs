//! Compares what the file says, what the log says, and what the views say.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use futures::TryStreamExt;
use kontor_eventstore::read::{head, read_raw};

use super::file::Entry;
use super::logged::{Log, concerns};
use super::money::Thousandths;
use super::names::return_key;
use super::plan::{Fate, Piece, Plan};
use super::refusal::Refusal;
use super::run::Taken;
use crate::runtime::Runtime;
use crate::terminal::event_bar;

/// Events read at a time.
const CHUNK: usize = 1_024;

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
    let bar = event_bar();
    bar.set_length(to);
    let mut events = Box::pin(read_raw(runtime.pool(), 0, to, CHUNK));
    while let Some(chunk) = events.try_next().await? {
        bar.inc(chunk.len() as u64);
        for event in chunk.into_iter().filter(concerns) {
            log.read(&event.decode());
        }
    }
    bar.finish_and_clear();
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
