//! A backup knows people who asked to be forgotten after it was made.

use kontor_domain::{User, UserCommand};
use kontor_fulfilment::erasure::{Journal, certificate};
use kontor_tests::{Opening, Shop, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_forgets_again() {
    let shop = Shop::start().await;
    let journal = shop.journal();
    let (forgotten, other) = (shop.customer().await, shop.customer().await);
    let lamp = shop.product("LAMP").stock(5).await;
    let order = shop.order(forgotten, &[(&lamp, 1)]).await;
    shop.until_status(order, "CONFIRMED").await;
    shop.caught_up().await;
    let backup = shop.backup().await;
    let since = shop.customer().await;
    for person in [forgotten, since] {
        shop.send::<User>(person, UserCommand::Erase).await;
    }
    shop.caught_up().await;
    let entries = Journal::at(journal.clone()).read().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.contains_key(&forgotten) && entries.contains_key(&since));

    let restored = Opening::default().journal(&journal).at(backup.url()).await;
    // Before anything was shown to anybody, although nobody has destroyed anything yet, perhaps.
    let row = |id| {
        restored
            .store
            .inspect::<User, _>(id, |user, _| (user.exists(), user.is_erased()))
    };
    assert_eq!(row(forgotten).await.unwrap(), (false, true));
    assert_eq!(row(other).await.unwrap(), (true, false));
    assert_eq!(
        row(since).await.unwrap(),
        (false, false),
        "the backup is from before they registered"
    );
    let destroyed = eventually("the key is destroyed there too", async || {
        certificate(&restored.pool, forgotten).await.unwrap()
    })
    .await;
    assert_eq!(destroyed.certificate.log.keys, 1);
    restored.finish().await;

    // A journal that was lost is made again from what the database knows.
    std::fs::remove_file(&journal).unwrap();
    let branch = shop.branch(Opening::default().quiet()).await;
    let entries = Journal::at(journal).read().unwrap();
    assert!(entries.contains_key(&forgotten) && entries.contains_key(&since));
    branch.close().await;
    backup.remove().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_journalled_is_not_destroyed_yet() {
    let shop = Shop::start().await;
    let id = shop.customer().await;
    let journal = shop.journal();
    // In its place there is something that cannot be written to.
    std::fs::create_dir(&journal).unwrap();
    let erased = shop.send::<User>(id, UserCommand::Erase).await;
    let reach = |patience| shop.runtime.progress.reach("erasure", erased.position, patience);
    assert!(reach(std::time::Duration::from_millis(300)).await.is_err());
    assert_eq!(certificate(&shop.pool, id).await.unwrap(), None);
    std::fs::remove_dir(&journal).unwrap();
    shop.caught_up().await;
    assert_eq!(
        certificate(&shop.pool, id).await.unwrap().unwrap().position,
        erased.position
    );
    shop.finish().await;
}
