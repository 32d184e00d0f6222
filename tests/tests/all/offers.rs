//! Offers in memory: never older than the view was, and gone as soon as the log says that they have changed.

use std::sync::Arc;

use kontor_domain::{Product, ProductCommand, ProductId};
use kontor_eventstore::transaction::begin;
use kontor_projections::offers::{Offer, Offers};
use kontor_projections::products::Products;
use kontor_projections::view::View;
use kontor_tests::examples::{gbp, pieces, reason};
use kontor_tests::{Opening, Shop, eventually};

fn offers(shop: &Shop) -> Offers {
    Offers::spawn(
        shop.store.clone(),
        shop.runtime.progress.clone(),
        shop.runtime.stop.clone(),
    )
}

async fn offer(offers: &Offers, id: ProductId) -> Option<Arc<Offer>> {
    offers.get([id]).await.unwrap().remove(&id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_read_once_until_it_changes_whoever_changes_it() {
    let shop = Shop::start().await;
    let desk = shop.branch(Opening::default().quiet()).await;
    let offers = offers(&desk);
    let lamp = shop.product("LAMP").price(10_00).stock(50).await;
    shop.caught_up().await;
    // It is kept once this desk knows that the view is as new as the last change.
    eventually("the same offer twice", async || {
        let (once, twice) = (offer(&offers, lamp.id).await?, offer(&offers, lamp.id).await?);
        Arc::ptr_eq(&once, &twice).then_some(())
    })
    .await;
    let kept = offer(&offers, lamp.id).await.unwrap();
    assert_eq!(
        (&kept.name, kept.price, kept.listed),
        (&lamp.name, gbp(10_00), true)
    );

    // Stock comes and goes without it.
    let receive = ProductCommand::ReceiveStock {
        quantity: pieces(5),
        reference: None,
    };
    shop.send::<Product>(lamp.id, receive).await;
    shop.caught_up().await;
    assert!(Arc::ptr_eq(&kept, &offer(&offers, lamp.id).await.unwrap()));

    shop.send::<Product>(lamp.id, ProductCommand::ChangePrice { price: gbp(12_00) })
        .await;
    eventually("the new price", async || {
        let now = offer(&offers, lamp.id).await?;
        (now.price == gbp(12_00)).then_some(())
    })
    .await;
    let discontinue = ProductCommand::Discontinue {
        reason: Some(reason("not made any more")),
    };
    shop.send::<Product>(lamp.id, discontinue).await;
    eventually("no longer listed", async || {
        let now = offer(&offers, lamp.id).await?;
        (!now.listed && now.price == gbp(12_00)).then_some(())
    })
    .await;
    assert_eq!(
        offer(&offers, ProductId::from_ulid(shop.store.ids().next())).await,
        None
    );
    desk.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_view_that_lags_says_is_told_but_not_kept() {
    let shop = Shop::start().await;
    let lamp = shop.product("LAMP").price(10_00).stock(50).await;
    shop.caught_up().await;
    // The view's next batch waits for its checkpoint.
    let mut view = begin(&shop.pool).await.unwrap();
    sqlx::query("SELECT FROM checkpoints WHERE consumer = $1 FOR UPDATE")
        .bind(Products::NAME)
        .execute(&mut *view)
        .await
        .unwrap();
    let offers = offers(&shop);
    let position = shop
        .send::<Product>(lamp.id, ProductCommand::ChangePrice { price: gbp(12_00) })
        .await
        .position;
    eventually("the change is in the log", async || {
        (*shop.store.head().borrow() >= position).then_some(())
    })
    .await;
    let old = offer(&offers, lamp.id).await.unwrap();
    assert_eq!(old.price, gbp(10_00), "as the view has it");
    view.rollback().await.unwrap();
    eventually("the new price", async || {
        let now = offer(&offers, lamp.id).await?;
        (now.price == gbp(12_00)).then_some(())
    })
    .await;
    shop.finish().await;
}
