//! Makes the plan, invoice by invoice in the order of their times.

use std::collections::HashMap;

use kontor_domain::order::MAX_ITEMS;
use kontor_domain::{Money, Quantity};

use super::catalogue::{Catalogue, is_goods};
use super::file::{Entry, Line, Text};
use super::ledger::Ledger;
use super::plan::{Buyer, Cancellation, Correction, Fate, Item, Job, Piece, Plan, Return, Sale};
use super::refusal::Refusal;

impl Plan {
    /// What is to be made of these lines.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut lines: Vec<(usize, &Line)> = entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((index, entry.line()?)))
            .collect();
        // The file is in this order already; what was bought must come before what is given back.
        lines.sort_by_key(|(_, line)| line.time);
        let mut planner = Planner {
            catalogue: Catalogue::of(lines.iter().map(|(_, line)| *line)),
            by_number: HashMap::new(),
            ledger: Ledger::default(),
            plan: Self {
                articles: Vec::new(),
                buyers: Vec::new(),
                sales: Vec::new(),
                corrections: Vec::new(),
                cancellations: Vec::new(),
                jobs: Vec::new(),
                fates: entries.iter().map(unread).collect(),
            },
        };
        for invoice in invoices(lines) {
            planner.invoice(&invoice);
        }
        planner.plan.articles = planner.catalogue.articles;
        planner.plan
    }
}

/// What a line of a sale is, on its own.
enum Kind {
    Item { quantity: Quantity, price: i64 },
    Correction,
}

/// What a line is before it has been looked at.
fn unread(entry: &Entry) -> Fate {
    Fate::Refused(match entry {
        Entry::Unreadable(it) => Refusal::Unreadable(it.problem),
        Entry::Line(_) => Refusal::Bookkeeping,
    })
}

/// The lines by invoice, invoices in the order of their first lines.
fn invoices(lines: Vec<(usize, &Line)>) -> Vec<Vec<(usize, &Line)>> {
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut invoices: Vec<Vec<(usize, &Line)>> = Vec::new();
    for (index, line) in lines {
        let invoice = *known.entry(&line.invoice).or_insert_with(|| {
            invoices.push(Vec::new());
            invoices.len() - 1
        });
        invoices[invoice].push((index, line));
    }
    invoices
}

struct Planner {
    catalogue: Catalogue,
    by_number: HashMap<Option<Text>, usize>,
    ledger: Ledger,
    plan: Plan,
}

impl Planner {
    fn invoice(&mut self, lines: &[(usize, &Line)]) {
        let Some((_, first)) = lines.first() else { return };
        let buyer = self.buyer(first);
        let (own, foreign): (Vec<_>, Vec<_>) = lines
            .iter()
            .copied()
            .partition(|(_, line)| line.customer == first.customer && line.country == first.country);
        for (index, line) in foreign {
            self.buyer(line);
            self.plan.fates[index] = Fate::Refused(Refusal::OtherCustomer);
        }
        match first.invoice.bytes().next() {
            Some(b'0'..=b'9') => self.sale(buyer, first, &own),
            Some(b'C') => self.cancellation(buyer, first, &own),
            _ => {} // Bookkeeping, as every line is until something else is known of it.
        }
    }

    fn buyer(&mut self, line: &Line) -> usize {
        *self.by_number.entry(line.customer.clone()).or_insert_with(|| {
            self.plan.buyers.push(Buyer {
                number: line.customer.clone(),
                since: line.time,
            });
            self.plan.buyers.len() - 1
        })
    }

    fn sale(&mut self, buyer: usize, first: &Line, lines: &[(usize, &Line)]) {
        let mut items = Vec::new();
        for (number, (index, line)) in lines.iter().enumerate() {
            let (index, Some(article)) = (*index, self.catalogue.article(line)) else {
                continue;
            };
            match kind(line) {
                Ok(Kind::Item { quantity, price }) => {
                    self.leaves(article, quantity.into());
                    items.push(Item {
                        line: index,
                        article,
                        quantity,
                        price,
                    });
                }
                Ok(Kind::Correction) => {
                    self.leaves(article, u64::from(line.quantity.min(0).unsigned_abs()));
                    self.plan.fates[index] = Fate::Correction(self.plan.corrections.len());
                    self.plan.jobs.push(Job::Correction(self.plan.corrections.len()));
                    self.plan.corrections.push(Correction {
                        line: index,
                        number: number + 1,
                        article,
                    });
                }
                Err(refusal) => self.plan.fates[index] = Fate::Refused(refusal),
            }
        }
        let parts = divided(items);
        let divided = parts.len() > 1;
        for (index, items) in parts.into_iter().enumerate() {
            let sale = self.ledger.sell(items.iter().map(Item::total).sum());
            for (item, number) in items.iter().zip(0..) {
                self.ledger
                    .item(sale, number, buyer, item.article, item.quantity.get(), item.price);
                self.plan.fates[item.line] = Fate::Item(sale);
            }
            self.plan.jobs.push(Job::Sale(sale));
            self.plan.sales.push(Sale {
                invoice: Text::clone(&first.invoice),
                part: index + 1,
                divided,
                buyer,
                country: Text::clone(&first.country),
                time: first.time,
                items,
            });
        }
    }

    /// Pieces that must be in the house for it.
    fn leaves(&mut self, article: usize, pieces: u64) {
        let article = &mut self.catalogue.articles[article];
        article.used = true;
        article.pieces += pieces;
    }

    fn cancellation(&mut self, buyer: usize, first: &Line, lines: &[(usize, &Line)]) {
        let cancellation = self.plan.cancellations.len();
        let mut returns: Vec<Return> = Vec::new();
        for (index, line) in lines {
            self.plan.fates[*index] = match self.take_back(buyer, *index, line, &mut returns) {
                Ok(()) => Fate::Refund(cancellation),
                Err(refusal) => Fate::Refused(refusal),
            };
        }
        if !returns.is_empty() {
            let invoice = Text::clone(&first.invoice);
            self.plan.jobs.push(Job::Cancellation(cancellation));
            self.plan.cancellations.push(Cancellation {
                invoice,
                time: first.time,
                returns,
            });
        }
    }

    /// Finds what a line of a cancellation takes back.
    fn take_back(
        &mut self,
        buyer: usize,
        index: usize,
        line: &Line,
        returns: &mut Vec<Return>,
    ) -> Result<(), Refusal> {
        let (quantity, price) = cancelled(line)?;
        let article = self.catalogue.article(line).ok_or(Refusal::NoEarlierSale)?;
        let taken = self.ledger.take_back(buyer, article, quantity, price);
        let taken = taken.map_err(|why| {
            if is_goods(&line.code) {
                why
            } else {
                Refusal::NotGoods
            }
        })?;
        for it in taken {
            let quantity = Quantity::new(it.quantity).map_err(|_| Refusal::TooMuch)?;
            let piece = Piece {
                line: index,
                item: it.item,
                quantity,
                price,
            };
            match returns.iter_mut().find(|known| known.sale == it.sale) {
                Some(known) => known.pieces.push(piece),
                None => returns.push(Return {
                    sale: it.sale,
                    pieces: vec![piece],
                }),
            }
        }
        Ok(())
    }
}

/// What a line of an invoice is that is no cancellation.
fn kind(line: &Line) -> Result<Kind, Refusal> {
    if line.quantity == 0 {
        return Err(Refusal::NoPieces);
    }
    if line.price.0 < 0 {
        return Err(Refusal::NegativePrice);
    }
    if line.quantity < 0 {
        return if line.price.0 == 0 {
            Ok(Kind::Correction)
        } else {
            Err(Refusal::NegativeQuantity)
        };
    }
    let price = line.price.pence().ok_or(Refusal::FractionOfAPenny)?;
    if price == 0 && line.customer.is_none() {
        return Ok(Kind::Correction);
    }
    let quantity = Quantity::new(line.quantity.unsigned_abs()).map_err(|_| Refusal::TooMuch)?;
    let total = i128::from(price) * i128::from(quantity.get());
    if total > i128::from(Money::MAX_MINOR) {
        return Err(Refusal::TooMuch);
    }
    Ok(Kind::Item { quantity, price })
}

/// How many pieces a line of a cancellation takes back, and for how many pence each.
fn cancelled(line: &Line) -> Result<(u32, i64), Refusal> {
    if line.quantity >= 0 {
        return Err(Refusal::NothingCancelled);
    }
    if line.price.0 < 0 {
        return Err(Refusal::NegativePrice);
    }
    let price = line.price.pence().ok_or(Refusal::FractionOfAPenny)?;
    Ok((line.quantity.unsigned_abs(), price))
}

/// The items of an invoice in orders: as many as an order may have, of pieces and money too.
fn divided(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut orders: Vec<Vec<Item>> = Vec::new();
    let mut pieces: HashMap<usize, u64> = HashMap::new();
    let mut total: i64 = 0;
    for item in items {
        let with_this = pieces.get(&item.article).copied().unwrap_or(0) + u64::from(item.quantity);
        let fits = |order: &Vec<Item>| {
            order.len() < MAX_ITEMS
                && with_this <= u64::from(Quantity::MAX)
                && total + item.total() <= Money::MAX_MINOR
        };
        if !orders.last().is_some_and(fits) {
            orders.push(Vec::new());
            pieces.clear();
            total = 0;
        }
        *pieces.entry(item.article).or_default() += u64::from(item.quantity);
        total += item.total();
        if let Some(order) = orders.last_mut() {
            order.push(item);
        }
    }
    orders
}
