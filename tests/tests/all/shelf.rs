//! Product cards in memory: moved by the log, and never left behind by it.

use std::sync::Arc;

use kontor_domain::{Product, ProductCommand, ProductId};
use kontor_projections::cards::ProductCards;
use kontor_projections::products::{self, ProductRow};
use kontor_projections::shelf::Shelf;
use kontor_tests::examples::{gbp, pieces};
use kontor_tests::{Opening, Shop, eventually};

fn shelf(shop: &Shop) -> Shelf {
    Shelf::spawn(
        ProductCards::new(shop.runtime.redis.clone(), shop.pool.clone()),
        shop.store.clone(),
        shop.runtime.progress.clone(),
        shop.runtime.stop.clone(),
    )
}

async fn read(shelf: &Shelf, id: ProductId) -> Option<Arc<ProductRow>> {
    shelf.read(&[id]).await.unwrap().remove(&id)
}

/// Reads until it is kept.
async fn kept(shelf: &Shelf, id: ProductId) -> Arc<ProductRow> {
    eventually("the card is kept", async || {
        read(shelf, id).await;
        shelf.look(id)
    })
    .await
}

fn receive(count: u32) -> ProductCommand {
    ProductCommand::ReceiveStock {
        quantity: pieces(count),
        reference: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_is_read_once_and_then_moved_by_the_log_whoever_writes_it() {
    let shop = Shop::start().await;
    let desk = shop.branch(Opening::default().quiet()).await;
    let lamp = shop.product("LAMP").price(10_00).stock(50).await;
    shop.caught_up().await;
    let shelf = shelf(&desk);
    assert_eq!(shelf.look(lamp.id), None, "nobody has asked for it");
    assert_eq!(kept(&shelf, lamp.id).await.available, 50);

    // Nobody reads any more: what is on the shelf from here on has come out of the log.
    shop.send::<Product>(lamp.id, receive(5)).await;
    shop.send::<Product>(lamp.id, ProductCommand::ChangePrice { price: gbp(12_00) })
        .await;
    let moved = eventually("both changes", async || {
        shelf.look(lamp.id).filter(|card| card.price_minor == 12_00)
    })
    .await;
    assert_eq!((moved.available, moved.on_hand), (55, 55));
    let again = read(&shelf, lamp.id).await.unwrap();
    assert_eq!(*moved, *again, "also while Redis is behind");
    shop.caught_up().await;
    let row = products::by_ids(&shop.pool, &[lamp.id.to_string()])
        .await
        .unwrap();
    assert_eq!([(*moved).clone()], *row, "as the view has it");

    let nothing = ProductId::from_ulid(shop.store.ids().next());
    assert_eq!(read(&shelf, nothing).await, None);
    assert_eq!(shelf.look(nothing), None);
    desk.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cards_read_while_they_change_end_as_the_view_has_them() {
    let shop = Shop::start().await;
    let shelf = shelf(&shop);
    let mut items = Vec::new();
    for sku in ["LAMP", "BELL", "BOOK"] {
        items.push(shop.product(sku).stock(1).await);
    }
    let readers = items.iter().map(|item| async {
        for _ in 0..200 {
            read(&shelf, item.id).await;
        }
    });
    let writers = items.iter().map(|item| async {
        for _ in 0..200 {
            shop.send::<Product>(item.id, receive(1)).await;
        }
    });
    futures::future::join(
        futures::future::join_all(readers),
        futures::future::join_all(writers),
    )
    .await;
    shop.caught_up().await;
    for item in items {
        kept(&shelf, item.id).await;
        let card = eventually("the last change", async || {
            shelf.look(item.id).filter(|card| card.on_hand >= 201)
        })
        .await;
        assert_eq!((card.on_hand, card.available, card.version), (201, 201, 202));
    }
    shop.finish().await;
}
