//! The quick form of `make chaos`.

use std::time::Duration;

use kontor_tests::Shop;
use kontor_tests::chaos::{Plan, run, rush};

use crate::HELPER;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_no_order_is_lost_doubled_or_stuck() {
    run(Plan {
        orders: 300,
        kills: 14,
        customers: 40,
        pay_within: Duration::from_secs(6),
        leases_run_out: false,
        seed: 1,
        program: HELPER.to_owned(),
    })
    .await;
}

/// Ten times as many want it as there are pieces, and all of them can pay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_buyers_who_can_pay_as_many_are_confirmed_as_there_are_pieces() {
    let shop = Shop::quiet().await;
    rush(&shop, HELPER, 50, 500).await;
    shop.finish().await;
}
