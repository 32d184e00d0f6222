//! `kontor import online-retail`: each line once, however often it is run and whoever works.

use std::path::{Path, PathBuf};

use kontor::import::{Class, Options, Reconciliation, Refusal, online_retail};
use kontor_domain::{ClaimKind, Product};
use kontor_eventstore::read::head;
use kontor_projections::products;
use kontor_tests::{Opening, Shop, eventually};

/// A file with each kind of dirt the real one has, and some more.
const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../kontor/src/import/tests/sample.csv"
);

async fn import(shop: &Shop, file: impl AsRef<Path>) -> Reconciliation {
    online_retail(&shop.runtime, file.as_ref(), Options::default())
        .await
        .unwrap()
}

/// The sample, with something else in it.
fn edited(folder: &tempfile::TempDir, from: &str, to: &str) -> PathBuf {
    let sample = std::fs::read_to_string(SAMPLE).unwrap();
    assert!(sample.contains(from));
    let file = folder.path().join("edited.csv");
    std::fs::write(&file, sample.replace(from, to)).unwrap();
    file
}

fn lines(reconciliation: &Reconciliation, class: Class) -> u64 {
    reconciliation.classes.get(&class).map_or(0, |sum| sum.lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_import_changes_nothing_and_comes_to_the_same() {
    let shop = Shop::start().await;
    let first = import(&shop, SAMPLE).await;
    assert!(first.is_equal(), "{first}");
    assert_eq!(
        (
            first.together().lines,
            first.log.orders,
            first.log.sold,
            first.log.refunded
        ),
        (41, 6, 20_839, 5_825)
    );
    assert_eq!(first.repeated, 0);
    shop.caught_up().await;
    let end = head(&shop.pool).await.unwrap();

    let second = import(&shop, SAMPLE).await;
    assert!(second.repeated > 30, "{second}");
    let as_before = Reconciliation {
        repeated: first.repeated,
        elapsed: first.elapsed,
        ..second
    };
    assert_eq!(as_before, first);
    assert_eq!(head(&shop.pool).await.unwrap(), end, "nothing was written");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_is_what_came_in_less_what_went_and_did_not_come_back() {
    let shop = Shop::start().await;
    // The shop sells it already: the stock code is its SKU, whatever the case.
    let known = shop.product("85123a").price(2_00).stock(5).await;
    let it = import(&shop, SAMPLE).await;
    assert!(it.is_equal(), "{it}");
    shop.caught_up().await;
    // Sixteen were received for sixteen sold; thirteen came back.
    assert_eq!(shop.stock(known.id).await, (5 + 13, 0));
    assert_eq!(
        shop.product_row(known.id).await.price_minor,
        2_00,
        "a product that is there stays as it is"
    );
    // One sold and two broken, for which three came in; one came back.
    let id = shop.store.holder(ClaimKind::Sku, "21773").await.unwrap().unwrap();
    let rose = products::by_ids(&shop.pool, &[id]).await.unwrap();
    assert_eq!((rose[0].on_hand, rose[0].units_sold), (1, 1));
    // Fifty-six were found.
    let id = shop.store.holder(ClaimKind::Sku, "22139").await.unwrap().unwrap();
    let found = shop
        .store
        .inspect::<Product, _>(id.parse().unwrap(), |product, _| product.available())
        .await
        .unwrap();
    assert_eq!(found, 56);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_may_confirm_and_an_import_that_was_stopped_goes_on() {
    let shop = Opening::default().quiet().open().await;
    let stopped = shop.branch(Opening::default().quiet()).await;
    let importing = online_retail(&stopped.runtime, SAMPLE.as_ref(), Options { in_flight: 2 });
    let stop = async {
        eventually("the import waits for somebody to confirm an order", async || {
            let head = head(&shop.pool).await.unwrap();
            let events = shop.store.after(0, 1_000).await.unwrap();
            let placed = events
                .iter()
                .filter(|event| event.event_type() == "Placed")
                .count();
            (placed == 2 && events.len() as u64 == head).then_some(())
        })
        .await;
        stopped.runtime.stop.cancel();
    };
    let (imported, ()) = tokio::join!(importing, stop);
    assert!(imported.unwrap_err().to_string().contains("run it again"));
    stopped.close().await;

    let working = shop.branch(Opening::default()).await;
    let it = import(&shop, SAMPLE).await;
    assert!(it.is_equal(), "{it}");
    assert!(it.repeated > 0);
    working.caught_up().await;
    working.views_are_true().await;
    working.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoice_that_reads_otherwise_is_refused_and_the_first_one_stays() {
    let shop = Shop::start().await;
    let first = import(&shop, SAMPLE).await;
    let folder = tempfile::tempdir().unwrap();
    let file = edited(&folder, "LANTERN,6", "LANTERN,7");
    let second = import(&shop, &file).await;
    assert!(second.is_equal(), "{second}");
    let [refused, unsold] =
        [Refusal::OtherContent, Refusal::SaleRefused].map(|why| lines(&second, Class::Refused(why)));
    // The three lines of the invoice; and three that take something of it back.
    assert_eq!((refused, unsold), (3, 3), "{second}");
    assert_eq!(second.log.orders, first.log.orders - 1);
    // The order and what came back of it, from the first time.
    assert_eq!(second.of_other_files, 4, "{second}");
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_file_brings_the_goods_it_needs() {
    let shop = Shop::start().await;
    import(&shop, SAMPLE).await;
    let folder = tempfile::tempdir().unwrap();
    let more = "536802,22841,ROUND CAKE TIN VINTAGE GREEN,2,2011-08-13 10:00:00,1.25,13953,EIRE\n";
    let file = edited(
        &folder,
        more,
        &format!("{more}{}", more.replace("536802", "536803")),
    );
    let it = import(&shop, &file).await;
    assert!(it.is_equal(), "{it}");
    assert_eq!((it.log.orders, it.of_other_files), (7, 0), "{it}");
    shop.finish().await;
}
