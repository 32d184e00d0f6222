//! Names of things that follow from the file alone: whoever imports it again, meets the same.

use chrono::{DateTime, Utc};
use kontor_domain::{OrderId, ProductId, UserId};
use kontor_eventstore::{Actor, CommandContext, IdempotencyKey};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::file::{Entry, Line};
use super::money::Thousandths;
use super::plan::{Buyer, Correction, Piece, Sale};

/// What all keys begin with.
const SCOPE: &str = "online-retail";

/// What the correlation ids of all imported events begin with; the invoice number, or what else it was, follows.
pub(super) const MARKER: &str = "import/online-retail/";

/// Says that stock came in for an import.
pub(super) const RECEIPT: &str = "online-retail import";

/// A ULID that sorts by the time, and is the same for the same thing.
fn ulid(time: DateTime<Utc>, kind: &str, name: &str) -> Ulid {
    let digest = Sha256::digest(format!("{SCOPE}/{kind}/{name}"));
    let chance = digest
        .iter()
        .take(10)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte));
    Ulid::from_parts(u64::try_from(time.timestamp_millis()).unwrap_or(0), chance)
}

/// The id of an article's product, unless its SKU has one already.
pub(super) fn product_id(since: DateTime<Utc>, sku: &str) -> ProductId {
    ProductId::from_ulid(ulid(since, "product", &sku.to_lowercase()))
}

/// The id of a buyer's account, unless their e-mail address has one already.
pub(super) fn user_id(buyer: &Buyer) -> UserId {
    UserId::from_ulid(ulid(buyer.since, "customer", buyer.name()))
}

/// The id of a sale's order.
pub(super) fn order_id(sale: &Sale) -> OrderId {
    OrderId::from_ulid(ulid(sale.time, "order", &sale.name()))
}

impl Buyer {
    fn name(&self) -> &str {
        self.number.as_deref().unwrap_or("counter-sales")
    }

    /// Their e-mail address. `.invalid` is reserved (RFC 2606): no message can ever arrive.
    pub(super) fn email(&self) -> String {
        match &self.number {
            Some(number) => format!("customer-{number}@online-retail.invalid"),
            None => "counter-sales@online-retail.invalid".to_owned(),
        }
    }

    /// What to call them.
    pub(super) fn display_name(&self) -> String {
        self.number.as_ref().map_or_else(
            || "Counter sales".to_owned(),
            |number| format!("Customer {number}"),
        )
    }

    /// Of their registration.
    pub(super) fn key(&self) -> IdempotencyKey {
        IdempotencyKey::derived(SCOPE, &format!("customer/{}", self.name()), "register")
    }
}

impl Sale {
    /// Invoice and part.
    fn name(&self) -> String {
        format!("{}/{}", self.invoice, self.part)
    }

    /// What stands on the parcel: the invoice number, with the part if there are several.
    pub(super) fn parcel(&self) -> String {
        if self.divided {
            self.name()
        } else {
            self.invoice.to_string()
        }
    }

    /// Of its order's placing; bound to all that the file says about it.
    pub(super) fn place_key(&self, entries: &[Entry]) -> IdempotencyKey {
        let mut content = Content::default();
        content.field(self.time).field(&self.country);
        for item in &self.items {
            content.line(entries, item.line);
        }
        IdempotencyKey::new(SCOPE, &format!("{}/place", self.name()), content.0.as_bytes())
    }

    /// Of its order's shipping or delivery.
    pub(super) fn key(&self, step: &str) -> IdempotencyKey {
        IdempotencyKey::derived(SCOPE, &self.name(), step)
    }
}

impl Correction {
    /// Bound to what its line says.
    pub(super) fn key(&self, line: &Line, entries: &[Entry]) -> IdempotencyKey {
        let mut content = Content::default();
        content.field(line.time).line(entries, self.line);
        let name = format!("{}/line-{}/adjust", line.invoice, self.number);
        IdempotencyKey::new(SCOPE, &name, content.0.as_bytes())
    }
}

/// Of the return of these pieces of a sale; bound to how many they are and what is paid back.
pub(super) fn return_key(
    cancellation: &str,
    time: DateTime<Utc>,
    sale: &Sale,
    pieces: &[Piece],
) -> IdempotencyKey {
    let mut content = Content::default();
    content.field(time);
    for piece in pieces {
        content
            .field(piece.item)
            .field(piece.quantity.get())
            .field(piece.price);
    }
    IdempotencyKey::new(
        SCOPE,
        &format!("{cancellation}/{}/return", sale.name()),
        content.0.as_bytes(),
    )
}

/// Of an article's creation, whatever the file says of it: a product that is there stays as it is.
pub(super) fn create_key(sku: &str) -> IdempotencyKey {
    IdempotencyKey::derived(SCOPE, &format!("product/{}", sku.to_lowercase()), "create")
}

/// Of the receipt that brings an article to so many pieces received by import.
pub(super) fn receive_key(sku: &str, up_to: u64) -> IdempotencyKey {
    IdempotencyKey::derived(
        SCOPE,
        &format!("product/{}", sku.to_lowercase()),
        format!("receive/{up_to}"),
    )
}

/// The context of a command that happened in the past, as part of `what`.
pub(super) fn context(time: DateTime<Utc>, what: &str, key: IdempotencyKey) -> CommandContext {
    let mut context = CommandContext::new(key.key.clone(), Actor::System("import"), time).once(key);
    context.correlation_id = format!("{MARKER}{what}");
    context.backdated = true;
    context
}

/// The canonical form of what was asked.
#[derive(Default)]
struct Content(String);

impl Content {
    /// A separator that no field holds: fields come from lines of text.
    fn field(&mut self, value: impl std::fmt::Display) -> &mut Self {
        self.0.push_str(&value.to_string());
        self.0.push('\u{1f}');
        self
    }

    fn line(&mut self, entries: &[Entry], index: usize) {
        if let Some(line) = entries.get(index).and_then(Entry::line) {
            let Thousandths(price) = line.price;
            self.field(&line.code)
                .field(&line.description)
                .field(line.quantity)
                .field(price)
                .field(line.customer.as_deref().unwrap_or_default());
        }
    }
}
