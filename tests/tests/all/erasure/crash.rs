//! Whoever erases may die on the way.

use std::os::unix::process::ExitStatusExt;

use kontor_domain::{User, UserCommand};
use kontor_fulfilment::erasure::{Journal, certificate};
use kontor_tests::children::Helper;
use kontor_tests::{Opening, Shop, eventually};

use crate::HELPER;
use crate::crash::SIGABRT;

/// Crash points that are shown here.
pub(crate) const POINTS: &[&str] = &["erasure.journalled"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_behind_the_journal_is_replaced_and_nobody_is_erased_twice() {
    let shop = Shop::quiet().await;
    let (forgotten, other) = (shop.customer().await, shop.customer().await);
    let erased = shop.send::<User>(forgotten, UserCommand::Erase).await;
    let mut doomed = Helper::worker_with(HELPER, &shop, Some("erasure.journalled:1"), &[]).await;
    let status = eventually("it dies", async || doomed.has_ended()).await;
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    let journal = Journal::at(shop.journal());
    assert_eq!(journal.read().unwrap()[&forgotten].position, erased.position);
    assert_eq!(certificate(&shop.pool, forgotten).await.unwrap(), None);

    sqlx::query("UPDATE leases SET expires_at = '-infinity'")
        .execute(&shop.pool)
        .await
        .unwrap();
    let heir = shop.branch(Opening::default()).await;
    heir.nothing_waits().await;
    heir.caught_up().await;
    let certified = certificate(&shop.pool, forgotten).await.unwrap().unwrap();
    assert_eq!(
        (certified.position, certified.certificate.log.keys),
        (erased.position, 1)
    );
    assert_eq!(certificate(&shop.pool, other).await.unwrap(), None);
    assert_eq!(journal.read().unwrap().len(), 1);
    heir.views_are_true().await;
    heir.close().await;
    shop.finish().await;
}
