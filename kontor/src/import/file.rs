//! The lines of the file, checked one by one. What cannot be read is kept: every line is accounted for.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, NaiveDateTime, Utc};
use csv::{ByteRecord, ReaderBuilder};
use kontor_domain::Sku;

use super::money::Thousandths;

/// The columns, as the first line must name them.
const HEADER: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// A text that many lines share.
pub(super) type Text = Arc<str>;

/// One line below the header.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// It has the form of an invoice line. Whether it makes sense is another matter.
    Line(Line),
    /// It has not.
    Unreadable(Unreadable),
}

/// A line that is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unreadable {
    /// What is wrong.
    pub(super) problem: &'static str,
    /// Quantity times unit price, as far as they can be read.
    pub(super) amount: Thousandths,
}

/// An invoice line as it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Letters and digits.
    pub(super) invoice: Text,
    /// A valid SKU, in whichever case it was typed.
    pub(super) code: Text,
    /// Trimmed; may be empty.
    pub(super) description: Text,
    /// Below zero for what comes back or gets lost.
    pub(super) quantity: i32,
    /// The file names no zone; taken as UTC.
    pub(super) time: DateTime<Utc>,
    /// Price of a piece.
    pub(super) price: Thousandths,
    /// Digits; absent where the shop did not note who bought.
    pub(super) customer: Option<Text>,
    /// A name, not a code.
    pub(super) country: Text,
}

impl Line {
    /// What the line comes to.
    pub(super) fn amount(&self) -> Thousandths {
        self.price * self.quantity
    }
}

impl Entry {
    /// What the line comes to.
    pub(super) fn amount(&self) -> Thousandths {
        match self {
            Self::Line(line) => line.amount(),
            Self::Unreadable(it) => it.amount,
        }
    }

    /// The line, if it is one.
    pub(super) fn line(&self) -> Option<&Line> {
        match self {
            Self::Line(line) => Some(line),
            Self::Unreadable(_) => None,
        }
    }
}

/// Every line of the file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>> {
    lines(File::open(path).context("the file cannot be opened")?)
}

/// Every line of what is read, in its order.
pub(super) fn lines(input: impl Read) -> Result<Vec<Entry>> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
    let header = reader.byte_headers().context("the file cannot be read")?;
    if !header.iter().eq(HEADER.iter().map(|name| name.as_bytes())) {
        bail!("its first line is not {}", HEADER.join(","));
    }
    let mut texts = Texts::default();
    let mut entries = Vec::new();
    let mut record = ByteRecord::new();
    while reader
        .read_byte_record(&mut record)
        .context("the file cannot be read")?
    {
        entries.push(match texts.line(&record) {
            Ok(line) => Entry::Line(line),
            Err(problem) => Entry::Unreadable(Unreadable {
                problem,
                amount: amount(&record),
            }),
        });
    }
    Ok(entries)
}

/// Each text once.
#[derive(Default)]
struct Texts(HashSet<Text>);

impl Texts {
    fn line(&mut self, record: &ByteRecord) -> Result<Line, &'static str> {
        if record.len() != HEADER.len() {
            return Err("does not have eight columns");
        }
        let invoice = self.text(record, 0);
        if invoice.is_empty()
            || invoice.len() > 40
            || !invoice.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err("no usable invoice number");
        }
        let code = self.text(record, 1);
        Sku::new(&*code).map_err(|_| "no usable stock code")?;
        let quantity = text(record, 3).parse().map_err(|_| "no usable quantity")?;
        let time = NaiveDateTime::parse_from_str(&text(record, 4), "%Y-%m-%d %H:%M:%S")
            .map_err(|_| "no usable date")?
            .and_utc();
        let price = Thousandths::parse(&text(record, 5)).ok_or("no usable unit price")?;
        let customer = self.text(record, 6);
        if customer.len() > 40 || !customer.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("no usable customer id");
        }
        Ok(Line {
            invoice,
            code,
            description: self.text(record, 2),
            quantity,
            time,
            price,
            customer: (!customer.is_empty()).then_some(customer),
            country: self.text(record, 7),
        })
    }

    fn text(&mut self, record: &ByteRecord, column: usize) -> Text {
        let text = text(record, column);
        if let Some(known) = self.0.get(&*text) {
            return Arc::clone(known);
        }
        let text = Text::from(text);
        self.0.insert(Arc::clone(&text));
        text
    }
}

/// A field, trimmed. Copies of this file go round in UTF-8 and in Latin-1, for the sake of one pound sign.
fn text(record: &ByteRecord, column: usize) -> String {
    let bytes = record.get(column).unwrap_or_default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    text.trim().to_owned()
}

fn amount(record: &ByteRecord) -> Thousandths {
    match (
        Thousandths::parse(&text(record, 5)),
        text(record, 3).parse::<i32>(),
    ) {
        (Some(price), Ok(quantity)) => price * quantity,
        _ => Thousandths::default(),
    }
}
