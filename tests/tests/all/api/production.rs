//! `kontor run --production`: nothing that is for development stands on the open internet.

use kontor::seed;
use kontor_api::Passwords;
use kontor_tests::Shop;
use kontor_tests::children::{Helper, kontor};

use crate::HELPER;

const GOOD: [&str; 8] = [
    "run",
    "--production",
    "--stripe-key=sk_live_x",
    "--stripe-url=http://127.0.0.1:9",
    "--behind-tls-proxy",
    "--trusted-proxies=127.0.0.1/32",
    "--listen=127.0.0.1:0",
    "--playground=nowhere",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_start_with_what_is_for_development() {
    let shop = Shop::quiet().await;
    let typed = [
        "run",
        "--production",
        "--sample-data",
        "--cors-origins=*",
        "--listen=127.0.0.1:0",
    ];
    let refused = kontor(
        HELPER,
        &shop,
        &typed,
        &[
            ("REDIS_URL", "redis://default:kontor-dev@127.0.0.1:1/0"),
            ("KONTOR_KEK", ""),
        ],
    )
    .await;
    assert_eq!(refused.code, Some(1));
    for about in [
        "--sample-data",
        "KONTOR_STRIPE_KEY",
        "--behind-tls-proxy",
        "KONTOR_CORS_ORIGINS",
        "KONTOR_KEK_FILE",
        "REDIS_URL",
    ] {
        assert!(
            refused.complained.contains(about),
            "{about}: {}",
            refused.complained
        );
    }
    assert!(!refused.said.contains("is open"), "{}", refused.said);
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_once_the_sample_accounts_are_shut() {
    let shop = Shop::quiet().await;
    let mut open = Helper::kontor(HELPER, &shop, &GOOD);
    open.says("Kontor is open").await;
    assert!(open.end().await.success());
    seed::seed(&shop.runtime, &Passwords::new()).await.unwrap();
    let refused = kontor(HELPER, &shop, &GOOD, &[]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.complained.contains("customer@example.com"),
        "{}",
        refused.complained
    );
    shop.finish().await;
}
