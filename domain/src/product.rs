//! Something that is sold, and how much of it there is.
//!
//! Available = on hand − reserved, never below zero whatever the order of commands: pieces leave only through a
//! reservation, and an adjustment may not go below what is reserved.

use std::collections::BTreeMap;
use std::num::NonZeroI32;

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::claims::{ClaimChange, ClaimKind};
use crate::entity::{Entity, Schema};
use crate::ids::{OrderId, ProductId};
use crate::money::Money;
use crate::text::{Category, Description, ProductName, Quantity, Sku};

mod commands;
mod events;

pub use commands::{ProductCommand, ProductError};
pub use events::{ProductEvent, RefusalReason};

/// The most pieces of one product: 10^12, well inside the 53 bits that a JSON number keeps exactly.
pub const MAX_ON_HAND: u64 = 1_000_000_000_000;

const SCHEMA: u32 = 1;

/// The state that product commands are decided on.
///
/// Invariants: `reserved` is the sum of `reservations`, and `reserved <= on_hand <= MAX_ON_HAND`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Product {
    schema: Schema<SCHEMA>,
    listing: Option<Listing>,
    on_hand: u64,
    reserved: u64,
    // Ten thousand live reservations are normal: a command touches one, and nothing may walk or clone the map.
    reservations: BTreeMap<OrderId, Quantity>,
}

/// What the catalogue says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Listing {
    sku: Sku,
    name: ProductName,
    description: Description,
    category: Category,
    price: Money,
    listed: bool,
}

impl Product {
    /// Whether anything was created under this id.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.listing.is_some()
    }

    /// The shop's own name for it.
    #[must_use]
    pub fn sku(&self) -> Option<&Sku> {
        self.listing.as_ref().map(|listing| &listing.sku)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> Option<&ProductName> {
        self.listing.as_ref().map(|listing| &listing.name)
    }

    /// Price of one piece.
    #[must_use]
    pub fn price(&self) -> Option<Money> {
        self.listing.as_ref().map(|listing| listing.price)
    }

    /// Whether it exists and is sold.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listing.as_ref().is_some_and(|listing| listing.listed)
    }

    /// Pieces in the house.
    #[must_use]
    pub const fn on_hand(&self) -> u64 {
        self.on_hand
    }

    /// Pieces set aside for orders.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Pieces that can still be reserved.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.on_hand - self.reserved
    }

    /// What an order has set aside.
    #[must_use]
    pub fn reservation(&self, order_id: OrderId) -> Option<Quantity> {
        self.reservations.get(&order_id).copied()
    }

    fn decide(&self, command: ProductCommand) -> Result<Vec<ProductEvent>, ProductError> {
        let event = match (&self.listing, command) {
            (Some(listing), command) => self.decide_existing(listing, command)?,
            (
                None,
                ProductCommand::Create {
                    sku,
                    name,
                    description,
                    category,
                    price,
                },
            ) => Some(ProductEvent::Created {
                sku,
                name,
                description,
                category,
                price: price.non_negative()?,
            }),
            (None, _) => return Err(ProductError::NotFound),
        };
        Ok(event.into_iter().collect())
    }

    fn decide_existing(
        &self,
        listing: &Listing,
        command: ProductCommand,
    ) -> Result<Option<ProductEvent>, ProductError> {
        Ok(match command {
            ProductCommand::Create { .. } => return Err(ProductError::AlreadyExists),
            ProductCommand::ChangeDetails { name, description } => (name != listing.name
                || description != listing.description)
                .then_some(ProductEvent::DetailsChanged { name, description }),
            ProductCommand::ChangeCategory { category } => {
                (category != listing.category).then(|| ProductEvent::CategoryChanged {
                    category,
                    previous: listing.category.clone(),
                })
            }
            ProductCommand::ChangePrice { price } => change_price(listing.price, price)?,
            ProductCommand::ReceiveStock { quantity, reference } => Some(ProductEvent::StockReceived {
                quantity,
                on_hand: self.on_hand_plus(quantity)?,
                reference,
            }),
            ProductCommand::AdjustStock { delta, reason } => Some(ProductEvent::StockAdjusted {
                delta: delta.get(),
                on_hand: self.on_hand_adjusted(delta)?,
                reason,
            }),
            ProductCommand::Reserve { order_id, quantity } => self.reserve(listing, order_id, quantity),
            ProductCommand::Release { order_id } => {
                self.reservation(order_id)
                    .map(|quantity| ProductEvent::ReservationReleased {
                        order_id,
                        quantity,
                        reserved: self.reserved - u64::from(quantity),
                    })
            }
            ProductCommand::Commit { order_id } => {
                self.reservation(order_id)
                    .map(|quantity| ProductEvent::ReservationCommitted {
                        order_id,
                        quantity,
                        on_hand: self.on_hand - u64::from(quantity),
                        reserved: self.reserved - u64::from(quantity),
                    })
            }
            ProductCommand::ReturnStock { order_id, quantity } => Some(ProductEvent::StockReturned {
                order_id,
                quantity,
                on_hand: self.on_hand_plus(quantity)?,
            }),
            ProductCommand::Discontinue { reason } => {
                listing.listed.then_some(ProductEvent::Discontinued { reason })
            }
            ProductCommand::Relist => (!listing.listed).then_some(ProductEvent::Relisted {}),
        })
    }

    fn reserve(&self, listing: &Listing, order_id: OrderId, quantity: Quantity) -> Option<ProductEvent> {
        if self.reservation(order_id).is_some() {
            return None;
        }
        let available = self.available();
        let refused = |reason| ProductEvent::ReservationRefused {
            order_id,
            requested: quantity,
            available,
            reason,
        };
        Some(if !listing.listed {
            refused(RefusalReason::Discontinued)
        } else if u64::from(quantity) > available {
            refused(RefusalReason::InsufficientStock)
        } else {
            ProductEvent::StockReserved {
                order_id,
                quantity,
                reserved: self.reserved + u64::from(quantity),
            }
        })
    }

    fn on_hand_plus(&self, quantity: Quantity) -> Result<u64, ProductError> {
        self.in_range(self.on_hand + u64::from(quantity))
    }

    fn on_hand_adjusted(&self, delta: NonZeroI32) -> Result<u64, ProductError> {
        match self.on_hand.checked_add_signed(delta.get().into()) {
            Some(on_hand) if on_hand >= self.reserved => self.in_range(on_hand),
            _ => Err(ProductError::WouldGoBelowReserved {
                on_hand: self.on_hand,
                reserved: self.reserved,
                delta: delta.get(),
            }),
        }
    }

    fn in_range(&self, on_hand: u64) -> Result<u64, ProductError> {
        if on_hand > MAX_ON_HAND {
            return Err(ProductError::StockOutOfRange {
                on_hand: self.on_hand,
            });
        }
        Ok(on_hand)
    }
}

fn change_price(previous: Money, price: Money) -> Result<Option<ProductEvent>, ProductError> {
    if price.currency() != previous.currency() {
        return Err(ProductError::CurrencyCannotChange {
            current: previous.currency(),
            requested: price.currency(),
        });
    }
    let price = price.non_negative()?;
    Ok((price != previous).then_some(ProductEvent::PriceChanged { price, previous }))
}

impl Listing {
    fn apply(&mut self, event: ProductEvent) {
        match event {
            ProductEvent::DetailsChanged { name, description } => {
                self.name = name;
                self.description = description;
            }
            ProductEvent::CategoryChanged { category, .. } => self.category = category,
            ProductEvent::PriceChanged { price, .. } => self.price = price,
            ProductEvent::Discontinued { .. } => self.listed = false,
            ProductEvent::Relisted {} => self.listed = true,
            _ => {} // Stock, which `Product::apply` has taken.
        }
    }
}

impl Aggregate for Product {
    const TYPE: &'static str = "product";
    type Command = ProductCommand;
    type Event = ProductEvent;
    type Error = ProductError;
    type Services = ();

    async fn handle(
        &mut self,
        command: ProductCommand,
        _services: &(),
        sink: &EventSink<Self>,
    ) -> Result<(), ProductError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ProductEvent) {
        match event {
            ProductEvent::Created {
                sku,
                name,
                description,
                category,
                price,
            } => {
                self.listing = Some(Listing {
                    sku,
                    name,
                    description,
                    category,
                    price,
                    listed: true,
                });
            }
            ProductEvent::StockReceived { on_hand, .. }
            | ProductEvent::StockAdjusted { on_hand, .. }
            | ProductEvent::StockReturned { on_hand, .. } => self.on_hand = on_hand,
            ProductEvent::StockReserved {
                order_id,
                quantity,
                reserved,
            } => {
                self.reserved = reserved;
                self.reservations.insert(order_id, quantity);
            }
            ProductEvent::ReservationReleased {
                order_id, reserved, ..
            } => {
                self.reserved = reserved;
                self.reservations.remove(&order_id);
            }
            ProductEvent::ReservationCommitted {
                order_id,
                on_hand,
                reserved,
                ..
            } => {
                self.on_hand = on_hand;
                self.reserved = reserved;
                self.reservations.remove(&order_id);
            }
            ProductEvent::ReservationRefused { .. } => {}
            other => {
                if let Some(listing) = &mut self.listing {
                    listing.apply(other);
                }
            }
        }
    }
}

impl Entity for Product {
    const SCHEMA: u32 = SCHEMA;
    type Id = ProductId;

    fn claim_changes(event: &ProductEvent) -> Vec<ClaimChange> {
        match event {
            ProductEvent::Created { sku, .. } => vec![ClaimChange::Take {
                kind: ClaimKind::Sku,
                value: sku.folded(),
            }],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
