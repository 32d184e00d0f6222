//! Products to sell, in one line each.

use std::future::IntoFuture;

use futures::future::BoxFuture;
use kontor_domain::{Money, Product, ProductCommand, ProductId, ProductName, Sku};

use crate::examples::{gbp, pieces};
use crate::shop::Shop;

/// A product that was created, as an order names it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its id.
    pub id: ProductId,
    /// Its SKU.
    pub sku: Sku,
    /// Its name.
    pub name: ProductName,
    /// Price of a piece.
    pub price: Money,
}

/// A product about to be created: `shop.product("LAMP").price(10_00).stock(5).await`.
#[must_use = "nothing is created before it is awaited"]
pub struct ProductBuilder<'a> {
    shop: &'a Shop,
    sku: String,
    name: Option<String>,
    category: String,
    price: i64,
    stock: u32,
}

impl<'a> ProductBuilder<'a> {
    pub(crate) fn new(shop: &'a Shop, sku: &str) -> Self {
        Self {
            shop,
            sku: sku.to_owned(),
            name: None,
            category: "Things".to_owned(),
            price: 5_00,
            stock: 0,
        }
    }

    /// What it is called; otherwise after its SKU.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Its shelf.
    pub fn category(mut self, category: &str) -> Self {
        category.clone_into(&mut self.category);
        self
    }

    /// Price of a piece in pence.
    pub fn price(mut self, pence: i64) -> Self {
        self.price = pence;
        self
    }

    /// Pieces on hand.
    pub fn stock(mut self, pieces: u32) -> Self {
        self.stock = pieces;
        self
    }
}

impl<'a> IntoFuture for ProductBuilder<'a> {
    type Output = Item;
    type IntoFuture = BoxFuture<'a, Item>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let name = self.name.unwrap_or_else(|| format!("The {}", self.sku));
            let item = Item {
                id: ProductId::from_ulid(self.shop.store.ids().next()),
                sku: self.sku.parse().unwrap(),
                name: name.parse().unwrap(),
                price: gbp(self.price),
            };
            let create = ProductCommand::Create {
                sku: item.sku.clone(),
                name: item.name.clone(),
                description: "".parse().unwrap(),
                category: self.category.parse().unwrap(),
                price: item.price,
            };
            self.shop.send::<Product>(item.id, create).await;
            if self.stock > 0 {
                let receive = ProductCommand::ReceiveStock {
                    quantity: pieces(self.stock),
                    reference: None,
                };
                self.shop.send::<Product>(item.id, receive).await;
            }
            item
        })
    }
}
