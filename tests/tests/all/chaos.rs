//! The quick form of `make chaos`.

use std::time::Duration;

use kontor_tests::chaos::{Plan, run};

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
