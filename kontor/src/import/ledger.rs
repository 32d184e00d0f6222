//! What was sold to whom and has not come back, as cancellations find it.

use std::collections::HashMap;

use super::refusal::Refusal;

/// Everything sold so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By customer and article, oldest first.
    lots: HashMap<(usize, usize), Vec<Lot>>,
    /// By sale: what was paid and not paid back, in pence.
    refundable: Vec<i64>,
}

/// An item of a sale.
#[derive(Debug)]
struct Lot {
    sale: usize,
    item: u32,
    price: i64,
    left: u32,
}

/// Pieces of an item that a cancellation takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Which sale.
    pub(super) sale: usize,
    /// Which of its items, from 0.
    pub(super) item: u32,
    /// How many.
    pub(super) quantity: u32,
}

impl Ledger {
    /// Opens the next sale, worth `total` pence; sales are counted from 0.
    pub(super) fn sell(&mut self, total: i64) -> usize {
        self.refundable.push(total);
        self.refundable.len() - 1
    }

    /// Notes an item of a sale.
    pub(super) fn item(
        &mut self,
        sale: usize,
        item: u32,
        buyer: usize,
        article: usize,
        quantity: u32,
        price: i64,
    ) {
        self.lots.entry((buyer, article)).or_default().push(Lot {
            sale,
            item,
            price,
            left: quantity,
        });
    }

    /// Takes `quantity` pieces back at `price` pence each, wholly or not at all: first those sold at that price, then
    /// any others; of each the latest first.
    pub(super) fn take_back(
        &mut self,
        buyer: usize,
        article: usize,
        quantity: u32,
        price: i64,
    ) -> Result<Vec<Taken>, Refusal> {
        let Some(lots) = self.lots.get_mut(&(buyer, article)) else {
            return Err(Refusal::NoEarlierSale);
        };
        if lots.iter().map(|lot| u64::from(lot.left)).sum::<u64>() < u64::from(quantity) {
            return Err(Refusal::MoreThanSold);
        }
        let (same, other): (Vec<usize>, Vec<usize>) = (0..lots.len())
            .rev()
            .filter(|lot| lots[*lot].left > 0)
            .partition(|lot| lots[*lot].price == price);
        let mut wanted = quantity;
        let mut taken = Vec::new();
        let mut paid: HashMap<usize, i64> = HashMap::new();
        for index in same.into_iter().chain(other) {
            let lot = &lots[index];
            let rest = self.refundable[lot.sale] - paid.get(&lot.sale).copied().unwrap_or(0);
            let affordable = if price == 0 {
                wanted
            } else {
                u32::try_from(rest / price).unwrap_or(u32::MAX)
            };
            let quantity = wanted.min(lot.left).min(affordable);
            if quantity > 0 {
                *paid.entry(lot.sale).or_default() += price * i64::from(quantity);
                taken.push((
                    index,
                    Taken {
                        sale: lot.sale,
                        item: lot.item,
                        quantity,
                    },
                ));
                wanted -= quantity;
            }
        }
        if wanted > 0 {
            return Err(Refusal::MoreThanPaid);
        }
        for (index, piece) in &taken {
            lots[*index].left -= piece.quantity;
        }
        for (sale, paid) in paid {
            self.refundable[sale] -= paid;
        }
        Ok(taken.into_iter().map(|(_, piece)| piece).collect())
    }
}
