//! What a shop makes of the file: pure, and whole before the first command is sent. The same lines give the same plan.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use kontor_domain::Quantity;

use super::catalogue::Article;
use super::file::Text;
use super::refusal::Refusal;

/// Everything to be done, and why each line is part of it or not.
#[derive(Debug)]
pub(super) struct Plan {
    /// What is dealt in.
    pub(super) articles: Vec<Article>,
    /// With whom.
    pub(super) buyers: Vec<Buyer>,
    /// Orders.
    pub(super) sales: Vec<Sale>,
    /// Corrections of the stock.
    pub(super) corrections: Vec<Correction>,
    /// What comes back.
    pub(super) cancellations: Vec<Cancellation>,
    /// All of the last three in the order of their times.
    pub(super) jobs: Vec<Job>,
    /// What becomes of each line, in the file's order.
    pub(super) fates: Vec<Fate>,
}

/// A customer with an id, or the one account of all without.
#[derive(Debug)]
pub(super) struct Buyer {
    /// `None`: the account for counter sales.
    pub(super) number: Option<Text>,
    /// Time of their first line.
    pub(super) since: DateTime<Utc>,
}

/// An invoice, or what of it fits one order.
#[derive(Debug)]
pub(super) struct Sale {
    /// Its invoice.
    pub(super) invoice: Text,
    /// Which part of the invoice, from 1.
    pub(super) part: usize,
    /// Whether there are others.
    pub(super) divided: bool,
    /// Whose.
    pub(super) buyer: usize,
    /// Where it goes.
    pub(super) country: Text,
    /// When it was written.
    pub(super) time: DateTime<Utc>,
    /// At least one.
    pub(super) items: Vec<Item>,
}

/// A line of an order.
#[derive(Debug)]
pub(super) struct Item {
    /// Which line of the file, from 0.
    pub(super) line: usize,
    /// Of what.
    pub(super) article: usize,
    /// How many.
    pub(super) quantity: Quantity,
    /// Pence a piece.
    pub(super) price: i64,
}

/// A correction of the stock.
#[derive(Debug)]
pub(super) struct Correction {
    /// Which line of the file, from 0.
    pub(super) line: usize,
    /// Which line of its invoice, from 1.
    pub(super) number: usize,
    /// Of what.
    pub(super) article: usize,
}

/// A cancellation, as far as it takes something back.
#[derive(Debug)]
pub(super) struct Cancellation {
    /// Its own invoice number.
    pub(super) invoice: Text,
    /// When it was written.
    pub(super) time: DateTime<Utc>,
    /// One for each order it touches.
    pub(super) returns: Vec<Return>,
}

/// What comes back of one order.
#[derive(Debug)]
pub(super) struct Return {
    /// Which sale.
    pub(super) sale: usize,
    /// At least one.
    pub(super) pieces: Vec<Piece>,
}

/// Pieces of one item that come back.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Which line of the file asks for it, from 0. A line may need several pieces.
    pub(super) line: usize,
    /// Which item of the sale, from 0.
    pub(super) item: u32,
    /// How many.
    pub(super) quantity: Quantity,
    /// Pence a piece to be paid back.
    pub(super) price: i64,
}

/// Something to be done: index into the respective list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    /// An order.
    Sale(usize),
    /// A correction of the stock.
    Correction(usize),
    /// A cancellation.
    Cancellation(usize),
}

/// What becomes of a line: index into the respective list, or why nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// An item of an order.
    Item(usize),
    /// A correction of the stock.
    Correction(usize),
    /// Part of a cancellation.
    Refund(usize),
    /// Nothing.
    Refused(Refusal),
}

impl Item {
    /// Pence, within what an amount may be.
    pub(super) fn total(&self) -> i64 {
        self.price * i64::from(self.quantity.get())
    }
}

impl Piece {
    /// Pence to be paid back for them.
    pub(super) fn refund(&self) -> i64 {
        self.price * i64::from(self.quantity.get())
    }
}

impl Cancellation {
    /// How many lines of the file it does.
    pub(super) fn lines(&self) -> usize {
        let lines: HashSet<usize> = self
            .returns
            .iter()
            .flat_map(|it| it.pieces.iter().map(|piece| piece.line))
            .collect();
        lines.len()
    }
}

/// A text fit for one line of at most `length` characters.
pub(super) fn clean(text: &str, length: usize) -> String {
    let one_line = |c: char| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            ' '
        } else {
            c
        }
    };
    let text: String = text.trim().chars().map(one_line).take(length).collect();
    text.trim().to_owned()
}
